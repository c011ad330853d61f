"""The same questions through a whole runtime on every wire: the same replies, the same failures, nothing spliced."""

import asyncio
from typing import get_args

import pytest

from greenroom.actors.events import ErrorKind
from greenroom.actors.settings import Retries
from greenroom.runtime import ProviderFailed, Reply, Runtime, TextDelta, ToolCall, Usage
from greenroom.runtime.testing import (
    Breaks,
    Fails,
    Raw,
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
BROKEN: list[tuple[Step, set[ErrorKind]]] = [
    (Breaks("drop"), {"connection"}),
    (Breaks("truncate", TEXT), {"connection"}),
    (Breaks("end_early", TEXT), {"connection", "protocol"}),
    (Breaks("garbage"), {"connection", "protocol"}),
    (Raw(b"<html>It works!</html>", content_type="text/html"), {"protocol"}),
    (Raw(b"[]"), {"protocol"}),
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


@BOTH
async def test_a_broken_answer_is_an_error_and_gives_everything_back(
    wire: WireName,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    steps = [step for step, _ in BROKEN]
    async with runtime_with(*steps, wire=wire, retries=ONCE) as (rt, provider):
        for step, kinds in BROKEN:
            with pytest.raises(ProviderFailed) as failed:
                await ask(rt, "Well?", streamed=streamed)
            assert (step, failed.value.error.kind) in [(step, kind) for kind in kinds]
        await given_back(provider)
        provider.say("Next.")
        assert (await ask(rt, "And?", streamed=streamed)).text == "Next."


async def given_back(provider: ScriptedProvider) -> None:
    while provider.simulator.statistics().in_flight:  # noqa: ASYNC110 - a count has no event to offer
        await asyncio.sleep(0)
