"""Requests and tokens per minute, kept the three ways that providers keep them.

A meter is pure: it is told the time and never asks for it. `bucket` refills steadily and holds one window's allowance;
`fixed` starts afresh at the window's every beginning; `sliding` remembers what the last window's length has seen.
"""

import math
from collections import deque
from collections.abc import Iterator
from typing import Literal, Protocol, TypeAlias

import msgspec

LimitKind: TypeAlias = Literal["bucket", "fixed", "sliding"]
TokensCounted: TypeAlias = Literal["arrival", "end"]
LimitedBy: TypeAlias = Literal["requests", "tokens"]


# What sums of floating-point numbers may be off by.
_SLACK = 1e-9


class Meter(Protocol):
    """How much of an allowance is used. Amounts may be taken beyond it: what was used is used."""

    @property
    def allowance(self) -> float:
        """What one window allows."""
        ...

    def left(self, now_s: float) -> float:
        """What may still be taken at this moment; negative where more was taken than allowed."""
        ...

    def take(self, now_s: float, amount: float) -> None:
        """Counts `amount` as used; a negative one gives back."""
        ...

    def wait_s(self, now_s: float, amount: float) -> float:
        """Seconds until `amount`, at most the allowance, may be taken if nobody else takes any; 0 if it may now."""
        ...


class Bucket:
    """A token bucket: full at first, refilled at allowance / window."""

    def __init__(self, allowance: float, window_s: float) -> None:
        self.allowance = allowance
        self._per_s = allowance / window_s
        self._level = allowance
        self._at_s = -math.inf

    def left(self, now_s: float) -> float:
        self._level = min(self.allowance, self._level + (now_s - self._at_s) * self._per_s)
        self._at_s = now_s
        return self._level

    def take(self, now_s: float, amount: float) -> None:
        self._level = min(self.allowance, self.left(now_s) - amount)

    def wait_s(self, now_s: float, amount: float) -> float:
        return max(0.0, (amount - self.left(now_s)) / self._per_s)


class FixedWindow:
    """A counter that is set back at the beginning of every window; windows begin at multiples of their length."""

    def __init__(self, allowance: float, window_s: float) -> None:
        self.allowance = allowance
        self._window_s = window_s
        self._window = -1
        self._used = 0.0

    def left(self, now_s: float) -> float:
        window = int(now_s // self._window_s)
        if window != self._window:
            self._window = window
            self._used = 0.0
        return self.allowance - self._used

    def take(self, now_s: float, amount: float) -> None:
        self.left(now_s)
        self._used += amount

    def wait_s(self, now_s: float, amount: float) -> float:
        return 0.0 if self.left(now_s) >= amount else (self._window + 1) * self._window_s - now_s


class SlidingLog:
    """Every amount of the last window, with its time. It grows with the requests admitted in one window, no further."""

    def __init__(self, allowance: float, window_s: float) -> None:
        self.allowance = allowance
        self._window_s = window_s
        self._log: deque[tuple[float, float]] = deque()
        self._used = 0.0

    def left(self, now_s: float) -> float:
        while self._log and self._log[0][0] <= now_s - self._window_s:
            self._used -= self._log.popleft()[1]
        if not self._log:
            self._used = 0.0
        return self.allowance - self._used

    def take(self, now_s: float, amount: float) -> None:
        self.left(now_s)
        self._log.append((now_s, amount))
        self._used += amount

    def wait_s(self, now_s: float, amount: float) -> float:
        lacking = amount - self.left(now_s)
        if lacking <= 0:
            return 0.0
        for at_s, used in self._log:
            lacking -= used
            if lacking <= _SLACK:
                return max(0.0, at_s + self._window_s - now_s)
        return self._window_s


_METERS: dict[LimitKind, type[Bucket | FixedWindow | SlidingLog]] = {
    "bucket": Bucket,
    "fixed": FixedWindow,
    "sliding": SlidingLog,
}


class Exceeded(msgspec.Struct, frozen=True):
    """Why a request was not admitted.

    `retry_after_s` is None where waiting does not help, because the request alone is above the allowance.
    """

    what: LimitedBy
    allowance: int
    window_s: float
    left: int
    wanted: int
    retry_after_s: float | None


class LimitState(msgspec.Struct, frozen=True):
    """How a limit stands: what a minute allows however short the window, what is left, and when all of it is again."""

    what: LimitedBy
    per_min: int
    left: int
    reset_s: float


class Limits:
    """Both limits of one simulator. They hold for all its models and clients together.

    Args:
        requests_per_min: Requests admitted a minute; None for no limit.
        tokens_per_min: Tokens a minute; None for no limit.
        kind: How the allowance comes back.
        window_s: The length of a window in seconds; the allowance is per minute whatever it is.
        tokens_counted: On arrival, by the prompt and the most that may be answered, for good; or at the end, by what
            the prompt and the answer were (then a request is admitted while anything is left).
    """

    def __init__(
        self,
        *,
        requests_per_min: int | None,
        tokens_per_min: int | None,
        kind: LimitKind,
        window_s: float,
        tokens_counted: TokensCounted,
    ) -> None:
        share = window_s / 60
        meter = _METERS[kind]
        self._requests = None if requests_per_min is None else meter(requests_per_min * share, window_s)
        self._tokens = None if tokens_per_min is None else meter(tokens_per_min * share, window_s)
        self._requests_per_min = requests_per_min
        self._tokens_per_min = tokens_per_min
        self._window_s = window_s
        self._at_end = tokens_counted == "end"

    @property
    def any(self) -> bool:
        """Whether anything is limited."""
        return self._requests is not None or self._tokens is not None

    def admit(self, now_s: float, bound_tokens: int) -> Exceeded | None:
        """Takes one request and, where they count on arrival, `bound_tokens`: both, or neither and says why."""
        tokens = 1 if self._at_end else bound_tokens
        exceeded = self._exceeded("requests", self._requests, now_s, 1)
        exceeded = exceeded or self._exceeded("tokens", self._tokens, now_s, tokens)
        if exceeded is not None:
            return exceeded
        if self._requests is not None:
            self._requests.take(now_s, 1)
        if self._tokens is not None and not self._at_end:
            self._tokens.take(now_s, tokens)
        return None

    def _exceeded(self, what: LimitedBy, meter: Meter | None, now_s: float, amount: int) -> Exceeded | None:
        if meter is None or meter.left(now_s) + _SLACK >= amount:
            return None
        return Exceeded(
            what=what,
            allowance=int(meter.allowance),
            window_s=self._window_s,
            left=_whole(meter.left(now_s)),
            wanted=amount,
            retry_after_s=meter.wait_s(now_s, amount) if amount <= meter.allowance else None,
        )

    def settle(self, now_s: float, used_tokens: int) -> None:
        """Takes what a request has used, where tokens count at the end."""
        if self._tokens is not None and self._at_end:
            self._tokens.take(now_s, used_tokens)

    def states(self, now_s: float) -> Iterator[LimitState]:
        """Each limit as it stands now."""
        limits: tuple[tuple[LimitedBy, Meter | None, int | None], ...] = (
            ("requests", self._requests, self._requests_per_min),
            ("tokens", self._tokens, self._tokens_per_min),
        )
        for what, meter, per_min in limits:
            if meter is not None and per_min is not None:
                left, reset_s = _whole(meter.left(now_s)), meter.wait_s(now_s, meter.allowance)
                yield LimitState(what, per_min, left, reset_s)


def _whole(left: float) -> int:
    return max(0, math.floor(left + _SLACK))


def as_reset(seconds: float) -> str:
    """A duration as in OpenAI's reset headers: 17ms, 1.5s, 6m0s, 1h0m0s."""
    if seconds < 1:
        return f"{math.ceil(seconds * 1_000)}ms"
    whole = math.ceil(seconds * 1_000) / 1_000
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(int(minutes), 60)
    text = f"{round(rest, 3):g}s"
    if hours:
        return f"{hours}h{minutes}m{text}"
    return f"{minutes}m{text}" if minutes else text
