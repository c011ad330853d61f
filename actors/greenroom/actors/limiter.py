"""Admission to one provider: a slot, a request and its tokens, asked for together and granted in one decision.

Rates are GCRA (ITU-T I.371: one theoretical arrival time per limit), at 98 % of the stated limit and with small
bursts (requests one at a time, tokens one second's worth), which keeps clear of refusals under token buckets, fixed
windows and sliding logs alike. Those who wait are served in order within their priority, the head of the queue
first, so a large request is never overtaken for ever by small ones.

What was granted is kept outside the actor (`Granted`), so that a restarted limiter goes on where the last one was: it
counts who is in flight, owes the rates what they have given, and waits as long as the provider said.
"""

import heapq

from msgspec import Struct

from greenroom.actors.kernel import Actor, Call, Cast, Refused, ReplyTo, handles
from greenroom.actors.settings import Limits

INTERACTIVE = 0
BATCH = 1

_SHARE = 0.98
_TOKEN_BURST_S = 1.0
_MAX_WAITING = 100_000


class Permit(Struct, frozen=True, gc=False):
    """The answer to `Admit`: go ahead, and `Release` the ticket when done."""

    ticket: int


class Admit(Call[Permit], frozen=True, resend=True):
    """Ask to send one request of about `tokens` tokens; answered when it may go.

    `priority` 0 is interactive, 1 is batch: the lower is served first. The caller gives its ticket back in `finally`,
    granted or not; asking twice with one ticket counts once.
    """

    ticket: int
    tokens: int
    priority: int = INTERACTIVE


class Release(Cast, frozen=True):
    """The ticket's request is over, or was never made.

    Whoever took its own permit out of `Granted.permits` need not say so while nobody waits.
    """

    ticket: int


class Freeze(Cast, frozen=True):
    """The provider said to wait: nothing is admitted for so long."""

    delay_s: float


class LimiterStatus(Struct, frozen=True, kw_only=True):
    """How full the limiter is."""

    provider: str
    in_flight: int
    waiting: int
    frozen_s: float


class GetLimiterStatus(Call[LimiterStatus], frozen=True, resend=True):
    """Ask how full it is."""


class TooManyWaiting(Refused):
    """So many calls wait for admission that another one would wait hopelessly."""


class _Due(Struct, frozen=True):
    """Our own timer: the head of the queue may now be admissible."""


class Gcra:
    """One rate: `limit` units a minute, of which `burst` may come at once.

    Units that have passed are remembered as one number, the theoretical arrival time of the next.
    """

    __slots__ = ("_arrival_s", "_interval_s", "_tolerance_s")

    def __init__(self, limit_per_min: float, burst: float, now_s: float) -> None:
        self._interval_s = 60.0 / (limit_per_min * _SHARE)
        self._tolerance_s = burst * self._interval_s
        self._arrival_s = now_s

    def wait_s(self, units: float, now_s: float) -> float:
        """Seconds until `units` conform; 0 if they do now. More than the burst conform when nothing is owed."""
        tolerance_s = max(0.0, self._tolerance_s - units * self._interval_s)
        return max(0.0, self._arrival_s - tolerance_s - now_s)

    def take(self, units: float, now_s: float) -> None:
        self._arrival_s = max(self._arrival_s, now_s) + units * self._interval_s


class Granted:
    """What outlives a provider's limiter. Owned by the tree.

    Args:
        limits: what the provider allows.
        now_s: by the clock's `monotonic`.

    Attributes:
        permits: the requests in flight, by ticket. The limiter puts them in; the calls take their own out.
        waiting: who waits for a permit, by ticket, at the present incarnation.
        rates: each limit's rate, and whether it counts tokens.
        frozen_until_s: when the provider is willing again.
    """

    def __init__(self, limits: Limits, now_s: float) -> None:
        self.permits: dict[int, Admit] = {}
        self.waiting: dict[int, tuple[Admit, ReplyTo[Permit]]] = {}
        self.rates: list[tuple[Gcra, bool]] = []
        self.frozen_until_s = 0.0
        if (requests := limits.requests_per_min) is not None:
            self.rates.append((Gcra(requests, 1, now_s), False))
        if (tokens := limits.tokens_per_min) is not None:
            self.rates.append((Gcra(tokens, tokens * _SHARE / 60 * _TOKEN_BURST_S, now_s), True))


class Limiter(Actor):
    """The limiter of one provider.

    Args:
        provider: its name.
        limits: what it allows.
        granted: what outlives this incarnation.
    """

    def __init__(self, provider: str, limits: Limits, granted: Granted) -> None:
        self._provider = provider
        self._limits = limits
        self._granted = granted
        self._in_flight = granted.permits
        self._waiting = granted.waiting
        self._waiting.clear()  # they ask this incarnation themselves
        self._queue: list[tuple[int, int, int]] = []
        self._arrivals = 0
        self._timer_due_s: float | None = None

    @handles
    def admit(self, message: Admit, reply_to: ReplyTo[Permit]) -> None:
        ticket = message.ticket
        if ticket in self._in_flight:
            reply_to.reply(Permit(ticket))
        elif not self._waiting and self._wait_s(message, self.system.clock.monotonic()) == 0.0:
            self._grant(message, reply_to)
        elif len(self._waiting) >= _MAX_WAITING:
            reply_to.refuse(TooManyWaiting(f"{len(self._waiting)} calls wait for {self._provider}"))
        else:
            if ticket not in self._waiting:
                self._arrivals += 1
                heapq.heappush(self._queue, (message.priority, self._arrivals, ticket))
            self._waiting[ticket] = (message, reply_to)
            self._admit_waiting()

    @handles
    def release(self, message: Release) -> None:
        self._in_flight.pop(message.ticket, None)
        if self._waiting:
            self._waiting.pop(message.ticket, None)
            if len(self._queue) > 2 * len(self._waiting) + 64:  # they gave up behind a head that is blocked
                self._queue = [place for place in self._queue if place[2] in self._waiting]
                heapq.heapify(self._queue)
            self._admit_waiting()

    @handles
    def freeze(self, message: Freeze) -> None:
        until_s = self.system.clock.monotonic() + message.delay_s
        self._granted.frozen_until_s = max(self._granted.frozen_until_s, until_s)

    @handles
    def status(self, message: GetLimiterStatus) -> LimiterStatus:
        return LimiterStatus(
            provider=self._provider,
            in_flight=len(self._in_flight),
            waiting=len(self._waiting),
            frozen_s=max(0.0, self._granted.frozen_until_s - self.system.clock.monotonic()),
        )

    async def handle_info(self, message: object) -> None:
        if isinstance(message, _Due):
            self._timer_due_s = None
            self._admit_waiting()

    def _wait_s(self, message: Admit, now_s: float) -> float:
        """Seconds until time alone admits it (0: now); infinite while only a release can."""
        if len(self._in_flight) >= self._limits.concurrency:
            return float("inf")
        wait_s = max(0.0, self._granted.frozen_until_s - now_s)
        for rate, by_tokens in self._granted.rates:
            wait_s = max(wait_s, rate.wait_s(message.tokens if by_tokens else 1, now_s))
        return wait_s

    def _grant(self, message: Admit, reply_to: ReplyTo[Permit]) -> None:
        now_s = self.system.clock.monotonic()
        for rate, by_tokens in self._granted.rates:
            rate.take(message.tokens if by_tokens else 1, now_s)
        self._in_flight[message.ticket] = message
        reply_to.reply(Permit(message.ticket))

    def _admit_waiting(self) -> None:
        while self._queue:
            waiting = self._waiting.get(self._queue[0][2])
            if waiting is None:
                heapq.heappop(self._queue)
                continue
            now_s = self.system.clock.monotonic()
            wait_s = self._wait_s(waiting[0], now_s)
            if wait_s > 0.0:
                self._wake_at(now_s + wait_s, wait_s)
                return
            _, _, ticket = heapq.heappop(self._queue)
            del self._waiting[ticket]
            if not waiting[1].abandoned:  # else nobody would ever give it back
                self._grant(*waiting)

    def _wake_at(self, due_s: float, delay_s: float) -> None:
        """Set a timer unless one rings no later; an early one finds nothing to do and sets the next."""
        if delay_s == float("inf") or (self._timer_due_s is not None and self._timer_due_s <= due_s):
            return
        self._timer_due_s = due_s
        self.send_after(delay_s, _Due())
