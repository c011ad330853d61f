"""What whole answers and streamed ones have in common: usage, finish reasons, log probabilities, content in parts.

Shapes: OpenAI's published OpenAPI document (CreateChatCompletionResponse, CompletionUsage), and what compatible
servers do otherwise.
"""

from msgspec import Struct

from greenroom.actors.events import FinishReason, TokenLogprob, Usage
from greenroom.actors.providers.wire import RejectedAnswer, SearchCount, TokenCount, service_tier

FINISH_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "function_call": "tool_calls",
    "eos": "stop",  # Together
    "eos_token": "stop",  # Hugging Face's TGI
    "stop_sequence": "stop",  # likewise
    "model_length": "length",  # Mistral: the model's context is full
    "content_filter": "content_filter",
}


class _PromptDetails(Struct, gc=False):
    cached_tokens: TokenCount | None = None
    cache_write_tokens: TokenCount | None = None
    audio_tokens: TokenCount | None = None
    image_tokens: TokenCount | None = None


class _CompletionDetails(Struct, gc=False):
    reasoning_tokens: TokenCount | None = None
    audio_tokens: TokenCount | None = None


class WireUsage(Struct, gc=False):
    """OpenAI's usage object: tokens read from and written to a cache, audio and images are within the prompt; reasoning
    and audio within the completion. Perplexity tells of citations and searches, with reasoning beside the completion.
    """

    prompt_tokens: TokenCount | None = None
    completion_tokens: TokenCount | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    citation_tokens: TokenCount | None = None
    num_search_queries: SearchCount | None = None
    reasoning_tokens: TokenCount | None = None


class _Thought(Struct, gc=False):
    text: str = ""


class Part(Struct, gc=False):
    """Mistral gives the content of models that think in parts, of type `text` or `thinking`."""

    type: str
    text: str = ""
    thinking: list[_Thought] = []


class Logprobs(Struct, gc=False):
    """The log probabilities of a choice; those of a refusal are left out."""

    content: list[TokenLogprob] | None = None


def finish_reason(said: str | None) -> FinishReason:
    """The finish reason in greenroom's words.

    Raises:
        RejectedAnswer: there is no such reason.
    """
    reason = FINISH_REASONS.get(said or "")
    if reason is None:
        raise RejectedAnswer(f"finish_reason is {said!r}; known are {sorted(FINISH_REASONS)}")
    return reason


def text_and_reasoning(content: str | list[Part] | None) -> tuple[str, str]:
    """The two kinds of text that a message's content may hold."""
    if content is None or isinstance(content, str):
        return content or "", ""
    return (
        "".join(part.text for part in content if part.type == "text"),
        "".join(thought.text for part in content for thought in part.thinking),
    )


def usage_of(usage: WireUsage, tier: object = None) -> Usage | None:
    """Usage in disjoint classes; `tier` is what the answer says of its service tier.

    None where one of the two sums is missing: nothing could be charged by what is there. xAI counts reasoning beside
    the completion, which only its total tells (docs.x.ai, consumption and rate limits).
    """
    if usage.prompt_tokens is None or usage.completion_tokens is None:
        return None
    prompt, completion = usage.prompt_tokens_details, usage.completion_tokens_details
    served = service_tier(tier) if tier else ""
    searched = usage.num_search_queries is not None or usage.citation_tokens is not None
    if prompt is None and completion is None and not searched:
        return Usage(usage.prompt_tokens, usage.completion_tokens, service_tier=served)
    cached = (prompt.cached_tokens or 0) if prompt else 0
    written = (prompt.cache_write_tokens or 0) if prompt else 0
    audio_in = (prompt.audio_tokens or 0) if prompt else 0
    reasoning = (completion.reasoning_tokens or 0) if completion else 0
    audio_out = (completion.audio_tokens or 0) if completion else 0
    beside = usage.total_tokens == usage.prompt_tokens + usage.completion_tokens + reasoning
    if searched and not reasoning:
        reasoning, beside = usage.reasoning_tokens or 0, True
    fresh = max(0, usage.prompt_tokens - cached - written - audio_in)
    # How many of them came from a cache is not told.
    images = min(fresh, (prompt.image_tokens or 0) if prompt else 0)
    return Usage(
        input_tokens=fresh - images,
        output_tokens=max(0, usage.completion_tokens - (0 if beside else reasoning) - audio_out),
        cached_tokens=cached,
        cache_write_5m_tokens=written,
        reasoning_tokens=reasoning,
        audio_input_tokens=audio_in,
        audio_output_tokens=audio_out,
        image_input_tokens=images,
        citation_tokens=usage.citation_tokens or 0,
        web_searches=usage.num_search_queries or 0,
        service_tier=served,
    )
