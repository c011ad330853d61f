"""The official client as an oracle: of the same bytes it makes what we make."""

import json
from typing import Any

import pytest
from tests.providers.streams import events_of
from tests.providers.test_openai_stream import STREAMS
from tests.rawserver import EVENTS, HangUp, Turn, raw_server

from greenroom.actors.providers import Accumulator, OpenAIChat

openai: Any = pytest.importorskip("openai", reason="the official client is not installed")
streaming: Any = pytest.importorskip("openai.lib.streaming.chat")

pytestmark = pytest.mark.anyio
# What it was not made for: content in parts, a tool call without an index, named late, or named twice, calls told
# apart by their ids alone, a choice that nobody asked for.
FOREIGN = {
    "mistral: thoughts in parts",
    "tool calls all at index 0, told apart by their ids",
    "tool calls without an index",
    "a tool call that repeats its id and name",
    "a tool call named late",
    "other choices are not listened to",
    "an empty finish reason until there is one",
}


async def official(body: bytes) -> dict[str, Any]:
    """What the official client puts together."""

    async def script(turn: Turn) -> None:
        turn.writer.write(EVENTS + b"Connection: close\r\n\r\n" + body)
        raise HangUp

    state = streaming.ChatCompletionStreamState()
    async with (
        raw_server(script) as server,
        openai.AsyncOpenAI(base_url=server.base_url, api_key="any", max_retries=0) as client,
    ):
        stream = await client.chat.completions.create(
            model="m", messages=[{"role": "user", "content": "hello"}], stream=True
        )
        async for chunk in stream:
            if not chunk.choices and not chunk.usage:
                continue  # Azure's first chunk has no choice, by which its helper makes a snapshot
            state.handle_chunk(chunk)
    whole = state.current_completion_snapshot.model_dump()
    return dict(whole)


@pytest.mark.parametrize("name", [name for name in STREAMS if name not in FOREIGN])
async def test_the_official_client_puts_together_the_same(name: str) -> None:
    body, _ = STREAMS[name]
    theirs = await official(body)
    accumulator = Accumulator()
    for event in events_of(OpenAIChat("p").stream_decoder(), [body]):
        accumulator.add(event)
    completion = accumulator.completion()
    ours = json.loads(bytes(completion.raw))
    assert (ours["id"], ours["model"]) == (theirs["id"], theirs["model"])
    (choice,) = theirs["choices"]
    message = choice["message"]
    assert completion.text == (message["content"] or "")
    assert completion.refusal == message["refusal"]
    assert [(call.id, call.name, call.arguments) for call in completion.tool_calls] == [
        (call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message["tool_calls"] or ()
    ]
    assert ours["choices"][0]["finish_reason"] == choice["finish_reason"]
    logprobs: list[dict[str, Any]] = choice["logprobs"]["content"] if choice["logprobs"] else []
    assert [token.logprob for token in completion.logprobs] == [token["logprob"] for token in logprobs]
    usage = theirs["usage"]
    if completion.usage_reported:
        assert completion.usage.total_input_tokens == usage["prompt_tokens"]
        assert completion.usage.total_output_tokens == usage["completion_tokens"]


@pytest.mark.parametrize("name", STREAMS)
async def test_its_types_take_what_we_put_together(name: str) -> None:
    accumulator = Accumulator()
    for event in events_of(OpenAIChat("p").stream_decoder(), [STREAMS[name][0]]):
        accumulator.add(event)
    completion = accumulator.completion()
    taken = openai.types.chat.ChatCompletion.model_validate_json(bytes(completion.raw), strict=True)
    assert taken.choices[0].message.content in {completion.text, None}
    assert taken.choices[0].finish_reason == completion.finish_reason
