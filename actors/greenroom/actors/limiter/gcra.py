"""One rate as GCRA, and one limit: paced by us, corrected by what the server says is left.

GCRA is ITU-T I.371's generic cell rate algorithm: what has passed is remembered as one number, the theoretical
arrival time of the next unit.
"""

from enum import IntEnum

SHARE = 0.98
"""Of a limit, what is used: with small bursts it keeps clear of refusals under token buckets, fixed windows and sliding logs
alike, measured against all three."""
_TOKEN_BURST_S = 1.0
_SOON_S = 1e-6
"""What is due so soon is due now: sums of floating-point numbers, and timers, are no more exact."""
_CUT = 0.95
_LEAST_SHARE = 0.05
_RECOVERY_PER_S = 0.05 / 15
"""A refusal costs a twentieth of the pace, and a quarter of a minute brings it back: who alone uses a limit hardly notices, and
several who share one, each unaware of the others, part it among them."""


class Counted(IntEnum):
    """What a limit counts; the place of its amount in `Amounts`."""

    REQUESTS = 0
    TOKENS = 1
    INPUT = 2
    OUTPUT = 3


Amounts = tuple[float, float, float, float]
"""A request's 1, its tokens, and of these the input's and the output's."""
NOTHING: Amounts = (0.0, 0.0, 0.0, 0.0)


class Gcra:
    """One rate: `limit` units a minute, of which `burst` may come at once.

    Args:
        limit_per_min: what a minute allows, above 0.
        burst: units.
        now_s: by any clock that does not go back. One that does makes what is owed last longer, by as much.
        share: how much of the limit is used.
    """

    __slots__ = ("_arrival_s", "_interval_s", "_tolerance_s")

    def __init__(self, limit_per_min: float, burst: float, now_s: float, share: float = SHARE) -> None:
        self._interval_s = 60.0 / (limit_per_min * share)
        self._tolerance_s = burst * self._interval_s
        self._arrival_s = now_s

    def wait_s(self, units: float, now_s: float) -> float:
        """Seconds until `units` conform; 0 if they do now. More than the burst conform when nothing is owed."""
        wait_s = self._arrival_s - now_s
        if (tolerance_s := self._tolerance_s - units * self._interval_s) > 0.0:
            wait_s -= tolerance_s
        return wait_s if wait_s > _SOON_S else 0.0

    def behind_s(self, ahead: float, units: float, now_s: float) -> float:
        """Seconds until `units` conform if `ahead` units go before them."""
        ahead_s = max(0.0, self._arrival_s - now_s) + ahead * self._interval_s
        return max(0.0, ahead_s - max(0.0, self._tolerance_s - units * self._interval_s))

    def take(self, units: float, now_s: float) -> None:
        """Count units, whether or not they conform; negative ones give back."""
        arrival_s = self._arrival_s
        self._arrival_s = (max(now_s, arrival_s)) + units * self._interval_s

    def owed(self, now_s: float) -> float:
        """The units that have yet to pass."""
        return max(0.0, self._arrival_s - now_s) / self._interval_s

    def owe(self, units: float, now_s: float) -> None:
        """Say what is owed at a moment, whatever was counted before it."""
        self._arrival_s = now_s + units * self._interval_s


class Rate:
    """One limit of a provider.

    `pace` is how fast we go, at `SHARE` of the limit and less for a while after a refusal. `left` is the server's own account
    as it tells it, taken to be a bucket that holds a minute: who shares the key with others, or comes back to a window
    that is half used, sees it there before a refusal says so.

    Args:
        counted: what it counts.
        limit_per_min: above 0.
        now_s: by the clock's `monotonic`.
    """

    __slots__ = ("_left", "_pace", "_share", "_shared_s", "_trusted", "counted", "limit_per_min")

    def __init__(self, counted: Counted, limit_per_min: float, now_s: float) -> None:
        self.counted = counted
        self.limit_per_min = limit_per_min
        self._share = 1.0
        self._shared_s = now_s
        self._trusted = False
        self._pace = self._paced(now_s)
        self._left = self._whole(now_s)

    def change(self, limit_per_min: float, now_s: float) -> None:
        """Another limit holds from now on; what is owed remains."""
        owed, gone = self._pace.owed(now_s), self._left.owed(now_s)
        self.limit_per_min = limit_per_min
        self._pace, self._left = self._paced(now_s), self._whole(now_s)
        self._pace.owe(owed, now_s)
        self._left.owe(gone, now_s)

    def _paced(self, now_s: float) -> Gcra:
        limit = self.limit_per_min * self._share
        # Requests one at a time, tokens one second's worth.
        burst = 1.0 if self.counted is Counted.REQUESTS else limit * SHARE / 60 * _TOKEN_BURST_S
        return Gcra(limit, burst, now_s)

    def _whole(self, now_s: float) -> Gcra:
        return Gcra(self.limit_per_min, self.limit_per_min, now_s, share=1.0)

    def wait_s(self, amounts: Amounts, now_s: float) -> float:
        """Seconds until time alone admits a request of these amounts."""
        units = amounts[self.counted]
        wait_s = self._pace.wait_s(units, now_s)
        if self._trusted and (left_s := self._left.wait_s(units, now_s)) > wait_s:
            return left_s
        return wait_s

    def behind_s(self, ahead: Amounts, amounts: Amounts, now_s: float) -> float:
        """Seconds until it is admitted at the earliest if `ahead` go before it."""
        return self._pace.behind_s(ahead[self.counted], amounts[self.counted], now_s)

    def take(self, amounts: Amounts, now_s: float) -> None:
        """Count what is sent; negative amounts give back."""
        units = amounts[self.counted]
        self._pace.take(units, now_s)
        self._left.take(units, now_s)

    def correct(self, more: Amounts, now_s: float) -> None:
        """Count what requests took beyond what was reckoned; the server's account has it already."""
        self._pace.take(more[self.counted], now_s)

    def owe(self, units: float, since_s: float, now_s: float) -> None:
        """Count what was sent since a moment, before the limit was known; after a minute, no window remembers more."""
        passed = (now_s - since_s) / 60 * self.limit_per_min
        owed = min(max(0.0, units - passed), self.limit_per_min)
        self._pace.owe(owed, now_s)
        self._left.owe(owed, now_s)

    def told(self, gone: float, sent_since: float, at_s: float) -> None:
        """Take the server's word for what was gone at a moment, after which `sent_since` units were sent.

        It is believed from when most of the limit was seen left: windows of less than a minute never show it, and
        what is left in them says nothing about the minute.
        """
        if self._trusted or gone * 2 <= self.limit_per_min:
            self._trusted = True
            self._left.owe(gone + sent_since, at_s)

    def cut(self, now_s: float) -> None:
        """The server refused although the pace was kept: others use the limit too, or it is another one than we know."""
        self._set_share(max(_LEAST_SHARE, self._share * _CUT), now_s)

    def recover(self, now_s: float) -> None:
        """Go back to the full pace as time passes."""
        if self._share < 1.0:
            self._set_share(min(1.0, self._share + (now_s - self._shared_s) * _RECOVERY_PER_S), now_s)

    def _set_share(self, share: float, now_s: float) -> None:
        owed = self._pace.owed(now_s)
        self._share = share
        self._shared_s = now_s
        self._pace = self._paced(now_s)
        self._pace.owe(owed, now_s)
