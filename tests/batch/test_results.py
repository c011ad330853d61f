"""The output file: what a crash leaves of it, and what goes on from there."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.batch import results
from greenroom.actors.batch.renderings import csv_row
from greenroom.actors.batch.results import OutputTaken, ResultFile


@pytest.fixture
def out(tmp_path: Path) -> ResultFile:
    return ResultFile(tmp_path / "out.jsonl")


@pytest.fixture
def path(out: ResultFile) -> Path:
    assert out.path is not None
    return out.path


@pytest.mark.parametrize(
    ("before", "lines", "after"),
    [
        (b"", 0, b""),
        (b"one", 0, b""),
        (b"one\n", 1, b"one\n"),
        (b"one\ntwo", 1, b"one\n"),
        (b"one\n\ntwo\nth", 3, b"one\n\ntwo\n"),
        (b"x" * 30 + b"\ny", 1, b"x" * 30 + b"\n"),
        (b"x" * 30, 0, b""),
        (b"1234567\n", 1, b"1234567\n"),
        (b"12345678\n", 1, b"12345678\n"),
    ],
)
def test_an_unfinished_last_line_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, out: ResultFile, path: Path, before: bytes, lines: int, after: bytes
) -> None:
    monkeypatch.setattr(results, "_BLOCK_BYTES", 8)
    path.write_bytes(before)
    assert out.whole_records() == (lines, len(after))
    assert path.read_bytes() == after


def test_no_file_has_no_lines(out: ResultFile, path: Path) -> None:
    assert out.whole_records() == (0, 0)
    assert not path.exists()


def test_whether_a_file_ends_with_a_record(out: ResultFile, path: Path) -> None:
    path.write_bytes(b"one\n\nthree\nunfinished")
    assert out.ends_with(b"one", 4)
    assert out.ends_with(b"", 5)
    assert out.ends_with(b"three", 11)
    for record, size in ((b"one", 5), (b"on", 4), (b"tone", 4), (b"four", 11), (b"unfinished", 22)):
        assert not out.ends_with(record, size)


def test_appending_goes_on_behind_what_stands(out: ResultFile, path: Path) -> None:
    path.write_bytes(b"one\n")
    out.open()
    out.append([b"two", b"three"])
    out.append([])
    out.open()
    out.append([b"four"])
    out.sync()
    out.close()
    out.close()
    assert path.read_bytes() == b"one\ntwo\nthree\nfour\n"
    assert out.whole_records() == (4, 19)


def test_a_replacement_takes_the_place_at_once_and_only_when_told(out: ResultFile, path: Path) -> None:
    out.open()
    out.append([b"old"])
    fresh = out.replacement()
    fresh.append([b"new"])
    assert path.read_bytes() == b"old\n"
    out.take(fresh)
    assert path.read_bytes() == b"new\n"
    out.append([b"newer"])
    out.close()
    assert path.read_bytes() == b"new\nnewer\n"
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_replacement_begins_empty_after_one_that_was_left_behind(out: ResultFile, path: Path) -> None:
    left = out.replacement()
    left.append([b"half"])
    left.close()
    fresh = out.replacement()
    fresh.append([b"whole"])
    out.take(fresh)
    out.close()
    assert path.read_bytes() == b"whole\n"


def test_without_a_path_nothing_is_written_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    nowhere = ResultFile(None)
    nowhere.open()
    nowhere.append([b"one"])
    fresh = nowhere.replacement()
    fresh.append([b"one"])
    nowhere.take(fresh)
    nowhere.sync()
    nowhere.close()
    assert nowhere.whole_records() == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error(tmp_path: Path) -> None:
    full = ResultFile(Path("/dev/full"))
    full.open()
    with pytest.raises(OSError, match="No space left"):
        full.append([b"one"])
    full.close()


def test_a_place_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        ResultFile(tmp_path / "none" / "out.jsonl").open()


class TestCsv:
    HEADER = b'"a,b",answer'
    RECORDS = (b"1,2", b'"x ""y""\n\r\nz",""', b'"\n"', b"3,4")

    @pytest.fixture
    def out(self, tmp_path: Path) -> ResultFile:
        return ResultFile(tmp_path / "out.csv", self.HEADER)

    @pytest.mark.parametrize("block", [1, 2, 3, 5, 8, 100])
    def test_cut_anywhere_it_comes_back_to_its_last_whole_record(
        self, monkeypatch: pytest.MonkeyPatch, out: ResultFile, path: Path, block: int
    ) -> None:
        monkeypatch.setattr(results, "_BLOCK_BYTES", block)
        out.open()
        out.append(self.RECORDS)
        out.close()
        whole = path.read_bytes()
        ends = [len(self.HEADER) + 1]
        for record in self.RECORDS:
            ends.append(ends[-1] + len(record) + 1)
        for cut in range(len(whole) + 1):
            path.write_bytes(whole[:cut])
            count = sum(end <= cut for end in ends) - 1
            expected = (count, ends[count] - ends[0]) if count >= 0 else (0, 0)
            assert out.whole_records() == expected
            assert path.read_bytes() == (whole[: ends[count]] if count >= 0 else b"")
            if count > 0:
                assert out.ends_with(self.RECORDS[count - 1], expected[1])
                assert not out.ends_with(b"x" + self.RECORDS[count - 1][1:], expected[1])

    def test_the_header_stands_once_however_often_it_is_opened(self, out: ResultFile, path: Path) -> None:
        for record in (b"1,2", b"3,4"):
            out.open()
            out.append([record])
            out.close()
        fresh = out.replacement()
        assert path.read_bytes() == self.HEADER + b"\n1,2\n3,4\n"
        fresh.append([b"5,6"])
        out.take(fresh)
        out.close()
        assert path.read_bytes() == self.HEADER + b"\n5,6\n"

    @pytest.mark.parametrize("content", [b"other\n1\n", b"other", b'"a,b",answers\n1,2,3\n'])
    def test_another_header_is_not_ours_and_left_alone(
        self, out: ResultFile, path: Path, content: bytes
    ) -> None:
        path.write_bytes(content)
        with pytest.raises(OutputTaken, match="is not what the job wrote"):
            out.whole_records()
        assert path.read_bytes() == content


@given(
    st.lists(
        st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=2, max_size=3),
        max_size=5,
    )
)
def test_rows_read_back_as_they_were(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    text = b"".join(csv_row(row) + b"\n" for row in rows).decode()
    assert list(csv.reader(io.StringIO(text, newline=""), strict=True)) == rows
