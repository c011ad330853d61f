"""What all actors of one system share: the loop, the clock, the turn's credit, names, and who lives."""

import asyncio
import contextvars
import logging
from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import TYPE_CHECKING

import msgspec

from greenroom.actors.kernel.contract.clock import Clock, TimerHandle
from greenroom.actors.kernel.engine.deadlines import Deadlines
from greenroom.actors.kernel.engine.named import Via

if TYPE_CHECKING:
    from greenroom.actors.kernel.contract.ref import ActorRef
    from greenroom.actors.kernel.engine.process import Process
    from greenroom.actors.kernel.engine.reports import Report
    from greenroom.actors.kernel.system import ActorSystem

CREDIT = 32
RENEWALS = 8
TURN_S = 0.0005
LINGER_S = 0.5
DEQUES_MAX = 256

log = logging.getLogger("greenroom.actors")


class DeadLetter(msgspec.Struct, frozen=True):
    """A message that reached nobody.

    Attributes:
        ref: whom it was meant for.
        message: what was sent.
        why: "dead", "unknown name", "overflow", "unhandled" or "left in the mailbox".
    """

    ref: "ActorRef"
    message: object
    why: str


class Core:
    """The shared state. One per system, touched only on the system's loop.

    A plain handler that runs on its caller's stack costs credit. ``CREDIT`` calls use it up; for one task it is renewed on the
    spot at most ``RENEWALS`` times and for ``TURN_S`` seconds, then its next call takes the mailbox, and with it the loop turns.
    Another task begins anew: the one before it has given up the loop already.
    """

    def __init__(self, system: "ActorSystem", clock: Clock, dead_letters_kept: int) -> None:
        self.system = system
        self.loop = asyncio.get_running_loop()
        self.clock = clock
        self.running: Process | None = None  # whose plain handler is on the stack
        self.credit = CREDIT
        self.renewals = 0
        self.renewed_for = 0
        self.turn_began = 0.0
        self.deadlines = Deadlines(clock)
        self.context = contextvars.copy_context()
        self.names: dict[object, Process] = {}
        self.name_waiters: dict[object, list[asyncio.Future[None]]] = {}
        self.processes: dict[Process, None] = {}
        self.owners: dict[asyncio.Task[object], Process] = {}
        self.zombies: dict[asyncio.Task[object], Process] = {}
        self.closing = False
        self.closed = False
        self.owner = asyncio.current_task()
        self.interrupted: BaseException | None = None
        self.started = 0
        self.exited = 0
        self.restarts = 0
        self.late_replies = 0
        self.second_replies = 0
        self.zombies_seen = 0
        self.stalls = 0
        self.monitors = 0
        self.dead_letters = 0
        self.recent_dead_letters: deque[DeadLetter] = deque(maxlen=dead_letters_kept)
        self.on_dead_letter: Callable[[DeadLetter], object] | None = None
        self.on_report: Callable[[Report], object] | None = None
        self.deques: list[deque[object]] = []  # empty mailboxes, for the next who needs one
        self.lingering: dict[Process, None] = {}
        self._leaving: dict[Process, None] = {}
        self._linger_timer: TimerHandle | None = None

    def interrupt(self, error: BaseException) -> None:
        """``KeyboardInterrupt``, ``SystemExit`` or a signal: who entered the system is cancelled, and leaves it in order.

        Leaving raises ``error`` when all actors have stopped. A ``KeyboardInterrupt`` while they stop already means that somebody
        does not want to wait for them: they are killed.
        """
        if self.closing:
            self.interrupted = self.interrupted or error
            if isinstance(error, KeyboardInterrupt):
                for process in tuple(self.processes):
                    process.kill()
        elif self.interrupted is None:
            self.interrupted = error
            if self.owner is not None:
                self.owner.cancel()

    # --- the turn ---------------------------------------------------------------------------------------------------

    def renew(self) -> bool:
        """Credit is used up: more of it unless this task has had its share, else False."""
        task = id(asyncio.current_task())
        if task != self.renewed_for or not self.renewals:
            self.renewed_for = task
            self.renewals = 0
            self.turn_began = perf_counter()
        elif self.renewals >= RENEWALS or perf_counter() - self.turn_began > TURN_S:
            return False
        self.renewals += 1
        self.credit = CREDIT
        return True

    def current(self) -> "Process | None":
        """The actor whose handler is running."""
        if self.running is not None:
            return self.running
        task = asyncio.current_task()
        return None if task is None else self.owners.get(task)

    # --- mailboxes and tasks on loan --------------------------------------------------------------------------------

    def linger(self, process: "Process") -> None:
        """``process`` has a task and nothing to do. One that stays so for half a second to a second loses its task."""
        self.lingering[process] = None
        if self._linger_timer is None:
            self._linger_timer = self.clock.call_later(LINGER_S, self._release_lingering)

    def _release_lingering(self) -> None:
        self._linger_timer = None
        for process in self._leaving:
            process.release()
        self._leaving, self.lingering = self.lingering, {}
        if self._leaving:
            self._linger_timer = self.clock.call_later(LINGER_S, self._release_lingering)

    # --- names ------------------------------------------------------------------------------------------------------

    def holder(self, name: object) -> "Process | None":
        """Who has the name, if it is not free."""
        holder = self.names.get(name)
        return name.registry.holder(name.key) if holder is None and isinstance(name, Via) else holder

    def register(self, name: object, process: "Process") -> None:
        """Gives ``process`` a free name and wakes who waits for it."""
        self.names[name] = process
        if isinstance(name, Via):
            name.registry.register(name.key, ref=process)  # which wakes the waiters
        else:
            self.wake_waiters(name)

    def wake_waiters(self, name: object) -> None:
        """Somebody holds ``name`` now."""
        for waiter in self.name_waiters.pop(name, ()):
            if not waiter.done():
                waiter.set_result(None)

    def unregister(self, name: object, process: "Process") -> None:
        """Frees the name, if it is still that process's."""
        if self.names.get(name) is process:
            del self.names[name]

    def wait_name(self, name: object) -> asyncio.Future[None]:
        """A future that is done when somebody takes ``name``; hand it to ``stop_waiting`` afterwards."""
        waiter = self.loop.create_future()
        self.name_waiters.setdefault(name, []).append(waiter)
        return waiter

    def stop_waiting(self, name: object, waiter: asyncio.Future[None]) -> None:
        """Nobody waits on ``waiter`` any more."""
        waiters = self.name_waiters.get(name)
        if waiters is not None and waiter in waiters:
            waiters.remove(waiter)
            if not waiters:
                del self.name_waiters[name]

    # --- messages to nobody -----------------------------------------------------------------------------------------

    def dead_letter(self, ref: "ActorRef", message: object, why: str) -> None:
        """Counts, keeps and logs a message that reached nobody."""
        self.dead_letters += 1
        letter = DeadLetter(ref, message, why)
        self.recent_dead_letters.append(letter)
        log.info("dead letter for %r (%s): %s", ref, why, type(message).__qualname__)
        hook = self.on_dead_letter
        if hook is not None:
            self.on_dead_letter = None  # what it sends to nobody in turn is counted, and not told to it
            try:
                hook(letter)
            except Exception:
                log.exception("the dead letter hook failed")
            finally:
                self.on_dead_letter = hook

    def close(self) -> None:
        """Forgets timers, lets tasks go, and wakes who waits for a name."""
        self.closed = True
        self.deadlines.close()
        if self._linger_timer is not None:
            self._linger_timer.cancel()
            self._linger_timer = None
        for process in [*self._leaving, *self.lingering]:
            process.release()
        self._leaving, self.lingering = {}, {}
        for waiters in self.name_waiters.values():
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)
