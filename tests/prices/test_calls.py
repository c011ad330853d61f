"""What is charged apart, seen through a whole runtime: held before it is asked, and charged as it was served."""

import asyncio
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest
from aiohttp import web
from msgspec import Raw, structs
from tests.inside import database, given_back, settings, tree
from tests.integration.evidence import ledger
from tests.integration.upstream import Asked, Upstream, completion
from tests.prices.host import Host

from greenroom.actors.call import Terms
from greenroom.actors.catalog import Unpriced
from greenroom.actors.ledger import BudgetExceeded
from greenroom.actors.providers import ChatRequest, Message
from greenroom.actors.settings import PriceSettings, PriceTableSettings, Settings
from greenroom.runtime import Runtime

pytestmark = pytest.mark.anyio
PRICE = PriceSettings(input="1", output="10", web_search_usd="0.01", service_tiers={"priority": "3"})
CAP_PUSD = 2 * 10**9
"""Enough for the standard tier, not for what costs three times as much."""
ASKED = ChatRequest(model="acme/fast", messages=(Message("user", "Why?"),), max_tokens=100)


def priced(base_url: str, directory: Path) -> Settings:
    found = settings(base_url, directory)
    provider = structs.replace(found.providers["acme"], prices={"fast": PRICE})
    return structs.replace(found, providers={"acme": provider})


async def serve(asked: Asked) -> web.Response:
    """Answers by the tier that it is asked for, after two searches where it is told to search."""
    answer = msgspec.json.decode(completion())
    answer["usage"] = {"prompt_tokens": 7, "completion_tokens": 11}
    if "web_search_options" in asked.body:
        answer["usage"]["num_search_queries"] = 2
    answer["service_tier"] = asked.body.get("service_tier", "default")
    return web.json_response(answer)


@pytest.mark.parametrize(
    ("options", "times", "searches"),
    [
        ({}, 1, 0),
        ({"service_tier": b'"priority"'}, 3, 0),
        ({"service_tier": b'"flex"'}, 1, 0),
        ({"web_search_options": b"{}", "service_tier": b'"priority"'}, 3, 2),
    ],
)
async def test_a_tier_and_its_searches_are_held_and_charged(
    tmp_path: Path, options: dict[str, bytes], times: int, searches: int
) -> None:
    request = structs.replace(ASKED, extra={name: Raw(value) for name, value in options.items()})
    async with Upstream(serve) as upstream, Runtime(priced(upstream.base_url, tmp_path), environ={}) as rt:
        reply = await tree(rt).flow.chat(request)
        await given_back(rt)
        sent = int(upstream.asked[0].headers["Content-Length"])
    assert reply.usage.web_searches == searches
    assert reply.cost_pusd == times * (7 * 10**6 + 11 * 10**7) + searches * 10**10
    (row,) = await anyio.to_thread.run_sync(ledger, database(tmp_path))
    assert row.cost_pusd == reply.cost_pusd
    assert row.held_pusd == times * (sent * 10**6 + 100 * 10**7) + bool(searches) * 10 * 10**10


async def test_a_budget_binds_what_is_asked_for_dearer(tmp_path: Path) -> None:
    request = structs.replace(ASKED, extra={"service_tier": Raw(b'"priority"')})
    async with Upstream(serve) as upstream, Runtime(priced(upstream.base_url, tmp_path), environ={}) as rt:
        terms = Terms(budget_pusd=CAP_PUSD)
        assert (await tree(rt).flow.chat(ASKED, terms)).cost_pusd < CAP_PUSD
        with pytest.raises(BudgetExceeded):
            await tree(rt).flow.chat(request, terms)
    assert len(upstream.asked) == 1


GEMINI = {
    "candidates": [{"content": {"parts": [{"text": "x"}]}, "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 7, "candidatesTokenCount": 11},
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("tier", "times"), [("priority", 3), ("standard", 1), ("", 1)])
async def test_a_tier_that_a_header_tells_of_is_charged(
    tmp_path: Path,
    tier: str,
    times: int,
    streamed: bool,  # noqa: FBT001 - a parameter
) -> None:
    async def serve_by_header(asked: Asked) -> web.Response:
        assert asked.body["serviceTier"] == "priority"
        headers = {"x-gemini-service-tier": tier} if tier else {}
        said = msgspec.json.encode(GEMINI)
        if streamed:
            return web.Response(
                body=b"data: %s\n\n" % said, content_type="text/event-stream", headers=headers
            )
        return web.Response(body=said, content_type="application/json", headers=headers)

    request = structs.replace(ASKED, extra={"serviceTier": Raw(b'"priority"')})
    async with Upstream(serve_by_header) as upstream:
        found = priced(upstream.base_url, tmp_path)
        provider = structs.replace(found.providers["acme"], wire="gemini")
        async with Runtime(structs.replace(found, providers={"acme": provider}), environ={}) as rt:
            reply = await tree(rt).flow.chat(request, streamed=streamed)
            await given_back(rt)
    assert reply.usage.service_tier == ("priority" if times == 3 else "")
    assert reply.cost_pusd == times * (7 * 10**6 + 11 * 10**7)


async def test_prices_that_are_renewed_in_the_background_are_those_of_calls(
    tmp_path: Path, host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    async with Upstream(serve) as upstream:
        found = settings(upstream.base_url, tmp_path)
        provider = structs.replace(found.providers["acme"], prices={}, price_provider="acme")
        fetched = PriceTableSettings(refresh="daily", url=host.url)
        found = structs.replace(found, providers={"acme": provider}, prices=fetched)
        async with Runtime(found, environ={}) as rt:
            reply = None
            while reply is None:
                try:
                    reply = await rt.chat("acme/m", "Why?", max_tokens=100)
                except Unpriced:  # the package's own table does not know it, and nobody waits for another
                    await asyncio.sleep(0)
        assert reply.cost_pusd == 7 * 3 * 10**6 + 11 * 4 * 10**6
        async with Runtime(structs.replace(found, prices=PriceTableSettings()), environ={}) as rt:
            assert (await rt.chat("acme/m", "Why?", max_tokens=100)).cost_pusd == reply.cost_pusd
    assert host.asked == 1
