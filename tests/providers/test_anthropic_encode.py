"""What a request looks like on Anthropic's wire, both generations of it. The expected JSON is written out by hand."""

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
    AnthropicMessages,
    ChatRequest,
    FunctionCall,
    ImagePart,
    ImageUrl,
    Message,
    RefusalPart,
    RequestedTool,
    TextPart,
)
from greenroom.actors.settings import Secret

Json = dict[str, Any]
CODEC = AnthropicMessages("anthropic")
OLD = AnthropicMessages("anthropic", "2023-06-01")
BARE = {
    "model": "upstream-name",
    "max_tokens": 4096,
    "messages": [{"role": "user", "content": "Why?"}],
}
TOOL = {"name": "weather", "input_schema": PARAMETERS}

OPTIONS: list[tuple[Json, Json]] = [
    ({}, {}),
    ({"max_tokens": 7}, {"max_tokens": 7}),
    ({"stop": "END"}, {"stop_sequences": ["END"]}),
    ({"stop": ("a", "b")}, {"stop_sequences": ["a", "b"]}),
    ({"user": "u-1"}, {"metadata": {"user_id": "u-1"}}),
    ({"presence_penalty": 0.0, "frequency_penalty": 0.0, "logprobs": False, "top_logprobs": 0}, {}),
    ({"parallel_tool_calls": False}, {}),
    (
        {"reasoning_effort": "high"},
        {"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}},
    ),
    ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
    # The cache's hint for the whole request, which Anthropic puts at the last block that can be kept.
    (
        {"extra": {"cache_control": raw({"type": "ephemeral", "ttl": "1h"})}},
        {"cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ),
    (
        {"reasoning_effort": "low", "extra": {"thinking": raw({"type": "enabled", "budget_tokens": 2000})}},
        {"thinking": {"type": "enabled", "budget_tokens": 2000}, "output_config": {"effort": "low"}},
    ),
    ({"response_format": raw({"type": "text"})}, {}),
    ({"response_format": Raw(b"null")}, {}),
    (
        {"response_format": schema_format(strict=True)},
        {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
    ),
    ({"tools": Raw(b"[]")}, {}),
    ({"tools": Raw(b"null"), "tool_choice": Raw(b'"auto"')}, {}),
    ({"tools": raw([tool()])}, {"tools": [TOOL]}),
    (
        {
            "tools": raw(
                [tool(description="Looks.", strict=True), {"type": "function", "function": {"name": "now"}}]
            )
        },
        {
            "tools": [
                TOOL | {"description": "Looks.", "strict": True},
                {"name": "now", "input_schema": {"type": "object", "properties": {}}},
            ]
        },
    ),
    (
        {"tools": raw([tool()]), "tool_choice": Raw(b'"auto"')},
        {"tools": [TOOL], "tool_choice": {"type": "auto"}},
    ),
    (
        {"tools": raw([tool()]), "tool_choice": Raw(b'"required"')},
        {"tools": [TOOL], "tool_choice": {"type": "any"}},
    ),
    (
        {"tools": raw([tool()]), "tool_choice": Raw(b'"none"'), "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "none"}},
    ),
    (
        {
            "tools": raw([tool()]),
            "tool_choice": raw({"type": "function", "function": {"name": "weather"}}),
            "parallel_tool_calls": False,
        },
        {
            "tools": [TOOL],
            "tool_choice": {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        },
    ),
    (
        {"tools": raw([tool()]), "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}},
    ),
    ({"tools": raw([tool()]), "parallel_tool_calls": True}, {"tools": [TOOL]}),
    (
        {"extra": {"service_tier": Raw(b'"auto"'), "stream": Raw(b"true"), "n": Raw(b"1")}},
        {"service_tier": "auto"},
    ),
]
ONLY_OLD: list[tuple[Json, Json]] = [
    ({"temperature": 0.0}, {"temperature": 0.0}),
    ({"top_p": 0.5}, {"top_p": 0.5}),
    ({"extra": {"top_k": Raw(b"40")}}, {"top_k": 40}),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS)
@pytest.mark.parametrize("codec", [CODEC, OLD], ids=["new", "old"])
def test_each_option_has_its_place(codec: AnthropicMessages, options: Json, expected: Json) -> None:
    assert body_of(codec, ChatRequest(model="p/m", messages=QUESTION, **options)) == BARE | expected


@pytest.mark.parametrize(("options", "expected"), ONLY_OLD)
def test_what_the_new_generation_rejects_is_refused_by_name(options: Json, expected: Json) -> None:
    assert body_of(OLD, ChatRequest(model="p/m", messages=QUESTION, **options)) == BARE | expected
    (name,) = expected
    assert refusal(CODEC, **options) == ("unsupported_capability", name)


@pytest.mark.parametrize(
    ("param", "options"),
    [
        ("seed", {"seed": 0}),
        ("presence_penalty", {"presence_penalty": 0.5}),
        ("frequency_penalty", {"frequency_penalty": -0.5}),
        ("logprobs", {"logprobs": True}),
        ("top_logprobs", {"top_logprobs": 3}),
        ("reasoning_effort", {"reasoning_effort": "minimal"}),
        ("response_format", {"response_format": raw({"type": "json_object"})}),
        ("n", {"extra": {"n": Raw(b"2")}}),
        ("name", {"messages": (Message("user", "hi", name="ann"),)}),
        ("detail", {"messages": (Message("user", (ImagePart(ImageUrl(IMAGE.image_url.url, "low")),)),)}),
        ("messages", {"messages": (Message("system", (IMAGE,)), *QUESTION)}),
    ],
)
@pytest.mark.parametrize("codec", [CODEC, OLD], ids=["new", "old"])
def test_what_the_wire_cannot_express_is_refused_by_name(
    codec: AnthropicMessages, param: str, options: Json
) -> None:
    assert refusal(codec, **options) == ("unsupported_capability", param)


@pytest.mark.parametrize(
    ("param", "options"),
    [
        ("tools", {"tools": raw([{"type": "web_search"}])}),
        ("tools", {"tools": raw({"a": 1})}),
        ("tool_choice", {"tools": raw([tool()]), "tool_choice": raw("sometimes")}),
        ("response_format", {"response_format": raw({"type": "xml"})}),
        ("response_format", {"response_format": raw({"type": "json_schema", "json_schema": {}})}),
        ("image_url", {"messages": (Message("user", (ImagePart(ImageUrl("file:///etc/passwd")),)),)}),
        ("image_url", {"messages": (Message("user", (ImagePart(ImageUrl("data:image/png,AA")),)),)}),
        ("messages", {"messages": (Message("tool", "42"),)}),
        (
            "messages",
            {"messages": (Message("assistant", tool_calls=(RequestedTool("c", FunctionCall("f", "[1]")),)),)},
        ),
        (
            "messages",
            {"messages": (Message("assistant", tool_calls=(RequestedTool("c", FunctionCall("f", "{a")),)),)},
        ),
        ("metadata", {"user": "u", "extra": {"metadata": Raw(b"{}")}}),
        (
            "reasoning_state",
            {
                "messages": (
                    Message(
                        "assistant", "x", reasoning_state=ReasoningState("anthropic-messages", Raw(b"7"))
                    ),
                )
            },
        ),
    ],
)
def test_what_is_wrong_is_refused_with_its_name(param: str, options: Json) -> None:
    assert refusal(CODEC, **options) == ("invalid_request", param)


def test_a_conversation_with_parallel_tools() -> None:
    body = body_of(CODEC, ChatRequest(model="p/m", messages=LOOKED))
    assert body["system"] == "Be short."
    assert body["messages"] == [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "How warm is it "},
                {"type": "text", "text": "in Oslo and in Rome?"},
            ],
        },
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "I look."},
                {"type": "tool_use", "id": "call_1", "name": "weather", "input": {"city": "Oslo"}},
                {"type": "tool_use", "id": "call_2", "name": "weather", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "call_1", "content": "-3"},
                {"type": "tool_result", "tool_use_id": "call_2", "content": "17"},
            ],
        },
        {"role": "user", "content": "And now?"},
    ]


def test_results_of_two_rounds_stay_apart() -> None:
    call = Message("assistant", tool_calls=(RequestedTool("c", FunctionCall("f", "{}")),))
    result = Message("tool", (TextPart("42"), IMAGE), tool_call_id="c")
    turns = body_of(CODEC, ChatRequest(model="p/m", messages=(*QUESTION, call, result, call, result)))[
        "messages"
    ]
    assert [turn["role"] for turn in turns] == ["user", "assistant", "user", "assistant", "user"]
    assert [len(turn["content"]) for turn in turns[1:]] == [1, 1, 1, 1]
    assert [part["type"] for part in turns[2]["content"][0]["content"]] == ["text", "image"]


def test_images_by_bytes_and_by_url() -> None:
    message = Message("user", (TextPart("What is it?"), IMAGE, IMAGE_BY_URL))
    (turn,) = body_of(CODEC, ChatRequest(model="p/m", messages=(message,)))["messages"]
    assert turn["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}},
        {"type": "image", "source": {"type": "url", "url": "https://h.example/x.png"}},
    ]


def test_system_messages_further_down_stay_there_or_are_hoisted() -> None:
    messages = (
        Message("system", "A"),
        Message("developer", (TextPart("B"),)),
        Message("user", "1"),
        Message("system", "C"),
        Message("user", "2"),
    )
    new = body_of(CODEC, ChatRequest(model="p/m", messages=messages))
    assert (new["system"], [turn["role"] for turn in new["messages"]]) == (
        "A\n\nB",
        ["user", "system", "user"],
    )
    old = body_of(OLD, ChatRequest(model="p/m", messages=messages))
    assert (old["system"], [turn["role"] for turn in old["messages"]]) == ("A\n\nB\n\nC", ["user", "user"])


def test_thoughts_go_back_as_they_came_and_to_nobody_else() -> None:
    thoughts = (
        b'[{"type":"thinking","thinking":"hm","signature":"s=="},{"type":"redacted_thinking","data":"x"}]'
    )

    def turn(wire: str, **more: Any) -> Any:
        message = Message("assistant", "4", reasoning_state=ReasoningState(wire, Raw(thoughts)), **more)
        return body_of(CODEC, ChatRequest(model="p/m", messages=(*QUESTION, message)))["messages"][1][
            "content"
        ]

    assert [block["type"] for block in turn("anthropic-messages")] == [
        "thinking",
        "redacted_thinking",
        "text",
    ]
    assert turn("gemini") == "4"
    wire = CODEC.encode(
        ChatRequest(
            model="p/m",
            messages=(
                Message("assistant", reasoning_state=ReasoningState("anthropic-messages", Raw(thoughts))),
            ),
        ),
        "m",
    )
    assert thoughts[1:-1] in wire.body


def test_an_earlier_refusal_is_text() -> None:
    for message in (Message("assistant", refusal="No."), Message("assistant", (RefusalPart("No."),))):
        turns = body_of(CODEC, ChatRequest(model="p/m", messages=(message,)))["messages"]
        assert turns == [{"role": "assistant", "content": "No."}]


def test_paths_and_headers() -> None:
    request = ChatRequest(model="p/m", messages=QUESTION)
    whole, streamed = CODEC.encode(request, "m"), CODEC.encode(request, "m", stream=True)
    assert (whole.method, whole.path, whole.headers) == ("POST", "/messages", {})
    assert (streamed.path, streamed.headers) == ("/messages", {"Accept": "text/event-stream"})
    assert body_of(CODEC, request, stream=True) == BARE | {"stream": True}
    key = Secret("k")
    assert CODEC.session_headers(key) == {"anthropic-version": "2026-10-21", "Authorization": "Bearer k"}
    assert OLD.session_headers(key) == {"anthropic-version": "2023-06-01", "x-api-key": "k"}
    assert OLD.session_headers(None) == {"anthropic-version": "2023-06-01"}


@needs("anthropic")
def test_the_official_clients_types_take_every_body() -> None:
    params = ("anthropic.types.message_create_params", "MessageCreateParamsNonStreaming")
    for options, _ in OPTIONS:
        assert_taken(*params, body_of(CODEC, ChatRequest(model="m", messages=QUESTION, **options)))
    for messages in (LOOKED, (Message("user", (TextPart("a"), IMAGE, IMAGE_BY_URL)),)):
        assert_taken(*params, body_of(CODEC, ChatRequest(model="m", messages=messages)))
