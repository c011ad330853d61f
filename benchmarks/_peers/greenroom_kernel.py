"""greenroom's own kernel and supervisors: the measures that the others have too, and those of its own promises."""

import asyncio
import gc
import logging
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager

from benchmarks._peers.serving import Figures, Measure, populated, serve, timed
from greenroom.actors import Actor, ActorRef, ActorSystem, Call, Cast, handles
from greenroom.supervisors import ChildSpec, DynamicSupervisor, StartChild, Supervisor


class Add(Call[int], frozen=True):
    by: int


class AddSlowly(Call[int], frozen=True):
    by: int


class Bump(Cast, frozen=True):
    by: int


class Crash(Cast, frozen=True):
    pass


class Poison(Exception):
    """Crashes the actor."""


class Counter(Actor):
    def __init__(self) -> None:
        self.value = 0

    @handles
    def add(self, message: Add) -> int:
        self.value += message.by
        return self.value

    @handles
    async def add_slowly(self, message: AddSlowly) -> int:
        self.value += message.by
        return self.value

    @handles
    def bump(self, message: Bump) -> None:
        self.value += message.by


class Mortal(Counter):
    """Tells whoever started it that it is up."""

    def __init__(self, up: "list[asyncio.Future[ActorRef]]") -> None:
        super().__init__()
        up[0].set_result(self.ref)

    @handles
    def crash(self, message: Crash) -> None:
        raise Poison


@asynccontextmanager
async def started() -> AsyncGenerator[tuple[ActorSystem, ActorRef]]:
    async with ActorSystem() as system:
        yield system, await system.start(Counter)


async def ask(counter: ActorRef, message: Call[int], times: int) -> None:
    for _ in range(times):
        await counter.call(message)


async def call(count: int) -> Figures:
    async with started() as (_, counter):
        with timed(count) as figures:
            await ask(counter, Add(1), count)
    return figures


async def call_100(count: int) -> Figures:
    async with started() as (_, counter):
        with timed(count) as figures:
            await asyncio.gather(*(ask(counter, Add(1), count // 100) for _ in range(100)))
    return figures


async def call_async(count: int) -> Figures:
    async with started() as (_, counter):
        with timed(count) as figures:
            await ask(counter, AddSlowly(1), count)
    return figures


async def cast(count: int) -> Figures:
    message = Bump(1)
    async with started() as (_, counter):
        with timed(count) as figures:
            for _ in range(count // 64):
                for _ in range(64):
                    counter.cast(message)
                await asyncio.sleep(0)
            await counter.call(Add(1))
    return figures


async def restart(count: int) -> Figures:
    """A supervised child crashes, its successor says that it is up, and answers a call. Reports are made, not logged."""
    loop = asyncio.get_running_loop()
    up: list[asyncio.Future[ActorRef]] = [loop.create_future()]
    async with ActorSystem() as system:
        child = ChildSpec("mortal", Mortal, args=(up,))
        await system.start(Supervisor, [child], intensity=1_000_000_000, period=0.01)
        mortal = await up[0]
        with timed(count) as figures:
            for _ in range(count):
                up[0] = loop.create_future()
                mortal.cast(Crash())
                mortal = await up[0]
                await mortal.call(Add(1))
    return figures


async def idle(count: int) -> Figures:
    counters: list[ActorRef] = []
    async with ActorSystem() as system:
        with populated(count) as figures:
            for _ in range(count):
                counters.append(await system.start(Counter))  # noqa: PERF401  # one after the other, as people do
        cpu = time.process_time()
    figures["stop_cpu_s"] = time.process_time() - cpu
    return figures


async def children(count: int) -> Figures:
    """Microseconds for each of `count` children to be started, and stopped, by one supervisor (V48)."""
    specs = [ChildSpec(f"child-{number}", Counter) for number in range(count)]
    async with ActorSystem() as system:
        gc.collect()
        cpu = time.process_time()
        supervisor = await system.start(Supervisor, specs)
        begun = time.process_time()
        await system.stop(supervisor, timeout=None)
        ended = time.process_time()
    return {"start_us": (begun - cpu) / count * 1e6, "stop_us": (ended - begun) / count * 1e6}


async def demanded(count: int) -> Figures:
    """The same for children that a dynamic supervisor starts on demand (V48)."""
    wanted = [StartChild(ChildSpec(f"child-{number}", Counter)) for number in range(count)]
    async with ActorSystem() as system:
        supervisor = await system.start(DynamicSupervisor)
        gc.collect()
        cpu = time.process_time()
        for one in wanted:
            await supervisor.call(one)
        begun = time.process_time()
        await system.stop(supervisor, timeout=None)
        ended = time.process_time()
    return {"start_us": (begun - cpu) / count * 1e6, "stop_us": (ended - begun) / count * 1e6}


class Relay(Call[float], frozen=True):
    """Call the other this many times and tell the CPU microseconds of each."""

    other: ActorRef
    times: int


class Relayer(Actor):
    capacity = 1_000_000

    @handles
    async def relay(self, message: Relay) -> float:
        cpu = time.process_time()
        await ask(message.other, AddSlowly(1), message.times)
        return (time.process_time() - cpu) / message.times * 1e6

    @handles
    def bump(self, message: Bump) -> None:
        pass


async def mailbox(count: int) -> Figures:
    """A call made by an actor in whose own mailbox `count` messages wait (G46)."""
    async with started() as (system, counter):
        relayer = await system.start(Relayer)
        none_us = await relayer.call(Relay(counter, 5_000), timeout=None)
        asked = asyncio.ensure_future(relayer.call(Relay(counter, 5_000), timeout=None))
        await asyncio.sleep(0)
        message = Bump(1)
        for _ in range(count):
            relayer.cast(message)
        return {"none_us": none_us, "many_us": await asked}


class LongestTurn:
    """The most CPU time that passes between a 1 ms timer's moments; blind to what else the machine does."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self._last_s = time.process_time()
        self._handle = asyncio.get_running_loop().call_later(0.001, self._tick)

    def _tick(self) -> None:
        now_s = time.process_time()
        self.longest_s = max(self.longest_s, now_s - self._last_s)
        self._last_s = now_s
        self._handle = asyncio.get_running_loop().call_later(0.001, self._tick)

    def close(self) -> float:
        self._handle.cancel()
        return self.longest_s * 1e3


async def turns(count: int) -> Figures:
    """How long a caller in a tight loop, and a long mailbox, keep a 1 ms timer waiting (P11)."""
    async with ActorSystem() as system:
        counter = await system.start(Counter, capacity=3 * count + 1)
        gc.collect()
        timer = LongestTurn()
        await ask(counter, Add(1), count)
        called_ms = timer.close()
        message = Bump(1)
        for _ in range(3 * count):
            counter.cast(message)
        timer = LongestTurn()
        await counter.call(Add(1), timeout=None)
        return {"call_ms": called_ms, "backlog_ms": timer.close()}


def prepare() -> Mapping[str, Measure]:
    logging.disable(logging.CRITICAL)  # as Erlang's logger is, where it is compared
    return {
        "call": call,
        "call_100": call_100,
        "call_async": call_async,
        "cast": cast,
        "restart": restart,
        "idle": idle,
        "children": children,
        "demanded": demanded,
        "mailbox": mailbox,
        "turns": turns,
    }


if __name__ == "__main__":
    serve(prepare, "greenroom")
