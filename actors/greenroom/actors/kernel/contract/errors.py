"""Every exception the kernel raises, and whose doing it is.

::

    ActorError
    ├── ActorExited     theirs: the actor ended before it answered, or there was none
    ├── Refused         theirs: the handler says no and lives on; subclass it for your own refusals
    │   └── Overloaded  theirs: the mailbox is full; slow down, or use ``send``
    ├── CallingSelf     yours: a handler called its own actor, which could never answer
    ├── NameTaken       yours: another actor holds the name
    ├── StartFailed     theirs: ``__init__`` or ``init`` failed, or took too long
    ├── Ignored         ``init`` decided that the actor is not needed
    └── SystemClosed    yours: the actor system is not open, or is shutting down
    Stop                no error: raised by a callback to end its actor

A call that is not answered in time raises the built-in ``TimeoutError``.
"""

from typing import TYPE_CHECKING

from greenroom.actors.kernel.contract.reasons import Crashed, ExitReason

if TYPE_CHECKING:
    from greenroom.actors.kernel.contract.ref import ActorRef


class ActorError(Exception):
    """The base of the kernel's errors."""


class ActorExited(ActorError):
    """The actor ended before it answered, or was not there to begin with.

    Attributes:
        reason: why it ended; ``NoProcess()`` if it had ended before the message was sent.
        ref: the actor, as the caller addressed it.
    """

    def __init__(self, reason: ExitReason, ref: "ActorRef") -> None:
        super().__init__(reason, ref)
        self.reason = reason
        self.ref = ref
        if isinstance(reason, Crashed):
            self.__cause__ = reason.exception

    def __str__(self) -> str:
        return f"{self.ref!r} exited: {self.reason!r}"


class Refused(ActorError):
    """A handler's "no". The caller gets it, the actor lives on. Raise a subclass that says what was refused."""


class Overloaded(Refused):
    """The mailbox is full. The message was not taken: slow down, drop it, or wait for room with ``ref.send``."""

    def __init__(self, ref: "ActorRef", capacity: int) -> None:
        super().__init__(ref, capacity)
        self.ref = ref
        self.capacity = capacity

    def __str__(self) -> str:
        return f"the mailbox of {self.ref!r} is full ({self.capacity} messages)"


class CallingSelf(ActorError):
    """A handler would wait for its own actor, which handles one message at a time and so could never answer."""

    def __init__(self, ref: "ActorRef") -> None:
        super().__init__(ref)
        self.ref = ref

    def __str__(self) -> str:
        return f"a handler of {self.ref!r} would wait for itself; call the method directly, or cast"


class NameTaken(ActorError):
    """Another living actor holds the name.

    Attributes:
        name: the name that was asked for.
        ref: who holds it.
    """

    def __init__(self, name: object, ref: "ActorRef") -> None:
        super().__init__(name, ref)
        self.name = name
        self.ref = ref

    def __str__(self) -> str:
        return f"the name {self.name!r} is taken by {self.ref!r}"


class StartFailed(ActorError):
    """An actor did not start: its constructor or ``init`` failed, or ``init`` took longer than it may.

    Attributes:
        reason: why; ``Crashed(TimeoutError())`` for an ``init`` that took too long.
        what: the class, or the child's id, that failed to start.
    """

    def __init__(self, reason: ExitReason, what: object) -> None:
        super().__init__(reason, what)
        self.reason = reason
        self.what = what
        if isinstance(reason, Crashed):
            self.__cause__ = reason.exception

    def __str__(self) -> str:
        what = self.what.__qualname__ if isinstance(self.what, type) else repr(self.what)
        return f"{what} did not start: {self.reason!r}"


class Ignored(ActorError):
    """Raise it in ``init`` when the actor turns out not to be needed: no process stays, and nothing is reported.

    ``start`` raises it to its caller; a supervisor keeps the child's spec and starts nothing.
    """


class SystemClosed(ActorError):
    """The actor system is not open: ``async with ActorSystem()`` has not been entered, or is being left."""


class UndefinedHandler(ActorError):
    """A Call or Cast reached an actor that has no handler for it. The actor ends, as a GenServer would."""


class BadReturn(ActorError):
    """A callback that must return None returned something else. The actor ends: its code is wrong."""


class Stop(BaseException):
    """Raise it in a callback to end the actor with ``reason``; a waiting caller gets ``ActorExited(reason)``.

    To end it with an answer, call ``self.stop(reason)`` and return the answer.
    """

    def __init__(self, reason: ExitReason) -> None:
        super().__init__(reason)
        self.reason = reason
