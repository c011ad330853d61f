"""What people write without a library: a task that reads an `asyncio.Queue`, a `Future` in each message that wants an answer."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from benchmarks._peers.serving import Figures, Measure, populated, serve, timed

Item = tuple[int, asyncio.Future[int] | None]


class Poison(Exception):
    """Crashes the worker."""


async def worker(queue: asyncio.Queue[Item], up: asyncio.Future[None] | None = None) -> None:
    if up is not None:
        up.set_result(None)
    value = 0
    while True:
        by, answer = await queue.get()
        if not by:
            raise Poison
        value += by
        if answer is not None:
            answer.set_result(value)


@asynccontextmanager
async def running() -> AsyncGenerator[asyncio.Queue[Item]]:
    queue: asyncio.Queue[Item] = asyncio.Queue()
    task = asyncio.create_task(worker(queue))
    await asyncio.sleep(0)
    yield queue
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def ask(queue: asyncio.Queue[Item], times: int) -> None:
    loop = asyncio.get_running_loop()
    for _ in range(times):
        answer: asyncio.Future[int] = loop.create_future()
        queue.put_nowait((1, answer))
        await answer


async def call(count: int) -> Figures:
    async with running() as queue:
        with timed(count) as figures:
            await ask(queue, count)
    return figures


async def call_100(count: int) -> Figures:
    async with running() as queue:
        with timed(count) as figures:
            await asyncio.gather(*(ask(queue, count // 100) for _ in range(100)))
    return figures


async def cast(count: int) -> Figures:
    item: Item = (1, None)
    async with running() as queue:
        with timed(count) as figures:
            for _ in range(count // 64):
                for _ in range(64):
                    queue.put_nowait(item)
                await asyncio.sleep(0)
            await ask(queue, 1)
    return figures


async def restart(count: int) -> Figures:
    """The bare loop: whoever waits for the task makes another when it has failed."""
    loop = asyncio.get_running_loop()
    queue: asyncio.Queue[Item] = asyncio.Queue()
    up: asyncio.Future[None] = loop.create_future()

    async def keep() -> None:
        while True:
            with contextlib.suppress(Poison):
                await asyncio.create_task(worker(queue, up))

    keeper = asyncio.create_task(keep())
    await up
    with timed(count) as figures:
        for _ in range(count):
            up = loop.create_future()
            queue.put_nowait((0, None))
            await up
            await ask(queue, 1)
    keeper.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await keeper
    return figures


async def idle(count: int) -> Figures:
    tasks: list[asyncio.Task[None]] = []
    queues: list[asyncio.Queue[Item]] = []
    with populated(count) as figures:
        for _ in range(count):
            queue: asyncio.Queue[Item] = asyncio.Queue()
            queues.append(queue)
            tasks.append(asyncio.create_task(worker(queue)))
        await asyncio.sleep(0)
    return figures


def prepare() -> Mapping[str, Measure]:
    return {"call": call, "call_100": call_100, "cast": cast, "restart": restart, "idle": idle}


if __name__ == "__main__":
    serve(prepare)
