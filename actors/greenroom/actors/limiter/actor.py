"""The limiter of one provider."""

from msgspec import Struct

from greenroom.actors.kernel import Actor, ReplyTo, Timer, handles
from greenroom.actors.limiter.allowance import Allowance
from greenroom.actors.limiter.gcra import NOTHING, Amounts
from greenroom.actors.limiter.lane import Lane
from greenroom.actors.limiter.messages import (
    Admit,
    CannotStart,
    GetLimiterStatus,
    LimiterStatus,
    Permit,
    Release,
    TooManyWaiting,
)
from greenroom.actors.limiter.queue import Entry, FairQueue

_MAX_WAITING = 100_000
_NEVER_S = float("inf")
_EXACT_S = 0.001
"""A timer is not set anew for less."""


class _Due(Struct, frozen=True):
    """Our own timer: somebody who waits may now be admissible."""


class Limiter(Actor):
    """Decides who goes when.

    Args:
        provider: its name.
        allowance: what the provider allows and what is used of it, which outlives this incarnation.
    """

    def __init__(self, provider: str, allowance: Allowance) -> None:
        self._provider = provider
        self._allowance = allowance
        allowance.waiting.clear()  # they ask this incarnation themselves
        self._queue = FairQueue(allowance.waiting)
        self._timer: Timer | None = None
        self._timer_due_s = 0.0

    @handles
    def admit(self, message: Admit, reply_to: ReplyTo[Permit]) -> None:
        allowance, queue, ticket = self._allowance, self._queue, message.ticket
        if ticket in allowance.permits:
            reply_to.reply(Permit(ticket))
            return
        now_s = self.system.clock.monotonic()
        lane = allowance.lane(message.model, now_s)
        amounts = lane.amounts(message)
        if not queue.entries:
            if not allowance.own_s(lane, amounts, now_s) and not allowance.shared_s(amounts, now_s):
                allowance.grant(message, lane, amounts, now_s)
                reply_to.reply(Permit(ticket))
                return
        elif (entry := queue.entries.get(ticket)) is not None:
            entry.reply_to = reply_to
            return
        if len(queue.entries) >= _MAX_WAITING:
            reply_to.refuse(TooManyWaiting(f"{len(queue.entries)} calls wait for {self._provider}"))
            return
        if late := self._late(message, lane, amounts, queue.ahead(message, lane), now_s):
            reply_to.refuse(late)
            return
        queue.push(Entry(message, reply_to, lane, amounts), now_s)
        self._admit_waiting()

    @handles
    def release(self, message: Release) -> None:
        self._allowance.give_back(message.ticket, self.system.clock.monotonic())
        if self._queue.entries:
            self._queue.remove(message.ticket)
            self._admit_waiting()

    @handles
    def status(self, message: GetLimiterStatus) -> LimiterStatus:
        allowance = self._allowance
        models = allowance.models(self.system.clock.monotonic())
        return LimiterStatus(
            provider=self._provider,
            in_flight=len(allowance.permits),
            waiting=len(allowance.waiting),
            concurrency=allowance.slots.limit,
            frozen_s=max((model.frozen_s for model in models), default=0.0),
            models=models,
        )

    async def handle_info(self, message: object) -> None:
        if isinstance(message, _Due):
            self._clear_timer()
            self._admit_waiting()

    def _admit_waiting(self) -> None:
        now_s = self.system.clock.monotonic()
        wait_s: float | None = None
        while self._queue.entries and wait_s is None:
            wait_s = self._admit_next(now_s)
        if wait_s is not None and wait_s < _NEVER_S:
            self._wake_at(now_s + wait_s, wait_s)

    def _admit_next(self, now_s: float) -> float | None:
        """Answer one of those who wait: admit it, or refuse it because it would come too late.

        Whom its own model's limits hold back keeps that model's others waiting, so that small requests do not starve
        a large one; whom what all share holds back keeps everybody waiting.

        Returns:
            None if one was answered, else the seconds until time may admit one.
        """
        allowance = self._allowance
        least_s = _NEVER_S
        blocked: list[Lane] = []
        for place in self._queue.heads(now_s):
            entry = place[2]
            admit, lane = entry.admit, entry.lane
            if lane in blocked:
                continue
            amounts = lane.amounts(admit)
            own_s = allowance.own_s(lane, amounts, now_s)
            shared_s = allowance.shared_s(amounts, now_s)
            wait_s = max(own_s, shared_s)
            if wait_s == 0.0:
                self._queue.serve(place, now_s)
                if not entry.reply_to.abandoned:  # else nobody would ever give it back
                    allowance.grant(admit, lane, amounts, now_s)
                    entry.reply_to.reply(Permit(admit.ticket))
                return None
            if late := self._late(admit, lane, amounts, NOTHING, now_s):
                self._queue.remove(admit.ticket)
                entry.reply_to.refuse(late)
                return None
            least_s = min(least_s, wait_s)
            if not own_s:
                break
            blocked.append(lane)
        return least_s

    def _late(
        self, admit: Admit, lane: Lane, amounts: Amounts, ahead: Amounts, now_s: float
    ) -> CannotStart | None:
        """The refusal of a request that cannot start in time, by what is certain: an answer may come or end any moment."""
        if admit.deadline_s is None:
            return None
        wait_s = self._allowance.behind_s(ahead, lane, amounts, now_s)
        left_s = admit.deadline_s - now_s
        return CannotStart(self._provider, wait_s, left_s) if wait_s > left_s else None

    def _wake_at(self, due_s: float, delay_s: float) -> None:
        """Set the timer, unless it rings no later already; an early one finds nothing to do and sets the next."""
        if self._timer is None or due_s < self._timer_due_s - _EXACT_S:
            self._clear_timer()
            self._timer_due_s = due_s
            self._timer = self.send_after(delay_s, _Due())

    def _clear_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
