"""How many requests may be in flight at once: a number, or found out."""

from msgspec import Struct

from greenroom.actors.events import Usage
from greenroom.actors.settings import Limits

_START = 2
"""Few, so that the first look is not beyond what the server bears already."""
_ANSWERS = 4
"""A window has so many at least, and one for each slot."""
_TOLERATED = 2.0
"""How much longer a piece of work may take than with room to spare: up to there, more in flight is more done."""
_GROWTH = 2.0
"""Until the first cut, as TCP starts; later by one slot a window."""
_BELIEF = 0.3
"""In a window that says less than the least: its answers may have been easy ones."""
_LEAST_CUT = 0.5
"""One window takes no more than half away."""
_OVERLOAD_CUT = 0.7
_LOOK_EVERY = 20
_LOOK_SOON = 8
"""Windows from one look with half the slots to the next; fewer after one that showed that half of them only waited."""
_HALF = 1.6
"""So much faster half as many must be for that; 2 if all of the others waited."""
_WORK_OF_A_REQUEST = 16.0
_WORK_OF_INPUT = 0.125
"""Work is counted in tokens of output: reading one takes about an eighth of writing one, and a request has its own cost."""
_OVERLOADED = frozenset({"rate_limited", "overloaded", "timeout", "stalled"})


class Slots:
    """A fixed number.

    Args:
        limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def began(self, now_s: float, in_flight: int) -> None:
        """A request goes out, beside those in flight."""

    def ended(self, began_s: float, now_s: float, usage: Usage | None, outcome: str, in_flight: int) -> None:
        """A request has ended.

        Args:
            began_s: when it was sent.
            now_s: the present moment.
            usage: what its answer took, if that is known.
            outcome: "ok" or an error's kind.
            in_flight: how many there were, this one included.
        """


class _Window(Struct, gc=False):
    """What one limit came to. `occupied_s` adds up the time of all in flight; `full`: all slots were taken at some moment."""

    begun_s: float
    seen_s: float
    occupied_s: float = 0.0
    longest_s: float = 0.0
    answers: int = 0
    work: float = 0.0
    full: bool = False


class AdaptiveSlots(Slots):
    """As many as the server does more work with: additive increase, decrease by the gradient of latency.

    The time that slots are occupied for each piece of work stays the same while there is room, and grows in proportion
    once more in flight only wait longer (Little's law). So the limit grows while it stays near the least that was
    seen, is cut in proportion when it exceeds it by more than is tolerated, and is cut at once when the server says that it
    is overloaded. The idea is that of TCP Vegas and of Netflix's concurrency-limits. The least is looked for anew every
    so often with half the limit, since servers and work change. Never below 1.

    Args:
        most: never more than that.
        now_s: by the clock's `monotonic`.
    """

    def __init__(self, most: int, now_s: float) -> None:
        super().__init__(min(_START, most))
        self._most = most
        self._level = float(self.limit)
        self._least_s: float | None = None
        self._last_s = 0.0
        self._slow_start = True
        self._windows_left = _LOOK_EVERY
        self._level_before: float | None = None
        self._window = _Window(now_s, now_s)

    def began(self, now_s: float, in_flight: int) -> None:
        window = self._window
        window.occupied_s += in_flight * (now_s - window.seen_s)
        window.seen_s = now_s

    def ended(self, began_s: float, now_s: float, usage: Usage | None, outcome: str, in_flight: int) -> None:
        self.began(now_s, in_flight)
        window = self._window
        window.full = window.full or in_flight >= self.limit
        if outcome in _OVERLOADED:
            if began_s >= window.begun_s:  # else it was sent under another limit
                self._slow_start = False
                self._level_before = None
                self._set(self._level * _OVERLOAD_CUT, now_s)
            return
        if in_flight > self.limit:  # what was sent under a higher limit has to end first
            self._window = _Window(now_s, now_s)
            return
        if outcome != "ok":
            return
        window.answers += 1
        window.work += _work(usage)
        window.longest_s = max(window.longest_s, now_s - began_s)
        # Shorter windows would see short answers alone.
        if window.answers >= max(_ANSWERS, self.limit) and now_s - window.begun_s >= 2 * window.longest_s:
            self._close(window, now_s)

    def _close(self, window: _Window, now_s: float) -> None:
        """Set the limit by what a whole window has shown."""
        seconds = window.occupied_s / window.work
        least_s = self._least_s
        before_s, self._last_s = self._last_s, seconds
        if self._level_before is not None:
            self._least_s = seconds
            # Where half as many take half the time, the others only waited; there may be more of those.
            only_waited = seconds * _HALF < before_s
            self._windows_left = _LOOK_SOON if only_waited else _LOOK_EVERY
            self._set(self._level if only_waited else self._level_before, now_s)
            self._level_before = None
            return
        self._windows_left -= 1
        if least_s is None:
            least_s = seconds
        elif seconds < least_s:
            least_s += (seconds - least_s) * _BELIEF
        self._least_s = least_s
        gradient = least_s * _TOLERATED / seconds if seconds else 1.0
        if gradient < 1.0:
            self._slow_start = False
            self._set(self._level * max(_LEAST_CUT, gradient), now_s)
        elif window.full:
            self._set(self._level * _GROWTH if self._slow_start else self._level + 1.0, now_s)
        else:
            self._window = _Window(now_s, now_s)
        if self._windows_left <= 0 and self._level > 1.0:
            self._level_before = self._level
            self._set(self._level / 2, now_s)

    def _set(self, level: float, now_s: float) -> None:
        self._level = min(float(self._most), max(1.0, level))
        self.limit = int(self._level)
        self._window = _Window(now_s, now_s)


def _work(usage: Usage | None) -> float:
    if usage is None:
        return _WORK_OF_A_REQUEST
    tokens_out = usage.output_tokens + usage.reasoning_tokens
    return _WORK_OF_A_REQUEST + tokens_out + usage.input_tokens * _WORK_OF_INPUT


def slots_of(limits: Limits, now_s: float) -> Slots:
    """What is configured."""
    if limits.concurrency == "auto":
        return AdaptiveSlots(limits.most_in_flight, now_s)
    return Slots(limits.concurrency)
