"""The same questions through a whole runtime on every wire: the same replies, the same failures, nothing spliced."""

import asyncio
from typing import get_args

import aiohttp
import pytest
from tests.simulator.conftest import Client
from tests.simulator.speakers import ANTHROPIC, BEDROCK, GEMINI, OLLAMA, OPENAI, RESPONSES

from greenroom.actors.events import ErrorKind
from greenroom.actors.settings import Retries, Stalls
from greenroom.runtime import ProviderFailed, Reply, Runtime, TextDelta, ToolCall, Usage
from greenroom.runtime.testing import (
    Breaks,
    Fails,
    HastyClock,
    Raw,
    Received,
    Says,
    ScriptedProvider,
    Step,
    WireName,
    runtime_with,
)

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("wire", get_args(WireName))]
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
ONCE = Retries(attempts=1)
REFUSALS: dict[int | None, ErrorKind] = {
    400: "invalid_request",
    401: "authentication",
    403: "permission",
    404: "not_found",
    429: "rate_limited",
    500: "server",
    502: "server",
}
TEXT = "Grüß 世界"
SPEAKERS = {
    "openai-chat": OPENAI,
    "openai-responses": RESPONSES,
    "anthropic-messages": ANTHROPIC,
    "gemini": GEMINI,
    "ollama": OLLAMA,
    "bedrock-converse": BEDROCK,
}
BROKEN: list[tuple[Step, set[ErrorKind]]] = [
    (Breaks("drop"), {"connection"}),
    (Breaks("truncate", TEXT), {"connection"}),
    (Breaks("end_early", TEXT), {"connection", "protocol"}),
    (Breaks("garbage"), {"connection", "protocol"}),
    (Raw(b"<html>It works!</html>", content_type="text/html"), {"protocol"}),
    (Raw(b"[]"), {"protocol"}),
]
SILENT: list[tuple[Step, set[ErrorKind]]] = [
    (Breaks("stall", TEXT), {"stalled", "timeout"}),
    (Breaks("hang"), {"stalled", "timeout"}),
    (Breaks("keepalive"), {"stalled", "timeout"}),
]


async def ask(rt: Runtime, prompt: str, *, streamed: bool, model: str | None = None) -> Reply:
    if not streamed:
        return await rt.chat(model, prompt, max_tokens=500)
    async with rt.stream(model, prompt, max_tokens=500) as events:
        text = "".join([event.text async for event in events if isinstance(event, TextDelta)])
    assert events.reply.text == text
    return events.reply


@BOTH
async def test_an_answer_is_the_same_however_it_comes(wire: WireName, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    calls = (ToolCall("call_1", "look", '{"at":"it"}'), ToolCall("call_2", "listen", "{}"))
    script = (
        Says(TEXT, prompt_tokens=1_000, completion_tokens=70),
        Says("Half a", finish="length"),
        Says(tool_calls=calls),
        Says("", finish="content_filter"),
    )
    async with runtime_with(*script, wire=wire) as (rt, provider):
        said = await ask(rt, "One?", streamed=streamed)
        assert (said.text, said.finish_reason) == (TEXT, "stop")
        assert said.usage == Usage(input_tokens=1_000, output_tokens=70)
        cut = await ask(rt, "Two?", streamed=streamed)
        assert (cut.text, cut.finish_reason) == ("Half a", "length")
        calling = await ask(rt, "Three?", streamed=streamed)
        assert calling.finish_reason == "tool_calls"
        assert [(call.name, call.arguments) for call in calling.tool_calls] == [
            (call.name, call.arguments) for call in calls
        ]
        filtered = await ask(rt, "Four?", streamed=streamed)
        # Ollama has no word for it.
        assert filtered.finish_reason == ("stop" if wire == "ollama" else "content_filter")
        assert [asked.prompt for asked in provider.received] == ["One?", "Two?", "Three?", "Four?"]
        assert {asked.stream for asked in provider.received} == {streamed}


@BOTH
async def test_a_refusal_is_of_the_same_kind(wire: WireName, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    steps = [Fails(status, "So it is.") for status in REFUSALS if status]
    async with runtime_with(*steps, wire=wire, retries=ONCE) as (rt, provider):
        kinds: dict[int | None, ErrorKind] = {}
        for _ in steps:
            with pytest.raises(ProviderFailed, match=r"So it is\.") as failed:
                await ask(rt, "Well?", streamed=streamed)
            kinds[failed.value.error.status] = failed.value.error.kind
        assert kinds == REFUSALS
        assert len(provider.received) == len(steps)


async def test_overload_is_told_from_failure(wire: WireName) -> None:
    status = 529 if wire == "anthropic-messages" else 503
    async with runtime_with(Fails(status), wire=wire, retries=ONCE) as (rt, _):
        with pytest.raises(ProviderFailed) as failed:
            await rt.chat(None, "Well?")
        assert failed.value.error.kind == "overloaded"


async def test_the_advice_to_wait_is_understood(wire: WireName) -> None:
    clock = HastyClock()
    script = (Fails(429, retry_after_s=30), Fails(503, retry_after_s=20), "There.")
    async with runtime_with(*script, wire=wire, clock=clock) as (rt, _):
        assert (await rt.chat(None, "Well?")).attempts == 3
    first_s, second_s = clock.slept_s
    assert 30 <= first_s <= 31
    assert 20 <= second_s <= 21


@BOTH
@pytest.mark.parametrize(
    ("cases", "stalls"),
    [
        (BROKEN, Stalls()),
        (SILENT, Stalls(first_byte_s=0.1, first_byte_streamed_s=0.1, gap_s=0.1)),
    ],
    ids=["broken", "silent"],
)
async def test_a_broken_answer_is_an_error_and_gives_everything_back(
    wire: WireName,
    cases: list[tuple[Step, set[ErrorKind]]],
    stalls: Stalls,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    steps = [step for step, _ in cases]
    async with runtime_with(*steps, wire=wire, retries=ONCE, stalls=stalls) as (rt, provider):
        for step, kinds in cases:
            with pytest.raises(ProviderFailed) as failed:
                await ask(rt, "Well?", streamed=streamed)
            assert (step, failed.value.error.kind) in [(step, kind) for kind in kinds]
        await given_back(provider)
        if cases is BROKEN:
            provider.say("Next.")
            assert (await ask(rt, "And?", streamed=streamed)).text == "Next."


@BOTH
async def test_cut_at_every_byte_it_is_an_error_and_never_spliced(
    wire: WireName,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    def cut(asked: Received) -> Step:
        return Breaks("truncate", TEXT, at_byte=asked.number - 1)

    async with runtime_with(then=cut, wire=wire, retries=ONCE) as (rt, provider):
        prefixes: set[str] = set()
        for _ in range(await length(wire, streamed=streamed)):
            text, failure = await told(rt, streamed=streamed)
            prefixes.add(text)
            assert text == TEXT if failure is None else failure in {"connection", "protocol"}
        assert all(TEXT.startswith(prefix) for prefix in prefixes)
        # Whoever got nothing was told nothing; of a stream that was cut there is what came before the cut.
        assert len(prefixes) > 2 if streamed else prefixes == {""}
        await given_back(provider)


async def length(wire: WireName, *, streamed: bool) -> int:
    """How many bytes the body of an answer has that is `TEXT`."""
    async with ScriptedProvider(TEXT) as provider, aiohttp.ClientSession() as session:
        client = Client(session, provider.simulator)
        return len((await SPEAKERS[wire].send(client, "Well?", model="any", stream=streamed)).body)


async def told(rt: Runtime, *, streamed: bool) -> tuple[str, str | None]:
    """What a caller is told of an answer, and how it failed if it did."""
    text = ""
    try:
        if not streamed:
            return (await rt.chat(None, "Well?")).text, None
        async with rt.stream(None, "Well?") as events:
            async for event in events:
                text += event.text if isinstance(event, TextDelta) else ""
    except ProviderFailed as failed:
        return text, failed.error.kind
    return text, None


async def given_back(provider: ScriptedProvider) -> None:
    while provider.simulator.statistics().in_flight:  # noqa: ASYNC110 - a count has no event to offer
        await asyncio.sleep(0)
