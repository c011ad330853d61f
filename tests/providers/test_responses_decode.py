"""Answers on OpenAI's Responses wire, whole and streamed, however they are cut, and what failures mean."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw, structs
from tests.providers.oracles import needs, official, serving
from tests.providers.streams import answer_of, assert_told_however_cut, assert_truncated_before, events_of

from greenroom.actors.events import (
    Finished,
    ProviderError,
    ProviderFailed,
    ReasoningDelta,
    ReasoningState,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers import OpenAIResponses, RejectedAnswer

Json = dict[str, Any]
CODEC = OpenAIResponses("p")
USED: Json = {
    "input_tokens": 36,
    "input_tokens_details": {"cached_tokens": 6, "cache_write_tokens": 0},
    "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 60},
    "total_tokens": 123,
}
USAGE = Usage(30, 27, cached_tokens=6, reasoning_tokens=60)
STARTED = Started("resp_1", "gpt-m", 1741476777)


def response(status: str, *output: Json, usage: Json | None = None, **more: Any) -> Json:
    fields: Json = {
        "id": "resp_1",
        "object": "response",
        "created_at": 1741476777.0,
        "status": status,
        "error": None,
        "incomplete_details": None,
        "model": "gpt-m",
        "output": list(output),
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }
    return fields | more


def sse(*events: Json) -> bytes:
    return b"".join(
        b"event: %s\ndata: %s\n\n"
        % (
            event["type"].encode(),
            json.dumps(event | {"sequence_number": number}, ensure_ascii=False).encode(),
        )
        for number, event in enumerate(events)
    )


def message(*parts: Json, id_: str = "msg_1", status: str = "completed") -> Json:
    fields: Json = {"id": id_, "type": "message", "role": "assistant", "status": status}
    return fields | {"content": list(parts)}


def said(text: str, **more: Any) -> Json:
    fields: Json = {"type": "output_text", "text": text, "annotations": []}
    return fields | more


def call(id_: str, name: str, arguments: str) -> Json:
    return {
        "id": f"fc_{id_}",
        "type": "function_call",
        "status": "completed",
        "call_id": id_,
        "name": name,
        "arguments": arguments,
    }


def added(index: int, item: Json) -> Json:
    return {"type": "response.output_item.added", "output_index": index, "item": item}


def done(index: int, item: Json) -> Json:
    return {"type": "response.output_item.done", "output_index": index, "item": item}


def delta(kind: str, text: str, index: int = 0, **more: Any) -> Json:
    fields: Json = {"type": f"response.{kind}.delta", "item_id": "x", "output_index": index, "delta": text}
    return fields | {"content_index": 0} | more


def part(kind: str, index: int = 0, **fields: Any) -> Json:
    return {
        "type": f"response.content_part.{kind}",
        "item_id": "x",
        "output_index": index,
        "content_index": 0,
        "part": said("") | fields,
    }


CREATED: list[Json] = [
    {"type": "response.created", "response": response("in_progress")},
    {"type": "response.in_progress", "response": response("in_progress")},
]
EMPTY = message(status="in_progress")
TEXT = [
    added(0, EMPTY),
    part("added"),
    delta("output_text", "Grö", logprobs=[]),
    delta("output_text", "ße 😀", logprobs=[]),
    {"type": "response.output_text.done", "output_index": 0, "content_index": 0, "text": "Größe 😀"},
    part("done", text="Größe 😀"),
    done(0, message(said("Größe 😀"))),
]
REASONING: Json = {
    "id": "rs_1",
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Two."}, {"type": "summary_text", "text": "And two."}],
    "encrypted_content": "gAAA",
}
LOGPROB: Json = {"token": "a", "logprob": -0.5, "bytes": [97], "top_logprobs": []}


def completed(*output: Json, usage: Json | None = USED) -> Json:
    return {"type": "response.completed", "response": response("completed", *output, usage=usage)}


STREAMS: dict[str, tuple[Sequence[Json], Sequence[StreamEvent]]] = {
    "text": (
        [*CREATED, *TEXT, completed(message(said("Größe 😀")))],
        [STARTED, TextDelta("Größe 😀"), USAGE, Finished("stop")],
    ),
    "parallel tools": (
        [
            *CREATED,
            added(0, call("a", "weather", "") | {"status": "in_progress"}),
            added(1, call("b", "now", "") | {"status": "in_progress"}),
            delta("function_call_arguments", '{"city": ', 0),
            delta("function_call_arguments", '"Oslo"}', 0),
            {
                "type": "response.function_call_arguments.done",
                "output_index": 0,
                "item_id": "fc_a",
                "name": "weather",
                "arguments": '{"city": "Oslo"}',
            },
            {
                "type": "response.function_call_arguments.done",
                "output_index": 1,
                "item_id": "fc_b",
                "name": "now",
                "arguments": "{}",
            },
            done(0, call("a", "weather", '{"city": "Oslo"}')),
            done(1, call("b", "now", "{}")),
            completed(call("a", "weather", '{"city": "Oslo"}'), call("b", "now", "{}")),
        ],
        [
            STARTED,
            ToolCallDelta(0, "", "a", "weather"),
            ToolCallDelta(1, "", "b", "now"),
            ToolCallDelta(0, '{"city": "Oslo"}'),
            ToolCallDelta(1, "{}"),
            USAGE,
            Finished("tool_calls"),
        ],
    ),
    "reasoning in two paragraphs": (
        [
            *CREATED,
            added(0, REASONING | {"summary": [], "encrypted_content": "gA"}),
            delta("reasoning_summary_text", "Tw", summary_index=0),
            delta("reasoning_summary_text", "o.", summary_index=0),
            delta("reasoning_summary_text", "And two.", summary_index=1),
            done(0, REASONING),
            added(1, EMPTY),
            delta("output_text", "4", 1, logprobs=[]),
            done(1, message(said("4"))),
            completed(REASONING, message(said("4"))),
        ],
        [
            STARTED,
            ReasoningDelta("Two.\n\nAnd two."),
            TextDelta("4"),
            USAGE,
            ReasoningState("openai-responses", Raw(json.dumps([REASONING]).encode())),
            Finished("stop"),
        ],
    ),
    "a refusal": (
        [
            *CREATED,
            added(0, EMPTY),
            delta("refusal", "I "),
            delta("refusal", "won't."),
            done(0, message({"type": "refusal", "refusal": "I won't."})),
            completed(message({"type": "refusal", "refusal": "I won't."})),
        ],
        [STARTED, RefusalDelta("I won't."), USAGE, Finished("stop")],
    ),
    "cut off": (
        [
            *CREATED,
            *TEXT,
            {
                "type": "response.incomplete",
                "response": response(
                    "incomplete",
                    message(said("Größe 😀")),
                    usage=USED,
                    incomplete_details={"reason": "max_output_tokens"},
                ),
            },
        ],
        [STARTED, TextDelta("Größe 😀"), USAGE, Finished("length")],
    ),
    "filtered": (
        [
            *CREATED,
            {
                "type": "response.incomplete",
                "response": response("incomplete", incomplete_details={"reason": "content_filter"}),
            },
        ],
        [STARTED, Finished("content_filter")],
    ),
    "log probabilities": (
        [
            *CREATED,
            added(0, EMPTY),
            delta("output_text", "a", logprobs=[LOGPROB]),
            completed(message(said("a", logprobs=[LOGPROB]))),
        ],
        [STARTED, TextDelta("a", (TokenLogprob("a", -0.5, (97,)),)), USAGE, Finished("stop")],
    ),
    "what is not known is passed over": (
        [
            *CREATED,
            added(0, {"id": "ws_1", "type": "web_search_call", "status": "in_progress"}),
            {"type": "response.web_search_call.searching", "output_index": 0, "item_id": "ws_1"},
            done(0, {"id": "ws_1", "type": "web_search_call", "status": "completed", "action": [5]}),
            delta("weather_report", "sun", 9),
            *TEXT,
            completed({"id": "ws_1", "type": "web_search_call", "action": [5]}, message(said("Größe 😀"))),
        ],
        [
            STARTED,
            TextDelta("Größe 😀"),
            structs.replace(USAGE, web_searches=1),
            Finished("stop"),
        ],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_tells_the_same_story_however_it_is_cut(name: str) -> None:
    events, story = STREAMS[name]
    assert_told_however_cut(CODEC, sse(*events), story)


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_ends_early_is_truncated_wherever_it_ends(name: str) -> None:
    events, story = STREAMS[name]
    body = sse(*events)
    assert_truncated_before(CODEC, body, len(body), story)


@pytest.mark.parametrize("name", STREAMS)
def test_whole_and_streamed_answers_are_the_same(name: str) -> None:
    events, _ = STREAMS[name]
    assert CODEC.decode(json.dumps(events[-1]["response"], ensure_ascii=False).encode()) == answer_of(
        CODEC, sse(*events)
    )


def test_a_whole_answer() -> None:
    output = (message(said("I look.")), call("a", "weather", '{"city": "Oslo"}'), call("b", "now", "{}"))
    got = CODEC.decode(json.dumps(response("completed", *output, usage=USED)).encode())
    assert (got.id, got.model, got.text, got.finish_reason) == ("resp_1", "gpt-m", "I look.", "tool_calls")
    assert got.tool_calls == (ToolCall("a", "weather", '{"city": "Oslo"}'), ToolCall("b", "now", "{}"))
    assert (got.usage, got.usage_reported) == (USAGE, True)
    assert json.loads(bytes(got.raw))["created"] == 1741476777


def test_caches_are_written_for_two_lives() -> None:
    for details, usage in (
        (
            {"cached_tokens": 1, "cache_write_tokens": 10},
            Usage(25, 5, cached_tokens=1, cache_write_5m_tokens=10),
        ),
        (
            {
                "cached_tokens": 1,
                "cache_write_tokens": 10,
                "cache_write_tokens_details": {"ttl_30m_tokens": 4, "ttl_12h_tokens": 6},
            },
            Usage(25, 5, cached_tokens=1, cache_write_5m_tokens=4, cache_write_1h_tokens=6),
        ),
    ):
        used = {"input_tokens": 36, "output_tokens": 5, "input_tokens_details": details}
        assert CODEC.decode(json.dumps(response("completed", usage=used)).encode()).usage == usage


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        json.dumps(response("in_progress")).encode(),
        json.dumps(response("queued")).encode(),
        json.dumps(response("cancelled")).encode(),
        json.dumps(response("completed", {"id": "no type"})).encode(),
        json.dumps(response("completed", usage={"input_tokens": -1, "output_tokens": 1})).encode(),
        b'{"status":"completed","output":[{"type":"reasoning","x":"\xff"}]}',
        b'{"status":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedAnswer):
        CODEC.decode(body)


FAILED: list[tuple[Json | None, Json]] = [
    ({"code": "server_error", "message": "m"}, {"kind": "server", "message": "m", "code": "server_error"}),
    ({"code": "rate_limit_exceeded", "message": "m"}, {"kind": "rate_limited"}),
    ({"code": "image_content_policy_violation", "message": "m"}, {"kind": "content_filter"}),
    ({"code": "invalid_image_url", "message": "m"}, {"kind": "invalid_request"}),
    ({"code": "new_thing", "message": "m"}, {"kind": "server", "code": "new_thing"}),
    (None, {"kind": "server", "message": "the response failed"}),
]


@pytest.mark.parametrize(("error", "expected"), FAILED)
def test_a_response_that_failed_is_a_failure_whole_and_streamed(error: Json | None, expected: Json) -> None:
    body = response("failed", error=error, usage=USED)
    with pytest.raises(ProviderFailed) as failure:
        CODEC.decode(json.dumps(body).encode())
    events = events_of(
        CODEC.stream_decoder(), [sse(*CREATED, *TEXT, {"type": "response.failed", "response": body})]
    )
    for got in (failure.value.error, events[-1]):
        assert isinstance(got, ProviderError)
        assert {name: getattr(got, name) for name in expected} == expected
    assert events[-2] == USAGE  # what failed may be charged all the same


BROKEN: list[tuple[bytes, Json]] = [
    (
        sse({"type": "error", "code": "rate_limit_exceeded", "message": "slow down", "param": None}),
        {"kind": "rate_limited", "message": "slow down", "code": "rate_limit_exceeded"},
    ),
    (
        sse({"type": "error", "error": {"type": "server_error", "message": "m", "code": None}}),
        {"kind": "server", "message": "m", "code": "server_error"},
    ),
    (sse({"type": "error"}), {"kind": "server"}),
    (b"data: <html>\n\n", {"kind": "protocol"}),
    (b"data: {}\n\n", {"kind": "protocol"}),
    (b'data: {"type":"response.x","item":"a\xff"}\n\n', {"kind": "protocol"}),
    (b"data: " + b"[" * 100_000 + b"\n\n", {"kind": "protocol"}),
    (sse(delta("function_call_arguments", "{", 7)), {"kind": "protocol"}),
    (sse(added(3, call("a", "", ""))), {"kind": "protocol"}),
    (sse({"type": "response.completed"}), {"kind": "protocol"}),
    (sse({"type": "response.completed", "response": response("queued")}), {"kind": "protocol"}),
]


@pytest.mark.parametrize(("body", "error"), BROKEN)
@pytest.mark.parametrize("before", [sse(*CREATED), sse(*CREATED, *TEXT)])
def test_what_breaks_in_mid_stream_is_the_last_event(before: bytes, body: bytes, error: Json) -> None:
    after = sse(*TEXT, completed())
    for chunks in ([before + body + after], [before, body, after]):
        events = events_of(CODEC.stream_decoder(), chunks)
        last = events[-1]
        assert isinstance(last, ProviderError)
        assert {name: getattr(last, name) for name in error} == error
        assert not any(isinstance(event, Finished) for event in events)


def test_nothing_but_an_error_may_come_before_the_response() -> None:
    for body, kind in ((sse(*TEXT), "protocol"), (sse({"type": "error", "message": "m"}), "server")):
        (last,) = events_of(CODEC.stream_decoder(), [body])
        assert isinstance(last, ProviderError)
        assert last.kind == kind


def test_failures_are_classed_as_on_openais_other_wire() -> None:
    body = json.dumps({"error": {"message": "m", "type": "x", "code": "context_length_exceeded"}}).encode()
    got = CODEC.failure(400, {"x-request-id": "req_1", "retry-after": "2"}, body, 0.0)
    assert (got.kind, got.message, got.status, got.provider) == ("context_length", "m", 400, "p")
    assert (got.request_id, got.retry_after_s) == ("req_1", 2.0)


@needs("openai")
@pytest.mark.parametrize(
    "name", sorted(STREAMS.keys() - {"what is not known is passed over", "log probabilities"})
)
def test_the_official_client_reads_the_same_bytes_the_same(name: str) -> None:
    events, _ = STREAMS[name]
    body = sse(*events)
    with (
        serving(body) as http,
        official("openai").OpenAI(api_key="k", http_client=http, max_retries=0) as client,
    ):
        *_, last = client.responses.create(model="m", input="Why?", stream=True)
    ours, theirs = answer_of(CODEC, body), last.response
    assert theirs.output_text == ours.text
    assert [(i.call_id, i.name, i.arguments) for i in theirs.output if i.type == "function_call"] == [
        (each.id, each.name, each.arguments) for each in ours.tool_calls
    ]
    if theirs.usage:
        assert theirs.usage.input_tokens == ours.usage.total_input_tokens
        assert theirs.usage.output_tokens == ours.usage.total_output_tokens
