"""What actors say to each other: frozen msgspec Structs.

A ``Call`` names the type of its reply, a ``Cast`` expects none, and whatever else is delivered (``Down``, ``Exit``,
``Timeout``, results of ``pipe_to_self``, timers' messages, any object) is *info*.
"""

from typing import TYPE_CHECKING, Any, Generic, TypeVar, dataclass_transform

import msgspec

from greenroom.actors.kernel.contract.reasons import ExitReason

if TYPE_CHECKING:
    from greenroom.actors.kernel.contract.ref import ActorRef

ReplyT = TypeVar("ReplyT")
ReplyT_co = TypeVar("ReplyT_co", covariant=True)


@dataclass_transform(field_specifiers=(msgspec.field,))
class MessageMeta(msgspec.StructMeta):
    """msgspec's metaclass plus one keyword, ``resend``, which subclasses inherit."""

    __resend__: bool

    def __new__(  # noqa: PYI034  # a metaclass cannot use Self
        cls,
        name: str,
        bases: tuple[type, ...],
        namespace: dict[str, object],
        *,
        resend: bool | None = None,
        **options: Any,
    ) -> "MessageMeta":
        made = super().__new__(cls, name, bases, namespace, **options)
        made.__resend__ = (
            any(getattr(base, "__resend__", False) for base in bases) if resend is None else resend
        )
        return made


class Call(msgspec.Struct, Generic[ReplyT_co], metaclass=MessageMeta):
    """A message that is answered: ``class Increment(Call[int], frozen=True)``.

    ``resend=True`` as a class keyword marks a message that may be handled twice without harm (it carries an id, or only
    asks). Called through a ref by name, it waits out a restart and is sent again, within its timeout.
    """


class Cast(msgspec.Struct, metaclass=MessageMeta):
    """A message that nobody waits for: ``class Reset(Cast, frozen=True)``."""


class Down(msgspec.Struct, frozen=True):
    """A monitored actor has ended. Exactly one per monitor, also for an actor that was dead already.

    Attributes:
        ref: the actor, as it was given to ``monitor``.
        reason: why it ended; ``NoProcess()`` if it had ended before.
        monitor: what ``monitor`` returned.
    """

    ref: "ActorRef"
    reason: ExitReason
    monitor: int = 0


class Exit(msgspec.Struct, frozen=True):
    """A linked actor has ended, and this one traps exits.

    Attributes:
        ref: who ended; None if the signal was sent from outside any actor.
        reason: why.
    """

    ref: "ActorRef | None"
    reason: ExitReason


class Timeout(msgspec.Struct, frozen=True):
    """The time that ``set_timeout`` gave has passed without a message."""


class Piped(msgspec.Struct, frozen=True):
    """A task of ``pipe_to_self`` has ended.

    Attributes:
        tag: what the task was started with.
        value: what it returned.
        error: what it raised, or None.
    """

    tag: object
    value: object = None
    error: BaseException | None = None
