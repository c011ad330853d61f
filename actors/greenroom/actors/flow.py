"""One provider call, from hold to settle, on the caller's task.

    resolve -> hold -> admit -> lease -> exchange -> outcome, release, settle

`Flow.chat` owns the retries; nothing below or above it tries again. `Flow._attempt` is one attempt: it holds money,
asks for admission and a connection, sends, and whatever happens gives all three back. Its ticket is made here, so
what an actor granted and could not tell is given back too.

Actors own state, not bytes: the exchange itself never passes through a mailbox. Each actor asked here is asked by
name, with a message that may be sent twice, so a restart of any of them is a wait and not a failure.
"""

import asyncio
import math
import random
from collections.abc import Awaitable, Callable
from decimal import Decimal

import aiohttp
import structlog
from msgspec import Raw, Struct, structs

from greenroom.actors.catalog import Resolve, Route
from greenroom.actors.events import (
    AttemptFailed,
    CallDone,
    Event,
    FinishReason,
    ProviderError,
    ProviderFailed,
    ToolCall,
    Usage,
)
from greenroom.actors.exchange import Answer, ExchangeFailed, exchange
from greenroom.actors.kernel import ActorExited, ActorRef, Cast, Clock, Overloaded, Refused
from greenroom.actors.ledger import Account, Hold, Outbox, Settle
from greenroom.actors.limiter import INTERACTIVE, Admit, Freeze, Release
from greenroom.actors.pool import Lease, Outcome, Sockets
from greenroom.actors.prices import Price, usd
from greenroom.actors.providers import ChatRequest, Completion, RejectedAnswer, WireRequest
from greenroom.actors.retry import retry_delay_s
from greenroom.actors.settings import Retries

_log = structlog.get_logger(__name__)
_ASSUMED_OUTPUT_TOKENS = 4096
"""Output that a hold reckons with where the caller sets no `max_tokens`."""
_BYTES_PER_TOKEN = 4
"""A fair guess for admission, which needs an estimate and not a bound."""
_NOBODY = Account()


class Line(Struct, frozen=True):
    """What reaches one provider: its actors by name, and what outlives them."""

    limiter: ActorRef
    pool: ActorRef
    sockets: Sockets
    permits: dict[int, Admit]


class Reply(Struct, frozen=True, kw_only=True):
    """A whole answer.

    `usage` and `cost_usd` are of all attempts together; `raw` is the provider's own JSON, one line.
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

    @property
    def cost_usd(self) -> Decimal:
        """What all attempts were charged, exact."""
        return usd(self.cost_pusd)


class _Call(Struct, gc=False):
    """What stays the same over a call's attempts, and what they add up to."""

    id: int
    route: Route
    line: Line
    wire: WireRequest
    max_tokens: int
    account: Account
    priority: int
    started_s: float
    deadline_s: float
    cost_pusd: int = 0
    usage: Usage = Usage()


class Closed(Refused):
    """The runtime is being left, or was: no call is begun any more, and those in flight were given up."""


class RuntimeFailed(Closed):
    """greenroom's own actors failed more often than the root supervisor bears. Nothing is served until a runtime is
    entered anew; what is on disk is safe, jobs go on from there, and what was in flight is charged as estimated.
    """


class Flow:
    """The way of a call. One for a runtime; between calls it keeps nothing but the ways to the providers.

    Args:
        catalog: the catalogue, by name.
        ledger: the ledger, by name.
        outbox: where holds and settlements outlive the ledger.
        ensure: starts a provider's actors where they do not run yet.
        next_ticket: a number never given before, in any process.
        clock: time and sleep.
        retries: the retry policy.
        tell: where events go.
    """

    def __init__(
        self,
        *,
        catalog: ActorRef,
        ledger: ActorRef,
        outbox: Outbox,
        ensure: Callable[[str], Awaitable[Line]],
        next_ticket: Callable[[], int],
        clock: Clock,
        retries: Retries,
        tell: Callable[[Event], None],
    ) -> None:
        self._catalog = catalog
        self._ledger = ledger
        self._outbox = outbox
        self._ensure = ensure
        self._next_ticket = next_ticket
        self._clock = clock
        self._retries = retries
        self._tell = tell
        self._lines: dict[str, Line] = {}
        self._living: set[asyncio.Task[object]] = set()
        self._closed: Closed | None = None
        self._last_ended = asyncio.Event()

    async def aclose(self, why: Closed | None = None) -> None:
        """Give up every call in flight, and return once all are settled with the outbox.

        Args:
            why: raised at the callers, and at everybody who calls from now on; None: the runtime was left.

        Cancelling leaves calls that are being given up to end by themselves.
        """
        if self._closed is None:
            self._closed = why or Closed("the runtime was left")
            for task in self._living:
                task.cancel()
        if self._living:
            self._last_ended.clear()
            await self._last_ended.wait()

    async def chat(
        self,
        request: ChatRequest,
        *,
        account: Account = _NOBODY,
        priority: int = INTERACTIVE,
        timeout_s: float | None = None,
    ) -> Reply:
        """Ask a model, and wait for its whole answer.

        Args:
            request: what to ask whom.
            account: whom to charge.
            priority: 0 interactive, 1 batch.
            timeout_s: for everything, waiting and retries included; None: the provider's `stalls.total_s`.

        Raises:
            Refused: before anything is sent: `UnknownModel`, `Unpriced`, `StorageFailed`, `TooManyWaiting`...
            ProviderFailed: the last attempt's failure, when it cannot be mended or attempts or time ran out.

        Cancelling closes the connection, gives permit and lease back, and settles the attempt: at its upper bound,
        marked estimated, if the request had gone out (the provider may well serve it), else at nothing.
        """
        task = asyncio.current_task()
        assert task is not None
        if self._closed is not None:
            raise _again(self._closed)
        self._living.add(task)
        try:
            return await self._until_answered(await self._begin(request, account, priority, timeout_s))
        except asyncio.CancelledError:
            if self._closed is not None and not task.uncancel():
                raise _again(self._closed) from None
            raise
        finally:
            self._living.discard(task)
            if not self._living:
                self._last_ended.set()

    async def _until_answered(self, call: _Call) -> Reply:
        """Attempt after attempt, as the one retry policy says."""
        attempts = 0
        while True:
            attempts += 1
            before_pusd = call.cost_pusd
            try:
                return await self._attempt(call, attempts)
            except ProviderFailed as failure:
                error = failure.error
            left_s = call.deadline_s - self._clock.monotonic()
            delay_s = retry_delay_s(error, attempts, self._retries, left_s, random.uniform)
            self._tell(
                AttemptFailed(
                    call_id=call.id,
                    error=error,
                    retry_in_s=delay_s,
                    cost_pusd=call.cost_pusd - before_pusd,
                    job_id=call.account.job_id,
                )
            )
            if delay_s is None:
                raise ProviderFailed(error, cost_pusd=call.cost_pusd)
            await self._clock.sleep(delay_s)

    async def _begin(
        self, request: ChatRequest, account: Account, priority: int, timeout_s: float | None
    ) -> _Call:
        route = await self._catalog.call(Resolve(request.model))
        line = self._lines.get(route.provider)
        if line is None:
            line = self._lines[route.provider] = await self._ensure(route.provider)
        now_s = self._clock.monotonic()
        return _Call(
            id=self._next_ticket(),
            route=route,
            line=line,
            wire=route.codec.encode(request, route.model),
            max_tokens=request.max_tokens or _ASSUMED_OUTPUT_TOKENS,
            account=account,
            priority=priority,
            started_s=now_s,
            deadline_s=now_s + (timeout_s or route.settings.stalls.total_s),
        )

    async def _attempt(self, call: _Call, number: int) -> Reply:
        """One attempt: hold, admit, lease, send, read; then give back whatever was granted."""
        attempt = _Attempt(self._hold(call, number))
        self._outbox.open(attempt.hold)
        try:
            session = await self._acquire(call, attempt)
            attempt.sent_s = self._clock.monotonic()
            url = call.line.sockets.url(call.wire.path)
            left_s = call.deadline_s - attempt.sent_s
            answer = await exchange(session, url, call.wire, call.route.settings.stalls, left_s)
            return self._reply(call, attempt, answer)
        except ExchangeFailed as failure:
            attempt.sent_s = attempt.sent_s if failure.sent else None
            error = ProviderError(kind=failure.kind, message=str(failure))
            raise self._failed(call, attempt, error) from failure
        except ProviderFailed as failure:
            raise self._failed(call, attempt, failure.error) from failure.__cause__
        finally:
            self._give_back(call, attempt)

    async def _acquire(self, call: _Call, attempt: "_Attempt") -> aiohttp.ClientSession:
        """Money, then a permit, then a connection, each within what is left of the call."""
        line, hold = call.line, attempt.hold
        ticket = hold.ticket
        admit = Admit(ticket, len(call.wire.body) // _BYTES_PER_TOKEN + call.max_tokens, call.priority)
        try:
            await self._ledger.call(hold, timeout=self._left_s(call))
        except Refused:
            self._outbox.drop(hold)
            attempt.refused = True
            raise
        except (TimeoutError, ActorExited) as error:
            raise _unavailable("the ledger", error) from error
        try:
            await line.limiter.call(admit, timeout=self._left_s(call))
            line.permits[ticket] = admit
            return (await line.pool.call(Lease(ticket), timeout=self._left_s(call))).session
        except (TimeoutError, ActorExited) as error:
            raise _unavailable(f"the limiter and pool of {call.route.provider}", error) from error

    def _reply(self, call: _Call, attempt: "_Attempt", answer: Answer) -> Reply:
        route = call.route
        attempt.request_id = answer.headers.get("x-request-id")
        if not 200 <= answer.status < 300:
            # Providers do not charge for what they refuse or fail to serve.
            attempt.sent_s = None
            raise ProviderFailed(
                route.codec.failure(answer.status, answer.headers, answer.body, self._clock.time())
            )
        try:
            completion = route.codec.decode(answer.body)
        except RejectedAnswer as error:
            raise ProviderFailed(
                ProviderError(kind="protocol", message=str(error), status=answer.status)
            ) from error
        attempt.answered(route.price, completion)
        call.cost_pusd += attempt.cost_pusd
        call.usage += attempt.usage
        return self._done(call, attempt, completion)

    def _done(self, call: _Call, attempt: "_Attempt", completion: Completion) -> Reply:
        provider, model, attempts = call.route.provider, call.route.model, attempt.hold.number
        self._tell(
            CallDone(
                call_id=call.id,
                provider=provider,
                model=model,
                attempts=attempts,
                usage=call.usage,
                cost_pusd=call.cost_pusd,
                duration_s=self._clock.monotonic() - call.started_s,
                job_id=call.account.job_id,
            )
        )
        return Reply(
            text=completion.text,
            model=completion.model or model,
            provider=provider,
            finish_reason=completion.finish_reason,
            usage=call.usage,
            cost_pusd=call.cost_pusd,
            attempts=attempts,
            raw=completion.raw,
            request_id=attempt.request_id,
            reasoning=completion.reasoning,
            refusal=completion.refusal,
            tool_calls=completion.tool_calls,
        )

    def _failed(self, call: _Call, attempt: "_Attempt", error: ProviderError) -> ProviderFailed:
        """The attempt's failure with its whereabouts filled in; what it is charged is added to the call."""
        attempt.outcome = error.kind
        attempt.charge_bound_if_sent()
        call.cost_pusd += attempt.cost_pusd
        if error.kind in ("rate_limited", "overloaded") and error.retry_after_s is not None:
            call.line.limiter.cast(Freeze(error.retry_after_s))
        return ProviderFailed(
            structs.replace(
                error,
                provider=call.route.provider,
                model=call.route.model,
                attempts=attempt.hold.number,
                request_id=attempt.request_id,
            )
        )

    def _give_back(self, call: _Call, attempt: "_Attempt") -> None:
        """Return the lease and the permit, granted or not, and settle the hold. Nothing here waits or fails."""
        line, hold = call.line, attempt.hold
        if attempt.outcome == "cancelled":
            attempt.charge_bound_if_sent()
        now_s = self._clock.monotonic()
        line.permits.pop(hold.ticket, None)
        line.sockets.leases.discard(hold.ticket)
        _cast(line.pool, Outcome(hold.ticket, attempt.outcome, now_s - (attempt.sent_s or now_s)))
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

    def _hold(self, call: _Call, number: int) -> Hold:
        # A token is never less than a byte, so the body's length bounds the input whatever the tokeniser.
        return Hold(
            ticket=self._next_ticket(),
            call_id=call.id,
            number=number,
            provider=call.route.provider,
            model=call.route.model,
            bound_pusd=call.route.price.bound_pusd(len(call.wire.body), call.max_tokens),
            account=call.account,
            started_at_ms=int(self._clock.time() * 1000),
        )

    def _left_s(self, call: _Call) -> float:
        # Whole seconds, so that the kernel's timeouts fall into a few common limits.
        return max(1, math.ceil(call.deadline_s - self._clock.monotonic()))


class _Attempt(Struct, gc=False):
    """What one attempt came to so far. Unless it is said otherwise, it was cancelled.

    `sent_s` is set while the provider may be serving the request, and so may charge for it. `refused`: the ledger did
    not grant the hold, so there is nothing to settle.
    """

    hold: Hold
    outcome: str = "cancelled"
    sent_s: float | None = None
    cost_pusd: int = 0
    usage: Usage = Usage()
    estimated: bool = False
    refused: bool = False
    request_id: str | None = None

    def answered(self, price: Price, completion: Completion) -> None:
        """A whole answer came; one that states no usage is charged the upper bound."""
        self.outcome = "ok"
        self.usage = completion.usage
        if completion.usage_reported:
            self.cost_pusd = price.cost_pusd(completion.usage)
        else:
            self.charge_bound_if_sent()

    def charge_bound_if_sent(self) -> None:
        """What is unknown is charged at its upper bound: a hard cap holds even if the provider charged all of it."""
        if self.sent_s is not None:
            self.cost_pusd = self.hold.bound_pusd
            self.estimated = self.cost_pusd > 0


def _again(error: Closed) -> Closed:
    """An exception of its own for each who is told, since each gets a traceback of its own."""
    return type(error)(*error.args)


def _unavailable(what: str, error: Exception) -> ProviderFailed:
    return ProviderFailed(ProviderError(kind="timeout", message=f"{what} did not answer in time: {error!r}"))


def _cast(ref: ActorRef, message: Cast) -> None:
    """Tell an actor what it no longer needs to keep; the dead need not know, the overloaded count it later."""
    try:
        ref.cast(message)
    except Overloaded:
        _log.warning("mailbox full, message lost", actor=str(ref), message=type(message).__name__)
