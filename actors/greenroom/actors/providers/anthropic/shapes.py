"""What whole answers and streamed ones have in common on Anthropic's wire: content blocks, usage, stop reasons.

Shapes: Anthropic's API reference, "Create a Message" and "Streaming messages".
"""

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from greenroom.actors.events import FinishReason, ReasoningState, Usage
from greenroom.actors.providers.wire import RejectedAnswer, SearchCount, TokenCount, service_tier

WIRE = "anthropic-messages"

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    # A long turn of Anthropic's own tools was interrupted: the answer is not whole.
    "pause_turn": "length",
    "refusal": "content_filter",
}


class _CacheCreation(Struct, gc=False):
    ephemeral_5m_input_tokens: TokenCount = 0
    ephemeral_1h_input_tokens: TokenCount = 0


class _OutputDetails(Struct, gc=False):
    thinking_tokens: TokenCount | None = None


class _ServerTools(Struct, gc=False):
    web_search_requests: SearchCount = 0


class WireUsage(Struct, gc=False):
    """Anthropic's usage object: `input_tokens` exclude what a cache gave or took; thinking is within the output."""

    input_tokens: TokenCount | None = None
    output_tokens: TokenCount | None = None
    cache_read_input_tokens: TokenCount | None = None
    cache_creation_input_tokens: TokenCount | None = None
    cache_creation: _CacheCreation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _ServerTools | None = None
    service_tier: str | None = None
    speed: str | None = None


class Block(Struct, gc=False):
    """A content block. Those of Anthropic's own tools, and citations, are not looked at."""

    type: str
    text: str = ""
    thinking: str = ""
    signature: str = ""
    data: str = ""
    id: str = ""
    name: str = ""
    input: Raw | UnsetType = UNSET


class Thinking(Struct, frozen=True, tag="thinking", tag_field="type"):
    """A thought, signed, so that it can be given back."""

    thinking: str
    signature: str


class RedactedThinking(Struct, frozen=True, tag="redacted_thinking", tag_field="type"):
    """A thought that only Anthropic can read."""

    data: str


Thought = Thinking | RedactedThinking


class StopDetails(Struct, gc=False):
    """Why the model refused."""

    explanation: str | None = None


def finish_reason(said: str | None) -> FinishReason:
    """The stop reason in greenroom's words.

    Raises:
        RejectedAnswer: there is no such reason.
    """
    reason = STOP_REASONS.get(said or "")
    if reason is None:
        raise RejectedAnswer(f"stop_reason is {said!r}; known are {sorted(STOP_REASONS)}")
    return reason


def thoughts(blocks: Iterable[Block]) -> list[Thought]:
    """The thoughts among an answer's blocks. One without a signature cannot be given back."""
    found: list[Thought] = []
    for block in blocks:
        if block.type == "thinking" and block.signature:
            found.append(Thinking(block.thinking, block.signature))
        elif block.type == "redacted_thinking":
            found.append(RedactedThinking(block.data))
    return found


def reasoning_state(thoughts: Sequence[Thought]) -> ReasoningState | None:
    """What Anthropic wants back with the assistant's message: its thoughts, unchanged and in their order."""
    return ReasoningState(WIRE, Raw(msgspec.json.encode(thoughts))) if thoughts else None


def usage_of(usage: WireUsage) -> Usage | None:
    """Usage in disjoint classes; None where a sum that is charged is missing."""
    if usage.input_tokens is None or usage.output_tokens is None:
        return None
    written = usage.cache_creation_input_tokens or 0
    by_ttl = usage.cache_creation or _CacheCreation()
    hour = by_ttl.ephemeral_1h_input_tokens
    thinking = (usage.output_tokens_details and usage.output_tokens_details.thinking_tokens) or 0
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=max(0, usage.output_tokens - thinking),
        cached_tokens=usage.cache_read_input_tokens or 0,
        # Where only the sum is told, it is of the shorter life, which is the default.
        cache_write_5m_tokens=max(by_ttl.ephemeral_5m_input_tokens, written - hour),
        cache_write_1h_tokens=hour,
        reasoning_tokens=min(thinking, usage.output_tokens),
        web_searches=usage.server_tool_use.web_search_requests if usage.server_tool_use else 0,
        service_tier=service_tier(usage.speed) or service_tier(usage.service_tier),
    )


def later(usage: WireUsage, update: WireUsage) -> WireUsage:
    """Cumulative usage after an update, which leaves out what did not change."""
    merged = {name: new for name in usage.__struct_fields__ if (new := getattr(update, name)) is not None}
    return msgspec.structs.replace(usage, **merged)
