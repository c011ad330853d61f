"""The check of JSON Schemas, beside msgspec's own decoder: what one takes of a type's schema, the other takes too."""

from typing import Annotated, Literal

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta, Struct

from greenroom.actors.asks.json_schema import check_schema, problem


class Inner(Struct, forbid_unknown_fields=True):
    code: Annotated[str, Meta(min_length=1, max_length=3, pattern="^[a-c]+$")]
    size: Annotated[int, Meta(ge=0, lt=3)] | None = None


class Outer(Struct):
    kind: Literal["a", "b", 1]
    items: Annotated[list[Inner], Meta(max_length=2)] = []
    rates: dict[str, Annotated[float, Meta(gt=0, le=2)]] = {}
    next: "Outer | None" = None
    sure: bool = True


SCHEMA = msgspec.json.schema(Outer)
WHOLE = st.integers(-1, 4)
INNERS = st.fixed_dictionaries(
    {},
    optional={
        "code": st.sampled_from(["", "a", "abc", "abca", "x", 1, None]),
        "size": WHOLE | st.none() | st.booleans(),
        "other": WHOLE,
    },
)


def outers(inner: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.fixed_dictionaries(
        {"kind": st.sampled_from(["a", "b", 1, "c", True])},
        optional={
            "items": st.lists(INNERS, max_size=3) | WHOLE,
            "rates": st.dictionaries(st.sampled_from("xy"), st.sampled_from([0, 0.5, 2, 2.5, "1"])),
            "next": inner,
            "sure": st.booleans() | WHOLE,
            "unknown": WHOLE,
        },
    )


OUTERS: st.SearchStrategy[object] = st.recursive(st.none() | WHOLE, outers, max_leaves=3)
NOTHING: dict[str, object] = {}
NESTED: list[object] = [[[]]]


@given(OUTERS)
def test_takes_what_msgspec_takes(value: object) -> None:
    check_schema(SCHEMA)
    try:
        msgspec.convert(value, Outer)
        taken = True
    except msgspec.ValidationError:
        taken = False
    assert (problem(SCHEMA, value) is None) is taken


@pytest.mark.parametrize(
    ("schema", "value", "wrong"),
    [
        ({"type": "integer"}, True, "integer expected at $, got boolean"),
        ({"type": "integer"}, 1.5, "integer expected at $, got number"),
        ({"type": "integer"}, 1.0, None),
        ({"type": ["string", "null"]}, 1, "string or null expected at $, got integer"),
        ({"const": {"a": [1]}}, {"a": [True]}, "{'a': [True]} at $ is not {'a': [1]}"),
        ({"oneOf": [{"type": "integer"}, {"minimum": 1}]}, 2, "$ fits 2 of the choices and must fit one"),
        ({"allOf": [{"minimum": 1}, {"maximum": 2}]}, 3, "3 at $ must be at most 2"),
        ({"properties": {"a": False}}, {"a": 1}, "nothing may stand at $.a"),
        ({"additionalProperties": False}, {"a": 1}, "'a' is not expected at $"),
        ({"required": ["a"]}, NOTHING, "'a' is missing at $"),
        ({"items": {"$ref": "#"}, "minItems": 1}, NESTED, "at least 1 items expected at $[0][0], got 0"),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, 0, "null expected at $, got integer"),
    ],
)
def test_says_what_is_wrong_and_where(schema: dict[str, object], value: object, wrong: str | None) -> None:
    check_schema(schema)
    assert problem(schema, value) == wrong


@pytest.mark.parametrize(
    ("schema", "why"),
    [
        ({"not": {}}, "'not' is not among what is checked"),
        ({"properties": {"a": {"type": "text"}}}, r"at \$.properties.a: type cannot be 'text'"),
        ({"type": []}, "type cannot be"),
        ({"pattern": "("}, "pattern cannot be"),
        ({"required": "a"}, "required cannot be"),
        ({"minimum": "1"}, "minimum cannot be"),
        ({"anyOf": []}, "anyOf cannot be"),
        ({"items": 1}, "an object or a boolean is wanted"),
        ({"$ref": "#/$defs/a"}, "leads nowhere"),
        ({"$ref": "https://example.com"}, "leads out of the schema"),
        ({"$ref": 1}, "leads out of the schema"),
        ({"$ref": "#"}, "in a circle"),
        ({"type": "object", "anyOf": [{"$ref": "#"}]}, "in a circle"),
    ],
)
def test_refuses_a_schema_that_it_cannot_check(schema: dict[str, object], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        check_schema(schema)


def test_refuses_a_schema_without_a_bottom() -> None:
    schema: dict[str, object] = {}
    for _ in range(200):
        schema = {"items": schema}
    with pytest.raises(ValueError, match="deeper than 100"):
        check_schema(schema)
