"""Tools that models ask for, over real sockets and every wire: run at once, told, bounded, charged and cancelled."""

import asyncio
import threading
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from msgspec import Struct, structs
from tests.inside import given_back

from greenroom.actors.ledger import BudgetExceeded
from greenroom.actors.settings import ModelSettings, PriceSettings, Retries
from greenroom.runtime import (
    Message,
    Options,
    ProviderFailed,
    Reply,
    Runtime,
    Tool,
    ToolCallInvalid,
    ToolRoundsExceeded,
)
from greenroom.runtime.testing import (
    Fails,
    Raw,
    Received,
    Says,
    ScriptedProvider,
    Step,
    ToolCall,
    WireName,
    runtime_with,
    settings_for,
)

pytestmark = pytest.mark.anyio
PRICES = {"*": PriceSettings(input="1", output="2")}
HOW = ("whole", "streamed")
WIRES: tuple[WireName, ...] = get_args(WireName)
Messages = list[dict[str, object]]


def get_weather(city: str) -> str:
    """The weather of a city."""
    return f"{city}: fine"


async def get_time(city: str) -> dict[str, str]:
    """The time in a city."""
    return {"city": city, "time": "noon"}


class Weather(Struct):
    city: str


def calls(*said: tuple[str, str], tokens: int = 5) -> Says:
    """An answer that asks for tools: names and arguments."""
    return Says(
        tool_calls=tuple(ToolCall(f"id{n}", name, text) for n, (name, text) in enumerate(said)),
        prompt_tokens=10,
        completion_tokens=tokens,
    )


ROME_AND_OSLO = calls(("get_weather", '{"city": "Rome"}'), ("get_time", '{"city": "Oslo"}'))
END = Says("Fine at noon.", prompt_tokens=20, completion_tokens=4)


async def ask(rt: Runtime, question: str, *, how: str, options: Options) -> Reply:
    if how == "whole":
        return await rt.chat(None, question, **options)
    async with rt.stream(None, question, **options) as events:
        return await events.finish()


def sent(asked: Received) -> Messages:
    return msgspec.convert(asked.body["messages"], Messages)


class TestRoundTrip:
    @pytest.mark.parametrize("how", HOW)
    @pytest.mark.parametrize("wire", WIRES)
    async def test_on_every_wire(self, wire: WireName, how: str) -> None:
        async with runtime_with(ROME_AND_OSLO, END, wire=wire, prices=PRICES) as (rt, provider):
            options: Options = {"tools": [get_weather, get_time]}
            reply = await ask(rt, "What is it like?", how=how, options=options)
            await given_back(rt, "scripted")
        assert (reply.text, reply.finish_reason, reply.tool_calls) == ("Fine at noon.", "stop", ())
        outputs = {result.name: (result.output, result.failed) for result in reply.tool_results}
        assert outputs == {
            "get_weather": ("Rome: fine", False),
            "get_time": ('{"city":"Oslo","time":"noon"}', False),
        }
        assert (reply.usage.input_tokens, reply.usage.output_tokens, reply.attempts) == (30, 9, 2)
        assert reply.cost_usd == Decimal(30 * 1 + 9 * 2) / 10**6
        first, second = (
            msgspec.json.encode(asked.body).decode().replace("\\", "") for asked in provider.received
        )
        assert "The weather of a city." in first
        assert "Rome: fine" not in first
        assert "Rome: fine" in second
        assert '"time":"noon"' in second
        said, *told = reply.new_messages[:-1]
        assert said.tool_calls is not None
        assert [message.tool_call_id for message in told] == [call.id for call in said.tool_calls]
        assert all(second.count(f'"{call.id}"') == 2 for call in said.tool_calls)

    async def test_the_conversation_goes_on_behind_it(self) -> None:
        async with runtime_with(ROME_AND_OSLO, END, "Bye.") as (rt, provider):
            talk: list[Message] = [Message("user", "What is it like?")]
            reply = await rt.chat(None, talk, tools=[get_weather, get_time])
            talk += [*reply.new_messages, Message("user", "Thanks.")]
            await rt.chat(None, talk)
        assert [message["role"] for message in sent(provider.received[2])] == [
            "user", "assistant", "tool", "tool", "assistant", "user",
        ]  # fmt: skip
        assert talk[-2] == Message("assistant", "Fine at noon.")

    async def test_with_an_answer_of_a_type(self) -> None:
        async with runtime_with(ROME_AND_OSLO, "what?", '{"city": "Rome"}') as (rt, provider):
            reply = await rt.chat(None, "x", tools=[get_weather, get_time], response_type=Weather)
        assert reply.parsed == Weather("Rome")
        assert [rejected.text for rejected in reply.rejected] == ["what?"]
        assert reply.attempts == 3
        assert [message["role"] for message in sent(provider.received[2])] == [
            "user", "assistant", "tool", "tool", "assistant", "user",
        ]  # fmt: skip

    async def test_the_model_is_chosen_once(self, tmp_path: Path) -> None:
        able = ModelSettings(tools=True, json_schema=True, context_tokens=100_000)
        script = (ROME_AND_OSLO, '{"town": 1}', '{"city": "Rome"}')
        async with ScriptedProvider(*script) as provider:
            made = settings_for(provider.simulator, tmp_path)
            scripted = structs.replace(
                made.providers["scripted"], models=dict.fromkeys(("one", "two", "three"), able)
            )
            made = structs.replace(made, providers={"scripted": scripted})
            async with Runtime(made, environ={}) as rt:
                reply = await rt.chat(
                    "AUTO",
                    "x",
                    tools=[get_weather, get_time],
                    response_type=Weather,
                    strategy="round_robin",
                )
        assert len({asked.model for asked in provider.received}) == 1
        assert len(provider.received) == 3
        assert reply.choice is not None
        assert reply.choice.strategy == "round_robin"

    async def test_a_demanded_tool_is_demanded_once(self) -> None:
        async with runtime_with(ROME_AND_OSLO, END) as (rt, provider):
            await rt.chat(None, "x", tools=[get_weather, get_time], tool_choice="required")
        assert [asked.body.get("tool_choice") for asked in provider.received] == ["required", None]

    async def test_calls_without_ids_of_their_own_get_some(self) -> None:
        function = {"name": "get_weather", "arguments": '{"city": "Rome"}'}
        message = {
            "role": "assistant",
            "tool_calls": [
                {"function": function},
                {"id": "a", "function": function},
                {"id": "a", "function": function},
            ],
        }
        body = {"id": "x", "model": "any", "choices": [{"message": message, "finish_reason": "tool_calls"}]}
        async with runtime_with(Raw(msgspec.json.encode(body)), END) as (rt, provider):
            reply = await rt.chat(None, "x", tools=[get_weather])
        assert [result.id for result in reply.tool_results] == ["call_0_0", "a", "call_0_2"]
        assert [message.get("tool_call_id") for message in sent(provider.received[1])[2:]] == [
            "call_0_0",
            "a",
            "call_0_2",
        ]


class TestReasoning:
    async def test_anthropics_signed_thoughts_go_back(self) -> None:
        thought = {"type": "thinking", "thinking": "Hm.", "signature": "c2ln"}
        body = {
            "id": "m", "type": "message", "role": "assistant", "model": "any", "stop_reason": "tool_use",
            "content": [thought, {"type": "tool_use", "id": "t1", "name": "get_weather", "input": {"city": "Rome"}}],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
        async with runtime_with(Raw(msgspec.json.encode(body)), END, wire="anthropic-messages") as (
            rt,
            provider,
        ):
            await rt.chat(None, "x", tools=[get_weather])
        _, answer, result = sent(provider.received[1])
        assert msgspec.convert(answer["content"], Messages)[0] == thought
        assert msgspec.convert(result["content"], Messages)[0]["tool_use_id"] == "t1"

    async def test_responses_encrypted_thoughts_go_back(self) -> None:
        thought: dict[str, object] = {
            "type": "reasoning",
            "id": "rs_1",
            "summary": [],
            "encrypted_content": "c2ln",
        }
        call = {"type": "function_call", "id": "fc_1", "call_id": "t1", "name": "get_weather",
                "arguments": '{"city": "Rome"}', "status": "completed"}  # fmt: skip
        body: dict[str, object] = {
            "id": "r", "object": "response", "status": "completed", "model": "any", "output": [thought, call],
            "usage": {"input_tokens": 1, "output_tokens": 1},
        }  # fmt: skip
        async with runtime_with(Raw(msgspec.json.encode(body)), END, wire="openai-responses") as (
            rt,
            provider,
        ):
            await rt.chat(None, "x", tools=[get_weather])
        items = msgspec.convert(provider.received[1].body["input"], Messages)
        assert [item.get("type", "message") for item in items] == [
            "message", "reasoning", "function_call", "function_call_output",
        ]  # fmt: skip
        assert items[1]["encrypted_content"] == "c2ln"


class TestBounds:
    async def test_calls_run_at_once_but_no_more_than_told(self) -> None:
        running = peak = 0
        two = asyncio.Event()

        async def meet(n: int) -> int:
            nonlocal running, peak
            running += 1
            peak = max(peak, running)
            if running == 2:
                two.set()
            await two.wait()
            await asyncio.sleep(0)
            running -= 1
            return n

        asked = calls(*(("meet", f'{{"n": {n}}}') for n in range(20)))
        async with runtime_with(asked, END) as (rt, _provider):
            reply = await rt.chat(None, "x", tools=[meet], max_parallel_tools=2)
        assert peak == 2
        assert [result.output for result in reply.tool_results] == [str(n) for n in range(20)]

    async def test_rounds_end(self) -> None:
        async with runtime_with(then=ROME_AND_OSLO, prices=PRICES) as (rt, provider):
            with pytest.raises(ToolRoundsExceeded, match="again after 2 rounds") as caught:
                await rt.chat(None, "x", tools=[get_weather, get_time], max_rounds=2)
        assert len(provider.received) == caught.value.error.attempts == len(caught.value.tried) == 3
        assert caught.value.cost_pusd == caught.value.reply.cost_pusd == 3 * 20 * 10**6
        assert len(caught.value.reply.tool_results) == 4

    async def test_a_tool_that_takes_too_long_is_told_of(self) -> None:
        ended = asyncio.Event()

        async def hang() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

        async with runtime_with(calls(("hang", "{}"), ("get_weather", '{"city": "x"}')), END) as (
            rt,
            _provider,
        ):
            reply = await rt.chat(None, "x", tools=[Tool(hang, timeout_s=0.01), get_weather])
        assert [(result.output, result.failed) for result in reply.tool_results] == [
            ("Error: no result within 0.01 s", True),
            ("x: fine", False),
        ]
        assert ended.is_set()

    async def test_a_thread_that_hangs_keeps_nobody_waiting(self) -> None:
        go_on = threading.Event()

        def hang() -> None:
            go_on.wait(30)

        try:
            async with runtime_with(calls(("hang", "{}")), END) as (rt, _provider):
                reply = await rt.chat(None, "x", tools=[hang], tool_timeout_s=0.05)
        finally:
            go_on.set()
        assert reply.tool_results[0].output == "Error: no result within 0.05 s"

    async def test_functions_run_in_threads_and_coroutines_on_the_loop(self) -> None:
        async def on_the_loop() -> int:
            return threading.get_ident()

        asked = calls(("get_ident", "{}"), ("on_the_loop", "{}"))
        async with runtime_with(asked, END) as (rt, _provider):
            in_a_thread = Tool(lambda: threading.get_ident(), name="get_ident")  # noqa: PLW0108 - C has no types
            reply = await rt.chat(None, "x", tools=[in_a_thread, on_the_loop])
        theirs, ours = (int(result.output) for result in reply.tool_results)
        assert theirs != ours == threading.get_ident()

    async def test_waiting_for_a_thread_is_not_the_tools_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        limits: list[tuple[asyncio.Timeout, float | None]] = []
        make = asyncio.timeout

        def noted(delay_s: float | None) -> asyncio.Timeout:
            limit = make(delay_s)
            if delay_s == 61.5:
                limits.append((limit, limit.when()))
            return limit

        async with runtime_with(calls(("get_weather", '{"city": "x"}')), END) as (rt, _provider):
            monkeypatch.setattr(asyncio, "timeout", noted)
            await rt.chat(None, "x", tools=[get_weather], tool_timeout_s=61.5)
            monkeypatch.undo()
        assert [(limit.when() or 0) > (first or 0) for limit, first in limits] == [True]

    async def test_more_calls_than_are_run(self) -> None:
        asked = calls(*(("get_weather", '{"city": "x"}') for _ in range(130)))
        async with runtime_with(asked, END) as (rt, _provider):
            reply = await rt.chat(None, "x", tools=[get_weather])
        assert [result.failed for result in reply.tool_results] == [False] * 128 + [True] * 2
        assert "more than 128 calls" in reply.tool_results[-1].output

    async def test_the_budget_is_of_all_rounds_together(self) -> None:
        async with runtime_with(then=calls(("get_weather", '{"city": "x"}'), tokens=500), prices=PRICES) as (
            rt,
            provider,
        ):
            with pytest.raises(BudgetExceeded) as caught:
                await rt.chat(
                    None, "x", tools=[get_weather], max_tokens=500, max_rounds=50, budget_usd="0.004"
                )
            await given_back(rt, "scripted")
        assert 2 <= len(provider.received) <= 3
        assert caught.value.settled_pusd == len(provider.received) * 1010 * 10**6
        assert caught.value.budget.cap_pusd == 4000 * 10**6

    @pytest.mark.parametrize("how", HOW)
    async def test_the_deadline_is_of_all_rounds_together(self, how: str) -> None:
        async def slow() -> None:
            await rt._life.system.clock.sleep(60)  # pyright: ignore[reportPrivateUsage] - time that passes when told

        async with runtime_with(then=calls(("slow", "{}"))) as (rt, provider):
            with pytest.raises(ProviderFailed) as caught:
                await ask(rt, "x", how=how, options={"tools": [slow], "timeout_s": 90})
        assert caught.value.error.kind == "timeout"
        assert caught.value.error.attempts == len(provider.received) == 2
        assert "the 90 s of the call were over before it could be asked again" in str(caught.value)


class TestWrongCalls:
    WRONG = (
        (ToolCall("c", "get_weather", '{"city": 5}'), "Expected `str`, got `int`", '{"city": 5}'),
        (ToolCall("c", "get_weather", '{"city": "Ro'), "Input data was truncated", "{}"),
        (ToolCall("c", "get_weather", "[1]"), "Expected `object`, got `array`", "{}"),
        (ToolCall("c", "get_whether", "{}"), "there is no tool get_whether; there are get_weather", "{}"),
    )

    @pytest.mark.parametrize(("call", "why", "kept"), WRONG)
    async def test_are_told_and_may_be_mended(self, call: ToolCall, why: str, kept: str) -> None:
        good = calls(("get_weather", '{"city": "Rome"}'))
        async with runtime_with(Says(tool_calls=(call,)), good, END) as (rt, provider):
            reply = await rt.chat(None, "x", tools=[get_weather])
        assert [result.failed for result in reply.tool_results] == [True, False]
        _, said, told = sent(provider.received[1])
        assert why in str(told["content"])
        assert f"'arguments': {kept!r}" in str(said["tool_calls"])

    @pytest.mark.parametrize(
        ("call", "why", "how"),
        [(*WRONG[0][:2], "streamed"), *((call, why, "whole") for call, why, _ in WRONG[1:])],
    )
    async def test_or_raised(self, call: ToolCall, why: str, how: str) -> None:
        said = Says(tool_calls=(call,), prompt_tokens=10, completion_tokens=5)
        async with runtime_with(said, prices=PRICES) as (rt, _provider):
            with pytest.raises(ToolCallInvalid) as caught:
                await ask(rt, "x", how=how, options={"tools": [get_weather], "tool_errors": "raise"})
            await given_back(rt, "scripted")
        assert why in str(caught.value)
        assert str(caught.value).startswith("scripted/any: protocol: ")
        assert caught.value.call == call
        assert (caught.value.cost_pusd, caught.value.error.attempts) == (20 * 10**6, 1)

    @pytest.mark.parametrize("wire", WIRES)
    async def test_every_wire_takes_them_back(self, wire: WireName) -> None:
        """Ollama, Gemini, Anthropic and Bedrock want a JSON object where a model's own arguments were none of the type."""
        wrong = calls(("get_weather", '{"town": "Rome"}'))
        async with runtime_with(wrong, END, wire=wire) as (rt, _provider):
            reply = await rt.chat(None, "x", tools=[get_weather])
        assert (
            "missing required field `city`" in reply.tool_results[0].output
            or "unknown field" in reply.tool_results[0].output
        )

    async def test_an_answer_cut_off_is_not_acted_on(self) -> None:
        cut = Says(tool_calls=(ToolCall("c", "get_weather", '{"city": "Ro'),), finish="length")
        async with runtime_with(cut) as (rt, _provider):
            reply = await rt.chat(None, "x", tools=[get_weather])
        assert (reply.finish_reason, reply.tool_results, len(reply.tool_calls)) == ("length", (), 1)


class TestToolsThatFail:
    async def test_the_model_is_told(self) -> None:
        def fail(n: int) -> None:
            raise ZeroDivisionError(f"no {n}")

        async def lose() -> None:
            raise asyncio.CancelledError  # as a library's own scope would, gone wrong

        async with runtime_with(calls(("fail", '{"n": 7}'), ("lose", "{}")), END) as (rt, provider):
            reply = await rt.chat(None, "x", tools=[fail, lose])
        assert [result.output for result in reply.tool_results] == [
            "Error: ZeroDivisionError: no 7",
            "Error: it was cancelled",
        ]
        assert sent(provider.received[1])[2]["content"] == "Error: ZeroDivisionError: no 7"

    @pytest.mark.parametrize("how", HOW)
    async def test_or_the_caller_and_what_else_runs_is_cancelled(self, how: str) -> None:
        cancelled = asyncio.Event()
        began = asyncio.Event()

        async def wait() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async def fail() -> None:
            await began.wait()
            raise ZeroDivisionError

        async with runtime_with(calls(("wait", "{}"), ("fail", "{}")), prices=PRICES) as (rt, _provider):
            options: Options = {"tools": [wait, fail], "tool_errors": "raise"}
            with pytest.raises(ZeroDivisionError):
                await ask(rt, "x", how=how, options=options)
            assert cancelled.is_set()
            await given_back(rt, "scripted")

    @pytest.mark.parametrize("how", HOW)
    async def test_a_failure_of_the_provider_tells_of_all_rounds(self, how: str) -> None:
        async with runtime_with(ROME_AND_OSLO, Fails(401), prices=PRICES, retries=Retries(attempts=1)) as (
            rt,
            _provider,
        ):
            with pytest.raises(ProviderFailed, match="authentication") as caught:
                await ask(rt, "x", how=how, options={"tools": [get_weather, get_time]})
        assert (caught.value.cost_pusd, caught.value.error.attempts) == (20 * 10**6, 2)
        assert [one.outcome for one in caught.value.tried] == ["ok", "authentication"]


class TestTheCallersOwn:
    LOOK: Mapping[str, object] = {
        "type": "function",
        "function": {"name": "look", "parameters": {"type": "object"}},
    }

    async def test_calls_of_tools_that_are_dicts_are_returned(self) -> None:
        async with runtime_with(calls(("look", "{}"))) as (rt, provider):
            reply = await rt.chat(None, "x", tools=[self.LOOK])
        assert reply.tool_calls == (ToolCall("id0", "look", "{}"),)
        assert provider.received[0].body["tools"] == [self.LOOK]

    async def test_also_beside_functions_none_of_which_is_run_then(self) -> None:
        both = calls(("look", "{}"), ("get_weather", '{"city": "x"}'))
        async with runtime_with(calls(("get_weather", '{"city": "y"}')), both) as (rt, _provider):
            reply = await rt.chat(None, "x", tools=[self.LOOK, get_weather])
        assert [call.name for call in reply.tool_calls] == ["look", "get_weather"]
        assert [result.output for result in reply.tool_results] == ["y: fine"]
        assert reply.finish_reason == "tool_calls"


class TestInASession:
    @pytest.mark.parametrize("how", HOW)
    async def test_the_rounds_are_of_the_turn(self, how: str) -> None:
        async with runtime_with(ROME_AND_OSLO, END, "Bye.") as (rt, provider):
            session = await rt.session("ada")
            options: Options = {"tools": [get_weather, get_time]}
            if how == "whole":
                reply = await session.say("What is it like?", **options)
            else:
                async with session.stream("What is it like?", **options) as events:
                    reply = await events.finish()
            await session.say("Thanks.")
            history = await session.history()
        assert history[:-2] == (Message("user", "What is it like?"), *reply.new_messages)
        assert [message["role"] for message in sent(provider.received[2])] == [
            "user", "assistant", "tool", "tool", "assistant", "user",
        ]  # fmt: skip

    async def test_a_kept_answer_is_a_turn_too(self) -> None:
        async with runtime_with("Hello.") as (rt, provider):
            replies = [await (await rt.session(name)).say("Hi.", cache=True) for name in ("ada", "bob")]
            assert len(await (await rt.session("bob")).history()) == 2
        assert [reply.cached for reply in replies] == [False, True]
        assert len(provider.received) == 1


class TestCancelled:
    @pytest.mark.parametrize("how", HOW)
    async def test_while_a_tool_runs(self, how: str) -> None:
        began, cancelled = asyncio.Event(), asyncio.Event()

        async def wait() -> None:
            began.set()
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        async with runtime_with(calls(("wait", "{}")), prices=PRICES) as (rt, _provider):
            task = asyncio.create_task(ask(rt, "x", how=how, options={"tools": [wait]}))
            await began.wait()
            await given_back(rt, "scripted")  # a tool may take its time: nothing is held meanwhile
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert cancelled.is_set()
            await given_back(rt, "scripted")

    async def test_at_any_step_leaves_nothing(self) -> None:
        """Let run for so many turns of the loop, then cancelled: tasks, permits, leases and holds are back at nothing."""

        async def step() -> None:
            for _ in range(3):
                await asyncio.sleep(0)

        def script() -> list[Step]:
            return [calls(("step", "{}"), ("step", "{}")), END]

        async with runtime_with(then=END, prices=PRICES) as (rt, provider):
            before = asyncio.all_tasks()
            for turns in (*range(0, 60, 2), *range(60, 400, 20)):
                provider._script.steps.clear()  # pyright: ignore[reportPrivateUsage] - of what was cancelled
                provider.say(*script())
                task = asyncio.create_task(rt.chat(None, "x", tools=[step]))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert [one for one in asyncio.all_tasks() - before if "Running" in repr(one)] == []
            await given_back(rt, "scripted")
