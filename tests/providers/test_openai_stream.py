"""Streamed answers on OpenAI's wire, as OpenAI and its compatible hosts give them: whole, in bytes, and cut."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.providers.streams import byte_by_byte, events_of, merged

from greenroom.actors.events import (
    Finished,
    ProviderError,
    ReasoningDelta,
    RefusalDelta,
    Started,
    StreamEvent,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers import Accumulator, OpenAIChat

Json = dict[str, Any]
CODEC = OpenAIChat("p")
DONE = b"data: [DONE]\n\n"


def chunk(delta: Json | None = None, reason: str | None = None, **rest: Any) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": reason}]
    body = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 7,
        "model": "m",
        "choices": choices,
    } | rest
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


ROLE = chunk({"role": "assistant", "content": "", "refusal": None})
STOP = chunk({}, "stop")
STARTED = Started("c1", "m", 7)
USAGE = {"prompt_tokens": 5, "completion_tokens": 2, "total_tokens": 7}


def call(arguments: str = "", index: int | None = 0, id_: str | None = None, name: str | None = None) -> Json:
    piece: Json = {"function": {"arguments": arguments}}
    if index is not None:
        piece["index"] = index
    if id_ is not None:
        piece |= {"id": id_, "type": "function"}
    if name is not None:
        piece["function"]["name"] = name
    return {"tool_calls": [piece]}


STREAMS: dict[str, tuple[bytes, Sequence[StreamEvent]]] = {
    "openai": (
        b"".join(
            [
                chunk({"role": "assistant", "content": "", "refusal": None}, usage=None, obfuscation="x"),
                chunk({"content": "Grö"}, usage=None),
                chunk({"content": "ße 😀"}, usage=None),
                chunk({}, "stop", usage=None),
                chunk(
                    usage=USAGE
                    | {
                        "prompt_tokens_details": {"cached_tokens": 3, "audio_tokens": 0},
                        "completion_tokens_details": {"reasoning_tokens": 1, "audio_tokens": 0},
                    }
                ),
                DONE,
            ]
        ),
        [
            STARTED,
            TextDelta("Größe 😀"),
            Usage(2, 1, cached_tokens=3, reasoning_tokens=1),
            Finished("stop"),
        ],
    ),
    "azure, which begins with a chunk without choices": (
        chunk(prompt_filter_results=[{"prompt_index": 0}], id="", model="")
        + chunk({"content": "a"})
        + STOP
        + DONE,
        [STARTED, TextDelta("a"), Finished("stop")],
    ),
    "mistral: usage with the finish reason": (
        ROLE + chunk({"content": "a"}) + chunk({"content": ""}, "length", usage=USAGE) + DONE,
        [STARTED, TextDelta("a"), Usage(5, 2), Finished("length")],
    ),
    "mistral: thoughts in parts": (
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}]})
        + chunk({"content": [{"type": "text", "text": "4"}]})
        + STOP
        + DONE,
        [STARTED, ReasoningDelta("hm"), TextDelta("4"), Finished("stop")],
    ),
    "usage in every chunk": (
        chunk({"content": "a"}, usage={"prompt_tokens": 5, "completion_tokens": 1})
        + chunk({"content": "b"}, usage={"prompt_tokens": 5, "completion_tokens": 2})
        + chunk({}, "stop", usage={"prompt_tokens": 5, "completion_tokens": 2})
        + DONE,
        [STARTED, TextDelta("a"), Usage(5, 1), TextDelta("b"), Usage(5, 2), Finished("stop")],
    ),
    "usage that cannot be charged by": (
        chunk({"content": "a"}) + STOP + chunk(usage={"total_tokens": 9}) + DONE,
        [STARTED, TextDelta("a"), Finished("stop")],
    ),
    "deepseek: reasoning_content": (
        chunk({"role": "assistant", "content": None, "reasoning_content": "hm"})
        + chunk({"content": None, "reasoning_content": "m"})
        + chunk({"content": "4", "reasoning_content": None})
        + STOP
        + DONE,
        [STARTED, ReasoningDelta("hmm"), TextDelta("4"), Finished("stop")],
    ),
    "openrouter: reasoning, and comments while it waits": (
        b": OPENROUTER PROCESSING\n\n" * 3
        + chunk({"content": "", "reasoning": "hm"})
        + b": OPENROUTER PROCESSING\n\n"
        + chunk({"content": "4"})
        + STOP
        + DONE,
        [STARTED, ReasoningDelta("hm"), TextDelta("4"), Finished("stop")],
    ),
    "a refusal": (
        chunk({"refusal": "I "}) + chunk({"refusal": "won't"}) + STOP + DONE,
        [STARTED, RefusalDelta("I won't"), Finished("stop")],
    ),
    "parallel tool calls": (
        ROLE
        + chunk(call("", 0, "a", "add"))
        + chunk(call('{"x":', 0))
        + chunk(call("1}", 0))
        + chunk(call("", 1, "b", "now"))
        + chunk(call("{}", 1))
        + chunk({}, "tool_calls")
        + DONE,
        [
            STARTED,
            ToolCallDelta(0, '{"x":1}', "a", "add"),
            ToolCallDelta(1, "{}", "b", "now"),
            Finished("tool_calls"),
        ],
    ),
    "tool calls all at index 0, told apart by their ids": (
        chunk(call("{}", 0, "a", "add")) + chunk(call("{}", 0, "b", "now")) + chunk({}, "tool_calls") + DONE,
        [
            STARTED,
            ToolCallDelta(0, "{}", "a", "add"),
            ToolCallDelta(1, "{}", "b", "now"),
            Finished("tool_calls"),
        ],
    ),
    "tool calls without an index": (
        chunk(call("{", None, "a", "add"))
        + chunk(call("}", None))
        + chunk(call("{}", None, "b", "now"))
        + chunk({}, "tool_calls")
        + DONE,
        [
            STARTED,
            ToolCallDelta(0, "{}", "a", "add"),
            ToolCallDelta(1, "{}", "b", "now"),
            Finished("tool_calls"),
        ],
    ),
    "a tool call that repeats its id and name": (
        chunk(call("{", 0, "a", "add")) + chunk(call("}", 0, "a", "add")) + chunk({}, "tool_calls") + DONE,
        [STARTED, ToolCallDelta(0, "{}", "a", "add"), Finished("tool_calls")],
    ),
    "a tool call named late": (
        chunk(call("{", 0, "a")) + chunk(call("}", 0, None, "add")) + chunk({}, "tool_calls") + DONE,
        [STARTED, ToolCallDelta(0, "{}", "a", "add"), Finished("tool_calls")],
    ),
    "log probabilities": (
        b"data: "
        + json.dumps(
            {
                "id": "c1",
                "model": "m",
                "created": 7,
                "choices": [
                    {
                        "index": 0,
                        "delta": {"content": "a"},
                        "finish_reason": "stop",
                        "logprobs": {
                            "content": [
                                {
                                    "token": "a",
                                    "logprob": -0.5,
                                    "bytes": [97],
                                    "top_logprobs": [{"token": "b", "logprob": -1.5, "bytes": None}],
                                }
                            ],
                            "refusal": None,
                        },
                    }
                ],
            }
        ).encode()
        + b"\n\n"
        + DONE,
        [
            STARTED,
            TextDelta("a", (TokenLogprob("a", -0.5, (97,), (TokenLogprob("b", -1.5),)),)),
            Finished("stop"),
        ],
    ),
    "an empty finish reason until there is one": (
        chunk({"content": "a"}, "") + chunk({"content": "b"}, "eos") + DONE,
        [STARTED, TextDelta("ab"), Finished("stop")],
    ),
    "other choices are not listened to": (
        chunk({"content": "a"})
        + chunk(choices=[{"index": 1, "delta": {"content": "z"}, "finish_reason": "length"}])
        + STOP
        + DONE,
        [STARTED, TextDelta("a"), Finished("stop")],
    ),
    "bytes after the end": (
        chunk({"content": "a"}) + STOP + DONE + chunk({"content": "z"}) + b"data: rubbish\n\n",
        [STARTED, TextDelta("a"), Finished("stop")],
    ),
    "crlf": (
        (chunk({"content": "a"}) + STOP + DONE).replace(b"\n", b"\r\n"),
        [STARTED, TextDelta("a"), Finished("stop")],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_every_host_tells_the_same_story_however_it_is_cut(name: str) -> None:
    body, story = STREAMS[name]
    assert merged(events_of(CODEC.stream_decoder(), [body])) == story
    assert merged(events_of(CODEC.stream_decoder(), byte_by_byte(body))) == story
    for at in range(1, len(body)):
        assert merged(events_of(CODEC.stream_decoder(), [body[:at], body[at:]])) == story


@pytest.mark.parametrize("name", STREAMS)
def test_a_body_that_ends_early_is_truncated_wherever_it_ends(name: str) -> None:
    body, story = STREAMS[name]
    whole = body.rindex(b"[DONE]") + len(b"[DONE]") + (4 if name == "crlf" else 2)
    for at in range(whole - (name == "crlf")):  # a lone CR is a line end too
        events = events_of(CODEC.stream_decoder(), [body[:at]])
        last = events[-1]
        assert isinstance(last, ProviderError), at
        assert last.kind == "connection"
        assert "truncated" in last.message
        told = merged(events[:-1])
        assert [type(event) for event in told] == [type(event) for event in story[: len(told)]]


def test_a_host_that_leaves_done_out_is_whole_after_its_finish_reason() -> None:
    codec = OpenAIChat("p", stream_end="finish_reason")
    body = ROLE + chunk({"content": "a"}) + STOP + chunk(usage=USAGE)
    assert events_of(codec.stream_decoder(), [body])[-1] == Finished("stop")
    for at in range(len(ROLE + chunk({"content": "a"}) + STOP)):
        last = events_of(codec.stream_decoder(), [body[:at]])[-1]
        assert isinstance(last, ProviderError)
        assert last.kind == "connection"
    cut_in_usage = events_of(codec.stream_decoder(), [body[:-1]])[-1]
    assert isinstance(cut_in_usage, ProviderError)


def test_who_misses_done_is_told_how_to_do_without() -> None:
    last = events_of(CODEC.stream_decoder(), [ROLE + chunk({"content": "a"}) + STOP])[-1]
    assert isinstance(last, ProviderError)
    assert 'stream_end = "finish_reason"' in last.message
    # Whoever is cut in the middle of an event, or does without already, is not.
    cut = ROLE + chunk({"content": "a"}) + STOP + chunk(usage=USAGE)[:-1]
    for codec in (CODEC, OpenAIChat("p", stream_end="finish_reason")):
        last = events_of(codec.stream_decoder(), [cut])[-1]
        assert isinstance(last, ProviderError)
        assert "stream_end" not in last.message


def test_usage_may_come_before_anything_else() -> None:
    events = events_of(
        CODEC.stream_decoder(), [chunk(usage=USAGE) + ROLE + chunk({"content": "a"}) + STOP + DONE]
    )
    assert events == [STARTED, Usage(5, 2), TextDelta("a"), Finished("stop")]


FAILURES: list[tuple[bytes, Json]] = [
    (
        b'data: {"error":{"message":"slow down","type":"rate_limit_error","code":"rate_limit_exceeded"}}\n\n',
        {"kind": "rate_limited", "message": "slow down", "code": "rate_limit_exceeded"},
    ),
    (b'data: {"error":{"message":"busy","code":503}}\n\n', {"kind": "overloaded", "code": "503"}),
    (
        b'data: {"error":"too long","error_type":"validation"}\n\n',
        {"kind": "invalid_request", "message": "too long", "code": "validation"},
    ),
    (
        b'event: error\ndata: {"error":{"message":"too long","http_status_code":422}}\n\n',
        {"kind": "invalid_request", "message": "too long", "code": None},
    ),
    (b'data: {"error":"out of memory"}\n\n', {"kind": "server", "message": "out of memory", "code": None}),
    (
        b'data: {"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}\n\n',
        {"kind": "invalid_request", "message": "no", "code": "400", "param": None},
    ),
    (
        b'event: error\ndata: {"message":"broken"}\n\n',
        {"kind": "server", "message": "broken"},
    ),
    (
        b'data: {"error":{"message":"too long","code":"context_length_exceeded"}}\n\n',
        {"kind": "context_length"},
    ),
    (
        chunk({"content": ""}, "error", error={"code": 502, "message": "upstream died"}),
        {"kind": "server", "message": "upstream died", "code": "502"},
    ),
    (
        b'data: {"error":{"message":{"nested":[1]},"param":7,"code":null}}\n\n',
        {"message": '{"nested":[1]}', "param": "7"},
    ),
    (b'data: {"error":{}}\n\n', {"kind": "server", "message": '{"error":{}}'}),
    (b"data: <html>\n\n", {"kind": "protocol"}),
    (b'data: {"choices":7}\n\n', {"kind": "protocol"}),
    (b'data: {"choices":[{"delta":{"content":"a\xff"}}]}\n\n', {"kind": "protocol"}),
    (chunk({}, "bored"), {"kind": "protocol"}),
    (b"data: " + b"[" * 100_000 + b"\n\n", {"kind": "protocol"}),
    (DONE, {"kind": "connection"}),
    (chunk(call("{}", 0, "a")) + chunk({}, "tool_calls") + DONE, {"kind": "protocol"}),
]


@pytest.mark.parametrize("before", [b"", ROLE + chunk({"content": "a"})])
@pytest.mark.parametrize(("body", "error"), FAILURES)
def test_failures_in_mid_stream_are_the_last_event(before: bytes, body: bytes, error: Json) -> None:
    for chunks in ([before + body + chunk({"content": "z"}) + DONE], [before, body, DONE]):
        events = events_of(CODEC.stream_decoder(), chunks)
        last = events[-1]
        assert isinstance(last, ProviderError)
        assert {name: getattr(last, name) for name in error} == error
        assert not any(isinstance(event, Finished) for event in events)
        assert not any(event == TextDelta("z") for event in events)


def test_an_endless_event_is_refused() -> None:
    decoder = CODEC.stream_decoder()
    decoder.receive(b"data: ")
    for _ in range(17):
        decoder.receive(b"x" * 1024 * 1024)
    error = decoder.next_event()
    assert isinstance(error, ProviderError)
    assert error.kind == "protocol"


WHOLE: list[tuple[Json, bytes]] = [
    (
        {"role": "assistant", "content": "Größe", "refusal": None},
        ROLE + chunk({"content": "Grö"}) + chunk({"content": "ße"}) + STOP + chunk(usage=USAGE) + DONE,
    ),
    (
        {
            "role": "assistant",
            "content": None,
            "reasoning_content": "hm",
            "tool_calls": [{"id": "a", "type": "function", "function": {"name": "add", "arguments": "{}"}}],
        },
        ROLE
        + chunk({"reasoning_content": "hm"})
        + chunk(call("{", 0, "a", "add"))
        + chunk(call("}", 0))
        + STOP
        + chunk(usage=USAGE)
        + DONE,
    ),
    (
        {"role": "assistant", "content": None, "refusal": "I won't"},
        ROLE + chunk({"refusal": "I "}) + chunk({"refusal": "won't"}) + STOP + chunk(usage=USAGE) + DONE,
    ),
]


@pytest.mark.parametrize(("message", "streamed"), WHOLE)
def test_streamed_and_accumulated_is_the_same_as_whole(message: Json, streamed: bytes) -> None:
    whole = CODEC.decode(
        json.dumps(
            {
                "id": "c1",
                "object": "chat.completion",
                "created": 7,
                "model": "m",
                "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
                "usage": USAGE,
            }
        ).encode()
    )
    accumulator = Accumulator()
    for event in events_of(CODEC.stream_decoder(), [streamed]):
        accumulator.add(event)
    put_together = accumulator.completion()
    fields = [name for name in put_together.__struct_fields__ if name != "raw"]
    assert {name: getattr(put_together, name) for name in fields} == {
        name: getattr(whole, name) for name in fields
    }
    assert CODEC.decode(bytes(put_together.raw)) == put_together


VALUES = st.sampled_from(
    [
        b"null",
        b"0",
        b"-1",
        b"1e999",
        b"1.5",
        b'""',
        b'"x"',
        b"[]",
        b"{}",
        b"[[]]",
        b"true",
        b"9" * 400,
        b'"\\ud800"',
    ]
)


@given(st.sampled_from(sorted(STREAMS)), st.integers(min_value=0), st.binary(max_size=6), st.integers(0, 6))
def test_bytes_gone_wrong_are_an_error_at_most(name: str, place: int, put: bytes, dropped: int) -> None:
    """Whatever a broken server sends: the order is kept, one terminal event ends it, nothing is raised."""
    body = STREAMS[name][0]
    at = place % len(body)
    broken = body[:at] + put + body[at + dropped :]
    assert merged(events_of(CODEC.stream_decoder(), [broken])) == merged(
        events_of(CODEC.stream_decoder(), byte_by_byte(broken))
    )


@given(st.sampled_from(sorted(STREAMS)), st.integers(min_value=0), VALUES)
def test_values_gone_wrong_are_an_error_at_most(name: str, place: int, value: bytes) -> None:
    """As above, with JSON that is none of the dialect's in the place of one of its values."""
    parts = STREAMS[name][0].split(b'":')
    at = 1 + place % (len(parts) - 1)
    rest = parts[at].lstrip()
    stop = next((i for i, byte in enumerate(rest) if byte in b",}]\n"), len(rest))
    parts[at] = value + rest[stop:]
    events_of(CODEC.stream_decoder(), [b'":'.join(parts)])
