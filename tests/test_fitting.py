"""What a model cannot take: refused by its name before anything is held or sent, or left out and told."""

import base64
import json
from pathlib import Path
from typing import Literal, get_args

import pytest
from aiohttp import web
from msgspec import Raw, structs
from tests.inside import given_back, granted, hear, settings, tree
from tests.integration.upstream import Asked, Upstream, answer_well, good, refusal

from greenroom.actors.call import Terms
from greenroom.actors.call.fitting import fitted
from greenroom.actors.events import CallDone, Event, FailedOver, OptionsDropped, ProviderFailed
from greenroom.actors.providers import ChatRequest, ImagePart, ImageUrl, Message, TextPart, WireRequest
from greenroom.actors.providers.openai.chat import OpenAIChat
from greenroom.actors.providers.options import RequestReader
from greenroom.actors.settings import ModelSettings, Retries
from greenroom.runtime import Runtime
from greenroom.runtime.testing import HastyClock, WireName, runtime_with

pytestmark = pytest.mark.anyio
DROP = Terms(unsupported="drop")
PIXEL = f"data:image/png;base64,{base64.b64encode(b'not looked at').decode()}"
ALL_OPTIONS = ChatRequest(
    model="scripted/any",
    messages=(
        Message("user", "hello", name="Ann"),
        Message("user", (TextPart("look"), ImagePart(ImageUrl(PIXEL, detail="low")))),
    ),
    max_tokens=60,
    temperature=0.5,
    top_p=0.9,
    stop=("END",),
    seed=7,
    presence_penalty=0.1,
    frequency_penalty=0.1,
    user="ann",
    logprobs=True,
    top_logprobs=2,
    parallel_tool_calls=False,
    reasoning_effort="low",
    tools=Raw(
        b'[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{}}}}]'
    ),
)
REFUSED: dict[WireName, set[str]] = {
    "openai-chat": set(),
    "openai-responses": {"name", "stop", "seed", "presence_penalty", "frequency_penalty"},
    "anthropic-messages": {
        "name", "detail", "temperature", "top_p", "seed", "presence_penalty", "frequency_penalty", "logprobs",
        "top_logprobs",
    },
    "gemini": {"name", "detail", "user", "parallel_tool_calls"},
    "ollama": {"name", "detail", "user", "parallel_tool_calls"},
    "bedrock-converse": {
        "name", "detail", "seed", "presence_penalty", "frequency_penalty", "user", "logprobs", "top_logprobs",
        "parallel_tool_calls",
    },
}  # fmt: skip
"""Which of all these options each wire has no word for."""


def listen_to(rt: Runtime) -> list[Event]:
    told: list[Event] = []
    hear(rt, told.append)
    return told


@pytest.mark.parametrize("wire", get_args(WireName))
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_each_wire_drops_what_it_has_no_word_for_and_says_so(
    wire: WireName,
    streamed: bool,  # noqa: FBT001 - a table
) -> None:
    async with runtime_with("fine", wire=wire) as (rt, provider):
        told = listen_to(rt)
        request = ALL_OPTIONS
        if wire == "openai-chat":  # the wire has them, the simulator has not
            request = structs.replace(request, logprobs=None, top_logprobs=None)
        if streamed:
            async with tree(rt).flow.stream(request, DROP) as events:
                reply = await events.finish()
        else:
            reply = await tree(rt).flow.chat(request, DROP)
        assert reply.text == "fine"
        assert set(reply.dropped) == REFUSED[wire]
        (asked,) = provider.received
        sent = json.dumps(asked.body)
        assert "60" in sent, "the bound of the answer is never dropped"
        assert '"look"' in sent, "nor are tools"
    events_of_drops = [event for event in told if isinstance(event, OptionsDropped)]
    assert [event.options for event in events_of_drops] == ([reply.dropped] if reply.dropped else [])


@pytest.mark.parametrize("wire", [wire for wire, refused in REFUSED.items() if refused])
async def test_by_default_it_is_refused_and_nothing_is_held_or_sent(wire: WireName) -> None:
    async with runtime_with("fine", wire=wire) as (rt, provider):
        told = listen_to(rt)
        with pytest.raises(ProviderFailed, match='leave it out, or say unsupported="drop"') as caught:
            await tree(rt).flow.chat(ALL_OPTIONS)
        assert caught.value.error.kind == "unsupported_capability"
        assert caught.value.error.param in REFUSED[wire]
        assert (caught.value.error.provider, caught.value.error.model) == ("scripted", "any")
        assert (caught.value.error.attempts, caught.value.error.is_retryable) == (0, False)
        assert provider.received == ()
        assert told == []


async def test_what_only_the_provider_knows_to_refuse_is_dropped_too(tmp_path: Path) -> None:
    """No table has every model: one that answers 400 and names the option is asked again without it."""

    async def picky(asked: Asked) -> web.StreamResponse:
        for name in ("temperature", "seed"):
            if name in asked.body:
                body = {"error": {"message": "no", "code": "unsupported_parameter", "param": name}}
                return web.json_response(body, status=400)
        return good()

    request = ChatRequest(
        model="acme/fast", messages=(Message("user", "hi"),), max_tokens=9, temperature=0.3, seed=3
    )
    async with Upstream(picky) as upstream:
        once = Retries(attempts=1)
        async with Runtime(settings(upstream.base_url, tmp_path, retries=once), environ={}) as rt:
            told = listen_to(rt)
            reply = await tree(rt).flow.chat(request, DROP)
            assert (reply.dropped, reply.attempts) == (("temperature", "seed"), 3)
            assert [event.options for event in told if isinstance(event, OptionsDropped)] == [
                ("temperature",), ("temperature", "seed"),
            ]  # fmt: skip
            assert not [event for event in told if isinstance(event, FailedOver)]
            with pytest.raises(ProviderFailed) as caught:
                await tree(rt).flow.chat(request)
            assert (caught.value.error.kind, caught.value.error.param) == (
                "unsupported_capability",
                "temperature",
            )
    assert len(upstream.asked) == 4


async def test_dropping_an_option_gives_no_attempts_back(tmp_path: Path) -> None:
    """A refusal of an option is not counted; what was counted before it stays so."""

    async def broken_and_picky(asked: Asked) -> web.StreamResponse:
        if asked.number == 2:
            body = {"error": {"message": "no", "code": "unsupported_parameter", "param": "seed"}}
            return web.json_response(body, status=400)
        return refusal(500)

    async with (
        Upstream(broken_and_picky) as upstream,
        Runtime(
            settings(upstream.base_url, tmp_path, retries=Retries(attempts=2)),
            environ={},
            clock=HastyClock(),
        ) as rt,
    ):
        request = ChatRequest(model="acme/fast", messages=(Message("user", "hi"),), max_tokens=9, seed=3)
        with pytest.raises(ProviderFailed, match="server 500 after 3 attempts"):
            await tree(rt).flow.chat(request, DROP)
    assert ["seed" in asked.body for asked in upstream.asked] == [True, True, False]


async def test_a_provider_that_refuses_what_it_was_not_sent_is_not_asked_for_ever(tmp_path: Path) -> None:
    async def mad(asked: Asked) -> web.StreamResponse:
        body = {"error": {"message": "no", "code": "unsupported_parameter", "param": "seed"}}
        return web.json_response(body, status=400)

    async with (
        Upstream(mad) as upstream,
        Runtime(settings(upstream.base_url, tmp_path), environ={}) as rt,
    ):
        request = ChatRequest(model="acme/fast", messages=(Message("user", "hi"),), max_tokens=9)
        with pytest.raises(ProviderFailed, match="unsupported_capability 400 after 2 attempts"):
            await tree(rt).flow.chat(request, DROP)
    assert len(upstream.asked) == 2


async def test_a_codec_that_refuses_what_was_dropped_is_not_asked_for_ever() -> None:
    class Stubborn(OpenAIChat):
        def encode(self, request: ChatRequest, model: str, *, stream: bool = False) -> WireRequest:
            raise RequestReader(request, "scripted", model).unsupported("seed", "whatever is said")

    async with runtime_with("fine") as (rt, _):
        route, _ = await tree(rt).flow._ways.reach("scripted/any")  # pyright: ignore[reportPrivateUsage] - the one way in
        route = structs.replace(route, codec=Stubborn("scripted"))
        with pytest.raises(ProviderFailed, match="seed: whatever is said"):
            fitted(ALL_OPTIONS, route, stream=False)


class TestOfAModel:
    """What the tables know of a model, at a host whose wire would take it."""

    async def ask(
        self,
        folder: Path,
        request: ChatRequest,
        known: ModelSettings,
        *,
        unsupported: Literal["refuse", "drop"] = "refuse",
    ) -> tuple[list[Asked], tuple[str, ...] | ProviderFailed]:
        async with Upstream(answer_well) as upstream:
            made = settings(upstream.base_url, folder)
            acme = structs.replace(made.providers["acme"], models={"fast": known})
            made = structs.replace(made, providers={"acme": acme})
            async with Runtime(made, environ={}) as rt:
                try:
                    reply = await tree(rt).flow.chat(request, Terms(unsupported=unsupported))
                    outcome: tuple[str, ...] | ProviderFailed = reply.dropped
                except ProviderFailed as failure:
                    outcome = failure
                    assert (await granted(rt)).open_holds == 0
                await given_back(rt)
            return upstream.asked, outcome

    @pytest.mark.parametrize("unsupported", ["refuse", "drop"])
    async def test_an_image_is_never_dropped(
        self, unsupported: Literal["refuse", "drop"], tmp_path: Path
    ) -> None:
        request = ChatRequest(
            model="acme/fast", messages=(Message("user", (ImagePart(ImageUrl(PIXEL)),)),), max_tokens=9
        )
        asked, outcome = await self.ask(
            tmp_path, request, ModelSettings(vision=False), unsupported=unsupported
        )
        assert asked == []
        assert isinstance(outcome, ProviderFailed)
        assert (outcome.error.kind, outcome.error.param) == ("unsupported_capability", "image_url")

    @pytest.mark.parametrize("unsupported", ["refuse", "drop"])
    async def test_tools_are_never_dropped(
        self, unsupported: Literal["refuse", "drop"], tmp_path: Path
    ) -> None:
        request = structs.replace(ALL_OPTIONS, model="acme/fast")
        asked, outcome = await self.ask(
            tmp_path, request, ModelSettings(tools=False), unsupported=unsupported
        )
        assert asked == []
        assert isinstance(outcome, ProviderFailed)
        assert (outcome.error.kind, outcome.error.param) == ("unsupported_capability", "tools")

    async def test_temperature_is_refused_or_dropped(self, tmp_path: Path) -> None:
        request = ChatRequest(
            model="acme/fast", messages=(Message("user", "hi"),), max_tokens=9, temperature=0.3, seed=3
        )
        lacking = ModelSettings(temperature=False)
        asked, outcome = await self.ask(tmp_path, request, lacking)
        assert asked == []
        assert isinstance(outcome, ProviderFailed)
        assert outcome.error.param == "temperature"
        asked, outcome = await self.ask(tmp_path, request, lacking, unsupported="drop")
        assert outcome == ("temperature",)
        assert "temperature" not in asked[0].body
        assert asked[0].body["seed"] == 3


async def test_what_the_next_model_cannot_take_is_dropped_there_alone(tmp_path: Path) -> None:
    async def busy(asked: Asked) -> web.StreamResponse:
        return refusal(503) if asked.body["model"] == "fast" else good()

    async with Upstream(busy) as upstream:
        made = settings(upstream.base_url, tmp_path)
        acme = structs.replace(made.providers["acme"], models={"plain": ModelSettings(seed=False)})
        made = structs.replace(made, providers={"acme": acme})
        async with Runtime(made, environ={}, clock=HastyClock()) as rt:
            told = listen_to(rt)
            request = ChatRequest(model="acme/fast", messages=(Message("user", "hi"),), max_tokens=9, seed=3)
            terms = Terms(unsupported="drop", fallbacks=("acme/plain",))
            reply = await tree(rt).flow.chat(request, terms)
    assert reply.dropped == ("seed",)
    assert ["seed" in asked.body for asked in upstream.asked] == [True, False]
    kinds = [type(event) for event in told]
    assert kinds[-3:] == [FailedOver, OptionsDropped, CallDone]
