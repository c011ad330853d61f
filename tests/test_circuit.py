"""A provider that fails again and again is left alone: at once, for nothing, and no longer than until it answers."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from msgspec import structs
from tests.inside import given_back, settings
from tests.integration.upstream import Asked, Upstream, answer_well, cut, refusal

from greenroom.actors.events import ProviderFailed
from greenroom.actors.kernel import Clock, FakeClock
from greenroom.actors.limiter import CannotStart
from greenroom.actors.settings import BreakerSettings, Limits, Retries
from greenroom.runtime import Runtime

SHORT = BreakerSettings(failures=3, cool_down_s=0.02)


class Ill:
    """An upstream that fails while it is `ill`, with `status` and `headers`."""

    def __init__(self, status: int = 500, **headers: str) -> None:
        self.ill = True
        self.status = status
        self.headers = headers

    async def answer(self, asked: Asked) -> web.StreamResponse:
        if self.ill:
            return web.json_response({"error": {"message": "no"}}, status=self.status, headers=self.headers)
        return await answer_well(asked)


@asynccontextmanager
async def running(
    base_url: str,
    tmp_path: Path,
    *,
    breaker: BreakerSettings | None = None,
    clock: Clock | None = None,
    attempts: int = 1,
) -> AsyncGenerator[Runtime]:
    retries = Retries(attempts=attempts, backoff_base_s=0.001)
    made = settings(base_url, tmp_path, retries=retries, limits=Limits(concurrency=50))
    acme = structs.replace(made.providers["acme"], breaker=breaker or BreakerSettings())
    async with Runtime(structs.replace(made, providers={"acme": acme}), environ={}, clock=clock) as rt:
        yield rt


def breaker_states(rt: Runtime) -> dict[str, int]:
    return {
        name.removeprefix("breaker."): count
        for name, count in rt.telemetry.counters.items()
        if name.startswith("breaker.")
    }


async def fail(rt: Runtime, kind: str) -> ProviderFailed:
    with pytest.raises(ProviderFailed) as caught:
        await rt.chat("acme/fast", "hi")
    assert caught.value.error.kind == kind, caught.value
    return caught.value


@pytest.mark.parametrize("status", [429, 500, 503])
async def test_it_opens_lets_one_through_and_closes(tmp_path: Path, status: int) -> None:
    ill, clock = Ill(status), FakeClock()
    async with Upstream(ill.answer) as upstream, running(upstream.base_url, tmp_path, clock=clock) as rt:
        for _ in range(10):
            await fail(rt, {429: "rate_limited", 500: "server", 503: "overloaded"}[status])
        refused = await fail(rt, "circuit_open")
        assert refused.error.retry_after_s == 5.0
        assert refused.cost_pusd == 0
        assert len(upstream.asked) == 10, "it was left alone"
        await given_back(rt)
        ill.ill = False
        await fail(rt, "circuit_open")
        await clock.advance(5.0)
        assert (await rt.chat("acme/fast", "hi")).text == "fine"
        assert breaker_states(rt) == {"open": 1, "half_open": 1, "closed": 1}


async def test_only_one_call_is_the_probe(tmp_path: Path) -> None:
    ill, clock, release = Ill(), FakeClock(), asyncio.Event()

    async def slowly(asked: Asked) -> web.StreamResponse:
        if not ill.ill:
            await release.wait()
        return await ill.answer(asked)

    async with (
        Upstream(slowly) as upstream,
        running(upstream.base_url, tmp_path, breaker=SHORT, clock=clock) as rt,
    ):
        for _ in range(3):
            await fail(rt, "server")
        ill.ill = False
        await clock.advance(1.0)
        probe = asyncio.create_task(rt.chat("acme/fast", "hi"))
        await upstream.wait_asked(4)
        for _ in range(5):
            assert (await fail(rt, "circuit_open")).error.retry_after_s == 1.0
        release.set()
        await probe
        assert (await rt.chat("acme/fast", "hi")).text == "fine"


async def test_a_probe_whose_caller_gave_up_makes_room_for_another(tmp_path: Path) -> None:
    ill, clock = Ill(), FakeClock()

    async def never(asked: Asked) -> web.StreamResponse:
        if not ill.ill and asked.prompt == "first":
            await asyncio.Event().wait()
        return await ill.answer(asked)

    async with (
        Upstream(never) as upstream,
        running(upstream.base_url, tmp_path, breaker=SHORT, clock=clock) as rt,
    ):
        for _ in range(3):
            await fail(rt, "server")
        ill.ill = False
        await clock.advance(1.0)
        probe = asyncio.create_task(rt.chat("acme/fast", "first"))
        await upstream.wait_asked(4)
        probe.cancel()
        await asyncio.wait([probe])
        assert (await rt.chat("acme/fast", "second")).text == "fine"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422])
async def test_the_callers_own_mistakes_do_not_open_it(tmp_path: Path, status: int) -> None:
    async with Upstream(Ill(status).answer) as upstream, running(upstream.base_url, tmp_path) as rt:
        for _ in range(15):
            with pytest.raises(ProviderFailed) as caught:
                await rt.chat("acme/fast", "hi")
            assert caught.value.error.status == status
        assert len(upstream.asked) == 15


async def test_a_429_that_says_when_to_come_again_does_not_open_it(tmp_path: Path) -> None:
    ill, clock = Ill(429, **{"Retry-After": "1"}), FakeClock()
    async with Upstream(ill.answer) as upstream, running(upstream.base_url, tmp_path, clock=clock) as rt:
        for count in range(1, 16):
            asking = asyncio.create_task(fail(rt, "rate_limited"))
            while not asking.done():
                await clock.advance(0.1)  # the limiter waits as long as it was told
            await asking
            assert len(upstream.asked) == count
        assert breaker_states(rt) == {}


async def test_the_time_that_callers_give_does_not_open_it(tmp_path: Path) -> None:
    async def silent(asked: Asked) -> web.StreamResponse:
        if asked.number > 1:
            await asyncio.Event().wait()
        return await answer_well(asked)

    async with Upstream(silent) as upstream, running(upstream.base_url, tmp_path) as rt:
        await rt.chat("acme/fast", "hi")
        asking = (rt.chat("acme/fast", "hi", timeout_s=0.3) for _ in range(12))
        ended = await asyncio.gather(*asking, return_exceptions=True)
        for error in ended:  # on a busy machine the time of some is over before they are sent
            assert isinstance(error, CannotStart) or (
                isinstance(error, ProviderFailed) and error.error.kind == "timeout"
            )
        assert breaker_states(rt) == {}


async def test_answers_that_are_cut_do_not_open_it(tmp_path: Path) -> None:
    async def cut_off(asked: Asked) -> web.StreamResponse:
        cut(asked)
        return await answer_well(asked)

    async with Upstream(cut_off) as upstream, running(upstream.base_url, tmp_path) as rt:
        for _ in range(15):
            await fail(rt, "connection")
        assert len(upstream.asked) == 15


async def test_nobody_there_opens_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    async with running(f"http://127.0.0.1:{port}/v1", tmp_path) as rt:
        for _ in range(10):
            await fail(rt, "connection")
        await fail(rt, "circuit_open")


async def test_calls_in_line_when_it_opens_are_refused_too(tmp_path: Path) -> None:
    """They wait for a permit, which the calls that fail give back one after another."""
    async with Upstream(Ill().answer) as upstream:
        made = settings(
            upstream.base_url, tmp_path, retries=Retries(attempts=1), limits=Limits(concurrency=1)
        )
        acme = structs.replace(made.providers["acme"], breaker=SHORT)
        clock = FakeClock()
        async with Runtime(structs.replace(made, providers={"acme": acme}), environ={}, clock=clock) as rt:
            asking = [asyncio.create_task(rt.chat("acme/fast", "hi")) for _ in range(20)]
            ended = await asyncio.gather(*asking, return_exceptions=True)
            kinds = [error.error.kind for error in ended if isinstance(error, ProviderFailed)]
            assert sorted(kinds) == ["circuit_open"] * 17 + ["server"] * 3
            assert len(upstream.asked) == 3
            await given_back(rt)


async def test_calls_under_way_when_it_opens_outlast_a_short_outage(tmp_path: Path) -> None:
    ill = Ill()

    async def recovering(asked: Asked) -> web.StreamResponse:
        if asked.number <= 6:
            await upstream.wait_asked(6)
        ill.ill = asked.number <= 6
        return await ill.answer(asked)

    async with (
        Upstream(recovering) as upstream,
        running(upstream.base_url, tmp_path, breaker=SHORT, attempts=12) as rt,
    ):
        replies = await asyncio.gather(*(rt.chat("acme/fast", "hi") for _ in range(6)))
        assert {reply.text for reply in replies} == {"fine"}
        assert breaker_states(rt)["open"] >= 1


async def test_a_job_waits_until_it_closes_and_loses_no_line(tmp_path: Path) -> None:
    ill = Ill()

    async def recovering(asked: Asked) -> web.StreamResponse:
        ill.ill = asked.number <= 6  # though one line be the probe each time, it has attempts left
        return await ill.answer(asked)

    lines = tmp_path / "in.jsonl"
    lines.write_text("".join(f'{{"custom_id": "{n}", "prompt": "hi"}}\n' for n in range(40)))
    async with (
        Upstream(recovering) as upstream,
        running(upstream.base_url, tmp_path, breaker=SHORT, attempts=6) as rt,
    ):
        job = await rt.batch(lines, model="acme/fast", out=tmp_path / "out.jsonl", concurrency=3)
        progress = await job.wait()
        assert (progress.ok, progress.failed) == (40, 0)
        assert breaker_states(rt)["open"] >= 1
        assert breaker_states(rt)["closed"] == 1
        assert len(upstream.asked) == 46


async def test_waiting_for_a_breaker_is_no_attempt_of_a_job_s_call(tmp_path: Path) -> None:
    """It waits oftener than it may try; then one attempt fails, and one is left."""
    clock, probing, release = FakeClock(), asyncio.Event(), asyncio.Event()

    async def answer(asked: Asked) -> web.StreamResponse:
        if asked.number == 2:
            probing.set()
            await release.wait()
        return refusal(500) if asked.number in {1, 3} else await answer_well(asked)

    async with (
        Upstream(answer) as upstream,
        running(
            upstream.base_url,
            tmp_path,
            breaker=BreakerSettings(failures=1, cool_down_s=1.0),
            clock=clock,
            attempts=2,
        ) as rt,
    ):
        opens_it = asyncio.create_task(fail(rt, "circuit_open"))
        while not opens_it.done():
            await clock.advance(0.01)
        await clock.advance(1.0)
        probe = asyncio.create_task(rt.chat("acme/fast", "probe"))
        await probing.wait()
        patient = asyncio.create_task(rt.chat("acme/fast", "patient", priority="batch"))
        for _ in range(6):
            await clock.advance(1.0)
        release.set()
        await probe
        while not patient.done():
            await clock.advance(0.5)
        assert (await patient).attempts == 2
    assert len(upstream.asked) == 4
