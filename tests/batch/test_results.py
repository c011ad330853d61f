"""The output file: what a crash leaves of it, and what goes on from there."""

import json
from pathlib import Path

import pytest
from msgspec import Raw

from greenroom.actors.batch import results
from greenroom.actors.batch.results import ResultFile, answered, failed
from greenroom.actors.events import ProviderError, Usage
from greenroom.actors.flow import Reply

BODY = b'{"id":"c1", "n":1.50}'


@pytest.fixture
def out(tmp_path: Path) -> ResultFile:
    return ResultFile(tmp_path / "out.jsonl")


@pytest.fixture
def path(out: ResultFile) -> Path:
    assert out.path is not None
    return out.path


def test_an_answered_line_holds_the_providers_own_bytes() -> None:
    reply = Reply(
        text="Because.",
        model="m",
        provider="p",
        finish_reason="stop",
        usage=Usage(),
        cost_pusd=1,
        attempts=1,
        raw=Raw(BODY),
        request_id="r1",
    )
    line = answered("b-1", 'a"\n', reply)
    assert BODY in line
    assert b"\n" not in line
    assert json.loads(line) == {
        "id": "b-1",
        "custom_id": 'a"\n',
        "response": {"status_code": 200, "request_id": "r1", "body": {"id": "c1", "n": 1.5}},
        "error": None,
    }


def test_a_failed_line_says_why() -> None:
    error = ProviderError(kind="invalid_request", message="no\nsuch", param="seed")
    line = failed("b-2", "a", error)
    assert b"\n" not in line
    assert json.loads(line) == {
        "id": "b-2",
        "custom_id": "a",
        "response": None,
        "error": {"code": "invalid_request", "message": "no\nsuch", "param": "seed"},
    }


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
    assert out.whole_lines() == (lines, len(after))
    assert path.read_bytes() == after


def test_no_file_has_no_lines(out: ResultFile, path: Path) -> None:
    assert out.whole_lines() == (0, 0)
    assert not path.exists()


@pytest.mark.parametrize("block", [1, 2, 3, 4, 5, 7, 8, 100])
def test_the_last_line_over_the_borders_of_blocks(
    monkeypatch: pytest.MonkeyPatch, out: ResultFile, path: Path, block: int
) -> None:
    monkeypatch.setattr(results, "_BLOCK_BYTES", block)
    lines = [b"one", b"", b"three33", b"four"]
    path.write_bytes(b"".join(line + b"\n" for line in lines) + b"unfinished")
    end = 0
    for line in lines:
        end += len(line) + 1
        assert out.last_line(end) == line


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
    assert out.whole_lines() == (4, 19)


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
    assert nowhere.whole_lines() == (0, 0)
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
