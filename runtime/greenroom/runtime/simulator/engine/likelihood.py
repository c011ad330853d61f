"""How sure the simulated model is of each token: made up, but always the same, and never surer of another."""

import zlib
from collections.abc import Iterable

import msgspec

_STEP = 1 / 256
_BETWEEN = 0.5


class Likely(msgspec.Struct, frozen=True):
    """A token and the natural logarithm of its probability; binary fractions, so that no wire rounds them."""

    token: str
    logprob: float
    others: tuple["Likely", ...] = ()


def likelihoods(tokens: Iterable[str], top: int) -> list[Likely]:
    """Each token with the `top` likeliest at its place, itself the first of them."""
    found: list[Likely] = []
    for token in tokens:
        chosen = Likely(token, -_STEP * (1 + zlib.crc32(token.encode()) % 100))
        others = [Likely(f"{token}{at}", chosen.logprob - _BETWEEN * at) for at in range(1, top)]
        found.append(Likely(token, chosen.logprob, (chosen, *others) if top else ()))
    return found
