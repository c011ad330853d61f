"""CSV input, strictly by RFC 4180: what is read is what Python's own reader reads, and what is odd is told."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from greenroom.actors.batch.input import reading, rows
from greenroom.actors.batch.input.errors import BadInput
from greenroom.actors.batch.input.reading import raw_rows
from greenroom.actors.batch.input.rows import columns, fields

TEXT = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(',"\r\n'), max_size=8)


def read(data: bytes) -> list[tuple[int, bytes]]:
    return list(raw_rows(io.BytesIO(data)))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"a,b", [(1, b"a,b")]),
        (b"a,b\n1,2\n", [(1, b"a,b"), (2, b"1,2")]),
        (b"a,b\r\n1,2\r\n", [(1, b"a,b"), (2, b"1,2")]),
        (b"\xef\xbb\xbfa,b\n1,2", [(1, b"a,b"), (2, b"1,2")]),
        (b'a\n"1\n2"\n3\n', [(1, b"a"), (2, b'"1\n2"'), (4, b"3")]),
        (b'"a\n""b""\n",c\n1,2\n', [(1, b'"a\n""b""\n",c'), (4, b"1,2")]),
        (b"a\n\n1\n,,\n2\n", [(1, b"a"), (2, b""), (3, b"1"), (4, b""), (5, b"2")]),
        (b'a\n"1\n2\n', [(1, b"a"), (2, b'"1\n2')]),
        (b'a\n5" disk\n6\n', [(1, b"a"), (2, b'5" disk'), (3, b"6")]),
        (b'a\nx,"1" more,"2\n"\n6\n', [(1, b"a"), (2, b'x,"1" more,"2\n"'), (4, b"6")]),
        (b'a\n" 1 "\n', [(1, b"a"), (2, b'" 1 "')]),
    ],
    ids=[
        "empty",
        "no newline",
        "LF",
        "CRLF",
        "BOM",
        "a break in quotes",
        "breaks and quotes in quotes",
        "blank rows",
        "never closed",
        "a stray quote swallows nothing",
        "nor does text behind a quote",
        "blanks belong to fields",
    ],
)
def test_rows_are_known_by_the_line_they_begin_on(data: bytes, expected: list[tuple[int, bytes]]) -> None:
    assert read(data) == expected


@given(
    st.lists(st.lists(TEXT, min_size=2, max_size=4), max_size=6),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["all", "some"]),
)
def test_what_another_writer_wrote_is_read_back(table: list[list[str]], end: str, quoted: str) -> None:
    # Python's writer before 3.13 leaves a lone CR bare where rows end with LF, and its own reader then refuses it.
    assume(quoted == "all" or end == "\r\n" or "\r" not in "".join(map("".join, table)))
    text = io.StringIO(newline="")
    csv.writer(
        text, lineterminator=end, quoting=csv.QUOTE_ALL if quoted == "all" else csv.QUOTE_MINIMAL
    ).writerows([["head", "er"], *table])
    found = [fields(raw) for _, raw in read(text.getvalue().encode()) if raw]
    kept = [tuple(row) for row in table if quoted == "all" or any(row)]
    assert found == [("head", "er"), *kept]


@given(st.binary(max_size=40) | st.text('a,"\n\r', max_size=20).map(str.encode))
def test_any_bytes_are_rows_and_no_byte_of_them_is_lost(data: bytes) -> None:
    found = read(data)
    assert [number for number, _ in found] == sorted({number for number, _ in found})
    for _, raw in found:
        try:
            fields(raw)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - either is right, anything else is not
    kept = b"".join(raw for _, raw in found).translate(None, b"\r\n,")
    assert kept == data.removeprefix(b"\xef\xbb\xbf").translate(None, b"\r\n,")


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b'5" disk,x', "field 1 holds a quote but does not stand in quotes"),
        (b'x, "a, b"', "field 2 holds a quote but does not stand in quotes"),
        (b'x,"a"b,c', "field 2 goes on behind its closing quote ('b,c')"),
        (b'x,y,"a', "field 3 opens a quote that is never closed"),
        (b'x,"a\nb\nc', "field 2 opens a quote that is never closed; all 3 lines from here on"),
        (b"a\rb,c", "field 1 holds a carriage return"),
        (b"a,\xff", "not UTF-8"),
    ],
)
def test_what_is_no_row_says_which_field(raw: bytes, reason: str) -> None:
    with pytest.raises(ValueError) as refused:
        fields(raw)
    assert reason in str(refused.value)


@pytest.mark.parametrize("open_quote", [b"", b'"'])
def test_a_row_too_long_is_told_and_kept_small(monkeypatch: pytest.MonkeyPatch, open_quote: bytes) -> None:
    monkeypatch.setattr(reading, "MAX_RECORD_BYTES", 10)
    monkeypatch.setattr(rows, "MAX_RECORD_BYTES", 10)
    close = open_quote
    data = b"a\n" + open_quote + b"x" * 100 + (b"\n" * 50 if open_quote else b"") + close + b"\nnext\n"
    (_, header), (number, long), (_, following) = read(data)
    assert (header, number, following) == (b"a", 2, b"next")
    assert len(long) <= 22
    with pytest.raises(ValueError, match="longer than 10 bytes"):
        fields(long)


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (b"a,b\n", ("a", "b")),
        (b' a ,"b, c"\n1,2', ("a", "b, c")),
        (b"\xef\xbb\xbf,b,\n", ("column_1", "b", "column_3")),
    ],
)
def test_columns(tmp_path: Path, data: bytes, names: tuple[str, ...]) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    assert columns(path) == names


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "in.csv, line 1: is empty"),
        (b"\na,b\n", "in.csv, line 1: is empty"),
        (b"a,b,a\n", "line 1: columns 1 and 3 are both called 'a'"),
        (b'a"b\n', "line 1: field 1 holds a quote"),
        ("a,b\n".encode("utf-16"), "line 1: looks like UTF-16"),
        (b"caf\xe9\n", "line 1: not UTF-8"),
    ],
)
def test_a_header_that_is_none(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes(data)
    with pytest.raises(BadInput) as bad:
        columns(path)
    assert reason in str(bad.value)
