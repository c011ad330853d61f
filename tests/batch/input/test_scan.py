"""The first look at an input: what it counts is what will be asked, and what will be paid for."""

import json
from hashlib import blake2b
from pathlib import Path

import pytest

from greenroom.actors.batch.input.lines import Defaults
from greenroom.actors.batch.input.scan import ModelShare, scan

JOB = Defaults(fallback_model="sim/fast")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


def asks(custom_id: str | None = None, prompt: str = "Why?") -> bytes:
    named = {"custom_id": custom_id} if custom_id else {}
    return json.dumps({"prompt": prompt} | named).encode()


def test_an_empty_input(source: Path) -> None:
    source.write_bytes(b"\n \r\n")
    seen = scan(source, JOB)
    assert (seen.lines, seen.span, seen.bad, seen.bad_count, seen.input_tokens) == (0, 2, (), 0, 0)


def test_lines_are_weighed_by_model(source: Path) -> None:
    body = {"model": "a/b", "max_tokens": 100, "messages": [{"role": "user", "content": "12345"}]}
    parts = {
        "model": "a/b",
        "max_completion_tokens": 11,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "éé"}]}, {"role": "assistant"}],
    }
    source.write_bytes(
        b"\n".join([json.dumps({"body": body}).encode(), b"", json.dumps({"body": parts}).encode(), asks()])
    )
    seen = scan(source, JOB)
    assert (seen.lines, seen.span) == (3, 4)
    assert seen.models == {
        "a/b": ModelShare(lines=2, input_tokens=2 + 1, max_output_tokens=111, unbounded=0),
        "sim/fast": ModelShare(lines=1, input_tokens=1, max_output_tokens=0, unbounded=1),
    }
    assert seen.input_tokens == 4


def test_the_jobs_own_bound_and_system_text_are_weighed(source: Path) -> None:
    source.write_bytes(asks() + b"\n" + asks())
    seen = scan(source, Defaults(model="a/b", max_tokens=7, system="x" * 40))
    assert seen.models == {"a/b": ModelShare(lines=2, input_tokens=22, max_output_tokens=14, unbounded=0)}


def test_bad_lines_are_counted_all_and_told_first(source: Path) -> None:
    source.write_bytes(b"\n".join([b"{", asks(), *[b"[]"] * 30]))
    seen = scan(source, JOB)
    assert (seen.lines, seen.bad_count) == (1, 31)
    assert [bad.number for bad in seen.bad] == [1, *range(3, 22)]


def test_a_custom_id_that_stands_earlier_is_a_bad_line(source: Path) -> None:
    source.write_bytes(
        b"\n".join([asks("x"), asks("y"), b"", asks("x"), b"{", asks("x"), asks("line-8"), asks()])
    )
    seen = scan(source, JOB)
    assert seen.repeated == {4, 6, 8}
    assert (seen.lines, seen.bad_count) == (3, 4)
    assert [bad.number for bad in seen.bad] == [4, 5, 6, 8]
    assert str(seen.bad[0]) == "line 4: custom_id 'x' stands on line 1 already"
    assert str(seen.bad[3]) == "line 8: custom_id 'line-8' stands on line 7 already"


def test_the_weight_leaves_out_what_will_not_be_asked(source: Path) -> None:
    again = {"custom_id": "x", "body": {"model": "a/b", "max_tokens": 5, "messages": [{"role": "user"}]}}
    source.write_bytes(b"\n".join([asks("x"), asks("x"), asks("y"), json.dumps(again).encode()]))
    seen = scan(source, JOB)
    assert seen.lines == 2
    assert seen.models == {"sim/fast": ModelShare(lines=2, input_tokens=2, unbounded=2)}


@pytest.mark.parametrize(
    ("limit", "lines", "span"), [(None, 3, 5), (9, 3, 5), (3, 3, 5), (2, 2, 4), (0, 0, 0)]
)
def test_a_limit_counts_what_is_asked(source: Path, limit: int | None, lines: int, span: int) -> None:
    source.write_bytes(b"\n".join([asks("a"), b"", b"{", asks("b"), asks("c")]))
    seen = scan(source, JOB, limit=limit)
    assert (seen.lines, seen.span) == (lines, span)


def test_duplicates_behind_the_limit_are_nobodys_business(source: Path) -> None:
    source.write_bytes(b"\n".join([asks("a"), asks("b"), asks("a")]))
    seen = scan(source, JOB, limit=2)
    assert (seen.lines, seen.bad_count, seen.repeated) == (2, 0, frozenset())


def test_the_digest_is_of_the_lines_whatever_ends_them(source: Path) -> None:
    expected = blake2b(
        b"".join(line + b"\n" for line in (asks("a"), b"", asks("b"))), digest_size=16
    ).hexdigest()
    for end in (b"\n", b"\r\n"):
        source.write_bytes(end.join([asks("a"), b"", asks("b")]))
        assert scan(source, JOB).digest == expected
    source.write_bytes(b"\n".join([asks("a"), asks("b")]))
    assert scan(source, JOB).digest != expected


def test_progress_is_told_now_and_then(source: Path) -> None:
    source.write_bytes(b"\n".join(asks() for _ in range(2500)))
    told: list[int] = []
    assert scan(source, JOB, progress=told.append).lines == 2500
    assert told == [1000, 2000]


def test_an_input_that_is_not_there(source: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(source, JOB)
