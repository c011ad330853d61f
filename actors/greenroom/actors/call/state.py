"""A call: what its caller says besides the request, what it has come to so far, and the reply that it ends in."""

from decimal import Decimal
from typing import Literal

from msgspec import Raw, Struct, structs

from greenroom.actors.call.failover import Fallback
from greenroom.actors.catalog import Choice, Requirements, Route, Strategy
from greenroom.actors.events import (
    AttemptFailed,
    CallDone,
    FailedOver,
    FinishReason,
    HedgeMade,
    Operation,
    OptionsDropped,
    ProviderError,
    ProviderFailed,
    ReasoningState,
    TokenLogprob,
    ToolCall,
    ToolResult,
    Tried,
    Usage,
)
from greenroom.actors.kernel import ActorRef, Refused
from greenroom.actors.ledger import Account
from greenroom.actors.limiter import INTERACTIVE, Allowance
from greenroom.actors.local import LocalLine
from greenroom.actors.pool import Sockets
from greenroom.actors.prices import Price, usd
from greenroom.actors.providers import Completion, FunctionCall, Message, RequestedTool, WireRequest


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
    be charged; None: what other budgets allow. `fallbacks` are models, as `provider/model`, that are asked one after
    another when the one before fails in a way that another may mend (`failover.FAILOVER`), until there is content; time
    and budget are for all of them together. `unsupported` is what becomes of options that a model cannot take: the call
    is refused before anything is held or sent, or they are left out, and told of. `hedge` has a second attempt made, of the
    next fallback if there is one, when the first has no answer after so many seconds; True: after a time within which
    19 of 20 answers of the model came, once 20 are known. The first answer wins; both are paid for.

    `requirements` and `strategy` choose the model where the request's is `AUTO`, once for the call; what the request
    itself needs is required besides, and up to three runners-up are its fallbacks.

    `idempotency_key` is by what a provider that has such a thing knows the request again, also from another process; None:
    it is made up, for this call.
    """

    account: Account = Account()
    priority: int = INTERACTIVE
    timeout_s: float | None = None
    budget_pusd: int | None = None
    fallbacks: tuple[str, ...] = ()
    unsupported: Literal["refuse", "drop"] = "refuse"
    hedge: float | bool = False
    requirements: Requirements | None = None
    strategy: Strategy = "balanced"
    idempotency_key: str | None = None


NO_TERMS = Terms()


class Line(Struct, frozen=True):
    """What reaches one provider: its actors by name, and what outlives them."""

    limiter: ActorRef
    pool: ActorRef
    sockets: Sockets
    allowance: Allowance
    local: LocalLine | None = None


class Way(Struct, gc=False):
    """One model that a call is asked of: how to reach it, and the request in its wire's words.

    `input_bound` and `max_tokens` are the most tokens in and out, `price` what these are held at. `max_tokens_set` is the
    bound that a budget demanded of an answer where the caller gave none. `dropped` are the options that the model cannot
    take, and was not sent.
    """

    route: Route
    line: Line
    wire: WireRequest
    input_bound: int
    max_tokens: int
    price: Price
    max_tokens_set: int | None = None
    dropped: tuple[str, ...] = ()


class CallState(Struct, gc=False):
    """What stays the same over a call's attempts, and what they add up to.

    `way` is how the next attempt goes, and in the end the one that was answered; `made` counts those begun, `held_pusd` is
    what those in flight may come to, and `tried` tells of those that ended, in that order. `budget_pusd` is the most that all of them together may be charged. `first` is the model that was asked for,
    `fallbacks` are those left to go on to; `passed_over` says of those that could not be asked why not. `choice` is why
    the first was chosen, where it was.
    """

    id: int
    first: Route
    way: Way
    account: Account
    priority: int
    started_s: float
    deadline_s: float
    budget_pusd: int | None = None
    operation: Operation = "chat"
    made: int = 0
    held_pusd: int = 0
    cost_pusd: int = 0
    usage: Usage = Usage()
    tried: tuple[Tried, ...] = ()
    fallbacks: tuple[Fallback, ...] = ()
    passed_over: tuple[str, ...] = ()
    choice: Choice | None = None

    def failure(self, error: ProviderError, why: str = "") -> ProviderFailed:
        """The call's failure, with what all attempts were charged, and `why` nothing more is tried."""
        said = "; ".join(filter(None, (error.message, why, *self.passed_over)))
        error = structs.replace(error, message=said)
        return ProviderFailed(error, cost_pusd=self.cost_pusd, tried=self.tried)


def begin_call(id_: int, way: Way, terms: Terms, now_s: float) -> CallState:
    """A call that nothing has been sent of."""
    return CallState(
        id=id_,
        first=way.route,
        way=way,
        account=terms.account,
        priority=terms.priority,
        started_s=now_s,
        deadline_s=now_s + (terms.timeout_s or way.route.settings.stalls.total_s),
        budget_pusd=terms.budget_pusd,
    )


class Reply(Struct, frozen=True, kw_only=True, gc=False):
    """A whole answer.

    `usage` and `cost_usd` are of all attempts together; `raw` is OpenAI's `chat.completion`, one line: as it came
    where the provider speaks that shape and answered whole, and else put together. `max_tokens_set` is the bound that
    was set on the answer because a budget applies and the caller gave none; None: the caller's own, or none.
    `reasoning_state` goes back to the provider with the assistant's message, `Message.reasoning_state`. `tried` tells
    of each attempt, in the order in which they ended: `attempts` counts them. `dropped` are options that the model cannot
    take, and was not sent, as `unsupported="drop"` says. `choice` explains why the model was chosen, where it was `AUTO`.

    Where tools were run, `tool_results` are what they gave, `tool_messages` what was said before this answer to have
    them run, and all that is added up is of all rounds together. A `cached` answer was kept from an earlier call, and
    cost nothing now.
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
    tried: tuple[Tried, ...] = ()
    dropped: tuple[str, ...] = ()
    choice: Choice | None = None
    tool_results: tuple[ToolResult, ...] = ()
    tool_messages: tuple[Message, ...] = ()
    cached: bool = False

    @property
    def cost_usd(self) -> Decimal:
        """What all attempts were charged, exact."""
        return usd(self.cost_pusd)

    @property
    def new_messages(self) -> tuple[Message, ...]:
        """What this adds to its conversation: messages of tools, then the answer. Put the next question behind them."""
        calls = tuple(RequestedTool(c.id, FunctionCall(c.name, c.arguments)) for c in self.tool_calls)
        answer = Message(
            "assistant",
            self.text or None,
            tool_calls=calls or None,
            refusal=self.refusal,
            reasoning_state=self.reasoning_state,
        )
        return (*self.tool_messages, answer)


def reply_of(call: CallState, completion: Completion, request_id: str | None) -> Reply:
    """The reply to a call that was answered by its `way`."""
    way = call.way
    return Reply(
        text=completion.text,
        model=completion.model or way.route.model,
        provider=way.route.provider,
        finish_reason=completion.finish_reason,
        usage=call.usage,
        cost_pusd=call.cost_pusd,
        attempts=call.made,
        raw=completion.raw,
        request_id=request_id,
        reasoning=completion.reasoning,
        refusal=completion.refusal,
        tool_calls=completion.tool_calls,
        logprobs=completion.logprobs,
        max_tokens_set=way.max_tokens_set,
        reasoning_state=completion.reasoning_state,
        tried=call.tried,
        dropped=way.dropped,
        choice=call.choice,
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
        operation=call.operation,
        started_s=call.started_s,
    )


def failed_over(call: CallState, to: Way, error: ProviderError) -> FailedOver:
    """The event of a call that leaves its `way` for another one."""
    return FailedOver(
        call_id=call.id,
        from_model=_name(call.way.route),
        to_model=_name(to.route),
        error=error,
        cost_pusd=call.cost_pusd,
        passed_over=call.passed_over,
        job_id=call.account.job_id,
    )


def options_dropped(call: CallState, way: Way) -> OptionsDropped:
    """The event of a way on which not all was sent that was asked."""
    return OptionsDropped(
        call_id=call.id, model=_name(way.route), options=way.dropped, job_id=call.account.job_id
    )


def hedge_made(call: CallState, way: Way, after_s: float) -> HedgeMade:
    """The event of a second attempt beside the first."""
    return HedgeMade(call_id=call.id, model=_name(way.route), after_s=after_s, job_id=call.account.job_id)


def call_done(call: CallState, now_s: float) -> CallDone:
    """The event of a call that was answered by its `way`."""
    way = call.way
    return CallDone(
        call_id=call.id,
        provider=way.route.provider,
        model=way.route.model,
        attempts=call.made,
        usage=call.usage,
        cost_pusd=call.cost_pusd,
        duration_s=now_s - call.started_s,
        job_id=call.account.job_id,
        operation=call.operation,
    )


def unavailable(what: str, error: Exception) -> ProviderFailed:
    """The failure of a call whose own actors did not answer in time; a later call may fare better."""
    return ProviderFailed(ProviderError(kind="timeout", message=f"{what} did not answer in time: {error!r}"))


def _name(route: Route) -> str:
    return f"{route.provider}/{route.model}"
