"""Answers on Bedrock's Converse wire, whole and in Amazon's event stream, however they are cut; what failures mean."""

import json
import struct
from binascii import crc32
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
    ToolCall,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers import BedrockConverse, RejectedAnswer
from greenroom.actors.providers.bedrock.framing import EventMessage, EventStreamSplitter

Json = dict[str, Any]
CODEC = BedrockConverse("p")


def text_header(name: str, value: str) -> bytes:
    return (
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value.encode())) + value.encode()
    )


def framed(headers: bytes, payload: bytes) -> bytes:
    lengths = struct.pack(">II", 16 + len(headers) + len(payload), len(headers))
    message = lengths + struct.pack(">I", crc32(lengths)) + headers + payload
    return message + struct.pack(">I", crc32(message))


def event(kind: str, payload: Json | bytes | None = None) -> bytes:
    headers = text_header(":event-type", kind) + text_header(":message-type", "event")
    body = payload if isinstance(payload, bytes) else json.dumps(payload or {}, ensure_ascii=False).encode()
    return framed(text_header(":content-type", "application/json") + headers, body)


def exception(name: str, payload: bytes) -> bytes:
    headers = text_header(":exception-type", name) + text_header(":message-type", "exception")
    return framed(headers, payload)


def delta(index: int, **fields: Any) -> bytes:
    return event("contentBlockDelta", {"contentBlockIndex": index, "delta": fields})


def stop(reason: str, usage: Json | None = None) -> bytes:
    used = usage or {"inputTokens": 25, "outputTokens": 15, "totalTokens": 40}
    return event("messageStop", {"stopReason": reason}) + event(
        "metadata", {"usage": used, "metrics": {"latencyMs": 12}, "p": "abcd"}
    )


def end(index: int) -> bytes:
    return event("contentBlockStop", {"contentBlockIndex": index})


def tool_start(index: int, id_: str, name: str) -> bytes:
    fields = {"contentBlockIndex": index, "start": {"toolUse": {"toolUseId": id_, "name": name}}}
    return event("contentBlockStart", fields)


START = event("messageStart", {"role": "assistant"})
TEXT = delta(0, text="Grö") + delta(0, text="ße 😀") + end(0)
STREAMS: dict[str, tuple[bytes, Sequence[StreamEvent]]] = {
    "text": (
        START + TEXT + stop("end_turn"),
        [Started(), TextDelta("Größe 😀"), Usage(25, 15), Finished("stop")],
    ),
    "parallel tools": (
        START
        + delta(0, text="I look.")
        + end(0)
        + tool_start(1, "a", "weather")
        + delta(1, toolUse={"input": '{"city": "Os'})
        + delta(1, toolUse={"input": 'lo"}'})
        + end(1)
        + tool_start(2, "b", "now")
        + delta(2, toolUse={"input": ""})
        + end(2)
        + stop("tool_use"),
        [
            Started(),
            TextDelta("I look."),
            ToolCallDelta(0, '{"city": "Oslo"}', "a", "weather"),
            ToolCallDelta(1, "{}", "b", "now"),
            Usage(25, 15),
            Finished("tool_calls"),
        ],
    ),
    "thoughts, one of them hidden": (
        START
        + delta(0, reasoningContent={"text": "2 and "})
        + delta(0, reasoningContent={"text": "2"})
        + delta(0, reasoningContent={"signature": "EqQB"})
        + end(0)
        + delta(1, reasoningContent={"redactedContent": "EmwK"})
        + end(1)
        + delta(2, text="4")
        + end(2)
        + stop(
            "max_tokens",
            {
                "inputTokens": 5,
                "outputTokens": 6,
                "totalTokens": 48,
                "cacheReadInputTokens": 7,
                "cacheWriteInputTokens": 30,
                "cacheDetails": [{"ttl": "1h", "inputTokens": 20}, {"ttl": "5m", "inputTokens": 10}],
            },
        ),
        [
            Started(),
            ReasoningDelta("2 and 2"),
            TextDelta("4"),
            Usage(5, 6, cached_tokens=7, cache_write_5m_tokens=10, cache_write_1h_tokens=20),
            ReasoningState(
                "bedrock-converse",
                Raw(
                    b'[{"reasoningContent":{"reasoningText":{"text":"2 and 2","signature":"EqQB"}}},'
                    b'{"reasoningContent":{"redactedContent":"EmwK"}}]'
                ),
            ),
            Finished("length"),
        ],
    ),
    "what is not known is passed over": (
        START
        + event("contentBlockStart", {"contentBlockIndex": 0, "start": {"image": {"format": "png"}}})
        + delta(0, citation={"title": "x"})
        + event("weatherReport", {"sun": True})
        + TEXT
        + stop("guardrail_intervened"),
        [Started(), TextDelta("Größe 😀"), Usage(25, 15), Finished("content_filter")],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_tells_the_same_story_however_it_is_cut(name: str) -> None:
    body, story = STREAMS[name]
    assert_told_however_cut(CODEC, body, story)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_ends_early_is_truncated_wherever_it_ends(name: str) -> None:
    body, story = STREAMS[name]
    assert_truncated_before(CODEC, body, len(body), story)


@pytest.mark.parametrize("place", range(0, len(START + TEXT), 5))
def test_a_flipped_bit_is_noticed(place: int) -> None:
    body = bytearray(STREAMS["text"][0])
    body[place] ^= 4
    last = events_of(CODEC.stream_decoder(), [bytes(body)])[-1]
    assert isinstance(last, ProviderError)
    assert last.kind == "protocol"


BROKEN: list[tuple[bytes, Json]] = [
    (
        exception("throttlingException", b'{"message":"slow down"}'),
        {"kind": "rate_limited", "message": "slow down", "code": "ThrottlingException"},
    ),
    (exception("modelStreamErrorException", b'{"message":"m"}'), {"kind": "server"}),
    (exception("validationException", b'{"message":"m"}'), {"kind": "invalid_request"}),
    (exception("newException", b"{}"), {"kind": "server", "message": "{}", "code": "NewException"}),
    (
        framed(
            text_header(":message-type", "error")
            + text_header(":error-code", "InternalFailure")
            + text_header(":error-message", "broken"),
            b"",
        ),
        {"kind": "server", "message": "broken", "code": "InternalFailure"},
    ),
    (b"<html>It works!</html>", {"kind": "protocol"}),
    (event("contentBlockDelta", b"<html>"), {"kind": "protocol"}),
    (event("contentBlockDelta", b"[" * 100_000), {"kind": "protocol"}),
    (delta(7, toolUse={"input": "{"}), {"kind": "protocol"}),
    (tool_start(7, "x", ""), {"kind": "protocol"}),
    (event("messageStop", {"stopReason": "malformed_tool_use"}), {"kind": "protocol"}),
    (event("metadata", {}), {"kind": "protocol"}),
    (framed(b"\x05name\x63", b""), {"kind": "protocol"}),
    (framed(b"\x01a\x07\xff\xffx", b""), {"kind": "protocol"}),
    (framed(b"\x01a", b""), {"kind": "protocol"}),
    (framed(b"\x01\xff\x07\x00\x00", b""), {"kind": "protocol"}),
]


@pytest.mark.parametrize(("body", "error"), BROKEN)
@pytest.mark.parametrize("before", [START, START + TEXT])
def test_what_breaks_in_mid_stream_is_the_last_event(before: bytes, body: bytes, error: Json) -> None:
    for chunks in ([before + body + TEXT + stop("end_turn")], [before, body, TEXT]):
        events = events_of(CODEC.stream_decoder(), chunks)
        last = events[-1]
        assert isinstance(last, ProviderError)
        assert {name: getattr(last, name) for name in error} == error
        assert not any(isinstance(each, Finished) for each in events)


@pytest.mark.parametrize("body", [TEXT, stop("end_turn"), event("metadata", {}), event("novelty", {})])
def test_nothing_may_come_before_the_message(body: bytes) -> None:
    (error,) = events_of(CODEC.stream_decoder(), [body + START + TEXT + stop("end_turn")])
    assert isinstance(error, ProviderError)
    assert (error.kind, "before messageStart" in error.message) == ("protocol", True)


@pytest.mark.parametrize("total", [0, 15, 2**24 + 1, 2**32 - 1])
def test_a_length_that_cannot_be_is_refused(total: int) -> None:
    lengths = struct.pack(">II", total, 0)
    with pytest.raises(RejectedAnswer):
        list(EventStreamSplitter().receive(lengths + struct.pack(">I", crc32(lengths))))


def test_headers_of_every_type_are_read_over() -> None:
    values = [
        (0, b""),
        (1, b""),
        (2, b"x"),
        (3, b"xx"),
        (4, b"xxxx"),
        (5, b"x" * 8),
        (8, b"x" * 8),
        (9, b"x" * 16),
    ]
    headers = b"".join(b"\x01h" + bytes([kind]) + value for kind, value in values)
    headers += b"\x01b\x06\x00\x02xx" + text_header("name", "Wärme")
    (message,) = EventStreamSplitter().receive(framed(headers, b"p"))
    assert message == EventMessage({"name": "Wärme"}, b"p")


@given(st.lists(st.tuples(st.text(max_size=20), st.binary(max_size=60)), max_size=5), st.integers(1, 40))
def test_what_is_framed_is_split_again_however_it_is_cut(said: list[tuple[str, bytes]], size: int) -> None:
    body = b"".join(framed(text_header("h", name), payload) for name, payload in said)
    splitter = EventStreamSplitter()
    told = [each for at in range(0, len(body), size) for each in splitter.receive(body[at : at + size])]
    assert told == [EventMessage({"h": name}, payload) for name, payload in said]
    assert not splitter.cut


def answer(content: list[Json], reason: str = "end_turn", **more: Any) -> bytes:
    body: Json = {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": reason,
        "usage": {"inputTokens": 25, "outputTokens": 15, "totalTokens": 40},
        "metrics": {"latencyMs": 12},
    }
    return json.dumps(body | more, ensure_ascii=False).encode()


WHOLE: dict[str, bytes] = {
    "text": answer([{"text": "Größe 😀"}]),
    "parallel tools": answer(
        [
            {"text": "I look."},
            {"toolUse": {"toolUseId": "a", "name": "weather", "input": {"city": "Oslo"}}},
            {"toolUse": {"toolUseId": "b", "name": "now", "input": {}}},
        ],
        "tool_use",
    ),
    "thoughts, one of them hidden": answer(
        [
            {"reasoningContent": {"reasoningText": {"text": "2 and 2", "signature": "EqQB"}}},
            {"reasoningContent": {"redactedContent": "EmwK"}},
            {"text": "4"},
        ],
        "max_tokens",
        usage={
            "inputTokens": 5,
            "outputTokens": 6,
            "totalTokens": 48,
            "cacheReadInputTokens": 7,
            "cacheWriteInputTokens": 30,
            "cacheDetails": [{"ttl": "1h", "inputTokens": 20}],
        },
    ),
    "what is not known is passed over": answer(
        [{"text": "Größe 😀"}, {"audio": {"x": 1}}], "content_filtered"
    ),
}


@pytest.mark.parametrize("name", WHOLE)
def test_whole_and_streamed_answers_are_the_same(name: str) -> None:
    assert CODEC.decode(WHOLE[name]) == answer_of(CODEC, STREAMS[name][0])


def test_a_whole_answer() -> None:
    got = CODEC.decode(WHOLE["parallel tools"])
    assert (got.text, got.finish_reason) == ("I look.", "tool_calls")
    assert got.tool_calls == (ToolCall("a", "weather", '{"city": "Oslo"}'), ToolCall("b", "now", "{}"))
    assert (got.usage, got.usage_reported) == (Usage(25, 15), True)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"output":{}}',
        answer([], "malformed_model_output"),
        answer([], "bored"),
        answer([], usage={"inputTokens": -1, "outputTokens": 1}),
        b'{"output":{"message":{"content":[{"toolUse":{"input":"\xff"}}]}},"stopReason":"tool_use"}',
        b'{"output":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedAnswer):
        CODEC.decode(body)


@pytest.mark.parametrize(
    ("status", "name", "kind"),
    [
        (400, "ValidationException", "invalid_request"),
        (403, "AccessDeniedException", "permission"),
        (403, "ExpiredTokenException", "authentication"),
        (403, "UnrecognizedClientException", "authentication"),
        (404, "ResourceNotFoundException", "not_found"),
        (408, "ModelTimeoutException", "timeout"),
        (424, "ModelErrorException", "server"),
        (429, "ThrottlingException", "rate_limited"),
        (429, "ModelNotReadyException", "overloaded"),
        (500, "InternalServerException", "server"),
        (503, "ServiceUnavailableException", "overloaded"),
        (418, "NewException", "invalid_request"),
    ],
)
def test_failures_are_classed_by_the_exceptions_name(status: int, name: str, kind: str) -> None:
    by_header = CODEC.failure(
        status,
        {"x-amzn-errortype": f"{name}:http://internal.amazon.com/", "x-amzn-requestid": "r"},
        b'{"message":"m"}',
        0.0,
    )
    by_body = CODEC.failure(
        status, {}, json.dumps({"__type": f"com.amazon.coral#{name}", "Message": "m"}).encode(), 0
    )
    for got in (by_header, by_body):
        assert (got.kind, got.code, got.message, got.status, got.provider) == (kind, name, "m", status, "p")
    assert by_header.request_id == "r"


@pytest.mark.parametrize("body", [b"", b"<html>busy</html>", b"[]", b'{"message":7}', b"\xff" * 10_000_000])
def test_an_error_body_that_is_none_is_quoted_in_short(body: bytes) -> None:
    got = CODEC.failure(503, {}, body, 0.0)
    assert (got.kind, got.code) == ("overloaded", None)
    assert got.message.startswith("HTTP 503")
    assert len(got.message) < 300


@needs("botocore")
@pytest.mark.parametrize("name", STREAMS)
def test_botocore_splits_the_same_bytes_the_same(name: str) -> None:
    body, _ = STREAMS[name]
    buffer = official("botocore.eventstream").EventStreamBuffer()
    buffer.add_data(body)
    theirs: list[Any] = list(buffer)
    ours = EventStreamSplitter().receive(body)
    assert [(each.headers, each.payload) for each in theirs] == [
        (each.headers, each.payload) for each in ours
    ]
