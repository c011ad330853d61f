"""Embeddings on the wires that have them: shapes, order, likeness, both number formats, limits and faults as elsewhere."""

import base64
import math
import struct
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.simulator.conftest import Client, Connect

from greenroom.runtime.simulator import Simulator, SimulatorSettings

pytestmark = pytest.mark.anyio
Json = dict[str, Any]
TEXTS = ["Rain over the fjord.", "It rained over the fjords all day.", "An invoice was paid twice."]


class Embedder(msgspec.Struct, frozen=True):
    """How one wire asks for embeddings; `vectors` reads the answer."""

    path: str
    body: Callable[[list[str], int], Json]
    vectors: Callable[[Json], list[list[float]]]


def gemini_body(texts: list[str], dimensions: int) -> Json:
    requests = [
        {"model": "models/fast", "content": {"parts": [{"text": text}]}, "outputDimensionality": dimensions}
        for text in texts
    ]
    return {"requests": requests}


EMBEDDERS = {
    "openai": Embedder(
        "/v1/embeddings",
        lambda texts, dimensions: {"model": "fast", "input": texts, "dimensions": dimensions},
        lambda answer: [row["embedding"] for row in answer["data"]],
    ),
    "gemini": Embedder(
        "/v1beta/models/fast:batchEmbedContents",
        gemini_body,
        lambda answer: [row["values"] for row in answer["embeddings"]],
    ),
    "bedrock": Embedder(
        "/model/fast/invoke",
        lambda texts, dimensions: {
            "texts": texts,
            "input_type": "search_document",
            "output_dimension": dimensions,
        },
        lambda answer: answer["embeddings"]["float"],
    ),
    "ollama": Embedder(
        "/api/embed",
        lambda texts, dimensions: {"model": "fast:latest", "input": texts, "dimensions": dimensions},
        lambda answer: answer["embeddings"],
    ),
}
EVERY = pytest.mark.parametrize("embedder", EMBEDDERS.values(), ids=EMBEDDERS)


def likeness(one: list[float], other: list[float]) -> float:
    return sum(a * b for a, b in zip(one, other, strict=True))


async def embed(
    client: Client, embedder: Embedder, texts: list[str], dimensions: int = 64
) -> list[list[float]]:
    reply = await client.send("POST", embedder.path, json=embedder.body(texts, dimensions))
    assert reply.status == 200, reply.body
    return embedder.vectors(reply.json)


@EVERY
async def test_texts_alike_point_the_same_way(client: Client, embedder: Embedder) -> None:
    rain, rained, invoice = await embed(client, embedder, TEXTS)
    assert [len(vector) for vector in (rain, rained, invoice)] == [64] * 3
    assert likeness(rain, rain) == pytest.approx(1)
    assert likeness(rain, rained) > 0.3 > likeness(rain, invoice)
    (entry,) = client.simulator.journal
    assert (entry.model, entry.prompt_tokens, entry.completion_tokens) == ("fast", 21, 0)


@EVERY
async def test_order_and_company_change_nothing(client: Client, embedder: Embedder) -> None:
    together = await embed(client, embedder, TEXTS)
    backwards = await embed(client, embedder, TEXTS[::-1])
    alone = [(await embed(client, embedder, [text]))[0] for text in TEXTS]
    assert together == backwards[::-1] == alone


@EVERY
async def test_odd_texts_have_a_direction_too(client: Client, embedder: Embedder) -> None:
    for vector in await embed(client, embedder, [" ", "?!", "世界", "\x00", "a" * 50_000], 8):
        assert math.hypot(*vector) == pytest.approx(1)


@EVERY
@pytest.mark.parametrize("dimensions", [0, 5_000])
async def test_impossible_sizes_are_refused(client: Client, embedder: Embedder, dimensions: int) -> None:
    reply = await client.send("POST", embedder.path, json=embedder.body(TEXTS, dimensions))
    assert reply.status == 400


@EVERY
async def test_limits_and_faults_are_those_of_any_question(connect: Connect, embedder: Embedder) -> None:
    settings = SimulatorSettings(tokens_per_min=60, faults="503@1")
    async with Simulator(settings) as simulator:
        client = connect(simulator)
        statuses = [
            (await client.send("POST", embedder.path, json=embedder.body(TEXTS, 8))).status for _ in range(4)
        ]
        assert statuses == [503, 200, 429, 429]
        assert [entry.limited_by for entry in simulator.journal] == [None, None, "tokens", "tokens"]


async def test_openai_packs_the_same_numbers_as_base64(client: Client) -> None:
    body = EMBEDDERS["openai"].body(TEXTS, 64)
    plain = (await client.send("POST", "/v1/embeddings", json=body)).json
    packed = (await client.send("POST", "/v1/embeddings", json=body | {"encoding_format": "base64"})).json
    for one, other in zip(plain["data"], packed["data"], strict=True):
        unpacked = struct.unpack("<64f", base64.b64decode(other["embedding"]))
        assert unpacked == pytest.approx(one["embedding"], abs=1e-6)
    assert plain["usage"] == packed["usage"] == {"prompt_tokens": 21, "total_tokens": 21}
    assert [row["index"] for row in plain["data"]] == [0, 1, 2]


@pytest.mark.parametrize("given", ["one text", [1, 2, 3], [[1, 2], [3]]])
async def test_openai_takes_an_input_in_all_its_forms(client: Client, given: Any) -> None:
    reply = await client.send("POST", "/v1/embeddings", json={"model": "fast", "input": given})
    expected = 2 if given == [[1, 2], [3]] else 1
    assert [len(row["embedding"]) for row in reply.json["data"]] == [256] * expected


@pytest.mark.parametrize("given", ["", [], [""], [[]], ["a", 1], [1, "a"], {"a": 1}, None, [[1], "a"]])
async def test_openai_refuses_an_input_that_is_none(client: Client, given: Any) -> None:
    reply = await client.send("POST", "/v1/embeddings", json={"model": "fast", "input": given})
    assert reply.status == 400
    assert "input" in str(reply.error["param"])


async def test_gemini_embeds_one(client: Client) -> None:
    body = {"content": {"parts": [{"text": TEXTS[0]}]}}
    one = (await client.send("POST", "/v1beta/models/fast:embedContent", json=body)).json
    assert [len(one["embedding"]["values"]), list(one)] == [256, ["embedding"]]


async def test_titan_embeds_one(client: Client) -> None:
    body = {"inputText": TEXTS[0], "dimensions": 64}
    one = (await client.send("POST", "/model/fast/invoke", json=body)).json
    assert [len(one["embedding"]), one["inputTextTokenCount"]] == [64, 5]
    assert (await client.send("POST", "/model/fast/invoke", json={"inputText": ""})).status == 400


async def test_the_official_client_reads_both_forms() -> None:
    openai: Any = pytest.importorskip("openai", reason="the official client is not installed")
    async with (
        Simulator() as simulator,
        openai.AsyncOpenAI(base_url=simulator.openai_base_url, api_key="k", max_retries=0) as client,
    ):
        packed = await client.embeddings.create(model="fast", input=TEXTS)
        plain = await client.embeddings.create(model="fast", input=TEXTS, encoding_format="float")
    for one, other in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(other.embedding, abs=1e-6)
