"""From a request's bytes to its answer, by way of the engine, the limits, the faults and the clock; of any wire."""

from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec
from aiohttp import web

from greenroom.actors.kernel import Clock
from greenroom.runtime.simulator.delivery import Delivery, json_response
from greenroom.runtime.simulator.engine import (
    Answer,
    CannotAnswer,
    Dice,
    Model,
    answer,
    catalogue,
    count_prompt,
    uniform,
)
from greenroom.runtime.simulator.exchange import NOTHING_SENT, Exchange
from greenroom.runtime.simulator.settings import SimulatorSettings
from greenroom.runtime.simulator.traffic.faults import Fault, Faults
from greenroom.runtime.simulator.traffic.limits import Limits
from greenroom.runtime.simulator.wires import Asked, WireError
from greenroom.runtime.simulator.wires.errors import fault_error, limit_error
from greenroom.runtime.simulator.wires.reading import json_object

Record: TypeAlias = Callable[[Exchange, int], Awaitable[None]]


class Plan(msgspec.Struct, frozen=True):
    """What is to happen with a question.

    Args:
        answer: What is said.
        delay_s: Seconds until the first byte.
        fault: What breaks the answer on its way.
        occurrence: How often an equal request has come.
        raw: Status, body and headers to send instead of the answer.
    """

    answer: Answer
    delay_s: float = 0.0
    fault: Fault | None = None
    occurrence: int = 1
    raw: tuple[int, bytes, Mapping[str, str]] | None = None


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
        asked = await self._asked(exchange)
        plan = await self.plan(exchange, asked)
        used_tokens = plan.answer.prompt_tokens
        try:
            if plan.delay_s > 0:
                await self._clock.sleep(plan.delay_s)
            exchange.prompt_tokens = plan.answer.prompt_tokens
            exchange.completion_tokens = plan.answer.completion_tokens
            exchange.finish_reason = plan.answer.choices[0].finish if plan.answer.choices else None
            used_tokens += plan.answer.completion_tokens
            return await self._deliver(exchange, asked, plan)
        finally:
            self._limits.settle(self._clock.monotonic(), used_tokens)

    async def plan(self, exchange: Exchange, asked: Asked) -> Plan:
        """Decides about a question; a `WireError` where the answer is an error."""
        answered = self._answer(asked)
        exchange.prompt_tokens = answered.prompt_tokens
        occurrence = self.count(exchange, asked)
        if self._limits.any:
            self._admit(exchange, asked, answered)
        fault = self._draw_fault(exchange, asked, occurrence)
        # A whole answer is due when all of its tokens are written, a stream with its first.
        draw = uniform(self._seed, "latency", asked.question.key)
        delay_s = self._latency.whole_s(draw, 0 if asked.stream else answered.completion_tokens)
        return Plan(answered, delay_s, fault, occurrence)

    async def list_models(self, exchange: Exchange) -> web.StreamResponse:
        """Lists all models."""
        await self._record(exchange, 200)
        return json_response(exchange, 200, exchange.wire.models(self._models.values()))

    async def count_tokens(self, counted: Callable[[int], bytes], exchange: Exchange) -> web.StreamResponse:
        """Counts a question's tokens; `counted` is the wire's body for that."""
        asked = await self._asked(exchange)
        self._model(asked.question.model)
        exchange.prompt_tokens = count_prompt(asked.question)
        await self._record(exchange, 200)
        return json_response(exchange, 200, counted(exchange.prompt_tokens))

    async def show_model(self, exchange: Exchange) -> web.StreamResponse:
        """Tells about the model that the body names."""
        named = json_object(await exchange.request.read()).get("model")
        if not isinstance(named, str):
            raise WireError(400, "model is required", param="model")
        exchange.model = named
        model = self._model(named.removesuffix(":latest"))
        await self._record(exchange, 200)
        return json_response(exchange, 200, exchange.wire.model(model))

    async def say(self, what: Mapping[str, str], exchange: Exchange) -> web.StreamResponse:
        """Tells what is always the same."""
        await self._record(exchange, 200)
        return json_response(exchange, 200, msgspec.json.encode(what))

    async def retrieve_model(self, exchange: Exchange) -> web.StreamResponse:
        """Tells about the model that the path's last part names."""
        exchange.model = exchange.request.path.partition("models/")[2]
        model = self._model(exchange.model)
        await self._record(exchange, 200)
        return json_response(exchange, 200, exchange.wire.model(model))

    async def _asked(self, exchange: Exchange) -> Asked:
        body = await exchange.request.read()
        try:
            asked = exchange.wire.parse(body, exchange.head)
        except RecursionError:
            raise WireError(400, "The body of the request is nested too deeply.") from None
        exchange.asked(asked)
        return asked

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

    def count(self, exchange: Exchange, asked: Asked) -> int:
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

    async def _deliver(self, exchange: Exchange, asked: Asked, plan: Plan) -> web.StreamResponse:
        sizes = self._pace.sizes(self._seed, asked.question.key)
        wire, fault = exchange.wire, plan.fault
        if plan.raw is not None:
            status, body, headers = plan.raw
            await self._record(exchange, status)
            return web.Response(status=status, body=body, headers={**exchange.headers, **headers})
        if fault is not None:
            await self._record(exchange, NOTHING_SENT if fault.kind in {"drop", "hang"} else 200)
            parts = (
                [event for event, _ in wire.events(asked, plan.answer, sizes)]
                if asked.stream
                else [wire.whole(asked, plan.answer)]
            )
            dice = Dice(self._seed, "fault", asked.question.key, plan.occurrence)
            return await self._delivery.broken(exchange, fault, parts, dice, streamed=asked.stream)
        await self._record(exchange, 200)
        if asked.stream:
            return await self._delivery.stream(exchange, wire.events(asked, plan.answer, sizes), self._pace)
        return json_response(exchange, 200, wire.whole(asked, plan.answer))
