"""Why a model stopped, in every word that each provider has for it: the same four reasons here, or no answer at all."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.providers.streams import events_of
from tests.providers.test_every_wire import CODECS

from greenroom.actors.events import Finished, FinishReason, ProviderError
from greenroom.actors.providers import RejectedAnswer
from greenroom.runtime.testing import WireName

Json = dict[str, Any]
REASONS: dict[WireName, dict[str, FinishReason]] = {
    "openai-chat": {
        "stop": "stop",
        "eos": "stop",
        "eos_token": "stop",
        "stop_sequence": "stop",
        "length": "length",
        "model_length": "length",
        "tool_calls": "tool_calls",
        "function_call": "tool_calls",
        "content_filter": "content_filter",
    },
    "openai-responses": {
        "completed": "stop",
        "max_output_tokens": "length",
        "content_filter": "content_filter",
    },
    "anthropic-messages": {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "pause_turn": "length",
        "tool_use": "tool_calls",
        "refusal": "content_filter",
    },
    "gemini": {
        "STOP": "stop",
        "OTHER": "stop",
        "NO_IMAGE": "stop",
        "IMAGE_OTHER": "stop",
        "MAX_TOKENS": "length",
        "CONTINUATION": "length",
        "SAFETY": "content_filter",
        "RECITATION": "content_filter",
        "LANGUAGE": "content_filter",
        "BLOCKLIST": "content_filter",
        "PROHIBITED_CONTENT": "content_filter",
        "SPII": "content_filter",
        "MODEL_ARMOR": "content_filter",
        "ESCALATION": "content_filter",
        "PUP_LIMITED_DISABLED": "content_filter",
        "IMAGE_SAFETY": "content_filter",
        "IMAGE_PROHIBITED_CONTENT": "content_filter",
        "IMAGE_RECITATION": "content_filter",
    },
    "ollama": {"": "stop", "stop": "stop", "load": "stop", "unload": "stop", "length": "length"},
    "bedrock-converse": {
        "end_turn": "stop",
        "stop_sequence": "stop",
        "max_tokens": "length",
        "model_context_window_exceeded": "length",
        "tool_use": "tool_calls",
        "guardrail_intervened": "content_filter",
        "content_filtered": "content_filter",
    },
}
NO_ANSWER: dict[WireName, tuple[str, ...]] = {
    "openai-chat": ("error", "STOP"),
    "openai-responses": ("in_progress", "queued", "cancelled"),
    "anthropic-messages": ("compaction", "END_TURN"),
    "gemini": ("MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "FINISH_REASON_UNSPECIFIED", "stop"),
    "ollama": ("error", "STOP"),
    "bedrock-converse": ("malformed_tool_use", "malformed_model_output", "END_TURN"),
}


def _response(said: str) -> Json:
    ended = said in {"completed", "in_progress", "queued", "cancelled"}
    item = {"type": "message", "content": [{"type": "output_text", "text": "a"}]}
    return {
        "status": said if ended else "incomplete",
        "incomplete_details": None if ended else {"reason": said},
        "output": [item],
    }


ANSWERS: dict[WireName, Callable[[str], Json]] = {
    "openai-chat": lambda said: {"choices": [{"message": {"content": "a"}, "finish_reason": said}]},
    "openai-responses": _response,
    "anthropic-messages": lambda said: {"content": [{"type": "text", "text": "a"}], "stop_reason": said},
    "gemini": lambda said: {
        "candidates": [{"content": {"parts": [{"text": "a"}]}, "finishReason": said}],
        "usageMetadata": {"promptTokenCount": 1},
    },
    "ollama": lambda said: {"message": {"content": "a"}, "done": True, "done_reason": said},
    "bedrock-converse": lambda said: {
        "output": {"message": {"content": [{"text": "a"}]}},
        "stopReason": said,
    },
}
KNOWN = [(wire, said) for wire, words in REASONS.items() for said in words]
UNKNOWN = [(wire, said) for wire, words in NO_ANSWER.items() for said in words]


@pytest.mark.parametrize(("wire", "said"), KNOWN)
def test_every_word_has_its_reason(wire: WireName, said: str) -> None:
    answer = CODECS[wire].decode(json.dumps(ANSWERS[wire](said)).encode())
    assert (answer.text, answer.finish_reason) == ("a", REASONS[wire][said])


@pytest.mark.parametrize(("wire", "said"), UNKNOWN)
def test_a_word_for_no_answer_is_told_as_none(wire: WireName, said: str) -> None:
    with pytest.raises(RejectedAnswer, match=said):
        CODECS[wire].decode(json.dumps(ANSWERS[wire](said)).encode())


@pytest.mark.parametrize(
    ("wire", "said"), [(wire, said) for wire, said in KNOWN if wire in {"gemini", "ollama"}]
)
def test_a_stream_of_one_piece_is_the_answer_itself(wire: WireName, said: str) -> None:
    body = json.dumps(ANSWERS[wire](said)).encode()
    framed = body + b"\n" if wire == "ollama" else b"data: %s\r\n\r\n" % body
    assert events_of(CODECS[wire].stream_decoder(), [framed])[-1] == Finished(REASONS[wire][said])


@pytest.mark.parametrize(
    ("wire", "said"), [(wire, said) for wire, said in UNKNOWN if wire in {"gemini", "ollama"}]
)
def test_nor_is_a_stream_of_it_an_answer(wire: WireName, said: str) -> None:
    body = json.dumps(ANSWERS[wire](said)).encode()
    framed = body + b"\n" if wire == "ollama" else b"data: %s\r\n\r\n" % body
    last = events_of(CODECS[wire].stream_decoder(), [framed])[-1]
    assert isinstance(last, ProviderError)
    assert last.kind == "protocol"
