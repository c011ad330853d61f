"""Why an actor ended. Reasons are values: compare them, match on them, send them."""

from typing import cast

import msgspec


class ExitReason(msgspec.Struct, frozen=True):
    """The base of every exit reason. A subclass of your own counts as abnormal unless ``clean`` says otherwise."""

    @property
    def clean(self) -> bool:
        """True for the exits that need no crash report and no restart of a transient child."""
        return False


class Normal(ExitReason, frozen=True):
    """The actor did its work and ended. Linked actors that do not trap exits never notice."""

    @property
    def clean(self) -> bool:
        return True


class Shutdown(ExitReason, frozen=True):
    """The actor was asked to end, by its supervisor as a rule. ``detail`` may say what for."""

    detail: object = None

    @property
    def clean(self) -> bool:
        return True


class Killed(ExitReason, frozen=True):
    """The actor was ended without being asked: ``terminate`` did not run."""


class NoProcess(ExitReason, frozen=True):
    """There was nobody: the actor had ended before, or nobody held the name."""


class Crashed(ExitReason, frozen=True):
    """An exception left a callback.

    Attributes:
        exception: what was raised, with its traceback. An exception group of one stands here as its only member.
    """

    exception: BaseException


def crashed(error: BaseException) -> Crashed:
    """The reason for ``error``, without the groups of one that task groups wrap around a single failure."""
    while len(members := _members(error)) == 1:
        error = members[0]
    return Crashed(error)


def _members(error: BaseException) -> tuple[BaseException, ...]:
    if not isinstance(error, BaseExceptionGroup):
        return ()
    return cast("tuple[BaseException, ...]", error.exceptions)  # pyright: ignore[reportUnknownMemberType]  # of any kind
