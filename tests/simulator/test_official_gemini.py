"""Google's own client as an oracle: what it sends, parses, raises and reassembles. Runs where the package is installed."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from greenroom.runtime.simulator import Simulator, SimulatorSettings

genai: Any = pytest.importorskip("google.genai", reason="the official client is not installed")
httpx2: Any = pytest.importorskip("httpx2", reason="comes with the official client")
pytestmark = pytest.mark.anyio
PROMPT = "Why do glaciers move slowly through valleys?"


@asynccontextmanager
async def client_of(
    simulator: Simulator, key: str = "k", version: str = "v1beta"
) -> AsyncGenerator[Any, None]:
    # Its own default, a subclass of aiohttp's session, is what aiohttp warns about.
    async with httpx2.AsyncClient() as transport:
        options = {"base_url": simulator.url, "api_version": version, "httpx_async_client": transport}
        yield genai.Client(api_key=key, http_options=options).aio


@pytest.fixture
async def official() -> AsyncGenerator[Any, None]:
    async with Simulator(SimulatorSettings(api_key="k")) as simulator, client_of(simulator) as client:
        yield client


async def test_whole_content_is_parsed_with_usage(official: Any) -> None:
    done = await official.models.generate_content(
        model="smart",
        contents=PROMPT,
        config={"system_instruction": "Be kind.", "max_output_tokens": 500, "temperature": 0.2},
    )
    assert done.text
    assert done.candidates[0].finish_reason == "STOP"
    usage = done.usage_metadata
    assert usage.total_token_count == usage.prompt_token_count + usage.candidates_token_count


async def test_a_stream_adds_up_to_the_whole_content(official: Any) -> None:
    whole = await official.models.generate_content(model="smart", contents=PROMPT)
    stream = await official.models.generate_content_stream(model="smart", contents=PROMPT)
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.text or "" for chunk in chunks) == whole.text
    assert len(chunks) == whole.usage_metadata.candidates_token_count
    assert chunks[-1].usage_metadata == whole.usage_metadata
    assert [chunk.candidates[0].finish_reason for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_a_function_goes_round(official: Any) -> None:
    declared = {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {"type": "OBJECT", "properties": {"city": {"type": "STRING"}}, "required": ["city"]},
    }
    config: dict[str, Any] = {
        "tools": [{"function_declarations": [declared]}],
        "tool_config": {"function_calling_config": {"mode": "ANY"}},
        "automatic_function_calling": {"disable": True},
    }
    done = await official.models.generate_content(model="fast", contents="Oslo?", config=config)
    (call,) = done.function_calls
    assert (call.name, set(call.args)) == ("get_weather", {"city"})
    history = [
        genai.types.Content(role="user", parts=[genai.types.Part(text="Oslo?")]),
        done.candidates[0].content,
        genai.types.Content(
            role="user",
            parts=[
                genai.types.Part.from_function_response(
                    name="get_weather", response={"result": "Rain and nine degrees."}
                )
            ],
        ),
    ]
    del config["tool_config"]
    answer = await official.models.generate_content(model="fast", contents=history, config=config)
    assert "Rain and nine degrees" in answer.text


async def test_a_schema_is_filled_in_both_of_its_forms(official: Any) -> None:
    own = {
        "type": "OBJECT",
        "properties": {"mood": {"type": "STRING", "enum": ["good", "bad"]}},
        "required": ["mood"],
    }
    common = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
    for schema in ({"response_schema": own}, {"response_json_schema": common}):
        done = await official.models.generate_content(
            model="fast", contents=PROMPT, config={"response_mime_type": "application/json", **schema}
        )
        assert done.text in {'{"mood":"good"}', '{"mood":"bad"}'}


async def test_tokens_are_counted_as_they_will_be_charged(official: Any) -> None:
    counted = await official.models.count_tokens(model="fast", contents=PROMPT)
    done = await official.models.generate_content(model="fast", contents=PROMPT)
    assert counted.total_tokens == done.usage_metadata.prompt_token_count


async def test_errors_become_the_clients_own_class_with_status_and_advice(official: Any) -> None:
    with pytest.raises(genai.errors.ClientError) as raised:
        await official.models.generate_content(model="none", contents=PROMPT)
    assert (raised.value.code, raised.value.status) == (404, "NOT_FOUND")
    with pytest.raises(genai.errors.ClientError) as raised:
        await official.models.generate_content(model="fast", contents=PROMPT, config={"temperature": 9})
    assert (raised.value.code, raised.value.status) == (400, "INVALID_ARGUMENT")
    (violations,) = raised.value.details["error"]["details"]
    assert violations["fieldViolations"][0]["field"] == "generationConfig.temperature"


async def test_a_wrong_key_and_a_limit_are_told_as_google_does() -> None:
    settings = SimulatorSettings(api_key="k", faults="429@1", fault_retry_after_s=7.5)
    async with (
        Simulator(settings) as simulator,
        client_of(simulator, "wrong") as wrong,
        client_of(simulator, version="v1") as right,
    ):
        with pytest.raises(genai.errors.ClientError) as raised:
            await wrong.models.generate_content(model="fast", contents=PROMPT)
        assert raised.value.details["error"]["details"][0]["reason"] == "API_KEY_INVALID"
        with pytest.raises(genai.errors.ClientError) as raised:
            await right.models.generate_content(model="fast", contents=PROMPT)
        assert raised.value.status == "RESOURCE_EXHAUSTED"
        assert raised.value.details["error"]["details"][0]["retryDelay"] == "7.5s"
        assert [entry.retry_after_s for entry in simulator.journal] == [None, 7.5]


async def test_models_are_listed(official: Any) -> None:
    models = [model async for model in await official.models.list(config={"query_base": True})]
    assert "models/fast" in [model.name for model in models]
    assert (await official.models.get(model="fast")).input_token_limit == 128_000


async def test_thoughts_and_log_probabilities_are_parsed(official: Any) -> None:
    config = {
        "thinking_config": {"include_thoughts": True, "thinking_level": "LOW"},
        "response_logprobs": True,
        "logprobs": 2,
    }
    whole = await official.models.generate_content(model="smart", contents=PROMPT, config=config)
    stream = await official.models.generate_content_stream(model="smart", contents=PROMPT, config=config)
    streamed = [
        part for chunk in [chunk async for chunk in stream] for part in chunk.candidates[0].content.parts
    ]
    thought, said = whole.candidates[0].content.parts
    assert thought.thought
    assert said.thought_signature
    assert "".join(part.text for part in streamed if part.thought) == thought.text
    assert "".join(part.text for part in streamed if not part.thought) == said.text
    usage = whole.usage_metadata
    assert usage.thoughts_token_count == -(-len(thought.text) // 4)
    parts = (usage.prompt_token_count, usage.candidates_token_count, usage.thoughts_token_count)
    assert usage.total_token_count == sum(parts)
    found = whole.candidates[0].logprobs_result
    assert "".join(each.token for each in found.chosen_candidates) == said.text
    assert {len(each.candidates) for each in found.top_candidates} == {2}
