"""Anthropic's own client as an oracle: what it sends, parses, raises and reassembles. Runs where the package is installed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom.runtime.simulator import Simulator, SimulatorSettings

anthropic: Any = pytest.importorskip("anthropic", reason="the official client is not installed")
pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": "Why do glaciers move slowly through valleys?"}]
WEATHER = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(api_key="k")) as simulator:
        yield simulator


@pytest.fixture
async def official(simulator: Simulator) -> AsyncIterator[Any]:
    async with anthropic.AsyncAnthropic(base_url=simulator.url, api_key="k", max_retries=0) as client:
        yield client


async def test_a_whole_message_is_parsed_with_usage_and_request_id(official: Any) -> None:
    done = await official.messages.create(
        model="smart", max_tokens=500, messages=MESSAGES, system="Be kind.", stop_sequences=["never"]
    )
    assert done.stop_reason == "end_turn"
    assert done.content[0].text
    assert done.usage.output_tokens > 10
    assert done._request_id.startswith("req_")


async def test_a_stream_adds_up_to_the_whole_message(official: Any) -> None:
    asked: dict[str, Any] = {"model": "smart", "max_tokens": 500, "messages": MESSAGES}
    whole = await official.messages.create(**asked)
    async with official.messages.stream(**asked) as stream:
        texts = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert "".join(texts) == whole.content[0].text
    assert len(texts) == whole.usage.output_tokens
    assert (final.id, final.content[0].text, final.stop_reason) == (
        whole.id,
        whole.content[0].text,
        whole.stop_reason,
    )
    assert (final.usage.input_tokens, final.usage.output_tokens) == (
        whole.usage.input_tokens,
        whole.usage.output_tokens,
    )


async def test_a_tool_goes_round(official: Any) -> None:
    asked: dict[str, Any] = {
        "model": "fast",
        "max_tokens": 500,
        "messages": [{"role": "user", "content": "The weather in Oslo?"}],
        "tools": [WEATHER],
        "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    }
    async with official.messages.stream(**asked) as stream:
        final = await stream.get_final_message()
    whole = await official.messages.create(**asked)
    (call,) = final.content
    assert (final.stop_reason, call.type, call.name) == ("tool_use", "tool_use", "get_weather")
    assert (call.id, call.input) == (whole.content[0].id, whole.content[0].input)
    results = [{"type": "tool_result", "tool_use_id": call.id, "content": "Rain and nine degrees."}]
    asked["messages"] += [
        {"role": "assistant", "content": final.content},
        {"role": "user", "content": results},
    ]
    del asked["tool_choice"]
    answer = await official.messages.create(**asked)
    assert "Rain and nine degrees" in answer.content[0].text


async def test_tokens_are_counted_as_they_will_be_charged(official: Any) -> None:
    asked: dict[str, Any] = {"model": "fast", "messages": MESSAGES, "tools": [WEATHER], "system": "Be kind."}
    counted = await official.messages.count_tokens(**asked)
    answered = await official.messages.create(max_tokens=500, **asked)
    assert counted.input_tokens == answered.usage.input_tokens


async def test_a_schema_is_filled(official: Any) -> None:
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
    done = await official.messages.create(
        model="fast",
        max_tokens=100,
        messages=MESSAGES,
        output_config={"format": {"type": "json_schema", "schema": schema}},
    )
    assert done.content[0].text in {'{"mood":"good"}', '{"mood":"bad"}'}


async def test_images_and_thoughts_are_taken(official: Any) -> None:
    picture = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    content = [{"type": "image", "source": picture}, {"type": "text", "text": "What is this?"}]
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": content},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm.", "signature": "s"},
                {"type": "text", "text": "Nothing."},
            ],
        },
        {"role": "user", "content": "Sure?"},
    ]
    with_image = await official.messages.count_tokens(model="fast", messages=messages)
    messages[0]["content"] = content[1:]
    assert (
        with_image.input_tokens
        == 85 + (await official.messages.count_tokens(model="fast", messages=messages)).input_tokens
    )


async def test_errors_become_the_clients_own_classes(official: Any) -> None:
    cases: list[tuple[dict[str, Any], Any, str]] = [
        ({"model": "none"}, anthropic.NotFoundError, "not_found_error"),
        ({"max_tokens": 0}, anthropic.BadRequestError, "invalid_request_error"),
        ({"extra_body": {"temperature": 0.5}}, anthropic.BadRequestError, "invalid_request_error"),
        ({"tool_choice": {"type": "tool", "name": "x"}}, anthropic.BadRequestError, "invalid_request_error"),
    ]
    for options, kind, word in cases:
        with pytest.raises(kind) as raised:
            await official.messages.create(
                **{"model": "fast", "max_tokens": 9, "messages": MESSAGES} | options
            )
        assert raised.value.body["error"]["type"] == word
    with pytest.raises(anthropic.AuthenticationError):
        await official.with_options(api_key="wrong").models.list()


async def test_an_older_version_still_takes_a_temperature(official: Any) -> None:
    done = await official.messages.create(
        model="echo",
        max_tokens=99,
        messages=[{"role": "user", "content": "Well?"}],
        extra_body={"temperature": 0.5},
        extra_headers={"anthropic-version": "2023-06-01"},
    )
    assert done.content[0].text == "Well?"


@pytest.mark.parametrize(("status", "name"), [(429, "RateLimitError"), (529, "OverloadedError")])
async def test_refusals_are_retried_by_the_client_as_they_say(status: int, name: str) -> None:
    async with (
        Simulator(SimulatorSettings(faults=f"{status}@1", fault_retry_after_s=0)) as simulator,
        anthropic.AsyncAnthropic(base_url=simulator.url, api_key="k", max_retries=0) as client,
    ):
        asked: dict[str, Any] = {"model": "fast", "max_tokens": 9, "messages": MESSAGES}
        with pytest.raises(anthropic.APIStatusError) as raised:
            await client.messages.create(**asked)
        assert isinstance(raised.value, getattr(anthropic, name, anthropic.APIStatusError))
        assert raised.value.status_code == status
        assert (await client.messages.create(**asked)).role == "assistant"


async def test_models_are_listed(official: Any) -> None:
    models = [model async for model in official.models.list()]
    assert "fast" in [model.id for model in models]
    assert (await official.models.retrieve("fast")).max_input_tokens == 128_000


async def test_thoughts_stream_to_what_they_are_whole(official: Any) -> None:
    asked: dict[str, Any] = {
        "model": "smart",
        "max_tokens": 500,
        "messages": MESSAGES,
        "thinking": {"type": "adaptive"},
    }
    whole = await official.messages.create(**asked)
    async with official.messages.stream(**asked) as stream:
        final = await stream.get_final_message()
    thought, said = whole.content
    assert (thought.type, said.type) == ("thinking", "text")
    assert final.content[0] == thought
    assert final.content[1].text == said.text
    assert thought.signature
    details = whole.usage.output_tokens_details
    assert 0 < details.thinking_tokens == -(-len(thought.thinking) // 4) < whole.usage.output_tokens
