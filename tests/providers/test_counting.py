"""How each wire is asked for the tokens of a request, and what is read from its answer."""

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.providers.asking import IMAGE, LOOKED, QUESTION, Json, raw, schema_format, tool
from tests.providers.oracles import assert_taken, needs, official

from greenroom.actors.providers import (
    AnthropicMessages,
    BedrockConverse,
    ChatRequest,
    Gemini,
    ImagePart,
    ImageUrl,
    Message,
    Ollama,
    OpenAIChat,
    OpenAIResponses,
    RejectedAnswer,
    TextPart,
)
from greenroom.actors.providers.counting import TokenCounter, estimate_tokens, token_counter
from greenroom.actors.providers.hosts import HOSTS
from greenroom.actors.providers.wires import codec_for

COUNTERS: dict[str, TokenCounter] = {
    "anthropic": AnthropicMessages("p"),
    "bedrock": BedrockConverse("p"),
    "gemini": Gemini("p"),
    "responses": OpenAIResponses("p"),
}
EVERYTHING = ChatRequest(
    model="p/m",
    messages=(*LOOKED, Message("user", (TextPart("And this?"), IMAGE))),
    tools=raw([tool()]),
    tool_choice=raw("auto"),
    response_format=schema_format(),
    reasoning_effort="low",
    max_tokens=77,
    temperature=0.5,
    top_p=0.5,
    stop=("x",),
    seed=1,
    presence_penalty=0.1,
    frequency_penalty=0.1,
    user="u",
    logprobs=True,
    top_logprobs=2,
    extra={"n": Raw(b"3"), "service_tier": Raw(b'"flex"')},
)


def asked(name: str, request: ChatRequest = EVERYTHING, model: str = "m") -> tuple[str, Json]:
    wire = COUNTERS[name].encode_count(request, model)
    assert wire.method == "POST"
    body: Json = json.loads(wire.body)
    return wire.path, body


@pytest.mark.parametrize(
    ("name", "path", "fields"),
    [
        (
            "anthropic",
            "/messages/count_tokens",
            {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config"},
        ),
        (
            "responses",
            "/responses/input_tokens",
            {"model", "input", "instructions", "tools", "tool_choice", "text", "reasoning"},
        ),
    ],
)
def test_what_shapes_the_answer_alone_is_left_out(name: str, path: str, fields: set[str]) -> None:
    found, body = asked(name)
    assert (found, set(body)) == (path, fields)


def test_gemini_is_asked_for_a_whole_request() -> None:
    path, body = asked("gemini")
    assert path == "/models/m:countTokens"
    whole = body["generateContentRequest"]
    assert whole["model"] == "models/m"
    assert {"contents", "systemInstruction", "tools", "toolConfig"} <= set(whole)
    assert asked("gemini", model="tunedModels/t")[1]["generateContentRequest"]["model"] == "tunedModels/t"


def test_bedrock_is_asked_by_the_model_and_not_by_its_profile() -> None:
    for model, path in (
        ("anthropic.claude-opus-5-v1:0", "/model/anthropic.claude-opus-5-v1%3A0/count-tokens"),
        ("eu.anthropic.claude-opus-5-v1:0", "/model/anthropic.claude-opus-5-v1%3A0/count-tokens"),
        ("global.x.y", "/model/x.y/count-tokens"),
        ("arn:aws:bedrock:eu-west-1::m/x", "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A%3Am%2Fx/count-tokens"),
    ):
        found, body = asked("bedrock", model=model)
        assert found == path
        assert set(body["input"]["converse"]) == {"messages", "system", "toolConfig"}


def test_a_host_of_chat_completions_counts_where_its_row_says_so() -> None:
    openai = codec_for("openai", HOSTS["openai"])
    counter = token_counter(openai)
    assert counter is not None
    assert counter.encode_count(EVERYTHING, "m") == COUNTERS["responses"].encode_count(EVERYTHING, "m")
    assert token_counter(codec_for("groq", HOSTS["groq"])) is None
    assert token_counter(Ollama("ollama")) is None


@pytest.mark.parametrize(
    "body",
    [b'{"input_tokens":14}', b'{"inputTokens":14,"x":1}', b'{"totalTokens":14}', b'{"input_tokens":0}'],
)
@pytest.mark.parametrize("name", COUNTERS)
def test_the_number_is_read(name: str, body: bytes) -> None:
    assert COUNTERS[name].decode_count(body).input_tokens == (0 if b":0" in body else 14)


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"input_tokens":-1}', b'{"input_tokens":"14"}', b"\xff", b"[" * 5000],
)
def test_what_is_no_number_is_rejected(body: bytes) -> None:
    for counter in COUNTERS.values():
        with pytest.raises(RejectedAnswer):
            counter.decode_count(body)


def test_an_estimate_goes_by_the_bytes_of_the_text_and_by_the_pictures() -> None:
    plain = ChatRequest(model="p/m", messages=QUESTION)
    assert estimate_tokens(plain, b"x" * 41) == 11
    picture = ImagePart(ImageUrl("data:image/png;base64," + "A" * 100_000))
    request = ChatRequest(model="p/m", messages=(Message("user", (TextPart("x"), picture)),))
    body = OpenAIChat("p").encode(request, "m").body
    assert 1_000 < estimate_tokens(request, body) < 1_100


ORACLES: list[Any] = [
    pytest.param(
        "anthropic",
        "anthropic.types.message_count_tokens_params",
        "MessageCountTokensParams",
        marks=needs("anthropic"),
        id="anthropic",
    ),
    pytest.param(
        "responses",
        "openai.types.responses.input_token_count_params",
        "InputTokenCountParams",
        marks=needs("openai"),
        id="openai",
    ),
]


@pytest.mark.parametrize(("name", "module", "kind"), ORACLES)
def test_the_official_types_take_the_request(name: str, module: str, kind: str) -> None:
    assert_taken(module, kind, asked(name)[1])


@needs("botocore")
def test_botocores_own_model_takes_the_request() -> None:
    model = official("botocore.session").get_session().get_service_model("bedrock-runtime")
    shape = model.operation_model("CountTokens").input_shape
    report = (
        official("botocore.validate").ParamValidator().validate({"modelId": "m"} | asked("bedrock")[1], shape)
    )
    assert not report.has_errors(), report.generate_report()
