"""The same with anyio's memory streams: one to the worker, and one for each answer."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from benchmarks._peers.serving import Figures, Measure, populated, serve, timed

Item = tuple[int, MemoryObjectSendStream[int] | None]


async def worker(inbox: MemoryObjectReceiveStream[Item]) -> None:
    value = 0
    async for by, answer in inbox:
        value += by
        if answer is not None:
            answer.send_nowait(value)
            answer.close()


async def ask(inbox: MemoryObjectSendStream[Item], times: int) -> None:
    for _ in range(times):
        answer, reply = anyio.create_memory_object_stream[int](1)
        await inbox.send((1, answer))
        with reply:
            await reply.receive()


@asynccontextmanager
async def running() -> AsyncGenerator[MemoryObjectSendStream[Item]]:
    outer, inner = anyio.create_memory_object_stream[Item](10_000)
    async with anyio.create_task_group() as group:
        group.start_soon(worker, inner)
        yield outer
        outer.close()


async def call(count: int) -> Figures:
    async with running() as inbox:
        with timed(count) as figures:
            await ask(inbox, count)
    return figures


async def clients(inbox: MemoryObjectSendStream[Item], count: int) -> None:
    async with anyio.create_task_group() as group:
        for _ in range(100):
            group.start_soon(ask, inbox, count // 100)


async def call_100(count: int) -> Figures:
    async with running() as inbox:
        with timed(count) as figures:
            await clients(inbox, count)
    return figures


async def cast(count: int) -> Figures:
    item: Item = (1, None)
    async with running() as inbox:
        with timed(count) as figures:
            for _ in range(count // 64):
                for _ in range(64):
                    inbox.send_nowait(item)
                await anyio.lowlevel.checkpoint()
                while inbox.statistics().current_buffer_used > 5_000:
                    await anyio.lowlevel.checkpoint()
            await ask(inbox, 1)
    return figures


async def idle(count: int) -> Figures:
    figures: Figures = {}
    streams: list[MemoryObjectSendStream[Item]] = []
    async with anyio.create_task_group() as group:
        with populated(count) as figures:
            for _ in range(count):
                outer, inner = anyio.create_memory_object_stream[Item](10_000)
                streams.append(outer)
                group.start_soon(worker, inner)
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    return figures


def prepare() -> Mapping[str, Measure]:
    return {"call": call, "call_100": call_100, "cast": cast, "idle": idle}


if __name__ == "__main__":
    serve(prepare, "anyio")
