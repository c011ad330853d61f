"""Prompts made from a line's fields: Jinja, sandboxed, strict about names.

`{{ text }}` is the field `text`; `{{ fields["Ticket text"] }}` one whose name is no identifier. Text stands as it is,
anything else as JSON (`true`, `null`, `[1, 2]`). A name that the line does not have is an error, never an empty text.
The same line makes the same prompt at any time, so what Jinja has of chance is taken out. Text without `{{`, `{%` or
`{#` is no template and costs nothing.

The sandbox keeps a template from Python and from what it is not given. It does not keep one from wasting time and
memory (`{{ "x" * 10 ** 10 }}`): templates come from who runs the job, never from its input.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from functools import cache, lru_cache
from typing import TYPE_CHECKING

import msgspec

from greenroom.actors.batch.input.errors import BadInput
from greenroom.actors.batch.input.reading import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from jinja2 import Template, TemplateSyntaxError
    from jinja2.lexer import Token, TokenStream
    from jinja2.sandbox import SandboxedEnvironment

ALL_FIELDS = "fields"
"""The name by which a template reaches fields whose own names are no identifiers."""

_SYNTAX = re.compile(r"\{[{%#]")
_NAME = re.compile(r"'(\w+)' is undefined|has no (?:attribute|element) '(.*)'")


def is_template(text: str) -> bool:
    """Whether `text` is more than plain text."""
    return _SYNTAX.search(text) is not None


def check(text: str, what: str, columns: Iterable[str] | None = None) -> None:
    """Look at a template before any line is.

    Args:
        text: the template, or plain text.
        what: what to call it in errors: `--prompt`.
        columns: the names that every line has; None: they differ from line to line.

    Raises:
        BadInput: it is no template, with line and column, or names a column that there is not.
    """
    if not is_template(text):
        return
    from jinja2 import TemplateSyntaxError, meta

    environment = _environment()
    try:
        tree = environment.parse(text)
        _compiled(text)  # filters and tests are looked up only here
    except TemplateSyntaxError as error:
        raise BadInput(f"{what}, {_line_and_column(text, _offset(text, error))}: {error.message}") from None
    if columns is None:
        return
    known = [*columns, ALL_FIELDS, *environment.globals]
    for name in sorted(meta.find_undeclared_variables(tree).difference(known), key=text.find):
        at = re.search(rf"\b{re.escape(name)}\b", text)
        where = _line_and_column(text, at.start() if at else 0)
        raise BadInput(f"{what}, {where}: {_no_field(name, list(columns), 'the input')}")


def render(text: str, values: Mapping[str, object]) -> str:
    """The text that a template makes of a line's fields.

    Raises:
        ValueError: a field is missing, or the template cannot be followed with these.
    """
    if not is_template(text):
        return text
    from jinja2 import TemplateError, UndefinedError

    try:
        return _bounded(_compiled(text).generate({ALL_FIELDS: values, **values}))
    except UndefinedError as error:
        name = _NAME.search(str(error))
        missing = next(filter(None, name.groups()), "") if name else ""
        raise ValueError(_no_field(missing, list(values), "it") if missing else str(error)) from None
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise ValueError(f"the template cannot be followed: {error}") from None


def _bounded(parts: Iterable[str]) -> str:
    kept: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > MAX_RECORD_BYTES:
            raise ValueError(f"it makes a text of more than {MAX_RECORD_BYTES} characters")
        kept.append(part)
    return "".join(kept)


def _no_field(name: str, known: list[str], whose: str) -> str:
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {_reference(near[0])}?" if near else f"there are: {', '.join(known[:20]) or 'none'}"
    return f"{whose} has no field {name!r}; {hint}"


def _reference(name: str) -> str:
    return name if name.isidentifier() else f'{ALL_FIELDS}["{name}"]'


@cache
def _environment() -> "SandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    # Every text is the caller's own, plain, and its last newline belongs to it.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, keep_trailing_newline=True, finalize=_as_text
    )
    del environment.globals["lipsum"], environment.filters["random"]
    return environment


@lru_cache(maxsize=64)
def _compiled(text: str) -> "Template":
    return _environment().from_string(text)


def _as_text(value: object) -> object:
    from jinja2 import Undefined

    if isinstance(value, str | Undefined):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()


def _offset(text: str, error: "TemplateSyntaxError") -> int:
    """Where in `text` a syntax error is. Jinja tells the line only, so it parses again while its tokens are watched."""
    from jinja2 import Environment, TemplateSyntaxError
    from jinja2.ext import Extension

    if unexpected := re.search(r" at (\d+)$", error.message or ""):
        return int(unexpected[1])
    if unknown := re.search(r"No \w+ named '(.+)'", error.message or ""):
        return text.find(unknown[1])
    seen: list[Token] = []

    class Watching(Extension):
        def filter_stream(self, stream: "TokenStream") -> "Iterator[Token]":
            for token in stream:
                seen.append(token)
                yield token

    with suppress(TemplateSyntaxError):
        Environment(extensions=[Watching]).parse(text)  # noqa: S701 - nothing is rendered
    start = end = 0
    for token in seen:
        value = str(token.value)
        if (found := text.find(value, end)) >= 0:
            start, end = found, found + len(value)
    if bracket := re.match(r"unexpected '(.)'", error.message or ""):
        # The lexer's own complaint, which comes before the parser has seen what stands before it.
        return max(start, text.find(bracket[1], end))
    return start


def _line_and_column(text: str, offset: int) -> str:
    return f"line {text.count(chr(10), 0, offset) + 1}, column {offset - text.rfind(chr(10), 0, offset)}"
