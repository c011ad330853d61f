"""OpenAI's chat completions wire, which most hosts speak: `POST /chat/completions`.

Shapes: OpenAI's published OpenAPI document (CreateChatCompletionRequest, CreateChatCompletionResponse, Error), and
what compatible servers do otherwise: `refusal` left out, integer error codes, errors that are a bare string.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from greenroom.actors.events import ErrorKind, FinishReason, ProviderError, ToolCall, Usage
from greenroom.actors.providers.chat import ChatOptions, ChatRequest, Message
from greenroom.actors.providers.headers import retry_after_s
from greenroom.actors.providers.wire import Completion, RejectedAnswer, WireRequest

_FINISH_REASONS: dict[str | None, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "eos": "stop",  # Together
    "model_length": "length",  # Mistral: the model's context is full
    "content_filter": "content_filter",
}

_KIND_BY_CODE: dict[str, ErrorKind] = {
    "context_length_exceeded": "context_length",
    "string_above_max_length": "context_length",
    "exceed_context_size_error": "context_length",
    "content_filter": "content_filter",
    "content_policy_violation": "content_filter",
    "unsupported_parameter": "unsupported_capability",
    "unsupported_value": "unsupported_capability",
    "invalid_api_key": "authentication",
    "authentication_error": "authentication",
    "model_not_found": "not_found",
    # A spent account answers 429, but no waiting helps.
    "insufficient_quota": "permission",
    "billing_not_active": "permission",
    "rate_limit_exceeded": "rate_limited",
    "overloaded_error": "overloaded",
    "server_overloaded": "overloaded",
}

_KIND_BY_STATUS: dict[int, ErrorKind] = {
    401: "authentication",
    402: "permission",
    403: "permission",
    404: "not_found",
    408: "timeout",
    409: "server",
    425: "overloaded",
    429: "rate_limited",
    503: "overloaded",
    529: "overloaded",
}


class _Body(ChatOptions, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    model: str
    messages: tuple[Message, ...]
    max_completion_tokens: int | None = None


_Count = Annotated[int, Meta(ge=0)]


class _Function(Struct, gc=False):
    name: str
    arguments: str = ""


class _ToolCall(Struct, gc=False):
    function: _Function
    id: str = ""


class _AnswerMessage(Struct, gc=False):
    content: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _Choice(Struct, gc=False):
    message: _AnswerMessage
    finish_reason: str | None = None


class _PromptDetails(Struct, gc=False):
    cached_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: _Count | None = None
    audio_tokens: _Count | None = None


class _Usage(Struct, gc=False):
    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Answer(Struct, gc=False):
    choices: list[_Choice]
    id: str = ""
    model: str = ""
    usage: _Usage | None = None


class _Error(Struct, gc=False):
    message: str | None = None
    type: str | None = None
    param: str | None = None
    code: str | int | None = None


class _Failure(Struct, gc=False):
    error: _Error | str | None = None
    message: str | None = None
    detail: Raw | UnsetType = UNSET


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_failure = msgspec.json.Decoder(_Failure, strict=False).decode


class OpenAIChat:
    """The codec. `max_tokens_field` is the host's word for the output bound (OpenAI renamed it, others did not)."""

    def __init__(
        self, provider: str, max_tokens_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    ) -> None:
        self._provider = provider
        self._renamed = max_tokens_field == "max_completion_tokens"

    def encode(self, request: ChatRequest, model: str) -> WireRequest:
        """See `Codec.encode`; this wire can express every field of a ChatRequest."""
        body = _encode(
            _Body(
                model=model,
                messages=request.messages,
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
            )
        )
        if request.extra:
            body = b"%s,%s" % (body[:-1], _encode(request.extra)[1:])
        return WireRequest("/chat/completions", body)

    def decode(self, body: bytes) -> Completion:
        """See `Codec.decode`."""
        try:
            body.decode()  # the decoder does not look at what it skips, and the whole of it is handed on in `raw`
            answer = _decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the body begins {_excerpt(body)!r}") from None
        if not answer.choices:
            raise RejectedAnswer("an answer without choices")
        choice = answer.choices[0]
        message = choice.message
        reason = _FINISH_REASONS.get(choice.finish_reason)
        if reason is None:
            raise RejectedAnswer(
                f"finish_reason is {choice.finish_reason!r}; known are {sorted(map(str, _FINISH_REASONS))}"
            )
        calls = message.tool_calls
        usage = _usage(answer.usage) if answer.usage else None
        return Completion(
            id=answer.id,
            model=answer.model,
            text=message.content or "",
            finish_reason=reason,
            usage=usage or Usage(),
            usage_reported=usage is not None,
            # Result files hold one answer a line, and some servers indent theirs.
            raw=Raw(msgspec.json.format(body, indent=-1) if b"\n" in body else body),
            reasoning=message.reasoning_content or "",
            refusal=message.refusal,
            tool_calls=tuple(ToolCall(c.id, c.function.name, c.function.arguments) for c in calls)
            if calls
            else (),
        )

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ProviderError:
        """See `Codec.failure`."""
        error = _error(body)
        code = str(error.code) if error.code is not None else None
        kind = (
            _KIND_BY_CODE.get(code or "")
            or _KIND_BY_CODE.get(error.type or "")
            or _KIND_BY_STATUS.get(status)
        )
        return ProviderError(
            kind=kind or ("server" if status >= 500 else "invalid_request" if status >= 400 else "protocol"),
            message=error.message or f"HTTP {status}: {_excerpt(body)}",
            provider=self._provider,
            status=status,
            code=code or error.type,
            param=error.param,
            request_id=headers.get("x-request-id"),
            retry_after_s=retry_after_s(headers, now_s),
        )


def _usage(usage: _Usage) -> Usage | None:
    """OpenAI counts cached and audio tokens within the prompt, reasoning and audio within the completion.

    None where one of the two sums is missing: nothing could be charged by what is there. xAI counts reasoning beside
    the completion, which only its total tells (docs.x.ai, consumption and rate limits).
    """
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    if prompt is None and completion is None:
        return Usage(usage.prompt_tokens, usage.completion_tokens)
    cached = (prompt.cached_tokens or 0) if prompt else 0
    audio_in = (prompt.audio_tokens or 0) if prompt else 0
    reasoning = (completion.reasoning_tokens or 0) if completion else 0
    audio_out = (completion.audio_tokens or 0) if completion else 0
    beside = usage.total_tokens == usage.prompt_tokens + usage.completion_tokens + reasoning
    return Usage(
        input_tokens=max(0, usage.prompt_tokens - cached - audio_in),
        output_tokens=max(0, usage.completion_tokens - (0 if beside else reasoning) - audio_out),
        cached_tokens=cached,
        reasoning_tokens=reasoning,
        audio_input_tokens=audio_in,
        audio_output_tokens=audio_out,
    )


def _error(body: bytes) -> _Error:
    try:
        failure = _decode_failure(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return _Error()
    if isinstance(failure.error, _Error):
        return failure.error
    detail = None if failure.detail is UNSET else _excerpt(bytes(failure.detail))
    return _Error(message=failure.error or failure.message or detail)


def _excerpt(body: bytes, length: int = 200) -> str:
    text = " ".join(body[: 4 * length].decode("utf-8", "replace").split())
    return text if len(text) <= length else f"{text[:length]}…"
