"""Answers on Gemini's wire, whole and streamed, however they are cut, and what failures mean."""

import json
from collections.abc import Sequence
from typing import Any

import pytest
from msgspec import Raw
from tests.providers.oracles import needs, official
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
    TokenLogprob,
    ToolCall,
    ToolCallDelta,
    Usage,
)
from greenroom.actors.providers import Gemini, RejectedAnswer

Json = dict[str, Any]
CODEC = Gemini("p")


def response(*parts: Json, reason: str | None = None, usage: Json | None = None, **more: Any) -> Json:
    candidate: Json = {"content": {"parts": list(parts), "role": "model"}, "index": 0}
    if reason is not None:
        candidate["finishReason"] = reason
    body: Json = {"candidates": [candidate | more], "modelVersion": "gemini-m", "responseId": "r1"}
    return body | ({"usageMetadata": usage} if usage is not None else {})


def text(said: str) -> Json:
    return {"text": said}


def sse(*responses: Json) -> bytes:
    return b"".join(b"data: %s\r\n\r\n" % json.dumps(each, ensure_ascii=False).encode() for each in responses)


STARTED = Started("r1", "gemini-m")
USED: Json = {"promptTokenCount": 8, "candidatesTokenCount": 3, "totalTokenCount": 11}
TOOLS = [
    response(
        text("I look."),
        {"functionCall": {"name": "weather", "args": {"city": "Oslo"}}, "thoughtSignature": "c2ln"},
        {"functionCall": {"name": "now", "id": "x7"}},
    ),
    response(text(""), reason="STOP", usage=USED),
]
THOUGHTS = [
    response({"text": "2 and ", "thought": True}, usage={"promptTokenCount": 8, "thoughtsTokenCount": 2}),
    response({"text": "2", "thought": True}),
    response(text("4")),
    response(
        {"text": "", "thoughtSignature": "dGV4dA=="}, reason="STOP", usage=USED | {"thoughtsTokenCount": 30}
    ),
]
STREAMS: dict[str, tuple[Sequence[Json], Sequence[StreamEvent]]] = {
    "text": (
        [
            response(text("Grö"), usage={"promptTokenCount": 8, "totalTokenCount": 8}),
            response(text("ße 😀")),
            response(text(""), reason="STOP", usage=USED),
        ],
        [STARTED, TextDelta("Grö"), Usage(8), TextDelta("ße 😀"), Usage(8, 3), Finished("stop")],
    ),
    "parallel tools, one of them signed, one of them without an id": (
        TOOLS,
        [
            STARTED,
            TextDelta("I look."),
            ToolCallDelta(0, '{"city": "Oslo"}', "call_r1_0", "weather"),
            ToolCallDelta(1, "{}", "x7", "now"),
            Usage(8, 3),
            ReasoningState("gemini", Raw(b'[{"signature":"c2ln","call":0}]')),
            Finished("tool_calls"),
        ],
    ),
    "thoughts": (
        THOUGHTS,
        [
            STARTED,
            ReasoningDelta("2 and "),
            Usage(8, reasoning_tokens=2),
            ReasoningDelta("2"),
            TextDelta("4"),
            Usage(8, 3, reasoning_tokens=30),
            ReasoningState("gemini", Raw(b'[{"signature":"dGV4dA==","call":null}]')),
            Finished("stop"),
        ],
    ),
    "cut off for safety": (
        [
            response(text("So ")),
            {"candidates": [{"finishReason": "SAFETY", "index": 0}], "usageMetadata": USED},
        ],
        [STARTED, TextDelta("So "), Usage(8, 3), Finished("content_filter")],
    ),
    "a blocked question": (
        [
            {
                "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"},
                "usageMetadata": {"promptTokenCount": 8, "totalTokenCount": 8},
                "modelVersion": "gemini-m",
                "responseId": "r1",
            }
        ],
        [STARTED, RefusalDelta("PROHIBITED_CONTENT"), Usage(8), Finished("content_filter")],
    ),
    "log probabilities, and a second candidate": (
        [
            response(
                text("a"),
                reason="MAX_TOKENS",
                logprobsResult={
                    "chosenCandidates": [{"token": "a", "tokenId": 5, "logProbability": -0.5}],
                    "topCandidates": [{"candidates": [{"token": "b", "tokenId": 6, "logProbability": -1.5}]}],
                },
            )
            | {"usageMetadata": USED},
            {"candidates": [{"index": 1, "content": {"parts": [text("z")]}, "finishReason": "OTHER"}]},
        ],
        [
            STARTED,
            TextDelta("a", (TokenLogprob("a", -0.5, top_logprobs=(TokenLogprob("b", -1.5),)),)),
            Usage(8, 3),
            Finished("length"),
        ],
    ),
    "what is not known is passed over": (
        [
            response(
                {"executableCode": {"language": "PYTHON", "code": "1"}},
                {"inlineData": {"mimeType": "image/png", "data": "AA=="}},
                text("a"),
                reason="STOP",
                usage=USED | {"serviceTier": "standard"},
                groundingMetadata={"x": [1]},
            )
        ],
        [STARTED, TextDelta("a"), Usage(8, 3), Finished("stop")],
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_tells_the_same_story_however_it_is_cut(name: str) -> None:
    responses, story = STREAMS[name]
    for body in (sse(*responses), sse(*responses).replace(b"\r\n", b"\n")):
        assert_told_however_cut(CODEC, body, story, after_it=(b"\n\n", b": ping\n\n"))


@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_that_ends_early_is_truncated_wherever_it_ends(name: str) -> None:
    responses, story = STREAMS[name]
    ends = next(i for i, each in enumerate(responses) if "finishReason" in str(each) or "block" in str(each))
    body = sse(*responses[: ends + 1])
    assert_truncated_before(CODEC, body, len(body) - 3, story)


@pytest.mark.parametrize("name", STREAMS)
def test_whole_and_streamed_answers_are_the_same(name: str) -> None:
    responses, _ = STREAMS[name]
    parts = [part for each in responses for part in joined_parts(each)]
    last = next(each for each in reversed(responses) if "usageMetadata" in each)
    whole: Json = {"modelVersion": "gemini-m", "responseId": "r1"} | last
    if "candidates" in last:
        whole["candidates"] = [last["candidates"][0] | {"content": {"parts": parts, "role": "model"}}]
    assert CODEC.decode(json.dumps(whole).encode()) == answer_of(CODEC, sse(*responses))


def joined_parts(each: Json) -> list[Json]:
    return [
        part
        for candidate in each.get("candidates", [])
        if candidate.get("index") == 0
        for part in candidate.get("content", {}).get("parts", [])
    ]


def test_a_whole_answer() -> None:
    got = CODEC.decode(
        json.dumps(TOOLS[0] | response(*joined_parts(TOOLS[0]), reason="STOP", usage=USED)).encode()
    )
    assert (got.id, got.model, got.text, got.finish_reason) == ("r1", "gemini-m", "I look.", "tool_calls")
    assert got.tool_calls == (
        ToolCall("call_r1_0", "weather", '{"city": "Oslo"}'),
        ToolCall("x7", "now", "{}"),
    )
    assert (got.usage, got.usage_reported) == (Usage(8, 3), True)
    (choice,) = json.loads(bytes(got.raw))["choices"]
    assert [call["id"] for call in choice["message"]["tool_calls"]] == ["call_r1_0", "x7"]


@pytest.mark.parametrize(
    ("said", "usage"),
    [
        (
            {
                "promptTokenCount": 100,
                "cachedContentTokenCount": 40,
                "candidatesTokenCount": 20,
                "thoughtsTokenCount": 7,
                "toolUsePromptTokenCount": 5,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 70},
                    {"modality": "AUDIO", "tokenCount": 30},
                ],
                "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 10}],
                "candidatesTokensDetails": [{"modality": "AUDIO", "tokenCount": 4}],
            },
            Usage(
                input_tokens=45,
                output_tokens=16,
                cached_tokens=30,
                cached_audio_tokens=10,
                reasoning_tokens=7,
                audio_input_tokens=20,
                audio_output_tokens=4,
            ),
        ),
        (
            {
                "promptTokenCount": 1000,
                "candidatesTokenCount": 1300,
                "promptTokensDetails": [
                    {"modality": "TEXT", "tokenCount": 100},
                    {"modality": "IMAGE", "tokenCount": 258},
                    {"modality": "DOCUMENT", "tokenCount": 42},
                    {"modality": "VIDEO", "tokenCount": 600},
                ],
                "candidatesTokensDetails": [{"modality": "IMAGE", "tokenCount": 1290}],
                "serviceTier": "PRIORITY",
            },
            Usage(
                input_tokens=100,
                output_tokens=10,
                image_input_tokens=300,
                image_output_tokens=1290,
                video_input_tokens=600,
                service_tier="priority",
            ),
        ),
        (
            # Details that do not tell what came from the cache say more than the sum.
            {
                "promptTokenCount": 1000,
                "cachedContentTokenCount": 900,
                "promptTokensDetails": [{"modality": "IMAGE", "tokenCount": 950}],
                "trafficType": "ON_DEMAND",
            },
            Usage(cached_tokens=900, image_input_tokens=100),
        ),
        ({"promptTokenCount": 5, "cachedContentTokenCount": 9}, Usage(cached_tokens=9)),
    ],
)
def test_usage_in_disjoint_classes(said: Json, usage: Usage) -> None:
    assert CODEC.decode(json.dumps(response(reason="STOP", usage=said)).encode()).usage == usage


def test_usage_that_cannot_be_charged_by_counts_as_none() -> None:
    for usage in (None, {}, {"candidatesTokenCount": 5}):
        assert not CODEC.decode(
            json.dumps(response(text("a"), reason="STOP", usage=usage)).encode()
        ).usage_reported


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"candidates":7}',
        json.dumps(response(text("a"))).encode(),
        json.dumps(response(text("a"), reason="MALFORMED_FUNCTION_CALL", finishMessage="x")).encode(),
        json.dumps(response(text("a"), reason="BORED")).encode(),
        json.dumps(response({"functionCall": {"args": {}}}, reason="STOP")).encode(),
        json.dumps(response(reason="STOP", usage={"promptTokenCount": -1})).encode(),
        b'{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"a":"\xff"}}}]},"finishReason":"STOP"}]}',
        b'{"candidates":' + b"[" * 100_000,
    ],
)
def test_what_is_no_answer_is_rejected(body: bytes) -> None:
    with pytest.raises(RejectedAnswer):
        CODEC.decode(body)


BEGUN = sse(response(text("a")))
BROKEN: list[tuple[bytes, Json]] = [
    (
        sse({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}),
        {"kind": "overloaded", "message": "overloaded", "code": "UNAVAILABLE"},
    ),
    (sse({"error": {"code": 500, "message": "x"}}), {"kind": "server", "code": None}),
    (sse({"error": {}}), {"kind": "server"}),
    (sse(response(text("a"), reason="MISSING_THOUGHT_SIGNATURE")), {"kind": "protocol"}),
    (b"data: <html>\n\n", {"kind": "protocol"}),
    (b"data: [1]\n\n", {"kind": "protocol"}),
    (b'data: {"responseId":"a\xff"}\n\n', {"kind": "protocol"}),
    (b"data: " + b"[" * 100_000 + b"\n\n", {"kind": "protocol"}),
]


@pytest.mark.parametrize(("body", "error"), BROKEN)
@pytest.mark.parametrize("before", [b"", BEGUN])
def test_what_breaks_in_mid_stream_is_the_last_event(before: bytes, body: bytes, error: Json) -> None:
    for chunks in ([before + body + sse(*TOOLS)], [before, body, sse(*TOOLS)]):
        events = events_of(CODEC.stream_decoder(), chunks)
        last = events[-1]
        assert isinstance(last, ProviderError)
        assert {name: getattr(last, name) for name in error} == error
        assert not any(isinstance(event, Finished) for event in events)


def test_a_stream_of_nothing_is_none() -> None:
    (error,) = events_of(CODEC.stream_decoder(), [b"data: {}\r\n\r\n"])
    assert isinstance(error, ProviderError)
    assert (error.kind, "without candidates" in error.message) == ("protocol", True)


def test_a_stream_cut_within_what_follows_the_finish_reason_is_truncated() -> None:
    after = sse({"usageMetadata": USED, "modelVersion": "gemini-m"})
    for at in range(1, len(after) - 3):
        last = events_of(CODEC.stream_decoder(), [sse(*TOOLS) + after[:at]])[-1]
        assert isinstance(last, ProviderError)
        assert (last.kind, "truncated" in last.message) == ("connection", True)
    assert events_of(CODEC.stream_decoder(), [sse(*TOOLS) + after])[-1] == Finished("tool_calls")


def test_rubbish_after_a_finish_reason_is_no_good_end() -> None:
    last = events_of(CODEC.stream_decoder(), [sse(*TOOLS), b"data: rubbish\n\n"])[-1]
    assert isinstance(last, ProviderError)
    assert last.kind == "protocol"


@pytest.mark.parametrize(
    ("status", "error", "kind", "code"),
    [
        (400, {"status": "INVALID_ARGUMENT"}, "invalid_request", "INVALID_ARGUMENT"),
        (
            400,
            {"status": "INVALID_ARGUMENT", "details": [{"reason": "API_KEY_INVALID"}]},
            "authentication",
            "API_KEY_INVALID",
        ),
        (400, {"status": "FAILED_PRECONDITION"}, "permission", "FAILED_PRECONDITION"),
        (401, {"status": "UNAUTHENTICATED"}, "authentication", "UNAUTHENTICATED"),
        (403, {"status": "PERMISSION_DENIED"}, "permission", "PERMISSION_DENIED"),
        (404, {"status": "NOT_FOUND"}, "not_found", "NOT_FOUND"),
        (429, {"status": "RESOURCE_EXHAUSTED"}, "rate_limited", "RESOURCE_EXHAUSTED"),
        (500, {"status": "INTERNAL"}, "server", "INTERNAL"),
        (501, {"status": "UNIMPLEMENTED"}, "unsupported_capability", "UNIMPLEMENTED"),
        (503, {"status": "UNAVAILABLE"}, "overloaded", "UNAVAILABLE"),
        (504, {"status": "DEADLINE_EXCEEDED"}, "timeout", "DEADLINE_EXCEEDED"),
        (429, {}, "rate_limited", None),
        (418, {"status": "NEW"}, "invalid_request", "NEW"),
    ],
)
def test_failures_are_classed_by_status_and_reason(
    status: int, error: Json, kind: str, code: str | None
) -> None:
    for body in ({"error": error | {"message": "m"}}, [{"error": error | {"message": "m"}}]):
        got = CODEC.failure(status, {}, json.dumps(body).encode(), 0.0)
        assert (got.kind, got.code, got.message, got.status, got.provider) == (kind, code, "m", status, "p")


@pytest.mark.parametrize(
    ("delay", "headers", "seconds"),
    [
        ("34.07s", {}, 34.07),
        ("0s", {"retry-after": "9"}, 0.0),
        ("soon", {"retry-after": "9"}, 9.0),
        ("-5s", {}, None),
        ("nans", {}, None),
        ("", {"retry-after": "9"}, 9.0),
    ],
)
def test_google_says_in_the_body_when_to_try_again(
    delay: str, headers: dict[str, str], seconds: float | None
) -> None:
    details: list[Json] = [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": []},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay},
    ]
    body = {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED", "details": details}}
    assert CODEC.failure(429, headers, json.dumps(body).encode(), 0.0).retry_after_s == seconds


@pytest.mark.parametrize(
    "body", [b"", b"<html>busy</html>", b"[]", b"[{}]", b'{"error":"x"}', b"\xff" * 10_000_000]
)
def test_an_error_body_that_is_none_is_quoted_in_short(body: bytes) -> None:
    got = CODEC.failure(503, {}, body, 0.0)
    assert (got.kind, got.code) == ("overloaded", None)
    assert got.message.startswith("HTTP 503")
    assert len(got.message) < 300


@needs("google.genai")
@pytest.mark.parametrize("name", sorted(STREAMS.keys() - {"what is not known is passed over"}))
def test_the_official_clients_types_read_the_same(name: str) -> None:
    responses, _ = STREAMS[name]
    types = official("google.genai.types")
    theirs: list[Any] = [types.GenerateContentResponse.model_validate(each) for each in responses]
    ours = answer_of(CODEC, sse(*responses))
    contents: list[Any] = [
        each.candidates[0].content for each in theirs if each.candidates and not each.candidates[0].index
    ]
    parts: list[Any] = [part for content in contents if content for part in content.parts]
    assert "".join(part.text or "" for part in parts if not part.thought) == ours.text
    assert "".join(part.text or "" for part in parts if part.thought) == ours.reasoning
    assert [(p.function_call.name, p.function_call.args or {}) for p in parts if p.function_call] == [
        (call.name, json.loads(call.arguments)) for call in ours.tool_calls
    ]
    used = next(each.usage_metadata for each in reversed(theirs) if each.usage_metadata)
    assert (used.prompt_token_count, used.candidates_token_count or 0) == (
        ours.usage.total_input_tokens,
        ours.usage.output_tokens,
    )
