"""Admission through a living limiter on a clock that stands still: slots, rates, order, and what a restart keeps."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.kernel import ActorRef, ActorSystem, FakeClock, settle
from greenroom.actors.limiter import (
    BATCH,
    INTERACTIVE,
    Admit,
    Allowance,
    GetLimiterStatus,
    Limiter,
    LimiterStatus,
    Permit,
    Release,
    TooManyWaiting,
)
from greenroom.actors.limiter import actor as module
from greenroom.actors.limiter.gcra import Gcra
from greenroom.actors.settings import Limits

MINUTE_S = 60.0
ULP_S = 1e-9


class Desk:
    """A limiter, and who was admitted when, in order."""

    def __init__(self, system: ActorSystem, clock: FakeClock, ref: ActorRef, allowance: Allowance) -> None:
        self.system = system
        self.allowance = allowance
        self.clock = clock
        self.ref = ref
        self.granted: list[int] = []
        self.granted_at_s: list[float] = []
        self._asking: set[asyncio.Task[Permit]] = set()

    def ask(self, ticket: int, tokens: int = 1, priority: int = INTERACTIVE) -> asyncio.Task[Permit]:
        async def admitted() -> Permit:
            permit = await self.ref.call(Admit(ticket, tokens, priority=priority), timeout=None)
            self.granted.append(permit.ticket)
            self.granted_at_s.append(self.clock.monotonic())
            return permit

        task = asyncio.get_running_loop().create_task(admitted())
        self._asking.add(task)
        return task

    async def asks(self, *tickets: int, tokens: int = 1, priority: int = INTERACTIVE) -> list[int]:
        """All of them ask, in this order; who has been admitted by then."""
        for ticket in tickets:
            self.ask(ticket, tokens, priority)
        await settle()
        return self.granted

    async def release(self, *tickets: int) -> list[int]:
        for ticket in tickets:
            self.ref.cast(Release(ticket))
        await settle()
        return self.granted

    def refuse(self, ticket: int, wait_s: float) -> None:
        """The provider answers 429, and says how long to wait."""
        self.allowance.refused(ticket, "rate_limited", wait_s, self.clock.monotonic())

    async def advance(self, seconds: float) -> list[int]:
        await self.clock.advance(seconds)
        return self.granted

    async def status(self) -> LimiterStatus:
        return await self.ref.call(GetLimiterStatus())

    async def go_home(self) -> None:
        for task in self._asking:
            task.cancel()
        await asyncio.gather(*self._asking, return_exceptions=True)


class Hall:
    """Opens desks in one system."""

    def __init__(self, system: ActorSystem, clock: FakeClock) -> None:
        self.system = system
        self.clock = clock
        self.desks: list[Desk] = []

    async def open(self, limits: Limits, allowance: Allowance | None = None) -> Desk:
        kept = allowance or Allowance(limits, self.clock.monotonic())
        ref = await self.system.start(Limiter, "acme", kept)
        desk = Desk(self.system, self.clock, ref, kept)
        self.desks.append(desk)
        return desk


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    clock = FakeClock()
    async with ActorSystem(clock=clock) as system:
        made = Hall(system, clock)
        yield made
        for desk in made.desks:
            await desk.go_home()


async def test_no_more_are_in_flight_than_there_are_slots(hall: Hall) -> None:
    desk = await hall.open(Limits(concurrency=2))
    assert await desk.asks(1, 2, 3, 4) == [1, 2]
    assert await desk.advance(3600) == [1, 2]
    assert await desk.release(1) == [1, 2, 3]
    assert await desk.release(2, 3) == [1, 2, 3, 4]
    status = await desk.status()
    assert (status.in_flight, status.waiting, status.provider) == (1, 0, "acme")


async def test_requests_come_one_at_a_time_at_98_percent_of_the_limit(hall: Hall) -> None:
    desk = await hall.open(Limits(requests_per_min=60))
    assert await desk.asks(*range(100)) == [0]
    await desk.advance(MINUTE_S)
    gaps = [later - earlier for earlier, later in zip(desk.granted_at_s, desk.granted_at_s[1:], strict=False)]
    assert len(desk.granted) == 59
    assert gaps == pytest.approx([1 / 0.98] * 58)
    assert desk.granted == list(range(59))


async def test_tokens_come_at_98_percent_of_the_limit(hall: Hall) -> None:
    desk = await hall.open(Limits(tokens_per_min=60_000, concurrency=1000))
    await desk.asks(*range(200), tokens=490)
    await desk.advance(MINUTE_S)
    # One second's worth (980) at once, then 980 a second: 2 + 2 * 60 requests, 59 780 tokens of 60 000.
    assert len(desk.granted) == 122
    assert len(desk.granted) * 490 <= 60_000


async def test_the_scarcer_limit_decides(hall: Hall) -> None:
    desk = await hall.open(Limits(requests_per_min=6000, tokens_per_min=6000))
    assert await desk.asks(1, 2, tokens=98) == [1]
    assert await desk.advance(0.999) == [1]
    assert await desk.advance(0.002) == [1, 2]


async def test_interactive_goes_before_batch_and_each_in_order_of_arrival(hall: Hall) -> None:
    desk = await hall.open(Limits(concurrency=1))
    await desk.asks(0)
    await desk.asks(10, 11, priority=BATCH)
    await desk.asks(20, 21)
    await desk.asks(12, priority=BATCH)
    for ticket in (0, 20, 21, 10, 11):
        await desk.release(ticket)
    assert desk.granted == [0, 20, 21, 10, 11, 12]


async def test_a_large_request_is_not_overtaken_by_small_ones(hall: Hall) -> None:
    desk = await hall.open(Limits(tokens_per_min=6000, concurrency=1000))
    await desk.asks(1, tokens=98)
    await desk.asks(2, tokens=3000)
    await desk.asks(3, 4, tokens=1)
    assert await desk.advance(0.999) == [1]
    assert await desk.advance(0.002) == [1, 2]
    # 3000 tokens at 98 a second are owed before the small ones conform, less the burst.
    assert await desk.advance(29) == [1, 2]
    assert await desk.advance(2) == [1, 2, 3, 4]


async def test_a_request_larger_than_the_whole_minute_is_admitted_in_the_end(hall: Hall) -> None:
    desk = await hall.open(Limits(tokens_per_min=1000))
    assert await desk.asks(1, 2, tokens=5000) == [1]
    assert await desk.advance(5000 / 980 * MINUTE_S + ULP_S) == [1, 2]


async def test_releasing_the_head_of_the_queue_lets_the_next_one_pass(hall: Hall) -> None:
    desk = await hall.open(Limits(tokens_per_min=6000))
    await desk.asks(1, tokens=49)
    await desk.asks(2, tokens=600)
    assert await desk.asks(3, tokens=49) == [1]
    assert await desk.release(2) == [1, 3]
    assert (await desk.status()).waiting == 0


async def test_releasing_one_that_waits_behind_the_head_takes_it_out(hall: Hall) -> None:
    desk = await hall.open(Limits(concurrency=1))
    await desk.asks(1, 2, 3, 4)
    await desk.release(3)
    assert (await desk.status()).waiting == 2
    assert await desk.release(1, 2) == [1, 2, 4]


async def test_a_release_frees_no_slot_that_its_ticket_never_had(hall: Hall) -> None:
    desk = await hall.open(Limits(concurrency=1))
    await desk.asks(1, 2)
    assert await desk.release(7, 7, 8) == [1]
    await desk.release(1, 1)
    assert await desk.asks(3) == [1, 2]
    assert (await desk.status()).in_flight == 1


async def test_asking_twice_with_one_ticket_counts_once(hall: Hall) -> None:
    desk = await hall.open(Limits(concurrency=2, requests_per_min=60))
    assert await desk.asks(1, 1) == [1, 1]
    assert (await desk.status()).in_flight == 1
    await desk.asks(2, 2)
    assert (await desk.status()).waiting == 1
    await desk.advance(1.03)  # the second request's turn; a double count would have cost it another one
    assert desk.granted == [1, 1, 2]
    assert (await desk.status()).in_flight == 2
    await desk.release(1)
    await desk.asks(3)
    assert await desk.advance(1.03) == [1, 1, 2, 3]


async def test_a_freeze_stops_all_admissions_for_its_time_and_a_shorter_one_does_not_end_it(
    hall: Hall,
) -> None:
    desk = await hall.open(Limits())
    await desk.asks(1)
    desk.refuse(1, 10.0)
    desk.refuse(1, 2.0)
    assert await desk.asks(2, 3) == [1]
    assert (await desk.status()).frozen_s == pytest.approx(10.0)
    assert await desk.advance(9.99) == [1]
    assert await desk.release(1) == [1]
    assert await desk.advance(0.02) == [1, 2, 3]
    assert (await desk.status()).frozen_s == 0.0


async def test_a_freeze_also_holds_back_who_waits_for_a_rate_already(hall: Hall) -> None:
    desk = await hall.open(Limits(requests_per_min=60))
    await desk.asks(1, 2)
    desk.refuse(1, 30.0)
    assert await desk.advance(29.9) == [1]
    assert await desk.advance(0.2) == [1, 2]


async def succeeded(hall: Hall, first: Desk, limits: Limits, allowance: Allowance) -> Desk:
    hall.system.kill(first.ref)
    await settle()
    return await hall.open(limits, allowance)


async def test_a_restarted_limiter_counts_the_calls_that_are_still_in_flight(hall: Hall) -> None:
    limits = Limits(concurrency=2)
    allowance = Allowance(limits, 0.0)
    first = await hall.open(limits, allowance)
    assert await first.asks(1, 2) == [1, 2]
    second = await succeeded(hall, first, limits, allowance)
    assert (await second.status()).in_flight == 2
    assert await second.asks(3) == []
    assert await second.asks(1) == [1]  # one that holds a permit asks again: it is the same one
    assert await second.release(2) == [1, 3]


async def test_a_restarted_limiter_owes_what_the_rates_have_given(hall: Hall) -> None:
    limits = Limits(requests_per_min=60)
    allowance = Allowance(limits, hall.clock.monotonic())
    first = await hall.open(limits, allowance)
    assert await first.asks(1) == [1]
    second = await succeeded(hall, first, limits, allowance)
    assert await second.asks(2) == []
    assert await second.advance(1.1) == [2]


async def test_a_restarted_limiter_waits_as_long_as_the_provider_said(hall: Hall) -> None:
    limits = Limits()
    allowance = Allowance(limits, 0.0)
    first = await hall.open(limits, allowance)
    assert await first.asks(1) == [1]
    hall.system.kill(first.ref)
    first.refuse(1, 30.0)  # said while there is none
    second = await succeeded(hall, first, limits, allowance)
    assert await second.asks(2) == []
    assert await second.advance(29.9) == []
    assert await second.advance(0.2) == [2]


async def test_nothing_is_granted_to_who_no_longer_waits(hall: Hall) -> None:
    """Killed before it hears of their release, a limiter would leave its successor a permit that nobody gives back."""
    limits = Limits(concurrency=1)
    allowance = Allowance(limits, 0.0)
    desk = await hall.open(limits, allowance)
    await desk.asks(1, 2)
    await desk.go_home()
    desk.ref.cast(Release(1))
    await settle()
    assert allowance.permits == {}


async def test_hopelessly_many_are_refused_and_nobody_in_the_queue_suffers(
    hall: Hall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MAX_WAITING", 3)
    desk = await hall.open(Limits(concurrency=1))
    await desk.asks(1, 2, 3, 4)
    with pytest.raises(TooManyWaiting, match="3 calls wait for acme"):
        await desk.ref.call(Admit(5, 1))
    assert await desk.release(1) == [1, 2]
    assert await desk.asks(6) == [1, 2]
    assert await desk.release(2, 3, 4) == [1, 2, 3, 4, 6]


async def test_who_gave_up_waiting_takes_no_room_however_long_the_head_is_blocked(hall: Hall) -> None:
    limiters: list[Limiter] = []
    allowance = Allowance(Limits(concurrency=1), 0.0)

    def remembered() -> Limiter:
        limiters.append(Limiter("acme", allowance))
        return limiters[-1]

    ref = await hall.system.start(remembered)
    desk = Desk(hall.system, hall.clock, ref, allowance)
    hall.desks.append(desk)
    await desk.asks(1, 2)
    for ticket in range(10, 3010):
        ref.cast(Admit(ticket, 1))
        ref.cast(Release(ticket))
        if ticket % 100 == 0:
            await settle()
    await settle()
    assert (await desk.status()).waiting == 1
    assert limiters[0]._queue.places < 100  # pyright: ignore[reportPrivateUsage]  # memory shows nowhere else
    assert await desk.release(1) == [1, 2]


async def test_a_queue_at_rest_keeps_one_timer(hall: Hall) -> None:
    desk = await hall.open(Limits(requests_per_min=60))
    await desk.asks(*range(50))
    assert hall.clock.pending == 1


@given(
    limit=st.integers(1, 10_000_000),
    steps=st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4)), min_size=1, max_size=60),
)
def test_no_minute_grants_more_requests_than_the_limit(limit: int, steps: list[tuple[float, int]]) -> None:
    gcra = Gcra(limit, 1, 0.0)
    assert most_in_a_minute(grants(gcra, [(gap_s, 1.0) for gap_s, _ in steps])) <= limit


@given(
    limit=st.integers(60, 10_000_000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0.001, 1.0)), min_size=1, max_size=60),
)
def test_no_minute_grants_more_tokens_than_the_limit_in_requests_of_up_to_a_second(
    limit: int, steps: list[tuple[float, float]]
) -> None:
    burst = limit * 0.98 / 60
    taken = grants(Gcra(limit, burst, 0.0), [(gap_s, share * burst) for gap_s, share in steps])
    assert most_in_a_minute(taken) <= limit * (1 + 1e-9)


@given(
    limit=st.integers(60, 10_000_000),
    steps=st.lists(st.tuples(st.floats(0, 90), st.floats(0.001, 2.0)), min_size=1, max_size=40),
)
def test_larger_requests_exceed_a_minute_by_no_more_than_the_last_of_them(
    limit: int, steps: list[tuple[float, float]]
) -> None:
    taken = grants(Gcra(limit, limit * 0.98 / 60, 0.0), [(gap_s, share * limit) for gap_s, share in steps])
    largest = max(units for _, units in taken)
    assert most_in_a_minute(taken) <= (limit + largest) * (1 + 1e-9)


@given(limit=st.integers(1, 10_000_000), units=st.floats(0.001, 1e7), now_s=st.floats(0, 1e6))
def test_after_the_stated_wait_the_units_conform(limit: int, units: float, now_s: float) -> None:
    gcra = Gcra(limit, 1, now_s)
    gcra.take(units, now_s)
    wait_s = gcra.wait_s(units, now_s)
    assert gcra.wait_s(units, now_s + wait_s) <= max(1e-9, (now_s + wait_s) * 1e-15)


def grants(gcra: Gcra, steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each asks so long after the one before was granted, and goes as soon as it may: (moment, units)."""
    now_s, taken = 0.0, list[tuple[float, float]]()
    for gap_s, units in steps:
        now_s += gap_s
        now_s += gcra.wait_s(units, now_s)
        gcra.take(units, now_s)
        taken.append((now_s, units))
    return taken


def most_in_a_minute(taken: list[tuple[float, float]]) -> float:
    return max(
        sum(units for at_s, units in taken if start_s <= at_s <= start_s + MINUTE_S) for start_s, _ in taken
    )
