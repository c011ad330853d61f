"""Answers on Anthropic's wire, whole and streamed, however they are cut, and what failures mean."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw
from tests.providers.oracles import needs, official, serving
from tests.providers.streams import (
    answer_of,
    assert_told_however_cut,
    assert_truncated_before,
    events_of,
)

from greenroom.actors.events import (
    Finished,
    ProviderError,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers import AnthropicMessages, RejectedAnswer

Json = dict[str, Any]
CODEC = AnthropicMessages("p")


def event(type_: str, **fields: Any) -> bytes:
    data = json.dumps({"type": type_} | fields, ensure_ascii=False).encode()
    return b"event: %s\ndata: %s\n\n" % (type_.encode(), data)


def begin(index: int, type_: str, **fields: Any) -> bytes:
    return event("content_block_start", index=index, content_block={"type": type_} | fields)


def delta(index: int, type_: str, **fields: Any) -> bytes:
    return event("content_block_delta", index=index, delta={"type": type_} | fields)


def end(index: int) -> bytes:
    return event("content_block_stop", index=index)


def stop(reason: str, output_tokens: int = 15, **more: Any) -> bytes:
    fields = {"stop_reason": reason, "stop_sequence": None} | more
    return event("message_delta", delta=fields, usage={"output_tokens": output_tokens}) + DONE


DONE = event("message_stop")
PING = event("ping")
START = event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "content": [],
        "model": "claude-m",
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 1},
    },
)
STARTED: list[StreamEvent] = [Started("msg_1", "claude-m"), Usage(25, 1)]
TEXT = (
    begin(0, "text", text="")
    + PING
    + delta(0, "text_delta", text="Grö")
    + delta(0, "text_delta", text="ße 😀")
    + end(0)
)

STREAMS: dict[str, tuple[bytes, Sequence[StreamEvent]]] = {
    "text": (
        START + TEXT + stop("end_turn"),
        [*STARTED, TextDelta("Größe 😀"), Usage(25, 15), Finished("stop")],
    ),
    "pings before the beginning, crlf, events without a name": (
        (PING + START + TEXT + stop("max_tokens")).replace(b"event: ping\n", b"").replace(b"\n", b"\r\n"),
        [*STARTED, TextDelta("Größe 😀"), Usage(25, 15), Finished("length")],
    ),
    "parallel tools": (
        START
        + begin(0, "text", text="")
        + delta(0, "text_delta", text="I look.")
        + end(0)
        + begin(1, "tool_use", id="a", name="weather", input={})
        + delta(1, "input_json_delta", partial_json="")
        + delta(1, "input_json_delta", partial_json='{"city": "Os')
        + delta(1, "input_json_delta", partial_json='lo"}')
        + end(1)
        + begin(2, "tool_use", id="b", name="now", input={})
        + delta(2, "input_json_delta", partial_json="")
        + end(2)
        + stop("tool_use"),
        [
            *STARTED,
            TextDelta("I look."),
            ToolCallDelta(0, '{"city": "Oslo"}', "a", "weather"),
            ToolCallDelta(1, "{}", "b", "now"),
            Usage(25, 15),
            Finished("tool_calls"),
        ],
    ),
    "thoughts, one of them hidden": (
        START
        + begin(0, "thinking", thinking="", signature="")
        + delta(0, "thinking_delta", thinking="2 and ")
        + delta(0, "thinking_delta", thinking="2")
        + delta(0, "signature_delta", signature="EqQB")
        + end(0)
        + begin(1, "redacted_thinking", data="EmwK")
        + end(1)
        + begin(2, "text", text="4")
        + end(2)
        + event(
            "message_delta",
            delta={"stop_reason": "stop_sequence", "stop_sequence": "x"},
            usage={"input_tokens": 25, "output_tokens": 40, "output_tokens_details": {"thinking_tokens": 30}},
        )
        + DONE,
        [
            *STARTED,
            ReasoningDelta("2 and 2"),
            TextDelta("4"),
            Usage(25, 10, reasoning_tokens=30),
            ReasoningState(
                "anthropic-messages",
                Raw(
                    b'[{"type":"thinking","thinking":"2 and 2","signature":"EqQB"},'
                    b'{"type":"redacted_thinking","data":"EmwK"}]'
                ),
            ),
            Finished("stop"),
        ],
    ),
    "a thought that begins with a word": (
        START
        + begin(0, "thinking", thinking="2 and ", signature="")
        + delta(0, "thinking_delta", thinking="2")
        + delta(0, "signature_delta", signature="EqQB")
        + end(0)
        + begin(1, "text", text="4")
        + end(1)
        + stop("end_turn"),
        [
            *STARTED,
            ReasoningDelta("2 and 2"),
            TextDelta("4"),
            Usage(25, 15),
            ReasoningState(
                "anthropic-messages",
                Raw(b'[{"type":"thinking","thinking":"2 and 2","signature":"EqQB"}]'),
            ),
            Finished("stop"),
        ],
    ),
    "a refusal that is explained": (
        START
        + TEXT
        + stop("refusal", stop_details={"type": "refusal", "category": "bio", "explanation": "No."}),
        [
            *STARTED,
            TextDelta("Größe 😀"),
            RefusalDelta("No."),
            Usage(25, 15),
            Finished("content_filter"),
        ],
    ),
    "what is not known is passed over": (
        START
        + begin(0, "server_tool_use", id="s", name="web_search", input={})
        + delta(0, "input_json_delta", partial_json='{"query": "x"}')
        + end(0)
        + begin(1, "web_search_tool_result", tool_use_id="s", content=[{"type": "web_search_result"}])
        + end(1)
        + event("weather_report", sun=True)
        + begin(2, "text", text="")
        + delta(2, "citations_delta", citation={"type": "page_location"})
        + delta(2, "text_delta", text="a")
        + end(2)
        + stop("pause_turn"),
        [*STARTED, TextDelta("a"), Usage(25, 15), Finished("length")],
    ),
    "cache": (
        event(
            "message_start",
            message={
                "id": "msg_1",
                "model": "claude-m",
                "content": [],
                "usage": {
                    "input_tokens": 5,
                    "cache_read_input_tokens": 7,
                    "cache_creation_input_tokens": 30,
                    "cache_creation": {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20},
                    "output_tokens": 1,
                },
            },
        )
        + TEXT
        + stop("model_context_window_exceeded"),
        [
            Started("msg_1", "claude-m"),
            Usage(5, 1, cached_tokens=7, cache_write_5m_tokens=10, cache_write_1h_tokens=20),
            TextDelta("Größe 😀"),
            Usage(5, 15, cached_tokens=7, cache_write_5m_tokens=10, cache_write_1h_tokens=20),
            Finished("length"),
        ],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_tells_the_same_story_however_it_is_cut(name: str) -> None:
    body, story = STREAMS[name]
    assert_told_however_cut(CODEC, body, story)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_ends_early_is_truncated_wherever_it_ends(name: str) -> None:
    body, story = STREAMS[name]
    ends = body.rindex(b"}") + (2 if b"\r" in body else 3)
    assert_truncated_before(CODEC, body, ends - 1, story)


ERROR = {"type": "overloaded_error", "message": "Overloaded"}
BROKEN: list[tuple[bytes, Json]] = [
    (
        event("error", error=ERROR, request_id="req_1"),
        {"kind": "overloaded", "message": "Overloaded", "code": "overloaded_error", "request_id": "req_1"},
    ),
    (event("error", error={"type": "api_error", "message": "Internal"}), {"kind": "server"}),
    (
        event(
            "error",
            error={
                "type": "rate_limit_error",
                "message": "spent",
                "details": {"error_code": "enforced_spend_limit_reached"},
            },
        ),
        {"kind": "permission", "code": "enforced_spend_limit_reached"},
    ),
    (event("error"), {"kind": "server", "code": None}),
    (b"data: <html>\n\n", {"kind": "protocol"}),
    (b"data: 7\n\n", {"kind": "protocol"}),
    (b"data: " + b"[" * 100_000 + b"\n\n", {"kind": "protocol"}),
    (b'data: {"type":"ping","message":{"id":"a\xff"}}\n\n', {"kind": "protocol"}),
    (delta(9, "text_delta", text="z"), {"kind": "protocol"}),
    (end(9), {"kind": "protocol"}),
    (begin(9, "tool_use", id="x", name="", input={}), {"kind": "protocol"}),
    (DONE, {"kind": "protocol"}),
    (
        event("message_delta", delta={"stop_reason": "bored"}, usage={"output_tokens": 1}),
        {"kind": "protocol"},
    ),
    (event("message_delta", delta={}, usage={"output_tokens": -1}), {"kind": "protocol"}),
]


@pytest.mark.parametrize(("body", "error"), BROKEN)
@pytest.mark.parametrize("before", [START, START + TEXT])
def test_what_breaks_in_mid_stream_is_the_last_event(before: bytes, body: bytes, error: Json) -> None:
    for chunks in ([before + body + TEXT + stop("end_turn")], [before, body, TEXT]):
        events = events_of(CODEC.stream_decoder(), chunks)
        last = events[-1]
        assert isinstance(last, ProviderError)
        assert {name: getattr(last, name) for name in error} == error
        assert not any(isinstance(event, Finished) for event in events)


@pytest.mark.parametrize(
    "body", [event("error", error=ERROR), TEXT, stop("end_turn"), DONE, b"data: rubbish\n\n"]
)
def test_nothing_but_an_error_may_come_before_the_message(body: bytes) -> None:
    (last,) = events_of(CODEC.stream_decoder(), [body + START])
    assert isinstance(last, ProviderError)
    assert last.kind == ("overloaded" if b"error" in body else "protocol")


def test_a_tools_input_may_come_whole_with_its_block() -> None:
    body = (
        START
        + begin(0, "tool_use", id="a", name="weather", input={"city": "Ōsaka"})
        + end(0)
        + stop("tool_use")
    )
    (call,) = answer_of(CODEC, body).tool_calls
    assert (call.id, call.name, json.loads(call.arguments)) == ("a", "weather", {"city": "Ōsaka"})
    bare = body.replace(b', "input": {"city": "' + "Ōsaka".encode() + b'"}', b"")
    assert len(bare) < len(body)
    assert [call.arguments for call in answer_of(CODEC, bare).tool_calls] == ["{}"]


def test_a_block_left_open_is_no_end() -> None:
    body = START + begin(0, "tool_use", id="a", name="f", input={}) + stop("tool_use")
    last = events_of(CODEC.stream_decoder(), [body])[-1]
    assert isinstance(last, ProviderError)
    assert last.kind == "protocol"


def message(content: list[Json], reason: str = "end_turn", **more: Any) -> bytes:
    fields: Json = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-m",
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
        "usage": {"input_tokens": 25, "output_tokens": 15},
    }
    return json.dumps(fields | more, ensure_ascii=False).encode()


WHOLE: dict[str, bytes] = {
    "text": message([{"type": "text", "text": "Größe 😀"}]),
    "parallel tools": message(
        [
            {"type": "text", "text": "I look."},
            {"type": "tool_use", "id": "a", "name": "weather", "input": {"city": "Oslo"}},
            {"type": "tool_use", "id": "b", "name": "now", "input": {}},
        ],
        "tool_use",
    ),
    "thoughts, one of them hidden": message(
        [
            {"type": "thinking", "thinking": "2 and 2", "signature": "EqQB"},
            {"type": "redacted_thinking", "data": "EmwK"},
            {"type": "text", "text": "4"},
        ],
        "stop_sequence",
        usage={"input_tokens": 25, "output_tokens": 40, "output_tokens_details": {"thinking_tokens": 30}},
    ),
    "a refusal that is explained": message(
        [{"type": "text", "text": "Größe 😀"}],
        "refusal",
        stop_details={"type": "refusal", "category": "bio", "explanation": "No."},
    ),
    "what is not known is passed over": message(
        [
            {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "x"}},
            {
                "type": "web_search_tool_result",
                "tool_use_id": "s",
                "content": [{"type": "web_search_result"}],
            },
            {"type": "text", "text": "a", "citations": [{"type": "page_location"}]},
        ],
        "pause_turn",
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_and_streamed_answers_are_the_same(name: str) -> None:
    assert CODEC.decode(WHOLE[name]) == answer_of(CODEC, STREAMS[name][0])


def test_a_whole_answer() -> None:
    got = CODEC.decode(WHOLE["parallel tools"])
    assert (got.id, got.model, got.text, got.finish_reason) == ("msg_1", "claude-m", "I look.", "tool_calls")
    assert got.tool_calls == (ToolCall("a", "weather", '{"city": "Oslo"}'), ToolCall("b", "now", "{}"))
    assert (got.usage, got.usage_reported) == (Usage(25, 15), True)
    (choice,) = json.loads(bytes(got.raw))["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["weather", "now"]
    refused = CODEC.decode(WHOLE["a refusal that is explained"])
    assert (refused.refusal, refused.finish_reason) == ("No.", "content_filter")


def test_usage_that_cannot_be_charged_by_counts_as_none() -> None:
    for usage in ({}, {"input_tokens": 5}, {"output_tokens": 5}, None):
        assert not CODEC.decode(message([], usage=usage)).usage_reported
    odd = {"input_tokens": 1, "output_tokens": 2, "output_tokens_details": {"thinking_tokens": 9}}
    assert CODEC.decode(message([], usage=odd)).usage == Usage(1, 0, reasoning_tokens=2)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"7",
        b"{}",
        b'{"content":7}',
        b'{"content":[{}],"stop_reason":"end_turn"}',
        b'{"content":[],"stop_reason":null}',
        b'{"content":[],"stop_reason":"bored"}',
        b'{"content":[{"type":"tool_use","id":"a","name":"f","input":{"a":"\xff"}}],"stop_reason":"tool_use"}',
        b'{"content":[],"stop_reason":"end_turn","usage":{"input_tokens":-1,"output_tokens":1}}',
        b'{"type":"error","error":{"type":"api_error","message":"x"}}',
        b'{"content":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedAnswer):
        CODEC.decode(body)


@pytest.mark.parametrize("at", range(0, len(WHOLE["parallel tools"]), 3))
def test_a_whole_answer_cut_anywhere_is_rejected(at: int) -> None:
    with pytest.raises(RejectedAnswer):
        CODEC.decode(WHOLE["parallel tools"][:at])


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"type": "invalid_request_error"}, "invalid_request"),
        (401, {"type": "authentication_error"}, "authentication"),
        (402, {"type": "billing_error"}, "permission"),
        (403, {"type": "permission_error"}, "permission"),
        (404, {"type": "not_found_error"}, "not_found"),
        (413, {"type": "request_too_large"}, "invalid_request"),
        (429, {"type": "rate_limit_error"}, "rate_limited"),
        (429, {"type": "rate_limit_error", "details": {"error_code": "ramp_limit_exceeded"}}, "rate_limited"),
        (
            429,
            {"type": "rate_limit_error", "details": {"error_code": "contract_spend_limit_reached"}},
            "permission",
        ),
        (429, {"type": "rate_limit_error", "details": {"error_code": "new_thing"}}, "rate_limited"),
        (500, {"type": "api_error"}, "server"),
        (504, {"type": "timeout_error"}, "timeout"),
        (529, {"type": "overloaded_error"}, "overloaded"),
        (500, {"type": "overloaded_error"}, "overloaded"),
        (418, {"type": "new_error"}, "invalid_request"),
        (529, {}, "overloaded"),
    ],
)
def test_failures_are_classed_by_type_code_and_status(status: int, error: Json, kind: str) -> None:
    body = json.dumps({"type": "error", "error": {"message": "m"} | error, "request_id": "req_1"}).encode()
    got = CODEC.failure(status, {"retry-after": "7"}, body, 0.0)
    assert (got.kind, got.message, got.status, got.provider) == (kind, "m", status, "p")
    assert (got.request_id, got.retry_after_s) == ("req_1", 7.0)


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"7", b'{"error":"x"}', b"\xff" * 10_000_000])
def test_an_error_body_that_is_none_is_quoted_in_short(body: bytes) -> None:
    got = CODEC.failure(503, {"request-id": "req_2"}, body, 0.0)
    assert (got.kind, got.request_id, got.code) == ("overloaded", "req_2", None)
    assert got.message.startswith("HTTP 503")
    assert len(got.message) < 300


@needs("anthropic")
@pytest.mark.parametrize("name", sorted(STREAMS.keys() - {"what is not known is passed over"}))
def test_the_official_client_reads_the_same_bytes_the_same(name: str) -> None:
    body, _ = STREAMS[name]
    with (
        serving(body) as http,
        official("anthropic").Anthropic(api_key="k", http_client=http, max_retries=0) as client,
        client.messages.stream(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "Why?"}]
        ) as stream,
    ):
        theirs = stream.get_final_message()
    ours = answer_of(CODEC, body)
    assert "".join(b.text for b in theirs.content if b.type == "text") == ours.text
    assert "".join(b.thinking for b in theirs.content if b.type == "thinking") == ours.reasoning
    assert [(b.id, b.name, b.input) for b in theirs.content if b.type == "tool_use"] == [
        (call.id, call.name, json.loads(call.arguments)) for call in ours.tool_calls
    ]
    assert theirs.usage.input_tokens == ours.usage.input_tokens
    assert theirs.usage.output_tokens == ours.usage.total_output_tokens
