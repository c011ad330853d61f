"""Call timeouts, nearly for nothing: calls with the same limit stand in one queue, and one timer serves them all.

Deadlines of one limit come due in the order in which they were set, so each queue is an ordinary dictionary and its
first entry is its earliest. The timer is set for the earliest of all and, having fired, for the next one still there;
calls that were answered meanwhile have left. Limits that no
queue is left for get a timer each. Under load with the default 5 s that is one timer in five seconds, where
``call_later`` would push and cancel one per call.
"""

import time
from collections.abc import Callable
from typing import Protocol

from greenroom.actors.kernel.contract.clock import Clock, TimerHandle

_QUEUES_MAX = 64
_NEVER = float("inf")


class Expiring(Protocol):
    """What can be late.

    Attributes:
        queue: where it waits; who is in time takes it out there.
    """

    queue: "Queue | None"

    def expire(self, limit_s: float) -> None:
        """The limit has passed."""


class Queue(dict[Expiring, float]):
    """Items with one limit, each with the moment when it is late, earliest first."""

    __slots__ = ()


class _Alone(Queue):
    """A queue of one, with a timer of its own."""

    __slots__ = ("_handle",)

    def __init__(self, handle: TimerHandle) -> None:
        self._handle = handle

    def pop(self, item: Expiring, default: object = None) -> None:  # type: ignore[override]
        self._handle.cancel()


class Deadlines:
    """Tells what has not been discarded within its limit that it is late."""

    __slots__ = ("_clock", "_due", "_handle", "_now", "_queues")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._now: Callable[[], float] = time.monotonic if type(clock) is Clock else clock.monotonic
        self._queues: dict[float, Queue] = {}
        self._due = _NEVER
        self._handle: TimerHandle | None = None

    def add(self, item: Expiring, limit_s: float) -> None:
        """Lets ``item`` expire in ``limit_s`` seconds, unless it is taken out of its ``queue`` before."""
        queue = self._queues.get(limit_s)
        if queue is None:
            if len(self._queues) >= _QUEUES_MAX:
                item.queue = _Alone(self._clock.call_later(limit_s, item.expire, limit_s))
                return
            queue = self._queues[limit_s] = Queue()
        queue[item] = due = self._now() + limit_s
        item.queue = queue
        if due < self._due:
            self._arm(due)

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
        self._handle = self._clock.call_later(due - self._now(), self._sweep)

    def _sweep(self) -> None:
        self._handle = None
        self._due = _NEVER
        now = self._now()
        earliest = _NEVER
        for limit_s, queue in self._queues.items():
            while queue:
                item, due = next(iter(queue.items()))
                if due > now:
                    earliest = min(earliest, due)
                    break
                del queue[item]
                item.expire(limit_s)
        self._queues = {limit_s: queue for limit_s, queue in self._queues.items() if queue}
        if earliest < _NEVER:
            self._arm(earliest)
