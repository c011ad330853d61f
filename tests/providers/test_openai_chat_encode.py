"""What a request looks like on the wire. The expected JSON is written out by hand, after OpenAI's published schema."""

import importlib.util
import json
from collections.abc import Iterable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from greenroom.actors.events import ReasoningState
from greenroom.actors.providers import (
    ChatRequest,
    FunctionCall,
    ImagePart,
    ImageUrl,
    Message,
    OpenAIChat,
    RefusalPart,
    RequestedTool,
    TextPart,
)

Json = dict[str, Any]
QUESTION = (Message("user", "Why?"),)
TOOLS = b'[{"type":"function","function":{"name":"look","parameters":{"type":"object","properties":{}}}}]'
SCHEMA = b'{"type":"json_schema","json_schema":{"name":"a","schema":{"type":"object"},"strict":true}}'

OPTIONS: list[tuple[Json, Json]] = [
    ({}, {}),
    ({"max_tokens": 7}, {"max_tokens": 7}),
    ({"temperature": 0.0}, {"temperature": 0.0}),
    ({"temperature": 1.25}, {"temperature": 1.25}),
    ({"top_p": 0.5}, {"top_p": 0.5}),
    ({"stop": "END"}, {"stop": "END"}),
    ({"stop": ("a", "b")}, {"stop": ["a", "b"]}),
    ({"seed": 0}, {"seed": 0}),
    ({"seed": -(2**63)}, {"seed": -(2**63)}),
    ({"presence_penalty": -2.0}, {"presence_penalty": -2.0}),
    ({"frequency_penalty": 2.0}, {"frequency_penalty": 2.0}),
    ({"reasoning_effort": "minimal"}, {"reasoning_effort": "minimal"}),
    ({"user": "u-1"}, {"user": "u-1"}),
    ({"logprobs": False}, {"logprobs": False}),
    ({"logprobs": True, "top_logprobs": 0}, {"logprobs": True, "top_logprobs": 0}),
    ({"parallel_tool_calls": False}, {"parallel_tool_calls": False}),
    ({"response_format": Raw(SCHEMA)}, {"response_format": json.loads(SCHEMA)}),
    ({"tools": Raw(TOOLS)}, {"tools": json.loads(TOOLS)}),
    ({"tool_choice": Raw(b'"required"')}, {"tool_choice": "required"}),
    ({"tool_choice": Raw(b"null")}, {"tool_choice": None}),
    ({"extra": {"top_k": Raw(b"40")}}, {"top_k": 40}),
    (
        {
            "extra": {
                "metadata": Raw(b'{"a":"\xc3\xa4"}'),
                "store": Raw(b"false"),
                "service_tier": Raw(b"null"),
            }
        },
        {"metadata": {"a": "ä"}, "store": False, "service_tier": None},
    ),
    (
        {"max_tokens": 9, "temperature": 0.1, "extra": {"min_p": Raw(b"0.05")}},
        {"max_tokens": 9, "temperature": 0.1, "min_p": 0.05},
    ),
]

MESSAGES: list[tuple[Message, Json]] = [
    (Message("system", "Be short."), {"role": "system", "content": "Be short."}),
    (Message("developer", "Be short."), {"role": "developer", "content": "Be short."}),
    (Message("user", ""), {"role": "user", "content": ""}),
    (Message("user", "hi", name="ann"), {"role": "user", "content": "hi", "name": "ann"}),
    (
        Message("user", 'a"b\\c\n\t\x00 \u2028 ü 😀'),
        {"role": "user", "content": 'a"b\\c\n\t\x00 \u2028 ü 😀'},
    ),
    (
        Message("user", (TextPart("What is it?"), ImagePart(ImageUrl("data:image/png;base64,AA==", "low")))),
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "What is it?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA==", "detail": "low"}},
            ],
        },
    ),
    (
        Message("user", (ImagePart(ImageUrl("https://h/x.png")),)),
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://h/x.png"}}]},
    ),
    (
        Message("assistant", None, tool_calls=(RequestedTool("call_1", FunctionCall("look", '{"a":1}')),)),
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":1}'}}
            ],
        },
    ),
    (
        Message("assistant", (RefusalPart("I will not."),)),
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I will not."}]},
    ),
    (Message("assistant", refusal="No."), {"role": "assistant", "refusal": "No."}),
    (
        Message("tool", "42", tool_call_id="call_1"),
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
    ),
    (
        Message("assistant", "4", reasoning_state=ReasoningState("gemini", Raw(b'["signature"]'))),
        {"role": "assistant", "content": "4"},
    ),
]


def body_of(request: ChatRequest, codec: OpenAIChat | None = None) -> Json:
    wire = (codec or OpenAIChat("p")).encode(request, "upstream-name")
    assert (wire.method, wire.path) == ("POST", "/chat/completions")

    def no_field_twice(pairs: list[tuple[str, object]]) -> Json:
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names), f"a field stands twice in {names}"
        return dict(pairs)

    decoded: Json = json.loads(wire.body.decode("utf-8", "strict"), object_pairs_hook=no_field_twice)
    return decoded


@pytest.mark.parametrize(("options", "expected"), OPTIONS)
def test_each_option_is_sent_by_its_name_and_nothing_else(options: Json, expected: Json) -> None:
    request = ChatRequest(model="p/m", messages=QUESTION, **options)
    messages = [{"role": "user", "content": "Why?"}]
    assert body_of(request) == {"model": "upstream-name", "messages": messages, **expected}


def test_the_table_above_leaves_no_option_out() -> None:
    tried = {name for options, _ in OPTIONS for name in options}
    assert tried == set(ChatRequest.__struct_fields__) - {"model", "messages"}


def test_the_output_bound_has_openais_new_name_where_the_host_wants_it() -> None:
    request = ChatRequest(model="p/m", messages=QUESTION, max_tokens=7)
    body = body_of(request, OpenAIChat("openai", "max_completion_tokens"))
    assert body["max_completion_tokens"] == 7
    assert "max_tokens" not in body
    bare = body_of(ChatRequest(model="p/m", messages=QUESTION), OpenAIChat("openai", "max_completion_tokens"))
    assert set(bare) == {"model", "messages"}


@pytest.mark.parametrize(("message", "expected"), MESSAGES)
def test_each_kind_of_message_has_the_published_shape(message: Message, expected: Json) -> None:
    assert body_of(ChatRequest(model="p/m", messages=(message,)))["messages"] == [expected]


def test_messages_keep_their_order() -> None:
    messages = tuple(message for message, _ in MESSAGES)
    body = body_of(ChatRequest(model="p/m", messages=messages))
    assert body["messages"] == [expected for _, expected in MESSAGES]


texts = st.text(st.characters(exclude_categories=["Cs"]))


@given(texts, texts, st.floats(0, 2), st.integers(1, 2**31))
def test_any_text_and_number_arrive_as_they_were(
    text: str, model: str, temperature: float, max_tokens: int
) -> None:
    request = ChatRequest(
        model="x", messages=(Message("user", text),), temperature=temperature, max_tokens=max_tokens
    )
    body = json.loads(OpenAIChat("p").encode(request, model).body)
    assert body == {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "temperature": temperature,
        "max_tokens": max_tokens,
    }


def test_raw_json_travels_byte_by_byte() -> None:
    number = b"1.10000000000000000000000000000000001"
    body = OpenAIChat("p").encode(
        ChatRequest(
            model="p/m", messages=QUESTION, response_format=Raw(SCHEMA), extra={"exact": Raw(number)}
        ),
        "m",
    )
    assert SCHEMA in body.body
    assert b'"exact":' + number + b"}" in body.body


def plain(taken: object) -> object:
    """Walk through what pydantic took: an Iterable is validated only as one walks along it."""
    if isinstance(taken, dict):
        return {name: plain(value) for name, value in cast("Json", taken).items()}
    if isinstance(taken, Iterable) and not isinstance(taken, str):
        return [plain(value) for value in cast("Iterable[object]", taken)]
    return taken


@pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="the official client is not installed")
@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_the_official_clients_types_take_every_body(field: Any) -> None:
    from pydantic import TypeAdapter, with_config

    module = importlib.import_module("openai.types.chat.completion_create_params")
    params = module.CompletionCreateParamsNonStreaming
    with_config({"extra": "forbid"})(params)
    adapter: TypeAdapter[Json] = TypeAdapter(params)

    def check(body: Json) -> None:
        assert plain(adapter.validate_python(body)) == body

    codec = OpenAIChat("openai", field)
    foreign = {"top_k", "min_p"}
    for options, _ in OPTIONS:
        if not foreign & set(options.get("extra", {})) and options.get("tool_choice") != Raw(b"null"):
            check(body_of(ChatRequest(model="m", messages=QUESTION, **options), codec))
    for message, _ in MESSAGES:
        check(body_of(ChatRequest(model="m", messages=(message,)), codec))
