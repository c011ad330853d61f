"""The fixtures of all tests that play with actors: a system on a clock that stands still."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from greenroom.actors import ActorSystem, FakeClock, Report


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def reports() -> list[Report]:
    return []


@pytest.fixture
async def system(clock: FakeClock, reports: list[Report]) -> AsyncIterator[ActorSystem]:
    async with ActorSystem(clock=clock, on_report=reports.append) as opened:
        yield opened
        # what a failed test left hanging is killed when its time is up, so time must pass
        passing = asyncio.create_task(pass_time(clock))
    passing.cancel()


async def pass_time(clock: FakeClock) -> None:
    """Move the clock until cancelled."""
    while True:
        await clock.advance(1.0)
