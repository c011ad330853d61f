"""The lines to providers: one set of actors and one set of sockets a provider, whatever happens while they start."""

import asyncio
from pathlib import Path

import pytest
from tests.inside import settings, tree

from greenroom.actors.pool import Lease, Outcome
from greenroom.runtime import Runtime

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("turns", range(12))
async def test_a_cancelled_start_leaves_the_same_line_to_the_next_who_asks(
    tmp_path: Path, turns: int
) -> None:
    async with Runtime(settings("http://127.0.0.1:9/v1", tmp_path), environ={}) as rt:
        first = asyncio.create_task(tree(rt).lines.ensure("acme"))
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        line = await tree(rt).lines.ensure("acme")
        await line.pool.call(Lease(1))
        assert set(line.sockets.leases) == {1}
        line.pool.cast(Outcome(1, "cancelled", 0.0))
