"""One incarnation of an actor: its mailbox, and whoever empties it.

The rules that everything here serves:

- One message at a time, in order of arrival. ``RUNNING`` is set from the moment something is to be done until the
  mailbox is found empty; whoever finds it clear may start, and nobody else does.
- An idle actor has no task. A first message schedules ``_drain``, a callback that runs plain handlers. The first
  message with an async handler starts the actor's task (``_main``), which then does the same work and, having nothing
  more to do, lingers a second or two before it goes.
- A call that finds the actor idle runs a plain handler on the caller's stack. The mailbox is empty then, so nobody is
  overtaken; a plain handler cannot wait, so nothing interleaves; it runs in the actor's own context, so no context
  variable leaks; ``core.running`` keeps such calls from nesting; ``core.credit`` makes a tight caller queue now and then.
- An item of the mailbox is a bare message (cast or info), a ``ReplyTo`` (call), or a ``Signal`` (system message).
"""

import asyncio
import itertools
from collections import deque
from collections.abc import Coroutine
from time import perf_counter
from typing import TYPE_CHECKING, Any

from greenroom.actors.kernel import exits
from greenroom.actors.kernel.core import TURN_S, Core, log
from greenroom.actors.kernel.errors import (
    ActorExited,
    BadReturn,
    CallingSelf,
    Overloaded,
    Refused,
    Stop,
    UndefinedHandler,
)
from greenroom.actors.kernel.messages import Call, Cast, ReplyT
from greenroom.actors.kernel.reasons import ExitReason, NoProcess, crashed
from greenroom.actors.kernel.ref import DEFAULT_TIMEOUT_S, ActorRef, ReplyTo
from greenroom.actors.kernel.ties import CAREFUL, DEAD, LEAVING, RUNNING, STARTING, SUSPENDED, Signal, Ties

if TYPE_CHECKING:
    from greenroom.actors.kernel.actor import Actor

Job = tuple[
    Coroutine[Any, Any, object], ReplyTo[Any] | None, object
]  # an async handler, whom it answers, what it handles

_BATCH = 64
_NOTHING: dict[type, Any] = {}
_numbers = itertools.count(1)


class Process(ActorRef):
    """What ``start`` returns, typed as ``ActorRef``. Everything but the methods of ``ActorRef`` is the kernel's own."""

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
        self.busy = 0
        self.inbox: deque[object] | None = None
        self.capacity = capacity
        self.context = core.context.copy()
        self.task: asyncio.Task[None] | None = None
        self.parked: asyncio.Future[bool] | None = None
        self.current: ReplyTo[Any] | None = None
        self.ties: Ties | None = None
        self.name = name
        self.parent = parent
        self.id = next(_numbers)
        self.handled = 0
        self.reason: ExitReason | None = None

    # --- asking -----------------------------------------------------------------------------------------------------

    async def call(self, message: Call[ReplyT], *, timeout: float | None = DEFAULT_TIMEOUT_S) -> ReplyT:
        core = self.core
        handler = self.calls.get(type(message))
        if handler is None or self.busy or core.running is not None or not core.credit:
            return await self._call_queued(message, timeout)
        core.credit -= 1
        core.running = self
        self.busy = RUNNING
        try:
            reply: ReplyT = self.context.run(handler, self.actor, message)
        except BaseException as error:
            core.running = None
            return await self._fail_in_place(message, error)
        core.running = None
        self.handled += 1
        if self.inbox is None:
            self.busy ^= RUNNING
            return reply
        return await self._finish_in_place(message, reply)

    async def _call_queued(self, message: Call[ReplyT], timeout: float | None) -> ReplyT:
        core = self.core
        if not isinstance(message, Call):
            raise TypeError(f"only a Call can be called, not {message!r}; use cast")
        if timeout is not None and not timeout >= 0:
            raise ValueError(f"timeout must be seconds >= 0 or None, not {timeout!r}")
        if self.busy & DEAD:
            raise ActorExited(NoProcess(), self)
        if self.task is not None and self.parked is None and asyncio.current_task() is self.task:
            raise CallingSelf(self)
        in_place = not self.busy and core.running is None and (core.credit > 0 or core.renew())
        if in_place and type(message) in self.calls:
            return await self.call(message, timeout=timeout)
        envelope: ReplyTo[ReplyT] = ReplyTo(self, message, core.loop.create_future())
        entry = self.table.entries.get(type(message))
        if in_place and entry is not None and not entry.is_async:
            self._admit_in_place(entry.function, message, envelope)
        else:
            self._enqueue(envelope)
        return await self.reply_of(envelope, timeout)

    async def reply_of(self, envelope: ReplyTo[ReplyT], timeout: float | None) -> ReplyT:
        """Waits for the answer to a call that was sent."""
        future = envelope.future
        if timeout is None or future.done():
            handle = None
            timeout = None
        else:
            handle = self.core.deadlines.add(envelope, timeout)
        try:
            return await future
        except BaseException:
            self.paid(envelope)
            raise
        finally:
            if timeout is not None:
                self.core.deadlines.discard(envelope, timeout, handle)

    def request(self, message: Call[ReplyT]) -> ReplyTo[ReplyT]:
        """Sends a call without waiting. To the dead, the answer is there at once: ``ActorExited``."""
        envelope: ReplyTo[ReplyT] = ReplyTo(self, message, self.core.loop.create_future())
        if self.busy & DEAD:
            envelope.future.set_exception(ActorExited(NoProcess(), self))
        else:
            self._enqueue(envelope)
        return envelope

    def cast(self, message: object) -> None:
        inbox = self.inbox
        if inbox is None:
            if self.busy & DEAD:
                self.core.dead_letter(self, message, "dead")
                return
            self._open(message)
            return
        if len(inbox) >= self.capacity:
            self._make_room(inbox)
        inbox.append(message)

    async def send(self, message: object) -> None:
        while self.inbox is not None and len(self.inbox) >= self.capacity:
            if self.table.drops_oldest:
                break
            ties = self.tie()
            if ties.room is None:
                ties.room = deque()
            waiter = self.core.loop.create_future()
            ties.room.append(waiter)
            try:
                await waiter
            finally:
                if not waiter.done() or waiter.cancelled():
                    ties.room.remove(waiter)
                elif self.inbox is not None and len(self.inbox) < self.capacity:
                    self._tell_room()  # if this sender was cancelled just now, its turn goes to the next
        self.cast(message)

    @property
    def alive(self) -> bool:
        return not self.busy & DEAD

    # --- the caller's stack -----------------------------------------------------------------------------------------

    def _admit_in_place(self, handler: Any, message: object, envelope: ReplyTo[Any]) -> None:
        """Runs a plain handler that answers through ``envelope``."""
        core = self.core
        core.credit -= 1
        core.running = self
        self.busy = RUNNING
        envelope.begun = True
        self.tie().owed[envelope] = None
        error: BaseException | None = None
        try:
            if self.context.run(handler, self.actor, message, envelope) is not None:
                raise BadReturn(f"{handler.__qualname__} takes a ReplyTo and so must return None")
        except BaseException as caught:
            error = caught
        core.running = None
        self.handled += 1
        if error is not None and not self._refused(envelope, error):
            if isinstance(error, (KeyboardInterrupt, SystemExit)):
                self._proceed()
                raise error
            self.crash(error, message)
            return
        self._proceed()

    async def _fail_in_place(self, message: object, error: BaseException) -> Any:
        self.handled += 1
        if isinstance(error, (Refused, KeyboardInterrupt, SystemExit)):
            self._proceed()
            raise error
        self.current = envelope = ReplyTo[Any](self, message, self.core.loop.create_future())
        self.crash(error, message)
        return await self.reply_of(envelope, None)

    async def _finish_in_place(self, message: object, reply: ReplyT) -> ReplyT:
        """The handler left something in its own mailbox: a message to itself, or its wish to stop."""
        if not self.busy & LEAVING:
            self._proceed()
            return reply
        envelope: ReplyTo[ReplyT] = ReplyTo(self, message, self.core.loop.create_future())
        self._answer(envelope, reply)
        self._proceed()
        return await self.reply_of(envelope, None)

    def _proceed(self) -> None:
        """Something was handled outside the mailbox; go on with what came meanwhile."""
        if self.busy & DEAD:
            return
        if self.inbox is None:
            self.busy &= ~RUNNING
        else:
            self._schedule()

    # --- the mailbox ------------------------------------------------------------------------------------------------

    def _open(self, item: object) -> None:
        self.inbox = self.core.lend()
        self.inbox.append(item)
        if not self.busy & RUNNING:
            self._schedule()

    def _enqueue(self, item: object) -> None:
        inbox = self.inbox
        if inbox is None:
            self._open(item)
            return
        if len(inbox) >= self.capacity:
            self._make_room(inbox)
        inbox.append(item)

    def post(self, item: object) -> None:
        """Delivers what is never refused: signals, Down, Exit, timers, results of tasks."""
        if self.busy & DEAD:
            if isinstance(item, Signal):
                item.lost()
        elif self.busy & SUSPENDED and isinstance(item, Signal):
            self.core.loop.call_soon(self._obey, item, context=self.context)
        elif self.inbox is None:
            self._open(item)
        else:
            self.inbox.append(item)

    def push_front(self, item: object) -> None:
        """Delivers what comes before everything that waits."""
        if self.inbox is None:
            self._open(item)
        else:
            self.inbox.appendleft(item)

    def _make_room(self, inbox: deque[object]) -> None:
        if not self.table.drops_oldest:
            raise Overloaded(self, self.capacity)
        for index, item in enumerate(inbox):
            if not isinstance(item, Signal):
                del inbox[index]
                if not isinstance(item, ReplyTo) or item.begun:
                    self.core.dead_letter(self, item, "overflow")
                elif not item.future.done():
                    item.future.set_exception(Overloaded(self, self.capacity))
                return

    def _tell_room(self) -> None:
        ties = self.ties
        if ties is None or not ties.room:
            return
        free = self.capacity - len(self.inbox or ())
        for waiter in itertools.islice((w for w in tuple(ties.room) if not w.done()), max(free, 0)):
            waiter.set_result(None)
        while ties.room and ties.room[0].done():
            ties.room.popleft()

    def _schedule(self) -> None:
        self.busy |= RUNNING
        parked = self.parked
        if parked is not None:
            self.parked = None
            parked.set_result(True)
        elif not self.busy & SUSPENDED:
            self.core.loop.call_soon(self._drain, context=self.context)

    # --- emptying it ------------------------------------------------------------------------------------------------

    def _drain(self) -> None:
        """Handles what waits, as a callback of the loop. Whatever needs to wait is handed to the actor's task."""
        if self.inbox is None or self.busy & (DEAD | SUSPENDED) or self.task is not None:
            return
        job = None
        self.core.turned()
        try:
            job = self._step()
        finally:
            if not self.busy & (DEAD | SUSPENDED):
                if job is not None or self.busy & LEAVING:
                    self.start_task(job)
                elif self.inbox:
                    self.core.loop.call_soon(self._drain, context=self.context)
                else:
                    self._rest()

    async def _main(self, job: Job | None) -> None:
        """The actor's task: as ``_drain``, but it can wait."""
        core = self.core
        task = asyncio.current_task()
        try:
            if self.busy & STARTING:
                await exits.initialise(self)
                if not self.inbox and not self.busy & (LEAVING | DEAD | SUSPENDED):
                    self._rest()
                    return
            while True:
                if job is not None:
                    await self._serve(job)
                if self.busy & (LEAVING | DEAD | SUSPENDED):
                    break
                core.turned()
                job = self._step() if self.inbox else None
                if job is not None:
                    continue
                if self.busy & (LEAVING | DEAD | SUSPENDED):
                    break
                if self.inbox:
                    await asyncio.sleep(0)
                    continue
                self._rest()
                self.parked = parked = core.loop.create_future()
                core.linger(self)
                if not await parked:
                    return
        except asyncio.CancelledError:
            if not self.busy & DEAD:
                exits.leave(self, exits.KILLED, terminate=False)
        finally:
            await self._leave_task(task)

    async def _leave_task(self, task: "asyncio.Task[Any] | None") -> None:
        try:
            if self.busy & LEAVING and not self.busy & DEAD:
                await exits.depart(self)
        finally:
            if task is not None:
                self.core.owners.pop(task, None)
                self.core.zombies.pop(task, None)
            if self.task is task:
                self.task = self.parked = None
                if not self.busy & SUSPENDED:
                    self._proceed()

    def start_task(self, job: Job | None) -> None:
        """Starts the actor's task, or wakes it."""
        if self.task is None:
            self.task = self.core.loop.create_task(self._main(job), context=self.context)
            self.core.owners[self.task] = self
        elif self.parked is not None:
            self._schedule()

    def release(self) -> None:
        """Lets a lingering task go."""
        parked = self.parked
        if parked is not None:
            self.parked = self.task = None
            parked.set_result(False)

    def _rest(self) -> None:
        if self.inbox is not None:
            self.core.give_back(self.inbox)
            self.inbox = None
        self.busy &= ~RUNNING
        if self.ties is not None and self.ties.room:
            self._tell_room()

    def _step(self) -> Job | None:
        """Handles messages until one needs to wait, the mailbox is empty, the actor ends, or half a millisecond is over."""
        inbox = self.inbox
        assert inbox is not None
        core, actor = self.core, self.actor
        casts = self.table.casts
        item: object = None
        handled = 0
        until = 0.0
        core.running = self
        try:
            while inbox:
                item = inbox.popleft()
                handled += 1
                handler = None if self.busy & CAREFUL else casts.get(type(item))
                if handler is None:
                    job = self._handle(item)
                    if job is not None:
                        return job
                    if self.inbox is not inbox or self.busy & SUSPENDED:
                        return None
                elif handler(actor, item) is not None:
                    raise BadReturn(f"{handler.__qualname__} handles a cast and so must return None")
                if not handled % _BATCH:
                    now = perf_counter()
                    if not until:
                        until = now + TURN_S
                    elif now > until:
                        return None
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            self.crash(error, item)
        finally:
            core.running = None
            self.handled += handled
            if self.ties is not None and self.ties.room:
                self._tell_room()
        return None

    def _obey(self, signal: Signal) -> None:
        """Obeys a signal at once, though messages wait."""
        if self.busy & DEAD:
            signal.lost()
        else:
            signal.apply(self)

    # --- one message ------------------------------------------------------------------------------------------------

    def _handle(self, item: object) -> Job | None:
        if isinstance(item, Signal):
            item.apply(self)
            return None
        if self.busy & CAREFUL:
            exits.note(self, item)
        if type(item) is ReplyTo and not item.begun:
            return self._handle_call(item)
        entry = self.table.entries.get(type(item))
        if entry is None:
            return self._handle_info(item)
        if entry.wants_reply:  # a Call that was cast: its answer is dropped
            envelope = ReplyTo[Any](self, item, self.core.loop.create_future())
            envelope.begun = True
            envelope.future.cancel()
            result = entry.function(self.actor, item, envelope)
        else:
            result = entry.function(self.actor, item)
        if entry.is_async:
            return result, None, item
        if result is not None and not isinstance(item, Call):
            raise BadReturn(f"{entry.function.__qualname__} handles a cast and so must return None")
        return None

    def _handle_call(self, envelope: ReplyTo[Any]) -> Job | None:
        message = envelope.message
        envelope.begun = True
        if envelope.future.done() and self.table.skips_abandoned:
            return None
        entry = self.table.entries.get(type(message))
        try:
            if entry is None:
                raise UndefinedHandler(
                    f"{type(self.actor).__qualname__} has no handler for {type(message).__qualname__}"
                )
            if entry.wants_reply:
                self.tie().owed[envelope] = None
                result = entry.function(self.actor, message, envelope)
            else:
                result = entry.function(self.actor, message)
            if entry.is_async:
                return result, envelope, message
            self._conclude(envelope, result, owed=entry.wants_reply)
        except BaseException as error:
            if not self._refused(envelope, error):
                self.current = envelope
                raise
        return None

    def _handle_info(self, item: object) -> Job | None:
        if isinstance(item, (Call, Cast)):
            raise UndefinedHandler(
                f"{type(self.actor).__qualname__} has no handler for {type(item).__qualname__}"
            )
        if self.table.informed:
            return self.actor.handle_info(item), None, item
        log.warning("%r has no handle_info; %s dropped", self, type(item).__qualname__)
        return None

    async def _serve(self, job: Job) -> None:
        """Runs one async handler to its end."""
        coroutine, envelope, message = job
        self.current = envelope
        try:
            result = await coroutine
            if self.busy & DEAD:  # given up as a zombie, and ended after all
                return
            if envelope is None:
                if result is not None and not isinstance(message, Call):
                    raise BadReturn(f"the handler of {type(message).__qualname__} must return None")  # noqa: TRY301
            else:
                self._conclude(envelope, result, owed=self.ties is not None and envelope in self.ties.owed)
        except asyncio.CancelledError as error:
            if self.busy & (DEAD | LEAVING) or (self.task is not None and self.task.cancelling()):
                raise
            self.crash(error, message)
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            if self.busy & DEAD:
                return
            if envelope is None or not self._refused(envelope, error):
                if envelope is None and isinstance(error, Refused):
                    log.warning(
                        "%r refused %s, which nobody waits for: %s", self, type(message).__qualname__, error
                    )
                else:
                    self.crash(error, message)
                    return
        self.current = None
        if self.ties is not None and self.ties.room:
            self._tell_room()

    def _conclude(self, envelope: ReplyTo[Any], result: object, *, owed: bool) -> None:
        if owed or envelope.answered:
            if result is not None:
                raise BadReturn(
                    f"the handler of {type(envelope.message).__qualname__} takes a ReplyTo and so must return None"
                )
        else:
            self._answer(envelope, result)

    def _answer(self, envelope: ReplyTo[Any], value: object) -> None:
        if self.busy & LEAVING:
            ties = self.tie()
            ties.answers = [*(ties.answers or ()), (envelope, value)]
            return
        envelope.answered = True
        if envelope.future.done():
            self.core.late_replies += 1
        else:
            envelope.future.set_result(value)

    def _refused(self, envelope: ReplyTo[Any], error: BaseException) -> bool:
        """Hands a refusal to the caller; False if ``error`` is none."""
        if not isinstance(error, Refused):
            return False
        self.paid(envelope)
        envelope.answered = True
        if not envelope.future.done():
            envelope.future.set_exception(error)
        return True

    # --- the rest ---------------------------------------------------------------------------------------------------

    def crash(self, error: BaseException, message: object) -> None:
        """An exception left a callback: the actor ends."""
        reason = error.reason if isinstance(error, Stop) else crashed(error)
        exits.leave(self, reason, terminate=True, message=message)

    def tie(self) -> Ties:
        """The actor's ties, made if there were none."""
        if self.ties is None:
            self.ties = Ties()
        return self.ties

    def paid(self, envelope: ReplyTo[Any]) -> None:
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
        name = f" {self.name}" if self.name is not None else ""
        return f"<ActorRef{name} {self.table.owner} #{self.id} {self.state}>"
