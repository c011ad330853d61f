"""The OpenAI routes: from a request's bytes to its answer, by way of the engine and the clock."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec
from aiohttp import web

from greenroom.actors.kernel import Clock
from greenroom.runtime.simulator.engine import Answer, CannotAnswer, Model, answer, catalogue, uniform
from greenroom.runtime.simulator.exchange import Exchange
from greenroom.runtime.simulator.settings import SimulatorSettings
from greenroom.runtime.simulator.wires.openai import (
    ChatRequest,
    WireError,
    models_body,
    one_model_body,
    parse_chat,
    stream_events,
    whole_body,
)

Handler: TypeAlias = Callable[[Exchange], Awaitable[web.StreamResponse]]
Record: TypeAlias = Callable[[Exchange, int], Awaitable[None]]
MODEL_PREFIX = "/v1/models/"
# A stream without pace is written in pieces of about this size, as a provider in a hurry does.
BURST_BYTES = 16 * 1024


class OpenAIRoutes:
    """Serves OpenAI's wire.

    Args:
        settings: Seed, latency and models.
        clock: What answers wait on.
        record: Writes an exchange to the journal with the status that is about to be sent.
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock, record: Record) -> None:
        self._seed = settings.seed
        self._models = catalogue(settings.also_serve)
        self._latency = settings.parsed_latency()
        self._clock = clock
        self._record = record

    @property
    def models(self) -> Mapping[str, Model]:
        """The models that are served, by id."""
        return self._models

    def table(self) -> dict[str, dict[str, Handler]]:
        """Handlers by path and method; a path that ends in a slash stands for all below it."""
        return {
            "/v1/chat/completions": {"POST": self.chat},
            "/v1/models": {"GET": self.list_models},
            MODEL_PREFIX: {"GET": self.retrieve_model},
        }

    async def chat(self, exchange: Exchange) -> web.StreamResponse:
        """POST /v1/chat/completions."""
        asked = parse_chat(await exchange.request.read())
        exchange.prompt_sha256 = asked.prompt_sha256
        exchange.custom_id = asked.custom_id
        exchange.stream = asked.stream
        exchange.model = asked.question.model
        answered = self._answer(asked)
        exchange.prompt_tokens = answered.prompt_tokens
        exchange.completion_tokens = answered.completion_tokens
        exchange.finish_reason = answered.choices[0].finish
        draw = uniform(self._seed, "latency", asked.question.key)
        if asked.stream:
            return await self._streamed(exchange, asked, answered, draw)
        body = whole_body(asked.question, answered)
        await self._wait(self._latency.whole_s(draw, answered.completion_tokens))
        await self._record(exchange, 200)
        return json_response(exchange, 200, body)

    async def list_models(self, exchange: Exchange) -> web.StreamResponse:
        """GET /v1/models."""
        await self._record(exchange, 200)
        return json_response(exchange, 200, models_body(self._models.values()))

    async def retrieve_model(self, exchange: Exchange) -> web.StreamResponse:
        """GET /v1/models/{id}."""
        model_id = exchange.request.path.removeprefix(MODEL_PREFIX)
        exchange.model = model_id
        model = self._models.get(model_id)
        if model is None:
            raise WireError(
                404, f"The model '{model_id}' does not exist", param="model", code="model_not_found"
            )
        await self._record(exchange, 200)
        return json_response(exchange, 200, one_model_body(model))

    def _answer(self, asked: ChatRequest) -> Answer:
        model = self._models.get(asked.question.model)
        if model is None:
            raise WireError(
                404,
                f"The model `{asked.question.model}` does not exist. This simulator serves: {', '.join(self._models)}.",
                code="model_not_found",
            )
        try:
            return answer(asked.question, model, seed=self._seed)
        except CannotAnswer as error:
            raise WireError(400, error.message, param=error.param or None, code=error.code) from None

    async def _streamed(
        self, exchange: Exchange, asked: ChatRequest, answered: Answer, draw: float
    ) -> web.StreamResponse:
        await self._wait(self._latency.first_s(draw))
        await self._record(exchange, 200)
        headers = common_headers(exchange) | {
            "Content-Type": "text/event-stream; charset=utf-8",
            "Cache-Control": "no-cache",
        }
        response = web.StreamResponse(headers=headers)
        response.enable_chunked_encoding()
        await response.prepare(exchange.request)
        pace_s = self._latency.per_token_s
        waiting = bytearray()
        for event, is_token in stream_events(asked.question, answered, include_usage=asked.include_usage):
            waiting += event
            if (pace_s and is_token) or len(waiting) >= BURST_BYTES:
                await response.write(bytes(waiting))
                waiting.clear()
                await self._wait(pace_s)
        await response.write(bytes(waiting))
        await response.write_eof()
        return response

    async def _wait(self, delay_s: float) -> None:
        if delay_s > 0:
            await self._clock.sleep(delay_s)


def json_response(
    exchange: Exchange, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer with the request's id."""
    merged = common_headers(exchange)
    merged["Content-Type"] = "application/json"
    if headers:
        merged.update(headers)
    return web.Response(status=status, body=body, headers=merged)


def common_headers(exchange: Exchange) -> dict[str, str]:
    """Headers that every answer carries."""
    return {"x-request-id": exchange.request_id}


def to_json(value: object) -> bytes:
    """Any Struct as JSON."""
    return msgspec.json.encode(value)
