"""The streamed answer on OpenAI's wire: `chat.completion.chunk` objects as server-sent events, then `[DONE]`.

Shapes: OpenAI's published OpenAPI document (CreateChatCompletionStreamResponse). What compatible hosts do otherwise,
each met on the wire or documented by its host: usage in the chunk of the finish reason or in every chunk, instead
of in one of its own; `[DONE]` left out; reasoning as `reasoning_content` or `reasoning`; tool calls without an index,
or all of them at index 0; a finish reason of "" until there is one; errors as an object, as a bare string, or as a
chunk that is itself the error.
"""

from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from greenroom.actors.events import (
    Finished,
    FinishReason,
    ProviderError,
    ReasoningDelta,
    RefusalDelta,
    Started,
    TextDelta,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers.decoder import FrameDecoder
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.openai.errors import OpenAIError, as_error
from greenroom.actors.providers.openai.shapes import (
    Logprobs,
    Part,
    WireUsage,
    finish_reason,
    text_and_reasoning,
    usage_of,
)
from greenroom.actors.providers.sse import ServerSentEvent, SseSplitter
from greenroom.actors.providers.wire import RejectedAnswer

StreamEnd = Literal["done", "finish_reason"]


class _FunctionDelta(Struct, gc=False):
    name: str | None = None
    arguments: str | None = None


class _CallDelta(Struct, gc=False):
    index: int | None = None
    id: str | None = None
    function: _FunctionDelta | None = None


class _Delta(Struct, gc=False):
    content: str | list[Part] | None = None
    tool_calls: list[_CallDelta] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None


class _Choice(Struct, gc=False):
    delta: _Delta | None = None
    index: int | None = 0
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class _Chunk(Struct, gc=False):
    choices: list[_Choice] | None = None
    id: str | None = None
    model: str | None = None
    created: float | None = None
    usage: WireUsage | None = None
    service_tier: object = None
    error: OpenAIError | str | None = None
    object: str | None = None
    message: Raw | UnsetType = UNSET
    type: Raw | UnsetType = UNSET
    param: Raw | UnsetType = UNSET
    code: Raw | UnsetType = UNSET
    error_type: Raw | UnsetType = UNSET


class _Call(Struct):
    """A tool call under way; what came before its name waits for it."""

    index: int | None = None
    id: str = ""
    waiting: str = ""


_decode_chunk = msgspec.json.Decoder(_Chunk).decode
_DONE = b"[DONE]"


class ChatStreamDecoder(FrameDecoder[ServerSentEvent]):
    """A `StreamDecoder`. `Finished` waits for the stream's end, since usage may come after the finish reason."""

    def __init__(self, stream_end: StreamEnd = "done") -> None:
        super().__init__(SseSplitter())
        self._stream_end = stream_end
        self._started = False
        self._reason: FinishReason | None = None
        self._usage: Usage | None = None
        self._calls: dict[int, _Call] = {}
        self._named = 0

    def take(self, frame: ServerSentEvent) -> None:
        """See `FrameDecoder.take`."""
        data = frame.data
        if not data:
            return
        if data.startswith(_DONE):
            self._done()
            return
        try:
            chunk = _decode_chunk(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the event begins {excerpt(data)!r}") from None
        if chunk.error is not None or chunk.object == "error" or frame.name == b"error":
            self._failed(chunk, data)
            return
        choices = chunk.choices
        if choices:
            if not self._started:
                self._start(chunk)
            choice = choices[0]
            if choice.index:
                return
            if (delta := choice.delta) is not None:
                self._take_delta(delta, choice.logprobs)
            if choice.finish_reason:
                self._reason = finish_reason(choice.finish_reason)
        if chunk.usage is not None:
            self._take_usage(chunk)

    def ending(self) -> Finished | ProviderError:
        """See `FrameDecoder.ending`."""
        if self._reason is None:
            return self.truncated("its finish reason")
        if self._stream_end == "finish_reason" and not self._splitter.cut and not self._unnamed():
            return Finished(self._reason)
        cut = self.truncated("[DONE]")
        if self._stream_end == "finish_reason" or self._splitter.cut:
            return cut
        hint = '; a provider whose host always leaves [DONE] out needs stream_end = "finish_reason"'
        return structs.replace(cut, message=cut.message + hint)

    def _start(self, chunk: _Chunk) -> None:
        self._started = True
        self.tell(Started(chunk.id or "", chunk.model or "", int(chunk.created or 0)))

    def _take_delta(self, delta: _Delta, logprobs: Logprobs | None) -> None:
        if reasoning := delta.reasoning_content or delta.reasoning:
            self.tell(ReasoningDelta(reasoning))
        text = delta.content
        if isinstance(text, list):
            text, reasoning = text_and_reasoning(text)
            if reasoning:
                self.tell(ReasoningDelta(reasoning))
        if logprobs is not None and logprobs.content:
            self.tell(TextDelta(text or "", tuple(logprobs.content)))
        elif text:
            self.tell(TextDelta(text))
        if delta.refusal:
            self.tell(RefusalDelta(delta.refusal))
        if delta.tool_calls:
            for call in delta.tool_calls:
                self._take_call(call)

    def _take_call(self, delta: _CallDelta) -> None:
        call = self._call_of(delta)
        function = delta.function
        arguments = (function.arguments if function else None) or ""
        if call.index is not None:
            if arguments:
                self.tell(ToolCallDelta(call.index, arguments))
            return
        call.id = call.id or delta.id or ""
        if function is None or not function.name:
            call.waiting += arguments
            return
        call.index, self._named = self._named, self._named + 1
        self.tell(ToolCallDelta(call.index, call.waiting + arguments, call.id, function.name))

    def _call_of(self, delta: _CallDelta) -> _Call:
        """The call that a piece belongs to: by its index, or by its id where the index says nothing."""
        key = delta.index
        if key is None:
            key = len(self._calls) if delta.id or not self._calls else len(self._calls) - 1
        call = self._calls.get(key)
        if call is None or (delta.id and call.id and delta.id != call.id):
            call = self._calls[key] = _Call(id=delta.id or "")
        return call

    def _take_usage(self, chunk: _Chunk) -> None:
        assert chunk.usage is not None
        usage = usage_of(chunk.usage, chunk.service_tier)
        if usage is None or usage == self._usage:
            return
        if not self._started:
            self._start(chunk)
        self._usage = usage
        self.tell(usage)

    def _done(self) -> None:
        if self._reason is None:
            self.close(self.truncated("its finish reason"))
        elif self._unnamed():
            self.fail("protocol", "the stream ended with a tool call that has no name")
        else:
            self.close(Finished(self._reason))

    def _unnamed(self) -> bool:
        return any(call.index is None for call in self._calls.values())

    def _failed(self, chunk: _Chunk, data: bytes) -> None:
        error = chunk.error
        if error is None:
            error = OpenAIError(chunk.message, chunk.type, chunk.param, chunk.code)
        elif isinstance(error, str):
            error = OpenAIError(Raw(msgspec.json.encode(error)), chunk.error_type)
        found = as_error(error)
        self.close(found if found.message else structs.replace(found, message=excerpt(data)))
