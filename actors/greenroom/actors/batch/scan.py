"""The first look at a job's input, before any money is spent: every line parsed, counted and weighed.

It runs in a thread and keeps 8 bytes a line (for duplicate ids), whatever the size of the input.
"""

from array import array
from collections.abc import Callable
from hashlib import blake2b
from itertools import islice, pairwise
from pathlib import Path

from msgspec import Struct

from greenroom.actors.batch.lines import BadLine, Defaults, parse, raw_lines
from greenroom.actors.providers import ChatRequest, TextPart

_REPORTED = 20
_EVERY = 1000
_BYTES_PER_TOKEN = 4


class ModelShare(Struct):
    """What a job asks of one model: lines, input tokens (estimated), and the output it allows at most.

    `unbounded` counts lines that set no `max_tokens`.
    """

    lines: int = 0
    input_tokens: int = 0
    max_output_tokens: int = 0
    unbounded: int = 0


class Scan(Struct, frozen=True, kw_only=True):
    """What the input holds.

    `lines` counts what will be asked; `bad_count` what cannot be, the first of which are in `bad`; `digest` is of the
    whole input's bytes; `span` is how many physical lines were looked at; `repeated` are the numbers of lines whose
    `custom_id` stands earlier already.
    """

    lines: int
    span: int
    bad: tuple[BadLine, ...]
    bad_count: int
    digest: str
    models: dict[str, ModelShare]
    repeated: frozenset[int] = frozenset()

    @property
    def input_tokens(self) -> int:
        return sum(share.input_tokens for share in self.models.values())


def scan(
    path: Path,
    defaults: Defaults,
    *,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Scan:
    """Look at every line of `path`, up to `limit` of them.

    Args:
        path: the input. Blank lines are passed over.
        defaults: what the job says for all lines.
        limit: how many lines to ask at most; None: all.
        progress: told the number of lines so far, now and then.

    Raises:
        OSError: the file cannot be read.
    """
    whole = blake2b(digest_size=16)
    ids = array("Q")
    bad: list[BadLine] = []
    bad_count = lines = span = 0
    models: dict[str, ModelShare] = {}
    with path.open("rb") as file:
        for number, raw in enumerate(raw_lines(file), 1):
            if limit is not None and lines >= limit:
                break
            span = number
            whole.update(raw)
            whole.update(b"\n")
            if not raw:
                continue
            try:
                line = parse(raw, number, defaults)
            except BadLine as error:
                bad_count += 1
                if len(bad) < _REPORTED:
                    bad.append(error)
                continue
            lines += 1
            ids.append(_id_hash(line.custom_id))
            _weigh(models.setdefault(line.request.model, ModelShare()), line.request)
            if progress is not None and number % _EVERY == 0:
                progress(number)
    twice = _duplicates(ids)
    found = _take_out_duplicates(path, span, twice, defaults, models) if twice else []
    return Scan(
        lines=lines - len(found),
        span=span,
        bad=tuple(sorted([*bad, *found], key=lambda error: error.number)[:_REPORTED]),
        bad_count=bad_count + len(found),
        digest=whole.hexdigest(),
        models={model: share for model, share in models.items() if share.lines},
        repeated=frozenset(error.number for error in found),
    )


def _weigh(share: ModelShare, request: ChatRequest, lines: int = 1) -> None:
    share.lines += lines
    share.input_tokens += lines * -(-_text_bytes(request) // _BYTES_PER_TOKEN)
    if request.max_tokens is None:
        share.unbounded += lines
    else:
        share.max_output_tokens += lines * request.max_tokens


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


def _take_out_duplicates(
    path: Path, span: int, hashes: set[int], defaults: Defaults, models: dict[str, ModelShare]
) -> list[BadLine]:
    """Find the lines behind suspicious hashes; the first line of an id is good, the later ones weigh nothing."""
    first: dict[str, int] = {}
    found: list[BadLine] = []
    with path.open("rb") as file:
        for number, raw in enumerate(islice(raw_lines(file), span), 1):
            try:
                line = parse(raw, number, defaults)
            except BadLine:
                continue
            custom_id = line.custom_id
            if _id_hash(custom_id) in hashes and first.setdefault(custom_id, number) != number:
                found.append(
                    BadLine(number, f"custom_id {custom_id!r} stands on line {first[custom_id]} already")
                )
                _weigh(models[line.request.model], line.request, -1)
    return found
