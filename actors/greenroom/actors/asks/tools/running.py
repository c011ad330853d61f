"""The calls of one answer, run at once: bounded in number and time, their results told as they come."""

import asyncio
from collections import deque
from typing import Annotated, Literal

import anyio
import msgspec
from msgspec import Meta, Struct

from greenroom.actors.asks.tools.tool import Tool, Toolbox
from greenroom.actors.call import Reply
from greenroom.actors.events import ProviderError, ProviderFailed, ToolCall, ToolResult
from greenroom.actors.kernel import Clock
from greenroom.actors.log import Log

_log = Log(__name__)
MAX_CALLS = 128
"""Calls of one answer that are run; what a model asks for beyond is told so. OpenAI takes as many tools in a request."""
_MAX_WHY_CHARS = 2000


class ToolTerms(Struct, frozen=True, kw_only=True):
    """How tools are run.

    `max_rounds` is how often tools are run and the model is asked again; `max_parallel_tools` how many calls of an
    answer run at once; `tool_timeout_s` how long each may take, in seconds, where the tool says nothing itself.
    `tool_errors` is what becomes of a tool's exception and of a call that cannot be made: "tell" the model, or "raise".
    """

    max_rounds: Annotated[int, Meta(ge=1, le=100)] = 8
    max_parallel_tools: Annotated[int, Meta(ge=1, le=MAX_CALLS)] = 8
    tool_timeout_s: Annotated[float, Meta(gt=0, le=86_400)] = 60.0
    tool_errors: Literal["tell", "raise"] = "tell"


class ToolCallInvalid(ProviderFailed):
    """A model asked for a tool that there is not, or with arguments that are no JSON or not of the function's types.

    `call` is what it asked for. The kind is `protocol`; `cost_pusd` and `error.attempts` are of all asks together.
    """

    def __init__(self, error: ProviderError, call: ToolCall) -> None:
        super().__init__(error)
        self.call = call


class ToolRunner(Struct, frozen=True):
    """What runs the calls of one question's answers: which tools, on which terms, by which clock, and where plain
    functions wait for a thread.
    """

    toolbox: Toolbox
    terms: ToolTerms
    clock: Clock
    threads: anyio.CapacityLimiter


class Running:
    """Calls that run. Whoever makes one must `aclose` it, which cancels what has not ended.

    Args:
        calls: what a model asked for, each with an id of its own.
        reply: the answer that they are of, for errors.
        runner: what runs them.
        left_s: the most that any of them may take, in seconds; None: what the terms and the tool say.
    """

    def __init__(
        self, calls: tuple[ToolCall, ...], reply: Reply, runner: ToolRunner, left_s: float | None
    ) -> None:
        self._reply = reply
        self._runner = runner
        self._terms = runner.terms
        self._left_s = left_s
        self._room = asyncio.Semaphore(runner.terms.max_parallel_tools)
        self._order = [asyncio.create_task(self._one(call, number)) for number, call in enumerate(calls)]
        self._pending = set(self._order)
        self._ended: deque[asyncio.Task[ToolResult]] = deque()

    async def next(self) -> ToolResult | None:
        """The next result to come; None: all have.

        Raises:
            Exception: what a tool raised, and `ToolCallInvalid`, where the terms say so.

        Cancelling leaves everything as it was.
        """
        if not self._ended:
            if not self._pending:
                return None
            done, self._pending = await asyncio.wait(self._pending, return_when=asyncio.FIRST_COMPLETED)
            self._ended.extend(task for task in self._order if task in done)
        return self._ended.popleft().result()

    @property
    def results(self) -> tuple[ToolResult, ...]:
        """All results, in the order of the calls, once `next` has given None."""
        return tuple(task.result() for task in self._order)

    async def aclose(self) -> None:
        """Cancel what runs, and wait until it has ended; threads go on by themselves."""
        for task in self._order:
            task.cancel()
        await asyncio.gather(*self._order, return_exceptions=True)

    async def _one(self, call: ToolCall, number: int) -> ToolResult:
        async with self._room:
            now_s = self._runner.clock.monotonic
            began_s = now_s()
            output, failed = await self._output(call, number)
        return ToolResult(call.id, call.name, call.arguments, output, failed, now_s() - began_s)

    async def _output(self, call: ToolCall, number: int) -> tuple[str, bool]:
        tools = self._runner.toolbox.tools
        tool = tools.get(call.name)
        if number >= MAX_CALLS:
            return self._invalid(call, f"more than {MAX_CALLS} calls at once are not run"), True
        if tool is None:
            return self._invalid(call, f"there is no tool {call.name}; there are {', '.join(tools)}"), True
        try:
            arguments = tool.arguments(call.arguments)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            return self._invalid(call, f"the arguments of {call.name} are not what it takes: {error}"), True
        return await self._result(tool, arguments)

    async def _result(self, tool: Tool, arguments: dict[str, object]) -> tuple[str, bool]:
        limit_s = self._terms.tool_timeout_s if tool.timeout_s is None else tool.timeout_s
        if self._left_s is not None:
            limit_s = min(limit_s, self._left_s)
        task = asyncio.current_task()
        assert task is not None
        limit = asyncio.timeout(limit_s)

        def begin_anew() -> None:
            """A busy machine's wait for a thread is not the tool's. Raises where the call was given up meanwhile."""
            limit.reschedule(asyncio.get_running_loop().time() + limit_s)

        try:
            async with limit:
                return await tool.run(arguments, self._runner.threads, begin_anew), False
        except asyncio.CancelledError:
            if task.cancelling():
                raise
            return "Error: it was cancelled", True  # by something within
        except Exception as error:
            over = limit.expired()
            if self._terms.tool_errors == "raise":
                raise
            # The model is told; its author wants to know, too. What it says may be of the conversation, and is left out.
            _log.warning("tool failed", tool=tool.name, error=type(error).__name__)
            why = f"no result within {limit_s:g} s" if over else f"{type(error).__name__}: {error}"
            return f"Error: {why}"[:_MAX_WHY_CHARS], True

    def _invalid(self, call: ToolCall, why: str) -> str:
        if self._terms.tool_errors == "raise":
            reply = self._reply
            error = ProviderError(
                kind="protocol",
                message=why[:_MAX_WHY_CHARS],
                provider=reply.provider,
                model=reply.model,
                request_id=reply.request_id,
                attempts=0,  # those of all asks are added where it passes
            )
            raise ToolCallInvalid(error, call)
        return f"Error: {why}"[:_MAX_WHY_CHARS]
