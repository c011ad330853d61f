from collections.abc import AsyncIterator

import pytest
from tests.limiter.desk import Hall

from greenroom.actors.kernel import ActorSystem, FakeClock


@pytest.fixture
async def hall() -> AsyncIterator[Hall]:
    clock = FakeClock()
    async with ActorSystem(clock=clock) as system:
        made = Hall(system, clock)
        yield made
        for desk in made.desks:
            await desk.go_home()
