"""One provider call, from hold to settle, on the caller's task.

    resolve -> hold -> admit -> lease -> exchange -> outcome, release, settle

`Flow` owns the retries; nothing below or above it tries again. One attempt holds money, asks for admission and a
connection, sends, and whatever happens gives all three back (`attempt`).
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from decimal import Decimal

from msgspec import Raw, Struct

from greenroom.actors.attempt import Attempt, Attempts, CallState, Line
from greenroom.actors.catalog import Resolve
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
from greenroom.actors.kernel import ActorRef, Clock, Refused
from greenroom.actors.ledger import Account, Outbox
from greenroom.actors.limiter import INTERACTIVE
from greenroom.actors.prices import usd
from greenroom.actors.providers import ChatRequest, Completion, RejectedAnswer
from greenroom.actors.retry import retry_delay_s
from greenroom.actors.settings import Retries

_ASSUMED_OUTPUT_TOKENS = 4096
"""Output that a hold reckons with where the caller sets no `max_tokens`."""
_NOBODY = Account()


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
        self._attempts = Attempts(ledger, outbox, next_ticket, clock, retries.max_retry_after_s)
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

    async def _until_answered(self, call: CallState) -> Reply:
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
    ) -> CallState:
        route = await self._catalog.call(Resolve(request.model))
        line = self._lines.get(route.provider)
        if line is None:
            line = self._lines[route.provider] = await self._ensure(route.provider)
        now_s = self._clock.monotonic()
        return CallState(
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

    async def _attempt(self, call: CallState, number: int) -> Reply:
        """One attempt: hold, admit, lease, send, read; then give back whatever was granted."""
        attempt = self._attempts.begin(call, number)
        try:
            session = await self._attempts.acquire(call, attempt)
            attempt.sent_s = self._clock.monotonic()
            url = call.line.sockets.url(call.wire.path)
            left_s = call.deadline_s - attempt.sent_s
            answer = await exchange(session, url, call.wire, call.route.settings.stalls, left_s)
            return self._reply(call, attempt, answer)
        except ExchangeFailed as failure:
            attempt.sent_s = attempt.sent_s if failure.sent else None
            error = ProviderError(kind=failure.kind, message=str(failure))
            raise self._attempts.failed(call, attempt, error) from failure
        except ProviderFailed as failure:
            raise self._attempts.failed(call, attempt, failure.error) from failure.__cause__
        finally:
            self._attempts.give_back(call, attempt)

    def _reply(self, call: CallState, attempt: Attempt, answer: Answer) -> Reply:
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

    def _done(self, call: CallState, attempt: Attempt, completion: Completion) -> Reply:
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


def _again(error: Closed) -> Closed:
    """An exception of its own for each who is told, since each gets a traceback of its own."""
    return type(error)(*error.args)
