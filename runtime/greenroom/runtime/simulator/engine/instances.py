"""Invents JSON that satisfies a JSON Schema and, as far as names tell, says something about the prompt.

Understood: type, properties, required, additionalProperties, minProperties, items, prefixItems, minItems, maxItems,
uniqueItems, enum, const, anyOf, oneOf, allOf, $ref inside the document, minimum and maximum with their exclusive
forms, multipleOf, minLength, maxLength, the usual formats, and patterns that one of a few everyday strings matches.
What is not understood and could make an answer invalid is refused by name rather than guessed.
Source: JSON Schema 2020-12, and the subset of OpenAI's guide to structured outputs.
"""

import math
import re
from collections.abc import Sequence
from fractions import Fraction

from greenroom.runtime.simulator.engine.dice import Dice
from greenroom.runtime.simulator.engine.question import CannotAnswer, Json, Schema
from greenroom.runtime.simulator.engine.reading import Reading, pick_label, summarise
from greenroom.runtime.simulator.engine.writing import paragraph, phrase

MAX_VALUES = 4_000
# From here on optional properties and optional items are left out, so that recursive schemas come to an end.
LEAN_DEPTH = 6
MAX_DEPTH = 40
_UNSUPPORTED = (
    "not",
    "if",
    "contains",
    "propertyNames",
    "dependentSchemas",
    "dependentRequired",
    "$dynamicRef",
)
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
_LABEL_NAMES = frozenset({"label", "category", "class", "type", "topic", "intent", "tag", "sentiment"})
_SUMMARY_NAMES = ("summary", "title", "subject", "headline", "gist")
_PROSE_NAMES = (
    "reason",
    "explanation",
    "rationale",
    "answer",
    "text",
    "content",
    "message",
    "description",
    "reply",
)


def invent(schema: Schema, reading: Reading, dice: Dice, *, param: str) -> Json:
    """A value that satisfies `schema`.

    Args:
        schema: A JSON Schema; the empty one accepts anything and gives a small object.
        reading: What the prompt is about: labels and text for the fields that ask for them.
        dice: Decides what the schema and the prompt leave open.
        param: Where the schema stands in the request, for errors.

    Raises:
        CannotAnswer: The schema contradicts itself, has no finite value, is too large, or uses a keyword that is
            not understood here.
    """
    return _Inventor(schema, reading, dice, param).value(schema or _ANY_OBJECT, "", 0)


def named_fields(instruction: str) -> list[str]:
    """Field names that a prompt asks for in words, such as 'JSON with "category" and "summary"'."""
    return list(dict.fromkeys(re.findall(r"[\"'`]([A-Za-z_]\w{0,40})[\"'`]", instruction)))[:20]


_ANY_OBJECT: Schema = {"type": "object", "properties": {"answer": {"type": "string"}}}


class _Inventor:
    def __init__(self, root: Schema, reading: Reading, dice: Dice, param: str) -> None:
        self._root = root
        self._reading = reading
        self._dice = dice
        self._param = param
        self._values = 0

    def value(self, schema: Json, name: str, depth: int) -> Json:
        """A value for one place of the document; `name` is the property it fills."""
        self._values += 1
        if self._values > MAX_VALUES or depth > MAX_DEPTH:
            raise self._refused(
                "it asks for more values than the simulator writes, or for an endless one", name
            )
        if schema is True or schema is None:
            return phrase(self._reading.subject, self._dice)
        if not isinstance(schema, dict):
            raise self._refused("no value can satisfy it, or it is no schema", name)
        schema = self._flattened(schema, name, depth)
        if "const" in schema:
            return schema["const"]
        if isinstance(options := schema.get("enum"), list):
            return self._chosen(options, name)
        kind = self._type_of(schema)
        match kind:
            case "object":
                return self._object(schema, name, depth)
            case "array":
                return self._array(schema, name, depth)
            case "boolean":
                return self._dice.below(2) == 1
            case "null":
                return None
            case _:
                return self._scalar(kind, schema, name)

    def _scalar(self, kind: str, schema: Schema, name: str) -> int | float | str:
        if kind == "integer":
            return self._integer(schema, name)
        if kind == "number":
            return self._number(schema, name)
        if kind == "string":
            return self._string(schema, name)
        raise self._refused(f"there is no type {kind!r}", name)

    def _flattened(self, schema: Schema, name: str, depth: int) -> Schema:
        """`schema` with references followed, allOf merged and one branch of anyOf or oneOf taken."""
        for _ in range(MAX_DEPTH):
            for keyword in _UNSUPPORTED:
                if keyword in schema:
                    raise self._refused(f"the simulator does not know the keyword {keyword!r}", name)
            if isinstance(pointer := schema.get("$ref"), str):
                schema = _merged(
                    {k: v for k, v in schema.items() if k != "$ref"}, self._resolved(pointer, name)
                )
            elif isinstance(every := schema.get("allOf"), list):
                schema = {key: value for key, value in schema.items() if key != "allOf"}
                for part in every:
                    schema = _merged(schema, part if isinstance(part, dict) else {})
            elif branches := schema.get("anyOf") or schema.get("oneOf"):
                rest = {key: value for key, value in schema.items() if key not in {"anyOf", "oneOf"}}
                schema = _merged(rest, self._branch(branches, name, depth))
            else:
                return schema
        raise self._refused("its references go round in a circle", name)

    def _resolved(self, pointer: str, name: str) -> Schema:
        if not pointer.startswith("#"):
            raise self._refused(f"the reference {pointer!r} leads out of the document", name)
        found = self._root
        for step in pointer[1:].strip("/").split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            inner = found.get(key) if key else found
            if not isinstance(inner, dict):
                raise self._refused(f"the reference {pointer!r} leads nowhere", name)
            found = inner
        return found

    def _branch(self, branches: Json, name: str, depth: int) -> Schema:
        options = (
            [branch for branch in branches if isinstance(branch, dict)] if isinstance(branches, list) else []
        )
        if not options:
            raise self._refused("anyOf and oneOf want a list of schemas", name)
        plain = [branch for branch in options if "$ref" not in branch]
        full = [branch for branch in options if branch.get("type") != "null"]
        if depth >= LEAN_DEPTH:
            empty = [branch for branch in options if branch.get("type") == "null"]
            return (empty or plain or options)[0]
        return self._dice.pick(full or options)

    def _type_of(self, schema: Schema) -> str:
        kind = schema.get("type")
        if isinstance(kind, list):
            names = [item for item in kind if isinstance(item, str)]
            kind = next((item for item in names if item != "null"), "null")
        if isinstance(kind, str):
            return kind
        for keyword, implied in (
            ("properties", "object"),
            ("items", "array"),
            ("prefixItems", "array"),
            ("minimum", "number"),
            ("maximum", "number"),
        ):
            if keyword in schema:
                return implied
        return "string"

    def _chosen(self, options: list[Json], name: str) -> Json:
        if not options:
            raise self._refused("enum is empty", name)
        words = [option for option in options if isinstance(option, str)]
        if len(words) == len(options):
            return pick_label(words, self._reading.subject, self._dice)
        return self._dice.pick(options)

    def _object(self, schema: Schema, name: str, depth: int) -> Schema:
        properties = schema.get("properties")
        fields = properties if isinstance(properties, dict) else {}
        wanted = schema.get("required")
        required = [key for key in wanted if isinstance(key, str)] if isinstance(wanted, list) else []
        keys = list(fields) if depth < LEAN_DEPTH else [key for key in fields if key in required]
        out: Schema = {key: self.value(fields[key], key, depth + 1) for key in keys}
        others = schema.get("additionalProperties", True)
        missing = [key for key in required if key not in out]
        least = _bound(schema, "minProperties", 0)
        missing += [f"field_{number}" for number in range(1, least - len(out) - len(missing) + 1)]
        for key in missing:
            if others is False:
                raise self._refused(f"it requires {key!r} and forbids it", name)
            out[key] = self.value(others, key, depth + 1)
        return out

    def _array(self, schema: Schema, name: str, depth: int) -> list[Json]:
        fixed = schema.get("prefixItems")
        prefix = fixed if isinstance(fixed, list) else []
        least = _bound(schema, "minItems", 0)
        most = _bound(schema, "maxItems", max(least, 3))
        if most < least:
            raise self._refused(f"minItems {least} is above maxItems {most}", name)
        items = schema.get("items", True)
        count = (
            least
            if depth >= LEAN_DEPTH
            else self._dice.between(max(least, min(1, most)), min(most, least + 3))
        )
        if items is False:
            count = min(max(count, least), len(prefix))
        out: list[Json] = []
        for at in range(count):
            out.append(self._item(prefix[at] if at < len(prefix) else items, schema, out, name, depth))
            if out[-1] is _NONE_LEFT:
                out.pop()
                break
        if len(out) < least:
            raise self._refused(f"there are not {least} different items", name)
        return out

    def _item(self, schema: Json, array: Schema, before: Sequence[Json], name: str, depth: int) -> Json:
        single = name.removesuffix("s")
        if array.get("uniqueItems") is not True:
            return self.value(schema, single, depth + 1)
        if isinstance(schema, dict) and isinstance(options := schema.get("enum"), list):
            left = [option for option in options if option not in before]
            return self._dice.pick(left) if left else _NONE_LEFT
        for _ in range(20):
            value = self.value(schema, single, depth + 1)
            if value not in before:
                return value
        return _NONE_LEFT

    def _integer(self, schema: Schema, name: str) -> int:
        low, high = self._range(
            schema, name, default=(1, 5) if "priorit" in name or "rating" in name else (0, 100)
        )
        step = _fraction(schema.get("multipleOf")) or Fraction(1)
        step = step if step.denominator == 1 else Fraction(step.numerator)
        first, last = math.ceil(low / step), math.floor(high / step)
        if "exclusiveMinimum" in schema and first * step == _fraction(schema["exclusiveMinimum"]):
            first += 1
        if "exclusiveMaximum" in schema and last * step == _fraction(schema["exclusiveMaximum"]):
            last -= 1
        if last < first:
            raise self._refused("no whole number lies within its bounds", name)
        return int(self._dice.between(first, last) * step)

    def _number(self, schema: Schema, name: str) -> float:
        if schema.get("multipleOf") is not None:
            step = _fraction(schema["multipleOf"]) or Fraction(1)
            scaled = {
                key: float(limit / step)
                for key in _LIMITS
                if (limit := _fraction(schema.get(key))) is not None
            }
            return float(self._integer({**scaled}, name) * step)
        share = "confidence" in name or "score" in name or "prob" in name
        low, high = self._range(schema, name, default=(Fraction(1, 2), 1) if share else (0, 100))
        if low == high:
            return float(low)
        # Strictly between the bounds, so that the exclusive forms hold as well.
        return float(low + (high - low) * Fraction(1 + self._dice.below(98), 100))

    def _range(
        self, schema: Schema, name: str, *, default: tuple[Fraction | int, Fraction | int]
    ) -> tuple[Fraction, Fraction]:
        lows = [_fraction(schema.get("minimum")), _fraction(schema.get("exclusiveMinimum"))]
        highs = [_fraction(schema.get("maximum")), _fraction(schema.get("exclusiveMaximum"))]
        low = max((limit for limit in lows if limit is not None), default=None)
        high = min((limit for limit in highs if limit is not None), default=None)
        width = Fraction(default[1]) - Fraction(default[0])
        if low is None:
            low = Fraction(default[0]) if high is None or high > default[0] else high - width
        if high is None:
            high = Fraction(default[1]) if low < default[1] else low + width
        if low > high or (low == high and ("exclusiveMinimum" in schema or "exclusiveMaximum" in schema)):
            raise self._refused(f"nothing lies between {float(low):g} and {float(high):g}", name)
        return low, high

    def _string(self, schema: Schema, name: str) -> str:
        least, most = _bound(schema, "minLength", 0), _bound(schema, "maxLength", 10_000)
        if most < least:
            raise self._refused(f"minLength {least} is above maxLength {most}", name)
        if isinstance(pattern := schema.get("pattern"), str):
            return self._matching(pattern, least, most, name)
        text = _FORMATS.get(str(schema.get("format"))) or self._words(name)
        while len(text) < least:
            text = f"{text} {text}" if text else "word"
        return text[:most]

    def _words(self, name: str) -> str:
        lowered = name.lower()
        reading = self._reading
        if lowered in _LABEL_NAMES and reading.labels:
            return pick_label(reading.labels, reading.subject, self._dice)
        if any(part in lowered for part in _SUMMARY_NAMES):
            return summarise(reading.subject, " ".join(reading.labels))
        if any(part in lowered for part in _PROSE_NAMES):
            return paragraph(reading.subject, self._dice, (1, 2))
        if lowered in {"language", "lang", "locale"}:
            return "en"
        return phrase(reading.subject, self._dice)

    def _matching(self, pattern: str, least: int, most: int, name: str) -> str:
        try:
            wanted = re.compile(pattern)
        except re.error as error:
            raise self._refused(f"the pattern {pattern!r} is no regular expression: {error}", name) from None
        for text in _PATTERN_TRIES:
            if least <= len(text) <= most and wanted.search(text):
                return text
        raise self._refused(f"the simulator knows no string for the pattern {pattern!r}", name)

    def _refused(self, why: str, name: str) -> CannotAnswer:
        place = f" at property {name!r}" if name else ""
        return CannotAnswer(
            f"Invalid schema in {self._param}{place}: {why}.", param=self._param, code="invalid_schema"
        )


_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
# A value that no JSON document can hold by identity: "there is no further different item".
_NONE_LEFT: Json = {"": "none left"}


def _merged(first: Schema, second: Schema) -> Schema:
    """Both schemas at once; properties and required are united, of other keywords the first one's stands."""
    out: Schema = {**second, **first}
    mine, theirs = first.get("properties"), second.get("properties")
    if isinstance(mine, dict) and isinstance(theirs, dict):
        out["properties"] = {**theirs, **mine}
    needed, also = first.get("required"), second.get("required")
    if isinstance(needed, list) and isinstance(also, list):
        out["required"] = [*needed, *(key for key in also if key not in needed)]
    return out


def _bound(schema: Schema, keyword: str, default: int) -> int:
    value = schema.get(keyword)
    return (
        int(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
        else default
    )


def _fraction(value: Json) -> Fraction | None:
    """The number exactly as it was written: 0.1 is one tenth, not the nearest double."""
    return Fraction(repr(value)) if isinstance(value, int | float) and not isinstance(value, bool) else None
