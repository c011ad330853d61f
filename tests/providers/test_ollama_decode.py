"""Answers on Ollama's own wire, whole and streamed, however they are cut, and what failures mean."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw
from tests.providers.oracles import needs, official
from tests.providers.streams import answer_of, assert_told_however_cut, assert_truncated_before, events_of

from greenroom.actors.events import (
    Finished,
    ProviderError,
    ReasoningDelta,
    ReasoningState,
    Started,
    StreamEvent,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers import Ollama, RejectedAnswer

Json = dict[str, Any]
CODEC = Ollama("p")
STARTED = Started(model="llama", created_s=1691139139)
DONE: Json = {
    "done": True,
    "done_reason": "stop",
    "total_duration": 4883583458,
    "load_duration": 1334875,
    "prompt_eval_count": 26,
    "prompt_eval_duration": 342546000,
    "eval_count": 282,
    "eval_duration": 4535599000,
}


def line(said: Any = None, **more: Any) -> Json:
    message: Json = {"role": "assistant", "content": ""} | (said or {})
    return {
        "model": "llama",
        "created_at": "2023-08-04T08:52:19.385406455Z",
        "message": message,
        "done": False,
    } | more


def lines(*objects: Json) -> bytes:
    return b"".join(json.dumps(each, ensure_ascii=False).encode() + b"\n" for each in objects)


def called(name: str, arguments: Json, id_: str | None = None) -> Json:
    return {"function": {"name": name, "arguments": arguments}} | ({"id": id_} if id_ else {})


STREAMS: dict[str, tuple[Sequence[Json], Sequence[StreamEvent]]] = {
    "text": (
        [line({"content": "Grö"}), line({"content": "ße 😀"}), line(**DONE)],
        [STARTED, TextDelta("Größe 😀"), Usage(26, 282), Finished("stop")],
    ),
    "parallel tools, one of them without an id": (
        [
            line({"tool_calls": [called("weather", {"city": "Oslo"}, "call_x")]}),
            line({"tool_calls": [called("now", {})]}),
            line(**DONE),
        ],
        [
            STARTED,
            ToolCallDelta(0, '{"city": "Oslo"}', "call_x", "weather"),
            ToolCallDelta(1, "{}", "call_1", "now"),
            Usage(26, 282),
            Finished("tool_calls"),
        ],
    ),
    "thoughts": (
        [line({"thinking": "2 and "}), line({"thinking": "2"}), line({"content": "4"}), line(**DONE)],
        [
            STARTED,
            ReasoningDelta("2 and 2"),
            TextDelta("4"),
            Usage(26, 282),
            ReasoningState("ollama", Raw(b'["2 and 2"]')),
            Finished("stop"),
        ],
    ),
    "cut off, with log probabilities": (
        [
            line(
                {"content": "a"},
                logprobs=[
                    {
                        "token": "a",
                        "logprob": -0.5,
                        "bytes": [97],
                        "top_logprobs": [{"token": "b", "logprob": -1.5}],
                    }
                ],
            ),
            line(**DONE | {"done_reason": "length"}),
        ],
        [
            STARTED,
            TextDelta("a", (TokenLogprob("a", -0.5, (97,), (TokenLogprob("b", -1.5),)),)),
            Usage(26, 282),
            Finished("length"),
        ],
    ),
    "an older server: no reason, no count of what it still knew": (
        [line({"content": "a"}), {"model": "llama", "created_at": "", "done": True, "eval_count": 5}],
        [STARTED, TextDelta("a"), Usage(0, 5), Finished("stop")],
    ),
    "a model that was only loaded": (
        [line(done=True, done_reason="load")],
        [STARTED, Finished("stop")],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_tells_the_same_story_however_it_is_cut(name: str) -> None:
    objects, story = STREAMS[name]
    for body in (lines(*objects), lines(*objects).replace(b"\n", b"\r\n"), b"\n" + lines(*objects)):
        assert_told_however_cut(CODEC, body, story)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_ends_early_is_truncated_wherever_it_ends(name: str) -> None:
    objects, story = STREAMS[name]
    body = lines(*objects)
    assert_truncated_before(CODEC, body, len(body), story)


@pytest.mark.parametrize("name", STREAMS)
def test_whole_and_streamed_answers_are_the_same(name: str) -> None:
    objects, _ = STREAMS[name]
    message: Json = {"role": "assistant", "content": ""}
    logprobs: list[Json] = []
    for each in objects:
        for key, value in each.get("message", {}).items():
            message[key] = message.get(key, type(value)()) + value if key != "role" else value
        logprobs += each.get("logprobs", [])
    whole = {"created_at": objects[0]["created_at"]} | objects[-1] | {"message": message}
    whole["created_at"] = objects[0]["created_at"]
    if logprobs:
        whole["logprobs"] = logprobs
    assert CODEC.decode(json.dumps(whole).encode()) == answer_of(CODEC, lines(*objects))


def test_a_whole_answer() -> None:
    calls = [called("weather", {"city": "Oslo"}, "call_x"), called("now", {})]
    got = CODEC.decode(lines(line({"content": "I look.", "tool_calls": calls}, **DONE)))
    assert (got.model, got.text, got.finish_reason) == ("llama", "I look.", "tool_calls")
    assert got.tool_calls == (
        ToolCall("call_x", "weather", '{"city": "Oslo"}'),
        ToolCall("call_1", "now", "{}"),
    )
    assert (got.usage, got.usage_reported) == (Usage(26, 282), True)
    assert json.loads(bytes(got.raw))["created"] == 1691139139


@pytest.mark.parametrize("created", ["", "yesterday", "9999-99-99T00:00:00Z", "2023-08-04T08:52:19"])
def test_a_time_that_is_none_is_no_matter(created: str) -> None:
    got = CODEC.decode(lines(line({"content": "a"}, **DONE | {"created_at": created})))
    assert got.text == "a"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        lines(line({"content": "a"})),
        lines(line({"content": "a"}, **DONE | {"done_reason": "bored"})),
        lines(line({"content": "a"}, **DONE | {"eval_count": -1})),
        lines(line({"tool_calls": [{"function": {"arguments": {}}}]}, **DONE)),
        lines({"error": "x"}),
        b'{"message":{"tool_calls":[{"function":{"name":"f","arguments":{"a":"\xff"}}}]},"done":true}',
        b'{"message":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedAnswer):
        CODEC.decode(body)


BROKEN: list[tuple[bytes, Json]] = [
    (lines({"error": "unexpected EOF"}), {"kind": "server", "message": "unexpected EOF"}),
    (lines({"error": ""}), {"kind": "server", "message": '{"error": ""}'}),
    (b"<html>\n", {"kind": "protocol"}),
    (b"[1]\n", {"kind": "protocol"}),
    (b"{}\n", {"kind": "protocol"}),
    (b'{"model":"a\xff"}\n', {"kind": "protocol"}),
    (b"[" * 100_000 + b"\n", {"kind": "protocol"}),
    (lines(line(**DONE | {"done_reason": "bored"})), {"kind": "protocol"}),
]


@pytest.mark.parametrize(("body", "error"), BROKEN)
@pytest.mark.parametrize("before", [b"", lines(line({"content": "a"}))])
def test_what_breaks_in_mid_stream_is_the_last_event(before: bytes, body: bytes, error: Json) -> None:
    after = lines(line({"content": "z"}), line(**DONE))
    for chunks in ([before + body + after], [before, body, after]):
        events = events_of(CODEC.stream_decoder(), chunks)
        last = events[-1]
        assert isinstance(last, ProviderError)
        assert {name: getattr(last, name) for name in error} == error
        assert not any(isinstance(event, Finished) for event in events)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request"),
        (401, "authentication"),
        (403, "permission"),
        (404, "not_found"),
        (429, "rate_limited"),
        (500, "server"),
        (502, "server"),
        (503, "overloaded"),
    ],
)
def test_failures_are_classed_by_status(status: int, kind: str) -> None:
    got = CODEC.failure(status, {"retry-after": "3"}, b'{"error":"model \'x\' not found"}', 0.0)
    assert (got.kind, got.message, got.status, got.provider) == (kind, "model 'x' not found", status, "p")
    assert got.retry_after_s == 3.0


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[]", b'{"error":7}', b"\xff" * 10_000_000])
def test_an_error_body_that_is_none_is_quoted_in_short(body: bytes) -> None:
    got = CODEC.failure(503, {}, body, 0.0)
    assert got.kind == "overloaded"
    assert got.message.startswith("HTTP 503")
    assert len(got.message) < 300


@needs("ollama")
@pytest.mark.parametrize(
    "name", sorted(STREAMS.keys() - {"an older server: no reason, no count of what it still knew"})
)
def test_the_official_clients_types_read_the_same(name: str) -> None:
    objects, _ = STREAMS[name]
    types = official("ollama._types")
    theirs: list[Any] = [types.ChatResponse.model_validate(each) for each in objects]
    ours = answer_of(CODEC, lines(*objects))
    assert "".join(each.message.content or "" for each in theirs) == ours.text
    assert "".join(each.message.thinking or "" for each in theirs) == ours.reasoning
    assert [
        (call.function.name, call.function.arguments)
        for each in theirs
        for call in each.message.tool_calls or ()
    ] == [(call.name, json.loads(call.arguments)) for call in ours.tool_calls]
    assert (theirs[-1].eval_count or 0) == ours.usage.output_tokens
