"""From a line's bytes to a request: nothing is lost in silence, and what cannot be asked says where and why."""

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from greenroom.actors.batch.input import lines, reading
from greenroom.actors.batch.input.errors import BadLine
from greenroom.actors.batch.input.lines import Defaults, parse
from greenroom.actors.batch.input.reading import digest, raw_lines
from greenroom.actors.providers import Message

JOB = Defaults(fallback_model="sim/fast")
WHY = (Message("user", "Why?"),)
ASKED = {"messages": [{"role": "user", "content": "Why?"}]}


def line_of(body: object, **fields: object) -> bytes:
    return json.dumps({"custom_id": "a", "body": body} | fields).encode()


@pytest.mark.parametrize(
    ("raw", "custom_id"),
    [
        (b'{"prompt":"Why?"}', "line-7"),
        (b'{"prompt":"Why?","custom_id":"x"}', "x"),
        (json.dumps(ASKED).encode(), "line-7"),
        (json.dumps(ASKED | {"custom_id": "x"}).encode(), "x"),
        (line_of(ASKED), "a"),
        (line_of(ASKED, method="POST", url="/v1/chat/completions"), "a"),
    ],
)
def test_three_forms_ask_the_same(raw: bytes, custom_id: str) -> None:
    line = parse(raw, 7, JOB)
    assert line.custom_id == custom_id
    assert line.request.messages == WHY
    assert line.request.model == "sim/fast"
    assert line.request.max_tokens is None
    assert line.request.extra == {}


def test_every_option_of_a_body_reaches_the_request() -> None:
    options: dict[str, object] = {
        "max_tokens": 9,
        "temperature": 0.0,
        "top_p": 0.5,
        "stop": "END",
        "seed": 0,
        "presence_penalty": -1.5,
        "frequency_penalty": 1.5,
        "reasoning_effort": "low",
        "user": "u",
        "logprobs": False,
        "top_logprobs": 2,
        "parallel_tool_calls": False,
    }
    request = parse(line_of(ASKED | options), 1, JOB).request
    assert {name: getattr(request, name) for name in options} == options


def test_json_options_and_unknown_ones_travel_byte_for_byte() -> None:
    raw = (
        b'{"body":{"messages":[{"role":"user","content":"Why?"}],"tools":[{"a": 1.50}],"tool_choice":"auto",'
        b'"response_format":{"type":"json_object"},"top_k":40,"chat_template_kwargs":{"think": false},"n":1}}'
    )
    request = parse(raw, 1, JOB).request
    assert request.tools == Raw(b'[{"a": 1.50}]')
    assert request.tool_choice == Raw(b'"auto"')
    assert request.response_format == Raw(b'{"type":"json_object"}')
    assert request.extra == {"top_k": Raw(b"40"), "chat_template_kwargs": Raw(b'{"think": false}')}


@pytest.mark.parametrize(
    ("job", "own", "model"),
    [
        (Defaults(model="a/job"), "a/own", "a/job"),
        (Defaults(fallback_model="a/last"), "a/own", "a/own"),
        (Defaults(fallback_model="a/last"), None, "a/last"),
        (Defaults(model="a/job", fallback_model="a/last"), None, "a/job"),
    ],
)
def test_whose_model_is_asked(job: Defaults, own: str | None, model: str) -> None:
    body = ASKED | ({"model": own} if own else {})
    assert parse(line_of(body), 1, job).request.model == model


@pytest.mark.parametrize(
    ("job", "own", "bound"),
    [
        (None, {}, None),
        (None, {"max_tokens": 5}, 5),
        (None, {"max_completion_tokens": 6}, 6),
        (None, {"max_completion_tokens": 6, "max_tokens": 5}, 6),
        (3, {"max_completion_tokens": 6, "max_tokens": 5}, 3),
        (3, {}, 3),
    ],
)
def test_whose_bound_holds(job: int | None, own: dict[str, object], bound: int | None) -> None:
    request = parse(line_of(ASKED | own), 1, Defaults(model="a/b", max_tokens=job)).request
    assert request.max_tokens == bound
    assert request.extra == {}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_the_jobs_system_text_stands_first_unless_the_line_has_one(role: str) -> None:
    job = Defaults(model="a/b", system="Be brief.")
    assert parse(b'{"prompt":"Why?"}', 1, job).request.messages == (Message("system", "Be brief."), *WHY)
    own = [{"role": role, "content": "Be long."}, *ASKED["messages"]]
    assert [message.role for message in parse(line_of({"messages": own}), 1, job).request.messages] == [
        role,
        "user",
    ]


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"{", "not a JSON object"),
        (b"Why?", "not a JSON object"),
        (b'{"prompt":"\xff\xfe"}', "not a JSON object"),
        (b'{"prompt":"Why?"} {}', "not a JSON object"),
        (b"[]", "Expected `object`"),
        (b'"Why?"', "Expected `object`"),
        (b"{}", 'one of "prompt", "messages" or "body"'),
        (b'{"prompt":"a","messages":[]}', 'one of "prompt", "messages" or "body"'),
        (b'{"prompt":7}', "$.prompt"),
        (b'{"custom_id":7,"prompt":"a"}', "$.custom_id"),
        (b'{"messages":[]}', "no messages"),
        (b'{"messages":[{"role":"boss","content":"a"}]}', "$.messages[0].role"),
        (b'{"messages":[{"role":"user","contents":"a"}]}', "contents"),
        (b'{"prompt":"a","temperature":1,"seed":2}', "seed, temperature belong in"),
        (b'{"prompt":"a","stream":true}', "stream belong"),
        (line_of(ASKED, prompt="b"), '"prompt" or "messages" beside "body"'),
        (line_of(ASKED, messages=[]), '"prompt" or "messages" beside "body"'),
        (line_of(ASKED, temperature=0), "temperature belong in"),
        (line_of(ASKED)[:-2] + b',"top_x":"\xff"}}', "not a JSON object"),
        (b'{"prompt":"a","note":"\xff"}', "not a JSON object"),
        (line_of({}), "messages"),
        (line_of({"messages": []}), "no messages"),
        (line_of([]), "Expected `object`"),
        (line_of(ASKED | {"stream": True}), "body.stream is true"),
        (line_of(ASKED | {"n": 2}), "body.n is 2"),
        (line_of(ASKED | {"n": 0}), "body.n is 0"),
        (line_of(ASKED | {"max_tokens": "many"}), "max_tokens"),
        (line_of(ASKED | {"max_tokens": 0}), "Expected `int` >= 1"),
        (line_of(ASKED | {"max_completion_tokens": -1}), "max_completion_tokens"),
        (line_of(ASKED | {"temperature": -0.1}), "temperature"),
        (line_of(ASKED, url="/v1/embeddings"), "/v1/chat/completions"),
        (line_of(ASKED, method="GET"), "$.method"),
    ],
)
def test_what_cannot_be_asked_says_which_line_and_why(raw: bytes, reason: str) -> None:
    with pytest.raises(BadLine) as bad:
        parse(raw, 12, JOB)
    assert bad.value.number == 12
    assert reason in bad.value.reason
    assert str(bad.value).startswith("line 12: ")


def test_no_model_anywhere_is_refused() -> None:
    with pytest.raises(BadLine, match="line 3: names no model"):
        parse(b'{"prompt":"a"}', 3, Defaults())


@given(st.binary(max_size=60) | st.text(max_size=40).map(lambda text: json.dumps({"prompt": text}).encode()))
def test_any_bytes_are_a_line_or_a_bad_line(raw: bytes) -> None:
    try:
        line = parse(raw, 1, JOB)
    except BadLine:
        return
    assert line.request.messages


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"", []),
        (b"a", [b"a"]),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\r\nb\r\n", [b"a", b"b"]),
        (b"a\n\n \nb", [b"a", b"", b"", b"b"]),
        (b"\xef\xbb\xbfa\nb\n", [b"a", b"b"]),
        (b"a\n\xef\xbb\xbfb\n", [b"a", b"\xef\xbb\xbfb"]),
        ("a\u2028b\x0bc\n".encode(), ["a\u2028b\x0bc".encode()]),
    ],
    ids=["empty", "no newline", "LF", "CRLF", "blank lines count", "BOM", "BOM within", "not line ends"],
)
def test_raw_lines(text: bytes, expected: list[bytes]) -> None:
    assert list(raw_lines(io.BytesIO(text))) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("length", [9, 10, 11, 20, 21, 35])
def test_a_line_too_long_is_one_bad_line_and_the_next_is_whole(
    monkeypatch: pytest.MonkeyPatch, length: int, end: bytes
) -> None:
    monkeypatch.setattr(reading, "MAX_RECORD_BYTES", 10)
    monkeypatch.setattr(lines, "MAX_RECORD_BYTES", 10)
    first, *others = raw_lines(io.BytesIO(b"x" * length + end + (b"next\n" if end else b"")))
    assert others == ([b"next"] if end else [])
    if length > 10:
        with pytest.raises(BadLine, match="line 1: longer than 10 bytes"):
            parse(first, 1, JOB)
    else:
        assert first == b"x" * length


def test_a_digest_tells_lines_apart() -> None:
    assert digest(b"a") == digest(b"a")
    assert len({digest(b"a"), digest(b"b"), digest(b"")}) == 3
    assert len(digest(b"a")) == 16
