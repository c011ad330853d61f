"""Lists of models, as hosts give them."""

import json
from typing import Any, get_args, get_type_hints

import pytest
from tests.providers.oracles import needs, official, serving

from greenroom.actors.providers import RejectedAnswer
from greenroom.actors.providers.hosts import HOSTS
from greenroom.actors.providers.listing import PATHS, ListedModel, decode_listing, listing_urls
from greenroom.actors.settings import Capabilities, ProviderSettings

Json = dict[str, Any]


@pytest.mark.parametrize(
    ("entry", "model"),
    [
        (
            {"id": "gpt-5-mini", "object": "model", "created": 1, "owned_by": "openai"},
            ListedModel("gpt-5-mini"),
        ),
        (
            {
                "id": "openai/gpt-oss-20b",
                "active": True,
                "context_window": 131072,
                "max_completion_tokens": 65536,
            },
            ListedModel("openai/gpt-oss-20b", 131072, 65536),
        ),
        (
            {"id": "mistral-small-2501", "max_context_length": 32768, "deprecation": "2026-11-30T12:00:00Z"},
            ListedModel("mistral-small-2501", 32768, retires="2026-11-30"),
        ),
        ({"id": "Qwen/Qwen3-8B", "max_model_len": 40960}, ListedModel("Qwen/Qwen3-8B", 40960)),
        (
            {"id": "x-ai/grok", "name": "xAI: Grok", "context_length": 256000},
            ListedModel("x-ai/grok", 256000),
        ),
        (
            {"id": "gpt-5-mini", "object": "model", "created": 1, "shutdown_date": "2026-12-11"},
            ListedModel("gpt-5-mini", retires="2026-12-11"),
        ),
        ({"id": "gpt-6-sol", "shutdown_date": None}, ListedModel("gpt-6-sol")),
        (
            {
                "id": "claude-opus-5",
                "type": "model",
                "display_name": "Claude Opus 5",
                "created_at": "2026-03-04T00:00:00Z",
                "lifecycle": "deprecated",
                "max_input_tokens": 1000000,
                "max_tokens": 128000,
                "retires_at": "2027-03-04T00:00:00Z",
            },
            ListedModel("claude-opus-5", 1000000, 128000, "2027-03-04"),
        ),
        (
            {"name": "models/gemini-3.8-flash", "inputTokenLimit": 1048576, "outputTokenLimit": 65536},
            ListedModel("gemini-3.8-flash", 1048576, 65536),
        ),
        ({"name": "llama3.2:1b", "model": "llama3.2:1b", "size": 1321098329}, ListedModel("llama3.2:1b")),
        ({"id": "odd", "context_length": "8k", "max_tokens": -1, "deprecation": None}, ListedModel("odd")),
    ],
)
def test_what_hosts_say_of_a_model(entry: Json, model: ListedModel) -> None:
    for body in ({"object": "list", "data": [entry]}, {"models": [entry]}, [entry]):
        assert decode_listing(json.dumps(body).encode()) == (model,)


@pytest.mark.parametrize(
    ("entry", "known"),
    [
        (  # Anthropic
            {
                "type": "model",
                "capabilities": {
                    "batch": {"supported": True},
                    "image_input": {"supported": True},
                    "structured_outputs": {"supported": False},
                    "thinking": {"supported": True, "types": {}},
                    "effort": {"supported": False},
                },
            },
            Capabilities(chat=True, vision=True, json_schema=False, reasoning=True, reasoning_effort=False),
        ),
        (  # Mistral
            {
                "capabilities": {
                    "completion_chat": True,
                    "completion_fim": False,
                    "function_calling": True,
                    "vision": False,
                }
            },
            Capabilities(chat=True, vision=False, tools=True),
        ),
        (  # OpenRouter
            {
                "architecture": {"input_modalities": ["text", "image"], "output_modalities": ["text"]},
                "supported_parameters": ["tools", "temperature", "structured_outputs"],
            },
            Capabilities(chat=True, vision=True, tools=True, json_schema=True, reasoning=False),
        ),
        (
            {"architecture": {"input_modalities": ["text"], "output_modalities": ["image"]}},
            Capabilities(chat=False, vision=False),
        ),
        (  # Hugging Face's router
            {
                "architecture": {"input_modalities": ["text"], "output_modalities": ["text"]},
                "providers": [
                    {"provider": "a", "supports_tools": False, "supports_structured_output": False},
                    {"provider": "b", "supports_tools": True, "supports_structured_output": False},
                ],
            },
            Capabilities(chat=True, vision=False, tools=True, json_schema=False),
        ),
        (  # Gemini
            {"supportedGenerationMethods": ["generateContent", "countTokens"], "thinking": True},
            Capabilities(chat=True, embeddings=False, reasoning=True),
        ),
        ({"supportedGenerationMethods": ["embedContent"]}, Capabilities(chat=False, embeddings=True)),
        ({"type": "embedding"}, Capabilities(chat=False, embeddings=True)),  # Together
        ({"type": "chat"}, Capabilities(chat=True, embeddings=False)),
        (  # Fireworks
            {"supports_chat": True, "supports_image_input": False, "supports_tools": True},
            Capabilities(chat=True, vision=False, tools=True),
        ),
        (  # llama.cpp and Ollama
            {"capabilities": ["completion", "multimodal"]},
            Capabilities(chat=True, vision=True),
        ),
        (
            {"capabilities": ["completion", "tools", "thinking"]},
            Capabilities(chat=True, vision=False, tools=True, reasoning=True),
        ),
        ({"capabilities": ["embedding"]}, Capabilities(chat=False, embeddings=True, vision=False)),
        ({"capabilities": []}, Capabilities()),
        ({"capabilities": 7, "architecture": 7, "providers": 7, "type": 7}, Capabilities()),
        ({"capabilities": {"vision": "yes", "image_input": 7}}, Capabilities(chat=True)),
        ({"architecture": {"input_modalities": 7}, "providers": [7]}, Capabilities()),
    ],
)
def test_what_hosts_say_their_models_can_do(entry: Json, known: Capabilities) -> None:
    (model,) = decode_listing(json.dumps({"data": [{"id": "m", **entry}]}).encode())
    assert model.capabilities == known


def test_limits_behind_a_router_are_those_of_its_largest_host() -> None:
    providers = [{"context_length": 8_192}, {"context_length": 131_072}, {"context_length": None}, {}]
    entry = {"id": "m", "providers": providers, "top_provider": {"max_completion_tokens": 4_096}}
    (model,) = decode_listing(json.dumps({"data": [entry]}).encode())
    assert (model.context_tokens, model.max_output_tokens) == (131_072, 4_096)


@pytest.mark.parametrize("said", ["soon", 7, "", "2026-99-99", {"at": "2026-01-01"}])
def test_what_is_no_date_is_none(said: object) -> None:
    (model,) = decode_listing(json.dumps({"data": [{"id": "m", "deprecation": said}]}).encode())
    assert model.retires is None


def test_what_cannot_be_asked_or_has_no_name_is_left_out() -> None:
    entries = [{"id": "b"}, {"id": "old", "lifecycle": "retired"}, {}, {"id": ""}, {"id": "a"}]
    assert [model.id for model in decode_listing(json.dumps({"data": entries}).encode())] == ["b", "a"]
    assert decode_listing(b'{"data":[]}') == ()
    # llama.cpp tells the same models twice.
    assert decode_listing(b'{"models":[{"name":"x"}],"data":[{"id":"x"}]}') == (ListedModel("x"),)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"{}", b"7", b'{"data":7}', b"[7]", b'{"data":[{"id":"caf\xe9"}]}', b"[" * 100_000],
)
def test_what_is_no_list_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedAnswer):
        decode_listing(body)


def test_every_wire_says_where_its_models_are_listed() -> None:
    assert sorted(PATHS) == sorted(get_args(get_type_hints(ProviderSettings)["wire"]))


def test_amazon_lists_beside_the_host_that_runs() -> None:
    assert listing_urls(HOSTS["bedrock"]) == (
        "https://bedrock.us-east-1.amazonaws.com/foundation-models",
        "https://bedrock.us-east-1.amazonaws.com/inference-profiles?maxResults=1000",
    )
    assert listing_urls(HOSTS["groq"]) == ("https://api.groq.com/openai/v1/models",)


def test_bedrocks_models_are_those_that_answer_by_their_own_name() -> None:
    titan: Json = {
        "modelArn": "arn:aws:bedrock:us-east-1::foundation-model/amazon.titan-embed-text-v2:0",
        "modelId": "amazon.titan-embed-text-v2:0",
        "modelName": "Titan Text Embeddings V2",
        "inputModalities": ["TEXT"],
        "outputModalities": ["EMBEDDING"],
        "inferenceTypesSupported": ["ON_DEMAND"],
        "modelLifecycle": {"status": "LEGACY", "endOfLifeTime": "2027-02-01T00:00:00Z"},
    }
    nova: Json = {
        "modelId": "amazon.nova-pro-v1:0",
        "inputModalities": ["TEXT", "IMAGE"],
        "outputModalities": ["TEXT"],
        "responseStreamingSupported": True,
        "inferenceTypesSupported": ["ON_DEMAND", "PROVISIONED"],
        "modelLifecycle": {"status": "ACTIVE"},
    }
    by_profile: Json = {
        "modelId": "anthropic.claude-opus-5-v1:0",
        "inferenceTypesSupported": ["INFERENCE_PROFILE"],
    }
    assert decode_listing(json.dumps({"modelSummaries": [titan, nova, by_profile]}).encode()) == (
        ListedModel(
            "amazon.titan-embed-text-v2:0",
            retires="2027-02-01",
            capabilities=Capabilities(chat=False, embeddings=True, vision=False),
        ),
        ListedModel(
            "amazon.nova-pro-v1:0",
            capabilities=Capabilities(chat=True, embeddings=False, vision=True),
        ),
    )
    profile = {"inferenceProfileId": "us.anthropic.claude-opus-5-v1:0", "inferenceProfileName": "US Opus"}
    assert decode_listing(json.dumps({"inferenceProfileSummaries": [profile]}).encode()) == (
        ListedModel("us.anthropic.claude-opus-5-v1:0"),
    )


@needs("anthropic")
def test_anthropics_own_client_reads_the_same_of_a_list() -> None:
    yes, no = {"supported": True}, {"supported": False}
    kinds = dict.fromkeys(("adaptive", "between_tools", "disabled", "enabled"), yes)
    model = {
        "type": "model",
        "id": "claude-opus-5",
        "display_name": "Claude Opus 5",
        "created_at": "2026-03-04T00:00:00Z",
        "lifecycle": "deprecated",
        "max_input_tokens": 1_000_000,
        "max_tokens": 128_000,
        "retires_at": "2027-03-04T00:00:00Z",
        "capabilities": {
            "batch": yes,
            "citations": yes,
            "code_execution": yes,
            "context_management": no,
            "effort": {"supported": True, "high": yes, "low": yes, "max": no, "medium": yes},
            "image_input": no,
            "pdf_input": no,
            "server_tools": {"supported": True, "code_execution": yes, "web_search": yes},
            "structured_outputs": yes,
            "thinking": {"supported": True, "types": kinds},
        },
    }
    body = json.dumps({"data": [model], "has_more": False, "first_id": None, "last_id": None}).encode()
    with (
        serving(body, "application/json") as http,
        official("anthropic").Anthropic(api_key="k", http_client=http, max_retries=0) as client,
    ):
        (theirs,) = client.models.list().data
    (ours,) = decode_listing(body)
    can = theirs.capabilities
    assert ours == ListedModel(
        theirs.id,
        theirs.max_input_tokens,
        theirs.max_tokens,
        theirs.retires_at.date().isoformat(),
        Capabilities(
            chat=True,
            vision=can.image_input.supported,
            json_schema=can.structured_outputs.supported,
            reasoning=can.thinking.supported,
            reasoning_effort=can.effort.supported,
        ),
    )


@needs("openai")
def test_openais_own_client_reads_the_same_of_a_list() -> None:
    rows = [
        {"id": "gpt-5-mini", "object": "model", "created": 1, "owned_by": "o", "shutdown_date": "2026-12-11"},
        {"id": "gpt-6-luna", "object": "model", "created": 1, "owned_by": "o", "shutdown_date": None},
    ]
    body = json.dumps({"object": "list", "data": rows}).encode()
    with (
        serving(body, "application/json") as http,
        official("openai").OpenAI(api_key="k", http_client=http, max_retries=0) as client,
    ):
        theirs = client.models.list().data
    assert [(one.id, one.shutdown_date) for one in theirs] == [
        (one.id, one.retires) for one in decode_listing(body)
    ]
