"""What a stream tells where tools are run: every round's answer, the tools' results as they come, one end."""

import asyncio
from contextlib import suppress

import pytest
from tests.inside import given_back

from greenroom.actors.ledger import BudgetExceeded
from greenroom.actors.settings import PriceSettings, Retries
from greenroom.runtime import (
    CallEvent,
    EventStream,
    Finished,
    ProviderError,
    ProviderFailed,
    Started,
    TextDelta,
    ToolCallDelta,
    ToolResult,
    ToolRoundsExceeded,
    Usage,
)
from greenroom.runtime.testing import Breaks, Fails, Says, ToolCall, runtime_with

pytestmark = pytest.mark.anyio
PRICES = {"*": PriceSettings(input="1", output="2")}
TWO = Says(
    tool_calls=(ToolCall("a", "late", "{}"), ToolCall("b", "early", "{}")),
    prompt_tokens=10,
    completion_tokens=5,
)
END = Says("Done.", prompt_tokens=20, completion_tokens=4)


async def all_of(events: EventStream) -> list[CallEvent]:
    told: list[CallEvent] = []
    with suppress(ProviderFailed):
        async for event in events:
            told.append(event)  # noqa: PERF401 - what came before the failure is looked at
    return told


class Tools:
    """Two tools, of which the second ends first."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.runs = 0
        self.cancelled = False

    async def late(self) -> str:
        self.runs += 1
        try:
            await self.ended.wait()
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return "late"

    async def early(self) -> str:
        self.runs += 1
        return "early"


async def test_tells_each_round_and_results_as_they_come() -> None:
    tools = Tools()
    told: list[CallEvent] = []
    async with (
        runtime_with(TWO, END, prices=PRICES) as (rt, provider),
        rt.stream(None, "x", tools=[tools.late, tools.early]) as events,
    ):
        async for event in events:
            told.append(event)
            if isinstance(event, ToolResult) and event.name == "early":
                assert len(provider.received) == 1
                tools.ended.set()
        reply = events.reply
    kinds = [type(event) for event in told if not isinstance(event, TextDelta | ToolCallDelta)]
    assert kinds == [Started, Usage, ToolResult, ToolResult, Started, Usage, Finished]
    assert [event.output for event in told if isinstance(event, ToolResult)] == ["early", "late"]
    assert [result.output for result in reply.tool_results] == ["late", "early"]
    used = [event for event in told if isinstance(event, Usage)]
    assert [(usage.input_tokens, usage.output_tokens) for usage in used] == [(10, 5), (30, 9)]
    assert used[-1] == reply.usage
    assert told[-1] == Finished("stop")
    assert "".join(event.text for event in told if isinstance(event, TextDelta)) == reply.text == "Done."


async def test_reading_may_be_cancelled_and_gone_on_with() -> None:
    tools = Tools()
    async with (
        runtime_with(TWO, END) as (rt, _provider),
        rt.stream(None, "x", tools=[tools.late, tools.early]) as events,
    ):
        async for event in events:
            if isinstance(event, ToolResult):
                break
        reading = asyncio.create_task(anext(events))
        await asyncio.sleep(0)
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        tools.ended.set()
        reply = await events.finish()
    assert (reply.text, tools.runs) == ("Done.", 2)


async def test_leaving_cancels_what_runs() -> None:
    tools = Tools()
    async with runtime_with(TWO, prices=PRICES) as (rt, provider):
        async with rt.stream(None, "x", tools=[tools.late, tools.early]) as events:
            async for event in events:
                if isinstance(event, ToolResult):
                    break
        assert tools.cancelled
        with pytest.raises(RuntimeError, match="has not ended"):
            _ = events.reply
        await given_back(rt, "scripted")
        assert len(provider.received) == 1


@pytest.mark.parametrize("broken", [Fails(401), Breaks("truncate", at_byte=150)])
async def test_a_failure_in_a_later_round_is_told_once_and_of_all(broken: Fails | Breaks) -> None:
    tools = Tools()
    tools.ended.set()
    async with runtime_with(TWO, broken, prices=PRICES, retries=Retries(attempts=1)) as (rt, _provider):
        async with rt.stream(None, "x", tools=[tools.late, tools.early]) as events:
            told = await all_of(events)
            assert [type(event) for event in told].count(ProviderError) == 1
            assert told[-1] == events.failure.error if events.failure else False
            with pytest.raises(ProviderFailed) as caught:
                await events.finish()
        await given_back(rt, "scripted")
    assert caught.value.error.attempts == 2
    assert caught.value.cost_pusd >= 20 * 10**6
    with pytest.raises(ProviderFailed):
        _ = events.reply


async def test_a_refusal_in_a_later_round_is_raised_and_stays() -> None:
    tools = Tools()
    tools.ended.set()
    many = Says(tool_calls=TWO.tool_calls, prompt_tokens=10, completion_tokens=100)
    async with (
        runtime_with(then=many, prices=PRICES) as (rt, provider),
        rt.stream(
            None, "x", tools=[tools.late, tools.early], max_tokens=100, max_rounds=50, budget_usd="0.0015"
        ) as events,
    ):
        with pytest.raises(BudgetExceeded) as caught:
            await events.finish()
        with pytest.raises(BudgetExceeded):
            await events.finish()
    assert caught.value.settled_pusd == len(provider.received) * 210 * 10**6


async def test_rounds_end() -> None:
    tools = Tools()
    tools.ended.set()
    async with (
        runtime_with(then=TWO) as (rt, provider),
        rt.stream(None, "x", tools=[tools.late, tools.early], max_rounds=1) as events,
    ):
        told = await all_of(events)
        assert [type(event) for event in told].count(ProviderError) == 1
        assert isinstance(told[-1], ProviderError)
        with pytest.raises(ToolRoundsExceeded):
            await events.finish()
        with pytest.raises(ToolRoundsExceeded):
            _ = events.reply
    assert (len(provider.received), tools.runs) == (2, 2)


async def test_out_of_its_block_and_twice() -> None:
    tools = Tools()
    async with runtime_with(END) as (rt, _provider):
        stream = rt.stream(None, "x", tools=[tools.early])
        with pytest.raises(RuntimeError, match="within"):
            await anext(stream)
        async with stream as events:
            await events.finish()
        with pytest.raises(RuntimeError, match="entered before"):
            await stream.__aenter__()
