"""The first look at a job's input, before any money is spent: every line parsed, counted and weighed.

It runs in a thread and keeps 8 bytes a line (for duplicate ids), whatever the size of the input.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from itertools import pairwise, takewhile
from pathlib import Path

import msgspec
from msgspec import Struct

from greenroom.actors.batch.input.errors import BadLine
from greenroom.actors.batch.input.lines import Defaults, Line, check_defaults, parse
from greenroom.actors.batch.input.reading import BOM, InputForm, records
from greenroom.actors.batch.input.rows import columns
from greenroom.actors.call.bounds import input_tokens_bound, output_tokens_bound
from greenroom.actors.providers import ChatRequest, TextPart

_REPORTED = 20
_EVERY = 1000
_BYTES_PER_TOKEN = 4
_BODY_MARGIN = 128
_encode = msgspec.json.Encoder().encode


class ModelShare(Struct):
    """What a job asks of one model: lines, input tokens (estimated), and the output it allows at most.

    `unbounded` counts lines that set no `max_tokens`. `input_bound` is what the input tokens cannot exceed;
    `largest_input` is that of one line, `smallest_input` and `smallest_output` (0: no line is bounded) of no line less.
    """

    lines: int = 0
    input_tokens: int = 0
    max_output_tokens: int = 0
    unbounded: int = 0
    input_bound: int = 0
    largest_input: int = 0
    smallest_input: int = 0
    smallest_output: int = 0


class Scan(Struct, frozen=True, kw_only=True):
    """What the input holds.

    `lines` counts what will be asked; `bad_count` what cannot be, the first of which are in `bad`; `digest` is of the
    whole input's records; `span` is the number of the last line that was looked at (a CSV row goes by its first one);
    `repeated` are the numbers of lines whose `custom_id` stands earlier already; `columns` are a CSV input's, `has_bom` whether it begins with a
    byte order mark.
    """

    lines: int
    span: int
    bad: tuple[BadLine, ...]
    bad_count: int
    digest: str
    models: dict[str, ModelShare]
    repeated: frozenset[int] = frozenset()
    columns: tuple[str, ...] | None = None
    has_bom: bool = False

    @property
    def input_tokens(self) -> int:
        return sum(share.input_tokens for share in self.models.values())


def scan(
    path: Path,
    defaults: Defaults,
    *,
    form: InputForm = "jsonl",
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Scan:
    """Look at every line of `path`, up to `limit` of them.

    Args:
        path: the input. Blank lines are passed over.
        defaults: what the job says for all lines.
        form: JSON lines, or CSV with a row of column names.
        limit: how many lines to ask at most; None: all.
        progress: told the number of lines so far, now and then.

    Raises:
        BadInput: no line could be asked: the columns or a template are wrong.
        OSError: the file cannot be read.
    """
    names = columns(path) if form == "csv" else None
    check_defaults(defaults, names)
    whole = blake2b(digest_size=16)
    ids = array("Q")
    bad: list[BadLine] = []
    bad_count = lines = span = 0
    models: dict[str, ModelShare] = {}
    with path.open("rb") as file:
        for number, raw in records(file, form):
            if limit is not None and lines >= limit:
                break
            span = number
            whole.update(raw)
            whole.update(b"\n")
            if not raw or (names is not None and number == 1):
                continue
            try:
                line = parse(raw, number, defaults, names)
            except BadLine as error:
                bad_count += 1
                if len(bad) < _REPORTED:
                    bad.append(error)
                continue
            lines += 1
            ids.append(_id_hash(line.custom_id))
            _weigh(models.setdefault(line.request.model, ModelShare()), line.request)
            if progress is not None and lines % _EVERY == 0:
                progress(number)
    twice = _duplicates(ids)
    found: list[BadLine] = []
    if twice:
        parsed = _lines(path, span, defaults, form, names)
        found = _take_out_duplicates(parsed, twice, models)
    return Scan(
        lines=lines - len(found),
        span=span,
        bad=tuple(sorted([*bad, *found], key=lambda error: error.number)[:_REPORTED]),
        bad_count=bad_count + len(found),
        digest=whole.hexdigest(),
        models={model: share for model, share in models.items() if share.lines},
        repeated=frozenset(error.number for error in found),
        columns=names,
        has_bom=names is not None and _has_bom(path),
    )


def _has_bom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(BOM)) == BOM


def _weigh(share: ModelShare, request: ChatRequest, lines: int = 1) -> None:
    share.lines += lines
    share.input_tokens += lines * -(-_text_bytes(request) // _BYTES_PER_TOKEN)
    # The wire's body is the request in other words: some names are longer there.
    most = input_tokens_bound(request, len(_encode(request)) + _BODY_MARGIN, request.model)
    share.input_bound += lines * most
    share.largest_input = max(share.largest_input, most)
    share.smallest_input = min(share.smallest_input or most, most)
    if request.max_tokens is None:
        share.unbounded += lines
    else:
        output = output_tokens_bound(request)
        share.max_output_tokens += lines * output
        share.smallest_output = min(share.smallest_output or output, output)


def _text_bytes(request: ChatRequest) -> int:
    size = 0
    for message in request.messages:
        if isinstance(message.content, str):
            size += len(message.content.encode())
        elif message.content:
            size += sum(len(part.text.encode()) for part in message.content if isinstance(part, TextPart))
    return size


def _id_hash(custom_id: str) -> int:
    return int.from_bytes(blake2b(custom_id.encode(), digest_size=8).digest(), "little")


def _duplicates(ids: "array[int]") -> set[int]:
    """Hashes that stand more than once. Sorted in place of a set: 8 bytes a line instead of 60."""
    ordered = sorted(ids)
    return {a for a, b in pairwise(ordered) if a == b}


def _lines(
    path: Path, span: int, defaults: Defaults, form: InputForm, names: tuple[str, ...] | None
) -> Iterator[tuple[int, Line]]:
    """The lines that can be asked, with their numbers."""
    with path.open("rb") as file:
        for number, raw in takewhile(lambda record: record[0] <= span, records(file, form)):
            if raw and not (names is not None and number == 1):
                with suppress(BadLine):
                    yield number, parse(raw, number, defaults, names)


def _take_out_duplicates(
    lines: Iterable[tuple[int, Line]], hashes: set[int], models: dict[str, ModelShare]
) -> list[BadLine]:
    """Find the lines behind suspicious hashes; the first line of an id is good, the later ones weigh nothing."""
    first: dict[str, int] = {}
    found: list[BadLine] = []
    for number, line in lines:
        custom_id = line.custom_id
        if _id_hash(custom_id) in hashes and first.setdefault(custom_id, number) != number:
            found.append(
                BadLine(number, f"custom_id {custom_id!r} stands on line {first[custom_id]} already")
            )
            _weigh(models[line.request.model], line.request, -1)
    return found
