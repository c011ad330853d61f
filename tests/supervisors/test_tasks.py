# pyright: reportPrivateUsage=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportAttributeAccessIssue=false
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


async def test_a_long_stream_beside_one_slow_task_keeps_nothing(system: ActorSystem) -> None:
    gate = asyncio.Event()

    async def work(number: int) -> int:
        if number == 0:
            await gate.wait()
        return number

    tasks = Tasks(system, await system.start(TaskSupervisor))
    stream = tasks.async_stream(work, range(300), max_concurrency=2, ordered=False)
    labels = [(await anext(stream)).label for _ in range(299)]
    assert labels == list(range(1, 300))
    [slow] = [ref for ref in system.core.processes if system.statistics_of(ref).state == "running"]
    assert slow.current is not None
    assert len(slow.current.future._callbacks or ()) < 10
    gate.set()
    assert [outcome.label async for outcome in stream] == [0]
