"""Tasks beyond the conformance table: what a cancelled start leaves behind."""

import asyncio

import pytest

from greenroom.actors import ActorSystem, settle
from greenroom.supervisors import CountChildren, Tasks, TaskSupervisor

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("begun", [False, True])
async def test_a_start_that_is_cancelled_leaves_no_task(system: ActorSystem, *, begun: bool) -> None:
    ran: list[int] = []

    async def work() -> None:
        ran.append(1)

    supervisor = await system.start(TaskSupervisor)
    await system.suspend(supervisor)
    starting = asyncio.create_task(Tasks(system, supervisor).async_nolink(work))
    await settle()
    if begun:
        await system.resume(supervisor)
        while system.statistics().alive == 1:  # noqa: ASYNC110  # until it is there, its starter not having heard of it
            await asyncio.sleep(0)
    starting.cancel()
    await asyncio.gather(starting, return_exceptions=True)
    assert starting.cancelled()
    if not begun:
        await system.resume(supervisor)
    await settle()
    assert (await supervisor.call(CountChildren())).specs == 0
    assert ran == []
