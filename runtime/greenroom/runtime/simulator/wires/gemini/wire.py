"""What the simulator sends on Gemini's wire: content whole and streamed, errors, lists of models."""

from collections.abc import Iterable, Iterator

import msgspec

from greenroom.actors.events import FinishReason, ToolCall
from greenroom.runtime.simulator.engine import (
    Answer,
    Choice,
    Likely,
    Model,
    chunks,
    count_tokens,
    likelihoods,
    pieces,
    token_chunks,
)
from greenroom.runtime.simulator.traffic.limits import Limits
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.gemini.request import THOUGHTS_SHOWN, parse_contents
from greenroom.runtime.simulator.wires.reading import Head
from greenroom.runtime.simulator.wires.wire import SSE, Asked, called_with, sealed

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
_Fields = dict[str, object]


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
            _candidate(at, _parts(asked, choice), choice.finish, _logprobs(asked, pieces(choice.text)))
            for at, choice in enumerate(answer.choices)
        ]
        return _encode(
            _response(asked, answer, candidates, answer.completion_tokens - answer.reasoning_tokens)
        )

    def events(self, asked: Asked, answer: Answer, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
        sent = 0
        for at, choice in enumerate(answer.choices):
            # The finish reason comes with the last piece, which is why one is held back.
            held = _Piece({"text": ""}, 0)
            for index, piece in enumerate(_pieces(asked, choice, sizes)):
                if index:
                    sent += held.counted
                    candidate = _candidate(at, [held.part], None, held.logprobs)
                    yield self._event(asked, answer, candidate, sent), held.tokens
                held = piece
            last = at == len(answer.choices) - 1
            sent = answer.completion_tokens if last else sent + held.counted
            part = held.part | _signature(choice) if choice.thoughts and not choice.tool_calls else held.part
            candidate = _candidate(at, [part], choice.finish, held.logprobs)
            yield self._event(asked, answer, candidate, sent), held.tokens

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
        tokens = min(sent, answer.completion_tokens - answer.reasoning_tokens)
        return b"data: %s\r\n\r\n" % _encode(_response(asked, answer, [candidate], tokens))


class _Piece(msgspec.Struct):
    """A part of a stream, its tokens, and those of its text."""

    part: _Fields
    tokens: int
    counted: int = 0
    logprobs: _Fields | None = None


def _response(
    asked: Asked, answer: Answer, candidates: list[_Fields], candidate_tokens: int
) -> dict[str, object]:
    prompt, thoughts = answer.prompt_tokens, answer.reasoning_tokens
    thought = {"thoughtsTokenCount": thoughts} if thoughts else {}
    return {
        "candidates": candidates,
        "usageMetadata": {
            "promptTokenCount": prompt,
            "candidatesTokenCount": candidate_tokens,
            **thought,
            "totalTokenCount": prompt + candidate_tokens + thoughts,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
        },
        "modelVersion": asked.question.model,
        "responseId": asked.question.key[:12].hex(),
    }


def _candidate(
    index: int, parts: list[_Fields], finish: FinishReason | None, logprobs: _Fields | None
) -> _Fields:
    candidate: _Fields = {"content": {"parts": parts, "role": "model"}, "index": index}
    if logprobs is not None:
        candidate["logprobsResult"] = logprobs
    if finish is not None:
        candidate["finishReason"] = _FINISH[finish]
    return candidate


def _parts(asked: Asked, choice: Choice) -> list[_Fields]:
    said: list[_Fields] = [_call(call) for call in choice.tool_calls] or [{"text": choice.text}]
    if not choice.thoughts:
        return said
    said[0] |= _signature(choice)
    return [{"text": choice.thoughts, "thought": True}, *said] if asked.form == THOUGHTS_SHOWN else said


def _pieces(asked: Asked, choice: Choice, sizes: Iterator[int]) -> Iterator[_Piece]:
    """The parts of a stream with their tokens; a call comes in one piece."""
    if asked.form == THOUGHTS_SHOWN:
        for text, tokens in chunks(choice.thoughts, sizes):
            yield _Piece({"text": text, "thought": True}, tokens)
    for index, call in enumerate(choice.tool_calls):
        tokens = count_tokens(call.name) + count_tokens(call.arguments)
        signed = _signature(choice) if choice.thoughts and not index else {}
        yield _Piece(_call(call) | signed, tokens, tokens)
    if not choice.tool_calls:
        for chunk in token_chunks(choice.text, sizes):
            yield _Piece({"text": "".join(chunk)}, len(chunk), len(chunk), _logprobs(asked, chunk))
        if not choice.text and choice.thoughts:
            yield _Piece({"text": ""}, 0)


def _signature(choice: Choice) -> _Fields:
    return {"thoughtSignature": sealed(choice.thoughts)}


def _logprobs(asked: Asked, tokens: list[str]) -> _Fields | None:
    top = asked.question.logprobs
    if top is None:
        return None
    found = likelihoods(tokens, top)
    return {
        "chosenCandidates": [_likely(each) for each in found],
        "topCandidates": [{"candidates": [_likely(other) for other in each.others]} for each in found],
    }


def _likely(likely: Likely) -> _Fields:
    return {"token": likely.token, "logProbability": likely.logprob}


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
