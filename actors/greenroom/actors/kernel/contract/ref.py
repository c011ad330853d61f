"""How actors are addressed, and how they answer."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Generic

from greenroom.actors.kernel.contract.messages import Call, ReplyT
from greenroom.actors.kernel.engine.deadlines import Queue

if TYPE_CHECKING:
    from greenroom.actors.kernel.engine.process import Process

DEFAULT_TIMEOUT_S = 5.0
BEGUN = 1  # a handler has it
ANSWERED = 2
_GONE = 3  # who asked does not wait

_log = logging.getLogger("greenroom.actors")


class ActorRef:
    """The address of an actor. ``ActorSystem`` makes them; compare, keep and send them freely.

    A ref that ``start`` returned means one incarnation and dies with it. A ref by name (``system.named``,
    ``system.whereis``) means whoever holds the name when a message is sent.
    """

    __slots__ = ()

    def call(
        self, message: Call[ReplyT], *, timeout: float | None = DEFAULT_TIMEOUT_S
    ) -> Coroutine[Any, Any, ReplyT]:
        """Sends ``message`` and waits for the reply.

        Args:
            message: what to ask.
            timeout: seconds to wait for the reply; None waits for ever.

        Returns:
            What the handler returned, or gave to its ``ReplyTo``.

        Raises:
            ActorExited: the actor ended before it answered, or had ended before.
            Refused: the handler's refusal; ``Overloaded`` if the mailbox was full and the message was not taken.
            CallingSelf: a handler called its own actor.
            TimeoutError: no reply in time. A later one is dropped.
            SystemClosed: the actor system has been left.

        **Cancelled, or timed out, the call may have happened all the same:** a message still in the mailbox is withdrawn,
        but a handler that has begun goes on to its end, and its reply is dropped.
        """
        raise NotImplementedError

    def call_now(self, message: Call[ReplyT]) -> ReplyT | None:
        """The reply, if the actor is idle and its plain handler answers at once; else None, and ``call`` is to follow.

        It costs a fraction of a ``call``. A handler that takes a ``ReplyTo`` may have begun all the same when this returns
        None: so it is for messages that may be sent twice (``resend=True``), and for replies that are never None.

        Raises:
            Refused: the handler's refusal.
        """
        raise NotImplementedError

    def cast(self, message: object) -> None:
        """Sends ``message`` and returns at once. Never waits; to the dead it is a counted dead letter.

        A ``Cast`` goes to its handler, any other object to ``handle_info``. A ``Call`` may be cast: its reply is dropped.

        Raises:
            Overloaded: the mailbox is full, and the actor does not drop its oldest messages.
        """
        raise NotImplementedError

    def cast_from_loop(self, message: object) -> None:
        """The ``cast`` for bare callbacks of the event loop: timers, ``call_soon_threadsafe``. An idle actor's plain handler runs at once.

        A ``cast`` leaves it to the loop's next turn, and until then every call queues that could have been handled on
        its caller's stack. Anywhere else than in such a callback this is a ``cast``.

        Raises:
            Overloaded: as ``cast``.
        """
        raise NotImplementedError

    async def send(self, message: object) -> None:
        """The cast that waits for room in a full mailbox. Cancelled while it waits, nothing was sent.

        Raises:
            CallingSelf: the mailbox is full, and its own actor's handler, which keeps it from being emptied, would wait.
        """
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        """Whether a message sent now would reach an actor that has not ended."""
        raise NotImplementedError


class Envelope:
    """A call on its way, and whom to answer. To handlers it is a ``ReplyTo``."""

    __slots__ = ("future", "message", "process", "queue", "stage")

    def __init__(self, process: "Process", message: object, future: asyncio.Future[Any]) -> None:
        self.process = process
        self.message = message
        self.future = future
        self.queue: Queue | None = None  # where it waits for its deadline
        self.stage = 0  # in the mailbox; once begun, it is an object like any other

    def expire(self, limit_s: float) -> None:
        """The caller's time is up."""
        if not self.future.done():
            what = type(self.message).__qualname__
            self.future.set_exception(
                TimeoutError(f"{self.process!r} did not answer {what} within {limit_s:g} s")
            )


class ReplyTo(Envelope, Generic[ReplyT]):
    """The right to answer one call, once, from anywhere, also after the handler has returned.

    A handler gets it by taking a second parameter annotated so. It is not made by hand.
    """

    __slots__ = ()

    future: asyncio.Future[ReplyT]

    @property
    def abandoned(self) -> bool:
        """True once nobody waits: the caller was cancelled or has timed out, or the call was answered."""
        return self.future.done()

    def reply(self, value: ReplyT) -> bool:
        """Answers the call. Returns False, and does nothing, if the caller has gone.

        A second answer is refused: logged, counted, and False.
        """
        if not self._first():
            return False
        self.future.set_result(value)
        return True

    def refuse(self, error: Exception) -> bool:
        """Answers the call with ``error``, which the caller's ``call`` raises; a subclass of ``Refused`` as a rule."""
        if not self._first():
            return False
        self.future.set_exception(error)
        return True

    def _first(self) -> bool:
        core = self.process.core
        self.process.paid(self)
        if self.stage == ANSWERED:
            core.second_replies += 1
            _log.warning("second reply to %s of %r refused", type(self.message).__qualname__, self.process)
            return False
        self.stage = ANSWERED
        if self.future.done():
            core.late_replies += 1
            return False
        return True

    def __repr__(self) -> str:
        state = "answered" if self.stage == ANSWERED else "abandoned" if self.abandoned else "open"
        return f"<ReplyTo {type(self.message).__qualname__} of {self.process!r} {state}>"


class Asked(ReplyTo[ReplyT]):
    """The right to answer a ``call_now``: while the handler runs, and no longer, since nobody waits. So it needs no future."""

    __slots__ = ("error", "value")

    def __init__(self, process: "Process", message: object) -> None:
        self.process = process
        self.message = message
        self.queue = None
        self.stage = BEGUN
        self.value: ReplyT | None = None
        self.error: Exception | None = None

    def outcome(self) -> ReplyT | None:
        """The reply, or None if there was none so far. Raises the refusal."""
        if self.stage == BEGUN:
            self.stage = _GONE
        if self.error is not None:
            raise self.error
        return self.value

    @property
    def abandoned(self) -> bool:
        return self.stage != BEGUN

    def reply(self, value: ReplyT) -> bool:
        if self._first():
            self.value = value
            return True
        return False

    def refuse(self, error: Exception) -> bool:
        if self._first():
            self.error = error
            return True
        return False

    def _first(self) -> bool:
        if self.stage == BEGUN:
            self.stage = ANSWERED
            return True
        if self.stage == _GONE:
            self.process.core.late_replies += 1
            return False
        return super()._first()
