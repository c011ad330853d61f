"""The OpenAI routes: from a request's bytes to its answer, by way of the engine and the clock."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec
from aiohttp import web

from greenroom.actors.kernel import Clock
from greenroom.runtime.simulator.delivery import Delivery
from greenroom.runtime.simulator.engine import Answer, CannotAnswer, Dice, Model, answer, catalogue, uniform
from greenroom.runtime.simulator.exchange import NOTHING_SENT, Exchange
from greenroom.runtime.simulator.settings import SimulatorSettings
from greenroom.runtime.simulator.traffic.faults import Faults, WireFault
from greenroom.runtime.simulator.traffic.limits import Limits
from greenroom.runtime.simulator.wires.openai import (
    ChatRequest,
    WireError,
    fault_error,
    limit_error,
    models_body,
    one_model_body,
    parse_chat,
    stream_events,
    whole_body,
)

Handler: TypeAlias = Callable[[Exchange], Awaitable[web.StreamResponse]]
Record: TypeAlias = Callable[[Exchange, int], Awaitable[None]]
MODEL_PREFIX = "/v1/models/"


class OpenAIRoutes:
    """Serves OpenAI's wire.

    Args:
        settings: Seed, latency, limits, faults and models.
        clock: What answers wait on.
        record: Writes an exchange to the journal with the status that is about to be sent.
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock, record: Record) -> None:
        self._seed = settings.seed
        self._models = catalogue(settings.also_serve)
        self._latency = settings.parsed_latency()
        self._limits = Limits(
            requests_per_min=settings.requests_per_min,
            tokens_per_min=settings.tokens_per_min,
            kind=settings.limit_kind,
            window_s=settings.limit_window_s,
            tokens_counted=settings.tokens_counted,
        )
        self._faults = Faults(settings.parsed_faults(), seed=settings.seed)
        self._fault_retry_after_s = settings.fault_retry_after_s
        self._delivery = Delivery(clock)
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
        exchange.attempt = self._faults.next_attempt(_identity(exchange, asked))
        if self._limits.any:
            self._admit(exchange, asked, answered)
        fault = self._draw_fault(exchange, asked)
        used_tokens = answered.prompt_tokens
        try:
            await self._wait(asked, answered)
            exchange.completion_tokens = answered.completion_tokens
            exchange.finish_reason = answered.choices[0].finish
            used_tokens += answered.completion_tokens
            if fault is not None:
                return await self._struck(exchange, asked, answered, fault)
            await self._record(exchange, 200)
            if not asked.stream:
                return json_response(exchange, 200, whole_body(asked.question, answered))
            events = stream_events(asked.question, answered, include_usage=asked.include_usage)
            return await self._delivery.stream(exchange, events, self._latency.per_token_s)
        finally:
            self._limits.settle(self._clock.monotonic(), used_tokens)

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

    def _admit(self, exchange: Exchange, asked: ChatRequest, answered: Answer) -> None:
        """Counts the request against the limits; a `WireError` 429 where they are used up."""
        now_s = self._clock.monotonic()
        # Without max_tokens a provider has to guess; the simulator knows what it will answer.
        answer_tokens = asked.question.max_tokens or answered.completion_tokens
        exceeded = self._limits.admit(now_s, answered.prompt_tokens + answer_tokens * asked.question.choices)
        exchange.headers.update(self._limits.headers(now_s))
        if exceeded is not None:
            raise limit_error(exceeded)

    def _draw_fault(self, exchange: Exchange, asked: ChatRequest) -> WireFault | None:
        """What is to go wrong with the answer's bytes, if anything; a `WireError` where it is the status."""
        fault = self._faults.draw(asked.question.key, exchange.attempt)
        if fault is None:
            return None
        exchange.fault = fault.name
        if isinstance(fault.kind, int):
            raise fault_error(fault.kind, self._fault_retry_after_s)
        return fault.kind

    async def _wait(self, asked: ChatRequest, answered: Answer) -> None:
        """Until the first byte is due: of a whole answer, when all of its tokens are written."""
        draw = uniform(self._seed, "latency", asked.question.key)
        tokens = 0 if asked.stream else answered.completion_tokens
        delay_s = self._latency.whole_s(draw, tokens)
        if delay_s > 0:
            await self._clock.sleep(delay_s)

    async def _struck(
        self, exchange: Exchange, asked: ChatRequest, answered: Answer, fault: WireFault
    ) -> web.StreamResponse:
        """Delivers the answer the way a fault wants it."""
        await self._record(exchange, NOTHING_SENT if fault in {"drop", "hang"} else 200)
        body = whole_body(asked.question, answered)
        if asked.stream:
            events = stream_events(asked.question, answered, include_usage=asked.include_usage)
            body = b"".join([event for event, _ in events])
        dice = Dice(self._seed, "fault", asked.question.key, exchange.attempt)
        return await self._delivery.broken(exchange, fault, body, dice, streamed=asked.stream)


def _identity(exchange: Exchange, asked: ChatRequest) -> bytes:
    """Whose attempts are counted together: what the client calls one request, else equal requests."""
    named = exchange.request.headers.get("Idempotency-Key")
    return asked.question.key if named is None else named.encode()


def json_response(
    exchange: Exchange, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer with the headers that belong to the exchange."""
    merged = {**exchange.headers, "Content-Type": "application/json"}
    if headers:
        merged.update(headers)
    return web.Response(status=status, body=body, headers=merged)


def to_json(value: object) -> bytes:
    """Any Struct as JSON."""
    return msgspec.json.encode(value)
