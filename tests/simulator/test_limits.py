"""Limits: three meters against a slow and plain reading of their rules, and OpenAI's answers and headers over HTTP."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulator.conftest import Connect

from greenroom.actors.kernel import FakeClock
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.simulator.traffic.limits import (
    Bucket,
    FixedWindow,
    LimitKind,
    Limits,
    Meter,
    SlidingLog,
    as_reset,
)

WINDOW_S = 10.0
ALLOWANCE = 20
Taken = list[tuple[float, int]]


def left_in_bucket(taken: Taken, now_s: float) -> float:
    level, at_s = float(ALLOWANCE), 0.0
    for moment_s, amount in [*taken, (now_s, 0)]:
        level = min(ALLOWANCE, level + (moment_s - at_s) * ALLOWANCE / WINDOW_S) - amount
        at_s = moment_s
    return level


def left_in_fixed_window(taken: Taken, now_s: float) -> float:
    return ALLOWANCE - sum(amount for at_s, amount in taken if at_s // WINDOW_S == now_s // WINDOW_S)


def left_in_sliding_log(taken: Taken, now_s: float) -> float:
    return ALLOWANCE - sum(amount for at_s, amount in taken if at_s > now_s - WINDOW_S)


METERS: list[tuple[type[Bucket | FixedWindow | SlidingLog], Callable[[Taken, float], float]]] = [
    (Bucket, left_in_bucket),
    (FixedWindow, left_in_fixed_window),
    (SlidingLog, left_in_sliding_log),
]


@pytest.mark.parametrize(("kind", "rule"), METERS)
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, ALLOWANCE)), max_size=25))
def test_a_meter_keeps_its_rule_and_its_word(
    kind: type[Bucket | FixedWindow | SlidingLog],
    rule: Callable[[Taken, float], float],
    asked: list[tuple[int, int]],
) -> None:
    meter: Meter = kind(ALLOWANCE, WINDOW_S)
    taken: Taken = []
    now_s = 0.0
    for tenths, amount in asked:
        now_s += tenths / 8
        assert meter.left(now_s) == pytest.approx(rule(taken, now_s))
        wait_s = meter.wait_s(now_s, amount)
        assert (wait_s == 0) == (rule(taken, now_s) >= amount)
        if wait_s:
            assert wait_s <= WINDOW_S
            assert rule(taken, now_s + wait_s - 0.001) < amount
            assert rule(taken, now_s + wait_s + 1e-9) >= amount - 1e-6
        else:
            meter.take(now_s, amount)
            taken.append((now_s, amount))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.0166, "17ms"),
        (1, "1s"),
        (7.66, "7.66s"),
        (60, "1m0s"),
        (179.56, "2m59.56s"),
        (3_600, "1h0m0s"),
    ],
)
def test_reset_is_written_as_openai_does(seconds: float, text: str) -> None:
    assert as_reset(seconds) == text


def test_requests_and_tokens_are_taken_both_or_neither() -> None:
    limits = Limits(
        requests_per_min=10, tokens_per_min=100, kind="bucket", window_s=60, tokens_counted="arrival"
    )
    assert limits.admit(0, 90) is None
    refused = limits.admit(0, 20)
    assert refused is not None
    assert (refused.what, refused.left, refused.wanted) == ("tokens", 10, 20)
    assert refused.retry_after_s == pytest.approx(6)
    assert [state.left for state in limits.states(0)] == [9, 10]
    assert limits.admit(0, 10) is None
    assert [state.left for state in limits.states(0)] == [8, 0]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"requests_per_min": 0}, "requests_per_min"),
        ({"tokens_per_min": 30, "limit_window_s": 1.0}, "tokens_per_min"),
        ({"limit_window_s": 0.0}, "limit_window_s"),
        ({"limit_kind": "leaky"}, "limit_kind"),
        ({"tokens_counted": "never"}, "tokens_counted"),
    ],
)
def test_limits_that_admit_nothing_are_refused(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        SimulatorSettings(**options)


@pytest.mark.anyio
@pytest.mark.parametrize(("kind", "wait_s"), [("bucket", 20.0), ("fixed", 20.0), ("sliding", 60.0)])
async def test_too_many_requests_get_429_until_the_time_that_it_names(
    connect: Connect, kind: LimitKind, wait_s: float
) -> None:
    # 1000 s is 40 s into a fixed minute.
    clock = FakeClock(start_s=1_000)
    async with Simulator(SimulatorSettings(requests_per_min=3, limit_kind=kind), clock=clock) as simulator:
        client = connect(simulator)
        for left in (2, 1, 0):
            reply = await client.chat("hello")
            assert reply.status == 200
            assert reply.headers["x-ratelimit-limit-requests"] == "3"
            assert reply.headers["x-ratelimit-remaining-requests"] == str(left)
            assert "x-ratelimit-limit-tokens" not in reply.headers
        refused = await client.chat("hello")
        assert refused.status == 429
        assert (refused.error["type"], refused.error["code"]) == ("requests", "rate_limit_exceeded")
        assert refused.headers["retry-after"] == f"{wait_s:.0f}"
        assert refused.headers["retry-after-ms"] == f"{wait_s * 1000:.0f}"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        await clock.advance(wait_s - 0.01)
        assert (await client.chat("hello")).status == 429
        await clock.advance(0.01)
        assert (await client.chat("hello")).status == 200
        assert [entry.status for entry in simulator.journal] == [200, 200, 200, 429, 429, 200]


@pytest.mark.anyio
async def test_tokens_count_on_arrival_by_the_most_that_may_be_answered(connect: Connect) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(tokens_per_min=100), clock=clock) as simulator:
        client = connect(simulator)
        first = await client.chat("12345678", model="echo", max_tokens=50)
        assert first.json["usage"]["total_tokens"] == 10
        assert first.headers["x-ratelimit-remaining-tokens"] == "42"
        assert first.headers["x-ratelimit-reset-tokens"] == "34.8s"
        second = await client.chat("12345678", model="echo", max_tokens=50)
        assert (second.status, second.error["type"]) == (429, "tokens")
        assert second.headers["retry-after-ms"] == "9600"
        assert (await client.chat("12345678", model="echo")).headers["x-ratelimit-remaining-tokens"] == "32"


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_tokens_count_at_the_end_by_what_was_used(connect: Connect, stream: bool) -> None:  # noqa: FBT001  # a parameter
    clock = FakeClock()
    settings = SimulatorSettings(tokens_per_min=100, tokens_counted="end")
    async with Simulator(settings, clock=clock) as simulator:
        client = connect(simulator)
        left: list[str] = []
        for _ in range(3):
            reply = await client.chat("12345678", model="echo", max_tokens=5_000, stream=stream)
            left.append(reply.headers["x-ratelimit-remaining-tokens"])
        assert left == ["100", "90", "80"]
        assert (await client.chat("x" * 400, model="echo", stream=stream)).status == 200
        refused = await client.chat("12345678", model="echo", stream=stream)
        assert (refused.status, refused.error["type"]) == (429, "tokens")


@pytest.mark.anyio
async def test_a_short_window_keeps_less_and_still_states_the_minute(connect: Connect) -> None:
    clock = FakeClock()
    settings = SimulatorSettings(requests_per_min=120, limit_kind="fixed", limit_window_s=1)
    async with Simulator(settings, clock=clock) as simulator:
        client = connect(simulator)
        replies = [await client.chat("hello") for _ in range(3)]
        assert [reply.status for reply in replies] == [200, 200, 429]
        assert {reply.headers["x-ratelimit-limit-requests"] for reply in replies} == {"120"}
        assert [reply.headers["x-ratelimit-remaining-requests"] for reply in replies] == ["1", "0", "0"]
        assert "2 requests in 1 s are allowed" in replies[2].error["message"]


@pytest.mark.anyio
async def test_what_was_limited_and_the_busiest_minute_are_told(connect: Connect) -> None:
    clock = FakeClock()
    settings = SimulatorSettings(requests_per_min=4, tokens_per_min=100, limit_kind="fixed")
    async with Simulator(settings, clock=clock) as simulator:
        client = connect(simulator)
        for _ in range(3):
            await client.chat("12345678", model="echo")
        await client.chat("hello", max_tokens=90)
        await clock.advance(60)
        for _ in range(6):
            await client.chat("1234", model="echo")
        told = simulator.statistics()
        assert told.limited == {"requests": 2, "tokens": 1}
        assert (told.busiest_minute_requests, told.busiest_minute_tokens) == (6, 32)
        assert [entry.limited_by for entry in simulator.journal if entry.status == 429] == [
            "tokens",
            "requests",
            "requests",
        ]
        assert [entry.retry_after_s for entry in simulator.journal if entry.status == 429] == [20, 20, 20]


@pytest.mark.anyio
async def test_a_request_above_the_allowance_is_told_not_to_wait(connect: Connect) -> None:
    async with Simulator(SimulatorSettings(tokens_per_min=100)) as simulator:
        reply = await connect(simulator).chat("hello", max_tokens=200)
        assert reply.status == 429
        assert "retry-after" not in reply.headers
        assert "too large" in reply.error["message"]


@pytest.mark.anyio
async def test_without_limits_there_are_no_headers_about_them(connect: Connect) -> None:
    async with Simulator() as simulator:
        reply = await connect(simulator).chat("hello")
        assert not [name for name in reply.headers if name.startswith("x-ratelimit")]
