"""What a result looks like in the output: OpenAI's batch output lines, or CSV rows.

CSV: the input's columns, then `line` (where the row stands in the input, since rows come in the order of completion),
`answer`, `finish_reason`, `model`, `input_tokens`, `output_tokens`, `cost_usd` and `error`. Of JSON lines there are no
columns, so `custom_id` stands in their place. What a model wrote is not the user's own text: where a spreadsheet would
take it for a formula it gets an apostrophe before it, as OWASP advises against CSV injection; numbers and the input's
own columns stay as they are. A byte order mark at the input's beginning, by which Excel knows UTF-8, stands at the
output's too. Tool calls stand as JSON where there is no text. Who needs answers to the byte takes JSON lines.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Raw, Struct

from greenroom.actors.batch.input.lines import Line
from greenroom.actors.batch.input.reading import BOM
from greenroom.actors.batch.input.scan import Scan
from greenroom.actors.events import ProviderFailed
from greenroom.actors.flow import Reply
from greenroom.actors.prices import usd

_RESULT_COLUMNS = (
    "line",
    "answer",
    "finish_reason",
    "model",
    "input_tokens",
    "output_tokens",
    "cost_usd",
    "error",
)
_FORMULA = re.compile(r"[=+\-@\t\r\n＝＋－＠]")  # noqa: RUF001 - full-width signs begin formulas too
_NUMBER = re.compile(r"[+-]?\d+(\.\d+)?%?\Z")
_QUOTED = re.compile(r'[",\r\n]|\A\s|\s\Z')


class Rendering(Protocol):
    """How results are written. `header` stands once, at the file's beginning; no newline ends any of them."""

    @property
    def header(self) -> bytes | None: ...

    def answered(self, result_id: str, number: int, line: Line, reply: Reply) -> bytes:
        """The result of an answered line, the `number`-th of the input."""
        ...

    def failed(self, result_id: str, number: int, line: Line, failure: ProviderFailed) -> bytes:
        """The result of a line that failed for good."""
        ...


class _Response(Struct):
    status_code: int
    request_id: str | None
    body: Raw


class _Error(Struct):
    code: str
    message: str
    param: str | None = None


class _Result(Struct):
    id: str
    custom_id: str
    response: _Response | None
    error: _Error | None


_encode = msgspec.json.Encoder().encode


class BatchLines:
    """OpenAI's batch output lines, which hold the provider's answer as it came."""

    header: bytes | None = None

    def answered(self, result_id: str, number: int, line: Line, reply: Reply) -> bytes:
        return _encode(_Result(result_id, line.custom_id, _Response(200, reply.request_id, reply.raw), None))

    def failed(self, result_id: str, number: int, line: Line, failure: ProviderFailed) -> bytes:
        error = failure.error
        return _encode(
            _Result(result_id, line.custom_id, None, _Error(error.kind, error.message, error.param))
        )


class CsvRows:
    """CSV rows.

    Args:
        columns: the input's; None where it is JSON lines.
        has_bom: whether the input begins with a byte order mark.
    """

    def __init__(self, columns: Sequence[str] | None, *, has_bom: bool = False) -> None:
        self._named_by_id = columns is None
        given = ("custom_id",) if columns is None else tuple(columns)
        self.header: bytes | None = BOM * has_bom + csv_row([*given, *_free_names(given)])

    def answered(self, result_id: str, number: int, line: Line, reply: Reply) -> bytes:
        usage = reply.usage
        answer = (
            reply.text or reply.refusal or (_encode(reply.tool_calls).decode() if reply.tool_calls else "")
        )
        return csv_row(
            [
                *self._given(line),
                str(number),
                _defused(answer),
                reply.finish_reason,
                f"{reply.provider}/{reply.model}",
                str(usage.total_input_tokens),
                str(usage.total_output_tokens),
                _dollars(reply.cost_pusd),
                "",
            ]
        )

    def failed(self, result_id: str, number: int, line: Line, failure: ProviderFailed) -> bytes:
        error = failure.error
        return csv_row(
            [
                *self._given(line),
                str(number),
                "",
                "",
                line.request.model,
                "",
                "",
                _dollars(failure.cost_pusd),
                _defused(f"{error.kind}: {error.message}"),
            ]
        )

    def _given(self, line: Line) -> tuple[str, ...]:
        return (line.custom_id,) if self._named_by_id else line.row


def rendering(out: Path | None, scan: Scan) -> Rendering:
    """The rendering for an output: CSV where its name says so."""
    if out is not None and out.suffix.lower() == ".csv":
        return CsvRows(scan.columns, has_bom=scan.has_bom)
    return BatchLines()


def csv_row(fields: Iterable[str]) -> bytes:
    """A row as RFC 4180 has it, without its line end."""
    return ",".join(
        '"' + field.replace('"', '""') + '"' if _QUOTED.search(field) else field for field in fields
    ).encode()


def _dollars(cost_pusd: int) -> str:
    return f"{usd(cost_pusd).normalize():f}"


def _defused(text: str) -> str:
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.match(text) else text


def _free_names(taken: tuple[str, ...]) -> list[str]:
    """The names of result columns, numbered where the input has them: answers may be asked about again."""
    free: list[str] = []
    for name in _RESULT_COLUMNS:
        count, candidate = 1, name
        while candidate in taken:
            count += 1
            candidate = f"{name}_{count}"
        free.append(candidate)
    return free
