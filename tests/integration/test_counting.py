"""Tokens counted through a whole runtime on every wire: as many as are then charged, and for nothing."""

from pathlib import Path
from typing import get_args

import anyio.to_thread
import pytest
from aiohttp import web
from msgspec import structs
from tests.inside import database, given_back, settings
from tests.integration.evidence import ledger
from tests.integration.upstream import Asked, Upstream

from greenroom.actors.settings import PriceSettings, Settings
from greenroom.runtime import Message, ProviderFailed, Runtime
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.testing import WireName, settings_for

pytestmark = pytest.mark.anyio
COUNTING = sorted({*get_args(WireName)} - {"ollama"})
CONVERSATION = (
    Message("system", "Be short."),
    Message("user", "Why do glaciers move?"),
    Message("assistant", "By their own weight: ice under pressure flows."),
    Message("user", "How fast, in Grönland and in 中国?"),
)


def counts(found: Settings, **prices: PriceSettings) -> Settings:
    """Settings in which the host of chat completions has Responses beside them."""
    (name,) = found.providers
    provider = structs.replace(found.providers[name], counts_tokens=True, free=not prices, prices=prices)
    return structs.replace(found, providers={name: provider})


@pytest.mark.parametrize("wire", COUNTING)
async def test_what_is_counted_is_what_is_then_used(tmp_path: Path, wire: WireName) -> None:
    async with Simulator(SimulatorSettings()) as simulator:
        priced = counts(
            settings_for(simulator, tmp_path, wire=wire), fast=PriceSettings(input="1", output="1")
        )
        async with Runtime(priced, environ={}) as rt:
            counted = await rt.count_tokens("scripted/fast", CONVERSATION, max_tokens=20, budget_usd=0)
            assert (counted.provider, counted.model, counted.estimated) == ("scripted", "fast", False)
            reply = await rt.chat("scripted/fast", CONVERSATION, max_tokens=20)
            assert counted.input_tokens == reply.usage.total_input_tokens
            await given_back(rt, "scripted")
        first, second = await anyio.to_thread.run_sync(ledger, tmp_path / "greenroom.db")
        assert (first.cost_pusd, first.held_pusd, first.input_tokens, first.outcome) == (0, 0, 0, "ok")
        assert second.cost_pusd == reply.cost_pusd > 0


async def test_where_nobody_counts_it_is_estimated_and_said_so(tmp_path: Path) -> None:
    async with (
        Simulator(SimulatorSettings()) as simulator,
        Runtime(settings_for(simulator, tmp_path, wire="ollama"), environ={}) as rt,
    ):
        before = simulator.statistics().requests
        counted = await rt.count_tokens("scripted/fast", CONVERSATION)
        assert simulator.statistics().requests == before
        reply = await rt.chat("scripted/fast", CONVERSATION, max_tokens=20)
    assert counted.estimated
    assert reply.usage.input_tokens / 2 < counted.input_tokens < reply.usage.input_tokens * 3


@pytest.mark.parametrize("wire", COUNTING)
async def test_a_model_that_is_not_there(tmp_path: Path, wire: WireName) -> None:
    async with (
        Simulator(SimulatorSettings()) as simulator,
        Runtime(counts(settings_for(simulator, tmp_path, wire=wire)), environ={}) as rt,
    ):
        with pytest.raises(ProviderFailed) as failed:
            await rt.count_tokens("scripted/nobody", "Why?")
    assert (failed.value.error.kind, failed.value.error.attempts) == ("not_found", 1)
    assert failed.value.cost_pusd == 0


async def test_counting_is_tried_again_like_any_call(tmp_path: Path) -> None:
    async def answer(asked: Asked) -> web.Response:
        if asked.number == 1:
            return web.Response(status=503)
        return web.json_response({"object": "response.input_tokens", "input_tokens": 11})

    async with Upstream(answer) as upstream:
        found = counts(settings(upstream.base_url, tmp_path), **{"*": PriceSettings(input="1", output="1")})
        async with Runtime(found, environ={}) as rt:
            assert (await rt.count_tokens("acme/fast", "Why?")).input_tokens == 11
            await given_back(rt)
    assert [asked.request.path for asked in upstream.asked] == ["/v1/responses/input_tokens"] * 2
    rows = await anyio.to_thread.run_sync(ledger, database(tmp_path))
    assert [(row.outcome, row.cost_pusd) for row in rows] == [("overloaded", 0), ("ok", 0)]


async def test_what_is_no_count_is_a_breach_of_the_dialect(tmp_path: Path) -> None:
    async def answer(asked: Asked) -> web.Response:
        return web.Response(text="<html>", content_type="text/html")

    async with (
        Upstream(answer) as upstream,
        Runtime(counts(settings(upstream.base_url, tmp_path)), environ={}) as rt,
    ):
        with pytest.raises(ProviderFailed) as failed:
            await rt.count_tokens("acme/fast", "Why?")
        await given_back(rt)
    assert failed.value.error.kind == "protocol"
    assert "<html>" in str(failed.value)
