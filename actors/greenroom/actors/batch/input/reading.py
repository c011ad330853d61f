"""From a file's bytes to its records, streamed, each known by the number (from 1) of the line that it begins on.

A record is a line of a JSON lines file, or a row of a CSV file. Memory is one record, whatever the size of the file.
"""

from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Literal

InputForm = Literal["jsonl", "csv"]

MAX_RECORD_BYTES = 16 * 1024 * 1024
"""Longer than any request a provider takes. A longer record comes cut, one byte over the limit."""

BOM = b"\xef\xbb\xbf"
"""The byte order mark of UTF-8."""
_DIGEST_BYTES = 16


def form_of(path: Path) -> InputForm:
    """What a file is by its name: CSV where it ends so, else JSON lines."""
    return "csv" if path.suffix.lower() == ".csv" else "jsonl"


def records(file: BinaryIO, form: InputForm) -> Iterator[tuple[int, bytes]]:
    """Every record of a file with its number. Blank lines come as empty records, so that all lines are counted."""
    return raw_rows(file) if form == "csv" else enumerate(raw_lines(file), 1)


def digest(raw: bytes) -> bytes:
    """What tells that a record is the same record: 16 bytes of BLAKE2b over its bytes."""
    return blake2b(raw, digest_size=_DIGEST_BYTES).digest()


def raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file, without their ends and the blanks around them."""
    first = True
    while raw := file.readline(MAX_RECORD_BYTES + 1):
        if len(raw) > MAX_RECORD_BYTES:
            rest = raw
            while not rest.endswith(b"\n") and (rest := file.readline(MAX_RECORD_BYTES)):
                pass
        yield raw.removeprefix(BOM).strip() if first else raw.strip()
        first = False


def raw_rows(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The rows of a CSV file, the header's too, without their line ends; a row may hold line breaks in its quotes.

    Rows of nothing but commas, which spreadsheets leave at the end of a table, come as empty as blank lines do.
    """
    number = next_number = 1
    row = bytearray()
    is_open = False
    while part := file.readline(MAX_RECORD_BYTES + 1):
        if next_number == 1 and not row:
            part = part.removeprefix(BOM)
        is_open = _ends_open(part, is_open)
        if len(row) <= MAX_RECORD_BYTES:
            row += part
        if not part.endswith(b"\n"):
            continue
        next_number += 1
        if not is_open:
            yield number, _row(row)
            number = next_number
            row.clear()
    if row:
        yield number, _row(row)


def _ends_open(part: bytes, is_open: bool) -> bool:  # noqa: FBT001 - a state of two values
    """Whether a quoted field is open at the end of `part`, given whether one was at its beginning."""
    if not is_open and b'"' not in part:
        return False
    at = 0
    while True:
        if is_open:
            at = part.find(b'"', at) + 1
            if not at:
                return True
            # A doubled quote closes the field and opens it again, which comes to the same.
            is_open = part[at : at + 1] == b'"'
            at += is_open
            continue
        if part[at : at + 1] == b'"':
            is_open = True
            at += 1
            continue
        at = part.find(b",", at) + 1
        if not at:
            return False


def _row(row: bytearray) -> bytes:
    raw = bytes(row.removesuffix(b"\n").removesuffix(b"\r"))
    return raw if raw.strip(b",") else b""
