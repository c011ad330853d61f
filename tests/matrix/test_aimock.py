"""Every provider's wire against aimock, whose authors followed the vendors' documentation and never saw ours."""

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import Struct
from tests.inside import given_back
from tests.matrix.asking import ask
from tests.matrix.providers import PROVIDERS, settings_of
from tests.matrix.questions import TOOLS
from tests.peers import aimock, needs_aimock
from tests.providers.asking import LOOKED, tool

from greenroom.actors.events import ErrorKind, FinishReason, ProviderFailed, Usage
from greenroom.actors.providers import Message
from greenroom.actors.settings import Retries
from greenroom.runtime import CallEvent, Finished, ProviderError, Runtime, TextDelta
from greenroom.runtime.testing import HastyClock

pytestmark = [pytest.mark.anyio, needs_aimock]
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
# It has Gemini's v1beta alone.
SPOKEN = [name for name in PROVIDERS if name != "gemini"]
Json = dict[str, Any]


class Answer(Struct, frozen=True):
    """What is to be made of an answer."""

    text: str = ""
    finish: FinishReason = "stop"
    reasoning: str = ""
    calls: tuple[tuple[str, Json], ...] = ()


ANSWERS: dict[str, Answer] = {
    "plain": Answer('Grüß 世界 👩‍👩‍👧‍👦 "quoted" \\ \n data: [DONE]\n\n{}'),
    "say nothing": Answer(),
    "half": Answer("Half a", "length"),
    "forbidden": Answer(finish="content_filter"),
    "think": Answer("42", reasoning="Let me think."),
    "weather and time": Answer(
        finish="tool_calls", calls=(("get_weather", {"city": "Grüß"}), ("get_time", {}))
    ),
}
UNLIKE_ITS_VENDOR: dict[tuple[str, str], Answer] = {
    # Whatever the fixture says, its Ollama ends with "stop", and thinks by OpenAI's name for it.
    ("half", "ollama"): Answer("Half a"),
    ("forbidden", "ollama"): Answer(),
    ("think", "ollama"): Answer("42"),
}
FAILURES: dict[str, ErrorKind] = {
    "fail 401": "authentication",
    "fail 404": "not_found",
    "fail 500": "server",
    "fail 503": "overloaded",
}


def model_of(provider: str) -> str:
    """A model's name by which the fixtures tell the vendors apart."""
    return f"{provider}/{PROVIDERS[provider][0].wire}"


class House:
    """A runtime all of whose providers are aimock."""

    def __init__(self, rt: Runtime, url: str) -> None:
        self.url = url
        self.rt = rt

    async def understood(self) -> Json:
        """The last request as aimock understood it: in OpenAI's shape, whatever the wire."""
        async with aiohttp.ClientSession() as session, session.get(self.url + "/__aimock/journal") as journal:
            entries = await journal.json(content_type=None)
        found: Json = entries[-1]["body"]
        return found


@asynccontextmanager
async def furnished(url: str, directory: Path) -> AsyncGenerator[House]:
    # It closes connections that have been idle for five seconds; no Retry-After is waited for.
    retries = Retries(attempts=3, max_retry_after_s=1)
    async with Runtime(settings_of(url, directory, retries=retries), environ={}, clock=HastyClock()) as rt:
        yield House(rt, url)
        for provider in SPOKEN:
            await given_back(rt, provider)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with aimock(Path(__file__).with_name("aimock.json"), tmp_path_factory.mktemp("aimock") / "log") as url:
        yield url


@pytest.fixture(scope="module")
async def house(url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    async with furnished(url, tmp_path_factory.mktemp("house")) as house:
        yield house


@BOTH
@pytest.mark.parametrize("provider", SPOKEN)
@pytest.mark.parametrize("prompt", ANSWERS)
async def test_answer(house: House, prompt: str, provider: str, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    more = {"tools": TOOLS} if prompt == "weather and time" else {}
    if (prompt, provider) == ("forbidden", "openai-responses"):
        # It calls that "failed", without an error.
        with pytest.raises(ProviderFailed, match="the response failed"):
            await ask(house.rt, model_of(provider), prompt, streamed=streamed, **more)
        return
    reply = await ask(house.rt, model_of(provider), prompt, streamed=streamed, **more)
    calls = tuple((call.name, json.loads(call.arguments)) for call in reply.tool_calls)
    expected = UNLIKE_ITS_VENDOR.get((prompt, provider), ANSWERS[prompt])
    assert Answer(reply.text, reply.finish_reason, reply.reasoning, calls) == expected
    assert len({call.id for call in reply.tool_calls if call.id}) == len(calls)
    if prompt == "plain" and provider != "ollama":  # which counts nothing there
        assert reply.usage == Usage(1000, 70)


@BOTH
@pytest.mark.parametrize("provider", SPOKEN)
@pytest.mark.parametrize("prompt", FAILURES)
async def test_failure(house: House, prompt: str, provider: str, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    with pytest.raises(ProviderFailed) as failed:
        await ask(house.rt, model_of(provider), prompt, streamed=streamed)
    error = failed.value.error
    assert (error.kind, error.status) == (FAILURES[prompt], int(prompt.removeprefix("fail ")))
    assert error.retry_after_s is None


@pytest.mark.parametrize("provider", SPOKEN)
async def test_r9_a_limit_says_when_to_come_back(url: str, tmp_path: Path, provider: str) -> None:
    """In a house of its own, since all that is asked after it goes slower."""
    async with furnished(url, tmp_path) as house:
        with pytest.raises(ProviderFailed) as failed:
            await ask(house.rt, model_of(provider), "fail 429", streamed=False)
        error = failed.value.error
        assert (error.kind, error.status, error.retry_after_s) == ("rate_limited", 429, 7)


@pytest.mark.parametrize("provider", SPOKEN)
async def test_r4_a_stream_that_breaks_off_is_an_error_after_what_came(house: House, provider: str) -> None:
    told: list[CallEvent] = []
    with suppress(ProviderFailed):
        async with house.rt.stream(model_of(provider), "break off") as events:
            async for event in events:
                told.append(event)  # noqa: PERF401 - what came before the failure is looked at
    *before, last = told
    assert isinstance(last, ProviderError)
    assert last.kind == "connection"
    assert not any(isinstance(event, Finished | ProviderError) for event in before)
    text = "".join(event.text for event in before if isinstance(event, TextDelta))
    assert "one two three four five six seven eight nine ten".startswith(text)


@BOTH
@pytest.mark.parametrize("provider", SPOKEN)
async def test_a_conversation_with_tools_is_understood(
    house: House,
    provider: str,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    messages = (Message("system", "Be kind."), Message("user", "weather and time"), *LOOKED[2:-1])
    reply = await ask(
        house.rt, model_of(provider), messages, streamed=streamed, tools=[tool()], max_tokens=100
    )
    assert reply.text == "Cold, and noon."
    body = await house.understood()
    assert [each["function"]["name"] for each in body["tools"]] == ["weather"]
    assert body.get("max_tokens", body.get("max_completion_tokens")) == 100
    assert [line for message in body["messages"] for line in parts_of(message)] == [
        ("system", "Be kind."),
        ("user", "weather and time"),
        ("assistant", "I look."),
        ("call", "weather", {"city": "Oslo"}),
        ("call", "weather", {}),
        ("tool", "-3"),
        ("tool", "17"),
    ]


@pytest.mark.parametrize("provider", ["openai", "openai-responses", "huggingface"])
async def test_texts_are_embedded(house: House, provider: str) -> None:
    found = await house.rt.embed(model_of(provider), ["a", "b", "a"])
    first, second, third = found
    assert first == third != second
    assert (await house.understood())["model"] == PROVIDERS[provider][0].wire


def parts_of(message: Json) -> list[tuple[object, ...]]:
    """What a message says, one thing after another."""
    content = message["content"]
    if message["role"] == "tool" and content.startswith("{"):
        content = json.loads(content)["output"]  # Gemini's results are objects
    said: list[tuple[object, ...]] = [(message["role"], content)] if content else []
    for call in message.get("tool_calls", ()):
        function = call["function"]
        said.append(("call", function["name"], json.loads(function["arguments"] or "{}")))
    return said
