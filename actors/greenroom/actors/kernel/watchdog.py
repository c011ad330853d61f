"""A thread that notices when the loop is blocked, and by which actor."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Callable

import msgspec

from greenroom.actors.kernel.engine.core import Core, log

_LOOKS_PER_STALL = 4


class Stall(msgspec.Struct, frozen=True):
    """The loop has not turned for too long.

    Attributes:
        actor: whose handler blocks it, as its ref shows itself; None if none does.
        seconds: for how long, so far.
        stack: where the loop's thread is.
    """

    actor: str | None
    seconds: float
    stack: str


class LoopWatch:
    """Reports, once each, the times when the loop does not turn for ``stall_s`` seconds.

    It costs a timer and a look of a thread four times in that time, and nothing per message.

    Args:
        core: the system's.
        stall_s: from how many seconds on a turn of the loop is too long.
        on_stall: called with each ``Stall``, **on the watching thread**, while the loop is still blocked.
    """

    def __init__(self, core: Core, stall_s: float, on_stall: Callable[[Stall], object] | None) -> None:
        self._core = core
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._thread_id = threading.get_ident()
        self._beat_at = time.monotonic()
        self._stopped = threading.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._beat()
        threading.Thread(target=self._watch, name="greenroom-loop-watch", daemon=True).start()

    def close(self) -> None:
        """Ends it. The thread goes at its next look."""
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _beat(self) -> None:
        self._beat_at = time.monotonic()
        self._timer = self._core.loop.call_later(self._stall_s / _LOOKS_PER_STALL, self._beat)

    def _watch(self) -> None:
        reported = 0.0
        while not self._stopped.wait(self._stall_s / _LOOKS_PER_STALL):
            beat_at = self._beat_at
            seconds = time.monotonic() - beat_at
            if seconds >= self._stall_s and beat_at != reported:
                reported = beat_at
                self._report(seconds)

    def _report(self, seconds: float) -> None:
        core = self._core
        task = asyncio.current_task(core.loop)
        process = core.running or (None if task is None else core.owners.get(task))
        frame = sys._current_frames().get(self._thread_id)  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # the documented way to see another thread
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        stall = Stall(None if process is None else repr(process), seconds, stack)
        core.stalls += 1
        log.warning("the loop has been blocked for %.3f s by %s", seconds, stall.actor or "no actor")
        if self._on_stall is not None:
            try:
                self._on_stall(stall)
            except Exception:
                log.exception("the stall hook failed")
