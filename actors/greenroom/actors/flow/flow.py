"""One provider call, from hold to settle, on the caller's task.

    resolve -> hold -> admit -> lease -> exchange -> outcome, release, settle

`Flow` owns the retries; nothing below or above it tries again. One attempt holds money, asks for admission and a
connection, sends, and whatever happens gives all three back (`attempt`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import TypeVar

from msgspec import structs

from greenroom.actors.call import (
    NO_TERMS,
    CallState,
    Closed,
    Line,
    Reply,
    RuntimeFailed,
    Terms,
    Way,
    again,
    attempt_failed,
    begin_call,
    call_done,
    reply_of,
)
from greenroom.actors.call.exchange import Answer, StreamBody, exchange, open_stream
from greenroom.actors.call.retry import RetryPolicy
from greenroom.actors.catalog import Route, RouteRecord
from greenroom.actors.events import (
    Event,
    Finished,
    ProviderError,
    ProviderFailed,
)
from greenroom.actors.flow.attempt import Answered, Attempt, Attempts
from greenroom.actors.flow.embedding import Embeddings, embed_in_parts
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.flow.pursuit import MakeAttempt, Pursuit
from greenroom.actors.flow.streaming import CallStream, LiveStream
from greenroom.actors.flow.ways import Question, Ways
from greenroom.actors.kernel import ActorRef, Clock
from greenroom.actors.ledger import Budgets, Outbox
from greenroom.actors.prices import FREE
from greenroom.actors.providers import (
    ChatRequest,
    Completion,
    Replay,
    StreamDecoder,
    WireRequest,
)
from greenroom.actors.providers.counting import CountedInput, estimate_tokens, token_counter
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest
from greenroom.actors.settings import Retries

__all__ = ["NO_TERMS", "Closed", "Flow", "Reply", "RuntimeFailed", "Terms", "again"]

_T = TypeVar("_T")
_A = TypeVar("_A", bound=Answered)


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
        budgets: the configured budgets.
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
        budgets: Budgets,
    ) -> None:
        self._ways = Ways(catalog, ensure, budgets)
        self._pursuit = Pursuit(self._ways, RetryPolicy(retries, clock.monotonic), clock, tell)
        self._attempts = Attempts(ledger, outbox, next_ticket, clock, retries.max_retry_after_s)
        self._next_ticket = next_ticket
        self._clock = clock
        self._retries = retries
        self._tell = tell
        self._living: set[asyncio.Task[object]] = set()
        self._streams: set[LiveStream] = set()
        self._closed: Closed | None = None
        self._last_ended = asyncio.Event()

    @property
    def max_retry_after_s(self) -> float:
        """The longest Retry-After that is waited for, in seconds; a longer one ends the call."""
        return self._retries.max_retry_after_s

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
            for stream in tuple(self._streams):
                stream.give_up(again(self._closed))
        if self._living:
            self._last_ended.clear()
            await self._last_ended.wait()

    async def chat(self, request: ChatRequest, terms: Terms = NO_TERMS, *, streamed: bool = False) -> Reply:
        """Ask a model, and wait for its whole answer.

        Args:
            request: what to ask whom.
            terms: whom to charge, how much, how long; see `Terms`.
            streamed: whether to have it streamed, and put together here: a silence is then noticed earlier.

        Raises:
            Refused: before anything is sent: `UnknownModel`, `Unpriced`, `BudgetExceeded`, `StorageFailed`, `TooManyWaiting`...;
                `BudgetExceeded` also between attempts.
            ProviderFailed: the last attempt's failure, when it cannot be mended or attempts or time ran out.

        Cancelling closes the connection, gives permit and lease back, and settles the attempt: at its upper bound,
        marked estimated, if the request had gone out (the provider may well serve it), else at nothing.

        Where a budget applies and the request sets no `max_tokens`, one is set, and told in the reply.
        """
        attempt = self._attempt_put_together if streamed else self._attempt_whole
        asking = partial(self._ask, request, terms, attempt, stream=streamed)
        call, (answered, completion) = await self.unless_closed(asking)
        return self._done(call, answered, completion)

    def stream(self, request: ChatRequest, terms: Terms = NO_TERMS) -> EventStream:
        """Ask a model, and be told its answer as it comes: `async with flow.stream(...) as events`.

        Nothing is asked before the block is entered. Failed attempts are tried again as in `chat` until there is
        content, never after it. For arguments see `chat`, for what is raised and when `EventStream`.

        Leaving the block, or cancelling, closes the connection at once unless the stream has ended, gives permit and
        lease back, and settles the attempt, marked estimated: its input, and the output that came, each at its upper
        bound. `terms.timeout_s` holds for a caller that does not read on, too.
        """
        asking = partial(
            self._ask, request, terms, self._attempt_streamed, stream=True, discard=LiveStream.aclose
        )

        async def begin() -> LiveStream:
            _, live = await self.unless_closed(asking)
            return live

        return CallStream(begin, self._done, self._gave_up)

    async def embed(self, request: EmbeddingRequest, terms: Terms = NO_TERMS) -> Embeddings:
        """Turn texts into vectors. More of them than one request may hold are asked for one request after another,
        so that the budget and the time of `terms` hold for all of them together.

        Raises as `chat`; a failure's cost is of all requests. What cancelling leaves behind: see `chat`.
        """
        return await self.unless_closed(partial(self._embed, request, terms))

    async def count_tokens(self, request: ChatRequest, terms: Terms = NO_TERMS) -> CountedInput:
        """How many tokens a request's input has, counted by its provider where that counts, else estimated from its
        bytes. Nobody charges for it; it takes a permit and a connection, and is tried again, as any call.

        Raises:
            Refused: there is no such model; the limiter's.
            ProviderFailed: the wire has no words for the request, or the last attempt's failure.
        """
        return await self.unless_closed(partial(self._count, request, terms))

    async def _count(self, request: ChatRequest, terms: Terms) -> CountedInput:
        route, line = await self._ways.reach(request.model)
        counter = token_counter(route.codec)
        if counter is None:
            body = route.codec.encode(request, route.model).body
            return CountedInput(estimate_tokens(request, body), route.provider, route.model, estimated=True)
        # Neither charged, nor a sign of how the model answers.
        unbilled = structs.replace(route, price=FREE, record=RouteRecord())
        way = Way(unbilled, line, counter.encode_count(request, route.model), 0, 0, FREE)
        call = begin_call(self._next_ticket(), way, terms, self._clock.monotonic())
        _, counted = await self._pursuit.until_answered(call, partial(self._attempt, counter.decode_count))
        return CountedInput(counted.input_tokens, route.provider, route.model)

    async def _embed(self, request: EmbeddingRequest, terms: Terms) -> Embeddings:
        route, line = await self._ways.reach(request.model)
        ends_s = self._clock.monotonic() + (terms.timeout_s or route.settings.stalls.total_s)
        ask = partial(self._embed_part, route=route, line=line, terms=terms, ends_s=ends_s)
        return await embed_in_parts(request, route, ask)

    async def _embed_part(
        self,
        found: Embeddings,
        wire: WireRequest,
        decode: Callable[[bytes], EmbeddingAnswer],
        *,
        route: Route,
        line: Line,
        terms: Terms,
        ends_s: float,
    ) -> None:
        way = Way(route, line, wire, len(wire.body), 0, route.price)
        call = begin_call(self._next_ticket(), way, terms, self._clock.monotonic())
        call.deadline_s = ends_s
        call.operation = "embeddings"
        if call.budget_pusd is not None:
            call.budget_pusd -= found.cost_pusd
        _, answer = await self._pursuit.until_answered(call, partial(self._attempt, decode))
        self._tell(call_done(call, self._clock.monotonic()))
        found.add(answer, call.usage, call.cost_pusd, call.made)

    async def unless_closed(self, ask: Callable[[], Awaitable[_T]]) -> _T:
        """Ask on this task, known to `aclose`, which cancels it. Not to be nested.

        Raises:
            Closed, RuntimeFailed: calls are given up.
        """
        task = asyncio.current_task()
        assert task is not None
        if self._closed is not None:
            raise again(self._closed)
        self._living.add(task)
        try:
            return await ask()
        except asyncio.CancelledError:
            if self._closed is not None and not task.uncancel():
                raise again(self._closed) from None
            raise
        finally:
            self._living.discard(task)
            if not self._living:
                self._last_ended.set()

    async def _ask(
        self,
        request: ChatRequest,
        terms: Terms,
        attempt: MakeAttempt[_T],
        *,
        stream: bool,
        discard: Callable[[_T], Awaitable[None]] | None = None,
    ) -> tuple[CallState, _T]:
        question = Question(request, terms, stream)
        begun_s = self._clock.monotonic()
        start = await self._ways.first(question)
        call = begin_call(self._next_ticket(), start.way, terms, begun_s)
        call.fallbacks, call.choice = start.fallbacks, start.choice
        return call, await self._pursuit.until_answered(call, attempt, question, discard)

    def _attempt_whole(self, call: CallState, way: Way) -> Coroutine[None, None, tuple[Attempt, Completion]]:
        return self._attempt(way.route.codec.decode, call, way)

    async def _attempt(self, decode: Callable[[bytes], _A], call: CallState, way: Way) -> tuple[Attempt, _A]:
        """One attempt: hold, admit, lease, send, read; then give back whatever was granted."""
        attempts = self._attempts
        attempt = attempts.begin(call, way)
        try:
            decoded = attempts.decoded(attempt, await attempts.send(call, attempt, exchange), decode)
            attempts.answered(call, attempt, decoded)
            return attempt, decoded
        except ProviderFailed as failure:
            raise attempts.failed(call, attempt, failure.error) from failure.__cause__
        finally:
            attempts.give_back(call, attempt)

    async def _attempt_streamed(self, call: CallState, way: Way) -> LiveStream:
        """One attempt up to its first content; from the answer's head on, the stream gives back what was granted."""
        live = await self._open(call, way)
        try:
            await live.wait_content()
        except BaseException:
            await live.aclose()
            raise
        self._attempts.content_came(live.attempt)
        return live

    async def _open(self, call: CallState, way: Way) -> LiveStream:
        attempt = self._attempts.begin(call, way)
        live: LiveStream | None = None
        try:
            live = self._live(call, attempt, await self._attempts.send(call, attempt, open_stream))
            return live
        except ProviderFailed as failure:
            raise self._attempts.failed(call, attempt, failure.error) from failure.__cause__
        finally:
            if live is None:
                self._attempts.give_back(call, attempt)

    async def _attempt_put_together(self, call: CallState, way: Way) -> tuple[Attempt, Completion]:
        """One attempt, streamed. Nobody is told before the end, so it may be tried again wherever it fails."""
        live = await self._attempt_streamed(call, way)
        try:
            while not isinstance(await live.next_event(), Finished):
                pass
        finally:
            await live.aclose()
        return live.attempt, live.completion()

    def _live(self, call: CallState, attempt: Attempt, opened: Answer | StreamBody) -> LiveStream:
        codec = attempt.way.route.codec
        body: StreamBody | None = None
        if isinstance(opened, Answer):
            decoder: StreamDecoder = Replay(self._attempts.decoded(attempt, opened, codec.decode))
        else:
            attempt.heard(opened.headers)
            decoder, body = codec.stream_decoder(), opened
        live = LiveStream(call, attempt, self._attempts, decoder, body=body, ended=self._streams.discard)
        self._streams.add(live)
        return live

    def _gave_up(self, live: LiveStream, error: ProviderError) -> None:
        self._tell(attempt_failed(live.call, error, None, live.attempt.cost_pusd))

    def _done(self, call: CallState, attempt: Attempt, completion: Completion) -> Reply:
        self._tell(call_done(call, self._clock.monotonic()))
        return reply_of(call, completion, attempt.request_id)
