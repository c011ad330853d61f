"""Requests that are almost right, on every wire: each gets an answer or an error that says why, never a failure."""

import copy
from typing import Any, cast

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.simulator.speakers import SCHEMA, SPEAKERS, Json, Speaker

from greenroom.runtime.simulator.engine import CannotAnswer, answer, catalogue
from greenroom.runtime.simulator.traffic.pace import Pace
from greenroom.runtime.simulator.wires import (
    ANTHROPIC,
    BEDROCK,
    GEMINI,
    OLLAMA,
    OPENAI,
    RESPONSES,
    Wire,
    WireError,
)
from greenroom.runtime.simulator.wires.reading import Head

WIRES: dict[str, Wire] = {
    "openai": OPENAI,
    "responses": RESPONSES,
    "anthropic": ANTHROPIC,
    "gemini": GEMINI,
    "ollama": OLLAMA,
    "bedrock": BEDROCK,
}
MODELS = catalogue()
# Words that mean something on one wire or another, so that rubbish gets past the first check.
WORDS = st.sampled_from(
    [
        "type",
        "role",
        "content",
        "text",
        "user",
        "assistant",
        "tool",
        "model",
        "function",
        "name",
        "arguments",
        "parts",
        "args",
        "object",
        "string",
        "array",
        "items",
        "properties",
        "required",
        "enum",
        "anyOf",
        "$ref",
        "format",
        "json_schema",
        "json",
        "any",
        "auto",
        "none",
        "minItems",
        "maximum",
    ]
)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.floats(allow_nan=False)
    | WORDS
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(WORDS | st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The paths to all values within one, itself left out."""
    steps: list[tuple[str | int, object]] = []
    if isinstance(value, dict):
        steps = list(cast("dict[str | int, object]", value).items())
    elif isinstance(value, list):
        steps = [(at, inner) for at, inner in enumerate(cast("list[object]", value))]
    return [place for step, inner in steps for place in [(*path, step), *places(inner, (*path, step))]]


def changed(body: Json, place: tuple[str | int, ...], value: Any, *, remove: bool) -> Json:
    new = copy.deepcopy(body)
    holder: Any = new
    for step in place[:-1]:
        holder = holder[step]
    if remove:
        del holder[place[-1]]
    else:
        holder[place[-1]] = value
    return new


def serve(speaker: Speaker, body: Json, *, stream: bool) -> None:
    """What the simulator does with a body, without the HTTP around it."""
    wire = WIRES[speaker.name]
    path, _, query = speaker.path(stream=stream).partition("?")
    head = Head(path, dict([query.split("=")]) if query else {}, speaker.headers)
    try:
        asked = wire.parse(msgspec.json.encode(body), head)
        model = MODELS.get(asked.question.model, MODELS["fast"])
        answered = answer(asked.question, model, seed=1)
    except WireError as error:
        refused = error
    except CannotAnswer as error:
        refused = WireError(400, error.message, param=error.param, code=error.code)
    else:
        assert isinstance(msgspec.json.decode(wire.whole(asked, answered)), dict)
        events = list(wire.events(asked, answered, Pace(least_tokens=1, most_tokens=5).sizes(1, b"k")))
        if all(choice.finish != "length" for choice in answered.choices):
            assert sum(tokens for _, tokens in events) == answered.completion_tokens
        return
    assert 400 <= refused.status < 500
    assert refused.message
    msgspec.json.decode(wire.error(refused, "req_1"))


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: str(speaker.name))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_request_with_something_changed_is_answered_or_refused(
    speaker: Speaker, data: st.DataObject
) -> None:
    stream = data.draw(st.booleans())
    options: Json = data.draw(
        st.sampled_from(
            [{}, {"tool": "get_weather"}, {"schema": SCHEMA}, {"max_tokens": 2, "tool": "get_weather"}]
        )
    )
    body = speaker.body("The weather in Oslo?", model="fast", stream=stream, **options)
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(body)
        if found:
            place = data.draw(st.sampled_from(found))
            body = changed(body, place, data.draw(VALUES), remove=data.draw(st.booleans()))
    serve(speaker, body, stream=stream)
