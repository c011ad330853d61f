"""How long an answer takes: a distribution written as text, and seeded samples of it.

Grammar, terms joined by `+`:
    50ms, 1.5s, 0.05                  always this long (a bare number is seconds)
    uniform(0.1, 0.4)                 anywhere between
    lognormal(p50=0.4, p95=1.2)       the long tail of real providers, given by its median and 95th percentile
    per_token(20ms)                   for each token of the answer; a stream is paced by it
    tokens_per_s(50)                  the same, the other way round
"""

import math
import re
from statistics import NormalDist
from typing import Literal

import msgspec

MAX_S = 3_600.0
_TERM = re.compile(r"(?:(?P<name>[a-z_]+)\s*\((?P<arguments>[^()]*)\)|(?P<fixed>[^()+]+))$")
_DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s|m)?$")
_NUMBER = re.compile(r"(\d+(?:\.\d*)?|\.\d+)$")
_UNIT_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, None: 1.0}
_NORMAL = NormalDist()
_Z95 = _NORMAL.inv_cdf(0.95)


class _Term(msgspec.Struct, frozen=True):
    """`low` and `high` are seconds for fixed and uniform terms, the logarithm's mean and deviation for lognormal ones."""

    kind: Literal["uniform", "lognormal"]
    low: float
    high: float

    def sample(self, draw: float) -> float:
        if self.kind == "uniform":
            return self.low + (self.high - self.low) * draw
        # Away from 0 and 1, where the inverse is infinite.
        return math.exp(self.low + self.high * _NORMAL.inv_cdf(min(max(draw, 1e-9), 1 - 1e-9)))


class Latency(msgspec.Struct, frozen=True):
    """A parsed distribution. `per_token_s` is kept apart, because a stream spreads it over its chunks."""

    terms: tuple[_Term, ...] = ()
    per_token_s: float = 0.0

    def first_s(self, draw: float) -> float:
        """Seconds until the first byte: one sample, fixed by `draw` in [0, 1), never above an hour."""
        return min(sum(term.sample(draw) for term in self.terms), MAX_S)

    def whole_s(self, draw: float, tokens: int) -> float:
        """Seconds until a whole answer of `tokens` tokens is sent, never above an hour."""
        return min(self.first_s(draw) + self.per_token_s * tokens, MAX_S)


def parse_latency(text: str) -> Latency:
    """Reads a distribution such as "lognormal(p50=0.4,p95=1.2)+per_token(5ms)".

    Raises:
        ValueError: The text is no such distribution; the message says what is wrong and what would be right.
    """
    terms: list[_Term] = []
    per_token_s = 0.0
    for part in text.split("+"):
        found = _TERM.match(part.strip())
        if found is None:
            raise _unreadable(text, part)
        name, arguments = found["name"], found["arguments"]
        if name is None:
            if _DURATION.match(found["fixed"].strip()) is None:
                raise _unreadable(text, part)
            fixed = _seconds(found["fixed"], text)
            terms.append(_Term("uniform", fixed, fixed))
        elif name == "per_token":
            per_token_s += _seconds(arguments, text)
        elif name == "tokens_per_s":
            per_token_s += 1 / _rate(arguments, text)
        elif name == "uniform":
            terms.append(_uniform(_named(arguments, ("low", "high"), text), text))
        elif name == "lognormal":
            terms.append(_lognormal(_named(arguments, ("p50", "p95"), text), text))
        else:
            raise _unreadable(text, part)
    return Latency(tuple(terms), per_token_s)


def _uniform(bounds: tuple[float, float], text: str) -> _Term:
    low, high = bounds
    if low > high:
        raise ValueError(f"latency {text!r}: uniform(low, high) wants low <= high")
    return _Term("uniform", low, high)


def _lognormal(percentiles: tuple[float, float], text: str) -> _Term:
    median, tail = percentiles
    if not 0 < median <= tail:
        raise ValueError(f"latency {text!r}: lognormal(p50, p95) wants 0 < p50 <= p95")
    return _Term("lognormal", math.log(median), math.log(tail / median) / _Z95)


def _named(arguments: str, names: tuple[str, str], text: str) -> tuple[float, float]:
    parts = [part.strip() for part in arguments.split(",")]
    if len(parts) != 2:
        raise ValueError(f"latency {text!r}: two values are wanted, {names[0]} and {names[1]}")
    given = dict(zip(names, parts, strict=True))
    if any("=" in part for part in parts):
        pairs = [part.partition("=") for part in parts]
        given = {name.strip(): value for name, _, value in pairs}
        if set(given) != set(names):
            raise ValueError(f"latency {text!r}: the two values are called {names[0]} and {names[1]}")
    return _seconds(given[names[0]], text), _seconds(given[names[1]], text)


def _rate(text: str, whole: str) -> float:
    found = _NUMBER.match(text.strip())
    if found is None or not 0.001 <= float(found[0]) <= 1e6:
        raise ValueError(
            f"latency {whole!r}: {text.strip()!r} is no number of tokens a second from 0.001 to 1000000"
        )
    return float(found[0])


def _seconds(text: str, whole: str) -> float:
    found = _DURATION.match(text.strip())
    if found is None:
        raise ValueError(
            f"latency {whole!r}: {text.strip()!r} is no duration; write 50ms, 1.5s or 0.05 (seconds)"
        )
    seconds = float(found[1]) * _UNIT_S[found[2]]
    if seconds > MAX_S:
        raise ValueError(f"latency {whole!r}: {text.strip()!r} is above an hour")
    return seconds


def _unreadable(text: str, part: str) -> ValueError:
    return ValueError(
        f"latency {text!r}: cannot read {part.strip()!r}; write a duration such as 50ms, uniform(0.1,0.4), "
        "lognormal(p50=0.4,p95=1.2), per_token(20ms) or tokens_per_s(50), joined by +"
    )
