"""Functions as tools: what a model is told of them, what it may say, and which functions cannot be tools."""

import asyncio
import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import anyio
import msgspec
import pydantic
import pytest
from msgspec import Meta, Struct

from greenroom.actors.asks.json_schema import check_schema
from greenroom.actors.asks.tools import Toolbox
from greenroom.actors.asks.tools.tool import MAX_OUTPUT_CHARS
from greenroom.runtime import Tool, ToolInvalid

pytestmark = pytest.mark.anyio


class Place(Struct):
    city: str
    near: "list[Place]" = []


@dataclass
class Span:
    days: int = 1


class SpanModel(pydantic.BaseModel):
    days: int


def forecast(
    place: Place,
    unit: Literal["C", "F"],
    span: Span | None = None,
    hours: Annotated[int, Meta(ge=1, le=24, description="How many.")] = 6,
    *,
    detailed: bool = False,
) -> str:
    """The weather of a place.

    For as long as is asked.
    """
    return f"{place.city}/{unit}/{span}/{hours}/{detailed}"


def parameters(tool: Tool) -> dict[str, object]:
    function = msgspec.convert(tool.spec["function"], dict[str, object])
    return msgspec.convert(function["parameters"], dict[str, object])


def test_the_schema_is_of_the_types_and_the_docstring_the_description() -> None:
    tool = Tool(forecast)
    said = parameters(tool)
    check_schema(said)
    assert said["required"] == ["place", "unit"]
    assert said["additionalProperties"] is False
    assert msgspec.convert(said["properties"], dict[str, object])["hours"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 24,
        "description": "How many.",
    }
    function = msgspec.convert(tool.spec["function"], dict[str, object])
    assert function["name"] == "forecast"
    assert function["description"] == "The weather of a place.\n\nFor as long as is asked."
    assert repr(tool) == "<Tool forecast(place, unit, span, hours, detailed)>"


async def run(tool: Tool, arguments: str) -> str:
    return await tool.run(tool.arguments(arguments), anyio.CapacityLimiter(1))


async def test_arguments_are_values_of_the_types_and_defaults_are_the_functions() -> None:
    said = '{"unit": "C", "place": {"city": "Rome", "near": [{"city": "Ostia"}]}, "span": {"days": 3}}'
    assert await run(Tool(forecast), said) == "Rome/C/Span(days=3)/6/False"


@pytest.mark.parametrize(
    "said",
    ['{"unit": "K", "place": {"city": "Rome"}}', '{"unit": "C"}', '{"unit": "C", "place": {"city": "x"}, "a": 1}',
     '{"unit": "C", "place": {"city": "x"}, "hours": "6"}', "[]", "{", "nonsense", '"\ud800"', "[" * 100_000],
)  # fmt: skip
def test_what_is_not_of_the_types_is_refused(said: str) -> None:
    with pytest.raises((msgspec.DecodeError, UnicodeError, RecursionError)):
        Tool(forecast).arguments(said)


@pytest.mark.parametrize("said", ["", " ", "{}"])
async def test_no_arguments_may_be_no_text(said: str) -> None:
    assert await run(Tool(lambda: "yes", name="ask"), said) == "yes"


async def test_what_it_gives_is_text_or_json() -> None:
    async def place() -> Place:
        return Place("Rome")

    class Caller:
        async def __call__(self, city: str) -> list[str]:
            return [city]

        def method(self, city: str) -> None:
            assert city

    assert await run(Tool(place), "{}") == '{"city":"Rome","near":[]}'
    assert await run(Tool(Caller(), name="call"), '{"city": "x"}') == '["x"]'
    assert await run(Tool(Caller().method), '{"city": "x"}') == "null"
    assert await run(Tool(lambda: [SpanModel(days=2)], name="spans"), "") == '[{"days":2}]'
    near = functools.partial(forecast, unit="F", span=Span(2))
    said = '{"place": {"city": "Rome"}, "hours": 1}'
    assert await run(Tool(near, name="near"), said) == "Rome/F/Span(days=2)/1/False"
    assert parameters(Tool(near, name="near"))["required"] == ["place"]
    long = await run(Tool(lambda: "x" * (MAX_OUTPUT_CHARS + 1), name="long"), "")
    assert long.endswith(f"x... (cut off here, of {MAX_OUTPUT_CHARS + 1} characters in all)")
    with pytest.raises(TypeError, match="JSON cannot hold a object"):
        await run(Tool(lambda: object(), name="odd"), "")  # noqa: PLW0108 - object itself has no signature


async def test_a_function_given_up_before_it_had_a_thread_is_not_called() -> None:
    threads = anyio.CapacityLimiter(1)
    calls: list[str] = []

    def gone() -> None:
        raise RuntimeError("given up")

    async with threads:
        waiting = asyncio.create_task(Tool(lambda: calls.append("waiting"), name="a").run({}, threads))
        given_up = asyncio.create_task(Tool(lambda: calls.append("gone"), name="b").run({}, threads, gone))
        await asyncio.sleep(0)
        assert not calls
    await waiting
    with pytest.raises(RuntimeError, match="given up"):
        await given_up
    assert calls == ["waiting"]


def untyped(city: str) -> str:
    return city


del untyped.__annotations__["city"]


def unholdable(city: Callable[[], str]) -> str:
    return city()


def positional(city: str, /) -> str:
    return city


def many(*cities: str) -> str:
    return str(cities)


def anything(**more: str) -> str:
    return str(more)


def unknown(city: str) -> str:
    return city


unknown.__annotations__["city"] = "Nowhere"


@pytest.mark.parametrize(
    ("function", "why"),
    [
        (untyped, "tool untyped: parameter city has no type; write city: str"),
        (unholdable, "tool unholdable: parameter city is of a type that JSON cannot hold"),
        (positional, "parameter city cannot be given by name"),
        (many, "parameter cities cannot be given by name"),
        (anything, "parameter more cannot be given by name"),
        (unknown, "tool unknown: its types cannot be read: name 'Nowhere' is not defined"),
        (lambda: 1, r"'<lambda>' is no name for a tool: .* say Tool\(function, name=\.\.\.\)"),
        (functools.partial(positional, "x"), "'' is no name for a tool"),
    ],
)
def test_a_function_that_cannot_be_a_tool_is_refused_by_name(
    function: Callable[..., object], why: str
) -> None:
    with pytest.raises(ToolInvalid, match=why):
        Toolbox([function])


def test_what_is_no_function_and_two_of_one_name_are_refused() -> None:
    with pytest.raises(ToolInvalid, match="tool forecast: timeout_s is 0; it must be seconds, more than 0"):
        Tool(forecast, timeout_s=0)
    with pytest.raises(ToolInvalid, match="5 is no tool"):
        Toolbox([5])  # type: ignore[list-item]
    with pytest.raises(ToolInvalid, match="two tools are called 'forecast'"):
        Toolbox([forecast, Tool(forecast)])
    with pytest.raises(ToolInvalid, match="two tools are called 'forecast'"):
        Toolbox([{"type": "function", "function": {"name": "forecast"}}, forecast])
