"""What a request looks like on Bedrock's Converse wire. The expected JSON is written out by hand, after its reference."""

import base64
import json
from typing import Any

import pytest
from msgspec import Raw
from tests.providers.asking import (
    IMAGE,
    IMAGE_BY_URL,
    LOOKED,
    PARAMETERS,
    PIXEL,
    QUESTION,
    SCHEMA,
    body_of,
    raw,
    refusal,
    schema_format,
    tool,
)
from tests.providers.oracles import needs, official

from greenroom.actors.events import ReasoningState
from greenroom.actors.providers import BedrockConverse, ChatRequest, ImagePart, ImageUrl, Message, TextPart
from greenroom.actors.settings import Secret

Json = dict[str, Any]
CODEC = BedrockConverse("bedrock")
BARE: Json = {"messages": [{"role": "user", "content": [{"text": "Why?"}]}]}
TOOLS: Json = {"tools": [{"toolSpec": {"name": "weather", "inputSchema": {"json": PARAMETERS}}}]}

OPTIONS: list[tuple[Json, Json]] = [
    ({}, {}),
    ({"max_tokens": 7}, {"inferenceConfig": {"maxTokens": 7}}),
    ({"temperature": 0.0, "top_p": 0.5}, {"inferenceConfig": {"temperature": 0.0, "topP": 0.5}}),
    ({"stop": "END"}, {"inferenceConfig": {"stopSequences": ["END"]}}),
    ({"presence_penalty": 0.0, "logprobs": False}, {}),
    ({"reasoning_effort": "high"}, {"outputConfig": {"effort": "high"}}),
    ({"tools": raw([tool()])}, {"toolConfig": TOOLS}),
    (
        {
            "tools": raw(
                [{"type": "function", "function": {"name": "now", "description": "Tells.", "strict": True}}]
            )
        },
        {
            "toolConfig": {
                "tools": [
                    {
                        "toolSpec": {
                            "name": "now",
                            "inputSchema": {"json": {"type": "object", "properties": {}}},
                            "description": "Tells.",
                            "strict": True,
                        }
                    }
                ]
            }
        },
    ),
    (
        {"tools": raw([tool()]), "tool_choice": raw("auto")},
        {"toolConfig": TOOLS | {"toolChoice": {"auto": {}}}},
    ),
    (
        {"tools": raw([tool()]), "tool_choice": raw("required")},
        {"toolConfig": TOOLS | {"toolChoice": {"any": {}}}},
    ),
    (
        {"tools": raw([tool()]), "tool_choice": raw({"type": "function", "function": {"name": "weather"}})},
        {"toolConfig": TOOLS | {"toolChoice": {"tool": {"name": "weather"}}}},
    ),
    (
        {"extra": {"additionalModelRequestFields": raw({"top_k": 40})}},
        {"additionalModelRequestFields": {"top_k": 40}},
    ),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS)
def test_each_option_has_its_place(options: Json, expected: Json) -> None:
    assert body_of(CODEC, ChatRequest(model="p/m", messages=QUESTION, **options)) == BARE | expected


def test_a_schema_travels_as_text() -> None:
    request = ChatRequest(model="p/m", messages=QUESTION, response_format=schema_format())
    form = body_of(CODEC, request)["outputConfig"]["textFormat"]
    assert (form["type"], form["structure"]["jsonSchema"]["name"]) == ("json_schema", "answer")
    assert json.loads(form["structure"]["jsonSchema"]["schema"]) == SCHEMA


@pytest.mark.parametrize(
    ("kind", "param", "options"),
    [
        ("unsupported_capability", "seed", {"seed": 0}),
        ("unsupported_capability", "presence_penalty", {"presence_penalty": 0.5}),
        ("unsupported_capability", "frequency_penalty", {"frequency_penalty": 0.5}),
        ("unsupported_capability", "logprobs", {"logprobs": True}),
        ("unsupported_capability", "top_logprobs", {"top_logprobs": 3}),
        ("unsupported_capability", "user", {"user": "u-1"}),
        ("unsupported_capability", "reasoning_effort", {"reasoning_effort": "none"}),
        ("unsupported_capability", "response_format", {"response_format": raw({"type": "json_object"})}),
        ("unsupported_capability", "tool_choice", {"tools": raw([tool()]), "tool_choice": raw("none")}),
        (
            "unsupported_capability",
            "parallel_tool_calls",
            {"tools": raw([tool()]), "parallel_tool_calls": False},
        ),
        ("unsupported_capability", "image_url", {"messages": (Message("user", (IMAGE_BY_URL,)),)}),
        (
            "unsupported_capability",
            "image_url",
            {"messages": (Message("user", (ImagePart(ImageUrl("data:image/tiff;base64,AA==")),)),)},
        ),
        ("unsupported_capability", "name", {"messages": (Message("user", "hi", name="ann"),)}),
        ("unsupported_capability", "n", {"extra": {"n": Raw(b"2")}}),
        ("invalid_request", "messages", {"messages": (Message("tool", "42"),)}),
        ("invalid_request", "inferenceConfig", {"max_tokens": 1, "extra": {"inferenceConfig": Raw(b"{}")}}),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(kind: str, param: str, options: Json) -> None:
    assert refusal(CODEC, **options) == (kind, param)


def test_a_conversation_with_parallel_tools_alternates() -> None:
    body = body_of(CODEC, ChatRequest(model="p/m", messages=LOOKED))
    assert body["system"] == [{"text": "Be short."}]
    assert body["messages"] == [
        {"role": "user", "content": [{"text": "How warm is it "}, {"text": "in Oslo and in Rome?"}]},
        {
            "role": "assistant",
            "content": [
                {"text": "I look."},
                {"toolUse": {"toolUseId": "call_1", "name": "weather", "input": {"city": "Oslo"}}},
                {"toolUse": {"toolUseId": "call_2", "name": "weather", "input": {}}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"toolResult": {"toolUseId": "call_1", "content": [{"text": "-3"}]}},
                {"toolResult": {"toolUseId": "call_2", "content": [{"text": "17"}]}},
                {"text": "And now?"},
            ],
        },
    ]


def test_images_travel_as_bytes() -> None:
    message = Message("user", (TextPart("What is it?"), IMAGE))
    (sent,) = body_of(CODEC, ChatRequest(model="p/m", messages=(message,)))["messages"]
    assert sent["content"] == [
        {"text": "What is it?"},
        {"image": {"format": "png", "source": {"bytes": PIXEL}}},
    ]
    assert base64.b64decode(PIXEL).startswith(b"\x89PNG")


def test_thoughts_go_back_as_they_came_and_to_nobody_else() -> None:
    thoughts = b'[{"reasoningContent":{"reasoningText":{"text":"hm","signature":"s"}}}]'
    for wire, keys in (("bedrock-converse", ["reasoningContent", "text"]), ("gemini", ["text"])):
        message = Message("assistant", "4", reasoning_state=ReasoningState(wire, Raw(thoughts)))
        (sent,) = body_of(CODEC, ChatRequest(model="p/m", messages=(message,)))["messages"]
        assert [key for block in sent["content"] for key in block] == keys


def test_paths_and_headers() -> None:
    request = ChatRequest(model="p/m", messages=QUESTION)
    whole = CODEC.encode(request, "anthropic.claude-haiku-4-5-20251001-v1:0")
    assert whole.path == "/model/anthropic.claude-haiku-4-5-20251001-v1%3A0/converse"
    arn = CODEC.encode(request, "arn:aws:bedrock:eu-west-1:1:inference-profile/x", stream=True)
    assert arn.path == "/model/arn%3Aaws%3Abedrock%3Aeu-west-1%3A1%3Ainference-profile%2Fx/converse-stream"
    assert arn.headers == {"Accept": "application/vnd.amazon.eventstream"}
    assert CODEC.session_headers(Secret("k")) == {"Authorization": "Bearer k"}
    assert CODEC.session_headers(None) == {}


@needs("botocore")
def test_botocores_own_model_takes_every_body() -> None:
    session = official("botocore.session").get_session()
    model = session.get_service_model("bedrock-runtime")
    shape = model.operation_model("Converse").input_shape
    validator = official("botocore.validate").ParamValidator()
    requests = [ChatRequest(model="m", messages=QUESTION, **options) for options, _ in OPTIONS]
    requests += [ChatRequest(model="m", messages=m) for m in (LOOKED, (Message("user", (IMAGE,)),))]
    requests.append(ChatRequest(model="m", messages=QUESTION, response_format=schema_format()))
    for request in requests:
        report = validator.validate({"modelId": "m"} | body_of(CODEC, request), shape)
        assert not report.has_errors(), report.generate_report()
