"""Lines of a job: from bytes to a request, or to a reason why not.

Three forms, all JSON objects, one a line:
- OpenAI's batch line: `{"custom_id": ..., "method": "POST", "url": "/v1/chat/completions", "body": {...}}`
- `{"messages": [...]}`, and `{"prompt": "..."}` for one user message; `custom_id` is optional in both.

Nothing is dropped in silence: an option that greenroom does not know travels to the provider as it is, and what a
line must not hold (`stream`, `n` above 1, an option outside `body`) is refused with the line's number.
"""

from collections.abc import Iterator
from hashlib import blake2b
from typing import BinaryIO, Literal

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, structs

from greenroom.actors.providers import ChatOptions, ChatRequest, Message

MAX_LINE_BYTES = 16 * 1024 * 1024
"""Longer than any request a provider takes."""

_URL = "/v1/chat/completions"
_BOM = b"\xef\xbb\xbf"
_DIGEST_BYTES = 16


class BadLine(Exception):
    """A line of the input cannot be asked; the message says which line and what would be right."""

    def __init__(self, number: int, reason: str) -> None:
        super().__init__(number, reason)
        self.number = number
        self.reason = reason

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}"


class Defaults(Struct, frozen=True):
    """What the job says for all lines. `model` and `max_tokens` win over a line's own, `system` goes before its
    messages where they have no system message.
    """

    model: str | None = None
    fallback_model: str | None = None
    max_tokens: int | None = None
    system: str | None = None


class Line(Struct, frozen=True, gc=False):
    """One line, ready to ask."""

    custom_id: str
    request: ChatRequest


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
    max_completion_tokens: int | None = None
    stream: bool | None = None
    n: int | None = None


_KNOWN = frozenset(structs.asdict(_Body(messages=())))
_LINE_FIELDS = frozenset(_Line.__struct_fields__)
_OPTIONS_OUTSIDE = _KNOWN - _LINE_FIELDS
_decode_line = msgspec.json.Decoder(_Line).decode
_decode_body = msgspec.json.Decoder(_Body).decode
_decode_fields = msgspec.json.Decoder(dict[str, Raw]).decode


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, without their ends; one that is too long comes cut, one byte over the limit."""
    first = True
    while raw := file.readline(MAX_LINE_BYTES + 1):
        if len(raw) > MAX_LINE_BYTES:
            rest = raw
            while not rest.endswith(b"\n") and (rest := file.readline(MAX_LINE_BYTES)):
                pass
        yield raw.removeprefix(_BOM).strip() if first else raw.strip()
        first = False


def digest(raw: bytes) -> bytes:
    """What tells that a line is the same line: 16 bytes of BLAKE2b over its bytes."""
    return blake2b(raw, digest_size=_DIGEST_BYTES).digest()


def parse(raw: bytes, number: int, defaults: Defaults) -> Line:
    """The request that a line asks for.

    Args:
        raw: the line's bytes.
        number: the line's number, from 1, for errors and for a `custom_id` where it has none.
        defaults: what the job says for all lines.

    Raises:
        BadLine: with the number, the place within the line, and what would be right.
    """
    if len(raw) > MAX_LINE_BYTES:
        raise BadLine(number, f"longer than {MAX_LINE_BYTES} bytes")
    try:
        line = _decode_line(raw)
        body, extra = _body_of(line, raw)
    except msgspec.ValidationError as error:
        raise BadLine(number, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadLine(number, f"not a JSON object: {error}") from None
    except ValueError as error:
        raise BadLine(number, str(error)) from None
    model = defaults.model or body.model or defaults.fallback_model
    if model is None:
        raise BadLine(number, "names no model, and the job has none: add body.model, or --model")
    return Line(line.custom_id or f"line-{number}", _request(body, model, extra, defaults))


def _body_of(line: _Line, raw: bytes) -> tuple[_Body, dict[str, Raw]]:
    if line.body is not UNSET:
        if line.url != _URL:
            raise ValueError(f"url is {line.url!r}; only {_URL!r} is answered")
        body = _decode_body(line.body)
        extra = {name: value for name, value in _decode_fields(line.body).items() if name not in _KNOWN}
        if body.stream:
            raise ValueError("body.stream is true; a line of a job is answered whole")
        if body.n not in {None, 1}:
            raise ValueError(f"body.n is {body.n}; a line gets one answer, so write it {body.n} times")
    else:
        if outside := sorted(_OPTIONS_OUTSIDE.intersection(_decode_fields(raw))):
            raise ValueError(f'{", ".join(outside)} belong in "body", or to the whole job as an option')
        if line.prompt is not None and line.messages is None:
            body, extra = _Body(messages=(Message("user", line.prompt),)), {}
        elif line.messages is not None and line.prompt is None:
            body, extra = _Body(messages=line.messages), {}
        else:
            raise ValueError('needs one of "prompt", "messages" or "body"')
    if not body.messages:
        raise ValueError("has no messages")
    for bound in (body.max_tokens, body.max_completion_tokens):
        if bound is not None and bound < 1:
            raise ValueError(f"max_tokens is {bound}; it must be 1 or more")
    return body, extra


def _request(body: _Body, model: str, extra: dict[str, Raw], defaults: Defaults) -> ChatRequest:
    messages = body.messages
    if defaults.system is not None and messages[0].role not in {"system", "developer"}:
        messages = (Message("system", defaults.system), *messages)
    options = {name: getattr(body, name) for name in ChatOptions.__struct_fields__}
    options["max_tokens"] = defaults.max_tokens or body.max_completion_tokens or body.max_tokens
    return ChatRequest(model=model, messages=messages, extra=extra, **options)
