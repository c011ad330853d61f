"""OpenAI's wire as the simulator uses it."""

from collections.abc import Iterable, Iterator

import msgspec

from greenroom.runtime.simulator.engine import Answer, Model
from greenroom.runtime.simulator.traffic.advice import RetryAfterForm
from greenroom.runtime.simulator.traffic.limits import Limits, as_reset
from greenroom.runtime.simulator.wires.errors import WireError
from greenroom.runtime.simulator.wires.openai.reply import (
    models_body,
    one_model_body,
    stream_events,
    whole_body,
)
from greenroom.runtime.simulator.wires.openai.request import parse_chat
from greenroom.runtime.simulator.wires.reading import Head
from greenroom.runtime.simulator.wires.wire import SSE, Asked


class _Detail(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class _Body(msgspec.Struct):
    error: _Detail


class OpenAIWire:
    """See `Wire`."""

    stream_type = SSE
    filler = b": keep-alive\n\n"
    advice: RetryAfterForm = "ms"

    def wrong_key(self, *, missing: bool) -> WireError:
        if missing:
            return WireError(401, "No API key was sent. Send it as 'Authorization: Bearer KEY'.")
        return WireError(401, "Incorrect API key provided.", code="invalid_api_key")

    def parse(self, body: bytes, head: Head) -> Asked:
        return parse_chat(body)

    def whole(self, asked: Asked, answer: Answer) -> bytes:
        return whole_body(asked.question, answer)

    def events(self, asked: Asked, answer: Answer, sizes: Iterator[int]) -> Iterator[tuple[bytes, int]]:
        return stream_events(asked.question, answer, sizes, include_usage=asked.include_usage)

    def error(self, error: WireError, request_id: str) -> bytes:
        return msgspec.json.encode(_Body(_Detail(error.message, error.kind, error.param, error.code)))

    def error_headers(self, error: WireError) -> dict[str, str]:
        return {}

    def headers(self, request_id: str) -> dict[str, str]:
        return {"x-request-id": request_id}

    def limit_headers(self, limits: Limits, now_s: float, time_s: float) -> dict[str, str]:
        """OpenAI's guide to rate limits: x-ratelimit-limit-requests and so on; reset as 1s or 6m0s."""
        headers: dict[str, str] = {}
        for state in limits.states(now_s):
            headers[f"x-ratelimit-limit-{state.what}"] = str(state.per_min)
            headers[f"x-ratelimit-remaining-{state.what}"] = str(state.left)
            headers[f"x-ratelimit-reset-{state.what}"] = as_reset(state.reset_s)
        return headers

    def models(self, models: Iterable[Model]) -> bytes:
        return models_body(models)

    def model(self, model: Model) -> bytes:
        return one_model_body(model)
