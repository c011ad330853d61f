"""Published answers, file by file: their usage in disjoint classes, and what they cost to the last digit.

Each file holds the source, the provider's answer (whole, streamed, or embeddings), the usage that it means, and, where
it costs something, the published rates and the sum of it, reckoned by decimal arithmetic that shares nothing with ours.
"""

import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.providers import test_bedrock_decode
from tests.providers.streams import byte_by_byte, events_of

from greenroom.actors.events import Finished, Started, Usage
from greenroom.actors.prices import PriceTable, usd
from greenroom.actors.providers import (
    AnthropicMessages,
    BedrockConverse,
    Codec,
    Gemini,
    Ollama,
    OpenAIChat,
    OpenAIResponses,
)
from greenroom.actors.providers.embeddings import EmbeddingCodec

GOLDEN = Path(__file__).parent / "golden"
CODECS: dict[str, Codec] = {
    "anthropic-messages": AnthropicMessages("anthropic"),
    "bedrock-converse": BedrockConverse("bedrock"),
    "gemini": Gemini("gemini"),
    "ollama": Ollama("ollama"),
    "openai-chat": OpenAIChat("openai"),
    "openai-responses": OpenAIResponses("openai"),
}


def files() -> list[Any]:
    return [
        pytest.param(path, id=f"{path.parent.name}-{path.stem}") for path in sorted(GOLDEN.glob("*/*.json"))
    ]


def streamed(wire: str, events: list[Any]) -> bytes:
    """The events as the wire frames them."""
    if wire == "bedrock-converse":
        return b"".join(test_bedrock_decode.event(kind, payload) for kind, payload in events)
    lines = [json.dumps(event) for event in events]
    if wire == "ollama":
        return "".join(f"{line}\n" for line in lines).encode()
    if wire == "openai-chat":
        lines.append("[DONE]")
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def told(codec: Codec, body: bytes) -> tuple[str, Usage]:
    """The model and the usage that a stream tells, one byte at a time."""
    events = events_of(codec.stream_decoder(), byte_by_byte(body))
    assert isinstance(events[-1], Finished)
    (started,) = (event for event in events if isinstance(event, Started))
    return started.model, [event for event in events if isinstance(event, Usage)][-1]


def used(wire: str, golden: dict[str, Any]) -> tuple[str, Usage]:
    codec = CODECS[wire]
    if "stream" in golden:
        return told(codec, streamed(wire, golden["stream"]))
    if "embeddings" in golden:
        assert isinstance(codec, EmbeddingCodec)
        vectors = codec.decode_embeddings(json.dumps(golden["embeddings"]).encode())
        assert vectors.usage_reported
        return vectors.model, vectors.usage
    answer = codec.decode(json.dumps(golden["answer"]).encode())
    assert answer.usage_reported
    return answer.model, answer.usage


@pytest.fixture(scope="module")
def prices() -> PriceTable:
    return PriceTable.load()


@pytest.mark.parametrize("path", files())
def test_r8_usage_and_cost_of_a_published_answer(path: Path, prices: PriceTable) -> None:
    golden: dict[str, Any] = json.loads(path.read_bytes())
    model, usage = used(path.parent.name, golden)
    assert usage == msgspec.convert(golden["usage"], Usage)
    if "price" not in golden:
        return
    paid = golden["price"]
    sums = [Decimal(part["count"]) * Decimal(part["usd"]) / part["per"] for part in paid["reckoned"]]
    assert sum(sums) == Decimal(paid["usd"])
    at = datetime.fromisoformat(paid["at"]).replace(tzinfo=UTC)
    price = prices.price(paid["provider"], paid.get("model", model), {}, at)
    assert price is not None
    assert usd(price.cost_pusd(usage)) == Decimal(paid["usd"])
    assert price.asked(usage.service_tier, usage.web_searches + usage.file_searches).bound_pusd(
        usage.total_input_tokens, usage.total_output_tokens
    ) >= price.cost_pusd(usage)


def test_every_wire_has_its_files_whole_streamed_and_of_embeddings() -> None:
    forms = {
        (path.parent.name, form)
        for path in GOLDEN.glob("*/*.json")
        for form in ("answer", "stream", "embeddings")
        if form in json.loads(path.read_bytes())
    }
    assert {wire for wire, form in forms if form == "answer"} == set(CODECS)
    assert {wire for wire, form in forms if form == "stream"} == set(CODECS)
    assert {wire for wire, form in forms if form == "embeddings"} == {
        "bedrock-converse",
        "gemini",
        "ollama",
        "openai-chat",
    }


def test_every_class_of_usage_is_in_some_file() -> None:
    told = {name for path in GOLDEN.glob("*/*.json") for name in json.loads(path.read_bytes())["usage"]}
    assert set(Usage.__struct_fields__) - told == {"video_input_tokens", "video_output_tokens"}
