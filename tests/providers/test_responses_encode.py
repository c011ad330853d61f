"""What a request looks like on OpenAI's Responses wire. The expected JSON is written out by hand, after its reference."""

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
from tests.providers.oracles import assert_taken, needs

from greenroom.actors.events import ReasoningState
from greenroom.actors.providers import (
    ChatRequest,
    ImagePart,
    ImageUrl,
    Message,
    OpenAIResponses,
    RefusalPart,
    TextPart,
)
from greenroom.actors.settings import Secret

Json = dict[str, Any]
CODEC = OpenAIResponses("openai")
BARE: Json = {"model": "upstream-name", "input": [{"role": "user", "content": "Why?"}], "store": False}
TOOL = {"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": False}

OPTIONS: list[tuple[Json, Json]] = [
    ({}, {}),
    ({"max_tokens": 70}, {"max_output_tokens": 70}),
    ({"temperature": 0.0, "top_p": 0.5}, {"temperature": 0.0, "top_p": 0.5}),
    ({"presence_penalty": 0.0, "frequency_penalty": 0.0}, {}),
    ({"logprobs": True, "top_logprobs": 3}, {"include": ["message.output_text.logprobs"], "top_logprobs": 3}),
    ({"logprobs": False, "top_logprobs": 0}, {}),
    ({"reasoning_effort": "minimal"}, {"reasoning": {"effort": "minimal"}}),
    ({"user": "u-1"}, {"user": "u-1"}),
    ({"response_format": raw({"type": "text"})}, {}),
    ({"response_format": raw({"type": "json_object"})}, {"text": {"format": {"type": "json_object"}}}),
    (
        {"response_format": schema_format(strict=True, description="One number.")},
        {
            "text": {
                "format": {
                    "type": "json_schema",
                    "name": "answer",
                    "schema": SCHEMA,
                    "description": "One number.",
                    "strict": True,
                }
            }
        },
    ),
    ({"tools": raw([tool()])}, {"tools": [TOOL]}),
    (
        {
            "tools": raw(
                [tool(strict=True, description="Looks."), {"type": "function", "function": {"name": "now"}}]
            )
        },
        {
            "tools": [
                TOOL | {"strict": True, "description": "Looks."},
                {"type": "function", "name": "now", "parameters": None, "strict": False},
            ]
        },
    ),
    ({"tools": raw([tool()]), "tool_choice": raw("required")}, {"tools": [TOOL], "tool_choice": "required"}),
    (
        {"tools": raw([tool()]), "tool_choice": raw({"type": "function", "function": {"name": "weather"}})},
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "weather"}},
    ),
    ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
    ({"extra": {"store": Raw(b"true"), "truncation": raw("auto")}}, {"store": True, "truncation": "auto"}),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS)
def test_each_option_has_its_place(options: Json, expected: Json) -> None:
    assert body_of(CODEC, ChatRequest(model="p/m", messages=QUESTION, **options)) == BARE | expected


@pytest.mark.parametrize(
    ("kind", "param", "options"),
    [
        ("unsupported_capability", "stop", {"stop": "END"}),
        ("unsupported_capability", "seed", {"seed": 0}),
        ("unsupported_capability", "presence_penalty", {"presence_penalty": 0.5}),
        ("unsupported_capability", "frequency_penalty", {"frequency_penalty": 0.5}),
        ("unsupported_capability", "n", {"extra": {"n": Raw(b"2")}}),
        ("unsupported_capability", "name", {"messages": (Message("user", "hi", name="ann"),)}),
        ("unsupported_capability", "messages", {"messages": (Message("assistant", (IMAGE,)),)}),
        ("invalid_request", "messages", {"messages": (Message("tool", "42"),)}),
        ("invalid_request", "tools", {"tools": raw([{"type": "web_search"}])}),
        (
            "invalid_request",
            "reasoning",
            {"reasoning_effort": "low", "extra": {"reasoning": raw({"summary": "auto"})}},
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(kind: str, param: str, options: Json) -> None:
    assert refusal(CODEC, **options) == (kind, param)


def test_a_conversation_with_parallel_tools() -> None:
    body = body_of(CODEC, ChatRequest(model="p/m", messages=LOOKED))
    assert body["instructions"] == "Be short."
    assert body["input"] == [
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "How warm is it "},
                {"type": "input_text", "text": "in Oslo and in Rome?"},
            ],
        },
        {"role": "assistant", "content": "I look."},
        {"type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'},
        {"type": "function_call", "call_id": "call_2", "name": "weather", "arguments": ""},
        {"type": "function_call_output", "call_id": "call_1", "output": "-3"},
        {"type": "function_call_output", "call_id": "call_2", "output": "17"},
        {"role": "user", "content": "And now?"},
    ]


def test_system_messages_further_down_stay_there() -> None:
    messages = (
        Message("system", "A"),
        Message("developer", "B"),
        Message("user", "1"),
        Message("developer", (TextPart("C"),)),
        Message("assistant", (RefusalPart("No."),)),
    )
    body = body_of(CODEC, ChatRequest(model="p/m", messages=messages))
    assert body["instructions"] == "A\n\nB"
    assert body["input"] == [
        {"role": "user", "content": "1"},
        {"role": "developer", "content": "C"},
        {"role": "assistant", "content": "No."},
    ]


def test_images_by_bytes_and_by_url() -> None:
    detailed = ImagePart(ImageUrl("https://h.example/y.png", "low"))
    message = Message("user", (IMAGE, IMAGE_BY_URL, detailed))
    (item,) = body_of(CODEC, ChatRequest(model="p/m", messages=(message,)))["input"]
    assert item["content"] == [
        {"type": "input_image", "image_url": f"data:image/png;base64,{PIXEL}", "detail": "auto"},
        {"type": "input_image", "image_url": "https://h.example/x.png", "detail": "auto"},
        {"type": "input_image", "image_url": "https://h.example/y.png", "detail": "low"},
    ]


def test_reasoning_goes_back_as_it_came_and_to_nobody_else() -> None:
    items = b'[{"id":"rs_1","type":"reasoning","summary":[],"encrypted_content":"gAAA"}]'
    for wire, sent in (("openai-responses", True), ("gemini", False)):
        message = Message("assistant", "4", reasoning_state=ReasoningState(wire, Raw(items)))
        body = CODEC.encode(ChatRequest(model="p/m", messages=(*QUESTION, message)), "m").body
        assert (b'{"role":"user","content":"Why?"},%s,' % items[1:-1] in body) is sent


def test_paths_and_headers() -> None:
    request = ChatRequest(model="p/m", messages=QUESTION)
    assert CODEC.encode(request, "m").path == "/responses"
    assert CODEC.encode(request, "m", stream=True).headers == {"Accept": "text/event-stream"}
    assert body_of(CODEC, request, stream=True) == BARE | {"stream": True}
    assert CODEC.session_headers(Secret("k")) == {"Authorization": "Bearer k"}
    assert CODEC.session_headers(None) == {}


@needs("openai")
def test_the_official_clients_types_take_every_body() -> None:
    params = ("openai.types.responses.response_create_params", "ResponseCreateParamsNonStreaming")
    for options, _ in OPTIONS:
        assert_taken(*params, body_of(CODEC, ChatRequest(model="m", messages=QUESTION, **options)))
    for messages in (LOOKED, (Message("user", (TextPart("a"), IMAGE, IMAGE_BY_URL)),)):
        assert_taken(*params, body_of(CODEC, ChatRequest(model="m", messages=messages)))
