"""The streamed answer on Anthropic's wire: server-sent events that build a message block by block.

Shapes: Anthropic's API reference, "Streaming messages": `message_start`, for each block `content_block_start`, its
deltas and `content_block_stop`, then `message_delta` with the stop reason and the usage so far, and `message_stop`.
`ping` may come anywhere, and so may `error`. Types of events, blocks and deltas that are not known are passed over, as
the reference tells clients to.
"""

import msgspec
from msgspec import UNSET, Struct

from greenroom.actors.events import (
    Finished,
    FinishReason,
    ProviderError,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
)
from greenroom.actors.providers.anthropic.errors import AnthropicError, in_mid_stream
from greenroom.actors.providers.anthropic.shapes import (
    Block,
    StopDetails,
    Thought,
    WireUsage,
    finish_reason,
    later,
    reasoning_state,
    thoughts,
    usage_of,
)
from greenroom.actors.providers.decoder import FrameDecoder
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.sse import ServerSentEvent, SseSplitter
from greenroom.actors.providers.wire import RejectedAnswer


class _Message(Struct, gc=False):
    id: str = ""
    model: str = ""
    usage: WireUsage | None = None


class _Delta(Struct, gc=False):
    type: str = ""
    text: str = ""
    thinking: str = ""
    signature: str = ""
    partial_json: str = ""
    stop_reason: str | None = None
    stop_details: StopDetails | None = None


class _Event(Struct, gc=False):
    type: str
    index: int = -1
    message: _Message | None = None
    content_block: Block | None = None
    delta: _Delta | None = None
    usage: WireUsage | None = None
    error: AnthropicError | None = None
    request_id: str | None = None


class _Open(Struct):
    """A block under way; `call` numbers the tool calls."""

    block: Block
    call: int = -1
    argued: bool = False
    thought: list[str] = []


_decode_event = msgspec.json.Decoder(_Event).decode


class MessageStreamDecoder(FrameDecoder[ServerSentEvent]):
    """A `StreamDecoder`. Usage is told when the message starts, and again with the stop reason."""

    def __init__(self) -> None:
        super().__init__(SseSplitter())
        self._started = False
        self._open: dict[int, _Open] = {}
        self._calls = 0
        self._thoughts: list[Thought] = []
        self._usage = WireUsage()
        self._reason: FinishReason | None = None

    def take(self, frame: ServerSentEvent) -> None:
        """See `FrameDecoder.take`."""
        if not frame.data:
            return
        try:
            event = _decode_event(frame.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the event begins {excerpt(frame.data)!r}") from None
        kind = event.type
        if kind == "error":
            self.close(in_mid_stream(event.error or AnthropicError(), event.request_id, frame.data))
        elif kind == "message_start" and not self._started:
            self._start(event.message or _Message())
        elif not self._started:
            if kind != "ping":
                raise RejectedAnswer(f"{kind} before message_start")
        elif kind == "content_block_delta":
            self._take_delta(event)
        elif kind == "content_block_start" and event.content_block is not None:
            self._open_block(event.index, event.content_block)
        elif kind == "content_block_stop":
            self._close_block(event.index)
        elif kind == "message_delta":
            self._take_message_delta(event)
        elif kind == "message_stop":
            self._stop()

    def ending(self) -> Finished | ProviderError:
        """See `FrameDecoder.ending`."""
        return self.truncated("message_stop")

    def _start(self, message: _Message) -> None:
        self._started = True
        self.tell(Started(message.id, message.model))
        self._take_usage(message.usage)

    def _open_block(self, index: int, block: Block) -> None:
        opened = self._open[index] = _Open(block)
        if block.type == "text" and block.text:
            self.tell(TextDelta(block.text))
        elif block.type == "thinking" and block.thinking:
            self.tell(ReasoningDelta(block.thinking))
        elif block.type == "tool_use":
            if not block.name:
                raise RejectedAnswer("a tool call without a name")
            opened.call, self._calls = self._calls, self._calls + 1
            self.tell(ToolCallDelta(opened.call, "", block.id, block.name))

    def _take_delta(self, event: _Event) -> None:
        delta, opened = event.delta, self._open.get(event.index)
        if delta is None or opened is None:
            raise RejectedAnswer(f"a delta of block {event.index}, which is not open")
        if delta.text:
            self.tell(TextDelta(delta.text))
        elif delta.partial_json and opened.call >= 0:
            opened.argued = True
            self.tell(ToolCallDelta(opened.call, delta.partial_json))
        elif delta.thinking:
            opened.thought.append(delta.thinking)
            self.tell(ReasoningDelta(delta.thinking))
        elif delta.signature:
            opened.block.signature += delta.signature

    def _close_block(self, index: int) -> None:
        opened = self._open.pop(index, None)
        if opened is None:
            raise RejectedAnswer(f"the end of block {index}, which is not open")
        if opened.call >= 0 and not opened.argued:
            arguments = opened.block.input
            self.tell(ToolCallDelta(opened.call, "{}" if arguments is UNSET else bytes(arguments).decode()))
        opened.block.thinking += "".join(opened.thought)
        self._thoughts += thoughts((opened.block,))

    def _take_message_delta(self, event: _Event) -> None:
        delta = event.delta
        if delta is not None and delta.stop_reason is not None:
            self._reason = finish_reason(delta.stop_reason)
        if delta is not None and delta.stop_details is not None and delta.stop_details.explanation:
            self.tell(RefusalDelta(delta.stop_details.explanation))
        self._take_usage(event.usage)

    def _take_usage(self, update: WireUsage | None) -> None:
        if update is None:
            return
        self._usage = later(self._usage, update)
        usage = usage_of(self._usage)
        if usage is not None:
            self.tell(usage)

    def _stop(self) -> None:
        if self._reason is None:
            raise RejectedAnswer("message_stop without a stop reason")
        if self._open:
            raise RejectedAnswer("message_stop in the middle of a block")
        state = reasoning_state(self._thoughts)
        if state is not None:
            self.tell(state)
        self.close(Finished(self._reason))
