"""The same texts to every provider that embeds: the same vectors, in their order, however they travel."""

from array import array
from collections.abc import AsyncIterator

import pytest
from tests.inside import given_back
from tests.matrix.providers import PROVIDERS, settings_of

from greenroom.actors.events import ProviderFailed
from greenroom.runtime import Embeddings, Runtime
from greenroom.runtime.testing import Simulator, SimulatorSettings

pytestmark = pytest.mark.anyio
TITAN, COHERE = "amazon.titan-embed-text-v2:0", "cohere.embed-v4:0"
MODELS = dict.fromkeys(PROVIDERS, "fast") | {"bedrock": TITAN}
EMBEDDING = [f"{name}/{model}" for name, model in MODELS.items() if not name.startswith("anthropic")]
EMBEDDING.append(f"bedrock/{COHERE}")
NOT_COUNTED = {"gemini", "gemini-v1beta", f"bedrock/{COHERE}"}
"""Who tells no usage with vectors."""

TEXTS = ["programming", "coding", "Grüß 世界 👩‍👩‍👧‍👦", "programming", "x" * 5_000, "\u2028\x00\n"]
ORACLE = "openai/fast"


@pytest.fixture(scope="module")
async def rt(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtime]:
    settings = SimulatorSettings(seed=7, also_serve=(TITAN, COHERE))
    async with (
        Simulator(settings) as simulator,
        Runtime(settings_of(simulator.url, tmp_path_factory.mktemp("house")), environ={}) as rt,
    ):
        yield rt
        for name in PROVIDERS:
            await given_back(rt, name)


def vectors(found: Embeddings) -> "list[array[float]]":
    return [array("f", vector) for vector in found]


@pytest.mark.parametrize("model", EMBEDDING)
async def test_every_provider_gives_the_same_vectors_in_order(rt: Runtime, model: str) -> None:
    found = await rt.embed(model, TEXTS)
    assert vectors(found) == vectors(await rt.embed(ORACLE, TEXTS))
    assert len({bytes(vector) for vector in vectors(found)}) == len(set(TEXTS))
    for vector in vectors(found):
        assert sum(number * number for number in vector) == pytest.approx(1, abs=1e-5)
    counted = not {model, model.partition("/")[0]} & NOT_COUNTED
    assert (found.usage.input_tokens > 1_250) == counted
    (one,) = await rt.embed(model, TEXTS[1])
    assert array("f", one) == vectors(found)[1]


@pytest.mark.parametrize("model", EMBEDDING)
async def test_vectors_are_as_short_as_wanted(rt: Runtime, model: str) -> None:
    found = await rt.embed(model, TEXTS[:2], dimensions=512)
    assert [len(vector) for vector in found] == [512, 512]


@pytest.mark.parametrize("model", [*EMBEDDING, "anthropic/fast"])
@pytest.mark.parametrize("texts", [[], [""], ["a", ""]], ids=["none", "empty", "one of them empty"])
async def test_what_cannot_be_embedded_is_refused(rt: Runtime, model: str, texts: list[str]) -> None:
    with pytest.raises(ProviderFailed) as failed:
        await rt.embed(model, texts)
    assert failed.value.error.kind in {"invalid_request", "unsupported_capability"}
    assert failed.value.error.provider == model.partition("/")[0]


@pytest.mark.parametrize("name", ["anthropic", "anthropic-2023-06-01"])
async def test_who_embeds_nothing_says_so(rt: Runtime, name: str) -> None:
    with pytest.raises(ProviderFailed, match="has no embeddings") as failed:
        await rt.embed(f"{name}/fast", "a")
    assert (failed.value.error.kind, failed.value.error.param) == ("unsupported_capability", "model")
