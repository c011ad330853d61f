"""What there is to choose from, and the choice: over real sockets, on every wire that lists models."""

import asyncio
import socket
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web
from msgspec import structs

from greenroom.actors.catalog import UnknownModel
from greenroom.actors.settings import (
    BreakerSettings,
    Capabilities,
    ModelSettings,
    PriceSettings,
    ProviderSettings,
    Retries,
    Settings,
    StorageSettings,
)
from greenroom.runtime import NothingEligible, ProviderFailed, Requirements, Runtime
from greenroom.runtime.simulator import Simulator, SimulatorSettings

pytestmark = pytest.mark.anyio
PRICES = {"*": PriceSettings(input="1", output="2")}
Wire = Literal[
    "openai-chat", "openai-responses", "anthropic-messages", "gemini", "ollama", "bedrock-converse"
]
LISTED = ["chat", "classify", "echo", "fast", "smart"]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(seed=3)) as simulator:
        yield simulator


def settings(directory: Path, **providers: ProviderSettings) -> Settings:
    return Settings(
        providers=providers, storage=StorageSettings(url=f"sqlite:///{directory / 'greenroom.db'}")
    )


@pytest.mark.parametrize(
    ("wire", "path", "context"),
    [
        ("openai-chat", "/v1", None),
        ("openai-responses", "/v1", None),
        ("anthropic-messages", "/v1", 400_000),
        ("gemini", "/v1", 400_000),
        ("ollama", "", None),
    ],
)
async def test_every_wire_lists_what_there_is(
    simulator: Simulator, tmp_path: Path, wire: Wire, path: str, context: int | None
) -> None:
    # Three providers list at one path: Gemini's is known by how it takes its key.
    host = ProviderSettings(base_url=simulator.url + path, wire=wire, prices=PRICES, api_key_env="ACME_KEY")
    async with Runtime(settings(tmp_path, acme=host), environ={"ACME_KEY": "any"}) as rt:
        (found,) = await rt.models()
        assert found.unreachable is None
        assert sorted(card.model.removesuffix(":latest") for card in found.models) == LISTED
        (smart,) = [card for card in found.models if card.model.startswith("smart")]
        assert (smart.listed, smart.context_tokens, smart.input_usd_per_mtok) == (True, context, Decimal(1))
        choice = await rt.choose(Requirements(models=("*smart*",)))
        assert choice.model == smart.name
        assert len(choice.rejected) == 4
        reply = await rt.chat(choice.model, "Hello", max_tokens=16)
        assert reply.provider == "acme"


async def test_who_cannot_be_asked_is_told_and_not_chosen(simulator: Simulator, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = f"http://127.0.0.1:{server.getsockname()[1]}/v1"
    # Nobody listens there any more.
    hosts = {
        "gone": ProviderSettings(base_url=gone, free=True, models={"m": ModelSettings(quality=100)}),
        "there": ProviderSettings(base_url=simulator.openai_base_url, prices=PRICES),
    }
    async with Runtime(settings(tmp_path, **hosts), environ={}) as rt:
        told = {found.provider: found for found in await rt.models()}
        assert f"nobody answers at {gone}" in str(told["gone"].unreachable)
        assert [card.name for card in told["gone"].models] == ["gone/m"]
        assert told["there"].unreachable is None
        choice = await rt.choose(strategy="best")
        assert choice.model.startswith("there/")
        assert [one.model for one in choice.unreachable] == ["gone"]
        assert "gone/m" in [one.model for one in choice.rejected]
        with pytest.raises(NothingEligible, match=r"nobody answers at .*gone: nobody answers"):
            await rt.choose(Requirements(providers=("gone",)))
        with pytest.raises(UnknownModel, match="no provider 'elsewhere'; providers in use: gone, there"):
            await rt.models("elsewhere")


async def test_a_host_is_asked_once_by_all_and_what_it_says_decides(tmp_path: Path) -> None:
    asked = 0

    async def models(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        text = {"input_modalities": ["text"], "output_modalities": ["text"]}
        sees = {"input_modalities": ["text", "image"], "output_modalities": ["text"]}
        rows: list[dict[str, Any]] = [
            {"id": "text", "context_length": 1000, "architecture": text, "supported_parameters": []},
            {"id": "sees", "context_length": 2000, "architecture": sees, "supported_parameters": ["tools"]},
        ]
        return web.json_response({"data": rows})

    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        host = ProviderSettings(base_url=url, prices=PRICES)
        async with Runtime(settings(tmp_path, acme=host), environ={}) as rt:
            choices = await asyncio.gather(*[rt.choose(Requirements(vision=True)) for _ in range(200)])
            assert {choice.model for choice in choices} == {"acme/sees"}
            assert asked == 1
            assert {(one.model, one.why) for one in choices[0].rejected} == {("acme/text", "takes no images")}
            (found,) = await rt.models()
            assert asked == 1
            assert found.models[1].capabilities == Capabilities(
                chat=True, vision=True, tools=True, json_schema=False, reasoning=False
            )
            await rt.models("acme", refresh=True)
            assert asked == 2
    finally:
        await runner.cleanup()


async def test_a_choice_goes_by_what_calls_have_shown(simulator: Simulator, tmp_path: Path) -> None:
    host = ProviderSettings(base_url=simulator.openai_base_url, prices=PRICES)
    async with Runtime(settings(tmp_path, acme=host), environ={}) as rt:
        # `smart` writes more than `echo`: at one price it is the dearer one.
        for model in ("acme/smart", "acme/echo"):
            await rt.chat(model, "Tell me of the sea.", max_tokens=500)
        needs = Requirements(models=("*/smart", "*/echo"))
        choice = await rt.choose(needs, strategy="cheapest", input_tokens=10)
        assert choice.model == "acme/echo"
        assert choice.runners_up[0].score > 1.5 * choice.winner.score
        fastest = await rt.choose(needs, strategy="fastest")
        assert "at the median" in fastest.winner.why


async def test_a_provider_that_fails_is_chosen_last(simulator: Simulator, tmp_path: Path) -> None:
    async with Simulator(SimulatorSettings(faults="500:1")) as failing:
        breaker = BreakerSettings(failures=2, cool_down_s=600, cool_down_max_s=600)
        hosts = {
            "down": ProviderSettings(base_url=failing.openai_base_url, free=True, breaker=breaker),
            "there": ProviderSettings(base_url=simulator.openai_base_url, prices=PRICES),
        }
        told = structs.replace(settings(tmp_path, **hosts), retries=Retries(attempts=2, backoff_base_s=0.001))
        async with Runtime(told, environ={}) as rt:
            before = await rt.choose(strategy="cheapest")
            assert before.model.startswith("down/")
            with pytest.raises(ProviderFailed):
                await rt.chat("down/fast", "Hello")
            after = await rt.choose(strategy="cheapest")
            assert after.model.startswith("there/")
            assert after.runners_up[-1].why.endswith("; its provider's breaker is open")
            assert (await rt.chat("AUTO", "Hello", strategy="cheapest", max_tokens=5)).provider == "there"


async def test_the_simulator_can_be_chosen_from(tmp_path: Path) -> None:
    alone = structs.replace(settings(tmp_path), discover_local=False)
    async with Runtime(alone, environ={}) as rt:
        choice = await rt.choose(Requirements(vision=True, tools=True, context_tokens=200_000))
        assert choice.model == "sim/smart"


async def test_what_stands_for_a_choice_is_no_model_of_its_own(tmp_path: Path) -> None:
    alone = structs.replace(settings(tmp_path), discover_local=False)
    async with Runtime(alone, environ={}, simulate_models=["AUTO", "mine"]) as rt:
        (found,) = await rt.models()
        assert sorted(card.model for card in found.models) == sorted([*LISTED, "mine"])
        reply = await rt.chat("AUTO", "Hello", max_tokens=20)
        assert reply.choice is not None
        assert reply.choice.model == f"sim/{reply.model}"
        with pytest.raises(UnknownModel, match="AUTO is no model: it stands for the choice"):
            await rt.embed("AUTO", "text")


async def test_a_model_that_is_not_there_is_answered_with_those_that_look_like_it(
    simulator: Simulator, tmp_path: Path
) -> None:
    host = ProviderSettings(base_url=simulator.openai_base_url, prices=PRICES)
    async with Runtime(settings(tmp_path, acme=host), environ={}) as rt:
        await rt.models()
        with pytest.raises(ProviderFailed, match=r"not_found 404: .*; did you mean acme/smart\?$"):
            await rt.chat("acme/smrt", "Hello")
        async with rt.stream("acme/smrt", "Hello") as events:
            with pytest.raises(ProviderFailed, match=r"did you mean acme/smart\?$"):
                [event async for event in events]
        with pytest.raises(ProviderFailed) as failed:
            await rt.chat("acme/zzzzzzz", "Hello")
        assert "did you mean" not in str(failed.value)
