"""Embeddings on every wire that has them: what is asked, what is read, and what is no vector."""

import base64
import json
import struct
from array import array
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.oracles import assert_taken, needs, official, serving

from greenroom.actors.events import ProviderFailed, Usage
from greenroom.actors.providers import (
    AnthropicMessages,
    BedrockConverse,
    Codec,
    Gemini,
    Ollama,
    OpenAIChat,
    OpenAIResponses,
    RejectedAnswer,
)
from greenroom.actors.providers.embeddings import (
    EmbeddingCodec,
    EmbeddingRequest,
    check_inputs,
    embedding_codec,
    parts,
    vectors,
)

Json = dict[str, Any]
OPENAI, GEMINI, OLLAMA = OpenAIChat("p", embeddings_base64=True), Gemini("p"), Ollama("p")
BEDROCK = BedrockConverse("p")
TITAN, COHERE = "amazon.titan-embed-text-v2:0", "us.cohere.embed-v4:0"
TWO = EmbeddingRequest(model="p/m", inputs=("a", "ü"))


def packed(numbers: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()


def openai_answer(*found: object, **more: Any) -> bytes:
    data = [{"object": "embedding", "index": place, "embedding": one} for place, one in enumerate(found)]
    usage = {"prompt_tokens": 4, "total_tokens": 4}
    return json.dumps({"object": "list", "data": data, "model": "m-1", "usage": usage} | more).encode()


@pytest.mark.parametrize(
    ("codec", "request_", "path", "body"),
    [
        (OPENAI, TWO, "/embeddings", {"model": "m", "input": ["a", "ü"], "encoding_format": "base64"}),
        (OpenAIChat("p"), TWO, "/embeddings", {"model": "m", "input": ["a", "ü"]}),
        (
            OPENAI,
            EmbeddingRequest(model="p/m", inputs=("a",), dimensions=8, encoding="float"),
            "/embeddings",
            {"model": "m", "input": ["a"], "dimensions": 8},
        ),
        (
            OpenAIResponses("p"),
            TWO,
            "/embeddings",
            {"model": "m", "input": ["a", "ü"], "encoding_format": "base64"},
        ),
        (
            GEMINI,
            EmbeddingRequest(model="p/m", inputs=("a", "ü"), dimensions=8),
            "/models/m:batchEmbedContents",
            {
                "requests": [
                    {"model": "models/m", "content": {"parts": [{"text": text}]}, "outputDimensionality": 8}
                    for text in ("a", "ü")
                ]
            },
        ),
        (
            OLLAMA,
            EmbeddingRequest(model="p/m", inputs=("a", "ü"), dimensions=8),
            "/api/embed",
            {"model": "m", "input": ["a", "ü"], "truncate": False, "dimensions": 8},
        ),
    ],
)
def test_what_is_asked(codec: EmbeddingCodec, request_: EmbeddingRequest, path: str, body: Json) -> None:
    wire = codec.encode_embeddings(request_, "m")
    assert (wire.method, wire.path, json.loads(wire.body)) == ("POST", path, body)


@pytest.mark.parametrize(
    ("model", "path", "inputs", "body"),
    [
        (TITAN, "/model/amazon.titan-embed-text-v2%3A0/invoke", 1, {"inputText": "a", "dimensions": 8}),
        (
            COHERE,
            "/model/us.cohere.embed-v4%3A0/invoke",
            96,
            {
                "texts": ["a"],
                "input_type": "search_document",
                "truncate": "NONE",
                "embedding_types": ["float"],
                "output_dimension": 8,
            },
        ),
    ],
)
def test_bedrock_is_asked_in_the_words_of_whose_model_it_is(
    model: str, path: str, inputs: int, body: Json
) -> None:
    wire = BEDROCK.encode_embeddings(EmbeddingRequest(model="p/m", inputs=("a",), dimensions=8), model)
    assert (wire.path, json.loads(wire.body)) == (path, body)
    assert BEDROCK.max_embedding_inputs(model) == inputs


def test_bedrocks_other_models_are_not_known_to_embed() -> None:
    with pytest.raises(ProviderFailed, match="Titan and Cohere") as failed:
        BEDROCK.encode_embeddings(TWO, "amazon.nova-pro-v1:0")
    assert (failed.value.error.kind, failed.value.error.param) == ("unsupported_capability", "model")


@pytest.mark.parametrize("codec", [GEMINI, OLLAMA])
def test_base64_is_refused_where_there_is_none(codec: EmbeddingCodec) -> None:
    with pytest.raises(ProviderFailed, match="encoding") as failed:
        codec.encode_embeddings(EmbeddingRequest(model="p/m", inputs=("a",), encoding="base64"), "m")
    assert failed.value.error.kind == "unsupported_capability"
    codec.encode_embeddings(EmbeddingRequest(model="p/m", inputs=("a",), encoding="float"), "m")


@pytest.mark.parametrize("codec", [AnthropicMessages("p")])
def test_a_wire_without_embeddings_says_so(codec: Codec) -> None:
    with pytest.raises(ProviderFailed, match="no embeddings") as failed:
        embedding_codec(codec, "p", "m")
    assert failed.value.error.kind == "unsupported_capability"


def test_what_is_read() -> None:
    ours = (array("f", [0.5, -1.0]), array("f", [0.25, 3.0]))
    for body in (openai_answer([0.5, -1], [0.25, 3.0]), openai_answer(packed([0.5, -1]), packed([0.25, 3]))):
        got = OPENAI.decode_embeddings(body)
        assert (got.vectors, got.usage, got.usage_reported, got.model) == (ours, Usage(4), True, "m-1")
    gemini = json.dumps({"embeddings": [{"values": [0.5, -1]}, {"values": [0.25, 3]}]}).encode()
    assert GEMINI.decode_embeddings(gemini).vectors == ours
    assert not GEMINI.decode_embeddings(gemini).usage_reported
    used = GEMINI.decode_embeddings(gemini[:-1] + b',"usageMetadata":{"promptTokenCount":4}}')
    assert (used.usage, used.usage_reported) == (Usage(4), True)
    ollama = {"model": "m", "embeddings": [[0.5, -1], [0.25, 3]], "total_duration": 1, "prompt_eval_count": 4}
    got = OLLAMA.decode_embeddings(json.dumps(ollama).encode())
    assert (got.vectors, got.usage, got.usage_reported, got.model) == (ours, Usage(4), True, "m")
    titan = BEDROCK.decode_embeddings(b'{"embedding":[0.5,-1],"inputTextTokenCount":4}')
    assert (titan.vectors, titan.usage, titan.usage_reported) == (ours[:1], Usage(4), True)
    for cohere in (b'{"embeddings":[[0.5,-1],[0.25,3]]}', b'{"embeddings":{"float":[[0.5,-1],[0.25,3]]}}'):
        got = BEDROCK.decode_embeddings(cohere)
        assert (got.vectors, got.usage_reported) == (ours, False)


def test_vectors_stand_where_their_inputs_do() -> None:
    data = [{"index": 1, "embedding": [2.0]}, {"index": 0, "embedding": [1.0]}]
    got = OPENAI.decode_embeddings(json.dumps({"data": data}).encode())
    assert got.vectors == (array("f", [1.0]), array("f", [2.0]))
    assert not got.usage_reported


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1))
def test_both_forms_give_equal_vectors(numbers: list[float]) -> None:
    # Written as a provider writes them, with as few digits as tell one 32-bit float from the next.
    assert vectors([numbers]) == vectors([packed(numbers)]) == (array("f", numbers),)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        openai_answer([]),
        openai_answer([0.5], [0.5, 0.5]),
        openai_answer([0.5], packed([0.5, 0.5])),
        openai_answer("no base64!"),
        openai_answer("AAAA"),
        openai_answer([1e300]),
        openai_answer(packed([float("nan")])),
        openai_answer(packed([0.5, float("inf"), float("-inf")])),
        openai_answer([None]),
        openai_answer([0.5], usage={"prompt_tokens": -1}),
        openai_answer(data=[{"index": 1, "embedding": [0.5]}]),
        openai_answer(data=[{"index": 0, "embedding": [0.5]}, {"index": 0, "embedding": [0.5]}]),
        b'{"data":' + b"[" * 100_000,
    ],
)
def test_what_are_no_vectors_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedAnswer):
        OPENAI.decode_embeddings(body)


@pytest.mark.parametrize("codec", [GEMINI, OLLAMA, BEDROCK])
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"{}",
        b'{"embeddings":[[]]}',
        b'{"embeddings":[{"values":[]}]}',
        b'{"embeddings":[[1],[1,2]]}',
        b'{"embeddings":[{"values":[1]},{"values":[1,2]}]}',
        b'{"embeddings":[["a"]]}',
        b'{"embeddings":' + b"[" * 100_000,
    ],
)
def test_what_are_no_vectors_is_rejected_elsewhere(codec: EmbeddingCodec, body: bytes) -> None:
    with pytest.raises(RejectedAnswer):
        codec.decode_embeddings(body)


@pytest.mark.parametrize(
    ("request_", "param"),
    [
        (EmbeddingRequest(model="p/m", inputs=()), "input"),
        (EmbeddingRequest(model="p/m", inputs=("a", "")), "input"),
        (EmbeddingRequest(model="p/m", inputs=("a",), dimensions=0), "dimensions"),
    ],
)
def test_nothing_to_embed_is_refused(request_: EmbeddingRequest, param: str) -> None:
    with pytest.raises(ProviderFailed) as failed:
        check_inputs(request_, "p")
    assert (failed.value.error.kind, failed.value.error.param) == ("invalid_request", param)


@given(st.lists(st.text(min_size=1, max_size=8)), st.integers(1, 5), st.integers(1, 20))
def test_parts_keep_order_and_bounds(inputs: list[str], most: int, max_bytes: int) -> None:
    found = list(parts(inputs, most, max_bytes))
    assert [text for part in found for text in part] == inputs
    for part in found:
        assert 1 <= len(part) <= most
        assert len(part) == 1 or sum(len(text.encode()) for text in part) <= max_bytes


@needs("openai")
def test_the_official_client_takes_the_body_and_reads_the_same() -> None:
    params = ("openai.types.embedding_create_params", "EmbeddingCreateParams")
    for request in (TWO, EmbeddingRequest(model="p/m", inputs=("a",), dimensions=8, encoding="float")):
        assert_taken(*params, json.loads(OPENAI.encode_embeddings(request, "m").body))
    body = openai_answer(packed([0.1, 0.2]))
    with (
        serving(body, "application/json") as http,
        official("openai").OpenAI(api_key="k", http_client=http, max_retries=0) as client,
    ):
        theirs = client.embeddings.create(model="m", input="a")
    assert array("f", theirs.data[0].embedding) == OPENAI.decode_embeddings(body).vectors[0]


@needs("ollama")
def test_ollamas_types_take_the_body() -> None:
    types = official("ollama._types")
    body = json.loads(OLLAMA.encode_embeddings(TWO, "m").body)
    assert types.EmbedRequest.model_validate(body).model_dump(exclude_unset=True) == body
