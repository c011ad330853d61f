"""Ollama's own wire: `POST /api/chat`, whole, or streamed as JSON lines.

Shapes: Ollama's API documentation, "Generate a chat message". A whole answer and a line of a stream are the same
object; the last one says `done`, why, and how many tokens were evaluated. `/v1` of the same server speaks OpenAI's
wire; this one takes context sizes, thinking levels and what else is Ollama's own.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.events import (
    Finished,
    FinishReason,
    ProviderError,
    ReasoningDelta,
    ReasoningState,
    Started,
    StreamEvent,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers.accumulate import Accumulator
from greenroom.actors.providers.chat import ChatRequest
from greenroom.actors.providers.decoder import FrameDecoder
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest, no_base64
from greenroom.actors.providers.faults import excerpt, kind_of_status, shortened
from greenroom.actors.providers.headers import retry_after_s
from greenroom.actors.providers.keyed import KeyedWire
from greenroom.actors.providers.ollama import embeddings
from greenroom.actors.providers.ollama.request import WIRE, body_of
from greenroom.actors.providers.options import RequestReader
from greenroom.actors.providers.sse import JsonLinesSplitter
from greenroom.actors.providers.wire import Completion, RejectedAnswer, TokenCount, WireRequest

_STREAM_HEADERS = {"Accept": "application/x-ndjson"}
_DONE_REASONS: dict[str, FinishReason] = {
    "": "stop",
    "stop": "stop",
    "length": "length",
    "load": "stop",
    "unload": "stop",
}


class _Function(Struct, gc=False):
    name: str = ""
    arguments: Raw | UnsetType = UNSET


class _ToolCall(Struct, gc=False):
    function: _Function
    id: str = ""


class _Message(Struct, gc=False):
    content: str | None = None
    thinking: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Line(Struct, gc=False):
    model: str = ""
    created_at: str = ""
    message: _Message | None = None
    done: bool = False
    done_reason: str | None = None
    prompt_eval_count: TokenCount | None = None
    eval_count: TokenCount | None = None
    logprobs: list[TokenLogprob] | None = None
    error: str | None = None


_decode_line = msgspec.json.Decoder(_Line).decode


class Ollama(KeyedWire):
    """The codec.

    Args:
        provider: the host's name, for errors.
    """

    def encode(self, request: ChatRequest, model: str, *, stream: bool = False) -> WireRequest:
        """See `Codec.encode`."""
        body = body_of(RequestReader(request, self._provider, model), model, stream=stream)
        return WireRequest("/api/chat", body, headers=_STREAM_HEADERS if stream else {})

    def decode(self, body: bytes) -> Completion:
        """See `Codec.decode`."""
        whole = Accumulator()
        answer = _AnswerReader(whole.add)
        try:
            answer.take(_decode_line(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
        if answer.reason is None:
            raise RejectedAnswer("an answer that is not done")
        whole.add(Finished(answer.reason))
        return whole.completion()

    def stream_decoder(self) -> "OllamaStreamDecoder":
        """See `Codec.stream_decoder`."""
        return OllamaStreamDecoder()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ProviderError:
        """See `Codec.failure`. Ollama gives its errors no codes, so the status alone says what they are."""
        try:
            message = _decode_line(body).error
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            message = None
        return ProviderError(
            kind=kind_of_status(status),
            message=shortened(message) if message else f"HTTP {status}: {excerpt(body)}",
            provider=self._provider,
            status=status,
            request_id=headers.get(self.request_id_header),
            retry_after_s=retry_after_s(headers, now_s),
        )

    def max_embedding_inputs(self, model: str) -> int:
        """See `EmbeddingCodec.max_embedding_inputs`."""
        return embeddings.MAX_INPUTS

    def encode_embeddings(self, request: EmbeddingRequest, model: str) -> WireRequest:
        """See `EmbeddingCodec.encode_embeddings`."""
        no_base64(request, self._provider, model)
        return embeddings.encode(request, model)

    def decode_embeddings(self, body: bytes) -> EmbeddingAnswer:
        """See `EmbeddingCodec.decode_embeddings`."""
        return embeddings.decode(body)


class OllamaStreamDecoder(FrameDecoder[bytes]):
    """A `StreamDecoder`."""

    def __init__(self) -> None:
        super().__init__(JsonLinesSplitter())
        self._answer = _AnswerReader(self.tell)

    def take(self, frame: bytes) -> None:
        """See `FrameDecoder.take`."""
        try:
            line = _decode_line(frame)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the line begins {excerpt(frame)!r}") from None
        if line.error is not None:
            self.fail("server", shortened(line.error) or excerpt(frame))
            return
        self._answer.take(line)
        if self._answer.reason is not None:
            self.close(Finished(self._answer.reason))

    def ending(self) -> Finished | ProviderError:
        """See `FrameDecoder.ending`."""
        return self.truncated("the line that says done")


class _AnswerReader:
    """Tells what one line after another means; `reason` is why the model stopped, None until it has said `done`."""

    def __init__(self, tell: Callable[[StreamEvent], None]) -> None:
        self._tell = tell
        self._started = False
        self._calls = 0
        self._thoughts: list[str] = []
        self.reason: FinishReason | None = None

    def take(self, line: _Line) -> None:
        message = line.message
        if message is None and not line.done:
            raise RejectedAnswer("a line without a message")
        if not self._started:
            self._started = True
            self._tell(Started(model=line.model, created_s=_unix_time_s(line.created_at)))
        if message is not None:
            if message.thinking:
                self._thoughts.append(message.thinking)
                self._tell(ReasoningDelta(message.thinking))
            if message.content or line.logprobs:
                self._tell(TextDelta(message.content or "", tuple(line.logprobs or ())))
            for call in message.tool_calls or ():
                self._take_call(call)
        if line.done:
            self._finish(line)

    def _take_call(self, call: _ToolCall) -> None:
        function = call.function
        if not function.name:
            raise RejectedAnswer("a tool call without a name")
        arguments = "{}" if function.arguments is UNSET else bytes(function.arguments).decode()
        # Older servers give no ids, and whoever answers the call needs one.
        self._tell(ToolCallDelta(self._calls, arguments, call.id or f"call_{self._calls}", function.name))
        self._calls += 1

    def _finish(self, line: _Line) -> None:
        reason = _DONE_REASONS.get(line.done_reason or "")
        if reason is None:
            raise RejectedAnswer(f"done_reason is {line.done_reason!r}; known are {sorted(_DONE_REASONS)}")
        if line.eval_count is not None:
            # What the server still had from the last round is not evaluated again, and left out by older ones.
            self._tell(Usage(line.prompt_eval_count or 0, line.eval_count))
        if self._thoughts:
            self._tell(ReasoningState(WIRE, Raw(msgspec.json.encode(["".join(self._thoughts)]))))
        self.reason = "tool_calls" if reason == "stop" and self._calls else reason


def _unix_time_s(said: str) -> int:
    try:
        return int(msgspec.convert(said, datetime).timestamp())
    except (msgspec.ValidationError, OverflowError):
        return 0
