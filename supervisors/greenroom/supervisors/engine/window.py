"""How many restarts are too many: OTP's intensity and period."""

import math
from collections import deque


class RestartWindow:
    """Restarts within the last ``period_s`` seconds. Takes the time as an argument, so it needs no clock.

    The window is closed: a restart exactly ``period_s`` ago still counts.

    Args:
        intensity: how many restarts the window may hold.
        period_s: its length in seconds.
        whole_seconds: count as OTP does, whose clock has whole seconds; its window is up to a second longer.
    """

    def __init__(self, intensity: int, period_s: float, *, whole_seconds: bool = False) -> None:
        self._intensity = intensity
        self._period_s = period_s
        self._whole_seconds = whole_seconds
        self._restarts: deque[float] = deque(maxlen=intensity + 1)

    def add(self, now_s: float) -> bool:
        """Counts a restart at ``now_s``. False if that is one too many."""
        if self._whole_seconds:
            now_s = math.floor(now_s)
        while self._restarts and self._restarts[0] < now_s - self._period_s:
            self._restarts.popleft()
        self._restarts.append(now_s)
        return len(self._restarts) <= self._intensity
