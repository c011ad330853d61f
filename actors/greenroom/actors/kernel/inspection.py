"""Looking into a running system: states, statistics, traces, the whole tree as Structs."""

import asyncio
from collections.abc import Callable, Mapping

import msgspec

from greenroom.actors.kernel.contract.errors import ActorExited, CallingSelf
from greenroom.actors.kernel.contract.messages import Call, ReplyT
from greenroom.actors.kernel.contract.reasons import NoProcess
from greenroom.actors.kernel.contract.ref import DEFAULT_TIMEOUT_S, ActorRef
from greenroom.actors.kernel.engine import signals
from greenroom.actors.kernel.engine.calls import Incarnation
from greenroom.actors.kernel.engine.core import DeadLetter
from greenroom.actors.kernel.engine.process import Process
from greenroom.actors.kernel.engine.ties import Ties, TraceEvent
from greenroom.actors.kernel.requests import Request
from greenroom.actors.kernel.watching import Watching

SNAPSHOT_MAX = 10_000


class ActorStatistics(msgspec.Struct, frozen=True):
    """One actor, in numbers.

    Attributes:
        number: its own; no other incarnation shares it.
        actor: its class.
        name: the name it holds.
        state: "idle", "running", "starting", "suspended", "leaving" or "dead".
        waiting: messages in the mailbox.
        capacity: how many may wait there.
        handled: messages handled so far.
        owed: calls that a handler left to be answered later.
        links: linked actors, the parent included.
        monitors: who watches it.
        timers: messages of its own on their way.
        tasks: of ``pipe_to_self``, still running.
    """

    number: int
    actor: str
    name: str | None
    state: str
    waiting: int
    capacity: int
    handled: int
    owed: int
    links: int
    monitors: int
    timers: int
    tasks: int


class SystemStatistics(msgspec.Struct, frozen=True):
    """A system, in numbers; all but ``alive``, ``names`` and ``zombies`` only grow.

    Attributes:
        alive: actors that live.
        names: names that are held.
        started: actors made so far.
        exited: actors that have ended.
        dead_letters: messages that reached nobody.
        late_replies: replies to callers who had gone.
        second_replies: replies to calls that were answered already.
        zombies: tasks left behind because they swallow their cancellation, still running.
        zombies_seen: how many there have been.
        stalls: how often the loop was blocked for too long, if ``stall_s`` was given.
        restarts: how often supervisors have started a child again.
    """

    alive: int
    names: int
    started: int
    exited: int
    dead_letters: int
    late_replies: int
    second_replies: int
    zombies: int
    zombies_seen: int
    stalls: int
    restarts: int


class ActorSnapshot(msgspec.Struct, frozen=True):
    """One actor and those it started.

    Attributes:
        statistics: the actor in numbers.
        children: those it started, oldest first.
    """

    statistics: ActorStatistics
    children: "tuple[ActorSnapshot, ...]" = ()


class SystemSnapshot(msgspec.Struct, frozen=True):
    """The whole tree.

    Attributes:
        at: seconds since 1970, UTC.
        statistics: the system in numbers.
        actors: those that no living actor started, oldest first.
        left_out: actors beyond the snapshot's limit.
    """

    at: float
    statistics: SystemStatistics
    actors: tuple[ActorSnapshot, ...]
    left_out: int = 0


class Inspecting(Watching):
    """The part of ``ActorSystem`` that looks into actors."""

    def request(
        self, ref: ActorRef, message: Call[ReplyT], *, timeout: float | None = DEFAULT_TIMEOUT_S
    ) -> Request[ReplyT]:
        """Sends a call and returns at once; ``await request.wait()`` for the reply, or add it to ``Requests``.

        Args:
            ref: whom.
            message: what to ask.
            timeout: seconds after which the outcome is a ``TimeoutError``; None for never.
        """
        process = self.resolve(ref)
        if isinstance(process, Incarnation):
            envelope = process.request(message, timeout)
            return Request(envelope, envelope.future, self.core.clock)
        future: asyncio.Future[ReplyT] = self.core.loop.create_future()
        future.set_exception(ActorExited(NoProcess(), ref))
        return Request(None, future, self.core.clock)

    # --- system messages --------------------------------------------------------------------------------------------

    async def suspend(self, ref: ActorRef) -> None:
        """Lets an actor finish its message and handle no other until ``resume``. It still stops, and answers ``get_state``.

        Raises:
            ActorExited: it has ended.
            CallingSelf: from a handler of that actor.
        """
        await self._ask(ref, signals.Suspend)

    async def resume(self, ref: ActorRef) -> None:
        """Lets a suspended actor go on with what has come meanwhile, in order. Raises as ``suspend``."""
        await self._ask(ref, signals.Resume)

    async def get_state(self, ref: ActorRef) -> object:
        """An actor's state, as its ``format_state`` shows it: without secrets, and cut to size. Raises as ``suspend``."""
        return await self._ask(ref, signals.GetState)

    async def replace_state(
        self, ref: ActorRef, function: Callable[[dict[str, object]], Mapping[str, object]]
    ) -> object:
        """Puts ``function(attributes)`` in the place of an actor's attributes.

        What ``function`` raises goes to the caller, and the state stays as it was. Else raises as ``suspend``.

        Returns:
            The new state, as ``get_state`` shows it.
        """
        return await self._ask(ref, lambda process: signals.ReplaceState(process, function))

    async def trace(self, ref: ActorRef, events_max: int) -> None:
        """Keeps the last ``events_max`` messages that an actor handles; 0 ends it. A traced actor handles none in place.

        Raises:
            ValueError: ``events_max`` is negative.
            ActorExited: as ``suspend``.
        """
        if events_max < 0:
            raise ValueError(f"events_max is {events_max!r}; it must be a whole number >= 0")
        await self._ask(ref, lambda process: signals.Trace(process, events_max))

    def events(self, ref: ActorRef) -> tuple[TraceEvent, ...]:
        """What ``trace`` has kept, oldest first."""
        process = self.resolve(ref)
        return () if process is None or process.ties is None else tuple(process.ties.trace or ())

    async def _ask(self, ref: ActorRef, make: Callable[[Process], signals.Asking]) -> object:
        process = self.resolve(ref)
        if process is None or not process.alive:
            raise ActorExited(NoProcess(), ref)
        if self.core.current() is process:
            raise CallingSelf(ref)
        signal = make(process)
        process.post(signal)
        answer: object = await signal.answer
        return answer

    # --- numbers ----------------------------------------------------------------------------------------------------

    @property
    def dead_letters(self) -> tuple[DeadLetter, ...]:
        """The last messages that reached nobody, oldest first; ``statistics().dead_letters`` counts them all."""
        return tuple(self.core.recent_dead_letters)

    def statistics(self) -> SystemStatistics:
        """The system in numbers, now."""
        core = self.core
        return SystemStatistics(
            alive=len(core.processes),
            names=len(core.names),
            started=core.started,
            exited=core.exited,
            dead_letters=core.dead_letters,
            late_replies=core.late_replies,
            second_replies=core.second_replies,
            zombies=len(core.zombies),
            zombies_seen=core.zombies_seen,
            stalls=core.stalls,
            restarts=core.restarts,
        )

    def statistics_of(self, ref: ActorRef) -> ActorStatistics:
        """One actor in numbers, now, whatever it is doing.

        Raises:
            ActorExited: nobody holds the name.
        """
        process = self.resolve(ref)
        if process is None:
            raise ActorExited(NoProcess(), ref)
        return _statistics(process)

    def snapshot(self, *, actors_max: int = SNAPSHOT_MAX) -> SystemSnapshot:
        """The whole tree, now.

        Args:
            actors_max: how many actors to show at most, oldest first; ``left_out`` says how many there are beyond.
        """
        core = self.core
        shown = [process for process, _ in zip(core.processes, range(actors_max), strict=False)]
        children: dict[Process | None, list[Process]] = {}
        for process in shown:
            parent = process.parent if process.parent in core.processes else None
            children.setdefault(parent, []).append(process)
        made: dict[Process, ActorSnapshot] = {}
        for process in reversed(shown):  # an actor is older than those it started
            below = tuple(made[child] for child in children.get(process, ()))
            made[process] = ActorSnapshot(_statistics(process), below)
        roots = tuple(made[process] for process in children.get(None, ()))
        return SystemSnapshot(core.clock.time(), self.statistics(), roots, len(core.processes) - len(shown))

    def format_tree(self) -> str:
        """The tree for a person, one line an actor."""
        return format_tree(self.snapshot())


_NO_TIES = Ties()


def _statistics(process: Process) -> ActorStatistics:
    ties = process.ties or _NO_TIES
    return ActorStatistics(
        number=process.id,
        actor=process.table.owner,
        name=None if process.name is None else str(process.name),
        state=process.state,
        waiting=len(process.inbox or ()),
        capacity=process.capacity,
        handled=process.handled,
        owed=len(ties.owed),
        links=len(ties.links),
        monitors=len(ties.monitors),
        timers=len(ties.timers or ()),
        tasks=len(ties.pipes or ()),
    )


def format_tree(snapshot: SystemSnapshot) -> str:
    """A snapshot for a person, one line an actor."""
    lines: list[str] = []
    waiting = [(actor, 0) for actor in reversed(snapshot.actors)]
    while waiting:
        actor, depth = waiting.pop()
        figures = actor.statistics
        name = figures.name or f"#{figures.number}"
        load = f", {figures.waiting} waiting" if figures.waiting else ""
        lines.append(
            f"{'  ' * depth}{name} ({figures.actor}) {figures.state}{load}, {figures.handled} handled"
        )
        waiting.extend((child, depth + 1) for child in reversed(actor.children))
    if snapshot.left_out:
        lines.append(f"... and {snapshot.left_out} more")
    return "\n".join(lines)
