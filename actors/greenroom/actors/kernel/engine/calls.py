"""Calls, and the one short cut that makes them fast.

A call that finds the actor idle runs a plain handler at once on the caller's stack: no queue, no task switch. The rules of
the mailbox hold all the same. It is empty, so nobody is overtaken. A plain handler cannot wait, so nothing interleaves. It
runs in the actor's own context, so no context variable leaks, and an exception ends the actor, not the caller.
``core.running`` keeps such calls from nesting; ``core.credit`` makes a tight caller queue now and then, so the loop turns.

An async handler is handed, not begun, to the idle actor's task where that still lingers: there too nothing is queued.
"""

import asyncio

from greenroom.actors.kernel.contract.clock import check_seconds
from greenroom.actors.kernel.contract.errors import ActorExited, CallingSelf, Refused
from greenroom.actors.kernel.contract.messages import Call, ReplyT
from greenroom.actors.kernel.contract.reasons import NoProcess
from greenroom.actors.kernel.contract.ref import BEGUN, DEFAULT_TIMEOUT_S, Asked, Envelope, ReplyTo
from greenroom.actors.kernel.dispatch import Entry
from greenroom.actors.kernel.engine.process import Process, bad_return
from greenroom.actors.kernel.engine.ties import DEAD, RUNNING


class Incarnation(Process):
    """What ``start`` returns, typed as ``ActorRef``. What is not a method of ``ActorRef`` is the kernel's own."""

    __slots__ = ()

    async def call(
        self,
        message: Call[ReplyT],
        *,
        timeout: float | None = DEFAULT_TIMEOUT_S,  # noqa: ASYNC109  # a call imposes its own limit, as GenServer's does
    ) -> ReplyT:
        core = self.core
        handler = self.calls.get(type(message))
        if handler is not None and not self.busy and core.running is None and core.credit:
            core.credit -= 1
            core.running = self
            self.busy = RUNNING
            try:
                reply: ReplyT = self.context.run(handler, self.actor, message)
            except BaseException as error:
                core.running = None
                envelope = self._failed_in_place(message, error)
            else:
                core.running = None
                self.handled += 1
                if self.inbox is None:
                    self.busy ^= RUNNING
                    return reply
                envelope = self._replied_in_place(message, reply)
        else:
            envelope = self._submit(message, timeout)
        try:
            return await envelope.future
        except BaseException:
            self.paid(envelope)  # cancelled, refused or late: nothing is owed any more
            raise
        finally:
            if envelope.queue is not None:
                envelope.queue.pop(envelope, None)

    def call_now(self, message: Call[ReplyT]) -> ReplyT | None:
        core = self.core
        entry = self.table.entries.get(type(message))
        if self.busy or core.running is not None or entry is None or entry.is_async:
            return None
        if not core.credit and not core.renew():
            return None
        asked: Asked[ReplyT] | None = None
        reply: ReplyT | None = None
        core.credit -= 1
        core.running = self
        self.busy = RUNNING
        try:
            if entry.wants_reply:
                asked = Asked(self, message)
                if self.context.run(entry.function, self.actor, message, asked) is not None:
                    raise bad_return(message)  # noqa: TRY301  # it ends the actor like any other error of the handler
            else:
                reply = self.context.run(entry.function, self.actor, message)
        except Refused:
            core.running = None
            self.proceed()
            raise
        except (KeyboardInterrupt, SystemExit) as error:
            core.running = None
            self.interrupt(error)
        except BaseException as error:
            core.running = None
            self.crash(error, message)
        finally:
            self.handled += 1
        core.running = None
        self.proceed()
        return reply if asked is None else asked.outcome()

    def request(self, message: Call[ReplyT], timeout: float | None) -> ReplyTo[ReplyT]:
        """Sends a call without waiting. The error of one that cannot be sent stands in its future."""
        try:
            return self._submit(message, timeout)
        except (ActorExited, Refused, CallingSelf) as error:
            envelope = self._envelope(message)
            envelope.future.set_exception(error)
            return envelope

    def _submit(self, message: Call[ReplyT], timeout: float | None) -> ReplyTo[ReplyT]:
        """Sends a call: handles it at once if that is allowed, else queues it."""
        core = self.core
        if timeout is not None and not timeout >= 0:
            check_seconds(timeout)
        if self.busy & DEAD:
            raise ActorExited(NoProcess(), self)
        if self.task is not None and self.parked is None and asyncio.current_task() is self.task:
            raise CallingSelf(self)
        envelope: ReplyTo[ReplyT] = ReplyTo(self, message, asyncio.Future(loop=core.loop))
        entry = self.table.entries.get(type(message))
        if entry is None or not entry.is_call:
            _check_call(message)
        elif not entry.is_async and not self.busy and core.running is None and (core.credit or core.renew()):
            self._handle_in_place(entry, envelope)
            if timeout is not None and not envelope.future.done():
                core.deadlines.add(envelope, timeout)
            return envelope
        parked = self.parked
        if self.inbox is not None:
            self.enqueue(envelope)
        elif (
            parked is None
            or self.busy
            or parked.done()
            or entry is None
            or entry.wants_reply
            or not entry.is_async
        ):
            self.open(envelope)
        else:  # an idle actor whose task is there: it begins with this call, and no mailbox is needed
            self.busy = RUNNING
            self.parked = None
            self.current = envelope
            envelope.stage = BEGUN
            self.handled += 1
            parked.set_result((entry.function(self.actor, message), envelope, message, True))
        if timeout is not None:
            core.deadlines.add(envelope, timeout)
        return envelope

    def _envelope(self, message: Call[ReplyT]) -> ReplyTo[ReplyT]:
        envelope: ReplyTo[ReplyT] = ReplyTo(self, message, self.core.loop.create_future())
        envelope.stage = BEGUN
        return envelope

    # --- on the caller's stack --------------------------------------------------------------------------------------

    def _handle_in_place(self, entry: Entry, envelope: Envelope) -> None:
        """Runs a plain handler, with or without a ``ReplyTo``."""
        core = self.core
        core.credit -= 1
        core.running = self
        self.busy = RUNNING
        envelope.stage = BEGUN
        message = envelope.message
        try:
            if entry.wants_reply:
                self.tie().owed[envelope] = None
                if self.context.run(entry.function, self.actor, message, envelope) is not None:
                    raise bad_return(message)  # noqa: TRY301  # it ends the actor like any other error of the handler
            else:
                self.answer(envelope, self.context.run(entry.function, self.actor, message))
        except BaseException as error:
            core.running = None
            self._settle_failure(envelope, error)
        core.running = None
        self.handled += 1
        self.proceed()

    def _failed_in_place(self, message: Call[ReplyT], error: BaseException) -> ReplyTo[ReplyT]:
        """``error`` has left a handler. Raises a refusal; else the actor ends, and the call is answered with that."""
        self.handled += 1
        envelope = self._envelope(message)
        self._settle_failure(envelope, error)
        self.proceed()
        return envelope

    def _settle_failure(self, envelope: Envelope, error: BaseException) -> None:
        if isinstance(error, (KeyboardInterrupt, SystemExit)):
            self.current = envelope
            self.interrupt(error)
        elif not self.refused(envelope, error):
            self.current = envelope
            self.crash(error, envelope.message)

    def _replied_in_place(self, message: Call[ReplyT], reply: ReplyT) -> ReplyTo[ReplyT]:
        """The handler left something in its own mailbox: a message to itself, or its wish to stop."""
        envelope = self._envelope(message)
        self.answer(envelope, reply)
        self.proceed()
        return envelope


def _check_call(message: object) -> None:
    if not isinstance(message, Call):
        raise TypeError(f"only a Call can be called, not {message!r}; use cast")
