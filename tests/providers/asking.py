"""Requests that every wire is asked, and ways to look at what became of them."""

import json
from typing import Any

import pytest
from msgspec import Raw

from greenroom.actors.events import ProviderFailed
from greenroom.actors.providers import (
    ChatRequest,
    Codec,
    FunctionCall,
    ImagePart,
    ImageUrl,
    Message,
    RequestedTool,
    TextPart,
)

Json = dict[str, Any]
QUESTION = (Message("user", "Why?"),)
PARAMETERS: Json = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
SCHEMA: Json = {
    "type": "object",
    "properties": {"answer": {"type": "integer"}},
    "required": ["answer"],
    "additionalProperties": False,
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNgYAAAAAMAASsJTYQAAAAASUVORK5CYII="
IMAGE = ImagePart(ImageUrl(f"data:image/png;base64,{PIXEL}"))
IMAGE_BY_URL = ImagePart(ImageUrl("https://h.example/x.png"))
LOOKED = (
    Message("system", "Be short."),
    Message("user", (TextPart("How warm is it "), TextPart("in Oslo and in Rome?"))),
    Message(
        "assistant",
        "I look.",
        tool_calls=(
            RequestedTool("call_1", FunctionCall("weather", '{"city": "Oslo"}')),
            RequestedTool("call_2", FunctionCall("weather", "")),
        ),
    ),
    Message("tool", "-3", tool_call_id="call_1"),
    Message("tool", "17", tool_call_id="call_2", name="weather"),
    Message("user", "And now?"),
)
"""A conversation with parallel calls of tools, one of them without arguments."""


def raw(value: object) -> Raw:
    return Raw(json.dumps(value).encode())


def tool(name: str = "weather", **more: Any) -> Json:
    return {"type": "function", "function": {"name": name, "parameters": PARAMETERS} | more}


def schema_format(**more: Any) -> Raw:
    return raw({"type": "json_schema", "json_schema": {"name": "answer", "schema": SCHEMA} | more})


def body_of(codec: Codec, request: ChatRequest, *, stream: bool = False) -> Json:
    """The body that a codec makes, no field of which stands twice."""

    def no_field_twice(pairs: list[tuple[str, object]]) -> Json:
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names), f"a field stands twice in {names}"
        return dict(pairs)

    wire = codec.encode(request, "upstream-name", stream=stream)
    decoded: Json = json.loads(wire.body.decode("utf-8", "strict"), object_pairs_hook=no_field_twice)
    return decoded


def refusal(codec: Codec, **options: Any) -> tuple[str, str | None]:
    """The kind and the option of the refusal that a request with these options meets."""
    request = ChatRequest(model="p/m", messages=options.pop("messages", QUESTION), **options)
    with pytest.raises(ProviderFailed) as failed:
        codec.encode(request, "upstream-name")
    error = failed.value.error
    assert error.model == "upstream-name"
    assert error.param is not None
    assert error.param in error.message
    return error.kind, error.param
