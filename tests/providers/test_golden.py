"""Published answers, file by file: their usage in disjoint classes, and what they cost to the last digit.

Each file holds the source, the provider's answer, the usage that it means, and, where the price table knows the
model, what that costs in dollars, reckoned by hand from the published rates.
"""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from greenroom.actors.events import Usage
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


@pytest.fixture(scope="module")
def prices() -> PriceTable:
    return PriceTable.load()


@pytest.mark.parametrize("path", files())
def test_usage_and_cost_of_a_published_answer(path: Path, prices: PriceTable) -> None:
    golden: dict[str, Any] = json.loads(path.read_bytes())
    got = CODECS[path.parent.name].decode(json.dumps(golden["answer"]).encode())
    assert got.usage_reported
    assert got.usage == msgspec.convert(golden["usage"], Usage)
    if "price" in golden:
        price = prices.price(golden["price"]["provider"], golden["price"].get("model", got.model), {})
        assert price is not None
        assert usd(price.cost_pusd(got.usage)) == Decimal(golden["price"]["usd"])


def test_every_wire_has_its_files() -> None:
    assert {path.parent.name for path in GOLDEN.glob("*/*.json")} == set(CODECS)
