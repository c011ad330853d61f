# pyright: reportUnknownMemberType=false, reportPrivateUsage=false
# (start takes what its actor takes, so what is handed to it has no declared type; invariants look inside)
"""Trees of actors that misbehave at random, but the same for the same seed, and what must hold of them all the same."""

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from tests.conformance.troupe import by_hand

from greenroom.actors import (
    Actor,
    ActorRef,
    ActorSystem,
    Call,
    ExitReason,
    FakeClock,
    Ignored,
    Shutdown,
    handles,
)
from greenroom.actors.kernel.engine.process import Process
from greenroom.supervisors import (
    Backoff,
    ChildSpec,
    StartChild,
    Supervisor,
    TerminateChild,
)
from greenroom.supervisors.engine.keeper import Keeper


class Act(Call[None], frozen=True):
    how: str


DEEDS = ("crash", "wait", "stop", "stop with a detail", "pipe", "cancel itself", "timer", "nothing")


class Chance:
    """What goes wrong, and when. Once `calm`, nothing does any more."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.calm = False
        self.made = 0
        self._gates: list[asyncio.Event] = []

    def hit(self, share: float) -> bool:
        return not self.calm and self.dice.random() < share

    async def wait(self) -> None:
        """Wait until the gates are opened."""
        if not self.calm:
            gate = asyncio.Event()
            self._gates.append(gate)
            await gate.wait()

    def open(self) -> None:
        for gate in self._gates:
            gate.set()
        self._gates.clear()


class Careless(Actor):
    """May fail, decline, hang or stop in each of its callbacks."""

    def __init__(self, chance: Chance) -> None:
        self.chance = chance

    async def init(self) -> None:
        if self.chance.hit(0.1):
            raise ValueError("in init")
        if self.chance.hit(0.03):
            raise Ignored
        if self.chance.hit(0.1):
            await self.chance.wait()

    @handles
    async def act(self, message: Act) -> None:
        match message.how:
            case "crash":
                raise ValueError("told to")
            case "wait":
                await self.chance.wait()
            case "stop":
                self.stop()
            case "stop with a detail":
                self.stop(Shutdown("told to"))
            case "pipe":
                self.pipe_to_self(self.chance.wait())
            case "cancel itself":
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                await asyncio.sleep(0)
            case "timer":
                self.send_after(self.chance.dice.uniform(0, 10), "late")
            case _:
                pass

    async def handle_info(self, message: object) -> None:
        if self.chance.hit(0.05):
            raise ValueError("in handle_info")

    async def terminate(self, reason: ExitReason) -> None:
        if self.chance.hit(0.1):
            raise ValueError("in terminate")
        if self.chance.hit(0.1):
            await self.chance.wait()
        if self.chance.hit(0.05):
            await asyncio.Event().wait()


class Curt(Actor):
    """Has no callback that waits: it starts and ends at once."""

    def __init__(self, chance: Chance) -> None:
        if chance.hit(0.1):
            raise ValueError("in the constructor")

    @handles
    def act(self, message: Act) -> None:
        if message.how in {"crash", "wait"}:
            raise ValueError("told to")
        if message.how.startswith("stop"):
            self.stop()


def some_spec(chance: Chance, depth: int = 0) -> ChildSpec:
    """A spec of whatever kind: a worker, or a supervisor of some."""
    dice = chance.dice
    chance.made += 1
    id_ = f"c{chance.made}"
    options: dict[str, Any] = {"restart": dice.choice(["permanent", "transient", "temporary"])}
    if dice.random() < 0.3:
        options["backoff"] = Backoff(first_s=0.5, max_s=3.0)
    if dice.random() < 0.5:
        options["name"] = f"shared {dice.randrange(15)}" if dice.random() < 0.2 else id_
    if depth < 2 and dice.random() < 0.3:
        children = [some_spec(chance, depth + 1) for _ in range(dice.randrange(4))]
        if len({child.name or child.id for child in children}) < len(children):
            children = []
        strategy = dice.choice(["one_for_one", "one_for_all", "rest_for_one"])
        return ChildSpec(
            id_,
            Supervisor,
            args=(children,),
            kwargs={"strategy": strategy, "intensity": dice.choice([0, 2, 99])},
            **options,
        )
    options["shutdown"] = dice.choice([None, 0, 1.0, "brutal_kill"])
    return ChildSpec(id_, dice.choice([Careless, Careless, Curt]), args=(chance,), **options)


class Havoc:
    """Does random things to random actors of a system."""

    def __init__(self, system: ActorSystem, chance: Chance, clock: FakeClock) -> None:
        self._system = system
        self._chance = chance
        self._clock = clock
        self.asking: set[asyncio.Task[object]] = set()

    def _ask(self, work: Coroutine[Any, Any, Any]) -> None:
        task = asyncio.create_task(_quietly(work))
        self.asking.add(task)
        task.add_done_callback(self.asking.discard)
        task.add_done_callback(lambda _: work.close())  # cancelled before its first step, it would warn

    async def step(self, roots: list[ActorRef]) -> None:
        dice, system = self._chance.dice, self._system
        victim = dice.choice(list(system.core.processes))
        keeper = dice.choice([one for one in system.core.processes if isinstance(one.actor, Keeper)])
        children = list(keepers_children(keeper))
        match dice.choice(
            ["start"] * 3
            + ["act"] * 2
            + ["kill", "stop", "terminate", "by hand", "time", "open", "cancel", "cast"]
        ):
            case "start":
                self._ask(keeper.call(StartChild(some_spec(self._chance))))
            case "act" if not isinstance(victim.actor, Keeper):
                self._ask(victim.call(Act(dice.choice(DEEDS))))
            case "kill" if victim not in roots:
                system.kill(victim)
            case "stop" if victim not in roots:
                self._ask(system.stop(victim, timeout=dice.choice([0, 1, 5])))
            case "terminate" if children:
                self._ask(keeper.call(TerminateChild(dice.choice(children))))
            case "by hand" if children:
                self._ask(keeper.call(dice.choice(by_hand(dice.choice(children)))))
            case "time":
                await self._clock.advance(dice.uniform(0, 2))
            case "open":
                self._chance.open()
            case "cancel" if self.asking:
                dice.choice(sorted(self.asking, key=lambda task: task.get_name())).cancel()
            case _:
                victim.cast("anything")


async def _quietly(work: Coroutine[Any, Any, Any]) -> object:
    try:
        return await work
    except Exception as error:  # refused, dead, too late: all of it may be
        return error


def keepers_children(process: Process) -> tuple[str, ...]:
    """The ids of a supervisor's children."""
    return tuple(process.actor.children) if isinstance(process.actor, Keeper) else ()


def check(system: ActorSystem) -> None:
    """What holds at every moment: names, lives and links agree."""
    core = system.core
    for name, process in core.names.items():
        assert process.alive
        assert process.name == name
    for process in core.processes:
        assert process.alive
        assert process.name is None or core.names[process.name] is process
        for peer in process.ties.links if process.ties else ():
            assert peer.ties is not None, f"{process} is linked to {peer}"
            assert process in peer.ties.links


def check_at_rest(system: ActorSystem) -> None:
    """What holds when nothing goes on any more: each child runs, is stopped, or waits for a restart; nobody is forgotten."""
    check(system)
    for process in system.core.processes:
        keeper = process.actor
        if not isinstance(keeper, Keeper):
            continue
        running: set[Process] = set()
        for child in keeper.children.values():
            about = f"{child.spec.id} of {process} is {child.state}, {child.process}"
            assert child.state in {"running", "stopped", "restarting"}, about
            assert (child.state == "running") == (child.process is not None), about
            assert (child.state == "restarting") == (child.timer is not None), about
            if child.process is not None:
                running.add(child.process)
                assert child.process.alive, about
                assert child.process.parent is process, about
                assert process.ties is not None
                assert child.process in process.ties.links, about
        assert {one for one in system.core.processes if one.parent is process} == running, (
            f"orphans of {process}"
        )
        assert set(keeper._by_ref) == running
        assert process.ties is None or not process.ties.pipes
