"""A program whose actors are in every state when it is told to end. Says what it did, and what is left, line by line."""

import asyncio
import json
import signal
import sys
from typing import Any

from greenroom.actors import Actor, ActorSystem, Call, ExitReason, handles
from greenroom.supervisors import ChildSpec, Supervisor


def say(what: object) -> None:
    print(json.dumps(what), flush=True)  # noqa: T201  # it is read by the test


class Work(Call[None], frozen=True):
    pass


class Worker(Actor):
    """Has a timer and a task, and may be at work; `hangs` as long as it lives once it is told to end."""

    def __init__(self, label: str, *, hangs: bool = False) -> None:
        self.label = label
        self.hangs = hangs

    async def init(self) -> None:
        self.send_after(1000.0, "late")
        self.set_timeout(1000.0)
        self.pipe_to_self(asyncio.Event().wait())

    @handles
    async def work(self, message: Work) -> None:
        await asyncio.Event().wait()

    async def terminate(self, reason: ExitReason) -> None:
        say(f"terminate {self.label}")
        if self.hangs:
            await asyncio.Event().wait()


async def live(how: str) -> None:
    """Start actors in every state, and wait."""
    limit_s = 0.05 if how == "impatient" else None
    async with ActorSystem(stop_on_signals=(signal.SIGTERM,), stop_timeout_s=limit_s) as system:
        systems.append(system)
        specs = [ChildSpec(label, Worker, args=(label,), name=label) for label in ("a", "b")]
        await system.start(Supervisor, specs, name="supervisor")
        busy = await system.start(Worker, "busy", name="busy")
        calls.append(asyncio.create_task(busy.call(Work(), timeout=None)))
        await system.start(Worker, "idle", name="idle", hangs=how == "hanging")
        say("ready")
        await asyncio.Event().wait()


systems: list[ActorSystem] = []
calls: list[asyncio.Task[None]] = []


async def main(how: str) -> None:
    try:
        await live(how)
    finally:
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        loop: Any = asyncio.get_running_loop()
        statistics = systems[0].statistics()
        say(
            {
                "callers": [type(outcome).__name__ for outcome in outcomes],
                "tasks": len(asyncio.all_tasks()) - 1,
                "timers": sum(not handle.cancelled() for handle in loop._scheduled),
                "names": statistics.names,
                "alive": statistics.alive,
            }
        )


try:
    asyncio.run(main(sys.argv[1]))
except KeyboardInterrupt:
    say("KeyboardInterrupt")
except SystemExit as stopped:
    say(f"SystemExit {stopped.code}")
