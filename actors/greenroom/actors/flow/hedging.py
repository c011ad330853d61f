"""Two attempts at one question: the second is made when the first is late, and the first answer wins."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeVar

from greenroom.actors.events import ProviderFailed
from greenroom.actors.kernel import Refused

_T = TypeVar("_T")


async def hedged(
    first: Coroutine[None, None, _T],
    late: Coroutine[None, None, None],
    second: Callable[[], Coroutine[None, None, _T]],
    *,
    failed: Callable[[ProviderFailed], None],
    discard: Callable[[_T], Awaitable[None]],
) -> _T:
    """The first answer of two attempts. The loser is cancelled, and has given back what it had when this returns.

    Args:
        first: the first attempt.
        late: ends when the first has taken too long.
        second: makes the second attempt. Should it be refused, the first goes on alone.
        failed: told of an attempt that failed while the other one went on.
        discard: takes an answer that came as late as the winner's.

    Raises:
        ProviderFailed, Refused: both failed, or the first did before the second was made.

    Cancelling cancels both.
    """
    timer = asyncio.create_task(late)
    tasks = [asyncio.create_task(first)]
    decisive: asyncio.Task[_T] | None = None
    try:
        await asyncio.wait((*tasks, timer), return_when=asyncio.FIRST_COMPLETED)
        if not tasks[0].done():
            tasks.append(asyncio.create_task(second()))
        decisive, lost = await _decide(tasks)
        for failure in lost:
            failed(failure)
        return decisive.result()
    finally:
        timer.cancel()
        others = [task for task in tasks if task is not decisive]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)
        for task in others:
            if not task.cancelled() and task.exception() is None:
                await discard(task.result())


async def _decide(tasks: list["asyncio.Task[_T]"]) -> tuple["asyncio.Task[_T]", list[ProviderFailed]]:
    """The attempt that answers first, or failed last; and the failures of the others."""
    going = set(tasks)
    failures: dict[asyncio.Task[_T], ProviderFailed] = {}
    while going:
        done, going = await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
        for task in (task for task in tasks if task in done):
            error = task.exception()
            if isinstance(error, ProviderFailed):
                failures[task] = error
            elif task is tasks[0] or not isinstance(error, Refused):
                return task, list(failures.values())
    *lost, last = failures
    return last, [failures[task] for task in lost]
