"""Other actor libraries, each asked and told in the way its documentation shows: `python -m benchmarks._peers.libraries NAME`."""

import asyncio
import importlib
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any  # these packages are optional: where they lack, there are no types to check against

from benchmarks._peers.serving import Figures, Measure, serve, timed


def pykka() -> Mapping[str, Measure]:
    """A thread per actor."""
    library: Any = importlib.import_module("pykka")

    def on_receive(self: Any, message: int) -> int:
        self.value = getattr(self, "value", 0) + message
        return int(self.value)

    counter: Any = type("Counter", (library.ThreadingActor,), {"on_receive": on_receive})
    return _blocking(counter.start, lambda ref: ref.ask(1), lambda ref: ref.tell(1), lambda ref: ref.stop())


def thespian() -> Mapping[str, Measure]:
    """Its synchronous base, inside the process: by far its fastest."""
    library: Any = importlib.import_module("thespian.actors")
    system = library.ActorSystem("simpleSystemBase")

    def receive(self: Any, message: object, sender: object) -> None:
        if isinstance(message, int):
            self.value = getattr(self, "value", 0) + message
            self.send(sender, self.value)

    counter: Any = type("Counter", (library.Actor,), {"receiveMessage": receive})
    return _blocking(
        lambda: system.createActor(counter),
        lambda ref: system.ask(ref, 1, 5),
        lambda ref: system.tell(ref, 1),
        lambda ref: system.tell(ref, library.ActorExitRequest()),
    )


def ray() -> Mapping[str, Measure]:
    """An actor in a process of its own, as Ray's always are."""
    library: Any = importlib.import_module("ray")
    library.init(num_cpus=1, include_dashboard=False, log_to_driver=False, configure_logging=False)

    def inc(self: Any, by: int) -> int:
        self.value = getattr(self, "value", 0) + by
        return int(self.value)

    counter = library.remote(type("Counter", (), {"inc": inc}))
    return _blocking(
        counter.remote,
        lambda ref: library.get(ref.inc.remote(1)),
        lambda ref: ref.inc.remote(1),
        library.kill,
    )


def _blocking(
    start: Callable[[], Any],
    ask: Callable[[Any], Any],
    tell: Callable[[Any], Any],
    stop: Callable[[Any], Any],
) -> Mapping[str, Measure]:
    async def call(count: int) -> Figures:
        ref = start()
        ask(ref)
        with timed(count) as figures:
            for _ in range(count):
                ask(ref)
        stop(ref)
        return figures

    async def cast(count: int) -> Figures:
        ref = start()
        ask(ref)
        with timed(count) as figures:
            for _ in range(count):
                tell(ref)
            ask(ref)
        stop(ref)
        return figures

    return {"call": call, "cast": cast}


def xoscar() -> Mapping[str, Measure]:
    """Actor and caller in one process and one loop."""
    library: Any = importlib.import_module("xoscar")

    async def inc(self: Any, by: int) -> int:
        self.value = getattr(self, "value", 0) + by
        return int(self.value)

    counter: Any = type("Counter", (library.Actor,), {"inc": inc})

    async def within(work: Callable[[Any], Awaitable[Figures]]) -> Figures:
        pool = await library.create_actor_pool("127.0.0.1", n_process=0)
        async with pool:
            ref = await library.create_actor(counter, address=pool.external_address, uid="counter")
            await ref.inc(1)
            return await work(ref)

    async def asking(ref: Any, times: int) -> None:
        for _ in range(times):
            await ref.inc(1)

    async def call(count: int) -> Figures:
        async def work(ref: Any) -> Figures:
            with timed(count) as figures:
                await asking(ref, count)
            return figures

        return await within(work)

    async def call_100(count: int) -> Figures:
        async def work(ref: Any) -> Figures:
            with timed(count) as figures:
                await asyncio.gather(*(asking(ref, count // 100) for _ in range(100)))
            return figures

        return await within(work)

    async def cast(count: int) -> Figures:
        async def work(ref: Any) -> Figures:
            with timed(count) as figures:
                for _ in range(count):
                    await ref.inc.tell(1)
                await ref.inc(1)
            return figures

        return await within(work)

    return {"call": call, "call_100": call_100, "cast": cast}


if __name__ == "__main__":
    _libraries = {made.__name__: made for made in (pykka, thespian, xoscar, ray)}
    serve(_libraries[sys.argv[1]], sys.argv[1])
