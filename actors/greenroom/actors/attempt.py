"""One attempt of a call: money, a permit and a connection, each asked for in turn, all given back whatever happens.

Actors own state, not bytes. Each actor asked here is asked by name, with a message that may be sent twice, so a
restart of any of them is a wait and not a failure. A ticket is made by who asks, so what an actor granted and could
not tell is given back too.
"""

import math
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Protocol

import aiohttp
import structlog
from msgspec import Raw, Struct, structs

from greenroom.actors.catalog import Route
from greenroom.actors.events import (
    AttemptFailed,
    CallDone,
    FinishReason,
    ProviderError,
    ProviderFailed,
    ReasoningState,
    TokenLogprob,
    ToolCall,
    Usage,
)
from greenroom.actors.kernel import ActorExited, ActorRef, Cast, Clock, Overloaded, Refused
from greenroom.actors.ledger import Account, Budget, BudgetExceeded, Hold, Outbox, Settle
from greenroom.actors.limiter import BATCH, INTERACTIVE, Admit, Freeze, Release
from greenroom.actors.pool import Lease, Outcome, Sockets
from greenroom.actors.prices import Price, usd
from greenroom.actors.providers import Completion, WireRequest

_log = structlog.get_logger(__name__)
_BYTES_PER_TOKEN = 4
"""A fair guess for admission, which needs an estimate and not a bound."""


class Closed(Refused):
    """The runtime is being left, or was: no call is begun any more, and those in flight were given up."""


class RuntimeFailed(Closed):
    """greenroom's own actors failed more often than the root supervisor bears. Nothing is served until a runtime is
    entered anew; what is on disk is safe, jobs go on from there, and what was in flight is charged as estimated.
    """


def again(error: Closed) -> Closed:
    """An exception of its own for each who is told, since each gets a traceback of its own."""
    return type(error)(*error.args)


class Terms(Struct, frozen=True, kw_only=True):
    """What a caller says besides the request.

    `account` is whom to charge; `priority` is 0 interactive, 1 batch. `timeout_s` is for everything, waiting and
    retries included; None: the provider's `stalls.total_s`. `budget_pusd` is the most that all attempts together may
    be charged; None: what other budgets allow.
    """

    account: Account = Account()
    priority: int = INTERACTIVE
    timeout_s: float | None = None
    budget_pusd: int | None = None


NO_TERMS = Terms()


class Line(Struct, frozen=True):
    """What reaches one provider: its actors by name, and what outlives them."""

    limiter: ActorRef
    pool: ActorRef
    sockets: Sockets
    permits: dict[int, Admit]
    waiting: Mapping[int, object]


class CallState(Struct, gc=False):
    """What stays the same over a call's attempts, and what they add up to.

    `input_bound` and `max_tokens` are the most tokens in and out. `budget_pusd` is the most that all attempts together
    may be charged; `max_tokens_set` is the bound that a budget demanded of an answer where the caller gave none.
    """

    id: int
    route: Route
    line: Line
    wire: WireRequest
    input_bound: int
    max_tokens: int
    account: Account
    priority: int
    started_s: float
    deadline_s: float
    budget_pusd: int | None = None
    max_tokens_set: int | None = None
    cost_pusd: int = 0
    usage: Usage = Usage()


def begin_call(
    id_: int,
    way: tuple[Route, Line],
    wire: WireRequest,
    terms: Terms,
    *,
    bounds: tuple[int, int],
    now_s: float,
) -> CallState:
    """A call that nothing has been sent of. `bounds` are the most tokens that can go in and come out."""
    route, line = way
    return CallState(
        id=id_,
        route=route,
        line=line,
        wire=wire,
        input_bound=bounds[0],
        max_tokens=bounds[1],
        account=terms.account,
        priority=terms.priority,
        started_s=now_s,
        deadline_s=now_s + (terms.timeout_s or route.settings.stalls.total_s),
        budget_pusd=terms.budget_pusd,
    )


class Reply(Struct, frozen=True, kw_only=True):
    """A whole answer.

    `usage` and `cost_usd` are of all attempts together; `raw` is OpenAI's `chat.completion`, one line: as it came
    where the provider speaks that shape and answered whole, and else put together. `max_tokens_set` is the bound that
    was set on the answer because a budget applies and the caller gave none; None: the caller's own, or none.
    `reasoning_state` goes back to the provider with the assistant's message, `Message.reasoning_state`.
    """

    text: str
    model: str
    provider: str
    finish_reason: FinishReason
    usage: Usage
    cost_pusd: int
    attempts: int
    raw: Raw
    request_id: str | None = None
    reasoning: str = ""
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    max_tokens_set: int | None = None
    reasoning_state: ReasoningState | None = None

    @property
    def cost_usd(self) -> Decimal:
        """What all attempts were charged, exact."""
        return usd(self.cost_pusd)


class Answered(Protocol):
    """What a whole answer of any kind says of its price."""

    @property
    def usage(self) -> Usage: ...
    @property
    def usage_reported(self) -> bool: ...


class Attempt(Struct, gc=False):
    """What one attempt came to so far. Unless it is said otherwise, it was cancelled.

    `most_pusd` is the most that it can be charged, by what is known. `sent_s` is set while the provider may be
    serving the request, and so may charge for it. `refused`: the ledger did not grant the hold, so there is nothing
    to settle. `granted`: permit and lease came, so nothing that was asked for still waits in a mailbox.
    """

    hold: Hold
    most_pusd: int
    outcome: str = "cancelled"
    sent_s: float | None = None
    cost_pusd: int = 0
    usage: Usage = Usage()
    estimated: bool = False
    refused: bool = False
    granted: bool = False
    request_id: str | None = None

    def answered(self, price: Price, answer: Answered) -> None:
        """A whole answer came; one that states no usage is charged the upper bound."""
        self.outcome = "ok"
        self.usage = answer.usage
        if answer.usage_reported:
            self.cost_pusd = price.cost_pusd(answer.usage)
        else:
            self.charge_bound_if_sent()

    def charge_bound_if_sent(self) -> None:
        """What is unknown is charged at its upper bound: a hard cap holds even if the provider charged all of it."""
        if self.sent_s is not None:
            self.cost_pusd = self.most_pusd
            self.estimated = self.cost_pusd > 0


def reply_of(call: CallState, attempt: Attempt, completion: Completion) -> Reply:
    """The reply to a call that `attempt` answered."""
    return Reply(
        text=completion.text,
        model=completion.model or call.route.model,
        provider=call.route.provider,
        finish_reason=completion.finish_reason,
        usage=call.usage,
        cost_pusd=call.cost_pusd,
        attempts=attempt.hold.number,
        raw=completion.raw,
        request_id=attempt.request_id,
        reasoning=completion.reasoning,
        refusal=completion.refusal,
        tool_calls=completion.tool_calls,
        logprobs=completion.logprobs,
        max_tokens_set=call.max_tokens_set,
        reasoning_state=completion.reasoning_state,
    )


def attempt_failed(
    call: CallState, error: ProviderError, retry_in_s: float | None, cost_pusd: int
) -> AttemptFailed:
    """The event of one attempt that failed; `retry_in_s` is None where the call is given up."""
    return AttemptFailed(
        call_id=call.id,
        error=error,
        retry_in_s=retry_in_s,
        cost_pusd=cost_pusd,
        job_id=call.account.job_id,
    )


def call_done(call: CallState, attempt: Attempt, now_s: float) -> CallDone:
    """The event of a call that `attempt` answered."""
    return CallDone(
        call_id=call.id,
        provider=call.route.provider,
        model=call.route.model,
        attempts=attempt.hold.number,
        usage=call.usage,
        cost_pusd=call.cost_pusd,
        duration_s=now_s - call.started_s,
        job_id=call.account.job_id,
    )


class Attempts:
    """Begins attempts and gives back what they were granted.

    Args:
        ledger: the ledger, by name.
        outbox: where holds and settlements outlive the ledger.
        next_ticket: a number never given before, in any process.
        clock: time.
        max_freeze_s: how long a provider may keep everybody waiting by its Retry-After. One that asks for more keeps
            nobody waiting: who asks next is told the same at once, not after a wait that cannot help.
    """

    def __init__(
        self,
        ledger: ActorRef,
        outbox: Outbox,
        next_ticket: Callable[[], int],
        clock: Clock,
        max_freeze_s: float,
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._next_ticket = next_ticket
        self._clock = clock
        self._max_freeze_s = max_freeze_s

    def begin(self, call: CallState, number: int) -> Attempt:
        """Reckon what an attempt may cost, and make sure that it can be settled. Unless it raises, `give_back` must follow.

        Raises:
            BudgetExceeded: the call's own budget has no room for it.
            TooManyUnsettled: see there.
        """
        hold = self._hold(call, number)
        cap_pusd = call.budget_pusd
        if cap_pusd is not None and call.cost_pusd + hold.bound_pusd > cap_pusd:
            budget = Budget("call", cap_pusd)
            raise BudgetExceeded(
                budget, None, settled_pusd=call.cost_pusd, held_pusd=0, asked_pusd=hold.bound_pusd
            )
        self._outbox.open(hold)
        return Attempt(hold, hold.bound_pusd)

    async def acquire(self, call: CallState, attempt: Attempt) -> aiohttp.ClientSession:
        """Money, then a permit, then a connection, each within what is left of the call.

        Raises:
            Refused: the ledger's or the limiter's.
            ProviderFailed: one of them did not answer in time.
        """
        line, hold = call.line, attempt.hold
        ticket = hold.ticket
        admit = Admit(ticket, len(call.wire.body) // _BYTES_PER_TOKEN + call.max_tokens, call.priority)
        try:
            await self._ledger.call(hold, timeout=self._left_s(call))
        except Overloaded:
            # The mailbox's word, not the ledger's: a ledger before this one may have granted it, so it is settled.
            raise
        except Refused:
            attempt.refused = True
            raise
        except (TimeoutError, ActorExited) as error:
            raise unavailable("the ledger", error) from error
        try:
            await line.limiter.call(admit, timeout=self._left_s(call))
            leased = await line.pool.call(Lease(ticket), timeout=self._left_s(call))
        except (TimeoutError, ActorExited) as error:
            raise unavailable(f"the limiter and pool of {call.route.provider}", error) from error
        attempt.granted = True
        return leased.session

    def failed(self, call: CallState, attempt: Attempt, error: ProviderError) -> ProviderFailed:
        """The attempt's failure with its whereabouts filled in; what it is charged is added to the call."""
        attempt.outcome = error.kind
        attempt.charge_bound_if_sent()
        call.cost_pusd += attempt.cost_pusd
        wait_s = error.retry_after_s
        if (
            error.kind in ("rate_limited", "overloaded")
            and wait_s is not None
            and wait_s <= self._max_freeze_s
        ):
            call.line.limiter.cast(Freeze(wait_s))
        return ProviderFailed(
            structs.replace(
                error,
                provider=call.route.provider,
                model=call.route.model,
                attempts=attempt.hold.number,
                request_id=error.request_id or attempt.request_id,
            )
        )

    def give_back(self, call: CallState, attempt: Attempt) -> None:
        """Return the lease and the permit, granted or not, and settle the hold. Nothing here waits or fails."""
        line, hold = call.line, attempt.hold
        if attempt.outcome == "cancelled":
            attempt.charge_bound_if_sent()
        now_s = self._clock.monotonic()
        duration_s = now_s - (attempt.sent_s or now_s)
        line.permits.pop(hold.ticket, None)
        if attempt.granted:
            # No word to the actors: a queued message would keep them from granting on the next caller's stack.
            line.sockets.give_back(hold.ticket, attempt.outcome, duration_s)
        else:
            line.sockets.leases.discard(hold.ticket)
            _cast(line.pool, Outcome(hold.ticket, attempt.outcome, duration_s))
        if line.waiting or not attempt.granted:
            _cast(line.limiter, Release(hold.ticket))
        if attempt.refused:
            return
        self._outbox.settle(
            Settle(
                hold=hold,
                outcome=attempt.outcome,
                cost_pusd=attempt.cost_pusd,
                usage=attempt.usage,
                estimated=attempt.estimated,
                settled_at_ms=int(self._clock.time() * 1000),
                request_id=attempt.request_id,
            )
        )

    def _hold(self, call: CallState, number: int) -> Hold:
        return Hold(
            ticket=self._next_ticket(),
            call_id=call.id,
            number=number,
            provider=call.route.provider,
            model=call.route.model,
            bound_pusd=call.route.price.bound_pusd(call.input_bound, call.max_tokens),
            account=call.account,
            started_at_ms=int(self._clock.time() * 1000),
            wait=call.priority == BATCH,
        )

    def _left_s(self, call: CallState) -> float:
        # Whole seconds, so that the kernel's timeouts fall into a few common limits.
        return max(1, math.ceil(call.deadline_s - self._clock.monotonic()))


def unavailable(what: str, error: Exception) -> ProviderFailed:
    """The failure of a call whose own actors did not answer in time; a later call may fare better."""
    return ProviderFailed(ProviderError(kind="timeout", message=f"{what} did not answer in time: {error!r}"))


def _cast(ref: ActorRef, message: Cast) -> None:
    """Tell an actor what it no longer needs to keep; the dead need not know, the overloaded count it later."""
    try:
        ref.cast(message)
    except Overloaded:
        _log.warning("mailbox full, message lost", actor=str(ref), message=type(message).__name__)
