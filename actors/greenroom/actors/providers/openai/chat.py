"""OpenAI's chat completions wire: `POST /chat/completions`, whole and streamed.

Shapes: OpenAI's published OpenAPI document (CreateChatCompletionRequest, CreateChatCompletionResponse), and what
compatible servers do otherwise: `refusal` left out, reasoning under either of two names, content in parts.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import Raw, Struct, structs

from greenroom.actors.events import ProviderError, ProviderFailed, ToolCall, Usage
from greenroom.actors.providers.chat import ChatOptions, ChatRequest, Message
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.keyed import KeyedWire, KeyHeader
from greenroom.actors.providers.openai import embeddings
from greenroom.actors.providers.openai.errors import OpenAIError, as_error, failure
from greenroom.actors.providers.openai.shapes import (
    Logprobs,
    Part,
    WireUsage,
    finish_reason,
    text_and_reasoning,
    usage_of,
)
from greenroom.actors.providers.openai.stream import ChatStreamDecoder, StreamEnd
from greenroom.actors.providers.wire import Completion, RejectedAnswer, WireRequest

_STREAM_HEADERS = {"Accept": "text/event-stream"}
_SET_BY_STREAM = {"stream", "stream_options"}


class _StreamOptions(Struct, frozen=True, gc=False):
    include_usage: bool = True


class _Body(ChatOptions, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    model: str
    messages: tuple[Message, ...]
    max_completion_tokens: int | None = None
    stream: bool = False
    stream_options: _StreamOptions | None = None


class _Function(Struct, gc=False):
    name: str
    arguments: str | dict[str, Raw] = ""  # an object from older versions of Hugging Face's TGI


class _ToolCall(Struct, gc=False):
    function: _Function
    id: str = ""


class _AnswerMessage(Struct, gc=False):
    content: str | list[Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct, gc=False):
    message: _AnswerMessage
    finish_reason: str | None = None
    logprobs: Logprobs | None = None


class _Answer(Struct, gc=False):
    choices: list[_Choice] | None = None
    error: OpenAIError | str | None = None
    id: str = ""
    model: str = ""
    usage: WireUsage | None = None
    service_tier: object = None


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


class OpenAIChat(KeyedWire):
    """The codec.

    Args:
        provider: the host's name, for errors.
        max_tokens_field: the host's word for the output bound (OpenAI renamed it, others did not).
        stream_usage: whether the host takes `stream_options`, by which a stream is asked to tell its usage.
        stream_end: what ends a stream: the `[DONE]` that OpenAI promises, or, where a host is known to leave it out,
            the end of a body that told a finish reason.
        embeddings_base64: whether vectors are asked for as base64, an eighth of the work of JSON numbers.
        key_header: what the key travels in.
    """

    def __init__(
        self,
        provider: str,
        max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens",
        *,
        stream_usage: bool = True,
        stream_end: StreamEnd = "done",
        embeddings_base64: bool = False,
        key_header: KeyHeader = "authorization",
    ) -> None:
        super().__init__(provider, key_header=key_header)
        self._renamed = max_tokens_field == "max_completion_tokens"
        self._stream_options = _StreamOptions() if stream_usage else None
        self._stream_end: StreamEnd = stream_end
        self._embeddings_base64 = embeddings_base64

    def encode(self, request: ChatRequest, model: str, *, stream: bool = False) -> WireRequest:
        """See `Codec.encode`; this wire can express every field of a ChatRequest."""
        extra = request.extra
        if stream and extra:
            extra = self._for_a_stream(extra, model)
        body = _encode(
            _Body(
                model=model,
                messages=_without_state(request.messages),
                max_tokens=None if self._renamed else request.max_tokens,
                max_completion_tokens=request.max_tokens if self._renamed else None,
                temperature=request.temperature,
                top_p=request.top_p,
                stop=request.stop,
                seed=request.seed,
                presence_penalty=request.presence_penalty,
                frequency_penalty=request.frequency_penalty,
                reasoning_effort=request.reasoning_effort,
                user=request.user,
                logprobs=request.logprobs,
                top_logprobs=request.top_logprobs,
                parallel_tool_calls=request.parallel_tool_calls,
                response_format=request.response_format,
                tools=request.tools,
                tool_choice=request.tool_choice,
                stream=stream,
                stream_options=self._stream_options if stream else None,
            )
        )
        if extra:
            body = b"%s,%s" % (body[:-1], _encode(extra)[1:])
        return WireRequest("/chat/completions", body, headers=_STREAM_HEADERS if stream else {})

    def decode(self, body: bytes) -> Completion:
        """See `Codec.decode`."""
        try:
            body.decode()  # the decoder does not look at what it skips, and the whole of it is handed on in `raw`
            answer = _decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
        if answer.error is not None and not answer.choices:
            # OpenRouter has answered 200 by the time that the host behind it fails.
            raise ProviderFailed(as_error(answer.error))
        if not answer.choices:
            raise RejectedAnswer(f"an answer without choices; the body begins {excerpt(body)!r}")
        choice = answer.choices[0]
        message = choice.message
        reason = finish_reason(choice.finish_reason)
        text, reasoning = text_and_reasoning(message.content)
        logprobs = choice.logprobs.content if choice.logprobs else None
        calls = message.tool_calls
        usage = usage_of(answer.usage, answer.service_tier) if answer.usage else None
        return Completion(
            id=answer.id,
            model=answer.model,
            text=text,
            finish_reason=reason,
            usage=usage or Usage(),
            usage_reported=usage is not None,
            # Result files hold one answer a line, and some servers indent theirs.
            raw=Raw(msgspec.json.format(body, indent=-1) if b"\n" in body else body),
            reasoning=message.reasoning_content or message.reasoning or reasoning,
            refusal=message.refusal,
            tool_calls=tuple(map(_called, calls)) if calls else (),
            logprobs=tuple(logprobs) if logprobs else (),
        )

    def stream_decoder(self) -> ChatStreamDecoder:
        """See `Codec.stream_decoder`."""
        return ChatStreamDecoder(self._stream_end)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ProviderError:
        """See `Codec.failure`."""
        return failure(self._provider, status, headers, body, now_s)

    def max_embedding_inputs(self, model: str) -> int:
        """See `EmbeddingCodec.max_embedding_inputs`."""
        return embeddings.MAX_INPUTS

    def encode_embeddings(self, request: EmbeddingRequest, model: str) -> WireRequest:
        """See `EmbeddingCodec.encode_embeddings`."""
        return embeddings.encode(request, model, base64=self._embeddings_base64)

    def decode_embeddings(self, body: bytes) -> EmbeddingAnswer:
        """See `EmbeddingCodec.decode_embeddings`."""
        return embeddings.decode(body)

    def _for_a_stream(self, extra: dict[str, Raw], model: str) -> dict[str, Raw]:
        """The host's own options without those that a stream sets itself."""
        if bytes(extra.get("n", b"1")) not in {b"1", b"null"}:
            raise ProviderFailed(
                ProviderError(
                    kind="unsupported_capability",
                    message="n: a stream has one choice; ask for several without streaming",
                    provider=self._provider,
                    model=model,
                    param="n",
                )
            )
        return {name: value for name, value in extra.items() if name not in _SET_BY_STREAM}


def _called(call: _ToolCall) -> ToolCall:
    arguments = call.function.arguments
    text = arguments if isinstance(arguments, str) else _encode(arguments).decode()
    return ToolCall(call.id, call.function.name, text)


def _without_state(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """This wire takes no thoughts back."""
    if all(message.reasoning_state is None for message in messages):
        return messages
    return tuple(structs.replace(message, reasoning_state=None) for message in messages)
