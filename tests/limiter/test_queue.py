"""Who goes next: through a living limiter with one slot, on a clock that stands still."""

import pytest
from tests.limiter.desk import Hall

from greenroom.actors.limiter import BATCH, INTERACTIVE
from greenroom.actors.settings import Limits

pytestmark = pytest.mark.anyio
ONE = Limits(concurrency=1)


async def test_a_tenant_with_little_to_do_does_not_wait_for_one_with_much(hall: Hall) -> None:
    desk = await hall.open(ONE)
    await desk.asks(0, tenant="much")
    await desk.asks(*range(10, 30), tenant="much")
    await desk.asks(100, 101, 102, tenant="little")
    order = await desk.drain()
    assert [ticket for ticket in order[:8] if ticket >= 100] == [100, 101, 102]
    assert [ticket for ticket in order if ticket < 100] == [0, *range(10, 30)]


async def test_who_comes_late_has_no_claim_to_what_others_had_before(hall: Hall) -> None:
    desk = await hall.open(ONE)
    await desk.asks(*range(200), tenant="long here")
    for ticket in range(100):
        await desk.release(ticket)
    await desk.asks(*range(1000, 1050), tenant="new")
    before = len(desk.granted)
    order = (await desk.drain())[before:]
    assert 9 <= sum(ticket >= 1000 for ticket in order[:20]) <= 11


async def test_tenants_get_equal_shares_in_tokens(hall: Hall) -> None:
    desk = await hall.open(ONE)
    await desk.asks(0)
    await desk.asks(*range(1000, 1050), tokens=9_900, tenant="large")
    await desk.asks(*range(2000, 2500), tokens=900, tenant="small")
    order = (await desk.drain())[1:]
    first = order[:110]
    large = sum(9_900 + 100 for ticket in first if ticket < 2000)
    small = sum(900 + 100 for ticket in first if ticket >= 2000)
    assert large == pytest.approx(small, rel=0.1)


async def test_many_new_tenants_do_not_starve_one_that_waits(hall: Hall) -> None:
    """Each comes for the first time, so each has had less than the one that waits with its second request."""
    desk = await hall.open(ONE)
    await desk.asks(0, tokens=1_000, tenant="old")
    await desk.asks(1, tokens=1_000, tenant="old")
    for ticket in range(100, 130):
        await desk.asks(ticket, tokens=1_000, tenant=f"new {ticket}")
        await desk.release(desk.granted[-1])
    assert 1 in desk.granted


async def test_a_large_request_is_overtaken_by_its_own_size_in_small_ones_at_most(hall: Hall) -> None:
    desk = await hall.open(ONE)
    await desk.asks(0)
    await desk.asks(1, tokens=100_000, tenant="large")
    for ticket in range(100, 2_000):
        await desk.asks(ticket, tokens=900, tenant="small")
    order = await desk.drain()
    assert 90 <= order.index(1) <= 110


async def test_interactive_goes_before_batch_and_each_in_order_of_arrival(hall: Hall) -> None:
    desk = await hall.open(ONE)
    await desk.asks(0)
    await desk.asks(10, 11, priority=BATCH)
    await desk.asks(20, 21)
    await desk.asks(12, priority=BATCH)
    assert await desk.drain() == [0, 20, 21, 10, 11, 12]


async def test_batch_work_that_is_passed_over_gets_its_turn_now_and_then(hall: Hall) -> None:
    desk = await hall.open(ONE)
    await desk.asks(0)
    await desk.asks(*range(10, 20), priority=BATCH)
    await desk.asks(*range(100, 200), priority=INTERACTIVE)
    for _ in range(60):
        await desk.advance(0.5)
        await desk.release(desk.granted[-1])
    batch = [place for place, ticket in enumerate(desk.granted) if 10 <= ticket < 20]
    assert batch == [10, 20, 30, 40, 50, 60]


async def test_a_model_that_is_held_back_holds_back_no_other(hall: Hall) -> None:
    desk = await hall.open(Limits())
    await desk.asks(1, model="slow")
    desk.refuse(1, 60.0)
    await desk.asks(2, model="slow")
    assert await desk.asks(3, model="fast") == [1, 3]
    await desk.asks(4, model="slow")
    assert await desk.advance(59.9) == [1, 3]
    assert await desk.advance(0.2) == [1, 3, 2, 4]


async def test_what_all_models_share_goes_round_between_tenants_whatever_their_model(hall: Hall) -> None:
    desk = await hall.open(ONE)
    await desk.asks(0, model="a", tenant="x")
    await desk.asks(1, 2, 3, model="a", tenant="x")
    await desk.asks(4, 5, model="b", tenant="y")
    order = await desk.drain()
    assert order.index(4) < order.index(2)
    assert order.index(5) < order.index(3)


async def test_a_large_request_is_not_overtaken_by_small_ones_of_another_model(hall: Hall) -> None:
    desk = await hall.open(Limits(tokens_per_min=6000))
    await desk.asks(0, tokens=98, model="a")
    await desk.asks(1, tokens=600, model="a")
    await desk.asks(2, 3, tokens=1, model="b")
    assert await desk.advance(0.5) == [0]
    assert (await desk.advance(60))[:2] == [0, 1]


@pytest.mark.parametrize("known", ["stated", "learned"])
async def test_a_batch_request_does_not_overtake_an_interactive_one_of_its_model(
    hall: Hall, known: str
) -> None:
    desk = await hall.open(Limits(tokens_per_min=6000) if known == "stated" else Limits())
    await desk.asks(0, tokens=98)
    if known == "learned":
        told = {"x-ratelimit-limit-tokens": "6000", "x-ratelimit-remaining-tokens": "5902"}
        desk.allowance.observe(0, told, hall.clock.monotonic())
    await desk.asks(1, tokens=600)
    assert await desk.asks(2, tokens=1, priority=BATCH) == [0]
    assert await desk.advance(0.5) == [0]
    await desk.advance(60)
    assert desk.granted == [0, 1, 2]
