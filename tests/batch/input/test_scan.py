"""The first look at an input: what it counts is what will be asked, and what will be paid for."""

import json
from hashlib import blake2b
from pathlib import Path

import pytest

from greenroom.actors.batch.input.errors import BadInput
from greenroom.actors.batch.input.lines import Defaults, parse
from greenroom.actors.batch.input.scan import Scan, scan
from greenroom.actors.call.bounds import input_tokens_bound
from greenroom.actors.providers import OpenAIChat

JOB = Defaults(fallback_model="sim/fast")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "in.jsonl"


def asks(custom_id: str | None = None, prompt: str = "Why?") -> bytes:
    named = {"custom_id": custom_id} if custom_id else {}
    return json.dumps({"prompt": prompt} | named).encode()


def weights(seen: Scan) -> dict[str, tuple[int, int, int, int]]:
    return {
        model: (share.lines, share.input_tokens, share.max_output_tokens, share.unbounded)
        for model, share in seen.models.items()
    }


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
    assert weights(seen) == {"a/b": (2, 2 + 1, 111, 0), "sim/fast": (1, 1, 0, 1)}
    assert seen.input_tokens == 4


def test_the_jobs_own_bound_and_system_text_are_weighed(source: Path) -> None:
    source.write_bytes(asks() + b"\n" + asks())
    seen = scan(source, Defaults(model="a/b", max_tokens=7, system="x" * 40))
    assert weights(seen) == {"a/b": (2, 22, 14, 0)}


def test_what_lines_can_be_charged_at_most_is_no_less_than_their_holds(source: Path) -> None:
    """A hold counts the bytes of the wire's body, and the largest image for each one."""
    image = {"type": "image_url", "image_url": {"url": "https://a.example/b.png"}}
    bodies = [
        {"messages": [{"role": "user", "content": 'ü"\n' * 50}], "max_tokens": 9, "temperature": 0.5},
        {"messages": [{"role": "user", "content": [image, image]}], "max_completion_tokens": 3},
        {"messages": [{"role": "user", "content": "x"}], "max_tokens": 2, "logit_bias": {"17": -100}},
    ]
    source.write_bytes(b"\n".join(json.dumps({"body": body | {"model": "a/b"}}).encode() for body in bodies))
    share = scan(source, JOB).models["a/b"]
    held: list[int] = []
    with source.open("rb") as file:
        for number, raw in enumerate(file, start=1):
            request = parse(raw, number, JOB).request
            wire = OpenAIChat("a", "max_completion_tokens").encode(request, "b")
            held.append(input_tokens_bound(request, len(wire.body), "b"))
    assert share.input_bound >= sum(held)
    assert share.largest_input >= max(held) > 2 * 5_000
    assert share.input_bound - sum(held) < 3 * 200
    assert share.smallest_input - min(held) < 200
    assert (share.max_output_tokens, share.smallest_output) == (9 + 3 + 2, 2)


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
    assert weights(seen) == {"sim/fast": (2, 2, 0, 2)}


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


@pytest.mark.parametrize(("mark", "has_bom"), [(b"", False), (b"\xef\xbb\xbf", True)])
def test_rows_are_weighed_like_lines(source: Path, mark: bytes, has_bom: bool) -> None:  # noqa: FBT001 - a table's column
    source.write_bytes(mark + b'custom_id,prompt\na,1234\n\na,again\n"b\n",12345\nc\n')
    seen = scan(source, JOB, form="csv")
    assert (seen.columns, seen.has_bom) == (("custom_id", "prompt"), has_bom)
    assert (seen.lines, seen.span, seen.bad_count, seen.repeated) == (2, 7, 2, frozenset({4}))
    assert [str(bad) for bad in seen.bad] == [
        "line 4: custom_id 'a' stands on line 2 already",
        "line 7: has 1 fields, the header 2: custom_id, prompt",
    ]
    assert weights(seen) == {"sim/fast": (2, 1 + 2, 0, 2)}
    assert scan(source, JOB, form="csv", limit=1).span == 2


def test_what_is_wrong_for_all_lines_is_told_at_once(source: Path) -> None:
    source.write_bytes(b"a,b\n1,2\n")
    with pytest.raises(BadInput, match="no column is called prompt"):
        scan(source, JOB, form="csv")
    with pytest.raises(BadInput, match="did you mean a"):
        scan(source, Defaults(fallback_model="sim/fast", prompt="{{ aa }}"), form="csv")
    with pytest.raises(BadInput, match="no model is named: say --model provider/model"):
        scan(source, Defaults(prompt="{{ a }}"), form="csv")
    source.write_bytes(b'{"a":1}\n')
    with pytest.raises(BadInput, match="no model is named"):
        scan(source, Defaults(prompt="{{ a }}"))
    assert scan(source, Defaults()).bad_count == 1  # a line of its own may name one
