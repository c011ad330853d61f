"""What results look like: OpenAI's batch output lines, and CSV that a spreadsheet may open."""

import csv
import io
import json
from pathlib import Path

import pytest
from msgspec import Raw

from greenroom.actors.batch.input.lines import Line
from greenroom.actors.batch.input.scan import Scan
from greenroom.actors.batch.renderings import BatchLines, CsvRows, rendering
from greenroom.actors.events import ProviderError, ProviderFailed, ToolCall, Usage
from greenroom.actors.flow import Reply
from greenroom.actors.providers import ChatRequest, Message

BODY = b'{"id":"c1", "n":1.50}'
ASKED = ChatRequest(model="acme/fast", messages=(Message("user", "Why?"),))


def reply_of(
    text: str = "Because.", refusal: str | None = None, tool_calls: tuple[ToolCall, ...] = ()
) -> Reply:
    return Reply(
        text=text,
        model="fast",
        provider="acme",
        finish_reason="stop",
        usage=Usage(input_tokens=3, cached_tokens=4, output_tokens=5, reasoning_tokens=6),
        cost_pusd=1_250_000,
        attempts=1,
        raw=Raw(BODY),
        request_id="r1",
        refusal=refusal,
        tool_calls=tool_calls,
    )


def failure_of(message: str = "no\nsuch") -> ProviderFailed:
    return ProviderFailed(ProviderError(kind="invalid_request", message=message, param="seed"), cost_pusd=7)


def read(rows: CsvRows, *records: bytes) -> list[dict[str, str]]:
    assert rows.header is not None
    text = b"\n".join([rows.header, *records]).decode()
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


class TestBatchLines:
    def test_an_answered_line_holds_the_providers_own_bytes(self) -> None:
        line = BatchLines().answered("b-1", 7, Line('a"\n', ASKED), reply_of())
        assert BODY in line
        assert b"\n" not in line
        assert json.loads(line) == {
            "id": "b-1",
            "custom_id": 'a"\n',
            "response": {"status_code": 200, "request_id": "r1", "body": {"id": "c1", "n": 1.5}},
            "error": None,
        }

    def test_a_failed_line_says_why(self) -> None:
        line = BatchLines().failed("b-2", 7, Line("a", ASKED), failure_of())
        assert b"\n" not in line
        assert json.loads(line) == {
            "id": "b-2",
            "custom_id": "a",
            "response": None,
            "error": {"code": "invalid_request", "message": "no\nsuch", "param": "seed"},
        }


class TestCsvRows:
    ROWS = CsvRows(("id", "text"))

    def test_an_answer_stands_behind_the_inputs_columns(self) -> None:
        row = Line("line-7", ASKED, ("1", 'a "b",\nc'))
        assert read(self.ROWS, self.ROWS.answered("b", 7, row, reply_of("Be,\r\ncause"))) == [
            {
                "id": "1",
                "text": 'a "b",\nc',
                "line": "7",
                "answer": "Be,\r\ncause",
                "finish_reason": "stop",
                "model": "acme/fast",
                "input_tokens": "7",
                "output_tokens": "11",
                "cost_usd": "0.00000125",
                "error": "",
            }
        ]

    def test_a_failure_says_why_and_what_it_cost(self) -> None:
        row = Line("line-7", ASKED, ("1", "x"))
        (read_back,) = read(self.ROWS, self.ROWS.failed("b", 7, row, failure_of()))
        assert read_back["error"] == "invalid_request: no\nsuch"
        assert read_back["cost_usd"] == "0.000000000007"
        assert read_back["answer"] == ""

    def test_of_json_lines_the_id_stands_first(self) -> None:
        rows = CsvRows(None)
        (read_back,) = read(rows, rows.answered("b", 7, Line("q-1", ASKED), reply_of()))
        assert list(read_back)[:3] == ["custom_id", "line", "answer"]
        assert (read_back["custom_id"], read_back["answer"]) == ("q-1", "Because.")

    def test_answers_may_be_asked_about_again(self) -> None:
        rows = CsvRows(("answer", "answer_2", "line"))
        assert rows.header is not None
        assert rows.header.startswith(b"answer,answer_2,line,line_2,answer_3,finish_reason,")

    @pytest.mark.parametrize("text", ["=1+1", "+cmd", "-x", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "\uff1d1"])
    def test_what_a_spreadsheet_would_compute_is_defused(self, text: str) -> None:
        row = Line("q", ASKED, (text, "x"))
        (read_back,) = read(self.ROWS, self.ROWS.answered("b", 1, row, reply_of(text)))
        assert read_back["answer"] == f"'{text}"
        assert read_back["id"] == text  # the user's own stays as it is
        (read_back,) = read(CsvRows(None), CsvRows(None).failed("b", 1, row, failure_of(text)))
        assert read_back["error"].startswith("invalid_request: ")

    @pytest.mark.parametrize("text", ["-5", "+3.25", "-12%", "5", "a=b", " =1", "'=1", ""])
    def test_numbers_and_text_stay_as_they_are(self, text: str) -> None:
        row = Line("q", ASKED, ("1", "x"))
        (read_back,) = read(self.ROWS, self.ROWS.answered("b", 1, row, reply_of(text)))
        assert read_back["answer"] == text

    def test_refusals_and_tool_calls_are_answers_too(self) -> None:
        row = Line("q", ASKED, ("1", "x"))
        call = ToolCall("c1", "look", '{"at": "it"}')
        (refused,) = read(self.ROWS, self.ROWS.answered("b", 1, row, reply_of("", refusal="No.")))
        (called,) = read(self.ROWS, self.ROWS.answered("b", 1, row, reply_of("", tool_calls=(call,))))
        assert refused["answer"] == "No."
        assert json.loads(called["answer"]) == [{"id": "c1", "name": "look", "arguments": '{"at": "it"}'}]


@pytest.mark.parametrize(
    ("out", "kind"),
    [(None, BatchLines), ("a.jsonl", BatchLines), ("a", BatchLines), ("a.csv", CsvRows), ("A.CSV", CsvRows)],
)
def test_the_outputs_name_chooses(out: str | None, kind: type) -> None:
    assert type(rendering(Path(out) if out else None, scan_of())) is kind


@pytest.mark.parametrize(("has_bom", "begins"), [(True, b"\xef\xbb\xbfid,line,"), (False, b"id,line,")])
def test_a_byte_order_mark_is_kept(has_bom: bool, begins: bytes) -> None:  # noqa: FBT001 - a table's column
    header = rendering(Path("a.csv"), scan_of(columns=("id",), has_bom=has_bom)).header
    assert header is not None
    assert header.startswith(begins)


def scan_of(*, columns: tuple[str, ...] | None = None, has_bom: bool = False) -> Scan:
    return Scan(lines=0, span=0, bad=(), bad_count=0, digest="", models={}, columns=columns, has_bom=has_bom)
