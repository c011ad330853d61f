"""Who empties a mailbox: a callback of the loop, or the actor's task, one of them at a time.

An idle actor has no task. A first message schedules ``drain``, a callback that runs plain handlers. The first message whose
handler is async starts the task (``_main``), which does the same work, can wait, and having nothing more to do lingers up to
a second before it goes.
"""

import asyncio
import functools
from collections.abc import Coroutine
from time import perf_counter
from typing import Any

from greenroom.actors.kernel.contract.errors import BadReturn, Refused, Stop, UndefinedHandler
from greenroom.actors.kernel.contract.messages import Call, Cast
from greenroom.actors.kernel.contract.reasons import NoProcess, crashed
from greenroom.actors.kernel.contract.ref import ANSWERED, BEGUN, Envelope, ReplyTo
from greenroom.actors.kernel.engine import exits
from greenroom.actors.kernel.engine.core import CREDIT, DEQUES_MAX, TURN_S, log
from greenroom.actors.kernel.engine.mailbox import Handed, Mailbox
from greenroom.actors.kernel.engine.ties import CAREFUL, DEAD, LEAVING, RUNNING, STARTING, SUSPENDED, Signal

# an async handler, the call it works on, what it handles, and whether it answers by returning
Job = tuple[Coroutine[Any, Any, object], Envelope | None, object, bool]

_BATCH = 64
_NOTHING: dict[type[Any], Any] = {}
_ENDING = LEAVING | DEAD | SUSPENDED


class Process(Mailbox):
    """An actor that lives, or has lived: the working half on top of the receiving one."""

    __slots__ = ()

    def obey(self, signal: Signal) -> None:
        """Obeys a system message at once, though messages wait."""
        if self.busy & DEAD:
            signal.lost(self, self.reason or NoProcess())
        else:
            signal.apply(self)

    def as_process(self) -> "Process":
        return self

    def kill(self) -> None:
        """Ends it without asking."""
        exits.kill(self)

    def drain(self) -> None:
        """Handles what waits, as a callback of the loop. Whatever has to wait is handed to the actor's task."""
        if self.inbox is None or self.busy & (DEAD | SUSPENDED) or self.task is not None:
            return
        job = None
        try:
            job = self._step()
        finally:
            if not self.busy & (DEAD | SUSPENDED):
                if job is not None or self.busy & LEAVING:
                    self.start_task(job)
                elif self.inbox:
                    self.core.loop.call_soon(self.drain, context=self.context)
                else:
                    self._rest()

    async def _main(self, job: Job | None) -> None:  # noqa: PLR0912, PLR0915  # one loop, kept flat for speed
        """The actor's task: as ``drain``, but it can wait."""
        core = self.core
        loop = core.loop
        task = asyncio.current_task()
        until = perf_counter() + TURN_S
        parked: asyncio.Future[Handed | bool] | None = None
        try:
            if self.busy & STARTING:
                await exits.initialise(self)
                if self.inbox is None and not self.busy & _ENDING:
                    self._rest()
                    return
            while not self.busy & _ENDING:
                if job is None:
                    if self.inbox:
                        if perf_counter() < until:
                            job = self._step()
                        if job is None:
                            if self.inbox:  # the loop's turn, also where no async handler ever waits
                                await asyncio.sleep(0)
                                until = perf_counter() + TURN_S
                            continue
                    else:
                        if self.inbox is None:  # as after a job that was handed over
                            self.busy &= ~RUNNING
                        else:
                            self._rest()
                        parked = self.parked = asyncio.Future(loop=loop)
                        if self not in core.lingering:
                            core.linger(self)
                        handed = await parked
                        if handed is True:
                            until = perf_counter() + TURN_S
                            continue
                        if handed is False:
                            return
                        if handed[1].future.done() and self.table.skips_abandoned:
                            handed[0].close()
                            self.current = None
                            continue
                        job = handed
                coroutine, envelope, message, answers = job
                job = None
                self.current = envelope
                try:
                    result = await coroutine
                except BaseException as error:
                    self._async_failed(error, envelope, message)
                else:
                    if self.busy & DEAD:  # given up as a zombie, and ended after all
                        return
                    if answers:
                        if envelope is not None:
                            self.answer(envelope, result)
                    elif result is not None:
                        self.crash(bad_return(message), message)
                    self.current = None
                if self.ties is not None and self.ties.room:
                    self.tell_room()
        except asyncio.CancelledError:
            exits.leave(self, exits.KILLED, terminate=False)
        finally:
            if parked is not None:
                _close_unbegun(parked)
            await self._leave_task(task)

    async def _leave_task(self, task: "asyncio.Task[Any] | None") -> None:
        try:
            if self.busy & LEAVING and not self.busy & DEAD:
                await exits.depart(self)
        finally:
            if task is not None:
                self.core.owners.pop(task, None)
            if self.task is task:
                self.task = self.parked = None
                if not self.busy & SUSPENDED:
                    self.proceed()

    def start_task(self, job: Job | None) -> None:
        """Starts the actor's task, or wakes it."""
        if self.task is None:
            self.task = task = self.core.loop.create_task(self._main(job), context=self.context)
            self.core.owners[task] = self
            task.add_done_callback(functools.partial(self._task_ended, job))
        elif self.parked is not None:
            self.schedule()

    def _task_ended(self, job: Job | None, task: "asyncio.Task[None]") -> None:
        """Sees to a task that was cancelled before its first step, and so never came to its end."""
        if self.core.owners.pop(task, None) is not None:
            if job is not None:
                job[0].close()
                self.current = job[1]
            if self.task is task:
                self.task = None
                exits.leave(self, exits.KILLED, terminate=False)

    def release(self) -> None:
        """Lets a lingering task go."""
        parked = self.parked
        if parked is not None and not parked.done():
            self.parked = self.task = None
            parked.set_result(False)

    def proceed(self) -> None:
        """Something was handled outside the mailbox; go on with what came meanwhile."""
        if self.busy & DEAD:
            return
        if self.inbox is None:
            self.busy &= ~RUNNING
        else:
            self.schedule()

    def _rest(self) -> None:
        inbox = self.inbox
        if inbox is not None:
            self.inbox = None
            deques = self.core.deques
            if len(deques) < DEQUES_MAX:
                deques.append(inbox)
        self.busy &= ~RUNNING
        if self.ties is not None and self.ties.room:
            self.tell_room()

    # --- messages ---------------------------------------------------------------------------------------------------

    def _step(self) -> Job | None:  # noqa: PLR0912  # one loop, kept flat for speed
        """Handles messages until one has to wait, none is left, the actor ends, or half a millisecond is over."""
        inbox = self.inbox
        assert inbox is not None
        core, actor = self.core, self.actor
        careful = self.busy & CAREFUL
        casts = _NOTHING if careful else self.table.casts
        item: object = None
        handled = 0
        until = 0.0
        core.running = self
        core.credit, core.renewals = CREDIT, 0  # the loop has turned
        try:
            while inbox:
                item = inbox.popleft()
                handled += 1
                kind = type(item)
                handler = casts.get(kind)
                if handler is None:
                    if isinstance(item, Envelope) and not item.stage and not careful:
                        job = self._handle_call(item)
                    else:
                        job = self._handle(item)
                        careful = self.busy & CAREFUL
                        casts = _NOTHING if careful else self.table.casts
                    if job is not None:
                        return job
                    if self.inbox is not inbox or self.busy & _ENDING:
                        return None
                elif handler(actor, item) is not None:
                    raise bad_return(item)  # noqa: TRY301  # it ends the actor like any other error of the handler
                if not handled % _BATCH:
                    now = perf_counter()
                    if not until:
                        until = now + TURN_S
                    elif now > until:
                        return None
        except Refused as error:  # of a cast: calls hand theirs to the caller
            self._refuse_nobody(error, item)
        except (KeyboardInterrupt, SystemExit) as error:
            self.interrupt(error)
        except BaseException as error:
            self.crash(error, item.message if isinstance(item, Envelope) else item)
        finally:
            core.running = None
            self.handled += handled
            if self.ties is not None and self.ties.room:
                self.tell_room()
        return None

    def _handle(self, item: object) -> Job | None:
        """Handles what is not simply a plain handler's cast."""
        if isinstance(item, Signal):
            self.handled -= 1  # it is counted with the messages around it, and is none
            item.apply(self)
            return None
        if self.busy & CAREFUL:
            exits.take_note(self, item)
        if isinstance(item, Envelope) and not item.stage:
            return self._handle_call(item)
        entry = self.table.entries.get(type(item))
        if entry is None:
            return self._handle_info(item)
        if entry.wants_reply:  # a Call that was cast: its answer is dropped
            result = entry.function(self.actor, item, self._answer_to_nobody(item))
        else:
            result = entry.function(self.actor, item)
        answers = entry.is_call and not entry.wants_reply
        if entry.is_async:
            return result, None, item, answers
        if result is not None and not answers:
            raise bad_return(item)
        return None

    def _handle_call(self, envelope: Envelope) -> Job | None:
        message = envelope.message
        if envelope.future.done() and self.table.skips_abandoned:
            return None
        envelope.stage = BEGUN
        entry = self.table.entries.get(type(message))
        try:
            if entry is None:
                raise self._undefined(type(message).__qualname__)  # noqa: TRY301  # as above
            if entry.wants_reply:
                self.tie().owed[envelope] = None
                result = entry.function(self.actor, message, envelope)
                if entry.is_async:
                    return result, envelope, message, False
                if result is not None:
                    raise bad_return(message)  # noqa: TRY301  # it ends the actor like any other error of the handler
            else:
                result = entry.function(self.actor, message)
                if entry.is_async:
                    return result, envelope, message, True
                self.answer(envelope, result)
        except BaseException as error:
            if not self.refused(envelope, error):
                self.current = envelope
                raise
        return None

    def _handle_info(self, item: object) -> Job | None:
        name = type(item).__qualname__
        if isinstance(item, (Call, Cast)):
            raise self._undefined(name)
        if self.table.informed:
            return self.actor.handle_info(item), None, item, False
        log.warning("%r has no handle_info; %s dropped", self, type(item).__qualname__)
        return None

    def _undefined(self, name: str) -> UndefinedHandler:
        return UndefinedHandler(f"{self.table.owner} has no handler for {name}")

    def _answer_to_nobody(self, message: object) -> ReplyTo[Any]:
        envelope: ReplyTo[Any] = ReplyTo(self, message, self.core.loop.create_future())
        envelope.stage = BEGUN
        envelope.future.cancel()
        return envelope

    # --- outcomes ---------------------------------------------------------------------------------------------------

    def _async_failed(self, error: BaseException, envelope: Envelope | None, message: object) -> None:
        """``error`` has left an async handler. Raises it if it is not the handler's own doing."""
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self.interrupt(error)
            return
        if self.busy & DEAD:
            return
        if isinstance(error, asyncio.CancelledError) and (
            (self.ties is not None and self.ties.killing)
            or (self.task is not None and self.task.cancelling())
        ):
            raise error
        if envelope is not None and self.refused(envelope, error):
            self.current = None
        elif envelope is None and isinstance(error, Refused):
            self._refuse_nobody(error, message)
        else:
            self.crash(error, message)

    def answer(self, envelope: Envelope, value: object) -> None:
        """Answers a call, or keeps the answer until ``terminate`` has run."""
        if self.busy & LEAVING:
            ties = self.tie()
            ties.answers = [*(ties.answers or ()), (envelope, value)]
            return
        envelope.stage = ANSWERED
        future = envelope.future
        if future.done():
            self.core.late_replies += 1
        else:
            future.set_result(value)

    def refused(self, envelope: Envelope, error: BaseException) -> bool:
        """Hands a refusal to the caller; False if ``error`` is none."""
        if not isinstance(error, Refused):
            return False
        self.paid(envelope)
        envelope.stage = ANSWERED
        if not envelope.future.done():
            envelope.future.set_exception(error)
        return True

    def _refuse_nobody(self, error: Refused, message: object) -> None:
        log.warning("%r refused %s, which nobody waits for: %s", self, type(message).__qualname__, error)

    def interrupt(self, error: BaseException) -> None:
        """A handler wants the whole program to end: no crash of this actor, whose caller will hear of its shutdown."""
        if self.current is not None:
            self.tie().owed[self.current] = None
            self.current = None
        self.core.interrupt(error)

    def crash(self, error: BaseException, message: object) -> None:
        """An exception has left a callback: the actor ends."""
        reason = error.reason if isinstance(error, Stop) else crashed(error)
        exits.leave(self, reason, terminate=True, message=message)


def _close_unbegun(parked: "asyncio.Future[Handed | bool]") -> None:
    """Closes a handler that the task was handed and, being cancelled, never began; one that has ended does not mind."""
    if parked.done() and not parked.cancelled():
        handed = parked.result()
        if not isinstance(handed, bool):
            handed[0].close()


def bad_return(message: object) -> BadReturn:
    """The error of a handler that must return None and did not."""
    return BadReturn(f"the handler of {type(message).__qualname__} must return None")
