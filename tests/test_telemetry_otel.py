# pyright: reportPrivateUsage=false
# (the SDK in memory stands where a runtime keeps its exporters)
"""Traces and metrics: what OpenTelemetry is told of calls, what it never is, and that no exporter holds anybody up."""

import asyncio
import socket
import sys
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from msgspec import structs
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from tests.inside import settings
from tests.integration.upstream import Answering, Asked, Upstream, answer_well, good, refusal

from greenroom.actors.events import ProviderFailed
from greenroom.actors.settings import Settings, TelemetrySettings
from greenroom.runtime import ConfigError, Runtime, telemetry_otel
from greenroom.runtime.telemetry_otel import OpenTelemetry

pytestmark = pytest.mark.anyio

PROMPT = "canary-of-a-prompt"
KEY = "canary-of-a-key"
OF_CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "acme",
    "gen_ai.request.model": "fast",
}


class Collected:
    """What the SDK was given, in memory."""

    def __init__(self, counters: Counter[str]) -> None:
        self.spans = InMemorySpanExporter()
        self.provider = TracerProvider(shutdown_on_exit=False)
        self.provider.add_span_processor(SimpleSpanProcessor(self.spans))
        self._reader = InMemoryMetricReader()
        meters = MeterProvider([self._reader], shutdown_on_exit=False)
        self.otel = OpenTelemetry(counters, self.provider, meters)

    def points(self, name: str) -> list[NumberDataPoint | HistogramDataPoint]:
        data = self._reader.get_metrics_data()
        assert data is not None
        return [
            point
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
            if isinstance(point, NumberDataPoint | HistogramDataPoint)
        ]

    def numbers(self, name: str, label: str) -> Mapping[object, float]:
        return {
            (point.attributes or {})[label]: point.value
            for point in self.points(name)
            if isinstance(point, NumberDataPoint)
        }


@asynccontextmanager
async def watched(answer: Answering, folder: Path) -> AsyncGenerator[tuple[Runtime, Collected]]:
    async with (
        Upstream(answer) as upstream,
        Runtime(settings(upstream.base_url, folder), environ={}) as rt,
    ):
        collected = Collected(rt.telemetry.counters)
        rt.telemetry._otel = collected.otel
        yield rt, collected


async def test_a_call_is_one_span_with_what_failed_on_the_way(tmp_path: Path) -> None:
    async def answer(asked: Asked) -> web.StreamResponse:
        return refusal(503) if asked.number == 1 else good()

    async with watched(answer, tmp_path) as (rt, collected):
        with collected.provider.get_tracer("app").start_as_current_span("app") as parent:
            reply = await rt.chat("acme/fast", PROMPT, max_tokens=20)
        (span,) = [one for one in collected.spans.get_finished_spans() if one.name != "app"]
        assert (span.name, span.kind) == ("chat fast", SpanKind.CLIENT)
        assert span.parent is not None
        assert span.parent.span_id == parent.get_span_context().span_id
        assert span.attributes == {
            **OF_CHAT,
            "gen_ai.usage.input_tokens": reply.usage.total_input_tokens,
            "gen_ai.usage.output_tokens": reply.usage.total_output_tokens,
            "greenroom.attempts": 2,
            "greenroom.cost_usd": float(reply.cost_usd),
        }
        (failed,) = span.events
        assert failed.name == "attempt failed"
        assert failed.attributes is not None
        assert failed.attributes["http.response.status_code"] == 503
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= failed.timestamp <= span.end_time
        assert {
            (point.attributes or {})["gen_ai.token.type"]: point.sum
            for point in collected.points("gen_ai.client.token.usage")
            if isinstance(point, HistogramDataPoint)
        } == {"input": reply.usage.total_input_tokens, "output": reply.usage.total_output_tokens}
        (duration,) = collected.points("gen_ai.client.operation.duration")
        assert duration.attributes == OF_CHAT
        (cost,) = collected.numbers("greenroom.cost", "gen_ai.request.model").values()
        assert cost == pytest.approx(float(reply.cost_usd))
        events = collected.numbers("greenroom.events", "greenroom.event")
        assert events == dict(rt.telemetry.counters)
        assert events["calls.ok"] == 1


async def test_a_call_that_fails_says_how_and_nothing_of_what_was_said(tmp_path: Path) -> None:
    async def answer(asked: Asked) -> web.StreamResponse:
        return web.json_response({"error": {"message": f"no: {PROMPT}"}}, status=400)

    async with watched(answer, tmp_path) as (rt, collected):
        with pytest.raises(ProviderFailed, match=PROMPT):
            await rt.chat("acme/fast", PROMPT, max_tokens=20)
        (span,) = collected.spans.get_finished_spans()
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes is not None
        assert span.attributes["error.type"] == "invalid_request"
        assert PROMPT not in span.to_json()
        (duration,) = collected.points("gen_ai.client.operation.duration")
        assert duration.attributes == {**OF_CHAT, "error.type": "invalid_request"}
        assert collected.numbers("greenroom.events", "greenroom.event")["calls.failed"] == 1


async def test_streams_and_embeddings_are_calls_too(tmp_path: Path) -> None:
    async with watched(answer_well, tmp_path) as (rt, collected):
        async with rt.stream("acme/fast", PROMPT, max_tokens=20) as events:
            async for _ in events:
                pass
        with pytest.raises(ProviderFailed):
            await rt.embed("acme/fast", "not what this upstream answers")
        names = [span.name for span in collected.spans.get_finished_spans()]
        assert names == ["chat fast", "embeddings fast"]


async def test_what_the_parts_count_are_metrics(tmp_path: Path) -> None:
    async with watched(answer_well, tmp_path) as (rt, collected):
        await rt.chat("acme/fast", PROMPT, max_tokens=20)
        system = rt._life.system
        collected.otel.watch("actors", system.statistics)
        collected.otel.watch("nothing", lambda: None)
        figures = collected.numbers("greenroom.statistics", "greenroom.figure")
        assert figures["alive"] == system.statistics().alive
        assert figures["dead_letters"] == 0


def test_events_of_calls_that_never_end_give_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry_otel, "_MAX_PENDING", 3)
    otel = Collected(Counter()).otel
    for call_id in range(10):
        otel._happened(call_id, "attempt failed", {})
    assert list(otel._pending) == [7, 8, 9]


async def test_what_fails_in_it_fails_no_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with watched(answer_well, tmp_path) as (rt, collected):

        def broken(event: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(collected.otel, "tell", broken)
        for _ in range(2):
            assert (await rt.chat("acme/fast", PROMPT, max_tokens=20)).text
        assert rt.telemetry.counters["otel.failed"] == 2
        assert rt.telemetry.counters["calls.ok"] == 2


class Collector:
    """A collector: OTLP over HTTP, on a socket."""

    def __init__(self) -> None:
        self.spans: list[ExportTraceServiceRequest] = []
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.bodies = b""

    async def traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies += body
        self.spans.append(ExportTraceServiceRequest.FromString(body))
        return web.Response()

    async def figures(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies += body
        self.metrics.append(ExportMetricsServiceRequest.FromString(body))
        return web.Response()


@asynccontextmanager
async def served(collector: Collector) -> AsyncGenerator[str]:
    app = web.Application()
    app.router.add_post("/v1/traces", collector.traces)
    app.router.add_post("/v1/metrics", collector.figures)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def telling(base_url: str, folder: Path, endpoint: str) -> Settings:
    found = settings(base_url, folder)
    acme = structs.replace(found.providers["acme"], api_key_env="ACME_KEY")
    told = TelemetrySettings(otel=True, otlp_endpoint=endpoint, service_name="my-app")
    return structs.replace(found, providers={"acme": acme}, telemetry=told)


async def test_a_collector_is_sent_everything_before_the_runtime_is_left(tmp_path: Path) -> None:
    collector = Collector()
    async with (
        served(collector) as endpoint,
        Upstream(answer_well) as upstream,
        Runtime(telling(upstream.base_url, tmp_path, endpoint), environ={"ACME_KEY": KEY}) as rt,
    ):
        for _ in range(3):
            await rt.chat("acme/fast", PROMPT, max_tokens=20)
    resources = [one for request in collector.spans for one in request.resource_spans]
    spans = [span for one in resources for scope in one.scope_spans for span in scope.spans]
    assert [span.name for span in spans] == ["chat fast"] * 3
    services = [a.value.string_value for a in resources[0].resource.attributes if a.key == "service.name"]
    assert services == ["my-app"]
    names = {
        metric.name
        for request in collector.metrics
        for one in request.resource_metrics
        for scope in one.scope_metrics
        for metric in scope.metrics
    }
    assert {"gen_ai.client.operation.duration", "greenroom.events", "greenroom.statistics"} <= names
    assert PROMPT.encode() not in collector.bodies
    assert KEY.encode() not in collector.bodies


def deaf() -> socket.socket:
    """Takes connections, and never says a word."""
    return socket.create_server(("127.0.0.1", 0))


def gone() -> socket.socket:
    """Takes none: bound, and not listening."""
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    return found


@pytest.mark.parametrize("made", [deaf, gone])
async def test_a_collector_that_is_down_holds_up_nobody(
    tmp_path: Path, made: Callable[[], socket.socket], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(telemetry_otel, "_EXPORT_TIMEOUT_S", 0.2)
    with made() as listening:
        endpoint = f"http://127.0.0.1:{listening.getsockname()[1]}"
        async with (
            asyncio.timeout(30),
            Upstream(answer_well) as upstream,
            Runtime(telling(upstream.base_url, tmp_path, endpoint), environ={"ACME_KEY": KEY}) as rt,
        ):
            assert (await rt.chat("acme/fast", PROMPT, max_tokens=20)).text


async def test_without_the_extra_it_is_said_which_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "greenroom.runtime.telemetry_otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    wanted = Settings(telemetry=TelemetrySettings(otel=True))
    with pytest.raises(ConfigError, match=r"telemetry.otel needs OpenTelemetry.*greenroom\[otel\]"):
        async with Runtime(wanted, environ={}):
            pass
