"""What whole answers and streamed ones have in common on Bedrock's Converse wire.

Shapes: Amazon Bedrock API reference, "Converse", "TokenUsage".
"""

import msgspec
from msgspec import Raw, Struct

from greenroom.actors.events import FinishReason, ReasoningState, Usage
from greenroom.actors.providers.bedrock.request import WIRE
from greenroom.actors.providers.wire import RejectedAnswer, TokenCount, service_tier

STOP_REASONS: dict[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}
"""What is left out here (malformed_tool_use, malformed_model_output) says that the model came to no answer."""


class Wire(Struct, rename="camel", omit_defaults=True, gc=False):
    """Names as Bedrock writes them."""


class _CacheDetail(Wire):
    ttl: str = ""
    input_tokens: TokenCount = 0


class TokenUsage(Wire):
    """Bedrock's usage: what a cache gave or took stands beside `inputTokens`."""

    input_tokens: TokenCount
    output_tokens: TokenCount
    cache_read_input_tokens: TokenCount = 0
    cache_write_input_tokens: TokenCount = 0
    cache_details: list[_CacheDetail] = []


class ServiceTier(Wire):
    """What the request was served by."""

    type: str = ""


class ReasoningText(Wire):
    """A thought, signed by some models."""

    text: str = ""
    signature: str | None = None


class Reasoning(Wire):
    """A thought, or one that only its model can read."""

    reasoning_text: ReasoningText | None = None
    redacted_content: str | None = None


class ReasoningBlock(Wire):
    """A thought as a content block, which is how it goes back."""

    reasoning_content: Reasoning


def finish_reason(said: str | None) -> FinishReason:
    """The stop reason in greenroom's words.

    Raises:
        RejectedAnswer: there is no such reason, or the model came to no answer.
    """
    reason = STOP_REASONS.get(said or "")
    if reason is None:
        raise RejectedAnswer(f"stopReason is {said!r}; of an answer it is one of {sorted(STOP_REASONS)}")
    return reason


def usage_of(usage: TokenUsage, tier: ServiceTier | None) -> Usage:
    """Usage in disjoint classes."""
    hour = sum(detail.input_tokens for detail in usage.cache_details if detail.ttl == "1h")
    return Usage(
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        cached_tokens=usage.cache_read_input_tokens,
        cache_write_5m_tokens=max(0, usage.cache_write_input_tokens - hour),
        cache_write_1h_tokens=hour,
        service_tier=service_tier(tier.type) if tier else "",
    )


def reasoning_state(thoughts: list[Reasoning]) -> ReasoningState | None:
    """What Bedrock wants back with the assistant's message: its thoughts, unchanged and in their order."""
    if not thoughts:
        return None
    return ReasoningState(WIRE, Raw(msgspec.json.encode([ReasoningBlock(thought) for thought in thoughts])))
