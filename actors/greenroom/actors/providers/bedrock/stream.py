"""The streamed answer on Bedrock's wire: Amazon's event stream, each message a step in building the answer.

Shapes: Amazon Bedrock API reference, "ConverseStream". A block that is text or thought is not announced: it begins with
its first delta. `metadata`, with the usage, is last.
"""

import msgspec
from msgspec import Struct

from greenroom.actors.events import (
    Finished,
    FinishReason,
    ProviderError,
    ReasoningDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)
from greenroom.actors.providers.bedrock.answer import (
    Reasoning,
    ReasoningText,
    ServiceTier,
    TokenUsage,
    Wire,
    finish_reason,
    reasoning_state,
    usage_of,
)
from greenroom.actors.providers.bedrock.errors import in_mid_stream
from greenroom.actors.providers.bedrock.framing import EventMessage, EventStreamSplitter
from greenroom.actors.providers.decoder import FrameDecoder
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.wire import RejectedAnswer


class _ToolStart(Wire):
    tool_use_id: str = ""
    name: str = ""


class _Start(Wire):
    tool_use: _ToolStart | None = None


class _ToolDelta(Wire):
    input: str = ""


class _ReasoningDelta(Wire):
    text: str = ""
    signature: str = ""
    redacted_content: str = ""


class _Delta(Wire):
    text: str = ""
    tool_use: _ToolDelta | None = None
    reasoning_content: _ReasoningDelta | None = None


class _Event(Wire):
    content_block_index: int = -1
    start: _Start | None = None
    delta: _Delta | None = None
    stop_reason: str | None = None
    usage: TokenUsage | None = None
    service_tier: ServiceTier | None = None


class _Thought(Struct):
    """A thought under way."""

    text: list[str] = []
    signature: str = ""
    redacted: str = ""


class _Call(Struct):
    """A tool call under way."""

    number: int
    argued: bool = False


_decode_event = msgspec.json.Decoder(_Event).decode


class ConverseStreamDecoder(FrameDecoder[EventMessage]):
    """A `StreamDecoder`."""

    def __init__(self) -> None:
        super().__init__(EventStreamSplitter())
        self._started = False
        self._calls: dict[int, _Call] = {}
        self._thoughts: dict[int, _Thought] = {}
        self._reason: FinishReason | None = None

    def take(self, frame: EventMessage) -> None:
        """See `FrameDecoder.take`."""
        headers = frame.headers
        if headers.get(":message-type") != "event":
            name = headers.get(":exception-type") or headers.get(":error-code") or ""
            error = in_mid_stream(name, frame.payload or headers.get(":error-message", "").encode())
            self.close(error)
            return
        try:
            event = _decode_event(frame.payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as wrong:
            raise RejectedAnswer(f"{wrong}; the event begins {excerpt(frame.payload)!r}") from None
        kind = headers.get(":event-type", "")
        if kind == "messageStart" and not self._started:
            self._started = True
            self.tell(Started())
        elif not self._started:
            raise RejectedAnswer(f"{kind} before messageStart")
        elif kind == "contentBlockStart":
            self._open(event)
        elif kind == "contentBlockDelta":
            self._take_delta(event)
        elif kind == "contentBlockStop":
            self._close_block(event)
        elif kind == "messageStop":
            self._reason = finish_reason(event.stop_reason)
        elif kind == "metadata":
            self._end(event)

    def ending(self) -> Finished | ProviderError:
        """See `FrameDecoder.ending`."""
        return self.truncated("its metadata")

    def _open(self, event: _Event) -> None:
        tool = event.start.tool_use if event.start else None
        if tool is None:
            return
        if not tool.name:
            raise RejectedAnswer("a tool call without a name")
        call = self._calls[event.content_block_index] = _Call(len(self._calls))
        self.tell(ToolCallDelta(call.number, "", tool.tool_use_id, tool.name))

    def _take_delta(self, event: _Event) -> None:
        delta = event.delta
        if delta is None:
            return
        if delta.text:
            self.tell(TextDelta(delta.text))
        if delta.tool_use is not None and delta.tool_use.input:
            call = self._calls.get(event.content_block_index)
            if call is None:
                raise RejectedAnswer(f"input of block {event.content_block_index}, which is no tool call")
            call.argued = True
            self.tell(ToolCallDelta(call.number, delta.tool_use.input))
        if delta.reasoning_content is not None:
            self._think(event.content_block_index, delta.reasoning_content)

    def _think(self, index: int, delta: _ReasoningDelta) -> None:
        thought = self._thoughts.setdefault(index, _Thought())
        thought.signature += delta.signature
        thought.redacted += delta.redacted_content
        if delta.text:
            thought.text.append(delta.text)
            self.tell(ReasoningDelta(delta.text))

    def _close_block(self, event: _Event) -> None:
        call = self._calls.get(event.content_block_index)
        if call is not None and not call.argued:
            call.argued = True
            self.tell(ToolCallDelta(call.number, "{}"))

    def _end(self, event: _Event) -> None:
        if self._reason is None:
            raise RejectedAnswer("metadata before messageStop")
        if event.usage is not None:
            self.tell(usage_of(event.usage, event.service_tier))
        state = reasoning_state([_whole(thought) for thought in self._thoughts.values()])
        if state is not None:
            self.tell(state)
        self.close(Finished(self._reason))


def _whole(thought: _Thought) -> Reasoning:
    if thought.redacted:
        return Reasoning(redacted_content=thought.redacted)
    return Reasoning(ReasoningText("".join(thought.text), thought.signature or None))
