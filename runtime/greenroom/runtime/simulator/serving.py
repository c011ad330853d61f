"""From a request's bytes to its answer, by way of the engine, the limits, the faults and the clock; of any wire."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

from aiohttp import web

from greenroom.actors.kernel import Clock
from greenroom.runtime.simulator.delivery import Delivery, json_response
from greenroom.runtime.simulator.engine import Answer, CannotAnswer, Dice, Model, answer, catalogue, uniform
from greenroom.runtime.simulator.exchange import NOTHING_SENT, Exchange
from greenroom.runtime.simulator.settings import SimulatorSettings
from greenroom.runtime.simulator.traffic.faults import Fault, Faults
from greenroom.runtime.simulator.traffic.limits import Limits
from greenroom.runtime.simulator.wires import Asked, WireError
from greenroom.runtime.simulator.wires.errors import fault_error, limit_error

Record: TypeAlias = Callable[[Exchange, int], Awaitable[None]]


class Service:
    """Answers questions and lists models.

    Args:
        settings: Seed, latency, pace, limits, faults and models.
        clock: What answers wait on.
        record: Writes an exchange to the journal with the status that is about to be sent.
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock, record: Record) -> None:
        self._seed = settings.seed
        self._models = catalogue(settings.also_serve)
        self._latency = settings.parsed_latency()
        self._pace = settings.pace()
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

    async def ask(self, exchange: Exchange) -> web.StreamResponse:
        """Answers a question, whole or streamed."""
        body = await exchange.request.read()
        asked = exchange.wire.parse(body, exchange.request.path)
        exchange.asked(asked)
        answered = self._answer(asked)
        exchange.prompt_tokens = answered.prompt_tokens
        occurrence = self._count(exchange, asked)
        if self._limits.any:
            self._admit(exchange, asked, answered)
        fault = self._draw_fault(exchange, asked, occurrence)
        used_tokens = answered.prompt_tokens
        try:
            await self._wait(asked, answered)
            exchange.completion_tokens = answered.completion_tokens
            exchange.finish_reason = answered.choices[0].finish
            used_tokens += answered.completion_tokens
            if fault is not None:
                return await self._struck(exchange, asked, answered, fault, occurrence)
            await self._record(exchange, 200)
            if not asked.stream:
                return json_response(exchange, 200, exchange.wire.whole(asked, answered))
            events = exchange.wire.events(asked, answered, self._pace.sizes(self._seed, asked.question.key))
            return await self._delivery.stream(exchange, events, self._pace)
        finally:
            self._limits.settle(self._clock.monotonic(), used_tokens)

    async def list_models(self, exchange: Exchange) -> web.StreamResponse:
        """Lists all models."""
        await self._record(exchange, 200)
        return json_response(exchange, 200, exchange.wire.models(self._models.values()))

    async def retrieve_model(self, exchange: Exchange) -> web.StreamResponse:
        """Tells about the model that the path's last part names."""
        exchange.model = exchange.request.path.rpartition("/models/")[2]
        model = self._model(exchange.model)
        await self._record(exchange, 200)
        return json_response(exchange, 200, exchange.wire.model(model))

    def _model(self, model_id: str) -> Model:
        model = self._models.get(model_id)
        if model is None:
            raise WireError(
                404,
                f"The model `{model_id}` does not exist. This simulator serves: {', '.join(self._models)}.",
                param="model",
                code="model_not_found",
            )
        return model

    def _answer(self, asked: Asked) -> Answer:
        try:
            return answer(asked.question, self._model(asked.question.model), seed=self._seed)
        except CannotAnswer as error:
            raise WireError(400, error.message, param=error.param or None, code=error.code) from None

    def _count(self, exchange: Exchange, asked: Asked) -> int:
        """Counts the attempt.

        Attempts belong to what the client calls one request, else to equal requests.

        Returns:
            How often an equal request has come, whatever the client calls it.
        """
        occurrence = exchange.attempt = self._faults.next_attempt(asked.question.key)
        named = exchange.request.headers.get("Idempotency-Key")
        if named is not None:
            exchange.attempt = self._faults.next_attempt(named.encode(errors="surrogateescape"))
        return occurrence

    def _admit(self, exchange: Exchange, asked: Asked, answered: Answer) -> None:
        """Counts the request against the limits; a `WireError` 429 where they are used up."""
        now_s = self._clock.monotonic()
        # Without max_tokens a provider has to guess; the simulator knows what it will answer.
        answer_tokens = asked.question.max_tokens or answered.completion_tokens
        exceeded = self._limits.admit(now_s, answered.prompt_tokens + answer_tokens * asked.question.choices)
        exchange.headers.update(exchange.wire.limit_headers(self._limits, now_s, self._clock.time()))
        if exceeded is not None:
            exchange.limited_by = exceeded.what
            raise limit_error(exceeded)

    def _draw_fault(self, exchange: Exchange, asked: Asked, occurrence: int) -> Fault | None:
        """What is to go wrong with the answer's bytes, if anything; a `WireError` where it is the status."""
        fault = self._faults.draw(asked.question.key, exchange.attempt, occurrence)
        if fault is None or (fault.kind == "no_done" and not asked.stream):
            return None
        exchange.fault = fault.name
        if isinstance(fault.kind, int):
            raise fault_error(fault.kind, self._fault_retry_after_s)
        return fault

    async def _wait(self, asked: Asked, answered: Answer) -> None:
        """Until the first byte is due: of a whole answer, when all of its tokens are written."""
        draw = uniform(self._seed, "latency", asked.question.key)
        tokens = 0 if asked.stream else answered.completion_tokens
        delay_s = self._latency.whole_s(draw, tokens)
        if delay_s > 0:
            await self._clock.sleep(delay_s)

    async def _struck(
        self, exchange: Exchange, asked: Asked, answered: Answer, fault: Fault, occurrence: int
    ) -> web.StreamResponse:
        """Delivers the answer the way a fault wants it."""
        await self._record(exchange, NOTHING_SENT if fault.kind in {"drop", "hang"} else 200)
        if asked.stream:
            sizes = self._pace.sizes(self._seed, asked.question.key)
            parts = [event for event, _ in exchange.wire.events(asked, answered, sizes)]
        else:
            parts = [exchange.wire.whole(asked, answered)]
        dice = Dice(self._seed, "fault", asked.question.key, occurrence)
        return await self._delivery.broken(exchange, fault, parts, dice, streamed=asked.stream)
