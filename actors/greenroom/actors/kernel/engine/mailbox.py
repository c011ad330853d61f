"""One incarnation of an actor: its state, and what reaches it.

An item of the mailbox is a bare message (cast or info), a ``ReplyTo`` (call), or a ``Signal`` (system message). There is no
mailbox while nothing waits: ``inbox`` is None then. If there is one, ``RUNNING`` is set, and somebody will empty it.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from greenroom.actors.kernel.contract.errors import CallingSelf, Overloaded
from greenroom.actors.kernel.contract.reasons import ExitReason, NoProcess
from greenroom.actors.kernel.contract.ref import ActorRef, Envelope
from greenroom.actors.kernel.engine.core import Core
from greenroom.actors.kernel.engine.ties import DEAD, LEAVING, RUNNING, STARTING, SUSPENDED, Signal, Ties

if TYPE_CHECKING:
    from greenroom.actors.kernel.actor import Actor
    from greenroom.actors.kernel.engine.process import Process

# a call that an idle actor's task is woken with: its async handler, not begun; the call; its message; that it answers by returning
Handed = tuple[Coroutine[Any, Any, object], Envelope, object, bool]

_numbers = itertools.count(1)


class Mailbox(ActorRef):
    """The receiving half of ``Process``."""

    __slots__ = (
        "actor",
        "busy",
        "calls",
        "capacity",
        "context",
        "core",
        "current",
        "handled",
        "id",
        "inbox",
        "name",
        "parent",
        "parked",
        "reason",
        "table",
        "task",
        "ties",
    )

    def __init__(
        self, core: Core, actor: "Actor", *, name: object, parent: "Process | None", capacity: int
    ) -> None:
        self.core = core
        self.actor: Actor = actor
        self.table = actor.__table__
        self.calls = self.table.calls
        self.busy: int = 0
        self.inbox: deque[object] | None = None
        self.capacity = capacity
        self.context = core.context.copy()
        self.task: asyncio.Task[None] | None = None
        self.parked: asyncio.Future[Handed | bool] | None = (
            None  # what the task waits on while there is nothing to do
        )
        self.current: Envelope | None = None  # the call that an async handler is working on
        self.ties: Ties | None = None
        self.name = name
        self.parent = parent
        self.id = next(_numbers)
        self.handled: int = 0
        self.reason: ExitReason | None = None

    # --- sending ----------------------------------------------------------------------------------------------------

    def cast(self, message: object) -> None:
        inbox = self.inbox
        if inbox is None:
            if self.busy & DEAD:
                self.core.dead_letter(self, message, "dead")
            else:
                self.open(message)
            return
        if len(inbox) >= self.capacity:
            self._make_room(inbox)
        inbox.append(message)

    def cast_from_loop(self, message: object) -> None:
        self.cast(message)
        if self.core.running is None and asyncio.current_task(self.core.loop) is None:
            self.context.run(self.drain)

    async def send(self, message: object) -> None:
        while self.inbox is not None and len(self.inbox) >= self.capacity and not self.table.drops_oldest:
            if self.core.current() is self:
                raise CallingSelf(self)
            ties = self.tie()
            if ties.room is None:
                ties.room = deque()
            waiter = self.core.loop.create_future()
            ties.room.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                self.tell_room()  # if it was this sender's turn, it is the next one's now
                raise
        self.cast(message)

    @property
    def alive(self) -> bool:
        return not self.busy & DEAD

    def enqueue(self, envelope: Envelope) -> None:
        """Delivers a call, or raises ``Overloaded``."""
        inbox = self.inbox
        if inbox is None:
            self.open(envelope)
        else:
            if len(inbox) >= self.capacity:
                self._make_room(inbox)
            inbox.append(envelope)

    def post(self, item: object) -> None:
        """Delivers what is never refused: signals, Down, Exit, timers, results of tasks."""
        if self.busy & DEAD:
            if isinstance(item, Signal):
                item.lost(self.as_process(), NoProcess())
        elif self.busy & SUSPENDED and isinstance(item, Signal):
            self.core.loop.call_soon(self.obey, item, context=self.context)
        elif self.inbox is None:
            self.open(item)
        else:
            self.inbox.append(item)

    def push_front(self, item: object) -> None:
        """Delivers what comes before everything that waits."""
        if self.inbox is None:
            self.open(item)
        else:
            self.inbox.appendleft(item)

    def open(self, item: object) -> None:
        """Delivers the first item, and sees to it that the mailbox will be emptied."""
        deques = self.core.deques
        inbox: deque[object] = deques.pop() if deques else deque()
        self.inbox = inbox
        inbox.append(item)
        if not self.busy & RUNNING:
            parked = self.parked
            if parked is None or parked.done():
                self.schedule()
            else:
                self.busy |= RUNNING
                self.parked = None
                parked.set_result(True)

    def schedule(self) -> None:
        """Lets the mailbox be emptied on the loop's next turn."""
        self.busy |= RUNNING
        parked = self.parked
        if parked is not None:
            self.parked = None
            if not parked.done():  # else somebody has cancelled the task, and it is about to end
                parked.set_result(True)
        elif not self.busy & SUSPENDED:
            self.core.loop.call_soon(self.drain, context=self.context)

    def drain(self) -> None:
        """Empties the mailbox."""
        raise NotImplementedError

    def obey(self, signal: Signal) -> None:
        """Obeys a system message at once, though messages wait."""
        raise NotImplementedError

    def as_process(self) -> "Process":
        """This, under its full type."""
        raise NotImplementedError

    # --- room -------------------------------------------------------------------------------------------------------

    def _make_room(self, inbox: deque[object]) -> None:
        if not self.table.drops_oldest:
            raise Overloaded(self, self.capacity)
        for index, item in enumerate(inbox):
            if isinstance(item, Signal):
                continue
            del inbox[index]
            if isinstance(item, Envelope) and not item.stage:
                if not item.future.done():
                    item.future.set_exception(Overloaded(self, self.capacity))
            else:
                self.core.dead_letter(self, item, "overflow")
            return

    def tell_room(self) -> None:
        """Wakes as many waiting senders as there is room for."""
        ties = self.ties
        if ties is None or not ties.room:
            return
        free = self.capacity - len(self.inbox or ())
        while ties.room and free > 0:
            waiter = ties.room.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free -= 1

    # --- the rest ---------------------------------------------------------------------------------------------------

    def tie(self) -> Ties:
        """The actor's ties, made if there were none."""
        if self.ties is None:
            self.ties = Ties()
        return self.ties

    def paid(self, envelope: Envelope) -> None:
        """``envelope`` is answered, or nobody waits for it any more."""
        if self.ties is not None:
            self.ties.owed.pop(envelope, None)

    @property
    def state(self) -> str:
        """One word for an operator."""
        busy = self.busy
        for flag, word in (
            (DEAD, "dead"),
            (LEAVING, "leaving"),
            (STARTING, "starting"),
            (SUSPENDED, "suspended"),
        ):
            if busy & flag:
                return word
        return "running" if busy & RUNNING else "idle"

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name}"
        return f"<ActorRef{name} {self.table.owner} #{self.id} {self.state}>"
