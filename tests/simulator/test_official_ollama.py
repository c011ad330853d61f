"""Ollama's own client as an oracle: what it sends, parses, raises and reassembles. Runs where the package is installed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from greenroom.runtime.simulator import Simulator, SimulatorSettings

ollama: Any = pytest.importorskip("ollama", reason="the official client is not installed")
pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": "Why do glaciers move slowly through valleys?"}]


@pytest.fixture
async def official() -> AsyncIterator[Any]:
    async with Simulator() as simulator:
        client = ollama.AsyncClient(host=simulator.url)
        yield client
        await client._client.aclose()


async def test_a_whole_answer_is_parsed_with_counts(official: Any) -> None:
    done = await official.chat("smart:latest", MESSAGES, options={"temperature": 0.1, "num_predict": 300})
    assert (done.model, done.done, done.done_reason) == ("smart", True, "stop")
    assert done.message.content
    assert done.eval_count > 10
    assert done.total_duration == done.prompt_eval_duration + done.eval_duration


async def test_a_stream_adds_up_to_the_whole_answer(official: Any) -> None:
    whole = await official.chat("smart", MESSAGES)
    parts = [part async for part in await official.chat("smart", MESSAGES, stream=True)]
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert len(parts) == whole.eval_count + 1
    assert (parts[-1].done, parts[-1].eval_count) == (True, whole.eval_count)


async def test_a_tool_goes_round(official: Any) -> None:
    def get_weather(city: str) -> str:
        """Tell the weather.

        Args:
          city: Where.
        """
        return f"Rain and nine degrees in {city}."

    asked = [{"role": "user", "content": "What is the weather in Oslo?"}]
    done = await official.chat("fast", asked, tools=[get_weather])
    (call,) = done.message.tool_calls
    assert call.function.name == "get_weather"
    result = {"role": "tool", "tool_name": "get_weather", "content": get_weather(**call.function.arguments)}
    answer = await official.chat("fast", [*asked, done.message, result], tools=[get_weather])
    assert "Rain and nine degrees" in answer.message.content


async def test_a_schema_is_filled(official: Any) -> None:
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}, "required": ["mood"]}
    done = await official.chat("fast", MESSAGES, format=schema)
    assert done.message.content in {'{"mood":"good"}', '{"mood":"bad"}'}


async def test_errors_become_the_clients_own_class(official: Any) -> None:
    with pytest.raises(ollama.ResponseError, match="none") as raised:
        await official.chat("none", MESSAGES)
    assert raised.value.status_code == 404
    with pytest.raises(ollama.ResponseError):
        await official.chat("fast", [{"role": "wizard", "content": "x"}])


async def test_a_refusal_has_its_status() -> None:
    async with Simulator(SimulatorSettings(faults="503@1")) as simulator:
        client = ollama.AsyncClient(host=simulator.url)
        with pytest.raises(ollama.ResponseError) as raised:
            await client.chat("fast", MESSAGES)
        assert raised.value.status_code == 503
        assert (await client.chat("fast", MESSAGES)).message.content
        await client._client.aclose()


async def test_models_are_listed_and_shown(official: Any) -> None:
    listed = await official.list()
    assert "fast:latest" in [model.model for model in listed.models]
    assert "tools" in (await official.show("fast")).capabilities


async def test_thoughts_and_log_probabilities_are_parsed(official: Any) -> None:
    asked: dict[str, Any] = {"think": "low", "logprobs": True, "top_logprobs": 2}
    whole = await official.chat("smart", MESSAGES, **asked)
    parts = [part async for part in await official.chat("smart", MESSAGES, stream=True, **asked)]
    assert whole.message.thinking
    assert "".join(part.message.thinking or "" for part in parts) == whole.message.thinking
    assert "".join(part.message.content for part in parts) == whole.message.content
    assert whole.eval_count == len(parts) - 1
    assert "".join(each.token for each in whole.logprobs) == whole.message.content
    assert {len(each.top_logprobs) for each in whole.logprobs} == {2}
