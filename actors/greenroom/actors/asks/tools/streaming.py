"""The events of a question that tools are run for: of every round's answer, and what the tools gave between."""

from collections.abc import Callable
from types import TracebackType
from typing import Self

from greenroom.actors.asks.asks import Asker
from greenroom.actors.asks.tools.running import Running
from greenroom.actors.asks.tools.talk import Talk
from greenroom.actors.events import (
    CallEvent,
    Finished,
    ProviderError,
    ProviderFailed,
    ToolResult,
    Usage,
)
from greenroom.actors.flow.event_stream import EventStream


class ToolStream(EventStream):
    """Each round begins with a `Started`, after which tool calls count from 0 again. `Usage` is of all rounds so far.
    Only the last round's `Finished` is told. Tools run while the stream is not read, too, and are cancelled with it.

    Args:
        asker: who asks.
        begin: the question; its time counts from then.
    """

    def __init__(self, asker: Asker, begin: Callable[[], Talk]) -> None:
        super().__init__()
        self._asker = asker
        self._begin = begin
        self._talk: Talk | None = None
        self._stream: EventStream | None = None
        self._running: Running | None = None
        self._why: Exception | None = None

    async def __aenter__(self) -> Self:
        """Ask the first time; see `EventStream.__aenter__`."""
        if self._talk is not None:
            raise RuntimeError("this stream was entered before: ask for another")
        self._talk = self._begin()
        await self._ask(self._talk)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self._running is not None:
                await self._running.aclose()
        finally:
            if self._stream is not None:
                await self._stream.__aexit__(kind, error, trace)

    async def __anext__(self) -> CallEvent:
        """The next event; see `EventStream.__anext__`.

        Raises:
            Refused, Exception: as `ToolAsker.chat`; a `ProviderFailed` after the event that tells of it, as ever.
        """
        talk = self._talk
        if talk is None:
            raise RuntimeError("a stream is read within `async with ... as events:`")
        if self._why is not None:
            raise self._why
        if self._reply is not None:
            raise StopAsyncIteration
        try:
            return await self._next(talk)
        except ProviderFailed as failure:
            self._failure = self._why = failure
            return failure.error
        except Exception as error:
            self._why = error
            raise

    async def _next(self, talk: Talk) -> CallEvent:
        while True:
            if self._running is not None:
                result = await self._result(talk, self._running)
                if result is not None:
                    return result
                await self._leave()
                talk.tell(self._running.results)
                self._running = None
            stream = self._stream or await self._ask(talk)
            event = await stream.__anext__()
            if isinstance(event, Finished):
                if await self._is_last(talk, stream):
                    return event
            elif isinstance(event, Usage):
                return talk.asks.usage + event
            elif isinstance(event, ProviderError):
                failure = stream.failure
                assert failure is not None, "a stream told of a failure and knows none"
                talk.asks.fail(failure)
                raise failure
            else:
                return event

    async def _ask(self, talk: Talk) -> EventStream:
        with talk.asks.one() as left:
            stream = self._asker.stream(talk.asks.pinned(talk.request), left)
            self._stream = await stream.__aenter__()
        return stream

    async def _is_last(self, talk: Talk, stream: EventStream) -> bool:
        reply = stream.reply
        self._running = talk.run(reply)
        if self._running is None:
            self._reply = talk.last(reply)
            return True
        await self._leave()  # so that its connection serves others while tools run
        return False

    async def _leave(self) -> None:
        """Leave the stream of the round that has ended. Cancelled, it is left when there is another chance."""
        if self._stream is not None:
            await self._stream.__aexit__(None, None, None)
            self._stream = None

    async def _result(self, talk: Talk, running: Running) -> ToolResult | None:
        try:
            return await running.next()
        except ProviderFailed as failure:
            talk.asks.fail(failure)
            raise
