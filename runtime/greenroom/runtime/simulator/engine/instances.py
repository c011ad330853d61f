"""Invents JSON that satisfies a JSON Schema and, as far as names tell, says something about the prompt.

Understood: type, properties, required, additionalProperties, minProperties, items, prefixItems, minItems, maxItems,
uniqueItems, enum, const, anyOf, oneOf, allOf, $ref inside the document, minimum and maximum with their exclusive
forms, multipleOf, minLength, maxLength, the usual formats, and patterns that one of a few everyday strings matches.
What is not understood and could make an answer invalid is refused by name rather than guessed.
Source: JSON Schema 2020-12, and the subset of OpenAI's guide to structured outputs.
"""

import re
from collections.abc import Sequence

from greenroom.runtime.simulator.engine.dice import Dice
from greenroom.runtime.simulator.engine.question import CannotAnswer, Json, Schema
from greenroom.runtime.simulator.engine.reading import Reading, pick_label, summarise
from greenroom.runtime.simulator.engine.scalars import Unsatisfiable, bound, number, string, whole_number
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
        # References whose target is being written: to follow one of them again is to recurse.
        self._open: list[str] = []

    def value(self, schema: Json, name: str, depth: int) -> Json:
        """A value for one place of the document; `name` is the property it fills."""
        already_open = len(self._open)
        try:
            return self._value(schema, name, depth)
        finally:
            del self._open[already_open:]

    def _value(self, schema: Json, name: str, depth: int) -> Json:
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
        try:
            if kind == "integer":
                graded = "priorit" in name or "rating" in name
                return whole_number(schema, self._dice, usual=(1, 5) if graded else (0, 100))
            if kind == "number":
                share = "confidence" in name or "score" in name or "prob" in name
                return number(schema, self._dice, usual=(0.5, 1.0) if share else (0.0, 100.0))
            if kind == "string":
                return string(schema, lambda: self._words(name))
        except Unsatisfiable as error:
            raise self._refused(str(error), name) from None
        raise self._refused(f"there is no type {kind!r}", name)

    def _flattened(self, schema: Schema, name: str, depth: int) -> Schema:
        """`schema` with references followed, allOf merged and one branch of anyOf or oneOf taken."""
        for _ in range(MAX_DEPTH):
            for keyword in _UNSUPPORTED:
                if keyword in schema:
                    raise self._refused(f"the simulator does not know the keyword {keyword!r}", name)
            if isinstance(pointer := schema.get("$ref"), str):
                self._open.append(pointer)
                beside = {key: value for key, value in schema.items() if key != "$ref"}
                schema = _merged(beside, self._resolved(pointer, name))
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
        full = [branch for branch in options if branch.get("type") != "null"]
        new = [branch for branch in full if not self._recurses(branch)]
        if new and depth < LEAN_DEPTH:
            return self._dice.pick(new)
        empty = [branch for branch in options if branch.get("type") == "null"]
        return (empty or [branch for branch in new if "$ref" not in branch] or new or options)[0]

    def _recurses(self, schema: Json) -> bool:
        return isinstance(schema, dict) and schema.get("$ref") in self._open

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
        lean = depth >= LEAN_DEPTH
        keys = [key for key in fields if key in required or not (lean or self._recurses(fields[key]))]
        out: Schema = {key: self.value(fields[key], key, depth + 1) for key in keys}
        others = schema.get("additionalProperties", True)
        missing = [key for key in required if key not in out]
        least = bound(schema, "minProperties", 0)
        missing += [f"field_{number}" for number in range(1, least - len(out) - len(missing) + 1)]
        for key in missing:
            if others is False:
                raise self._refused(f"it requires {key!r} and forbids it", name)
            out[key] = self.value(others, key, depth + 1)
        return out

    def _array(self, schema: Schema, name: str, depth: int) -> list[Json]:
        fixed = schema.get("prefixItems")
        prefix = fixed if isinstance(fixed, list) else []
        least = bound(schema, "minItems", 0)
        most = bound(schema, "maxItems", max(least, 3))
        if most < least:
            raise self._refused(f"minItems {least} is above maxItems {most}", name)
        items = schema.get("items", True)
        count = least
        if depth < LEAN_DEPTH and not self._recurses(items):
            count = self._dice.between(max(least, min(1, most)), min(most, least + 3))
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

    def _refused(self, why: str, name: str) -> CannotAnswer:
        place = f" at property {name!r}" if name else ""
        return CannotAnswer(
            f"Invalid schema in {self._param}{place}: {why}.", param=self._param, code="invalid_schema"
        )


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
