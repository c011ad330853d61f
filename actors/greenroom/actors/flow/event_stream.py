"""What a caller of a streamed call iterates, whoever tells the events."""

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Self

from greenroom.actors.call import Reply
from greenroom.actors.events import CallEvent, ProviderFailed


class EventStream(ABC):
    """The events of one streamed answer: `async with ... as events`, then `async for event in events`.

    The last event is `Finished` or `ProviderError`, exactly one of them. After a `ProviderError` the iteration raises
    `ProviderFailed`, so that a truncated answer is nowhere mistaken for a whole one. Leaving the block early closes
    the connection and settles what came, marked estimated.
    """

    def __init__(self) -> None:
        self._failure: ProviderFailed | None = None
        self._reply: Reply | None = None

    @abstractmethod
    async def __aenter__(self) -> Self:
        """Ask, and wait for the first content, however many attempts it takes.

        Raises:
            Refused: as `Flow.chat`. A provider's failure is not raised here: it is the stream's one event.

        Cancelling closes the connection and settles what was asked.
        """

    @abstractmethod
    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __aiter__(self) -> Self:
        return self

    @abstractmethod
    async def __anext__(self) -> CallEvent:
        """The next event.

        Raises:
            ProviderFailed: after the event that told of it.
            Closed: the runtime was left meanwhile.

        Cancelling leaves the stream as it was: it can be read on.
        """

    @property
    def failure(self) -> ProviderFailed | None:
        """How it failed, once it has."""
        return self._failure

    @property
    def reply(self) -> Reply:
        """The whole answer, put together, with what it cost.

        Raises:
            ProviderFailed: the stream failed.
            RuntimeError: it has not ended yet.
        """
        if self._failure is not None:
            raise self._failure
        if self._reply is None:
            raise RuntimeError("the stream has not ended: iterate to its end, or await finish()")
        return self._reply

    async def finish(self) -> Reply:
        """Take the rest of the events, and return the whole answer. Raises as the iteration does."""
        async for _ in self:
            pass
        return self.reply
