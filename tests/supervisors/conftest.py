"""A system on a clock that stands still, for every test of the supervisors."""

from collections.abc import AsyncIterator

import pytest

from greenroom.actors import ActorSystem, FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
async def system(clock: FakeClock) -> AsyncIterator[ActorSystem]:
    async with ActorSystem(clock=clock) as opened:
        yield opened
