"""What makes no sense, put to every provider: a typed error that says what, where and who; and everything given back."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from tests.inside import given_back
from tests.matrix.asking import ask
from tests.matrix.providers import ONE_OF_EACH_WIRE, settings_of
from tests.providers.asking import LOOKED, PIXEL

from greenroom.actors.catalog import UnknownModel
from greenroom.actors.events import ErrorKind, ProviderError
from greenroom.actors.providers import FunctionCall, ImagePart, ImageUrl, Message, RequestedTool
from greenroom.actors.settings import Retries
from greenroom.runtime import ConfigError, ProviderFailed, Reply, Runtime, ToolInvalid
from greenroom.runtime.options import Messages, OptionInvalid
from greenroom.runtime.testing import HastyClock, Raw, ScriptedProvider, Simulator, SimulatorSettings

pytestmark = pytest.mark.anyio
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
EVERYBODY = pytest.mark.parametrize("provider", ONE_OF_EACH_WIRE)
HTML = b"<!doctype html><html><body><h1>502 Bad Gateway</h1></body></html>"
LARGE = 10_000_000
MAX_WORDS = 2_200
"""Of an error's message, its quotation of the answer included."""


class House:
    """A runtime, and the scripted server that all its providers are."""

    def __init__(self, rt: Runtime, server: ScriptedProvider) -> None:
        self.server = server
        self.rt = rt

    async def ask(self, provider: str, messages: Messages = "Well?", *, streamed: bool, **more: Any) -> Reply:
        return await ask(self.rt, f"{provider}/any", messages, streamed=streamed, **more)

    async def failed(
        self, provider: str, messages: Messages = "Well?", *, streamed: bool, **more: Any
    ) -> ProviderError:
        """How a question fails; another that follows it must find everything in its place."""
        with pytest.raises(ProviderFailed) as failed:
            await self.ask(provider, messages, streamed=streamed, **more)
        error = failed.value.error
        assert (error.provider, error.model) == (provider, "any")
        assert 0 < len(error.message) < MAX_WORDS
        self.server.say("Fine.")
        assert (await self.ask(provider, streamed=streamed)).text == "Fine."
        return error


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    directory = tmp_path_factory.mktemp("house")
    async with (
        ScriptedProvider() as server,
        Runtime(settings_of(server.simulator.url, directory), environ={}, clock=HastyClock()) as rt,
    ):
        yield House(rt, server)
        for provider in ONE_OF_EACH_WIRE:
            await given_back(rt, provider)


NO_ANSWERS: dict[str, tuple[Raw, ErrorKind]] = {
    "HTML": (Raw(HTML, content_type="text/html"), "protocol"),
    "HTML that calls itself JSON": (Raw(HTML), "protocol"),
    "nothing": (Raw(b""), "protocol"),
    "a list": (Raw(b"[]"), "protocol"),
    "another object": (Raw(b'{"choices":7,"content":7,"output":7,"candidates":7,"message":7}'), "protocol"),
    "half an object": (Raw(b'{"id":"x","choices":[{"mess'), "protocol"),
    "no UTF-8": (Raw(b'\x00\xff\xfe{"a":"\x80"}'), "protocol"),
    "JSON without end": (Raw(b"[" * 200_000), "protocol"),
    "a megabyte of nothing": (Raw(b"x" * 1_000_000), "protocol"),
    "10 MB of HTML as an error": (Raw(HTML + b"x" * LARGE, 500, "text/html"), "server"),
    "10 MB of words as an error": (
        Raw(json.dumps({"error": {"message": "x" * LARGE}, "message": "x" * LARGE}).encode(), 400),
        "invalid_request",
    ),
    "a bare string as an error": (Raw(b'"No."', 503), "overloaded"),
    "nothing as an error": (Raw(b"", 502), "server"),
    "a page of the proxy as an error": (Raw(HTML, 502, "text/html"), "server"),
    "a redirection": (Raw(b"", 302, headers={"Location": "http://127.0.0.1:9/"}), "protocol"),
    "no content": (Raw(b"", 204), "protocol"),
}


@BOTH
@EVERYBODY
@pytest.mark.parametrize("name", NO_ANSWERS)
async def test_what_is_no_answer_is_said_in_short(
    house: House,
    name: str,
    provider: str,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    answer, kind = NO_ANSWERS[name]
    house.server.say(answer)
    error = await house.failed(provider, streamed=streamed)
    assert error.kind == kind, error


STREAMS_OF_RUBBISH: dict[str, bytes] = {
    "HTML": HTML,
    "events that are no JSON": b"event: x\ndata: no json at all\n\n" * 3,
    "events of another dialect": b'data: {"hello": "there"}\n\ndata: 7\n\n',
    "lines of another dialect": b'{"hello": "there"}\n7\n',
    "bytes": bytes(range(256)) * 4,
    "an end and nothing else": b"data: [DONE]\n\n",
    "nothing": b"",
}


@EVERYBODY
@pytest.mark.parametrize("name", STREAMS_OF_RUBBISH)
async def test_a_garbled_stream_is_an_error(house: House, name: str, provider: str) -> None:
    house.server.say(Raw(STREAMS_OF_RUBBISH[name], content_type="text/event-stream"))
    error = await house.failed(provider, streamed=True)
    assert error.kind in {"protocol", "connection"}


IMAGES: dict[str, str] = {
    "no image": "data:text/plain;base64,AAAA",
    "no kind": "data:;base64,AAAA",
    "no bytes": "data:image/png;base64,",
    "no base64": "data:image/png;base64,%%%%",
    "a file's name": "/etc/passwd",
    "too large": "data:image/png;base64," + PIXEL[:-4] + "A" * 28_000_000,
    "another kind than it says": f"data:image/jpeg;base64,{PIXEL}",
}


@EVERYBODY
@pytest.mark.parametrize("name", IMAGES)
async def test_what_is_no_image_is_refused_before_anything_is_sent(
    house: House, name: str, provider: str
) -> None:
    received = len(house.server.received)
    message = Message("user", (ImagePart(ImageUrl(IMAGES[name])),))
    with pytest.raises(OptionInvalid, match=r"messages\[0\]\.content: ") as failed:
        await house.ask(provider, (message,), streamed=False)
    assert (failed.value.option, len(house.server.received)) == ("messages", received)
    assert len(str(failed.value)) < 400


async def test_a_kind_of_image_that_a_provider_does_not_take_is_refused_by_name(house: House) -> None:
    gif = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"
    message = Message("user", (ImagePart(ImageUrl(gif)),))
    error = await house.failed("gemini", (message,), streamed=False)
    assert (error.kind, error.param) == ("unsupported_capability", "image_url")
    assert "image/gif is none of image/heic" in error.message


TOOLS: dict[str, tuple[object, str]] = {
    "a number": (7, "7 is no tool: a function, a Tool or a dict"),
    "an empty dict": ({}, r"tools\[0\] is none; write "),
    "no function": ({"type": "function"}, r"tools\[0\] is none; write "),
    "no name": ({"type": "function", "function": {}}, r"tools\[0\]\.function\.name is None"),
    "a schema that is none": (
        {"type": "function", "function": {"name": "look", "parameters": 7}},
        r"tools\[0\]\.function\.parameters is 7; it must be a JSON Schema",
    ),
}


@BOTH
@EVERYBODY
@pytest.mark.parametrize("name", TOOLS)
async def test_what_is_no_tool_is_refused_before_anything_is_sent(
    house: House,
    name: str,
    provider: str,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    received = len(house.server.received)
    tool, why = TOOLS[name]
    with pytest.raises(ToolInvalid, match=why):
        await house.ask(provider, streamed=streamed, tools=[tool])
    assert len(house.server.received) == received


@EVERYBODY
async def test_a_tool_without_a_schema_takes_nothing(house: House, provider: str) -> None:
    house.server.say("Fine.")
    tool = {"type": "function", "function": {"name": "look"}}
    assert (await house.ask(provider, streamed=False, tools=[tool])).text == "Fine."


@EVERYBODY
async def test_arguments_of_an_earlier_call_that_are_no_json(house: House, provider: str) -> None:
    """Wires that have arguments as text pass on what the model said; the others cannot."""
    call = RequestedTool("call_1", FunctionCall("weather", '{"city": "Os'))
    messages = (*LOOKED[:2], Message("assistant", tool_calls=(call,)), *LOOKED[3:4])
    if provider in {"openai", "openai-responses"}:
        house.server.say("Fine.")
        assert (await house.ask(provider, messages, streamed=False)).text == "Fine."
        return
    error = await house.failed(provider, messages, streamed=False)
    assert (error.kind, error.param) == ("invalid_request", "messages")
    assert "the arguments of tool call 'call_1' are no JSON object" in error.message


async def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with (
        Simulator(SimulatorSettings()) as simulator,
        Runtime(settings_of(simulator.url, tmp_path), environ={}) as rt,
    ):
        for provider in ONE_OF_EACH_WIRE:
            with pytest.raises(ProviderFailed, match=f"^{provider}/nope: not_found 404: .*nope") as failed:
                await rt.chat(f"{provider}/nope", "Well?", max_tokens=20)
            assert (failed.value.error.kind, failed.value.error.attempts) == ("not_found", 1)
            with pytest.raises(UnknownModel, match=f"did you mean {provider}/fast"):
                await rt.chat(f"{provider[:-1]}/fast", "Well?")
            await given_back(rt, provider)


async def test_a_key_that_is_missing_or_wrong_is_named_and_never_shown(tmp_path: Path) -> None:
    async with Simulator(SimulatorSettings(api_key="the-right-one")) as simulator:
        settings = settings_of(simulator.url, tmp_path, *ONE_OF_EACH_WIRE, retries=Retries(attempts=3))
        rows = {
            name: structs.replace(row, api_key_env=f"{name.upper()}_KEY")
            for name, row in settings.providers.items()
        }
        for name, row in rows.items():
            alone = structs.replace(settings, providers={name: row})
            with pytest.raises(ConfigError, match=f"provider {name} needs a key: set {name.upper()}_KEY"):
                await Runtime(alone, environ={}).__aenter__()
        settings = structs.replace(settings, providers=rows)
        async with Runtime(settings, environ={f"{name.upper()}_KEY": "canary" for name in rows}) as rt:
            for name in rows:
                with pytest.raises(ProviderFailed) as failed:
                    await rt.chat(f"{name}/fast", "Well?", max_tokens=20)
                assert (failed.value.error.kind, failed.value.error.attempts) == ("authentication", 1)
                assert "canary" not in repr(failed.value) + str(failed.value)
                await given_back(rt, name)
