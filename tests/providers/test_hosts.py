"""The table of hosts: each row is usable as it stands, and says what the vendor's documentation says."""

import json
from urllib.parse import urlsplit

import msgspec
import pytest
from msgspec import structs

from greenroom.actors.catalog import Unpriced, find_route
from greenroom.actors.prices import PriceTable
from greenroom.actors.providers import ChatRequest, Message, url_of
from greenroom.actors.providers.hosts import HOSTS, LOCAL_HOSTS, SIMULATOR
from greenroom.actors.providers.listing import listing_urls
from greenroom.actors.providers.wires import codec_for
from greenroom.actors.settings import ProviderSettings, Secret

NAMED = {
    "openai", "anthropic", "bedrock", "gemini", "groq", "mistral", "openrouter", "together", "fireworks", "deepseek", "xai", "perplexity",
    "cerebras", "huggingface", "nvidia", "azure", "sambanova", "nebius",
}  # fmt: skip
_ODD_VARIABLES = {
    "azure": "AZURE_OPENAI_API_KEY",
    "bedrock": "AWS_BEARER_TOKEN_BEDROCK",
    "huggingface": "HF_TOKEN",
}
LOCAL = {"ollama", "lmstudio", "llamacpp", "vllm"}


@pytest.fixture(scope="module")
def prices() -> PriceTable:
    return PriceTable.load()


def test_who_is_known() -> None:
    assert set(HOSTS) >= NAMED
    assert set(LOCAL_HOSTS) == LOCAL
    assert SIMULATOR not in {*HOSTS, *LOCAL_HOSTS}
    assert not set(HOSTS) & set(LOCAL_HOSTS)


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_host_is_reached_by_tls_with_a_key_of_its_own_name(name: str) -> None:
    host = HOSTS[name]
    assert urlsplit(host.base_url).scheme == "https"
    assert host.api_key_env == _ODD_VARIABLES.get(name, f"{name.upper()}_API_KEY")
    assert not host.free


@pytest.mark.parametrize("name", sorted(LOCAL))
def test_a_local_host_is_free_and_not_overrun(name: str) -> None:
    host = LOCAL_HOSTS[name]
    assert urlsplit(host.base_url).hostname == "127.0.0.1"
    assert host.free
    assert host.api_key_env is None
    assert host.limits.concurrency == "auto" or host.limits.concurrency <= 128


@pytest.mark.parametrize("name", sorted(NAMED))
def test_a_default_model_has_a_price(name: str, prices: PriceTable) -> None:
    model = HOSTS[name].default_model
    if model is not None:
        price = find_route(f"{name}/{model}", HOSTS, prices).price
        assert price.bound_pusd(1000, 1000) > 0


@pytest.mark.parametrize("name", sorted(NAMED - {"huggingface", "nvidia", "sambanova"}))
def test_the_price_table_knows_the_host(name: str, prices: PriceTable) -> None:
    with pytest.raises(Unpriced):
        find_route(f"{name}/no-such-model-at-all", HOSTS, prices)
    known = {provider.id for provider in prices._snapshot.providers}  # pyright: ignore[reportPrivateUsage] - whose names the rows must use
    assert (HOSTS[name].price_provider or name) in known


@pytest.mark.parametrize(
    ("name", "whole", "streamed"),
    [
        ("openai", {"max_completion_tokens": 5}, {"stream_options": {"include_usage": True}}),
        ("groq", {"max_completion_tokens": 5}, {"stream_options": {"include_usage": True}}),
        ("anthropic", {"max_tokens": 5}, {}),
        ("mistral", {"max_tokens": 5}, {}),
        ("openrouter", {"max_tokens": 5}, {"stream_options": {"include_usage": True}}),
        ("deepseek", {"max_tokens": 5}, {"stream_options": {"include_usage": True}}),
        ("xai", {"max_completion_tokens": 5}, {"stream_options": {"include_usage": True}}),
        ("perplexity", {"max_tokens": 5}, {}),
        ("cerebras", {"max_completion_tokens": 5}, {"stream_options": {"include_usage": True}}),
        ("ollama", {"max_tokens": 5}, {"stream_options": {"include_usage": True}}),
    ],
)
def test_what_a_request_to_it_holds(name: str, whole: dict[str, object], streamed: dict[str, object]) -> None:
    codec = codec_for(name, (HOSTS | LOCAL_HOSTS)[name])
    request = ChatRequest(model=f"{name}/m", messages=(Message("user", "Hi"),), max_tokens=5)
    asked = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]} | whole
    assert json.loads(codec.encode(request, "m").body) == asked
    assert json.loads(codec.encode(request, "m", stream=True).body) == asked | {"stream": True} | streamed


def test_a_request_to_gemini_has_shapes_of_its_own() -> None:
    codec = codec_for("gemini", HOSTS["gemini"])
    wire = codec.encode(ChatRequest(model="gemini/m", messages=(Message("user", "Hi"),)), "m")
    assert (wire.path, json.loads(wire.body)) == (
        "/models/m:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "Hi"}]}]},
    )


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("azure", "gpt-4.1-mini"),
        ("nebius", "meta-llama/Llama-3.3-70B-Instruct"),
        ("huggingface", "meta-llama/Llama-3.3-70B-Instruct:groq"),
    ],
)
def test_what_others_run_has_a_price_too(provider: str, model: str, prices: PriceTable) -> None:
    assert find_route(f"{provider}/{model}", HOSTS, prices).price.bound_pusd(1000, 1000) > 0


def test_azure_takes_its_key_in_a_header_of_its_own() -> None:
    key = Secret("k")
    assert codec_for("azure", HOSTS["azure"]).session_headers(key) == {"api-key": "k"}
    responses = structs.replace(HOSTS["azure"], wire="openai-responses")
    assert codec_for("azure", responses).session_headers(key) == {"api-key": "k"}
    assert codec_for("openai", HOSTS["openai"]).session_headers(key) == {"Authorization": "Bearer k"}


def test_a_query_stands_behind_every_path() -> None:
    host = ProviderSettings(
        base_url="https://x.example/openai/deployments/d/", query="api-version=2024-10-21"
    )
    address = "https://x.example/openai/deployments/d"
    assert url_of(host, "/chat/completions") == f"{address}/chat/completions?api-version=2024-10-21"
    assert url_of(host, "/m?alt=sse") == f"{address}/m?alt=sse&api-version=2024-10-21"
    assert listing_urls(host) == (f"{address}/models?api-version=2024-10-21",)
    for wrong in ("x", "?a=b", "a=b c", "a=b#", "a=b&"):
        with pytest.raises(msgspec.ValidationError, match="query"):
            msgspec.convert({"base_url": "https://x.example", "query": wrong}, ProviderSettings)
