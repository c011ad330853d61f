"""How long answers take: the grammar, the distribution, and the wait itself on a clock that stands still."""

import asyncio
from collections.abc import Awaitable, Callable
from statistics import median, quantiles

import pytest
from tests.simulator.conftest import Connect

from greenroom.actors.kernel import FakeClock
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.simulator.engine import uniform
from greenroom.runtime.simulator.traffic.latency import parse_latency

Until = Callable[[Callable[[], object]], Awaitable[None]]


@pytest.mark.parametrize(
    ("text", "first_s", "whole_s"),
    [
        ("0", 0.0, 0.0),
        ("50ms", 0.05, 0.05),
        ("0.05", 0.05, 0.05),
        ("1.5s", 1.5, 1.5),
        ("2m", 120.0, 120.0),
        ("uniform(0.1, 0.3)", 0.2, 0.2),
        ("uniform(low=100ms,high=300ms)", 0.2, 0.2),
        ("lognormal(p50=0.4,p95=1.2)", 0.4, 0.4),
        ("lognormal(p95=1.2, p50=400ms)", 0.4, 0.4),
        ("per_token(20ms)", 0.0, 0.2),
        ("tokens_per_s(50)", 0.0, 0.2),
        ("50ms + uniform(0.1,0.3) + per_token(1ms)", 0.25, 0.26),
        ("40m + 40m", 3_600.0, 3_600.0),
    ],
)
def test_a_distribution_is_read_and_its_middle_is_as_written(
    text: str, first_s: float, whole_s: float
) -> None:
    latency = parse_latency(text)
    assert latency.first_s(0.5) == pytest.approx(first_s)
    assert latency.whole_s(0.5, 10) == pytest.approx(whole_s)


@pytest.mark.parametrize(
    "text",
    [
        *("", "+", "soon", "-1", "9h", "1e9", "2h", "61m", "uniform(1)", "uniform(2,1)", "uniform(1,2,3)"),
        *("lognormal(0,1)", "lognormal(p50=2,p95=1)", "lognormal(p50=1,p99=2)", "gauss(1,2)"),
        *("per_token(fast)", "tokens_per_s(0)", "tokens_per_s(50ms)", "50ms 20ms"),
    ],
)
def test_what_is_no_distribution_is_refused_and_quoted(text: str) -> None:
    with pytest.raises(ValueError, match="latency") as refused:
        SimulatorSettings(latency=text)
    assert repr(text) in str(refused.value)


def test_seeded_draws_follow_the_distribution() -> None:
    latency = parse_latency("lognormal(p50=0.4,p95=1.2)")
    samples = [latency.first_s(uniform(3, "latency", str(number).encode())) for number in range(4_000)]
    assert median(samples) == pytest.approx(0.4, rel=0.05)
    assert quantiles(samples, n=20)[-1] == pytest.approx(1.2, rel=0.07)
    again = [latency.first_s(uniform(3, "latency", str(number).encode())) for number in range(4_000)]
    assert again == samples


@pytest.mark.anyio
async def test_an_answer_waits_for_its_latency_and_no_longer(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(latency="2s + per_token(100ms)"), clock=clock) as simulator:
        asked = asyncio.create_task(connect(simulator).chat("12345678", model="echo"))
        await until(lambda: clock.pending)
        assert clock.next_due() == pytest.approx(2.2)
        assert simulator.statistics().in_flight == 1
        assert not simulator.journal
        await clock.advance(2.19)
        assert not asked.done()
        await clock.advance(0.02)
        reply = await asked
        assert reply.text == "12345678"
        (entry,) = simulator.journal
        assert entry.duration_s == pytest.approx(2.2)
        assert entry.arrived_s == pytest.approx(clock.time() - 2.21)


@pytest.mark.anyio
async def test_equal_requests_wait_equally_long_and_others_do_not(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(latency="lognormal(p50=1,p95=3)"), clock=clock) as simulator:
        client = connect(simulator)
        tasks = [asyncio.create_task(client.chat(prompt)) for prompt in ("one", "two", "one", "three")]
        await until(lambda: clock.pending == 4)
        await clock.advance(3_600)
        await asyncio.gather(*tasks)
        waited: dict[str | None, set[float]] = {}
        for entry in simulator.journal:
            waited.setdefault(entry.prompt_sha256, set()).add(entry.duration_s)
        assert sorted(map(len, waited.values())) == [1, 1, 1]
        assert len({duration for durations in waited.values() for duration in durations}) == 3
