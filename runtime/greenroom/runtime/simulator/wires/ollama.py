"""Ollama's wire: /api/chat whole and as JSON lines, /api/tags, /api/show, /api/version, error bodies.

Source: Ollama's API documentation (docs/api.md) and published OpenAPI document, and the types of the official client.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from greenroom.actors.events import FinishReason, ToolCall
from greenroom.runtime.simulator.engine import (
    Answer,
    Choice,
    Model,
    Question,
    Schema,
    Tool,
    Turn,
    chunks,
    count_tokens,
    pieces,
    token_chunks,
)
from greenroom.runtime.simulator.traffic.advice import RetryAfterForm
from greenroom.runtime.simulator.traffic.limits import Limits
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.reading import (
    Head,
    convert,
    digests,
    frame_bytes,
    json_object,
    refuse_unknown,
)
from greenroom.runtime.simulator.wires.wire import Asked, called_with, token_logprobs

VERSION = "0.12.0"
_EPOCH_S = 1_767_225_600
_WEEK_S = 604_800
# What a machine at home takes for a token; stated, not waited for.
_NS_PER_TOKEN = 20_000_000
_DONE: dict[FinishReason, str] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "stop",
    "content_filter": "stop",
}


class _Function(msgspec.Struct):
    name: str
    arguments: dict[str, Any] = {}


class _Call(msgspec.Struct):
    function: _Function


class _Message(msgspec.Struct):
    role: Literal["system", "user", "assistant", "tool"]
    content: str = ""
    images: list[str] | None = None
    tool_calls: list[_Call] | None = None
    tool_name: str | None = None
    thinking: str | None = None


class _Declared(msgspec.Struct):
    name: Annotated[str, Meta(min_length=1)]
    description: str | None = None
    parameters: dict[str, Any] | None = None


class _Tool(msgspec.Struct):
    function: _Declared
    type: Literal["function"] = "function"


class _Options(msgspec.Struct):
    """Options that shape what is simulated; the many others are a matter of the model."""

    num_predict: int | None = None
    stop: str | list[str] | None = None


class _Body(msgspec.Struct, kw_only=True):
    model: Annotated[str, Meta(min_length=1)]
    messages: list[_Message] = []
    tools: list[_Tool] | None = None
    format: Literal["", "json"] | dict[str, Any] | None = None
    options: _Options | None = None
    stream: bool | None = None
    think: bool | Literal["low", "medium", "high", "max"] | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


_LEFT_ASIDE = frozenset({"keep_alive", "truncate"})
_KNOWN = frozenset(_Body.__struct_fields__) | _LEFT_ASIDE
_encode = msgspec.json.Encoder().encode


class OllamaWire:
    """See `Wire`."""

    stream_type = "application/x-ndjson"
    filler = b"\n"
    advice: RetryAfterForm = "seconds"

    def wrong_key(self, *, missing: bool) -> WireError:
        return WireError(401, "unauthorized")

    def parse(self, body: bytes, head: Head) -> Asked:
        fields = json_object(body)
        refuse_unknown(fields, _KNOWN)
        asked = convert(fields, _Body)
        framed = frame_bytes(fields, ("tools", "format"))
        fields.setdefault("messages", [])
        prompt_sha256, key = digests(fields, "messages", ("stream", "keep_alive"))
        # Unlike elsewhere a stream is what comes unless it is refused.
        return Asked(_question(asked, key, framed), prompt_sha256, stream=asked.stream is not False)

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        choice = answer.choices[0]
        message: dict[str, object] = {"role": "assistant", "content": choice.text}
        if choice.thoughts:
            message["thinking"] = choice.thoughts
        if choice.tool_calls:
            message["tool_calls"] = [_call(call) for call in choice.tool_calls]
        return _encode(_line(asked, message, pieces(choice.text)) | _end(choice, answer))

    def events(self, asked: Asked, answer: Answer, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
        choice = answer.choices[0]
        for text, tokens in chunks(choice.thoughts, sizes):
            yield (
                _encode(_line(asked, {"role": "assistant", "content": "", "thinking": text})) + b"\n",
                tokens,
            )
        for call in choice.tool_calls:
            message: dict[str, object] = {"role": "assistant", "content": "", "tool_calls": [_call(call)]}
            tokens = count_tokens(call.name) + count_tokens(call.arguments)
            yield _encode(_line(asked, message)) + b"\n", tokens
        for chunk in token_chunks(choice.text, sizes):
            message = {"role": "assistant", "content": "".join(chunk)}
            yield _encode(_line(asked, message, chunk)) + b"\n", len(chunk)
        last = _line(asked, {"role": "assistant", "content": ""}) | _end(choice, answer)
        yield _encode(last) + b"\n", 0

    def error(self, error: WireError, request_id: str) -> bytes:
        return _encode({"error": error.message})

    def error_headers(self, error: WireError) -> dict[str, str]:
        return {}

    def headers(self, request_id: str) -> dict[str, str]:
        return {}

    def limit_headers(self, limits: Limits, now_s: float, time_s: float) -> dict[str, str]:
        """Ollama knows no limits, and so no headers about them."""
        return {}

    def models(self, models: Iterable[Model]) -> bytes:
        return _encode({"models": [_model(model) for model in models]})

    def model(self, model: Model) -> bytes:
        return _encode(
            {
                "details": _details(),
                "model_info": {"general.architecture": "sim", "sim.context_length": model.context_tokens},
                "capabilities": ["completion", "tools"],
                "modified_at": _time(model.created),
            }
        )


def _question(asked: _Body, key: bytes, framed: int) -> Question:
    options = asked.options or _Options()
    stop = options.stop
    return Question(
        model=asked.model.removesuffix(":latest"),
        turns=tuple([_turn(message) for message in asked.messages]) or (Turn("user", ""),),
        key=key,
        # Below 1: without a bound, or to the end of the context.
        max_tokens=options.num_predict if options.num_predict and options.num_predict > 0 else None,
        stop=() if stop is None else (stop,) if isinstance(stop, str) else tuple(stop),
        schema=_wanted(asked.format),
        tools=tuple(
            [
                Tool(tool.function.name, tool.function.description or "", tool.function.parameters or {})
                for tool in asked.tools or ()
            ]
        ),
        frame_bytes=framed,
        thinks=bool(asked.think),
        logprobs=(asked.top_logprobs or 0) if asked.logprobs else None,
    )


def _wanted(form: str | Schema | None) -> Schema | None:
    if isinstance(form, dict):
        return form
    return {} if form == "json" else None


def _turn(message: _Message) -> Turn:
    calls = [
        call.function.name + _encode(call.function.arguments).decode() for call in message.tool_calls or ()
    ]
    return Turn(message.role, "".join([message.content, *calls]), len(message.images or ()))


def _line(asked: Asked, message: dict[str, object], tokens: Iterable[str] = ()) -> dict[str, object]:
    second = _EPOCH_S + int.from_bytes(asked.question.key[12:16], "big") % _WEEK_S
    line: dict[str, object] = {"model": asked.question.model, "created_at": _time(second)}
    line |= {"message": message, "done": False}
    logprobs = token_logprobs(asked.question, tokens)
    return {**line, "logprobs": logprobs} if logprobs else line


def _end(choice: Choice, answer: Answer) -> dict[str, object]:
    prompt_ns = answer.prompt_tokens * _NS_PER_TOKEN // 10
    answer_ns = answer.completion_tokens * _NS_PER_TOKEN
    return {
        "done": True,
        "done_reason": _DONE[choice.finish],
        "total_duration": prompt_ns + answer_ns,
        "load_duration": 0,
        "prompt_eval_count": answer.prompt_tokens,
        "prompt_eval_duration": prompt_ns,
        "eval_count": answer.completion_tokens,
        "eval_duration": answer_ns,
    }


def _call(call: ToolCall) -> dict[str, object]:
    return {"function": {"name": call.name, "arguments": called_with(call)}}


def _model(model: Model) -> dict[str, object]:
    name = f"{model.id}:latest"
    digest = model.id.encode().hex().ljust(64, "0")[:64]
    return {
        "name": name,
        "model": name,
        "modified_at": _time(model.created),
        "size": 0,
        "digest": digest,
        "details": _details(),
    }


def _details() -> dict[str, object]:
    return {
        "parent_model": "",
        "format": "sim",
        "family": "sim",
        "families": ["sim"],
        "parameter_size": "0B",
        "quantization_level": "none",
    }


def _time(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
