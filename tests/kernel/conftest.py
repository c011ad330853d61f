"""A system on a clock that stands still, for every test of the kernel."""

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
