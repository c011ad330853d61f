"""Admission through a living limiter on a clock that stands still: slots, rates, order, deadlines, and what a restart keeps."""

import asyncio

import pytest
from tests.limiter.desk import Desk, Hall

from greenroom.actors.kernel import settle
from greenroom.actors.limiter import (
    Admit,
    Allowance,
    CannotStart,
    Limiter,
    Permit,
    Release,
    TooManyWaiting,
)
from greenroom.actors.limiter import actor as module
from greenroom.actors.settings import Limits

MINUTE_S = 60.0
ULP_S = 1e-9


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


async def test_who_is_released_while_nobody_waits_needs_no_word(hall: Hall) -> None:
    desk = await hall.open(Limits(concurrency=1))
    assert await desk.asks(1) == [1]
    desk.allowance.give_back(1, hall.clock.monotonic())
    assert (await desk.status()).in_flight == 0
    assert await desk.asks(2) == [1, 2]
    await desk.asks(3)
    assert desk.allowance.waiting
    desk.allowance.give_back(2, hall.clock.monotonic())
    assert await desk.asks(4) == [1, 2, 3]  # any word lets the queue move
    assert await desk.release(2, 2, 3) == [1, 2, 3, 4]


def refused(asking: asyncio.Task[Permit]) -> CannotStart:
    assert asking.done(), "it still waits"
    error = asking.exception()
    assert isinstance(error, CannotStart)
    return error


class TestDeadlines:
    async def test_who_cannot_start_in_time_is_told_at_once(self, hall: Hall) -> None:
        desk = await hall.open(Limits(requests_per_min=60))
        await desk.asks(1, 2, 3)
        told = desk.ask(4, in_s=3.0)  # two before it, and then its own turn
        in_time = desk.ask(5, in_s=3.2)
        await settle()
        with pytest.raises(
            CannotStart,
            match=r"cannot start in time: acme's limits admit it in 3.1 s .* deadline is in 3.0 s",
        ) as refusal:
            await told
        assert (refusal.value.provider, refusal.value.left_s) == ("acme", 3.0)
        assert refusal.value.wait_s == pytest.approx(3 / 0.98)
        assert not in_time.done()
        await desk.advance(3.1)
        assert (await in_time).ticket == 5
        assert (await desk.status()).waiting == 0

    async def test_who_waits_is_told_when_a_freeze_makes_it_hopeless(self, hall: Hall) -> None:
        desk = await hall.open(Limits(requests_per_min=60))
        await desk.asks(1)
        hopeless = desk.ask(2, in_s=20.0)
        patient = desk.ask(3, in_s=40.0)
        await settle()
        desk.refuse(1, 30.0)
        await desk.advance(1.1)
        refused(hopeless)
        assert not patient.done()
        assert await desk.advance(30.0) == [1, 3]

    async def test_one_tenant_s_backlog_makes_nothing_hopeless_for_another(self, hall: Hall) -> None:
        desk = await hall.open(Limits(requests_per_min=60))
        for ticket in range(30):
            desk.ask(ticket, tenant="much")
        told, other = desk.ask(100, in_s=5.0, tenant="much"), desk.ask(101, in_s=5.0, tenant="little")
        await desk.advance(5.0)
        refused(told)
        assert other.done()
        assert 101 in desk.granted

    async def test_a_deadline_holds_nobody_back_who_can_go_now(self, hall: Hall) -> None:
        desk = await hall.open(Limits(requests_per_min=60))
        desk.ask(1, in_s=-1.0)
        assert await desk.advance(0.0) == [1]

    async def test_before_the_first_answer_nothing_is_certain(self, hall: Hall) -> None:
        desk = await hall.open(Limits())
        await desk.asks(*range(8))
        waits = desk.ask(100, in_s=0.5)
        await settle()
        assert not waits.done()
        desk.allowance.observe(0, {}, hall.clock.monotonic())
        assert 100 in await desk.release(0)

    async def test_while_only_a_slot_is_lacking_nothing_is_certain(self, hall: Hall) -> None:
        desk = await hall.open(Limits(concurrency=1))
        await desk.asks(1)
        waits = desk.ask(2, in_s=1.0)
        await desk.advance(0.5)
        assert not waits.done()
        assert await desk.release(1) == [1, 2]


async def test_a_queue_at_rest_keeps_one_timer(hall: Hall) -> None:
    desk = await hall.open(Limits(requests_per_min=60))
    await desk.asks(*range(50))
    assert hall.clock.pending == 1
    for ticket in range(100, 200):  # what is corrected downwards makes the head due earlier
        desk.ref.cast(Release(ticket))
        desk.allowance.shared_rates[0].correct((-0.001, 0.0, 0.0, 0.0), hall.clock.monotonic())
        await settle()
    assert hall.clock.pending == 1
