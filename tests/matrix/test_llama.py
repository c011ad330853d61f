"""The wires of OpenAI and Anthropic against llama.cpp's real server, with a real model: one model, one answer."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec import structs
from tests.inside import given_back
from tests.matrix.asking import ask
from tests.matrix.providers import NEVER_LEFT_ALONE
from tests.peers import llama, needs_llama
from tests.providers.asking import IMAGE, LOOKED

from greenroom.actors.events import ErrorKind, ProviderFailed
from greenroom.actors.providers import Message
from greenroom.actors.settings import ProviderSettings, Retries, Settings, StorageSettings
from greenroom.runtime import Reply, Runtime
from greenroom.runtime.testing import HastyClock

pytestmark = [pytest.mark.anyio, needs_llama]
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
RIGHT = "right"
KEYS = {"RIGHT": RIGHT, "WRONG": "wrong"}
CHAT = ProviderSettings(base_url="", free=True, api_key_env="RIGHT", breaker=NEVER_LEFT_ALONE)
ROWS = {
    "chat": CHAT,
    "responses": structs.replace(CHAT, wire="openai-responses"),
    "anthropic": structs.replace(CHAT, wire="anthropic-messages"),
    "anthropic-2023-06-01": structs.replace(CHAT, wire="anthropic-messages", api_version="2023-06-01"),
}
COLD: dict[str, dict[str, Any]] = {name: {} if name == "anthropic" else {"temperature": 0.0} for name in ROWS}
"""The likeliest word, and no other: with random weights it leads by half and more, so every machine says the same."""

EVERY_ROW = pytest.mark.parametrize("row", ROWS)
# A newer Anthropic has no temperature.
SURE = pytest.mark.parametrize("row", [name for name in ROWS if name != "anthropic"])
ASKED = (Message("system", "Be kind."), Message("user", "Grüß 世界?"))


@pytest.fixture(scope="module")
async def rt(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtime]:
    directory = tmp_path_factory.mktemp("llama")
    with llama(directory, RIGHT) as url:
        rows = {name: structs.replace(row, base_url=f"{url}/v1") for name, row in ROWS.items()}
        settings = Settings(
            providers=rows | {"wrong": structs.replace(rows["chat"], api_key_env="WRONG")},
            storage=StorageSettings(url=f"sqlite:///{directory / 'greenroom.db'}"),
            retries=Retries(attempts=3),  # it closes connections without a word, after each stream
        )
        async with Runtime(settings, environ=KEYS, clock=HastyClock()) as rt:
            yield rt
            for name in rows:
                await given_back(rt, name)


async def ask_tiny(
    rt: Runtime, row: str, *, streamed: bool, messages: tuple[Message, ...] = ASKED, **options: Any
) -> Reply:
    return await ask(rt, f"{row}/tiny", messages, streamed=streamed, **{"max_tokens": 24} | options)


@BOTH
@SURE
async def test_every_wire_tells_the_same_answer(rt: Runtime, row: str, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    oracle = await ask_tiny(rt, "chat", streamed=False, **COLD["chat"])
    assert oracle.text
    reply = await ask_tiny(rt, row, streamed=streamed, **COLD[row])
    assert (reply.text, reply.finish_reason, reply.model) == (oracle.text, "stop", "tiny")
    # Of what it has read before it reads the last token alone, and says so.
    assert reply.usage.total_input_tokens == oracle.usage.total_input_tokens > len("Be kind.Grüß 世界?")
    assert reply.usage.cached_tokens >= oracle.usage.cached_tokens
    assert reply.usage.output_tokens == oracle.usage.output_tokens


@BOTH
@SURE
async def test_an_answer_that_is_cut_off_says_so(rt: Runtime, row: str, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    reply = await ask_tiny(rt, row, streamed=streamed, max_tokens=1, **COLD[row])
    assert reply.usage.output_tokens == 1
    # On Responses the server calls such an answer complete.
    assert reply.finish_reason == ("stop" if row == "responses" else "length")


@BOTH
async def test_log_probabilities_are_told_of_every_token(rt: Runtime, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    reply = await ask_tiny(rt, "chat", streamed=streamed, logprobs=True, top_logprobs=2, **COLD["chat"])
    assert b"".join(bytes(token.bytes or ()) for token in reply.logprobs).decode().startswith(reply.text)
    for token in reply.logprobs:
        likeliest, second = token.top_logprobs
        assert (likeliest.token, likeliest.logprob) == (token.token, token.logprob)
        assert likeliest.logprob > second.logprob


@BOTH
async def test_a_seed_repeats_itself(rt: Runtime, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    said = {(await ask_tiny(rt, "chat", streamed=streamed, seed=7)).text for _ in range(3)}
    assert len(said) == 1


@BOTH
async def test_an_answer_by_schema_is_valid(rt: Runtime, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    colour = {"enum": ["red", "green"]}
    schema = {"type": "object", "properties": {"colour": colour}, "required": ["colour"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}
    reply = await ask_tiny(
        rt, "chat", streamed=streamed, max_tokens=300, response_format=form, **COLD["chat"]
    )
    assert json.loads(reply.text)["colour"] in colour["enum"]


@BOTH
@EVERY_ROW
async def test_a_conversation_with_tools_is_taken(rt: Runtime, row: str, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    if row == "responses":
        # An earlier answer it takes only as the output item that it gave, with an id that nobody has kept.
        with pytest.raises(ProviderFailed, match="Cannot determine type of 'item'"):
            await ask_tiny(rt, row, streamed=streamed, messages=LOOKED)
        return
    reply = await ask_tiny(rt, row, streamed=streamed, messages=LOOKED, **COLD[row])
    assert reply.usage.total_input_tokens > 100


FAILURES: dict[str, tuple[dict[str, Any], ErrorKind]] = {
    "a context that is too long": ({"messages": (Message("user", "word " * 3_000),)}, "context_length"),
    # It answers 500 to what it cannot do.
    "an image to a model that cannot see": ({"messages": (Message("user", (IMAGE,)),)}, "server"),
}


@BOTH
@EVERY_ROW
@pytest.mark.parametrize("name", FAILURES)
async def test_failure(rt: Runtime, name: str, row: str, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    options, kind = FAILURES[name]
    with pytest.raises(ProviderFailed) as failed:
        await ask_tiny(rt, row, streamed=streamed, **options)
    assert failed.value.error.kind == kind, failed.value


@BOTH
async def test_a_wrong_key_is_an_authentication_error(rt: Runtime, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    with pytest.raises(ProviderFailed) as failed:
        await ask_tiny(rt, "wrong", streamed=streamed)
    assert (failed.value.error.kind, failed.value.error.status) == ("authentication", 401)
