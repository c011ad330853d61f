"""Numbers and strings within the bounds that a JSON Schema sets."""

import math
import re
from collections.abc import Callable
from fractions import Fraction

from greenroom.runtime.simulator.engine.dice import Dice
from greenroom.runtime.simulator.engine.question import Json, Schema

MAX_CHARACTERS = 10_000
_FORMATS = {
    "date-time": "2026-03-14T09:26:53Z",
    "date": "2026-03-14",
    "time": "09:26:53Z",
    "duration": "P3D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "uri": "https://example.com/a",
    "ipv4": "192.0.2.7",
    "ipv6": "2001:db8::7",
    "uuid": "5f0c6a52-8d2e-4c3b-9a41-2b7d9c1e0f36",
}
_PATTERN_TRIES = (
    "A", "a", "7", "A1", "42", "abc", "ABC", "Abc", "123", "2026", "12345", "abc-123", "AB-1234", "ABC-123", "abc_def",
    "2026-03-14", "09:26", "+15550100", "555-0100", "#a1b2c3", "v1.2.3", "1.2.3", "10.50", "en-GB", "EUR",
    "someone@example.com", "https://example.com/a", *_FORMATS.values(),
)  # fmt: skip


class Unsatisfiable(Exception):
    """No value can satisfy this place of the schema, or none that is known here. The message says why."""


def whole_number(schema: Schema, dice: Dice, *, usual: tuple[int, int]) -> int:
    """A whole number within the schema's bounds, or in `usual` where they leave it open.

    Raises:
        Unsatisfiable: The bounds leave no whole number.
    """
    low, high = _range(schema, (Fraction(usual[0]), Fraction(usual[1])))
    # A step such as 5/2 meets the whole numbers at every 5.
    step = Fraction((_fraction(schema.get("multipleOf")) or Fraction(1)).numerator)
    return int(_multiple(schema, (low, high), step, dice) * step)


def number(schema: Schema, dice: Dice, *, usual: tuple[float, float]) -> float:
    """A number within the schema's bounds, or in `usual` where they leave it open.

    Raises:
        Unsatisfiable: The bounds leave no number.
    """
    low, high = _range(schema, (Fraction(usual[0]), Fraction(usual[1])))
    step = _fraction(schema.get("multipleOf"))
    if step:
        return float(_multiple(schema, (low, high), step, dice) * step)
    if low == high:
        return float(low)
    # Strictly between the bounds, so that the exclusive forms hold as well.
    return float(low + (high - low) * Fraction(1 + dice.below(98), 100))


def string(schema: Schema, words: Callable[[], str]) -> str:
    """A string of the schema's format, pattern and length; `words` gives one where only the length counts.

    Raises:
        Unsatisfiable: No length is allowed, or no known string matches the pattern.
    """
    least, most = bound(schema, "minLength", 0), bound(schema, "maxLength", MAX_CHARACTERS)
    if most < least:
        raise Unsatisfiable(f"minLength {least} is above the longest string allowed here, {most}")
    if least > MAX_CHARACTERS:
        raise Unsatisfiable(f"the simulator writes no string of {least} characters, {MAX_CHARACTERS} at most")
    if isinstance(pattern := schema.get("pattern"), str):
        return _matching(pattern, least, most)
    text = _FORMATS.get(str(schema.get("format"))) or words() or "word"
    return (text + f" {text}" * (least // len(text)))[:most]


def bound(schema: Schema, keyword: str, default: int) -> int:
    """A count such as minItems: the schema's, or the default where it has none that makes sense."""
    value = _fraction(schema.get(keyword))
    return default if value is None or value < 0 else int(value)


def _range(schema: Schema, usual: tuple[Fraction, Fraction]) -> tuple[Fraction, Fraction]:
    lows = [_fraction(schema.get("minimum")), _fraction(schema.get("exclusiveMinimum"))]
    highs = [_fraction(schema.get("maximum")), _fraction(schema.get("exclusiveMaximum"))]
    low = max((limit for limit in lows if limit is not None), default=None)
    high = min((limit for limit in highs if limit is not None), default=None)
    # An open side is wide enough for a multiple of the step to lie there.
    width = max(usual[1] - usual[0], 2 * (_fraction(schema.get("multipleOf")) or Fraction(0)))
    if low is None:
        low = usual[0] if high is None or high > usual[0] else high - width
    if high is None:
        high = usual[1] if low < usual[1] and "multipleOf" not in schema else low + width
    if low > high or (low == high and low in {lows[1], highs[1]}):
        raise Unsatisfiable(f"nothing lies between {float(low):g} and {float(high):g}")
    return low, high


def _multiple(schema: Schema, bounds: tuple[Fraction, Fraction], step: Fraction, dice: Dice) -> int:
    """How many times the step: a number that keeps it within the bounds."""
    first, last = math.ceil(bounds[0] / step), math.floor(bounds[1] / step)
    if first * step == _fraction(schema.get("exclusiveMinimum")):
        first += 1
    if last * step == _fraction(schema.get("exclusiveMaximum")):
        last -= 1
    if last < first:
        raise Unsatisfiable(f"no multiple of {float(step):g} lies within its bounds")
    return dice.between(first, last)


def _matching(pattern: str, least: int, most: int) -> str:
    try:
        wanted = re.compile(pattern)
    except re.error as error:
        raise Unsatisfiable(f"the pattern {pattern!r} is no regular expression: {error}") from None
    for text in _PATTERN_TRIES:
        if least <= len(text) <= most and wanted.search(text):
            return text
    raise Unsatisfiable(f"the simulator knows no string for the pattern {pattern!r}")


def _fraction(value: Json) -> Fraction | None:
    """The number exactly as it was written: 0.1 is one tenth, not the nearest double."""
    return Fraction(repr(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None
