"""Checks of what supervisors are told: one small one a field, before anything starts."""

import math
from typing import TypeGuard

from greenroom.actors.kernel import ActorError


class BadSpec(ActorError, ValueError):
    """A child's spec, or a supervisor's option, is wrong; the text says which field, what it is and what it may be."""


def check(right: object, field: str, value: object, expected: str) -> None:
    """Refuses ``value`` unless ``right``.

    Raises:
        BadSpec: naming the field, the value, and what it must be.
    """
    if not right:
        raise BadSpec(f"{field} is {value!r}; it must be {expected}")


def is_a(value: object, kind: type | tuple[type, ...]) -> bool:
    """``isinstance`` that does not trust annotations: specs come from callers who need not use a type checker."""
    return isinstance(value, kind)


def check_text(value: object, field: str) -> None:
    """Refuses what is no text, or empty. Raises as ``check``."""
    check(is_a(value, str) and value, field, value, "a text that is not empty")


def check_count(value: object, field: str, least: int = 0) -> None:
    """Refuses what is no whole number >= ``least``. Raises as ``check``."""
    whole = _is_number(value) and isinstance(value, int) and value >= least
    check(whole, field, value, f"a whole number >= {least}")


def check_seconds(value: object, field: str) -> None:
    """Refuses what is no number of seconds above 0. Raises as ``check``."""
    check(_is_number(value) and value > 0, field, value, "seconds > 0")


def check_number(value: object, field: str, expected: str, *, least: float, most: float = math.inf) -> None:
    """Refuses what is no number between ``least`` and ``most``. Raises as ``check``."""
    check(_is_number(value) and least <= value <= most, field, value, expected)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
