"""CSV rows: their columns and fields, strictly as RFC 4180 has them, in UTF-8.

The first row names the columns. A field that holds a comma, a quote or a line break stands in double quotes, in which
a quote is doubled.

The standard library's reader is not used: its limit on the size of a field belongs to the whole process, and it makes
something of `5" disk` and `"a"b` where a person who pays for every row wants to be told.
"""

import re
from pathlib import Path

from greenroom.actors.batch.input.errors import BadInput
from greenroom.actors.batch.input.reading import MAX_RECORD_BYTES, raw_rows

_FIELD = re.compile(r'(?:"((?:[^"]++|"")*+)"|([^",\r\n]*+))(?:(,)|\Z)')
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


def columns(path: Path) -> tuple[str, ...]:
    """The names in a CSV file's first row, without blanks around them; one without a name is `column_N`.

    Raises:
        BadInput: there is no such row, it is no CSV, or a name stands twice.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        _, raw = next(raw_rows(file), (1, b""))
    if not raw:
        raise BadInput(f"{path}, line 1: is empty; the first row of a CSV file names its columns")
    if raw.startswith(_UTF_16):
        raise BadInput(f"{path}, line 1: looks like UTF-16; save the file as CSV in UTF-8")
    try:
        names = tuple(name.strip() or f"column_{number}" for number, name in enumerate(fields(raw), 1))
    except ValueError as error:
        raise BadInput(f"{path}, line 1: {error}") from None
    for number, name in enumerate(names, 1):
        if name in names[: number - 1]:
            first = names.index(name) + 1
            raise BadInput(f"{path}, line 1: columns {first} and {number} are both called {name!r}")
    return names


def fields(raw: bytes) -> tuple[str, ...]:
    """The fields of one row.

    Raises:
        ValueError: it is no CSV, or no UTF-8; says which field.
    """
    if len(raw) > MAX_RECORD_BYTES:
        raise ValueError(
            f"longer than {MAX_RECORD_BYTES} bytes; does a quote open somewhere that never closes?"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8: {error}; save the file as CSV in UTF-8") from None
    if '"' not in text and "\r" not in text:
        return tuple(text.split(","))
    found: list[str] = []
    at = 0
    while match := _FIELD.match(text, at):
        quoted, plain, comma = match.groups()
        found.append(plain if quoted is None else quoted.replace('""', '"'))
        if comma is None:
            return tuple(found)
        at = match.end()
    raise ValueError(f"field {len(found) + 1} {_fault(text, at)}")


def _fault(text: str, at: int) -> str:
    """What is wrong with the field that begins at `at`."""
    if text[at] != '"':
        stray = "a carriage return" if text[at:].partition(",")[0].count("\r") else "a quote"
        return f"holds {stray} but does not stand in quotes; put the field in quotes, and double the quotes in it"
    at += 1
    while (end := text.find('"', at)) >= 0 and text[end : end + 2] == '""':
        at = end + 2
    if end < 0:
        lines = text.count("\n") + 1
        swallowed = f"; all {lines} lines from here on read as this one row" if lines > 1 else ""
        return f"opens a quote that is never closed{swallowed}"
    return (
        f"goes on behind its closing quote ({text[end + 1 : end + 11]!r}); a quote within quotes is doubled"
    )
