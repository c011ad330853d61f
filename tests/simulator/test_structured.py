"""JSON by schema and tool calls: what is invented satisfies the schema, or the schema is refused by name."""

import math
import re
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulator.conftest import Client

from greenroom.runtime.simulator.engine import CannotAnswer, Dice
from greenroom.runtime.simulator.engine.instances import invent
from greenroom.runtime.simulator.engine.reading import Reading

Schema = dict[str, Any]
TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
}
READING = Reading(
    "Answer.", "The app crashes with an error. I was charged twice, please help.", ("billing", "bug")
)


def has_type(value: object, kind: str) -> bool:
    if kind == "integer":
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, TYPES[kind]) and (kind != "number" or not isinstance(value, bool))


def conforms(value: Any, schema: Any) -> bool:
    """A JSON Schema check for the keywords that these tests use, independent of the simulator's own reading."""
    if schema is True or schema == {}:
        return True
    kinds = schema.get("type", [])
    checks = [
        not kinds or any(has_type(value, kind) for kind in ([kinds] if isinstance(kinds, str) else kinds)),
        "enum" not in schema or value in schema["enum"],
        "const" not in schema or value == schema["const"],
        "anyOf" not in schema or any(conforms(value, branch) for branch in schema["anyOf"]),
        all(conforms(value, part) for part in schema.get("allOf", [])),
    ]
    if isinstance(value, dict):
        value = cast("Schema", value)
        known = schema.get("properties", {})
        others = schema.get("additionalProperties", True)
        checks += [
            set(schema.get("required", [])) <= set(value),
            len(value) >= schema.get("minProperties", 0),
        ]
        checks += [
            conforms(item, known[key]) if key in known else others is not False and conforms(item, others)
            for key, item in value.items()
        ]
    if has_type(value, "array"):
        checks += [schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", math.inf)]
        checks += [conforms(item, schema.get("items", True)) for item in value]
        checks += [not schema.get("uniqueItems") or all(value.count(item) == 1 for item in value)]
    if isinstance(value, str):
        checks += [schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", math.inf)]
        checks += ["pattern" not in schema or re.search(schema["pattern"], value) is not None]
    if isinstance(value, int | float) and not isinstance(value, bool):
        checks += [schema.get("minimum", -math.inf) <= value <= schema.get("maximum", math.inf)]
        checks += [
            schema.get("exclusiveMinimum", -math.inf) < value < schema.get("exclusiveMaximum", math.inf)
        ]
        checks += [
            "multipleOf" not in schema
            or math.isclose(math.remainder(value, schema["multipleOf"]), 0, abs_tol=1e-9)
        ]
    return all(checks)


@pytest.mark.parametrize(
    "broken",
    [
        ({"a": 1}, {"type": "object", "properties": {"a": {"type": "string"}}}),
        ([1, 1], {"type": "array", "uniqueItems": True}),
        (True, {"type": "integer"}),
        (5, {"exclusiveMaximum": 5}),
        ("ab", {"pattern": "^a$"}),
        ({}, {"required": ["a"]}),
    ],
)
def test_the_check_itself_finds_faults(broken: tuple[object, Schema]) -> None:
    assert not conforms(*broken)


Schemas = st.SearchStrategy[Any]
LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
NUMBERS = st.integers(-40, 40) | st.sampled_from([0.5, -2.25, 19.99])
NAMES = st.sampled_from(["summary", "category", "tags", "score", "a", "b"])


def with_some(base: Schema, **keywords: Schemas) -> Schemas:
    """Schemas that have the base's keywords and any choice of the others."""

    def joined(extra: Schema) -> Schema:
        return {**base, **extra}

    return st.fixed_dictionaries({}, optional=keywords).map(joined)


def numbers(kind: str) -> Schemas:
    return with_some(
        {"type": kind},
        minimum=NUMBERS,
        maximum=NUMBERS,
        exclusiveMinimum=NUMBERS,
        exclusiveMaximum=NUMBERS,
        multipleOf=st.sampled_from([1, 3, 7]),
    )


def under(keyword: str, values: Schemas) -> Schemas:
    def held(value: Any) -> Schema:
        return {keyword: value}

    return values.map(held)


LEAVES: Schemas = st.one_of(
    numbers("integer"),
    numbers("number"),
    with_some({"type": "string"}, minLength=st.integers(0, 25), maxLength=st.integers(0, 25)),
    under("pattern", st.sampled_from(["^[A-Z]{3}-[0-9]+$", r"^\d{4}$", "@"])),
    st.sampled_from(
        [{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}, {"const": 3}, {}, True]
    ),
    under("enum", st.lists(st.text(max_size=5) | st.integers() | st.none(), min_size=1, max_size=4)),
)


def nested(inner: Schemas) -> Schemas:
    objects = with_some(
        {"type": "object"},
        properties=st.dictionaries(NAMES, inner, max_size=4),
        required=st.lists(NAMES, max_size=2, unique=True),
        additionalProperties=st.booleans(),
        minProperties=st.integers(0, 3),
    )
    arrays = with_some(
        {"type": "array"},
        items=inner,
        minItems=st.integers(0, 4),
        maxItems=st.integers(0, 4),
        uniqueItems=st.booleans(),
    )
    branches = under("anyOf", st.lists(inner, min_size=1, max_size=3))
    return objects | arrays | branches | under("allOf", st.lists(inner, min_size=1, max_size=1))


LOOSE_LEAVES: Schemas = st.one_of(
    *[
        with_some(
            {"type": kind}, **{keyword: st.sampled_from([1, 3, 7]) if keyword == "multipleOf" else NUMBERS}
        )
        for kind in ("integer", "number")
        for keyword in LIMITS
    ],
    with_some({"type": "string"}, minLength=st.integers(0, 25)),
    with_some({"type": "string"}, maxLength=st.integers(0, 25)),
    st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"const": 3}, {"enum": [1, "a"]}, {}, True]),
)


def loosely_nested(inner: Schemas) -> Schemas:
    objects = with_some(
        {"type": "object"},
        properties=st.dictionaries(NAMES, inner, max_size=4),
        required=st.lists(NAMES, max_size=2, unique=True),
    )
    return objects | with_some({"type": "array"}, items=inner, minItems=st.integers(0, 4))


def root_of(schema: object) -> Schema:
    return {"type": "object", "properties": {"x": schema}, "required": ["x"], "additionalProperties": False}


def round_trip(schema: Schema, seed: int) -> object:
    value = invent(schema, READING, Dice(seed, "test", b"key"), param="response_format")
    return msgspec.json.decode(msgspec.json.encode(value))


@settings(max_examples=150, deadline=None)
@given(st.recursive(LEAVES, nested, max_leaves=10).map(root_of), st.integers(0, 5))
def test_what_is_invented_satisfies_the_schema(schema: Schema, seed: int) -> None:
    try:
        value = round_trip(schema, seed)
    except CannotAnswer:
        return
    assert conforms(value, schema)


@settings(max_examples=100, deadline=None)
@given(st.recursive(LOOSE_LEAVES, loosely_nested, max_leaves=10).map(root_of), st.integers(0, 5))
def test_a_schema_that_leaves_room_is_never_refused(schema: Schema, seed: int) -> None:
    assert conforms(round_trip(schema, seed), schema)


NODE: Schema = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["name", "next", "children"],
        }
    },
}
TRIAGE: Schema = {
    "type": "object",
    "properties": {
        "category": {"type": "string", "enum": ["billing", "bug", "other"]},
        "summary": {"type": "string", "maxLength": 60},
        "priority": {"type": "integer", "minimum": 1, "maximum": 5},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4},
    },
    "required": ["category", "summary", "priority", "confidence", "tags"],
    "additionalProperties": False,
}


def by_schema(schema: Schema) -> Schema:
    return {"type": "json_schema", "json_schema": {"name": "shape", "strict": True, "schema": schema}}


@pytest.mark.anyio
@pytest.mark.parametrize("model", ["fast", "smart", "classify", "chat"])
async def test_an_answer_by_schema_is_valid_and_about_the_prompt(client: Client, model: str) -> None:
    ticket = "The app crashes with an error every time I open the settings page."
    reply = await client.chat(ticket, model=model, response_format=by_schema(TRIAGE))
    value = msgspec.json.decode(reply.text)
    assert conforms(value, TRIAGE)
    assert value["category"] == "bug"
    assert value["summary"].startswith("The app crashes with an error")


@pytest.mark.anyio
async def test_a_recursive_schema_comes_to_an_end(client: Client) -> None:
    value = msgspec.json.decode((await client.chat("a tree", response_format=by_schema(NODE))).text)
    assert value["next"] is None
    assert value["children"] == []


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("schema", "word"),
    [
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "'a'"),
        ({"type": "integer", "minimum": 5, "maximum": 4}, "between"),
        ({"type": "array", "items": {"type": "boolean"}, "uniqueItems": True, "minItems": 3}, "different"),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 1_000_000}, "more values"),
        ({"$ref": "#/$defs/gone"}, "nowhere"),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/a"}}}, "circle"),
        ({"$ref": "https://example.com/schema"}, "out of the document"),
        ({"not": {"type": "string"}}, "'not'"),
        ({"type": "string", "pattern": "^(?!.)x$"}, "pattern"),
        ({"type": "string", "pattern": "("}, "regular expression"),
        ({"type": "wizard"}, "wizard"),
        ({"$defs": {"a": {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "required": ["a"]}}, "$ref": "#/$defs/a"}, "endless"),
    ],
)  # fmt: skip
async def test_a_schema_without_an_instance_is_400_and_says_why(
    client: Client, schema: Schema, word: str
) -> None:
    reply = await client.chat("x", response_format=by_schema(schema))
    assert reply.status == 400
    assert (reply.error["param"], reply.error["code"]) == ("response_format", "invalid_schema")
    assert word in reply.error["message"]


@pytest.mark.anyio
async def test_json_mode_gives_an_object_with_the_fields_that_the_prompt_names(client: Client) -> None:
    plain = await client.chat("Tell me about tea as JSON.", response_format={"type": "json_object"})
    assert isinstance(msgspec.json.decode(plain.text), dict)
    prompt = 'Classify as one of: billing, bug. Answer as JSON with "category" and "summary".\n\nI was charged twice.'
    named = msgspec.json.decode((await client.chat(prompt, response_format={"type": "json_object"})).text)
    assert named == {"category": "billing", "summary": "I was charged twice"}


WEATHER: Schema = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": "integer", "minimum": 1, "maximum": 7},
            },
            "required": ["city", "days"],
        },
    },
}
CLOCK: Schema = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.anyio
async def test_a_tool_that_the_user_mentions_is_called_and_its_result_is_told(client: Client) -> None:
    question = {"role": "user", "content": "What is the weather in Oslo?"}
    reply = await client.chat([question], tools=[WEATHER, CLOCK])
    (choice,) = reply.json["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    (call,) = choice["message"]["tool_calls"]
    assert (call["type"], call["function"]["name"]) == ("function", "get_weather")
    assert conforms(msgspec.json.decode(call["function"]["arguments"]), WEATHER["function"]["parameters"])
    result = {"role": "tool", "tool_call_id": call["id"], "content": "Rain, 8 degrees."}
    after = await client.chat([question, choice["message"], result], tools=[WEATHER, CLOCK])
    assert "Rain, 8 degrees" in after.text
    assert after.json["choices"][0]["finish_reason"] == "stop"


@pytest.mark.anyio
async def test_tool_choice_is_obeyed(client: Client) -> None:
    async def called(prompt: str, **options: object) -> list[str]:
        message = (await client.chat(prompt, tools=[WEATHER, CLOCK], **options)).json["choices"][0]["message"]
        return [call["function"]["name"] for call in message.get("tool_calls", [])]

    assert await called("What is the weather and the time?", tool_choice="none") == []
    assert len(await called("Good morning", tool_choice="required")) == 1
    assert await called("Good morning") == []
    named = {"type": "function", "function": {"name": "get_time"}}
    assert await called("What is the weather?", tool_choice=named) == ["get_time"]
    assert await called("What is the weather and the time?") == ["get_weather", "get_time"]
    assert await called("What is the weather and the time?", parallel_tool_calls=False) == ["get_weather"]


@pytest.mark.anyio
async def test_a_call_that_runs_out_of_tokens_says_length(client: Client) -> None:
    reply = await client.chat("What is the weather?", tools=[WEATHER], max_tokens=5)
    (choice,) = reply.json["choices"]
    assert choice["finish_reason"] == "length"
    with pytest.raises(msgspec.DecodeError):
        msgspec.json.decode(choice["message"]["tool_calls"][0]["function"]["arguments"])
