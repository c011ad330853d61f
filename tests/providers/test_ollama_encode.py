"""What a request looks like on Ollama's own wire. The expected JSON is written out by hand, after its documentation."""

import json
from typing import Any

import pytest
from msgspec import Raw
from tests.providers.asking import (
    IMAGE,
    IMAGE_BY_URL,
    LOOKED,
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
from greenroom.actors.providers import ChatRequest, Message, Ollama, TextPart
from greenroom.actors.settings import Secret

Json = dict[str, Any]
CODEC = Ollama("ollama")
BARE: Json = {"model": "upstream-name", "messages": [{"role": "user", "content": "Why?"}], "stream": False}

OPTIONS: list[tuple[Json, Json]] = [
    ({}, {}),
    ({"max_tokens": 7}, {"options": {"num_predict": 7}}),
    ({"temperature": 0.0, "top_p": 0.5}, {"options": {"temperature": 0.0, "top_p": 0.5}}),
    ({"stop": "END"}, {"options": {"stop": ["END"]}}),
    ({"stop": ("a", "b")}, {"options": {"stop": ["a", "b"]}}),
    ({"seed": 0}, {"options": {"seed": 0}}),
    (
        {"presence_penalty": -1.0, "frequency_penalty": 0.5},
        {"options": {"presence_penalty": -1.0, "frequency_penalty": 0.5}},
    ),
    ({"logprobs": True, "top_logprobs": 3}, {"logprobs": True, "top_logprobs": 3}),
    ({"logprobs": False, "top_logprobs": 0}, {}),
    ({"reasoning_effort": "none"}, {"think": False}),
    ({"reasoning_effort": "high"}, {"think": "high"}),
    ({"response_format": raw({"type": "text"})}, {}),
    ({"response_format": raw({"type": "json_object"})}, {"format": "json"}),
    ({"response_format": schema_format()}, {"format": SCHEMA}),
    ({"tools": raw([tool()])}, {"tools": [tool()]}),
    ({"tools": raw([tool()]), "tool_choice": raw("auto")}, {"tools": [tool()]}),
    ({"tools": raw([tool()]), "tool_choice": raw("none")}, {}),
    (
        {
            "max_tokens": 5,
            "extra": {"num_ctx": Raw(b"8192"), "keep_alive": raw("10m"), "stream": Raw(b"true")},
        },
        {"options": {"num_predict": 5, "num_ctx": 8192}, "keep_alive": "10m"},
    ),
    ({"extra": {"top_k": Raw(b"40"), "min_p": Raw(b"0.05")}}, {"options": {"top_k": 40, "min_p": 0.05}}),
    ({"extra": {"options": raw({"num_gpu": 0})}}, {"options": {"num_gpu": 0}}),
    ({"extra": {"think": Raw(b"true")}}, {"think": True}),
]


@pytest.mark.parametrize(("options", "expected"), OPTIONS)
def test_each_option_has_its_place(options: Json, expected: Json) -> None:
    assert body_of(CODEC, ChatRequest(model="p/m", messages=QUESTION, **options)) == BARE | expected


@pytest.mark.parametrize(
    ("kind", "param", "options"),
    [
        ("unsupported_capability", "user", {"user": "u-1"}),
        ("unsupported_capability", "tool_choice", {"tools": raw([tool()]), "tool_choice": raw("required")}),
        (
            "unsupported_capability",
            "tool_choice",
            {
                "tools": raw([tool()]),
                "tool_choice": raw({"type": "function", "function": {"name": "weather"}}),
            },
        ),
        (
            "unsupported_capability",
            "parallel_tool_calls",
            {"tools": raw([tool()]), "parallel_tool_calls": False},
        ),
        ("unsupported_capability", "strict", {"tools": raw([tool(strict=True)])}),
        ("unsupported_capability", "reasoning_effort", {"reasoning_effort": "minimal"}),
        ("unsupported_capability", "image_url", {"messages": (Message("user", (IMAGE_BY_URL,)),)}),
        ("unsupported_capability", "name", {"messages": (Message("user", "hi", name="ann"),)}),
        ("unsupported_capability", "n", {"extra": {"n": Raw(b"2")}}),
        ("invalid_request", "messages", {"messages": (Message("tool", "42"),)}),
        ("invalid_request", "tools", {"tools": raw([{"type": "web_search"}])}),
        ("invalid_request", "options", {"seed": 1, "extra": {"options": Raw(b"{}")}}),
        ("invalid_request", "think", {"reasoning_effort": "low", "extra": {"think": Raw(b"true")}}),
        (
            "invalid_request",
            "reasoning_state",
            {"messages": (Message("assistant", "x", reasoning_state=ReasoningState("ollama", Raw(b"[7]"))),)},
        ),
    ],
)
def test_what_cannot_be_asked_is_refused_by_name(kind: str, param: str, options: Json) -> None:
    assert refusal(CODEC, **options) == (kind, param)


def test_a_conversation_with_parallel_tools() -> None:
    body = body_of(CODEC, ChatRequest(model="p/m", messages=LOOKED))
    assert body["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "How warm is it in Oslo and in Rome?"},
        {
            "role": "assistant",
            "content": "I look.",
            "tool_calls": [
                {"id": "call_1", "function": {"name": "weather", "arguments": {"city": "Oslo"}}},
                {"id": "call_2", "function": {"name": "weather", "arguments": {}}},
            ],
        },
        {"role": "tool", "content": "-3", "tool_name": "weather", "tool_call_id": "call_1"},
        {"role": "tool", "content": "17", "tool_name": "weather", "tool_call_id": "call_2"},
        {"role": "user", "content": "And now?"},
    ]


def test_images_stand_beside_the_text() -> None:
    messages = (Message("developer", "A"), Message("user", (TextPart("What is "), IMAGE, TextPart("it?"))))
    body = body_of(CODEC, ChatRequest(model="p/m", messages=messages))
    assert body["messages"] == [
        {"role": "system", "content": "A"},
        {"role": "user", "content": "What is it?", "images": [PIXEL]},
    ]


def test_thoughts_go_back_and_to_nobody_else() -> None:
    for wire, thinking in (("ollama", "hm"), ("gemini", None)):
        message = Message("assistant", "4", reasoning_state=ReasoningState(wire, Raw(b'["hm"]')))
        (sent,) = body_of(CODEC, ChatRequest(model="p/m", messages=(message,)))["messages"]
        assert sent.get("thinking") == thinking


def test_paths_and_headers() -> None:
    request = ChatRequest(model="p/m", messages=QUESTION)
    assert CODEC.encode(request, "m").path == "/api/chat"
    assert CODEC.encode(request, "m", stream=True).headers == {"Accept": "application/x-ndjson"}
    assert body_of(CODEC, request, stream=True) == BARE | {"stream": True}
    assert CODEC.session_headers(None) == {}
    assert CODEC.session_headers(Secret("k")) == {"Authorization": "Bearer k"}


@needs("ollama")
def test_the_official_clients_types_take_every_body() -> None:
    types = official("ollama._types")
    requests = [ChatRequest(model="m", messages=QUESTION, **options) for options, _ in OPTIONS]
    requests += [ChatRequest(model="m", messages=m) for m in (LOOKED, (Message("user", (IMAGE,)),))]
    # What this client does not know yet, though the server does.
    newer = {"min_p", "id", "tool_call_id"}

    def known(pairs: list[tuple[str, object]]) -> Json:
        return {name: value for name, value in pairs if name not in newer}

    for request in requests:
        body: Json = json.loads(CODEC.encode(request, "m").body, object_pairs_hook=known)
        taken = types.ChatRequest.model_validate(body)
        assert taken.model_dump(mode="json", exclude_unset=True) == body
        for message in body["messages"]:
            # The client sends images as we do, and takes them in a wrapper.
            wrapped = message | {"images": [{"value": image} for image in message.get("images", ())]}
            read = types.Message.model_validate(wrapped)
            assert read.model_dump(mode="json", exclude_unset=True) == {"images": []} | message
        types.Options.model_validate(body.get("options", {}), extra="forbid")
