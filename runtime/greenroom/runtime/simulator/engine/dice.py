"""Seeded choices: the same seed and request always fall the same way, whatever arrives before or beside it."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

_T = TypeVar("_T")
_MASK = (1 << 64) - 1


def uniform(seed: int, purpose: str, key: bytes, number: int = 0) -> float:
    """One number in [0, 1), fixed by its arguments.

    Args:
        seed: The simulator's seed.
        purpose: What the number decides ("latency", "fault"); other purposes are independent of it.
        key: The request's digest.
        number: The how-manieth draw for the same request and purpose, such as the attempt.
    """
    return _digest(seed, purpose, key, number) / (1 << 64)


def _digest(seed: int, purpose: str, key: bytes, number: int) -> int:
    text = b"%d\0%s\0%d\0%s" % (seed, purpose.encode(), number, key)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


class Dice:
    """A short sequence of choices for one answer.

    SplitMix64 (Steele, Lea and Flood 2014) and not `random.Random`: making one costs a hash of 1 us against 5 us
    for seeding a Mersenne Twister, and the sequence is the same on every Python version.
    """

    __slots__ = ("_state",)

    def __init__(self, seed: int, purpose: str, key: bytes, number: int = 0) -> None:
        self._state = _digest(seed, purpose, key, number)

    def below(self, limit: int) -> int:
        """A whole number in [0, limit)."""
        self._state = (self._state + 0x9E3779B97F4A7C15) & _MASK
        mixed = self._state
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        return ((mixed ^ (mixed >> 31)) * limit) >> 64

    def between(self, low: int, high: int) -> int:
        """A whole number in [low, high], both included."""
        return low + self.below(high - low + 1)

    def pick(self, options: Sequence[_T]) -> _T:
        """One of the options, which must not be empty."""
        return options[self.below(len(options))]

    def sample(self, options: Sequence[_T], count: int) -> list[_T]:
        """`count` different options (all of them when there are fewer), in an order of its own."""
        rest = list(options)
        return [rest.pop(self.below(len(rest))) for _ in range(min(count, len(rest)))]
