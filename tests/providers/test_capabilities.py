"""What models can do: known by name, refused before anything is sent, or dropped by name."""

import msgspec
import pytest
from msgspec import Raw, structs

from greenroom.actors.events import ProviderFailed
from greenroom.actors.providers import ChatRequest, ImagePart, ImageUrl, Message, TextPart
from greenroom.actors.providers.capabilities import (
    DROPPABLE,
    UNKNOWN,
    capabilities_of,
    configured_model,
    drop_unsupported,
    known_capabilities,
    missing,
    refuse_unsupported,
)
from greenroom.actors.providers.hosts import HOSTS
from greenroom.actors.settings import Capabilities, ModelSettings

PLAIN = ChatRequest(model="acme/m", messages=(Message("user", "hi"),))
IMAGE = structs.replace(
    PLAIN,
    messages=(Message("user", (TextPart("what?"), ImagePart(ImageUrl("https://images.test/a.png")))),),
)
TOOLS = structs.replace(PLAIN, tools=Raw(b'[{"type":"function","function":{"name":"f"}}]'))
SCHEMA = structs.replace(
    PLAIN, response_format=Raw(b'{"type":"json_schema","json_schema":{"name":"x","schema":{}}}')
)
JSON = structs.replace(PLAIN, response_format=Raw(b'{"type":"json_object"}'))
ALL_LACKING = Capabilities(**dict.fromkeys(Capabilities.__struct_fields__, False))


@pytest.mark.parametrize(
    ("provider", "model", "name", "known"),
    [
        ("openai", "gpt-4o-mini", "vision", True),
        ("openai", "gpt-4o-mini", "temperature", None),
        ("openai", "gpt-3.5-turbo", "vision", False),
        ("openai", "ft:gpt-3.5-turbo:acme::id", "vision", False),
        ("openai", "gpt-5-mini", "temperature", False),
        ("openai", "gpt-5-2025-08-07", "temperature", False),
        ("openai", "gpt-5.1", "temperature", None),
        ("openai", "gpt-5-chat-latest", "temperature", None),
        ("openai", "o3", "parallel_tool_calls", False),
        ("openai", "text-embedding-3-small", "chat", False),
        ("openai", "text-embedding-3-small", "embeddings", True),
        ("openai", "gpt-4o-transcribe", "chat", False),
        ("openai", "gpt-99", "vision", None),
        ("groq", "openai/gpt-oss-20b", "vision", False),
        ("groq", "openai/gpt-oss-20b", "tools", True),
        ("ollama", "llama3.1:8b", "vision", False),
        ("ollama", "qwen2.5-vl:7b", "vision", True),
        ("ollama", "llama-3.1-8b-vision", "vision", True),
        ("ollama", "nomic-embed-text", "chat", False),
        ("mistral", "mistral-embed", "chat", False),
        ("bedrock", "cohere.embed-english-v3", "chat", False),
        ("ollama", "embedded-systems-expert", "chat", None),
        ("acme", "my-embedded-llm", "chat", None),
        ("anthropic", "claude-opus-5", "json_schema", True),
        ("anthropic", "claude-sonnet-4-20250514", "json_schema", None),
        ("gemini", "gemini-3.5-flash-lite", "vision", True),
        ("gemini", "gemini-2.5-flash-image", "chat", False),
        ("perplexity", "sonar", "tools", False),
        ("xai", "grok-4-0709", "penalties", False),
        ("acme", "gpt-4o", "vision", None),
    ],
)
def test_what_the_table_says(provider: str, model: str, name: str, *, known: bool | None) -> None:
    assert getattr(known_capabilities(provider, model), name) is known


def test_a_wire_may_know_more_of_a_model() -> None:
    chat, responses = HOSTS["openai"], structs.replace(HOSTS["openai"], wire="openai-responses")
    assert capabilities_of("openai", "gpt-6-sol", chat).tools is None
    assert capabilities_of("openai", "gpt-6-sol", responses).tools is True
    assert capabilities_of("openai", "o3-pro", chat).chat is False
    assert capabilities_of("openai", "o3-pro", responses).chat is True
    assert capabilities_of("openai", "gpt-5-mini", responses).temperature is False


@pytest.mark.parametrize("provider", [name for name in HOSTS if HOSTS[name].default_model])
def test_nobodys_default_model_is_said_not_to_chat(provider: str) -> None:
    assert known_capabilities(provider, str(HOSTS[provider].default_model)).chat is not False


def test_the_list_wins_over_the_table_and_the_configuration_over_both() -> None:
    listed = Capabilities(vision=True, tools=True)
    own = ModelSettings(tools=False, quality=80)
    groq = structs.replace(HOSTS["groq"], models={"openai/gpt-oss-20b": own})
    found = capabilities_of("groq", "openai/gpt-oss-20b", groq, listed)
    assert (found.vision, found.tools, found.reasoning) == (True, False, True)
    assert capabilities_of("acme", "m", HOSTS["groq"]) == UNKNOWN
    models = {"m": own, "*": ModelSettings(vision=False)}
    assert configured_model(models, "m") is own
    assert configured_model(models, "other") is models["*"]
    assert configured_model({}, "m") is None


@pytest.mark.parametrize(
    ("capability", "asked", "param"),
    [
        ("vision", IMAGE, "image_url"),
        ("tools", TOOLS, "tools"),
        ("json_schema", SCHEMA, "response_format"),
        ("json_object", JSON, "response_format"),
        ("temperature", structs.replace(PLAIN, temperature=0.2), "temperature"),
        ("temperature", structs.replace(PLAIN, top_p=0.2), "top_p"),
        ("penalties", structs.replace(PLAIN, presence_penalty=0.5), "presence_penalty"),
        ("penalties", structs.replace(PLAIN, frequency_penalty=0.5), "frequency_penalty"),
        ("logprobs", structs.replace(PLAIN, logprobs=True), "logprobs"),
        ("logprobs", structs.replace(PLAIN, top_logprobs=2), "top_logprobs"),
        ("seed", structs.replace(PLAIN, seed=0), "seed"),
        ("stop", structs.replace(PLAIN, stop="x"), "stop"),
        ("reasoning_effort", structs.replace(PLAIN, reasoning_effort="low"), "reasoning_effort"),
        ("parallel_tool_calls", structs.replace(TOOLS, parallel_tool_calls=False), "parallel_tool_calls"),
    ],
)
def test_what_a_model_lacks_is_refused_by_name_or_dropped(
    capability: str, asked: ChatRequest, param: str
) -> None:
    lacks = missing(Capabilities(**{capability: False}))
    assert lacks == (capability,)
    with pytest.raises(ProviderFailed) as refused:
        refuse_unsupported(asked, lacks, "acme", "m")
    error = refused.value.error
    assert (error.kind, error.param, error.provider, error.model) == (
        "unsupported_capability",
        param,
        "acme",
        "m",
    )
    left, dropped = drop_unsupported(asked, lacks, "acme", "m")
    if param in DROPPABLE:
        assert 'unsupported="drop"' in error.message
        assert dropped == (param,)
        assert getattr(left, param) is None
        refuse_unsupported(left, lacks, "acme", "m")
        assert structs.replace(left, **{param: getattr(asked, param)}) == asked
    else:
        assert "AUTO" in error.message
        assert (left, dropped) == (asked, ())
    refuse_unsupported(asked, missing(UNKNOWN), "acme", "m")
    refuse_unsupported(PLAIN, lacks, "acme", "m")


@pytest.mark.parametrize(
    "asked",
    [
        {"temperature": 1},
        {"top_p": 1.0},
        {"presence_penalty": 0.0},
        {"frequency_penalty": 0},
        {"logprobs": False},
        {"top_logprobs": 0},
        {"parallel_tool_calls": True},
        {"stop": ()},
        {"tools": Raw(b"[]")},
        {"response_format": Raw(b'{"type":"text"}')},
        {"max_tokens": 5},
    ],
)
def test_what_makes_no_difference_is_let_through(asked: dict[str, object]) -> None:
    request = msgspec.structs.replace(PLAIN, **asked)
    refuse_unsupported(request, missing(ALL_LACKING), "acme", "m")
    assert drop_unsupported(request, missing(ALL_LACKING), "acme", "m") == (request, ())


def test_a_model_of_vectors_is_not_chatted_with_and_others_may_be() -> None:
    with pytest.raises(
        ProviderFailed, match="model: v makes vectors, and answers nothing; ask a model that chats"
    ):
        refuse_unsupported(PLAIN, missing(Capabilities(chat=False, embeddings=True)), "acme", "v")
    refuse_unsupported(PLAIN, missing(Capabilities(chat=False)), "acme", "picture-maker")


def test_several_are_dropped_at_once_and_the_rest_is_kept() -> None:
    asked = structs.replace(
        PLAIN, temperature=0.5, seed=7, stop="x", max_tokens=9, extra={"top_k": Raw(b"5")}
    )
    lacks = missing(Capabilities(temperature=False, stop=False))
    left, dropped = drop_unsupported(asked, lacks, "acme", "m")
    assert dropped == ("temperature", "stop")
    assert left == structs.replace(asked, temperature=None, stop=None)


def test_nothing_that_the_question_consists_of_may_be_dropped() -> None:
    assert not DROPPABLE & {"model", "messages", "max_tokens", "tools", "tool_choice", "response_format"}
    assert set(ChatRequest.__struct_fields__) >= DROPPABLE
