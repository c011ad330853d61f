"""A question asked until there is an answer: attempt after attempt, model after model, or two beside each other."""

from collections.abc import Awaitable, Callable, Coroutine
from typing import TypeAlias, TypeVar

from greenroom.actors.call import (
    CallState,
    Way,
    attempt_failed,
    failed_over,
    hedge_made,
    options_dropped,
)
from greenroom.actors.call.failover import FAILOVER
from greenroom.actors.call.retry import RetryPolicy, Verdict
from greenroom.actors.events import Event, ProviderError, ProviderFailed
from greenroom.actors.flow.hedging import hedged
from greenroom.actors.flow.ways import Question, Ways
from greenroom.actors.kernel import Clock, Refused
from greenroom.actors.limiter import BATCH

_T = TypeVar("_T")
MakeAttempt: TypeAlias = Callable[[CallState, Way], Coroutine[None, None, _T]]
"""Makes one attempt of a call, on a way."""
_MEASURED = 20
"""So many attempts of a model must be known before a quantile of its latency says anything."""
_LATE = 0.95


class Pursuit:
    """Has attempts made until one is answered, as the retry policy says and the table of failovers.

    Args:
        ways: from one model to the next.
        policy: when the same one is asked again.
        clock: time and sleep.
        tell: where events go.
    """

    def __init__(self, ways: Ways, policy: RetryPolicy, clock: Clock, tell: Callable[[Event], None]) -> None:
        self._ways = ways
        self._policy = policy
        self._clock = clock
        self._tell = tell

    async def until_answered(
        self,
        call: CallState,
        attempt: MakeAttempt[_T],
        question: Question | None = None,
        discard: Callable[[_T], Awaitable[None]] | None = None,
    ) -> _T:
        """The first answer; `call.way` is then the one that it came by.

        Args:
            call: what is asked, so far.
            attempt: makes one attempt.
            question: what to ask another model; None: it is asked of this one alone.
            discard: takes an answer that came together with another.

        Raises:
            ProviderFailed: the last attempt's failure, with what all of them cost.
            Refused: as `Attempts.send`.
        """
        if call.way.dropped:
            self._tell(options_dropped(call, call.way))
        attempts = 0
        while True:
            if not attempts:
                self._policy.begin(call.way.route.provider, patient=call.priority == BATCH)
            attempts += 1
            try:
                if question is not None and question.terms.hedge and not call.made:
                    return await self._hedged(call, attempt, question, discard)
                return await attempt(call, call.way)
            except ProviderFailed as failure:
                error, cost_pusd = failure.error, failure.cost_pusd
            then = await self._after(call, question, error, attempts)
            if isinstance(then, Way):
                self._tell(attempt_failed(call, error, 0.0, cost_pusd))
                attempts = attempts - 1 if then.route is call.way.route else 0
                self._change_to(call, then, error)
                continue
            self._tell(attempt_failed(call, error, then.delay_s, cost_pusd))
            if then.delay_s is None:
                near = await self._ways.near(call.way.route) if error.kind == "not_found" else ""
                raise call.failure(error, "; ".join(filter(None, (then.why, near))))
            attempts -= not then.counts
            await self._clock.sleep(then.delay_s)

    async def _after(
        self, call: CallState, question: Question | None, error: ProviderError, attempts: int
    ) -> Verdict | Way:
        """What follows a failure: another request, another model, another attempt, or the end."""
        left_s = call.deadline_s - self._clock.monotonic()
        when = "never"
        if question is not None and left_s > 0.0:
            if changed := self._ways.dropping(call.way, question, error):
                return changed
            if call.fallbacks:
                when = FAILOVER[error.kind].when
            if when == "at once" and (way := await self._ways.next(call, question, error)):
                return way
        verdict = self._policy.verdict(error, attempts, left_s, patient=call.priority == BATCH)
        if question is None or when != "after retries" or self._policy.is_short(verdict.delay_s):
            return verdict
        return await self._ways.next(call, question, error) or verdict

    def _change_to(self, call: CallState, way: Way, error: ProviderError) -> None:
        if way.route is not call.way.route:
            self._tell(failed_over(call, way, error))
        call.way = way
        if way.dropped:
            self._tell(options_dropped(call, way))

    async def _hedged(
        self,
        call: CallState,
        attempt: MakeAttempt[_T],
        question: Question,
        discard: Callable[[_T], Awaitable[None]] | None,
    ) -> _T:
        """One attempt, and a second one beside it if it is late. That comes out of the budget of retries."""
        patient = call.priority == BATCH
        first, after_s = call.way, _late_s(call.way, question.terms.hedge)
        if after_s is None:
            return await attempt(call, first)

        async def on(way: Way) -> tuple[Way, _T]:
            return way, await attempt(call, way)

        async def second() -> tuple[Way, _T]:
            way = await self._ways.next(call, question, None) or self._ways.beside(first)
            if not self._policy.may_hedge(way.route.provider, patient=patient):
                raise _NoHedge
            self._tell(hedge_made(call, way, after_s))
            if way.dropped and way.route is not first.route:
                self._tell(options_dropped(call, way))
            return await on(way)

        async def discarded(late: tuple[Way, _T]) -> None:
            if discard is not None:
                await discard(late[1])

        def failed(failure: ProviderFailed) -> None:
            self._tell(attempt_failed(call, failure.error, 0.0, failure.cost_pusd))

        call.way, answer = await hedged(
            on(first), self._clock.sleep(after_s), second, failed=failed, discard=discarded
        )
        return answer


class _NoHedge(Refused):
    """The provider bears no second attempt now."""


def _late_s(way: Way, hedge: float) -> float | None:
    """Seconds after which an answer is late; None: too little is known to say."""
    if hedge is not True:
        return float(hedge)
    record = way.route.record
    return record.latency_s(_LATE) if record.attempts >= _MEASURED else None
