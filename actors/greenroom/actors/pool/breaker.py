"""Whether a provider is worth asking: a circuit breaker, fed by what comes of real calls and by nothing else.

    closed --(so many failures in a row)--> open --(cool-down over, one lease: the probe)--> half open
    half open --(the probe is answered)--> closed        half open --(it fails)--> open, for twice as long

What counts as a failure is `FAILURES`: the provider or the way to it is broken. An answer that refuses what the caller
or the key got wrong shows a provider in good health, as a whole answer does. What says nothing of it, such as a call
that was cancelled, changes nothing; nor does, as `ended` is told, a 429 that says when to come again, since the limiter
keeps to that, the end of the time that a caller gave, or one answer that was cut: where the provider is down, the next
connection is refused. In a row: at any concurrency a provider that still answers some is worth asking. Refusals come
faster than answers, so that a burst hears its failures first: while more calls are in flight than failed, it stays closed.

An epoch ends when the breaker opens, and leases of an earlier one are not heard: what was sent before says nothing of
the time after.
"""

from collections.abc import Callable
from typing import Literal

from greenroom.actors.events import BreakerChanged, Event
from greenroom.actors.settings import BreakerSettings

State = Literal["closed", "open", "half_open"]

FAILURES = frozenset({"rate_limited", "overloaded", "server", "timeout", "connection", "stalled"})
"""Kinds of failure that the provider, or the way to it, is to blame for."""
_SILENT = frozenset({"cancelled", "budget_exceeded", "internal", "circuit_open", "protocol"})
"""Outcomes that say nothing of the provider."""
_PROBE_S = 1.0
"""When to ask again while a probe is under way."""


class Breaker:
    """The breaker of one provider. Leases are numbered by epoch, `lease`; whoever ends one says so, `ended`.

    Args:
        provider: its name, for the events.
        settings: how many failures, how long to wait.
        now_s: the clock's `monotonic`.
        tell: where events go.

    Attributes:
        state: see above.
        failures: in a row, while it is closed.
    """

    def __init__(
        self,
        provider: str,
        settings: BreakerSettings,
        now_s: Callable[[], float],
        tell: Callable[[Event], None],
    ) -> None:
        self.state: State = "closed"
        self.failures = 0
        self._provider = provider
        self._settings = settings
        self._now_s = now_s
        self._tell = tell
        self._epoch = 0
        self._in_flight = 0  # of this epoch
        self._probing = False
        self._opened = 0
        self._open_until_s = 0.0

    def wait_s(self) -> float:
        """Seconds until it is worth asking; 0: now. Changes nothing."""
        if self.state == "closed":
            return 0.0
        if self.state == "half_open":
            return _PROBE_S if self._probing else 0.0
        return max(0.0, self._open_until_s - self._now_s())

    def lease(self) -> int:
        """The epoch of a lease that is granted now, which `wait_s() == 0` allows; where not closed, it is the probe."""
        if self.state != "closed":
            self._probing = True
            if self.state == "open":
                self._change("half_open", "")
        self._in_flight += 1
        return self._epoch

    def ended(self, epoch: int, outcome: str, *, counts: bool) -> None:
        """A lease ended.

        Args:
            epoch: what `lease` said.
            outcome: `ok`, or an error kind.
            counts: whether a failure is one of the provider's health.
        """
        if epoch != self._epoch:
            return
        self._in_flight -= 1
        if outcome == "ok" and not self.failures and self.state == "closed":
            return
        if outcome in _SILENT or (outcome in FAILURES and not counts):
            self._probing = False
        elif outcome not in FAILURES:
            self.failures = 0
            if self.state == "half_open":
                self._opened = 0
                self._change("closed", "")
        else:
            self.failures += 1
            # A probe that fails is one more of the same row.
            if self.failures >= max(self._settings.failures, self._in_flight):
                self._open(outcome)

    def _open(self, because: str) -> None:
        settings = self._settings
        cool_down_s = min(settings.cool_down_max_s, settings.cool_down_s * 2.0 ** min(self._opened, 32))
        self._opened += 1
        self._open_until_s = self._now_s() + cool_down_s
        self._epoch += 1
        self._in_flight = 0
        self._change("open", because)

    def _change(self, state: State, because: str) -> None:
        self.state = state
        self._tell(
            BreakerChanged(
                provider=self._provider,
                state=state,
                because=because,
                failures=self.failures,
                open_s=self.wait_s() if state == "open" else 0.0,
            )
        )
