"""What an answer on Gemini's wire says that it used.

Shapes: Google's Gemini API reference, "UsageMetadata", "ModalityTokenCount".
"""

from msgspec import Struct

from greenroom.actors.events import Usage
from greenroom.actors.providers.wire import TokenCount, service_tier

_KINDS = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}
"""What is counted by itself, the dearest first. Pages of documents are seen as images, and charged as these are."""


class _ModalityCount(Struct, rename="camel", gc=False):
    modality: str = ""
    token_count: TokenCount = 0


class UsageMetadata(Struct, rename="camel", gc=False):
    """Gemini's usage: cached tokens are within the prompt; thoughts and results of tools stand beside."""

    prompt_token_count: TokenCount | None = None
    cached_content_token_count: TokenCount = 0
    candidates_token_count: TokenCount = 0
    thoughts_token_count: TokenCount = 0
    tool_use_prompt_token_count: TokenCount = 0
    prompt_tokens_details: list[_ModalityCount] = []
    cache_tokens_details: list[_ModalityCount] = []
    candidates_tokens_details: list[_ModalityCount] = []
    service_tier: str | None = None
    traffic_type: str | None = None


def usage_of(usage: UsageMetadata, searches: int) -> Usage | None:
    """Usage in disjoint classes, with the searches that the answer tells of; None where the prompt is not counted."""
    if usage.prompt_token_count is None:
        return None
    cached, in_cache = usage.cached_content_token_count, _by_kind(usage.cache_tokens_details)
    in_prompt = {
        kind: count - in_cache.get(kind, 0) for kind, count in _by_kind(usage.prompt_tokens_details).items()
    }
    fresh = _within(max(0, usage.prompt_token_count - cached), in_prompt)
    said = _within(usage.candidates_token_count, _by_kind(usage.candidates_tokens_details))
    cached_audio = min(cached, in_cache.get("audio", 0))
    return Usage(
        input_tokens=fresh[""] + usage.tool_use_prompt_token_count,
        output_tokens=said[""],
        cached_tokens=cached - cached_audio,
        reasoning_tokens=usage.thoughts_token_count,
        audio_input_tokens=fresh["audio"],
        audio_output_tokens=said["audio"],
        cached_audio_tokens=cached_audio,
        image_input_tokens=fresh["image"],
        image_output_tokens=said["image"],
        video_input_tokens=fresh["video"],
        video_output_tokens=said["video"],
        web_searches=searches,
        service_tier=service_tier(usage.service_tier or usage.traffic_type),
    )


def _by_kind(counts: list[_ModalityCount]) -> dict[str, int]:
    found: dict[str, int] = {}
    for count in counts:
        kind = _KINDS.get(count.modality)
        if kind is not None:
            found[kind] = found.get(kind, 0) + count.token_count
    return found


def _within(total: int, kinds: dict[str, int]) -> dict[str, int]:
    """A sum by kind, the rest under "": details that say more than the sum are cut to it."""
    found: dict[str, int] = {}
    for kind in _KINDS.values():
        if kind not in found:
            found[kind] = min(total, max(0, kinds.get(kind, 0)))
            total -= found[kind]
    return found | {"": total}
