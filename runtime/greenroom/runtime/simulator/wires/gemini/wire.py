"""What the simulator sends on Gemini's wire: content whole and streamed, errors, lists of models."""

from collections.abc import Iterable, Iterator

import msgspec

from greenroom.actors.events import FinishReason, ToolCall
from greenroom.runtime.simulator.engine import Answer, Choice, Model, chunks, count_tokens
from greenroom.runtime.simulator.traffic.limits import Limits
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.gemini.request import parse_contents
from greenroom.runtime.simulator.wires.reading import Head
from greenroom.runtime.simulator.wires.wire import SSE, Asked, called_with

_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_FINISH: dict[FinishReason, str] = {
    "stop": "STOP",
    "length": "MAX_TOKENS",
    "tool_calls": "STOP",
    "content_filter": "SAFETY",
}
_BAD_KEY = "API_KEY_INVALID"
_encode = msgspec.json.Encoder().encode


class GeminiWire:
    """See `Wire`."""

    stream_type = SSE
    filler = b": keep-alive\r\n\r\n"
    # Seen on the wire: no Retry-After, but RetryInfo among the error's details.
    advice = None

    def wrong_key(self, *, missing: bool) -> WireError:
        if missing:
            return WireError(403, "Method doesn't allow unregistered callers. Send a key as x-goog-api-key.")
        return WireError(400, "API key not valid. Please pass a valid API key.", code=_BAD_KEY)

    def parse(self, body: bytes, head: Head) -> Asked:
        return parse_contents(body, head)

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        candidates = [
            _candidate(at, _parts(choice), choice.finish) for at, choice in enumerate(answer.choices)
        ]
        return _encode(_response(asked, candidates, answer.prompt_tokens, answer.completion_tokens))

    def events(self, asked: Asked, answer: Answer, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
        sent = 0
        for at, choice in enumerate(answer.choices):
            # The finish reason comes with the last piece, which is why one is held back.
            held: tuple[dict[str, object], int] = ({"text": ""}, 0)
            for index, piece in enumerate(_pieces(choice, sizes)):
                if index:
                    sent += held[1]
                    yield self._event(asked, answer, _candidate(at, [held[0]], None), sent), held[1]
                held = piece
            sent = answer.completion_tokens if at == len(answer.choices) - 1 else sent + held[1]
            yield self._event(asked, answer, _candidate(at, [held[0]], choice.finish), sent), held[1]

    def counted(self, tokens: int) -> bytes:
        return _encode(
            {
                "totalTokens": tokens,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": tokens}],
            }
        )

    def error(self, error: WireError, request_id: str) -> bytes:
        details: list[dict[str, object]] = []
        if error.retry_after_s is not None:
            delay = f"{error.retry_after_s:.9f}".rstrip("0").rstrip(".")
            details.append({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{delay}s"})
        if error.code == _BAD_KEY:
            reason = {"reason": _BAD_KEY, "domain": "googleapis.com"}
            details.append({"@type": "type.googleapis.com/google.rpc.ErrorInfo", **reason})
        if error.param is not None:
            violations = [{"field": error.param, "description": error.message}]
            kind = "type.googleapis.com/google.rpc.BadRequest"
            details.append({"@type": kind, "fieldViolations": violations})
        status = _STATUS.get(error.status, "INVALID_ARGUMENT" if error.status < 500 else "INTERNAL")
        body: dict[str, object] = {"code": error.status, "message": error.message, "status": status}
        return _encode({"error": {**body, "details": details} if details else body})

    def error_headers(self, error: WireError) -> dict[str, str]:
        return {}

    def headers(self, request_id: str) -> dict[str, str]:
        return {}

    def limit_headers(self, limits: Limits, now_s: float, time_s: float) -> dict[str, str]:
        """Gemini tells nothing about limits before they are hit."""
        return {}

    def models(self, models: Iterable[Model]) -> bytes:
        return _encode({"models": [_model(model) for model in models]})

    def model(self, model: Model) -> bytes:
        return _encode(_model(model))

    def _event(self, asked: Asked, answer: Answer, candidate: dict[str, object], sent: int) -> bytes:
        # A call that was cut off comes with its whole name, for which there were not tokens enough.
        tokens = min(sent, answer.completion_tokens)
        return b"data: %s\r\n\r\n" % _encode(_response(asked, [candidate], answer.prompt_tokens, tokens))


def _response(
    asked: Asked, candidates: list[dict[str, object]], prompt_tokens: int, candidate_tokens: int
) -> dict[str, object]:
    return {
        "candidates": candidates,
        "usageMetadata": {
            "promptTokenCount": prompt_tokens,
            "candidatesTokenCount": candidate_tokens,
            "totalTokenCount": prompt_tokens + candidate_tokens,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt_tokens}],
        },
        "modelVersion": asked.question.model,
        "responseId": asked.question.key[:12].hex(),
    }


def _candidate(index: int, parts: list[dict[str, object]], finish: FinishReason | None) -> dict[str, object]:
    candidate: dict[str, object] = {"content": {"parts": parts, "role": "model"}, "index": index}
    if finish is not None:
        candidate["finishReason"] = _FINISH[finish]
    return candidate


def _parts(choice: Choice) -> list[dict[str, object]]:
    return [_call(call) for call in choice.tool_calls] or [{"text": choice.text}]


def _pieces(choice: Choice, sizes: Iterator[int]) -> Iterator[tuple[dict[str, object], int]]:
    """The parts of a stream with their tokens; a call comes in one piece."""
    for call in choice.tool_calls:
        yield _call(call), count_tokens(call.name) + count_tokens(call.arguments)
    if not choice.tool_calls:
        for text, tokens in chunks(choice.text, sizes):
            yield {"text": text}, tokens


def _call(call: ToolCall) -> dict[str, object]:
    return {"functionCall": {"id": call.id, "name": call.name, "args": called_with(call)}}


def _model(model: Model) -> dict[str, object]:
    return {
        "name": f"models/{model.id}",
        "version": "001",
        "displayName": model.id.capitalize(),
        "description": model.about,
        "inputTokenLimit": model.context_tokens,
        "outputTokenLimit": model.max_output_tokens,
        "supportedGenerationMethods": ["generateContent", "countTokens"],
    }
