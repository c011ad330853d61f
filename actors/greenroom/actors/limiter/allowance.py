"""What outlives a provider's limiter: who is in flight, what the rates have given, what its answers have told."""

from collections.abc import Mapping

from greenroom.actors.events import ErrorKind, Usage
from greenroom.actors.limiter.concurrency import slots_of
from greenroom.actors.limiter.gcra import Amounts, Counted, Rate
from greenroom.actors.limiter.lane import Grant, Lane
from greenroom.actors.limiter.messages import Admit, ModelLimits
from greenroom.actors.limiter.queue import Entry
from greenroom.actors.providers.limits import LIMIT_HEADERS
from greenroom.actors.settings import Limits, TokensCounted

_MAX_LANES = 64
"""Models with accounts of their own; those beyond share one."""
_OTHERS = ""
_WANT_OF_ROOM = frozenset[ErrorKind]({"rate_limited", "overloaded"})


class Allowance:
    """What a provider allows, and what is used of it. Owned by the tree; the limiter asks it, the calls tell it.

    What is configured holds for all of a provider's models together, what its answers tell for the model that was asked:
    that is how the providers have it. A request needs both.

    Args:
        limits: what is configured.
        now_s: by the clock's `monotonic`.
        wire: how the provider speaks, and so how it tells its limits.

    Attributes:
        permits: the requests in flight, by ticket. The limiter puts them in; the calls give their own back.
        waiting: who waits for a permit, by ticket, at the present incarnation.
        shared_rates: what is configured, for all models together.
    """

    def __init__(self, limits: Limits, now_s: float, wire: str = "openai-chat") -> None:
        self.permits: dict[int, Grant] = {}
        self.waiting: dict[int, Entry] = {}
        self.slots = slots_of(limits, now_s)
        self.shared_rates = [
            Rate(counted, limit, now_s)
            for counted, limit in (
                (Counted.REQUESTS, limits.requests_per_min),
                (Counted.TOKENS, limits.tokens_per_min),
                (Counted.INPUT, limits.input_tokens_per_min),
                (Counted.OUTPUT, limits.output_tokens_per_min),
            )
            if limit is not None
        ]
        self._headers = LIMIT_HEADERS.get(wire, ())
        self._cached_count = wire != "anthropic-messages"
        self._adapts = limits.concurrency == "auto"
        self._begins_early = not self.shared_rates and not self._adapts
        self._tokens_counted: TokensCounted | None = limits.tokens_counted
        self._lanes: dict[str, Lane] = {}

    def lane(self, model: str, now_s: float) -> Lane:
        """The account of a model, begun now if it has none."""
        lane = self._lanes.get(model)
        if lane is None:
            if len(self._lanes) >= _MAX_LANES and model != _OTHERS:
                return self.lane(_OTHERS, now_s)
            lane = self._lanes[model] = Lane(
                model,
                self._headers,
                now_s,
                cached_count=self._cached_count,
                tokens_counted=self._tokens_counted,
                limited=bool(self.shared_rates),
            )
        return lane

    def shared_s(self, amounts: Amounts, now_s: float) -> float:
        """Seconds until what all models share admits a request; infinite while only a release can."""
        if len(self.permits) >= self.slots.limit:
            return float("inf")
        return max((rate.wait_s(amounts, now_s) for rate in self.shared_rates), default=0.0)

    def own_s(self, lane: Lane, amounts: Amounts, now_s: float) -> float:
        """Seconds until a model's own limits admit a request, by time alone."""
        wait_s = lane.wait_s(amounts, now_s)
        return wait_s if lane.heard or not self._begins_early else max(wait_s, lane.early_s(now_s))

    def behind_s(self, ahead: Amounts, lane: Lane, amounts: Amounts, now_s: float) -> float:
        """Seconds until a request is admitted at the earliest if `ahead` go before it."""
        wait_s = max(0.0, lane.frozen_until_s - now_s)
        for rate in (*self.shared_rates, *lane.rates):
            wait_s = max(wait_s, rate.behind_s(ahead, amounts, now_s))
        return wait_s

    def grant(self, admit: Admit, lane: Lane, amounts: Amounts, now_s: float) -> None:
        """Count a request as sent; `give_back` must follow."""
        for rate in self.shared_rates:
            rate.take(amounts, now_s)
        if self._adapts:
            self.slots.began(now_s, len(self.permits))
        self.permits[admit.ticket] = lane.send(admit, amounts, now_s)

    def observe(self, ticket: int, headers: Mapping[str, str], now_s: float) -> None:
        """Learn from the headers of an answer, whatever its status. A ticket that holds no permit says nothing."""
        grant = self.permits.get(ticket)
        if grant is not None:
            grant.lane.told(grant, headers, now_s)

    def refused(self, ticket: int, kind: ErrorKind, wait_s: float | None, now_s: float) -> None:
        """A request has failed. One that came to nothing for want of room slows down who follows.

        Args:
            ticket: the request's.
            kind: of the failure; all but `rate_limited` and `overloaded` say nothing.
            wait_s: how long the provider said to wait; nothing is sent to this model for so long. None: it did not say.
            now_s: by the clock's `monotonic`.
        """
        grant = self.permits.get(ticket)
        if grant is None or kind not in _WANT_OF_ROOM:
            return
        lane = grant.lane
        if wait_s is not None:
            lane.freeze(now_s + wait_s)
        if kind == "rate_limited" and lane.refused(grant, now_s):
            for rate in self.shared_rates:
                rate.cut(now_s)

    def give_back(
        self, ticket: int, now_s: float, usage: Usage | None = None, outcome: ErrorKind | str = "cancelled"
    ) -> None:
        """End a request, and count what it took. A ticket that holds no permit is nothing to give back.

        Args:
            ticket: the request's.
            now_s: by the clock's `monotonic`.
            usage: what its answer says that it used; None: nobody knows, and what was reckoned counts.
            outcome: "ok" or an error's kind.
        """
        grant = self.permits.pop(ticket, None)
        if grant is None:
            return
        more = grant.lane.end(grant, usage, now_s)
        for rate in self.shared_rates:
            if more is not None:
                rate.correct(more, now_s)
            rate.recover(now_s)
        if self._adapts:
            self.slots.ended(grant.at_s, now_s, usage, outcome, len(self.permits) + 1)

    def models(self, now_s: float) -> tuple[ModelLimits, ...]:
        """What is known of each model that was asked."""
        return tuple(lane.status(now_s) for lane in self._lanes.values())
