"""OpenAI's own client as an oracle: what it parses, raises and reassembles. Runs where the package is installed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom.runtime.simulator import Simulator, SimulatorSettings

openai: Any = pytest.importorskip("openai", reason="the official client is not installed")
pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": "Why do glaciers move slowly through valleys?"}]


@pytest.fixture
async def official() -> AsyncIterator[Any]:
    async with (
        Simulator(SimulatorSettings(api_key="k")) as simulator,
        openai.AsyncOpenAI(base_url=simulator.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        yield client


async def test_a_whole_answer_is_parsed_with_usage_and_request_id(official: Any) -> None:
    done = await official.chat.completions.create(model="smart", messages=MESSAGES, n=2)
    assert [choice.finish_reason for choice in done.choices] == ["stop", "stop"]
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert done._request_id.startswith("req_")


async def test_a_stream_adds_up_to_the_whole_answer(official: Any) -> None:
    whole = await official.chat.completions.create(model="smart", messages=MESSAGES)
    stream = await official.chat.completions.create(
        model="smart", messages=MESSAGES, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1])
        == whole.choices[0].message.content
    )
    assert chunks[-1].usage == whole.usage
    assert {chunk.id for chunk in chunks} == {whole.id}


async def test_tool_calls_are_reassembled_from_a_stream(official: Any) -> None:
    tool = {
        "type": "function",
        "function": {"name": "get_weather"},
    }
    asked: dict[str, Any] = {
        "model": "fast",
        "messages": [{"role": "user", "content": "the weather?"}],
        "tools": [tool],
    }
    whole = (await official.chat.completions.create(**asked)).choices[0]
    async with official.chat.completions.stream(**asked) as stream:
        final = (await stream.get_final_completion()).choices[0]
    assert (final.finish_reason, whole.finish_reason) == ("tool_calls", "tool_calls")
    assert final.message.tool_calls[0].id == whole.message.tool_calls[0].id
    assert final.message.tool_calls[0].function.arguments == whole.message.tool_calls[0].function.arguments


async def test_errors_become_the_clients_own_classes(official: Any) -> None:
    cases: list[tuple[dict[str, Any], Any, str]] = [
        ({"model": "none"}, openai.NotFoundError, "model_not_found"),
        ({"model": "fast", "temperature": 9}, openai.BadRequestError, "decimal_above_max_value"),
    ]
    for options, kind, code in cases:
        with pytest.raises(kind) as raised:
            await official.chat.completions.create(messages=MESSAGES, **options)
        assert raised.value.code == code
    with pytest.raises(openai.AuthenticationError):
        await official.with_options(api_key="wrong").models.list()


async def test_a_response_streams_to_what_it_is_whole(official: Any) -> None:
    asked: dict[str, Any] = {"model": "smart", "input": "Why do glaciers move slowly through valleys?"}
    whole = await official.responses.create(**asked)
    assert (whole.status, whole.error) == ("completed", None)
    assert whole.output_text
    async with official.responses.stream(**asked) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert ("".join(deltas), final.output_text, final.usage) == (
        whole.output_text,
        whole.output_text,
        whole.usage,
    )
    assert len(deltas) == whole.usage.output_tokens


async def test_a_responses_tool_goes_round(official: Any) -> None:
    tool = {
        "type": "function",
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
    question = {"role": "user", "content": [{"type": "input_text", "text": "The weather in Oslo?"}]}
    asked: dict[str, Any] = {"model": "fast", "tools": [tool], "input": [question]}
    whole = await official.responses.create(**asked, tool_choice="required", instructions="Be kind.")
    (call,) = whole.output
    assert (call.type, call.name) == ("function_call", "get_weather")
    result = {
        "type": "function_call_output",
        "call_id": call.call_id,
        "output": "Rain and nine degrees.",
    }
    answer = await official.responses.create(**asked | {"input": [question, call, result]})
    assert "Rain and nine degrees" in answer.output_text


async def test_a_response_that_is_cut_off_or_wrong_says_so(official: Any) -> None:
    cut = await official.responses.create(model="echo", input="word " * 50, max_output_tokens=16)
    assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    cases: list[tuple[dict[str, Any], Any, str]] = [
        ({"model": "none"}, openai.NotFoundError, "model"),
        ({"max_output_tokens": 1}, openai.BadRequestError, "max_output_tokens"),
        ({"previous_response_id": "resp_1"}, openai.BadRequestError, "previous_response_id"),
        ({"input": [{"role": "wizard", "content": "x"}]}, openai.BadRequestError, "input[0].role"),
    ]
    for options, kind, param in cases:
        with pytest.raises(kind) as raised:
            await official.responses.create(**{"model": "fast", "input": "x"} | options)
        assert raised.value.param == param


async def test_models_are_listed(official: Any) -> None:
    assert "fast" in [model.id async for model in official.models.list()]


async def test_thoughts_are_counted_and_log_probabilities_told(official: Any) -> None:
    asked: dict[str, Any] = {
        "model": "smart",
        "messages": MESSAGES,
        "reasoning_effort": "low",
        "logprobs": True,
        "top_logprobs": 2,
    }
    whole = await official.chat.completions.create(**asked)
    (choice,) = whole.choices
    usage = whole.usage
    thoughts = usage.completion_tokens_details.reasoning_tokens
    assert thoughts == -(-len(choice.message.reasoning_content) // 4)
    assert len(choice.logprobs.content) == usage.completion_tokens - thoughts
    assert "".join(each.token for each in choice.logprobs.content) == choice.message.content
    chunks = [chunk async for chunk in await official.chat.completions.create(**asked, stream=True)]
    told = [chunk.choices[0] for chunk in chunks]
    logprobs = [each for part in told if part.logprobs for each in part.logprobs.content]
    assert logprobs == choice.logprobs.content


async def test_a_response_thinks_before_it_answers(official: Any) -> None:
    asked: dict[str, Any] = {
        "model": "smart",
        "input": "Why do glaciers move slowly through valleys?",
        "reasoning": {"effort": "low", "summary": "auto"},
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 1,
    }
    whole = await official.responses.create(**asked)
    async with official.responses.stream(**asked) as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    thought, said = whole.output
    assert (thought.type, said.type) == ("reasoning", "message")
    assert thought.encrypted_content
    deltas = [event.delta for event in events if event.type == "response.reasoning_summary_text.delta"]
    assert "".join(deltas) == thought.summary[0].text == final.output[0].summary[0].text
    assert whole.usage.output_tokens_details.reasoning_tokens == len(deltas)
    assert "".join(each.token for each in said.content[0].logprobs) == whole.output_text
