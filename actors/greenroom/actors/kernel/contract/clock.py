"""Time, injected: restart windows, timeouts, timers and backoff ask a clock, so tests need no sleeping."""

import asyncio
import heapq
import itertools
import time
from collections.abc import Callable
from typing import Protocol

_TURNS_MAX = 100_000
_settling: list[object] = []  # the queue of a loop, once for each who waits for it to come to rest


def check_seconds(value: float | None, what: str = "a timeout") -> float | None:
    """The value, if it is one.

    Raises:
        ValueError: it is neither None nor a number of seconds >= 0.
    """
    if value is not None and not value >= 0:
        raise ValueError(f"{what} is a number of seconds >= 0 or None, not {value!r}")
    return value


class TimerHandle(Protocol):
    """What ``call_later`` returns."""

    def cancel(self) -> None:
        """Forget the callback; nothing happens if it has run."""


class Clock:
    """The machine's clock, and the base of every other one."""

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back. For durations and deadlines."""
        return time.monotonic()

    def time(self) -> float:
        """Seconds since 1970, UTC. For what is written down."""
        return time.time()

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> TimerHandle:
        """Runs ``callback(*args)`` on the running loop in ``delay_s`` seconds, unless cancelled."""
        return asyncio.get_running_loop().call_later(delay_s, callback, *args)

    async def sleep(self, delay_s: float) -> None:
        """Waits ``delay_s`` seconds of this clock; cancelled, it leaves no timer behind."""
        loop = asyncio.get_running_loop()
        if delay_s <= 0:
            await asyncio.sleep(0)
            return
        done = loop.create_future()
        handle = self.call_later(delay_s, _wake, done)
        try:
            await done
        finally:
            handle.cancel()


def _wake(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)


class _FakeTimer:
    __slots__ = ("args", "callback", "cancelled", "clock")

    def __init__(self, clock: "FakeClock", callback: Callable[..., object], args: tuple[object, ...]) -> None:
        self.clock = clock
        self.callback = callback
        self.args = args
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock(Clock):
    """A clock that stands still until told to move. For tests.

    Args:
        start_s: what ``monotonic`` says at first.
        epoch_s: what ``time`` says at that moment.
    """

    def __init__(self, start_s: float = 1000.0, epoch_s: float = 1_800_000_000.0) -> None:
        self._now = start_s
        self._epoch = epoch_s - start_s
        self._timers: list[tuple[float, int, _FakeTimer]] = []
        self._numbers = itertools.count()

    def monotonic(self) -> float:
        return self._now

    def time(self) -> float:
        return self._now + self._epoch

    def call_later(self, delay_s: float, callback: Callable[..., object], *args: object) -> TimerHandle:
        timer = _FakeTimer(self, callback, args)
        heapq.heappush(self._timers, (self._now + max(delay_s, 0.0), next(self._numbers), timer))
        return timer

    @property
    def pending(self) -> int:
        """How many timers wait."""
        return sum(not timer.cancelled for _, _, timer in self._timers)

    def next_due(self) -> float | None:
        """Seconds until the next timer, or None if none waits."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return max(self._timers[0][0] - self._now, 0.0) if self._timers else None

    async def advance(self, seconds: float) -> None:
        """Moves the clock, running each timer at its own moment and letting the loop come to rest after each.

        Args:
            seconds: how far; 0 runs what is due now.
        """
        target = self._now + seconds
        await settle()
        while (due := self.next_due()) is not None and self._now + due <= target:
            self._now += due
            _, _, timer = heapq.heappop(self._timers)
            timer.callback(*timer.args)
            await settle()
        self._now = target
        await settle()


async def settle() -> None:
    """Lets the loop run until nothing is ready any more: every task waits for time, a thread or a socket.

    Raises:
        RuntimeError: if the loop has not come to rest after 100 000 turns, which means that something spins.
    """
    ready = getattr(asyncio.get_running_loop(), "_ready", None)
    if ready is None:  # uvloop keeps its queue to itself
        for _ in range(50):
            await asyncio.sleep(0)
        return
    _settling.append(ready)
    try:
        for _ in range(_TURNS_MAX):
            await asyncio.sleep(0)
            if len(ready) < _settling.count(ready):  # only others that settle too
                return
    finally:
        _settling.remove(ready)
    raise RuntimeError(f"the loop did not come to rest within {_TURNS_MAX} turns: something spins")
