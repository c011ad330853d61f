"""Answers that a test has written down: what the simulator says instead of making something up."""

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias

import msgspec

from greenroom.actors.events import FinishReason, ToolCall
from greenroom.actors.kernel import Clock
from greenroom.runtime.simulator.engine import Answer, Choice, count_prompt, count_tokens, embedded
from greenroom.runtime.simulator.exchange import Exchange
from greenroom.runtime.simulator.serving import Plan, Record, Service
from greenroom.runtime.simulator.settings import SimulatorSettings
from greenroom.runtime.simulator.traffic.faults import Fault, WireFault
from greenroom.runtime.simulator.wires import Asked, WireError
from greenroom.runtime.simulator.wires.errors import fault_error

MAX_RECEIVED = 10_000


class Says(msgspec.Struct, frozen=True):
    """An answer, delivered whole or streamed as the request wants it; to a request for embeddings, some made-up ones.

    Args:
        text: What the model says.
        tool_calls: The functions that it wants called instead.
        finish: Why it ended; None: "tool_calls" where there are any, else "stop".
        prompt_tokens: Usage to report; None: counted.
        completion_tokens: The same.
        after_s: Seconds before it answers, on the provider's clock.
        reasoning: What the model thinks before.
    """

    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: FinishReason | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    after_s: float = 0.0
    reasoning: str = ""


class Fails(msgspec.Struct, frozen=True):
    """An error of the provider.

    Args:
        status: Its HTTP status, 400 to 599.
        message: Its words; None: what providers say with such a status.
        code: The provider's word for programs, such as "insufficient_quota"; None: the usual one.
        retry_after_s: When to come back, in seconds; None: nothing is said.
        headers: Further headers.
    """

    status: int
    message: str | None = None
    code: str | None = None
    retry_after_s: float | None = None
    headers: Mapping[str, str] = {}

    def __post_init__(self) -> None:
        if not 400 <= self.status <= 599:
            raise ValueError(f"status {self.status} is no failure: 400 to 599")


class Breaks(msgspec.Struct, frozen=True):
    """An answer that does not arrive whole.

    Args:
        fault: How it breaks, such as "drop", "truncate", "stall" or "garbage" (see `traffic.faults`).
        text: What would have been said.
        at_byte: How many bytes of the body are sent before; None: some.
    """

    fault: WireFault
    text: str = "This answer breaks before its end."
    at_byte: int | None = None


class Raw(msgspec.Struct, frozen=True):
    """An HTTP answer as it is, for what no provider should send."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"
    headers: Mapping[str, str] = {}


class Received(msgspec.Struct, frozen=True):
    """A request as the scripted provider got it; `number` counts from 1, `arrived_s` is monotonic time."""

    number: int
    model: str
    prompt: str
    stream: bool
    body: Mapping[str, object]
    headers: Mapping[str, str]
    arrived_s: float


Step: TypeAlias = str | Says | Fails | Breaks | Raw
Answering: TypeAlias = Callable[[Received], Step | Awaitable[Step]]


class Script:
    """What is answered, request by request, and what was asked.

    Args:
        steps: One for each request in the order of their arrival: a text, a step, or a function that is given the
            request and gives a step, perhaps after waiting for something.
        then: What answers requests after the last step; None: a 400 that says that the script is over.
    """

    def __init__(self, steps: Iterable[Step | Answering], then: Step | Answering | None) -> None:
        self.steps = deque(steps)
        self.then = then
        self.received: deque[Received] = deque(maxlen=MAX_RECEIVED)
        self.failure: Exception | None = None
        self._count = 0
        self._waiting: set[tuple[int, asyncio.Future[None]]] = set()

    def next_number(self) -> int:
        """The number of the request that has just come."""
        self._count += 1
        return self._count

    async def wait_received(self, count: int) -> None:
        """Waits until so many requests have come."""
        if self._count >= count:
            return
        waiting = (count, asyncio.get_running_loop().create_future())
        self._waiting.add(waiting)
        try:
            await waiting[1]
        finally:
            self._waiting.discard(waiting)

    async def next(self, received: Received) -> Step:
        """What answers this request."""
        self.received.append(received)
        for count, arrived in self._waiting:
            if received.number >= count and not arrived.done():
                arrived.set_result(None)
        step = self.steps.popleft() if self.steps else self.then
        if step is None:
            message = f"the script has no answer for request {received.number}, {received.prompt!r}"
            return Fails(400, message, code="script_over")
        try:
            return await _given(step, received)
        except Exception as error:
            # The test's own failure: told to the client, who does not try that again, and raised in the end.
            self.failure = self.failure or error
            return Fails(400, f"the script failed: {error!r}", code="script_failed")


async def _given(step: Step | Answering, received: Received) -> Step:
    if callable(step):
        given = step(received)
        step = await given if inspect.isawaitable(given) else given
    if not isinstance(step, Step):  # pyright: ignore[reportUnnecessaryIsInstance] - tests need not be typed
        raise TypeError(f"{step!r} is no answer: a text, Says, Fails, Breaks or Raw is")
    return step


class ScriptedService(Service):
    """Answers by a script, whatever model is asked; no limits and no faults but the script's.

    Args:
        settings: Pace and form of answers.
        clock: What answers wait on.
        record: Writes an exchange to the journal.
        script: What is answered.
    """

    def __init__(self, settings: SimulatorSettings, clock: Clock, record: Record, script: Script) -> None:
        super().__init__(settings, clock, record)
        self._script = script

    async def plan(self, exchange: Exchange, asked: Asked) -> Plan:
        exchange.prompt_tokens = count_prompt(asked.question)
        self.count(exchange, asked)
        step = await self._script.next(await self._received(exchange, asked))
        if isinstance(step, str):
            step = Says(step)
        match step:
            case Says():
                if asked.question.embed is not None:
                    return Plan(embedded(asked.question, seed=self._seed), delay_s=step.after_s)
                return Plan(_answer(step, exchange.prompt_tokens), delay_s=step.after_s)
            case Breaks():
                exchange.fault = step.fault
                fault = Fault(step.fault, 1.0, at_byte=step.at_byte)
                return Plan(_answer(Says(step.text), exchange.prompt_tokens), fault=fault)
            case Raw():
                headers = {"Content-Type": step.content_type, **step.headers}
                return Plan(_answer(Says(), 0), raw=(step.status, step.body, headers))
            case Fails():
                raise _error(step)

    async def _received(self, exchange: Exchange, asked: Asked) -> Received:
        turns = asked.question.turns
        return Received(
            number=self._script.next_number(),
            model=asked.question.model,
            prompt=next((turn.text for turn in reversed(turns) if turn.role == "user"), ""),
            stream=asked.stream,
            body=msgspec.json.decode(await exchange.request.read(), type=dict[str, object]),
            headers=exchange.request.headers,
            arrived_s=exchange.started_s,
        )


def _answer(says: Says, prompt_tokens: int) -> Answer:
    finish = says.finish or ("tool_calls" if says.tool_calls else "stop")
    tokens = says.completion_tokens
    if tokens is None:
        called = sum(count_tokens(call.name) + count_tokens(call.arguments) for call in says.tool_calls)
        tokens = count_tokens(says.text) + count_tokens(says.reasoning) + called
    counted = prompt_tokens if says.prompt_tokens is None else says.prompt_tokens
    said = tokens - min(tokens, count_tokens(says.reasoning))
    choice = Choice(says.text, finish, said, says.tool_calls, thoughts=says.reasoning)
    return Answer((choice,), counted, tokens)


def _error(fails: Fails) -> WireError:
    usual = fault_error(fails.status, 0)
    return WireError(
        fails.status,
        fails.message or usual.message,
        kind=usual.kind,
        code=fails.code or usual.code,
        retry_after_s=fails.retry_after_s,
        headers=dict(fails.headers),
    )
