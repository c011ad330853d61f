"""Amazon's own client as an oracle: what it sends, signs, parses, raises and splits. Runs where the package is installed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from greenroom.runtime.simulator import Simulator, SimulatorSettings

session: Any = pytest.importorskip("botocore.session", reason="the official client botocore is not installed")
exceptions: Any = pytest.importorskip("botocore.exceptions")
config: Any = pytest.importorskip("botocore.config")
pytestmark = pytest.mark.anyio
MESSAGES = [{"role": "user", "content": [{"text": "Why do glaciers move slowly through valleys?"}]}]
SPEC = {
    "name": "get_weather",
    "description": "Tells the weather.",
    "inputSchema": {
        "json": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    },
}


async def with_client(simulator: Simulator, use: Callable[[Any], Any]) -> Any:
    """What `use` gives, in a thread: the client knows no loops."""

    def run() -> Any:
        client = session.get_session().create_client(
            "bedrock-runtime",
            region_name="eu-north-1",
            endpoint_url=simulator.url,
            aws_access_key_id="AKIDEXAMPLE",
            aws_secret_access_key="secret",
            config=config.Config(retries={"total_max_attempts": 1}, proxies={}),
        )
        try:
            return use(client)
        finally:
            client.close()

    return await asyncio.to_thread(run)


async def test_a_stream_adds_up_to_the_whole_answer() -> None:
    def both(client: Any) -> tuple[Any, list[Any]]:
        asked = {"modelId": "smart", "messages": MESSAGES, "system": [{"text": "Be kind."}]}
        return client.converse(**asked), list(client.converse_stream(**asked)["stream"])

    async with Simulator() as simulator:
        whole, events = await with_client(simulator, both)
    text = whole["output"]["message"]["content"][0]["text"]
    deltas = [event["contentBlockDelta"]["delta"] for event in events if "contentBlockDelta" in event]
    assert "".join(delta["text"] for delta in deltas) == text
    assert len(deltas) == whole["usage"]["outputTokens"]
    assert events[-1]["metadata"]["usage"] == whole["usage"]
    assert events[-2]["messageStop"]["stopReason"] == whole["stopReason"] == "end_turn"


async def test_a_tool_goes_round() -> None:
    def round_trip(client: Any) -> tuple[Any, Any]:
        messages: list[Any] = [{"role": "user", "content": [{"text": "The weather in Oslo?"}]}]
        tools = {"tools": [{"toolSpec": SPEC}]}
        called = client.converse(
            modelId="fast", messages=messages, toolConfig=tools | {"toolChoice": {"any": {}}}
        )
        (block,) = called["output"]["message"]["content"]
        result = {
            "toolUseId": block["toolUse"]["toolUseId"],
            "content": [{"json": {"sky": "Rain and nine degrees."}}],
        }
        messages += [called["output"]["message"], {"role": "user", "content": [{"toolResult": result}]}]
        return block, client.converse(modelId="fast", messages=messages, toolConfig=tools)

    async with Simulator() as simulator:
        block, answer = await with_client(simulator, round_trip)
    assert (block["toolUse"]["name"], set(block["toolUse"]["input"])) == ("get_weather", {"city"})
    assert "Rain and nine degrees" in answer["output"]["message"]["content"][0]["text"]


@pytest.mark.parametrize(
    ("faults", "model", "name"),
    [
        ("429@1", "fast", "ThrottlingException"),
        ("500@1", "fast", "InternalServerException"),
        ("503@1", "fast", "ServiceUnavailableException"),
        ("403@1", "fast", "AccessDeniedException"),
        ("", "none", "ResourceNotFoundException"),
    ],
)
async def test_errors_become_the_clients_own_classes(faults: str, model: str, name: str) -> None:
    def ask(client: Any) -> None:
        with pytest.raises(getattr(client.exceptions, name)) as raised:
            client.converse(modelId=model, messages=MESSAGES)
        assert raised.value.response["Error"]["Code"] == name
        assert raised.value.response["ResponseMetadata"]["RequestId"].startswith("req_")

    async with Simulator(SimulatorSettings(faults=faults)) as simulator:
        await with_client(simulator, ask)


async def test_thoughts_stream_to_what_they_are_whole() -> None:
    def both(client: Any) -> tuple[Any, list[Any]]:
        asked = {"modelId": "smart", "messages": MESSAGES, "outputConfig": {"effort": "low"}}
        return client.converse(**asked), list(client.converse_stream(**asked)["stream"])

    async with Simulator() as simulator:
        whole, events = await with_client(simulator, both)
    thought, said = whole["output"]["message"]["content"]
    deltas = [event["contentBlockDelta"] for event in events if "contentBlockDelta" in event]
    thoughts = [delta["delta"]["reasoningContent"] for delta in deltas if delta["contentBlockIndex"] == 0]
    told = thought["reasoningContent"]["reasoningText"]
    assert "".join(part.get("text", "") for part in thoughts) == told["text"]
    assert thoughts[-1] == {"signature": told["signature"]}
    rest = [delta["delta"]["text"] for delta in deltas if delta["contentBlockIndex"] == 1]
    assert "".join(rest) == said["text"]
    assert len(deltas) == whole["usage"]["outputTokens"] + 1
