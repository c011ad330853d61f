"""What the simulator sends on Bedrock's wire: whole answers, event frames, errors."""

import binascii
import struct
from collections.abc import Iterable, Iterator

import msgspec

from greenroom.actors.events import FinishReason, ToolCall
from greenroom.runtime.simulator.engine import Answer, Choice, Model, chunks, count_tokens
from greenroom.runtime.simulator.traffic.advice import RetryAfterForm
from greenroom.runtime.simulator.traffic.limits import Limits
from greenroom.runtime.simulator.wires.bedrock.request import parse_converse
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.reading import Head
from greenroom.runtime.simulator.wires.wire import Asked, called_with, sealed

_NAMES = {
    400: "ValidationException",
    401: "UnrecognizedClientException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_STOP_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "content_filtered",
}
_STRING = 7
_encode = msgspec.json.Encoder().encode
_Fields = dict[str, object]


def _header(name: str, value: str) -> bytes:
    raw, text = name.encode(), value.encode()
    return struct.pack(f">B{len(raw)}sBH", len(raw), raw, _STRING, len(text)) + text


def _frame(kind: str, payload: _Fields) -> bytes:
    """One message: two lengths and their checksum, headers, payload, and the checksum of all of it."""
    headers = (
        _header(":event-type", kind)
        + _header(":content-type", "application/json")
        + _header(":message-type", "event")
    )
    body = _encode(payload)
    prelude = struct.pack(">II", 12 + len(headers) + len(body) + 4, len(headers))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + headers + body
    return message + struct.pack(">I", binascii.crc32(message))


class BedrockWire:
    """See `Wire`."""

    stream_type = "application/vnd.amazon.eventstream"
    # Nobody keeps alive on this wire; to begin again and again says nothing either.
    filler = _frame("messageStart", {"role": "assistant"})
    advice: RetryAfterForm = "seconds"

    def wrong_key(self, *, missing: bool) -> WireError:
        if missing:
            message = "Missing Authentication Token"
            return WireError(403, message, code="MissingAuthenticationTokenException")
        message = "The security token included in the request is invalid."
        return WireError(403, message, code="UnrecognizedClientException")

    def parse(self, body: bytes, head: Head) -> Asked:
        return parse_converse(body, head)

    def counted(self, tokens: int) -> bytes:
        """The answer to a request for the count of its tokens."""
        return _encode({"inputTokens": tokens})

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        choice = answer.choices[0]
        content: list[_Fields] = [{"toolUse": _call(call)} for call in choice.tool_calls]
        content = content or [{"text": choice.text}]
        if choice.thoughts:
            thought = {"text": choice.thoughts, "signature": sealed(choice.thoughts)}
            content.insert(0, {"reasoningContent": {"reasoningText": thought}})
        return _encode(
            {
                "output": {"message": {"role": "assistant", "content": content}},
                "stopReason": _stop_reason(choice),
                **_account(answer),
            }
        )

    def events(self, asked: Asked, answer: Answer, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
        choice = answer.choices[0]
        yield _frame("messageStart", {"role": "assistant"}), 0
        if choice.thoughts:
            yield from _thought_frames(choice.thoughts, sizes)
        first = 1 if choice.thoughts else 0
        for index, call in enumerate(choice.tool_calls, first):
            yield from _call_frames(index, call, sizes)
        if not choice.tool_calls:
            for text, tokens in chunks(choice.text, sizes):
                yield _delta(first, {"text": text}), tokens
            yield _frame("contentBlockStop", {"contentBlockIndex": first}), 0
        yield _frame("messageStop", {"stopReason": _stop_reason(choice)}), 0
        yield _frame("metadata", _account(answer)), 0

    def error(self, error: WireError, request_id: str) -> bytes:
        return _encode({"message": error.message})

    def error_headers(self, error: WireError) -> dict[str, str]:
        name = _NAMES.get(error.status, "ValidationException" if error.status < 500 else _NAMES[500])
        if error.code is not None and error.code.endswith("Exception"):
            name = error.code
        return {"x-amzn-errortype": name}

    def headers(self, request_id: str) -> dict[str, str]:
        return {"x-amzn-requestid": request_id}

    def limit_headers(self, limits: Limits, now_s: float, time_s: float) -> dict[str, str]:
        """Bedrock tells nothing about quotas before they are hit."""
        return {}

    def models(self, models: Iterable[Model]) -> bytes:
        return _encode({"modelSummaries": [_summary(model) for model in models]})

    def model(self, model: Model) -> bytes:
        return _encode({"modelDetails": _summary(model)})


def _summary(model: Model) -> _Fields:
    return {
        "modelArn": f"arn:aws:bedrock:sim::foundation-model/{model.id}",
        "modelId": model.id,
        "modelName": model.id.capitalize(),
        "providerName": "greenroom",
        "inputModalities": ["TEXT", "IMAGE"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": {"status": "ACTIVE"},
    }


def _thought_frames(thoughts: str, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
    for text, tokens in chunks(thoughts, sizes):
        yield _delta(0, {"reasoningContent": {"text": text}}), tokens
    yield _delta(0, {"reasoningContent": {"signature": sealed(thoughts)}}), 0
    yield _frame("contentBlockStop", {"contentBlockIndex": 0}), 0


def _call_frames(index: int, call: ToolCall, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
    start = {"toolUse": {"toolUseId": _call_id(call), "name": call.name}}
    opening = _frame("contentBlockStart", {"contentBlockIndex": index, "start": start})
    yield opening, count_tokens(call.name)
    for text, tokens in chunks(call.arguments, sizes):
        yield _delta(index, {"toolUse": {"input": text}}), tokens
    yield _frame("contentBlockStop", {"contentBlockIndex": index}), 0


def _delta(index: int, delta: _Fields) -> bytes:
    return _frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta})


def _stop_reason(choice: Choice) -> str:
    return _STOP_REASONS[choice.finish] if choice.stopped_by is None else "stop_sequence"


def _account(answer: Answer) -> _Fields:
    prompt, completion = answer.prompt_tokens, answer.completion_tokens
    usage = {"inputTokens": prompt, "outputTokens": completion, "totalTokens": prompt + completion}
    return {"usage": usage, "metrics": {"latencyMs": 0}}


def _call(call: ToolCall) -> _Fields:
    return {"toolUseId": _call_id(call), "name": call.name, "input": called_with(call)}


def _call_id(call: ToolCall) -> str:
    return f"tooluse_{call.id.removeprefix('call_')}"
