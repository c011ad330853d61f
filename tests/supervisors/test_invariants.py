# pyright: reportUnknownMemberType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Random kills, stops, failing and hanging callbacks: supervisors never lose a child, and leaving leaves nothing."""

import asyncio

import pytest
from tests.supervisors.havoc import Chance, Havoc, check, check_at_rest

from greenroom.actors import ActorSystem, FakeClock, settle
from greenroom.supervisors import DynamicSupervisor, Supervisor


async def wreak(seed: int, steps: int = 80) -> None:
    chance, clock, before = Chance(seed), FakeClock(), asyncio.all_tasks()
    async with ActorSystem(clock=clock) as system:
        havoc = Havoc(system, chance, clock)
        strategies = ("one_for_one", "one_for_all", "rest_for_one")
        roots = [await system.start(Supervisor, strategy=strategy, intensity=300) for strategy in strategies]
        roots.append(await system.start(DynamicSupervisor, intensity=300))
        for _ in range(steps):
            await havoc.step(roots)
            if chance.dice.random() < 0.3:
                await settle()
            check(system)
        chance.calm = True
        for _ in range(6):
            chance.open()
            await clock.advance(40.0)
        assert havoc.asking == set()
        check_at_rest(system)
    await settle()
    assert asyncio.all_tasks() == before
    assert clock.pending == 0
    statistics = system.statistics()
    assert (statistics.alive, statistics.names, statistics.zombies) == (0, 0, 0)


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(20))
async def test_no_child_is_lost_and_nothing_is_left(seed: int) -> None:
    await wreak(seed)


@pytest.mark.anyio
@pytest.mark.soak
@pytest.mark.parametrize("first", range(100, 2100, 100))
async def test_no_child_is_lost_and_nothing_is_left_for_long(first: int) -> None:
    for seed in range(first, first + 100):
        await wreak(seed)
