"""What the simulator sends on Anthropic's wire: messages whole and streamed, errors, lists of models."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec

from greenroom.actors.events import FinishReason, ToolCall
from greenroom.runtime.simulator.engine import Answer, Choice, Model, chunks, count_tokens
from greenroom.runtime.simulator.traffic.advice import RetryAfterForm
from greenroom.runtime.simulator.traffic.limits import Limits
from greenroom.runtime.simulator.wires.anthropic.request import parse_messages
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.reading import Head
from greenroom.runtime.simulator.wires.wire import SSE, Asked, called_with, sealed

_KINDS = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_STOP_REASONS: dict[FinishReason, str] = {
    "stop": "end_turn",
    "length": "max_tokens",
    "tool_calls": "tool_use",
    "content_filter": "refusal",
}
_encode = msgspec.json.Encoder().encode


class AnthropicWire:
    """See `Wire`."""

    stream_type = SSE
    filler = b'event: ping\ndata: {"type":"ping"}\n\n'
    advice: RetryAfterForm = "seconds"

    def wrong_key(self, *, missing: bool) -> WireError:
        return WireError(401, "x-api-key header is required" if missing else "invalid x-api-key")

    def parse(self, body: bytes, head: Head) -> Asked:
        return parse_messages(body, head)

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        choice = answer.choices[0]
        reason, sequence = _ended(choice)
        said = [_tool_use(call) for call in choice.tool_calls] or [{"type": "text", "text": choice.text}]
        usage = _usage(answer.prompt_tokens, answer.completion_tokens, answer.reasoning_tokens)
        return _encode(_message(asked, [*_thought(choice), *said], reason, sequence, usage))

    def events(self, asked: Asked, answer: Answer, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
        choice = answer.choices[0]
        started = _message(asked, [], None, None, _usage(answer.prompt_tokens, 1))
        yield _event({"type": "message_start", "message": started}), 0
        blocks = [_tool_block(call, sizes) for call in choice.tool_calls] or [_text_block(choice.text, sizes)]
        if choice.thoughts:
            blocks.insert(0, _thought_block(choice.thoughts, sizes))
        for index, (opening, deltas) in enumerate(blocks):
            yield _event({"type": "content_block_start", "index": index, "content_block": opening}), 0
            if index == 0:
                yield self.filler, 0
            for delta, tokens in deltas:
                yield _event({"type": "content_block_delta", "index": index, "delta": delta}), tokens
            yield _event({"type": "content_block_stop", "index": index}), 0
        reason, sequence = _ended(choice)
        end: dict[str, object] = {"stop_reason": reason, "stop_sequence": sequence}
        usage = _output(answer.completion_tokens, answer.reasoning_tokens)
        yield _event({"type": "message_delta", "delta": end, "usage": usage}), 0
        yield _event({"type": "message_stop"}), 0

    def counted(self, tokens: int) -> bytes:
        return _encode({"input_tokens": tokens})

    def error(self, error: WireError, request_id: str) -> bytes:
        kind = _KINDS.get(error.status, "invalid_request_error" if error.status < 500 else "api_error")
        detail = {"type": kind, "message": error.message}
        return _encode({"type": "error", "error": detail, "request_id": request_id})

    def error_headers(self, error: WireError) -> dict[str, str]:
        return {}

    def headers(self, request_id: str) -> dict[str, str]:
        return {"request-id": request_id}

    def limit_headers(self, limits: Limits, now_s: float, time_s: float) -> dict[str, str]:
        """Anthropic's guide to rate limits: anthropic-ratelimit-requests-limit and so on, reset as RFC 3339."""
        headers: dict[str, str] = {}
        for state in limits.states(now_s):
            start = f"anthropic-ratelimit-{state.what}"
            headers[f"{start}-limit"] = str(state.per_min)
            headers[f"{start}-remaining"] = str(state.left)
            headers[f"{start}-reset"] = _rfc3339(time_s + state.reset_s)
        return headers

    def models(self, models: Iterable[Model]) -> bytes:
        data = [_model(model) for model in models]
        return _encode(
            {"data": data, "has_more": False, "first_id": data[0]["id"], "last_id": data[-1]["id"]}
        )

    def model(self, model: Model) -> bytes:
        return _encode(_model(model))


def _message(
    asked: Asked,
    content: list[dict[str, Any]],
    reason: str | None,
    sequence: str | None,
    usage: dict[str, object],
) -> dict[str, object]:
    return {
        "id": f"msg_{asked.question.key[:12].hex()}",
        "type": "message",
        "role": "assistant",
        "model": asked.question.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": sequence,
        "usage": usage,
    }


def _usage(prompt_tokens: int, completion_tokens: int, reasoning_tokens: int = 0) -> dict[str, object]:
    return {
        "input_tokens": prompt_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "cache_creation": {"ephemeral_5m_input_tokens": 0, "ephemeral_1h_input_tokens": 0},
        "service_tier": "standard",
        **_output(completion_tokens, reasoning_tokens),
    }


def _output(tokens: int, reasoning_tokens: int) -> dict[str, object]:
    return {"output_tokens": tokens, "output_tokens_details": {"thinking_tokens": reasoning_tokens}}


def _ended(choice: Choice) -> tuple[str, str | None]:
    if choice.stopped_by is not None:
        return "stop_sequence", choice.stopped_by
    return _STOP_REASONS[choice.finish], None


def _tool_use(call: ToolCall) -> dict[str, Any]:
    return {"type": "tool_use", "id": _call_id(call), "name": call.name, "input": called_with(call)}


def _thought(choice: Choice) -> list[dict[str, Any]]:
    if not choice.thoughts:
        return []
    return [{"type": "thinking", "thinking": choice.thoughts, "signature": sealed(choice.thoughts)}]


def _thought_block(
    thoughts: str, sizes: Iterator[int]
) -> tuple[dict[str, Any], Iterable[tuple[dict[str, str], int]]]:
    parts = chunks(thoughts, sizes)
    deltas = [({"type": "thinking_delta", "thinking": part}, tokens) for part, tokens in parts]
    deltas.append(({"type": "signature_delta", "signature": sealed(thoughts)}, 0))
    return {"type": "thinking", "thinking": "", "signature": ""}, deltas


def _text_block(
    text: str, sizes: Iterator[int]
) -> tuple[dict[str, Any], Iterable[tuple[dict[str, str], int]]]:
    deltas = (({"type": "text_delta", "text": part}, tokens) for part, tokens in chunks(text, sizes))
    return {"type": "text", "text": ""}, deltas


def _tool_block(
    call: ToolCall, sizes: Iterator[int]
) -> tuple[dict[str, Any], Iterable[tuple[dict[str, str], int]]]:
    opening: dict[str, Any] = {"type": "tool_use", "id": _call_id(call), "name": call.name, "input": {}}
    named = [({"type": "input_json_delta", "partial_json": ""}, count_tokens(call.name))]
    parts = chunks(call.arguments, sizes)
    deltas = [({"type": "input_json_delta", "partial_json": part}, tokens) for part, tokens in parts]
    return opening, named + deltas


def _call_id(call: ToolCall) -> str:
    return f"toolu_{call.id.removeprefix('call_')}"


def _event(event: dict[str, object]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(event["type"]).encode(), _encode(event))


def _model(model: Model) -> dict[str, object]:
    return {
        "type": "model",
        "id": model.id,
        "display_name": model.id.capitalize(),
        "created_at": _rfc3339(model.created),
        "lifecycle": "active",
        "max_input_tokens": model.context_tokens,
        "max_tokens": model.max_output_tokens,
    }


def _rfc3339(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
