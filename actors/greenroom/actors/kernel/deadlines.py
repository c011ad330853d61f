"""Call timeouts, nearly for nothing: calls with the same limit stand in one queue, and one timer serves them all.

Deadlines of one limit come due in the order in which they were set, so each queue is an ordinary dictionary and its
first entry is its earliest. The timer is set for the earliest of all and, having fired, for the next one still there;
calls that were answered meanwhile have left. Under load with the default 5 s that is one timer in five seconds, where
``call_later`` would push and cancel one per call.
"""

from typing import Protocol

from greenroom.actors.kernel.clock import Clock, TimerHandle

_QUEUES_MAX = 16
_NEVER = float("inf")


class Expiring(Protocol):
    """What can be late."""

    def expire(self, limit_s: float) -> None:
        """The limit has passed."""


class Deadlines:
    """Tells what has not been discarded within its limit that it is late."""

    __slots__ = ("_clock", "_due", "_handle", "_queues")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._queues: dict[float, dict[Expiring, float]] = {}
        self._due = _NEVER
        self._handle: TimerHandle | None = None

    def add(self, item: Expiring, limit_s: float) -> TimerHandle | None:
        """Lets ``item`` expire in ``limit_s`` seconds; pass what is returned to ``discard``."""
        queue = self._queues.get(limit_s)
        if queue is None:
            if len(self._queues) >= _QUEUES_MAX:
                self._queues = {limit: waiting for limit, waiting in self._queues.items() if waiting}
            if len(self._queues) >= _QUEUES_MAX:
                return self._clock.call_later(limit_s, item.expire, limit_s)
            queue = self._queues[limit_s] = {}
        due = self._clock.monotonic() + limit_s
        queue[item] = due
        if due < self._due:
            self._arm(due)
        return None

    def discard(self, item: Expiring, limit_s: float, handle: TimerHandle | None) -> None:
        """Forgets ``item``: it was in time."""
        if handle is not None:
            handle.cancel()
            return
        queue = self._queues.get(limit_s)
        if queue is not None:
            queue.pop(item, None)

    def close(self) -> None:
        """Forgets everything, the timer too."""
        if self._handle is not None:
            self._handle.cancel()
        self._handle = None
        self._due = _NEVER
        self._queues.clear()

    def _arm(self, due: float) -> None:
        if self._handle is not None:
            self._handle.cancel()
        self._due = due
        self._handle = self._clock.call_later(due - self._clock.monotonic(), self._sweep)

    def _sweep(self) -> None:
        self._handle = None
        self._due = _NEVER
        now = self._clock.monotonic()
        earliest = _NEVER
        for limit_s, queue in self._queues.items():
            while queue:
                item, due = next(iter(queue.items()))
                if due > now:
                    earliest = min(earliest, due)
                    break
                del queue[item]
                item.expire(limit_s)
        if earliest < _NEVER:
            self._arm(earliest)
