"""Whole answers, as OpenAI and the servers that speak its wire give them, and what is no answer at all."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from greenroom.actors.events import ProviderFailed, ToolCall, Usage
from greenroom.actors.providers import OpenAIChat, RejectedAnswer

Json = dict[str, Any]
CODEC = OpenAIChat("p")
GOOD = b'{"choices":[{"message":{"content":"x"},"finish_reason":"stop"}]}'

OPENAI = b"""{
  "id": "chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT",
  "object": "chat.completion",
  "created": 1741569952,
  "model": "gpt-5-mini-2025-08-07",
  "choices": [
    {
      "index": 0,
      "message": {
        "role": "assistant",
        "content": "Hello!\\nHow can I help?",
        "refusal": null,
        "annotations": []
      },
      "logprobs": null,
      "finish_reason": "stop"
    }
  ],
  "usage": {
    "prompt_tokens": 1019,
    "completion_tokens": 74,
    "total_tokens": 1093,
    "prompt_tokens_details": {"cached_tokens": 896, "audio_tokens": 0},
    "completion_tokens_details": {
      "reasoning_tokens": 64,
      "audio_tokens": 0,
      "accepted_prediction_tokens": 0,
      "rejected_prediction_tokens": 0
    }
  },
  "service_tier": "default",
  "system_fingerprint": null
}
"""
VLLM = (
    b'{"id":"chatcmpl-6b1f","object":"chat.completion","created":1756000000,"model":"Qwen/Qwen3-8B","choices":'
    b'[{"index":0,"message":{"role":"assistant","content":"Four.","refusal":null,"annotations":null,'
    b'"audio":null,"function_call":null,"tool_calls":[],"reasoning_content":"Two and two."},"logprobs":null,'
    b'"finish_reason":"stop","stop_reason":null,"token_ids":null}],"service_tier":null,'
    b'"system_fingerprint":null,"usage":{"prompt_tokens":15,"total_tokens":48,"completion_tokens":33,'
    b'"prompt_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,"kv_transfer_params":null}'
)
LLAMA_CPP = (
    b'{"choices":[{"finish_reason":"length","index":0,"message":{"role":"assistant","content":"\xc3\xbcber"}}],'
    b'"created":1756000000,"model":"tiny-text","system_fingerprint":"b6301-da54f9f1","object":"chat.completion",'
    b'"usage":{"completion_tokens":8,"prompt_tokens":21,"total_tokens":29,"prompt_tokens_details":'
    b'{"cached_tokens":13}},"id":"chatcmpl-x","timings":{"prompt_n":8,"prompt_ms":1.5,"predicted_n":8}}'
)
OLLAMA = (
    b'{"id":"chatcmpl-414","object":"chat.completion","created":1756000000,"model":"llama3.2:1b",'
    b'"system_fingerprint":"fp_ollama","choices":[{"index":0,"message":{"role":"assistant","content":"",'
    b'"tool_calls":[{"id":"call_9","index":0,"type":"function","function":{"name":"add","arguments":'
    b'"{\\"a\\":1}"}},{"id":"call_a","index":1,"type":"function","function":{"name":"now","arguments":"{}"}}]},'
    b'"finish_reason":"tool_calls"}],"usage":{"prompt_tokens":169,"completion_tokens":41,"total_tokens":210}}\n'
)


def answer(message: Json | None = None, reason: str | None = "stop", **rest: Any) -> bytes:
    choice = {
        "index": 0,
        "message": {"content": "x"} if message is None else message,
        "finish_reason": reason,
    }
    return json.dumps({"choices": [choice], **rest}).encode()


def test_openais_answer() -> None:
    got = CODEC.decode(OPENAI)
    assert (got.id, got.model) == ("chatcmpl-B9MBs8CjcvOU2jLn4n570S5qMJKcT", "gpt-5-mini-2025-08-07")
    assert (got.text, got.finish_reason, got.refusal) == ("Hello!\nHow can I help?", "stop", None)
    assert (got.reasoning, got.tool_calls) == ("", ())
    assert got.usage == Usage(input_tokens=123, cached_tokens=896, output_tokens=10, reasoning_tokens=64)
    assert got.usage_reported


def test_vllms_answer() -> None:
    got = CODEC.decode(VLLM)
    assert (got.text, got.reasoning, got.tool_calls) == ("Four.", "Two and two.", ())
    assert got.usage == Usage(input_tokens=15, output_tokens=33)


def test_llama_cpps_answer_which_leaves_refusal_out() -> None:
    got = CODEC.decode(LLAMA_CPP)
    assert (got.text, got.finish_reason, got.refusal) == ("über", "length", None)
    assert got.usage == Usage(input_tokens=8, cached_tokens=13, output_tokens=8)


def test_ollamas_answer_with_parallel_tool_calls() -> None:
    got = CODEC.decode(OLLAMA)
    assert (got.text, got.finish_reason) == ("", "tool_calls")
    assert got.tool_calls == (ToolCall("call_9", "add", '{"a":1}'), ToolCall("call_a", "now", "{}"))


@pytest.mark.parametrize("body", [OPENAI, VLLM, LLAMA_CPP, OLLAMA])
def test_the_providers_own_json_is_kept_whole_on_one_line(body: bytes) -> None:
    raw = bytes(CODEC.decode(body).raw)
    assert b"\n" not in raw
    assert json.loads(raw) == json.loads(body)


def test_one_line_keeps_every_digit_and_the_order_of_keys() -> None:
    body = GOOD[:-1] + b',\n\t"z": 1.10000000000000000000000000001, "a": 123456789012345678901234567890\r\n}'
    raw = bytes(CODEC.decode(body).raw)
    assert raw == GOOD[:-1] + b',"z":1.10000000000000000000000000001,"a":123456789012345678901234567890}'


@pytest.mark.parametrize(
    ("message", "text", "refusal"),
    [
        ({"content": None}, "", None),
        ({}, "", None),
        ({"content": ""}, "", None),
        ({"content": None, "refusal": "I will not."}, "", "I will not."),
        ({"content": "a\x00b\u2028\U0001f600"}, "a\x00b\u2028\U0001f600", None),
    ],
)
def test_content_may_be_null_empty_or_missing(message: Json, text: str, refusal: str | None) -> None:
    got = CODEC.decode(answer(message))
    assert (got.text, got.refusal) == (text, refusal)


@pytest.mark.parametrize("said", ["error", "", "STOP", None])
def test_an_unknown_finish_reason_is_no_answer(said: str | None) -> None:
    with pytest.raises(RejectedAnswer, match=r"finish_reason is .*; known are .*'content_filter'"):
        CODEC.decode(answer(reason=said))


def test_only_the_first_choice_counts() -> None:
    choices = [{"message": {"content": text}, "finish_reason": "stop"} for text in ("first", "second")]
    assert CODEC.decode(json.dumps({"choices": choices}).encode()).text == "first"


def test_an_answer_that_names_nothing_but_its_text() -> None:
    got = CODEC.decode(GOOD)
    assert (got.id, got.model, got.text) == ("", "", "x")
    assert (got.usage, got.usage_reported) == (Usage(), False)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "truncated"),
        (b"<html><body>502 Bad Gateway</body></html>", "502 Bad Gateway"),
        (b"null", "Expected `object`, got `null`"),
        (b"[]", "Expected `object`, got `array`"),
        (b"{}", "without choices; the body begins '{}'"),
        (b'{"choices":[]}', "without choices"),
        (b'{"choices":null}', "choices"),
        (b'{"choices":[{"finish_reason":"stop"}]}', "message"),
        (b'{"choices":[{"message":null,"finish_reason":"stop"}]}', "message"),
        (answer({"content": 5}), "content"),
        (answer({"tool_calls": [{"id": "a"}]}), "function"),
        (GOOD + GOOD, "trailing"),
        (GOOD[:-2] + b'\xff"}', "malformed|decode"),
        (GOOD.replace(b'"x"', b'"\xff"'), "utf-8"),
        (GOOD[:-1] + b',"a":"\xc3("}', "utf-8"),
        (GOOD.replace(b'"x"', b'"\\ud800"'), "malformed"),
        (GOOD[:-1] + b',"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "recursion depth"),
        (answer(usage={"prompt_tokens": -1, "completion_tokens": 1}), "usage.prompt_tokens"),
        (answer(usage={"prompt_tokens": 1, "completion_tokens": 1.5}), "usage.completion_tokens"),
    ],
)
def test_what_is_no_answer_says_why(body: bytes, why: str) -> None:
    with pytest.raises(RejectedAnswer, match=why) as rejected:
        CODEC.decode(body)
    assert len(str(rejected.value)) < 600


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        ({"message": "boom"}, "server", "boom"),
        ({"message": "upstream died", "code": 502}, "server", "upstream died"),
        ({"message": "slow down", "code": 429}, "rate_limited", "slow down"),
        ({"message": "no credit", "code": "insufficient_quota"}, "permission", "no credit"),
        ("out of memory", "server", "out of memory"),
    ],
)
def test_an_error_that_calls_itself_a_success(error: Any, kind: str, message: str) -> None:
    bodies: list[Json] = [
        {"error": error},
        {"error": error, "choices": None},
        {"error": error, "choices": []},
    ]
    for body in bodies:
        with pytest.raises(ProviderFailed) as failed:
            CODEC.decode(json.dumps(body).encode())
        assert (failed.value.error.kind, failed.value.error.message) == (kind, message)


@pytest.mark.parametrize("body", [OPENAI, VLLM, LLAMA_CPP, OLLAMA])
def test_an_answer_cut_anywhere_is_no_answer(body: bytes) -> None:
    for end in range(len(body.rstrip())):
        with pytest.raises(RejectedAnswer):
            CODEC.decode(body[:end])


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: json.dumps(text).encode()))
def test_any_bytes_are_an_answer_or_none(body: bytes) -> None:
    for wire in (body, GOOD.replace(b'"x"', body), GOOD[:-1] + b',"usage":' + body + b"}"):
        try:
            got = CODEC.decode(wire)
        except RejectedAnswer:
            continue
        bytes(got.raw).decode()
        assert min(structs.astuple(got.usage)[:-1]) >= 0


def usage_of(**usage: Any) -> Usage:
    got = CODEC.decode(answer(usage=usage))
    assert got.usage_reported
    return got.usage


@pytest.mark.parametrize(
    ("reported", "usage"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 3}, Usage(10, 3)),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Usage()),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 3,
                "prompt_tokens_details": {},
                "completion_tokens_details": {},
            },
            Usage(10, 3),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": None, "audio_tokens": None},
                "completion_tokens_details": {"reasoning_tokens": None},
            },
            Usage(10, 3),
        ),
        (
            {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 10}},
            Usage(input_tokens=0, cached_tokens=10, output_tokens=3),
        ),
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 3,
                "prompt_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 7},
            },
            Usage(input_tokens=1, cached_tokens=2, cache_write_5m_tokens=7, output_tokens=3),
        ),
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 50,
                "total_tokens": 150,
                "prompt_tokens_details": {"cached_tokens": 20, "audio_tokens": 30},
                "completion_tokens_details": {"reasoning_tokens": 15, "audio_tokens": 25},
            },
            Usage(
                input_tokens=50,
                cached_tokens=20,
                audio_input_tokens=30,
                output_tokens=10,
                reasoning_tokens=15,
                audio_output_tokens=25,
            ),
        ),
    ],
)
def test_usage_is_normalised_into_disjoint_classes(reported: Json, usage: Usage) -> None:
    assert usage_of(**reported) == usage


@pytest.mark.parametrize(
    ("completion", "reasoning", "total", "visible"),
    [(9, 94, 135, 9), (1, 386, 399, 1), (103, 94, 135, 9), (94, 94, 126, 0)],
)
def test_reasoning_that_a_host_counts_beside_the_completion_is_told_by_the_total(
    completion: int, reasoning: int, total: int, visible: int
) -> None:
    """xAI leaves reasoning out of completion_tokens, where OpenAI includes it; total_tokens holds both."""
    prompt = total - visible - reasoning
    usage = usage_of(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=total,
        completion_tokens_details={"reasoning_tokens": reasoning},
    )
    assert (usage.output_tokens, usage.reasoning_tokens) == (visible, reasoning)
    assert usage.total_input_tokens + usage.total_output_tokens == total


counts = st.integers(0, 10**9)


@given(st.tuples(counts, counts, counts), st.tuples(counts, counts, counts))
def test_disjoint_classes_add_up_to_what_was_reported(
    went_in: tuple[int, int, int], came_out: tuple[int, int, int]
) -> None:
    (fresh, cached, audio_in), (visible, reasoning, audio_out) = went_in, came_out
    prompt, completion = fresh + cached + audio_in, visible + reasoning + audio_out
    usage = usage_of(
        prompt_tokens=prompt,
        completion_tokens=completion,
        total_tokens=prompt + completion,
        prompt_tokens_details={"cached_tokens": cached, "audio_tokens": audio_in},
        completion_tokens_details={"reasoning_tokens": reasoning, "audio_tokens": audio_out},
    )
    assert (usage.total_input_tokens, usage.total_output_tokens) == (prompt, completion)
    assert (usage.input_tokens, usage.output_tokens) == (fresh, visible)


@given(counts, counts, counts, counts)
def test_details_that_contradict_the_sum_are_never_charged_below_it(
    prompt: int, completion: int, cached: int, reasoning: int
) -> None:
    usage = usage_of(
        prompt_tokens=prompt,
        completion_tokens=completion,
        prompt_tokens_details={"cached_tokens": cached},
        completion_tokens_details={"reasoning_tokens": reasoning},
    )
    assert usage.total_input_tokens == max(prompt, cached)
    assert usage.total_output_tokens == max(completion, reasoning)


@pytest.mark.parametrize(
    "usage",
    [None, {}, {"total_tokens": 7}, {"prompt_tokens": 7}, {"completion_tokens": 7, "prompt_tokens": None}],
)
def test_usage_without_its_two_sums_is_not_reported(usage: Json | None) -> None:
    """So that the call is charged its upper bound and not what is left out, nothing."""
    got = CODEC.decode(answer(usage=usage))
    assert (got.usage, got.usage_reported) == (Usage(), False)


@pytest.mark.parametrize(
    ("status", "said", "kind"),
    [
        (422, "validation", "invalid_request"),
        (429, "overloaded", "overloaded"),
        (424, "generation", "server"),
    ],
)
def test_tgi_names_its_errors_beside_them(status: int, said: str, kind: str) -> None:
    body = json.dumps({"error": "so it is", "error_type": said}).encode()
    got = CODEC.failure(status, {}, body, 0.0)
    assert (got.kind, got.message, got.code) == (kind, "so it is", said)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"detail": "Not Found"}, ("Not Found", None)),
        ({"detail": [{"loc": ["body"], "msg": "wrong"}]}, ('[{"loc":["body"],"msg":"wrong"}]', None)),
        (
            {"object": "error", "message": "no such model", "type": "NotFoundError", "code": 404},
            ("no such model", "404"),
        ),
        ({"message": "said so", "detail": "and why"}, ("said so", None)),
    ],
)
def test_some_hosts_word_their_errors_without_an_error(body: Json, said: tuple[str, str | None]) -> None:
    got = CODEC.failure(404, {}, json.dumps(body, separators=(",", ":")).encode(), 0.0)
    assert (got.kind, (got.message, got.code)) == ("not_found", said)


def test_tgi_gave_arguments_as_an_object() -> None:
    function = {"description": None, "name": "weather", "arguments": {"city": "Ōsaka", "days": [1, 2.50]}}
    message = {"role": "assistant", "tool_calls": [{"id": "0", "type": "function", "function": function}]}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    (got,) = CODEC.decode(json.dumps(answer).encode()).tool_calls
    assert (got.id, got.name) == ("0", "weather")
    assert json.loads(got.arguments) == function["arguments"]
