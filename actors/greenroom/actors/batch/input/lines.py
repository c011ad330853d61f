"""Lines of a job: from a record's bytes to a request, or to a reason why not.

JSON lines, all objects, have three forms:
- OpenAI's batch line: `{"custom_id": ..., "method": "POST", "url": "/v1/chat/completions", "body": {...}}`
- `{"messages": [...]}`, and `{"prompt": "..."}` for one user message; `custom_id` is optional in both.

A CSV row asks by its column `prompt`, and is called by its column `custom_id`. A job that has a template asks with what
the template makes of a line's fields, whatever they are called.

Nothing is dropped in silence: an option that greenroom does not know travels to the provider as it is, and what a
line must not hold (`stream`, `n` above 1, an option or a prompt beside `body`) is refused with the line's number.
"""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.batch.input.errors import BadInput, BadLine
from greenroom.actors.batch.input.options import JobOptions
from greenroom.actors.batch.input.reading import MAX_RECORD_BYTES
from greenroom.actors.batch.input.rows import fields
from greenroom.actors.batch.input.templates import check, is_template, render
from greenroom.actors.providers import ChatOptions, ChatRequest, MaxTokens, Message

_URL = "/v1/chat/completions"


class Defaults(Struct, frozen=True):
    """What the job says for all lines.

    `model`, `max_tokens` and `options` win over a line's own; `system` goes before its messages where they have no
    system message. `prompt` and `system` may be templates over a line's fields; with a `prompt` a line is nothing but
    fields.
    """

    model: str | None = None
    fallback_model: str | None = None
    max_tokens: int | None = None
    system: str | None = None
    prompt: str | None = None
    options: JobOptions = JobOptions()


class Line(Struct, frozen=True, gc=False):
    """One line, ready to ask. `row` is its fields where it is a CSV row."""

    custom_id: str
    request: ChatRequest
    row: tuple[str, ...] = ()


class _Line(Struct, gc=False):
    custom_id: str | None = None
    method: Literal["POST"] = "POST"
    url: str = _URL
    body: Raw | UnsetType = UNSET
    messages: tuple[Message, ...] | None = None
    prompt: str | None = None


class _Body(ChatOptions, frozen=True, kw_only=True, gc=False):
    messages: tuple[Message, ...]
    model: str | None = None
    max_completion_tokens: MaxTokens | None = None
    stream: bool | None = None
    n: int | None = None


_KNOWN = frozenset(_Body.__struct_fields__)
_OUTSIDE = _KNOWN - frozenset(_Line.__struct_fields__)
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_raw_fields = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_fields = msgspec.json.Decoder(dict[str, object]).decode


def check_defaults(defaults: Defaults, columns: tuple[str, ...] | None) -> None:
    """Look at what is said for all lines before any of them is.

    Args:
        defaults: what the job says.
        columns: of a CSV input; None: the lines are JSON.

    Raises:
        BadInput: a template is none or names a column that there is not, or nothing says what to ask, or whom.
    """
    own_model = columns is None and defaults.prompt is None
    if not own_model and defaults.model is None and defaults.fallback_model is None:
        raise BadInput("no model is named: say --model provider/model; greenroom models lists them")
    try:
        if columns is not None and defaults.prompt is None and "prompt" not in columns:
            raise BadInput(  # noqa: TRY301 - the hint below is for this too
                f"no column is called prompt: say what to ask with --prompt, such as "
                f'--prompt "Classify: {{{{ {columns[0]} }}}}"; there are: {", ".join(columns[:20])}'
            )
        for text, what in ((defaults.prompt, "--prompt"), (defaults.system, "--system")):
            if text is not None and not text.strip():
                raise BadInput(f"{what} is empty")  # noqa: TRY301 - as above
            if text is not None:
                check(text, what, columns)
    except BadInput as error:
        if columns is not None and len(columns) == 1 and re.search(r"[;\t]", columns[0]):
            raise BadInput(
                f"{error} Are the columns separated by semicolons or tabs? Save the file with commas"
            ) from None
        raise


def parse(raw: bytes, number: int, defaults: Defaults, columns: tuple[str, ...] | None = None) -> Line:
    """The request that a record asks for.

    Args:
        raw: its bytes.
        number: the number of its first line, from 1, for errors and for a `custom_id` where it has none.
        defaults: what the job says for all lines.
        columns: of a CSV input; None: the record is JSON.

    Raises:
        BadLine: with the number, the place within the line, and what would be right.
    """
    try:
        if columns is not None:
            return _parse_row(raw, number, defaults, columns)
        if len(raw) > MAX_RECORD_BYTES:
            raise ValueError(f"longer than {MAX_RECORD_BYTES} bytes")  # noqa: TRY301 - one place names the line
        raw.decode()  # the decoder does not look at what it skips or hands on
        if defaults.prompt is not None:
            return _parse_fields(raw, number, defaults)
        return _parse_line(raw, number, defaults)
    except msgspec.ValidationError as error:
        raise BadLine(number, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(number, f"not a JSON object: {error}") from None
    except ValueError as error:
        raise BadLine(number, str(error)) from None


def _parse_row(raw: bytes, number: int, defaults: Defaults, columns: tuple[str, ...]) -> Line:
    row = fields(raw)
    if len(row) != len(columns):
        raise ValueError(f"has {len(row)} fields, the header {len(columns)}: {', '.join(columns[:20])}")
    values = dict(zip(columns, row, strict=True))
    prompt = values["prompt"] if defaults.prompt is None else render(defaults.prompt, values)
    body = _Body(messages=(Message("user", prompt),))
    return Line(values.get("custom_id") or f"line-{number}", _request(body, {}, defaults, values), row)


def _parse_fields(raw: bytes, number: int, defaults: Defaults) -> Line:
    assert defaults.prompt is not None
    values = _decode_fields(raw)
    if whole := [name for name in ("body", "messages") if name in values]:
        raise ValueError(f'has "{whole[0]}", a request of its own; with --prompt a line is fields alone')
    custom_id = values.get("custom_id")
    if not isinstance(custom_id, str | None):
        raise ValueError(f"custom_id is {custom_id!r}; it must be text")  # noqa: TRY004 - the input's fault
    body = _Body(messages=(Message("user", render(defaults.prompt, values)),))
    return Line(custom_id or f"line-{number}", _request(body, {}, defaults, values))


def _parse_line(raw: bytes, number: int, defaults: Defaults) -> Line:
    line = _decode_line(raw)
    body, extra = _body_of(line, raw)
    values = _decode_fields(raw) if defaults.system is not None and is_template(defaults.system) else {}
    return Line(line.custom_id or f"line-{number}", _request(body, extra, defaults, values))


def _body_of(line: _Line, raw: bytes) -> tuple[_Body, dict[str, Raw]]:
    outside = sorted(_OUTSIDE.intersection(_decode_raw_fields(raw)))
    if outside:
        raise ValueError(f'{", ".join(outside)} belong in "body", or to the whole job as an option')
    extra: dict[str, Raw] = {}
    if line.body is not UNSET:
        if line.prompt is not None or line.messages is not None:
            raise ValueError('has "prompt" or "messages" beside "body"; write one of them')
        if line.url != _URL:
            raise ValueError(f"url is {line.url!r}; only {_URL!r} is answered")
        body = _decode_body(line.body)
        extra = {name: value for name, value in _decode_raw_fields(line.body).items() if name not in _KNOWN}
        if body.stream:
            raise ValueError("body.stream is true; a line of a job is answered whole")
        if body.n not in {None, 1}:
            raise ValueError(f"body.n is {body.n}; a line gets one answer, so write it {body.n} times")
    elif line.prompt is not None and line.messages is None:
        body = _Body(messages=(Message("user", line.prompt),))
    elif line.messages is not None and line.prompt is None:
        body = _Body(messages=line.messages)
    else:
        raise ValueError('needs one of "prompt", "messages" or "body"')
    if not body.messages:
        raise ValueError("has no messages")
    return body, extra


def _request(
    body: _Body, extra: dict[str, Raw], defaults: Defaults, values: Mapping[str, object]
) -> ChatRequest:
    model = defaults.model or body.model or defaults.fallback_model
    if model is None:
        raise ValueError(
            "names no model, and the job has none: add body.model, or --model; greenroom models lists them"
        )
    messages = body.messages
    if defaults.system is not None and messages[0].role not in {"system", "developer"}:
        messages = (Message("system", render(defaults.system, values)), *messages)
    options = {name: getattr(body, name) for name in ChatOptions.__struct_fields__}
    options.update(defaults.options.known)
    options["max_tokens"] = defaults.max_tokens or body.max_completion_tokens or body.max_tokens
    if defaults.options.extra:
        extra = extra | defaults.options.extra
    return ChatRequest(model=model, messages=messages, extra=extra, **options)
