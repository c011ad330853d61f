"""`rt.embed` through a whole runtime, against a provider that listens: order, parts, cost, failures."""

import base64
import json
import struct
from array import array
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from tests.integration.upstream import Asked, Upstream

from greenroom.actors.ledger import BudgetExceeded
from greenroom.actors.settings import PriceSettings, ProviderSettings, Retries, Settings, StorageSettings
from greenroom.runtime import Embeddings, ProviderFailed, Runtime, Usage
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.testing import settings_for

pytestmark = pytest.mark.anyio
PRICE = PriceSettings(input="0.02", output="0")


def vector_of(text: str) -> list[float]:
    return [float(len(text)), float(sum(text.encode()))]


async def embed(asked: Asked) -> web.StreamResponse:
    """Answers as OpenAI does, the last vector first."""
    assert asked.request.path == "/v1/embeddings"
    texts: list[str] = asked.body["input"]
    data: list[object] = []
    for place, text in enumerate(texts):
        numbers = vector_of(text)
        packed = base64.b64encode(struct.pack("<2f", *numbers)).decode()
        found = packed if asked.body.get("encoding_format") == "base64" else numbers
        data.insert(0, {"object": "embedding", "index": place, "embedding": found})
    usage = {"prompt_tokens": len(texts), "total_tokens": len(texts)}
    return web.json_response({"object": "list", "data": data, "model": "m-1", "usage": usage})


@asynccontextmanager
async def runtime(upstream: Upstream, tmp_path: Path, **more: Any) -> AsyncGenerator[Runtime]:
    provider = ProviderSettings(base_url=upstream.base_url, prices={"*": PRICE}, **more)
    settings = Settings(
        providers={"p": provider},
        retries=Retries(attempts=2, backoff_base_s=0.001),
        storage=StorageSettings(url=f"sqlite:///{tmp_path / 'greenroom.db'}"),
    )
    async with Runtime(settings, environ={}) as rt:
        yield rt


@pytest.mark.parametrize("base64_", [False, True])
async def test_vectors_come_in_the_order_of_their_texts_and_cost_what_they_cost(
    tmp_path: Path,
    base64_: bool,  # noqa: FBT001 - a parameter
) -> None:
    async with Upstream(embed) as upstream, runtime(upstream, tmp_path, embeddings_base64=base64_) as rt:
        found = await rt.embed("p/m", ["a", "bb", "ü"], dimensions=2)
        assert isinstance(found, Embeddings)
        assert list(found) == [array("f", vector_of(text)) for text in ("a", "bb", "ü")]
        assert (found[-1], found[:2]) == (array("f", vector_of("ü")), list(found)[:2])
        assert (found.provider, found.model, found.attempts) == ("p", "m-1", 1)
        assert (found.usage, found.cost_usd) == (Usage(3), Decimal("0.00000006"))
        assert "3 embeddings of 2 numbers by p/m-1" in repr(found)
        (one,) = await rt.embed("p/m", "one")
        assert one == array("f", vector_of("one"))
    asked = [each.body for each in upstream.asked]
    assert asked[0]["dimensions"] == 2
    assert ("encoding_format" in asked[0]) is base64_
    assert asked[1]["input"] == ["one"]


async def test_many_texts_are_asked_for_in_parts(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(5_000)]
    async with Upstream(embed) as upstream, runtime(upstream, tmp_path) as rt:
        found = await rt.embed("p/m", texts)
        assert list(found) == [array("f", vector_of(text)) for text in texts]
        assert (found.usage, found.attempts) == (Usage(5_000), 3)
    assert [len(each.body["input"]) for each in upstream.asked] == [2048, 2048, 904]
    assert upstream.peak == 1


async def test_a_budget_holds_for_all_parts_together(tmp_path: Path) -> None:
    texts = ["x" * 1_000 for _ in range(600)]
    async with Upstream(embed) as upstream, runtime(upstream, tmp_path) as rt:
        # Two parts of 300 000 bytes each; each may cost 0.006 dollars and a little, and costs almost nothing.
        with pytest.raises(BudgetExceeded):
            await rt.embed("p/m", texts, budget_usd="0.001")
        assert upstream.asked == []
        found = await rt.embed("p/m", texts, budget_usd="0.0075")
        assert (len(found), len(upstream.asked)) == (600, 2)


async def test_a_failure_is_tried_again_and_says_what_everything_cost(tmp_path: Path) -> None:
    async def fail_after_the_first(asked: Asked) -> web.StreamResponse:
        if asked.number == 1:
            return await embed(asked)
        return web.json_response({"error": {"message": "broken"}}, status=500)

    async with Upstream(fail_after_the_first) as upstream, runtime(upstream, tmp_path) as rt:
        with pytest.raises(ProviderFailed, match="broken") as failed:
            await rt.embed("p/m", ["a"] * 2049)
    assert (failed.value.error.kind, failed.value.error.attempts) == ("server", 2)
    assert failed.value.cost_pusd == 2048 * 20_000
    assert len(upstream.asked) == 3


@pytest.mark.parametrize(
    "answer",
    [{"data": []}, {"data": [{"index": 0, "embedding": [0.5]}]}, {"choices": []}],
    ids=["none", "too few", "a chat completion"],
)
async def test_an_answer_without_the_vectors_is_rejected_and_charged_at_its_bound(
    tmp_path: Path, answer: object
) -> None:
    async def serve(asked: Asked) -> web.StreamResponse:
        return web.json_response(answer)

    async with Upstream(serve) as upstream, runtime(upstream, tmp_path) as rt:
        with pytest.raises(ProviderFailed) as failed:
            await rt.embed("p/m", ["a", "b"])
    assert failed.value.error.kind == "protocol"
    body = json.dumps({"model": "m", "input": ["a", "b"]}, separators=(",", ":"))
    assert failed.value.cost_pusd == len(body) * 20_000
    assert len(upstream.asked) == 1


@pytest.mark.parametrize("texts", [[], ["a", ""], ""])
async def test_nothing_to_embed_is_refused_before_anything_is_sent(
    tmp_path: Path, texts: list[str] | str
) -> None:
    async with Upstream(embed) as upstream, runtime(upstream, tmp_path) as rt:
        with pytest.raises(ProviderFailed, match="input") as failed:
            await rt.embed("p/m", texts)
    assert failed.value.error.kind == "invalid_request"
    assert upstream.asked == []


async def test_a_provider_without_embeddings_says_so(tmp_path: Path) -> None:
    async with Upstream(embed) as upstream, runtime(upstream, tmp_path, wire="anthropic-messages") as rt:
        with pytest.raises(ProviderFailed, match="no embeddings"):
            await rt.embed("p/m", "a")
    assert upstream.asked == []


async def test_bedrocks_titan_is_asked_text_by_text(tmp_path: Path) -> None:
    model = "amazon.titan-embed-text-v2:0"
    async with Simulator(SimulatorSettings(also_serve=(model,))) as simulator:
        settings = settings_for(simulator, tmp_path, wire="bedrock-converse", prices={"*": PRICE})
        async with Runtime(settings, environ={}) as rt:
            found = await rt.embed(f"scripted/{model}", ["rain", "sun", "rain"], dimensions=16)
        assert simulator.statistics().requests == 3
    assert found[0] == found[2] != found[1]
    assert [len(vector) for vector in found] == [16] * 3
    assert found.cost_usd == Decimal("0.02") * found.usage.input_tokens / 10**6 > 0
