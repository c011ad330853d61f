"""What whole answers and streamed ones have in common on OpenAI's Responses wire.

Shapes: OpenAI's API reference, "The response object".
"""

from typing import cast

import msgspec
from msgspec import Raw, Struct

from greenroom.actors.events import (
    FinishReason,
    ProviderError,
    ProviderFailed,
    ReasoningState,
    TokenLogprob,
    Usage,
)
from greenroom.actors.providers.openai.errors import OpenAIError, as_error
from greenroom.actors.providers.responses.request import WIRE
from greenroom.actors.providers.wire import RejectedAnswer, TokenCount, service_tier

BETWEEN_THOUGHTS = "\n\n"
"""What stands between the parts of a reasoning summary, which are paragraphs."""

_READS = ("open_page", "find_in_page")
"""What a web search call may do besides searching, which is not charged."""

_INCOMPLETE: dict[str, FinishReason] = {"content_filter": "content_filter"}


class _WriteDetails(Struct, gc=False):
    ttl_30m_tokens: TokenCount = 0
    ttl_12h_tokens: TokenCount = 0


class _InputDetails(Struct, gc=False):
    cached_tokens: TokenCount = 0
    cache_write_tokens: TokenCount = 0
    cache_write_tokens_details: _WriteDetails | None = None


class _OutputDetails(Struct, gc=False):
    reasoning_tokens: TokenCount = 0


class _Usage(Struct, gc=False):
    input_tokens: TokenCount
    output_tokens: TokenCount
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Incomplete(Struct, gc=False):
    reason: str | None = None


class Part(Struct, gc=False):
    """A part of a message, of a reasoning's content or of its summary."""

    type: str = ""
    text: str = ""
    refusal: str = ""
    logprobs: list[TokenLogprob] | None = None


class Item(Struct, gc=False):
    """An output item. Those of OpenAI's own tools are not looked at."""

    type: str
    content: list[Part] | None = None
    summary: list[Part] | None = None
    call_id: str = ""
    name: str = ""
    arguments: str = ""


class _Search(Struct, gc=False):
    type: str
    action: object = None


class Response(Struct, gc=False):
    """The response object."""

    status: str | None = None
    id: str = ""
    model: str = ""
    created_at: float = 0
    output: list[Raw] = []
    error: OpenAIError | None = None
    incomplete_details: _Incomplete | None = None
    usage: _Usage | None = None
    service_tier: str | None = None


decode_response = msgspec.json.Decoder(Response).decode
decode_item = msgspec.json.Decoder(Item).decode
_decode_search = msgspec.json.Decoder(_Search).decode


def finish_reason(response: Response, calls: int) -> FinishReason:
    """Why the model stopped.

    Raises:
        ProviderFailed: it failed, and the response says how.
        RejectedAnswer: it has not stopped.
    """
    if response.status == "completed":
        return "tool_calls" if calls else "stop"
    if response.status == "incomplete":
        why = response.incomplete_details.reason if response.incomplete_details else None
        return _INCOMPLETE.get(why or "", "length")
    if response.status == "failed":
        raise ProviderFailed(failed(response))
    raise RejectedAnswer(f"the response is {response.status}, not completed, incomplete or failed")


def failed(response: Response) -> ProviderError:
    """The error of a response that failed."""
    error = as_error(response.error or OpenAIError())
    return error if error.message else msgspec.structs.replace(error, message="the response failed")


def usage_of(response: Response) -> Usage | None:
    """Usage in disjoint classes. Caches are written for half an hour, or dearer for half a day: OpenAI's two lives
    take the place of Anthropic's two. Searches are charged by their number, opening what was found is not.
    """
    usage = response.usage
    if usage is None:
        return None
    details = usage.input_tokens_details or _InputDetails()
    reasoning = usage.output_tokens_details.reasoning_tokens if usage.output_tokens_details else 0
    long = details.cache_write_tokens_details.ttl_12h_tokens if details.cache_write_tokens_details else 0
    written = max(long, details.cache_write_tokens)
    return Usage(
        input_tokens=max(0, usage.input_tokens - details.cached_tokens - written),
        output_tokens=max(0, usage.output_tokens - reasoning),
        cached_tokens=details.cached_tokens,
        cache_write_5m_tokens=written - long,
        cache_write_1h_tokens=long,
        reasoning_tokens=reasoning,
        web_searches=_searches(response, "web_search_call"),
        file_searches=_searches(response, "file_search_call"),
        service_tier=service_tier(response.service_tier),
    )


def _searches(response: Response, kind: str) -> int:
    calls = [_decode_search(item) for item in response.output if kind.encode() in bytes(item)]
    return sum(call.type == kind and not _only_reads(call.action) for call in calls)


def _only_reads(action: object) -> bool:
    return isinstance(action, dict) and cast("dict[str, object]", action).get("type") in _READS


def reasoning_state(items: list[Raw]) -> ReasoningState | None:
    """What OpenAI wants back with the next input: its reasoning items, unchanged and in their order."""
    return ReasoningState(WIRE, Raw(msgspec.json.encode(items))) if items else None
