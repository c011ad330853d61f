"""What the decoders of all wires share: frames in, events queued, and a breach of the dialect made an event."""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable
from typing import Generic, Literal, Protocol, TypeVar

import msgspec

from greenroom.actors.events import ErrorKind, Finished, ProviderError, StreamEvent
from greenroom.actors.providers.wire import NEED_DATA, NeedData, RejectedAnswer

FrameT = TypeVar("FrameT")
FrameT_co = TypeVar("FrameT_co", covariant=True)


class Splitter(Protocol[FrameT_co]):
    """Cuts a body into frames; `cut` is whether it ends in the middle of one."""

    def receive(self, data: bytes, /) -> Iterable[FrameT_co]: ...

    @property
    def cut(self) -> bool: ...


class FrameDecoder(ABC, Generic[FrameT]):
    """The base of a `StreamDecoder`: a wire says what each frame means, in `take`, and what its end does, in `ending`.

    Args:
        splitter: cuts the body into frames.
    """

    def __init__(self, splitter: Splitter[FrameT]) -> None:
        self._splitter = splitter
        self._events: deque[StreamEvent] = deque()
        self._closed = False

    @abstractmethod
    def take(self, frame: FrameT) -> None:
        """Tell what one frame means.

        Raises:
            RejectedAnswer, msgspec.DecodeError: it is not of the dialect.
        """

    @abstractmethod
    def ending(self) -> Finished | ProviderError:
        """The terminal event of a body that ended without one; `truncated()` where the dialect demands one."""

    def receive(self, data: bytes) -> None:
        """See `StreamDecoder.receive`."""
        if self._closed:
            return
        try:
            for frame in self._splitter.receive(data):
                self.take(frame)
                if self._closed:
                    return
        except (RejectedAnswer, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self.fail("protocol", f"the stream is not of its dialect: {error}")

    def next_event(self) -> StreamEvent | Literal[NeedData.NEED_DATA]:
        """See `StreamDecoder.next_event`."""
        return self._events.popleft() if self._events else NEED_DATA

    def end(self) -> None:
        """See `StreamDecoder.end`."""
        if not self._closed:
            self.close(self.ending())

    def tell(self, event: StreamEvent) -> None:
        """Queue an event that is not the last."""
        self._events.append(event)

    def close(self, event: Finished | ProviderError) -> None:
        """Queue the last event. Whatever comes after it is ignored."""
        self._events.append(event)
        self._closed = True

    def fail(self, kind: ErrorKind, message: str) -> None:
        """Close with an error."""
        self.close(ProviderError(kind=kind, message=message))

    def truncated(self, missing: str) -> ProviderError:
        """The error of a body that ended before `missing` came."""
        where = "in the middle of an event" if self._splitter.cut else f"before {missing}"
        return ProviderError(kind="connection", message=f"the stream ended {where}: the answer is truncated")
