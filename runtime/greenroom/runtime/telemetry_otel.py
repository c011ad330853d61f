"""Traces and metrics for OpenTelemetry, by its GenAI conventions. Nothing else in greenroom knows of it.

What is told, always with these names (https://opentelemetry.io/docs/specs/semconv/gen-ai/, November 2026):

    span `chat MODEL`, `embeddings MODEL`     one for a call, all of its attempts together; what failed on the way are its
                                              events `attempt failed`, `failover`, `hedge` and `options dropped`
    gen_ai.client.operation.duration (s)      of calls, from hold to settle; `error.type` where they failed
    gen_ai.client.token.usage ({token})       of calls, by `gen_ai.token.type`
    greenroom.cost (USD)                      of calls
    greenroom.events ({event})                everything that `Telemetry.counters` counts, by `greenroom.event`
    greenroom.statistics                      what actors and the database's writer say of themselves, by
                                              `greenroom.of` and `greenroom.figure`

Neither prompts, answers nor a provider's own words are in them, and keys cannot be. Exporters run in threads of the
SDK's own, with bounded queues: one that is down costs spans, and never a call.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterable

from msgspec import Struct, structs
from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider

from greenroom.actors.events import (
    AttemptFailed,
    CallDone,
    Event,
    FailedOver,
    HedgeMade,
    OptionsDropped,
)
from greenroom.actors.prices import usd
from greenroom.actors.settings import TelemetrySettings

_NAME = "greenroom"
_MAX_PENDING = 10_000
"""Calls that events were told of and not yet the end; a cancelled one has none, so the oldest give way."""
_EXPORT_TIMEOUT_S = 2.0
_CLOSE_TIMEOUT_MS = 3_000
_TOKEN_BUCKETS = [4**power for power in range(14)]
_DURATION_BUCKETS_S = [0.01 * 2**power for power in range(14)]
_PROVIDER_NAMES = {
    "bedrock": "aws.bedrock",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "xai": "x_ai",
}
"""What the conventions call a provider, where that is not our name for it."""

Attributes = dict[str, str | int | float]
_Happening = tuple[int, str, Attributes]


class OpenTelemetry:
    """Turns events into spans and metrics. `tell` never blocks and never raises.

    Args:
        counters: what is counted elsewhere, and told on as `greenroom.events`.
        tracer_provider: where spans go; None: the program's own.
        meter_provider: where metrics go; None: the program's own.
        close: flushes and ends the providers, if they are ours. Blocking.
    """

    def __init__(
        self,
        counters: Counter[str],
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
        close: Callable[[], None] | None = None,
    ) -> None:
        self._counters = counters
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        self._close = close
        self._pending: dict[int, list[_Happening]] = {}
        self._statistics: dict[str, Callable[[], Struct | None]] = {}
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._duration_s = meter.create_histogram(
            "gen_ai.client.operation.duration",
            "s",
            "GenAI operation duration",
            explicit_bucket_boundaries_advisory=_DURATION_BUCKETS_S,
        )
        self._tokens = meter.create_histogram(
            "gen_ai.client.token.usage",
            "{token}",
            "Number of input and output tokens used",
            explicit_bucket_boundaries_advisory=_TOKEN_BUCKETS,
        )
        self._cost_usd = meter.create_counter("greenroom.cost", "USD", "What calls were charged")
        meter.create_observable_counter(
            "greenroom.events", [self._observe_counters], "{event}", "What has happened, by kind"
        )
        meter.create_observable_gauge(
            "greenroom.statistics", [self._observe_statistics], "1", "What parts say of themselves"
        )

    def watch(self, of: str, statistics: Callable[[], Struct | None]) -> None:
        """Tell the numbers of a record on, each time metrics are read; called in the reader's thread."""
        self._statistics[of] = statistics

    def tell(self, event: Event) -> None:
        """Take an event in, on the stack of the call that it is of: an open span there is the parent of the call's."""
        match event:
            case CallDone():
                self._done(event)
            case AttemptFailed():
                error: Attributes = {
                    "error.type": event.error.kind,
                    "greenroom.cost_usd": _usd(event.cost_pusd),
                }
                if event.error.status is not None:
                    error["http.response.status_code"] = event.error.status
                if event.retry_in_s is None:
                    self._failed(event, error)
                else:
                    error["greenroom.retry_in_s"] = event.retry_in_s
                    self._happened(event.call_id, "attempt failed", error)
            case FailedOver():
                to: Attributes = {"error.type": event.error.kind, "greenroom.to_model": event.to_model}
                self._happened(event.call_id, "failover", to)
            case HedgeMade():
                hedge: Attributes = {"greenroom.to_model": event.model, "greenroom.after_s": event.after_s}
                self._happened(event.call_id, "hedge", hedge)
            case OptionsDropped():
                dropped: Attributes = {"greenroom.options": ", ".join(event.options)}
                self._happened(event.call_id, "options dropped", dropped)
            case _:
                pass  # counted, and no part of a call

    def close(self) -> None:
        """Send what is left, within some seconds, and end the exporters' threads. Blocking."""
        if self._close is not None:
            self._close()

    def _happened(self, call_id: int, what: str, facts: Attributes) -> None:
        if call_id not in self._pending and len(self._pending) >= _MAX_PENDING:
            del self._pending[next(iter(self._pending))]
        self._pending.setdefault(call_id, []).append((time.time_ns(), what, facts))

    def _done(self, event: CallDone) -> None:
        attributes = _attributes(event.operation, event.provider, event.model)
        self._duration_s.record(event.duration_s, attributes)
        self._cost_usd.add(_usd(event.cost_pusd), attributes)
        tokens = {"input": event.usage.total_input_tokens, "output": event.usage.total_output_tokens}
        for kind, count in tokens.items():
            if count:
                self._tokens.record(count, {**attributes, "gen_ai.token.type": kind})
        span = self._span(event.call_id, attributes, event.duration_s)
        span.set_attributes(
            {f"gen_ai.usage.{kind}_tokens": count for kind, count in tokens.items()}
            | {"greenroom.attempts": event.attempts, "greenroom.cost_usd": _usd(event.cost_pusd)}
        )
        span.end()

    def _failed(self, event: AttemptFailed, facts: Attributes) -> None:
        error = event.error
        attributes = _attributes(event.operation, error.provider, error.model)
        duration_s = max(0.0, time.monotonic() - event.started_s)
        self._duration_s.record(duration_s, {**attributes, "error.type": error.kind})
        span = self._span(event.call_id, attributes, duration_s)
        span.set_attributes({**facts, "greenroom.attempts": error.attempts})
        span.set_status(Status(StatusCode.ERROR))
        span.end()

    def _span(self, call_id: int, attributes: Attributes, duration_s: float) -> Span:
        name = f"{attributes['gen_ai.operation.name']} {attributes['gen_ai.request.model']}"
        start_ns = time.time_ns() - int(duration_s * 1e9)
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes, start_time=start_ns)
        for at_ns, what, facts in self._pending.pop(call_id, ()):
            span.add_event(what, facts, at_ns)
        return span

    def _observe_counters(self, options: CallbackOptions) -> Iterable[Observation]:
        return [Observation(count, {"greenroom.event": name}) for name, count in list(self._counters.items())]

    def _observe_statistics(self, options: CallbackOptions) -> Iterable[Observation]:
        found: list[Observation] = []
        for of, statistics in list(self._statistics.items()):
            record = statistics()
            for figure, value in structs.asdict(record).items() if record is not None else ():
                if isinstance(value, int | float):
                    found.append(Observation(value, {"greenroom.of": of, "greenroom.figure": figure}))
        return found


def open_otel(settings: TelemetrySettings, counters: Counter[str]) -> OpenTelemetry:
    """What `settings` ask for. Blocking: it imports the SDK and its exporters where a collector is named.

    Raises:
        ModuleNotFoundError: they are not installed.
    """
    if settings.otlp_endpoint is None:
        return OpenTelemetry(counters)
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk import metrics as sdk_metrics
    from opentelemetry.sdk import trace as sdk_trace
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    base = settings.otlp_endpoint.rstrip("/")
    resource = Resource.create({"service.name": settings.service_name})
    tracers = sdk_trace.TracerProvider(resource=resource, shutdown_on_exit=False)
    spans = OTLPSpanExporter(f"{base}/v1/traces", timeout=_EXPORT_TIMEOUT_S)
    tracers.add_span_processor(BatchSpanProcessor(spans))
    reader = PeriodicExportingMetricReader(
        OTLPMetricExporter(f"{base}/v1/metrics", timeout=_EXPORT_TIMEOUT_S),
        export_interval_millis=settings.interval_s * 1000,
        export_timeout_millis=_EXPORT_TIMEOUT_S * 1000,
    )
    meters = sdk_metrics.MeterProvider([reader], resource=resource, shutdown_on_exit=False)

    def close() -> None:
        tracers.shutdown()
        meters.shutdown(_CLOSE_TIMEOUT_MS)

    return OpenTelemetry(counters, tracers, meters, close)


def _attributes(operation: str, provider: str, model: str) -> Attributes:
    return {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": _PROVIDER_NAMES.get(provider, provider),
        "gen_ai.request.model": model,
    }


def _usd(cost_pusd: int) -> float:
    return float(usd(cost_pusd))
