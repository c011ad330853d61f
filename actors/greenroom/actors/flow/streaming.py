"""A streamed call: `LiveStream` is one attempt that is being answered, `CallStream` is what a caller iterates.

An attempt counts as answered with its first content. Before it, a failure is the flow's to try again; after it,
nothing is, so no text is ever told twice or spliced together from two answers.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self, get_args

from greenroom.actors.call import CallState, Reply
from greenroom.actors.call.exchange import ExchangeFailed, StreamBody
from greenroom.actors.events import (
    Delta,
    ErrorKind,
    Finished,
    ProviderError,
    ProviderFailed,
    StreamEvent,
    StreamOrder,
)
from greenroom.actors.flow.attempt import Attempt, Attempts
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.kernel import Refused
from greenroom.actors.providers import NEED_DATA, Accumulator, Completion, StreamDecoder

_CONTENT: Final = frozenset[type[StreamEvent]](get_args(Delta))
_UNTOLD: Final = frozenset[ErrorKind]({"connection", "protocol"})
"""Failures that we see, not the provider: it may think that it served the request, and charge for it."""


class LiveStream:
    """One streamed attempt. It ends once: finished, failed, given up or abandoned; then all it had is given back.

    Args:
        call: what it is an attempt of.
        attempt: its money, permit and lease, from now on this stream's to give back.
        attempts: where to.
        decoder: makes events of bytes.
        body: where bytes come from; None where the decoder has all it needs.
        ended: told once, when it has ended.
    """

    def __init__(
        self,
        call: CallState,
        attempt: Attempt,
        attempts: Attempts,
        decoder: StreamDecoder,
        *,
        body: StreamBody | None,
        ended: Callable[["LiveStream"], None],
    ) -> None:
        self.call = call
        self.attempt = attempt
        self._attempts = attempts
        self._decoder = decoder
        self._body = body
        self._ended = ended
        self._accumulator = Accumulator()
        self._early: deque[StreamEvent] = deque()
        self._heard = False
        self._over = False
        self._why: Exception | None = None
        self._completion: Completion | None = None
        self._order = StreamOrder() if asyncio.get_running_loop().get_debug() else None
        if body is not None:
            body.on_expire = self._expired

    async def wait_content(self) -> None:
        """Read until there is content to tell, or the end. Raises as `next_event`."""
        while not self._heard and not self._over:
            self._early.append(await self._take())

    async def next_event(self) -> StreamEvent:
        """The next event; the last one is `Finished`.

        Raises:
            ProviderFailed: the stream failed; it is settled.
            Refused: it was given up.

        Cancelling leaves the stream as it was.
        """
        if self._early:
            return self._early.popleft()
        return await self._take()

    @property
    def failure(self) -> ProviderFailed | None:
        """How it failed, if it did."""
        return self._why if isinstance(self._why, ProviderFailed) else None

    def completion(self) -> Completion:
        """The whole answer, after `Finished`."""
        assert self._completion is not None, "the stream has not finished"
        return self._completion

    def give_up(self, why: Refused) -> None:
        """End it for a reason that whoever reads is told."""
        if not self._over:
            self._why = why
            self._end()

    async def aclose(self) -> None:
        """Close the connection, or return it after `Finished`; what is not over is abandoned, and settled."""
        if not self._over:
            self._end()
        elif self._body is not None and self._completion is not None:
            await self._body.release()

    async def _take(self) -> StreamEvent:
        if self._why is not None:
            raise self._why
        event = self._decoder.next_event()
        while event is NEED_DATA:
            await self._read()
            event = self._decoder.next_event()
        if self._order is not None:
            self._order.check(event)
        if isinstance(event, ProviderError):
            if event.kind not in _UNTOLD and not self._accumulator.content_bytes:
                # As with a status that says so: providers do not charge for what they refuse or fail to serve.
                self.attempt.sent_s = None
            raise self._failed(event)
        self._accumulator.add(event)
        kind = type(event)
        if kind in _CONTENT:
            self._heard = True
        elif kind is Finished:
            self._finish()
        return event

    async def _read(self) -> None:
        assert self._body is not None, "a decoder without a body has all it needs"
        heard, self._heard = self._heard, False
        try:
            data = await self._body.read(heard=heard)
        except ExchangeFailed as failure:
            # A limit, or who gave the stream up, has settled it already and knows better.
            raise self._why or self._failed(_error(failure)) from failure
        except asyncio.CancelledError:
            self._heard = heard
            raise
        if data:
            self._decoder.receive(data)
        else:
            self._decoder.end()

    def _finish(self) -> None:
        self._completion = self._accumulator.completion()
        self._attempts.answered(self.call, self.attempt, self._completion)
        self._give_back()

    def _failed(self, error: ProviderError) -> ProviderFailed:
        if self._body is not None:
            self._body.close()
        self._charge_no_more_than_came()
        failure = self._attempts.failed(self.call, self.attempt, error)
        self._why = failure
        self._give_back()
        return failure

    def _expired(self, failure: ExchangeFailed) -> None:
        self._failed(_error(failure))

    def _end(self) -> None:
        if self._body is not None:
            self._body.close()
        self._charge_no_more_than_came()
        self._give_back()

    def _charge_no_more_than_came(self) -> None:
        """Bound what is charged for output by the content that came, or by what the provider said that it used so far.

        Thoughts that it neither shows nor counts on the way are in neither.
        """
        way = self.attempt.way
        came, used = self._accumulator.content_bytes, self._accumulator.usage
        if came:
            self.attempt.most_pusd = way.price.bound_pusd(way.input_bound, min(way.max_tokens, came))
        if used is not None:
            self.attempt.usage = self.attempt.served(used)
            cost_pusd = way.route.price.cost_pusd(self.attempt.usage)
            self.attempt.most_pusd = max(self.attempt.most_pusd, cost_pusd)

    def _give_back(self) -> None:
        self._over = True
        if self._body is not None:
            self._body.on_expire = None  # else each stream would be a cycle for the collector to find
        self._attempts.give_back(self.call, self.attempt)
        self._ended(self)


class CallStream(EventStream):
    """The events of one streamed call.

    Args:
        begin: has the question asked, up to the first content.
        answered: what a finished stream comes to.
        gave_up: told of a failure after which nothing is tried.
    """

    def __init__(
        self,
        begin: Callable[[], Awaitable[LiveStream]],
        answered: Callable[[CallState, Attempt, Completion], Reply],
        gave_up: Callable[[LiveStream, ProviderError], None],
    ) -> None:
        super().__init__()
        self._begin = begin
        self._answered = answered
        self._gave_up = gave_up
        self._live: LiveStream | None = None
        self._failure_told = False

    async def __aenter__(self) -> Self:
        """See `EventStream.__aenter__`."""
        if self._live is not None or self._failure is not None:
            raise RuntimeError("this stream was entered before: ask for another")
        try:
            self._live = await self._begin()
        except ProviderFailed as failure:
            self._failure = failure
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live = self._live
        if live is not None:
            if self._failure is None and live.failure is not None:
                self._fail(live, live.failure)  # a limit ended it, and nobody read on
            await live.aclose()

    async def __anext__(self) -> StreamEvent:
        """See `EventStream.__anext__`."""
        if self._failure is not None:
            if self._failure_told:
                raise self._failure
            self._failure_told = True
            return self._failure.error
        if self._reply is not None:
            raise StopAsyncIteration
        live = self._live
        if live is None:
            raise RuntimeError("a stream is read within `async with ... as events:`")
        try:
            event = await live.next_event()
        except ProviderFailed as failure:
            self._fail(live, failure)
            self._failure_told = True
            return failure.error
        if type(event) is Finished:
            self._reply = self._answered(live.call, live.attempt, live.completion())
        return event

    def _fail(self, live: LiveStream, failure: ProviderFailed) -> None:
        self._failure = live.call.failure(failure.error)
        self._gave_up(live, failure.error)


def _error(failure: ExchangeFailed) -> ProviderError:
    return ProviderError(kind=failure.kind, message=str(failure))
