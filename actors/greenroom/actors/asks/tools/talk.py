"""A question that tools are run for, over all its rounds."""

from collections.abc import Sequence

import msgspec
from msgspec import structs

from greenroom.actors.asks.asks import Asks
from greenroom.actors.asks.tools.running import Running, ToolRunner
from greenroom.actors.call import Reply
from greenroom.actors.events import ProviderError, ProviderFailed, ToolCall, ToolResult
from greenroom.actors.providers import ChatRequest, FunctionCall, Message, RequestedTool

_ENDED_EARLY = frozenset({"length", "content_filter"})


class ToolRoundsExceeded(ProviderFailed):
    """A model asked for tools again when `max_rounds` was used up.

    `reply` is its last answer; `reply.new_messages` is all that was said, without that. The kind is `protocol`.
    """

    def __init__(self, error: ProviderError, reply: Reply) -> None:
        super().__init__(error, cost_pusd=reply.cost_pusd, tried=reply.tried)
        self.reply = reply


class Talk:
    """One question over all its rounds: what is asked next, and what it has come to.

    Args:
        request: the question, with its tools.
        asks: what the asks share.
        runner: what runs here.
    """

    def __init__(self, request: ChatRequest, asks: Asks, runner: ToolRunner) -> None:
        self.request = request
        self.asks = asks
        self._runner = runner
        self._rounds = 0
        self._results: tuple[ToolResult, ...] = ()
        self._messages: tuple[Message, ...] = ()

    def run(self, reply: Reply) -> Running | None:
        """Set going what an answer asks for; None: it asks for nothing that runs here, and is the last.

        Raises:
            ToolRoundsExceeded: it asks for tools too often.
            ProviderFailed: no time is left for them.
        """
        self.asks.add(reply)
        calls = reply.tool_calls
        if (
            not calls
            or reply.finish_reason in _ENDED_EARLY
            or any(call.name in self._runner.toolbox.others for call in calls)
        ):
            return None
        calls = self._named(calls)
        if self._rounds >= self._runner.terms.max_rounds:
            raise self._exceeded(reply)
        self.asks.check_time()
        self._rounds += 1
        self._messages += (_said(reply, calls),)
        return Running(calls, reply, self._runner, self.asks.left_s)

    def tell(self, results: Sequence[ToolResult]) -> None:
        """Have the next ask tell the model what its tools gave."""
        self._results += tuple(results)
        self._messages += tuple(Message("tool", result.output, tool_call_id=result.id) for result in results)
        new = self._messages[-len(results) - 1 :]
        self.request = structs.replace(
            self.request,
            messages=(*self.request.messages, *new),
            # A choice that demands a tool has had one; it would never let the model come to an end.
            tool_choice=msgspec.UNSET,
        )

    def last(self, reply: Reply) -> Reply:
        """The last answer, with what all rounds used, cost and said."""
        return structs.replace(
            self.asks.summed(reply), tool_results=self._results, tool_messages=self._messages
        )

    def _exceeded(self, reply: Reply) -> ToolRoundsExceeded:
        error = ProviderError(
            kind="protocol",
            message=f"the model asked for tools again after {self._rounds} rounds of them (max_rounds)",
            provider=reply.provider,
            model=reply.model,
            request_id=reply.request_id,
            attempts=self.asks.attempts,
        )
        return ToolRoundsExceeded(error, self.last(reply))

    def _named(self, calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
        """The calls with an id each: some servers give none, or one to several."""
        seen: set[str] = set()
        named: list[ToolCall] = []
        for number, call in enumerate(calls):
            id_ = f"call_{self._rounds}_{number}" if not call.id or call.id in seen else call.id
            seen.add(id_)
            named.append(structs.replace(call, id=id_))
        return tuple(named)


def _said(reply: Reply, calls: tuple[ToolCall, ...]) -> Message:
    return Message(
        "assistant",
        reply.text or None,
        tool_calls=tuple(
            RequestedTool(call.id, FunctionCall(call.name, _object(call.arguments))) for call in calls
        ),
        reasoning_state=reply.reasoning_state,
    )


def _object(arguments: str) -> str:
    """Arguments as providers take them back. What is no JSON object they would refuse; the tool's message tells of it."""
    try:
        msgspec.json.decode(arguments, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return "{}"
    return arguments
