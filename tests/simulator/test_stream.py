"""Streams: the order of chunks, the same text and usage as the whole answer, pace, clients that go away."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.simulator.conftest import Client, Connect, Reply

from greenroom.actors.kernel import FakeClock
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.simulator.engine import count_tokens, pieces

pytestmark = pytest.mark.anyio
Until = Callable[[Callable[[], object]], Awaitable[None]]
PROMPT = "Why do glaciers move slowly through valleys? Grüße, 世界 👋"


def chunks_of(reply: Reply) -> list[dict[str, Any]]:
    """The JSON of every event before the terminal one."""
    assert reply.status == 200
    assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
    events = reply.body.decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    assert all(event.startswith("data: ") for event in events[:-1])
    return [msgspec.json.decode(event.removeprefix("data: ")) for event in events[:-2]]


@pytest.mark.parametrize(
    "text", ["", "a", "abcd", "abcdefghi", "äöüß", "日本語のテキスト", "👋👋", "a👋é日b👋é"]
)
def test_pieces_join_to_the_text_and_number_its_tokens(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert len(pieces(text)) == count_tokens(text)
    assert all(pieces(text))


@pytest.mark.parametrize("model", ["echo", "smart"])
async def test_a_stream_is_the_whole_answer_in_pieces(client: Client, model: str) -> None:
    whole = (await client.chat(PROMPT, model=model)).json
    chunks = chunks_of(
        await client.chat(PROMPT, model=model, stream=True, stream_options={"include_usage": True})
    )
    assert {(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks} == {
        (whole["id"], whole["created"], model)
    }
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    first, *middle, last, usage = chunks
    assert first["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in middle)
    assert text == whole["choices"][0]["message"]["content"]
    assert len(middle) == whole["usage"]["completion_tokens"]
    assert (last["choices"][0]["delta"], last["choices"][0]["finish_reason"]) == ({}, "stop")
    assert (usage["choices"], usage["usage"]) == ([], whole["usage"])
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_usage_is_left_out_unless_asked_for(client: Client) -> None:
    for options in ({}, {"stream_options": {"include_usage": False}}):
        chunks = chunks_of(await client.chat(PROMPT, stream=True, **options))
        assert not any("usage" in chunk for chunk in chunks)
        assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


async def test_length_and_several_choices_end_each_for_itself(client: Client) -> None:
    chunks = chunks_of(await client.chat(PROMPT, model="smart", stream=True, n=2, max_tokens=6))
    whole = (await client.chat(PROMPT, model="smart", n=2, max_tokens=6)).json
    for index in (0, 1):
        mine = [chunk["choices"][0] for chunk in chunks if chunk["choices"][0]["index"] == index]
        text = "".join(choice["delta"].get("content", "") for choice in mine)
        assert text == whole["choices"][index]["message"]["content"]
        assert [choice["finish_reason"] for choice in mine if choice["finish_reason"]] == ["length"]


async def test_a_tool_call_is_streamed_in_pieces(client: Client) -> None:
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}}  # fmt: skip
    whole = (await client.chat("the weather in Oslo?", tools=[tool])).json["choices"][0]["message"][
        "tool_calls"
    ][0]
    chunks = chunks_of(await client.chat("the weather in Oslo?", tools=[tool], stream=True))
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    calls = [delta["tool_calls"][0] for delta in deltas if "tool_calls" in delta]
    assert calls[0] == {
        "index": 0,
        "id": whole["id"],
        "type": "function",
        "function": {"name": "get_weather", "arguments": ""},
    }
    assert "".join(call["function"]["arguments"] for call in calls) == whole["function"]["arguments"]
    assert len(calls) > 2
    assert deltas[0]["content"] is None
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_bad_request_for_a_stream_gets_a_plain_error(client: Client) -> None:
    reply = await client.chat(PROMPT, stream=True, model="none")
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")


async def test_a_paced_stream_delivers_token_by_token(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    settings = SimulatorSettings(latency="2s + per_token(500ms)")
    async with Simulator(settings, clock=clock) as simulator:
        client = connect(simulator)
        body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "abcdefghijkl"}]}
        asked = asyncio.create_task(
            client.session.post(f"{simulator.openai_base_url}/chat/completions", json=body)
        )
        await until(lambda: clock.pending)
        assert clock.next_due() == pytest.approx(2.0)
        await clock.advance(2)
        async with await asked as response:
            for piece in ("abcd", "efgh", "ijkl"):
                received = b""
                while piece.encode() not in received:
                    received += await response.content.readany()
                assert b"[DONE]" not in received
                await until(lambda: clock.pending)
                assert clock.next_due() == pytest.approx(0.5)
                await clock.advance(0.5)
            assert (await response.content.read()).endswith(b"data: [DONE]\n\n")
        assert [entry.duration_s for entry in simulator.journal] == [2.0]


@pytest.mark.parametrize(("sizes", "lengths"), [("1", {4}), ("3", {12}), ("1-4", {4, 8, 12, 16})])
async def test_chunks_are_as_large_as_ordered_and_the_same_each_time(
    connect: Connect, sizes: str, lengths: set[int]
) -> None:
    prompt = "abcd" * 60
    async with Simulator(SimulatorSettings(chunk_tokens=sizes)) as simulator:
        client = connect(simulator)
        first, again = [await client.chat(prompt, model="echo", stream=True) for _ in range(2)]
        assert first.body == again.body
        texts = [chunk["choices"][0]["delta"].get("content", "") for chunk in chunks_of(first)]
        assert "".join(texts) == prompt
        assert {len(text) for text in texts[1:-2]} == lengths


async def test_a_burst_sends_several_chunks_and_then_takes_their_time(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    settings = SimulatorSettings(latency="tokens_per_s(4)", chunk_tokens="2", burst_chunks=3)
    async with Simulator(settings, clock=clock) as simulator:
        body = {
            "model": "echo",
            "stream": True,
            "messages": [{"role": "user", "content": "".join(map(chr, range(65, 97)))}],
        }
        response = await connect(simulator).session.post(
            f"{simulator.openai_base_url}/chat/completions", json=body
        )
        received = b""
        while b"QRSTUVWX" not in received:
            received += await response.content.readany()
        assert b"YZ" not in received
        await until(lambda: clock.pending)
        assert clock.next_due() == pytest.approx(6 * 0.25)
        await clock.advance(1.5)
        assert (await response.content.read()).endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize("sizes", ["", "0", "8-1", "1-", "many", "99999"])
def test_chunk_sizes_that_are_none_are_refused(sizes: str) -> None:
    with pytest.raises(ValueError, match="chunk_tokens"):
        SimulatorSettings(chunk_tokens=sizes)


async def test_a_client_that_leaves_a_stream_is_noticed(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(latency="per_token(1s)"), clock=clock) as simulator:
        body = {"model": "echo", "stream": True, "messages": [{"role": "user", "content": "word " * 100}]}
        async with aiohttp.ClientSession() as session:
            response = await session.post(f"{simulator.openai_base_url}/chat/completions", json=body)
            await response.content.readany()
            await until(lambda: clock.pending)
            response.close()
        await until(lambda: simulator.statistics().abandoned)
        assert clock.pending == 0
        assert simulator.statistics().in_flight == 0
        assert [(entry.status, entry.stream) for entry in simulator.journal] == [(200, True)]
