"""The states of an actor, and what most actors have none of: made when first needed, so that an idle one stays small."""

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Protocol

import msgspec

from greenroom.actors.kernel.contract.clock import TimerHandle
from greenroom.actors.kernel.contract.reasons import ExitReason

if TYPE_CHECKING:
    from greenroom.actors.kernel.contract.ref import ActorRef, Envelope
    from greenroom.actors.kernel.engine.process import Process
    from greenroom.actors.kernel.engine.timers import IdleTimer, Timer


RUNNING = 1  # somebody empties the mailbox, or is about to
STARTING = 2  # init has not returned
SUSPENDED = 4  # messages wait, signals do not
CAREFUL = 8  # traced, or with an idle timeout: nothing may run on a caller's stack
LEAVING = 16  # a reason to end is known
DEAD = 32


class Signal:
    """A system message: it takes its place in the mailbox, is never refused, and is obeyed while suspended."""

    __slots__ = ()

    def apply(self, process: "Process") -> None:
        """Does what it says to a living ``process``."""
        raise NotImplementedError

    def lost(self, process: "Process", reason: ExitReason) -> None:
        """The actor ended, for ``reason``, before this was read."""


class Forgets(Protocol):
    """What keeps entries of an actor and drops them when it ends."""

    def forget(self, process: "Process") -> None:
        """``process`` has ended."""


class Monitor(msgspec.Struct, frozen=True, eq=False):
    """One actor, or one waiting task, that is to be told when another ends.

    Attributes:
        number: what ``monitor`` returned.
        ref: the watched actor, as it was given to ``monitor``.
        target: the watched incarnation.
        watcher: the actor that gets the ``Down``, or the future that does.
    """

    number: int
    ref: "ActorRef"
    target: "Process"
    watcher: "Process | asyncio.Future[ExitReason]"


class TraceEvent(msgspec.Struct, frozen=True):
    """One message that a traced actor handled.

    Attributes:
        at_s: when, by the clock's ``monotonic``.
        kind: "call", "cast" or "info".
        message: the class of the message.
    """

    at_s: float
    kind: str
    message: str


class Leaving(msgspec.Struct):
    """How an actor that has begun to end will end.

    Attributes:
        reason: why, unless ``terminate`` fails.
        terminate: whether ``terminate`` is to run.
        message: what was being handled when it crashed, for the report.
        quiet: whether the reason is another actor's, which has reported it.
        limited: whether ``terminate`` has the time that its class says; who stops it from outside keeps the time instead, as
            long as its parent lives.
    """

    reason: ExitReason
    terminate: bool
    message: object = None
    limited: bool = True
    quiet: bool = False


class Ties:
    """Links, monitors, timers, tasks, debts and exceptional states of one actor."""

    __slots__ = (
        "answers",
        "idle",
        "killing",
        "leaving",
        "links",
        "monitors",
        "owed",
        "pipes",
        "registries",
        "room",
        "started",
        "timers",
        "trace",
        "traps",
        "watchdog",
        "watches",
    )

    def __init__(self) -> None:
        self.links: dict[Process, None] = {}
        self.monitors: dict[int, Monitor] = {}  # who watches this actor
        self.watches: dict[int, Monitor] = {}  # whom this actor watches
        self.owed: dict[Envelope, None] = {}  # calls that a handler left to be answered later
        self.traps = False
        self.killing = 0  # how often the handler has been cancelled by a kill
        self.leaving: Leaving | None = None
        self.answers: list[tuple[Envelope, object]] | None = None  # replies held back until terminate has run
        self.pipes: set[asyncio.Task[None]] | None = None
        self.timers: set[Timer] | None = None
        self.room: deque[asyncio.Future[None]] | None = None  # senders that wait for room in the mailbox
        self.started: asyncio.Future[None] | None = None  # set while init runs
        self.registries: set[Forgets] | None = None
        self.idle: IdleTimer | None = None
        self.trace: deque[TraceEvent] | None = None
        self.watchdog: TimerHandle | None = None  # kills it, or kills it again

    def start_trace(self, events_max: int) -> None:
        """Keeps the last ``events_max`` events; those kept already stay, as far as there is room."""
        self.trace = deque(self.trace or (), maxlen=events_max)
