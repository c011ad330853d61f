"""Whether a value is of a JSON Schema, for schemas as models are asked with.

Words and meanings: JSON Schema 2020-12 (Core, Validation), of which the words below are known. `format` says nothing
there unless asked to, and so it does here. A schema with any other word is refused before anybody is asked: what is
not checked must not look as if it were.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from typing import TypeGuard

Schema = Mapping[str, object]

_MAX_DEPTH = 100
_SILENT = frozenset({
    "$schema", "$id", "$comment", "$defs", "definitions", "title", "description", "default", "examples", "deprecated",
    "format", "readOnly", "writeOnly",
})  # fmt: skip
_BOUNDS: dict[str, tuple[Callable[[float, float], bool], str]] = {
    "minimum": (lambda value, bound: value >= bound, "at least"),
    "maximum": (lambda value, bound: value <= bound, "at most"),
    "exclusiveMinimum": (lambda value, bound: value > bound, "more than"),
    "exclusiveMaximum": (lambda value, bound: value < bound, "less than"),
}
_SIZES = {
    "minLength": ("maxLength", "string", "characters"),
    "minItems": ("maxItems", "array", "items"),
    "minProperties": ("maxProperties", "object", "properties"),
}
_CHECKED = frozenset({
    "$ref", "type", "enum", "const", "properties", "required", "additionalProperties", "items", "anyOf", "oneOf", "allOf",
    "pattern", *_BOUNDS, *_SIZES, *(most for most, _, _ in _SIZES.values()),
})  # fmt: skip
_ONE_OF_EACH: tuple[object, ...] = (None, True, 0, "", [], {})
_TYPES = frozenset({"object", "array", "string", "integer", "number", "boolean", "null"})


def check_schema(schema: Schema) -> None:
    """Make sure that all of a schema is understood.

    Raises:
        ValueError: a word is unknown or means nothing, a `$ref` leads nowhere or in a circle, or it is too deep.
    """
    _check_schema(schema, schema, "$", 0)
    for value in _ONE_OF_EACH:
        try:
            for _ in _problems(schema, schema, value, "$"):
                pass
        except RecursionError:
            raise ValueError("JSON Schema: a $ref within its choices leads in a circle") from None


def named_in_place(schema: Schema) -> Schema:
    """The schema of a named type with the type itself at its root, where a generator put a `$ref` to it."""
    definitions, ref = schema.get("$defs"), schema.get("$ref")
    if not is_object(definitions) or not isinstance(ref, str):
        return schema
    name = ref.rpartition("/")[2]
    root = definitions[name]
    if not is_object(root):
        return schema
    others = {other: said for other, said in definitions.items() if other != name}
    if f"'{ref}'" in repr((root, others)):
        others = dict(definitions)  # it holds others of its kind
    return {**root, "$defs": others} if others else root


def problem(schema: Schema, value: object) -> str | None:
    """What is wrong with `value`, and where; None: nothing.

    Args:
        schema: one that `check_schema` let pass.
        value: JSON, decoded.
    """
    return next(_problems(schema, schema, value, "$"), None)


def _check_schema(root: Schema, schema: object, at: str, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not is_object(schema):
        raise ValueError(f"JSON Schema at {at}: an object or a boolean is wanted, not {schema!r}")
    if depth > _MAX_DEPTH:
        raise ValueError(f"JSON Schema at {at}: deeper than {_MAX_DEPTH}")
    unknown = sorted(schema.keys() - _SILENT - _CHECKED)
    if unknown:
        raise ValueError(f"JSON Schema at {at}: {unknown[0]!r} is not among what is checked")
    _check_words(schema, at)
    _follow(root, schema, at)
    for where, inner in _inner(schema, at):
        _check_schema(root, inner, where, depth + 1)


def _check_words(schema: Schema, at: str) -> None:
    for word, said in schema.items():
        right = _RIGHT.get(word)
        if right is not None and not right(said):
            raise ValueError(f"JSON Schema at {at}: {word} cannot be {said!r}")


def _inner(schema: Schema, at: str) -> Iterator[tuple[str, object]]:
    for word in ("properties", "$defs", "definitions"):
        named = schema.get(word)
        if is_object(named):
            yield from ((f"{at}.{word}.{name}", inner) for name, inner in named.items())
    for word in ("anyOf", "oneOf", "allOf"):
        listed = schema.get(word)
        if is_array(listed):
            yield from ((f"{at}.{word}[{place}]", inner) for place, inner in enumerate(listed))
    yield from (
        (f"{at}.{word}", schema[word]) for word in ("items", "additionalProperties") if word in schema
    )


def _follow(root: Schema, schema: Schema, at: str) -> object:
    """What a chain of references ends at."""
    found: object = schema
    seen: set[object] = set()
    while is_object(found) and "$ref" in found:
        ref = found["$ref"]
        if not isinstance(ref, str) or not ref.startswith("#"):
            raise ValueError(f"JSON Schema at {at}: $ref {ref!r} leads out of the schema")
        if ref in seen:
            raise ValueError(f"JSON Schema at {at}: $ref {ref!r} leads in a circle")
        seen.add(ref)
        found = _at(root, ref)
        if found is None:
            raise ValueError(f"JSON Schema at {at}: $ref {ref!r} leads nowhere")
    return found


def _at(root: Schema, ref: str) -> object:
    found: object = root
    for name in ref[1:].split("/")[1:]:
        found = found.get(name.replace("~1", "/").replace("~0", "~")) if is_object(found) else None
    return found


def _problems(root: Schema, schema: object, value: object, at: str) -> Iterator[str]:
    if schema is False:
        yield f"nothing may stand at {at}"
    if not is_object(schema):
        return
    if "$ref" in schema:
        yield from _problems(root, _at(root, str(schema["$ref"])), value, at)
    types = _names(schema.get("type"))
    if types and not any(_is_of(value, name) for name in types):
        yield f"{' or '.join(types)} expected at {at}, got {_name(value)}"
        return
    enum = schema.get("enum")
    if is_array(enum) and not any(_same(value, one) for one in enum):
        yield f"{value!r} at {at} is none of {list(enum)!r}"
    if "const" in schema and not _same(value, schema["const"]):
        yield f"{value!r} at {at} is not {schema['const']!r}"
    yield from _size_problems(schema, value, at)
    if is_object(value):
        yield from _object_problems(root, schema, value, at)
    if is_array(value) and "items" in schema:
        for place, item in enumerate(value):
            yield from _problems(root, schema["items"], item, f"{at}[{place}]")
    yield from _combination_problems(root, schema, value, at)


def _size_problems(schema: Schema, value: object, at: str) -> Iterator[str]:
    if _is_number(value):
        for word, (holds, words) in _BOUNDS.items():
            bound = schema.get(word)
            if _is_number(bound) and not holds(value, bound):
                yield f"{value!r} at {at} must be {words} {bound}"
    for least, (most, kind, unit) in _SIZES.items():
        if kind == _name(value) and isinstance(value, Sized):
            low, high = schema.get(least), schema.get(most)
            if _is_number(low) and len(value) < low:
                yield f"at least {low} {unit} expected at {at}, got {len(value)}"
            if _is_number(high) and len(value) > high:
                yield f"at most {high} {unit} expected at {at}, got {len(value)}"
    pattern = schema.get("pattern")
    if isinstance(pattern, str) and isinstance(value, str) and not re.search(pattern, value):
        yield f"{value!r} at {at} does not match {pattern!r}"


def _object_problems(root: Schema, schema: Schema, value: Schema, at: str) -> Iterator[str]:
    required = schema.get("required")
    if is_array(required):
        yield from (f"{name!r} is missing at {at}" for name in required if name not in value)
    properties = schema.get("properties")
    known: Schema = properties if is_object(properties) else {}
    others = schema.get("additionalProperties", True)
    for name, one in value.items():
        if name in known:
            yield from _problems(root, known[name], one, f"{at}.{name}")
        elif others is False:
            yield f"{name!r} is not expected at {at}"
        else:
            yield from _problems(root, others, one, f"{at}.{name}")


def _combination_problems(root: Schema, schema: Schema, value: object, at: str) -> Iterator[str]:
    for word in ("anyOf", "oneOf", "allOf"):
        choices = schema.get(word)
        if not is_array(choices):
            continue
        found = [next(_problems(root, one, value, at), None) for one in choices]
        wrong = [one for one in found if one is not None]
        fits = len(found) - len(wrong)
        if word == "oneOf" and fits > 1:
            yield f"{at} fits {fits} of the choices and must fit one"
        elif (word == "allOf" and wrong) or not fits:
            yield "; or ".join(dict.fromkeys(wrong))


def _names(types: object) -> tuple[str, ...]:
    if isinstance(types, str):
        return (types,)
    return tuple(str(name) for name in types) if is_array(types) else ()


def _is_of(value: object, name: str) -> bool:
    if name == "integer":
        return _is_number(value) and value == value // 1
    return name == _name(value) or (name == "number" and _is_number(value))


def _name(value: object) -> str:
    if value is None:
        return "null"
    for kind, name in ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string")):
        if isinstance(value, kind):
            return name
    return "object" if is_object(value) else "array"


def _same(one: object, other: object) -> bool:
    """Equality as JSON has it, where true is not 1."""
    if is_array(one) and is_array(other):
        return len(one) == len(other) and all(map(_same, one, other))
    if is_object(one) and is_object(other):
        return one.keys() == other.keys() and all(_same(one[name], other[name]) for name in one)
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def is_object(value: object) -> TypeGuard[Schema]:
    """Whether JSON is an object."""
    return isinstance(value, Mapping)


def is_array(value: object) -> TypeGuard[Sequence[object]]:
    """Whether JSON is an array."""
    return isinstance(value, list | tuple)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_pattern(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def _are_types(said: object) -> bool:
    return bool(_names(said)) and set(_names(said)) <= _TYPES


def _are_names(said: object) -> bool:
    return is_array(said) and all(isinstance(name, str) for name in said)


def _are_choices(said: object) -> bool:
    return is_array(said) and bool(said)


_RIGHT: dict[str, Callable[[object], bool]] = {
    "type": _are_types,
    "required": _are_names,
    "enum": is_array,
    "pattern": _is_pattern,
    **dict.fromkeys(("properties", "$defs", "definitions"), is_object),
    **dict.fromkeys(("anyOf", "oneOf", "allOf"), _are_choices),
    **dict.fromkeys((*_BOUNDS, *_SIZES, *(most for most, _, _ in _SIZES.values())), _is_number),
}
"""What may be said by a word."""
