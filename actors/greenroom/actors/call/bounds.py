"""The most tokens that a request can be charged for: what a hold is made of, and what a hard cap rests on.

Input: a token is never less than a byte, so the body's length bounds the text, whatever the tokeniser. An image counts
by its pixels and not by its bytes, so each adds the most that its size can come to. Output: `max_tokens`, for each of
the answers asked for. Beside tokens: the service tier that is asked for, and fees of searches.
"""

import msgspec
from msgspec import UNSET, Raw, Struct

from greenroom.actors.prices import Price
from greenroom.actors.providers import ChatRequest, ImagePart
from greenroom.actors.providers.options import ASSUMED_OUTPUT_TOKENS
from greenroom.actors.providers.wire import service_tier

__all__ = [
    "ASSUMED_OUTPUT_TOKENS",
    "ASSUMED_SEARCHES",
    "held_price",
    "input_tokens_bound",
    "output_tokens_bound",
]

ASSUMED_SEARCHES = 10
"""Searches that are reckoned with where a provider may make some for a request; no provider bounds them by itself."""

_IMAGE_TOKENS = 5_000
_IMAGE_TOKENS_4O_MINI = 50_000
"""Tokens of the largest image. OpenAI's tables end at 48 169 for gpt-4o-mini (2 833 + 8 tiles of 5 667) and at 3 779 for
its other models, Anthropic's at 4 784. https://platform.openai.com/docs/guides/images-vision#calculating-costs and
https://docs.claude.com/en/docs/build-with-claude/vision, November 2026."""
_NO_CHOICES = frozenset({b"1", b"null"})
_CHOICES = ("n", "candidateCount")
_TIERS = ("service_tier", "serviceTier", "speed")
"""Options by which a request asks for a service tier: OpenAI's and Anthropic's, Gemini's, Anthropic's fast mode."""
_SEARCHING = frozenset({"tools", "web_search_options", "search_parameters", "plugins"})
"""Options that may have a provider search: tools of its own, OpenAI's, xAI's, OpenRouter's."""


class _Tool(Struct, gc=False):
    type: object = None


_decode_text = msgspec.json.Decoder(str).decode
_decode_tools = msgspec.json.Decoder(list[_Tool] | None).decode


def input_tokens_bound(request: ChatRequest, body_bytes: int, model: str) -> int:
    """The most input tokens of a request whose encoded body is so long."""
    images = 0
    for message in request.messages:
        if type(message.content) is tuple:
            images += sum(isinstance(part, ImagePart) for part in message.content)
    if not images:
        return body_bytes
    return body_bytes + images * (_IMAGE_TOKENS_4O_MINI if "4o-mini" in model else _IMAGE_TOKENS)


def output_tokens_bound(request: ChatRequest) -> int:
    """The most output tokens of a request, over all the answers that it asks for."""
    most = request.max_tokens or ASSUMED_OUTPUT_TOKENS
    for name in _CHOICES if request.extra else ():
        choices = bytes(request.extra.get(name, b"1"))
        # What is no number the provider refuses, and charges nothing for.
        if choices not in _NO_CHOICES and choices.isdigit():
            most *= int(choices)
    return most


def held_price(request: ChatRequest, price: Price) -> Price:
    """What to hold a request at that is charged by `price`: the tier that it asks for, and searches that it may lead to."""
    if not request.extra and request.tools is UNSET and not price.searches_unasked:
        return price
    tiers = (_text(request.extra[name]) for name in _TIERS if name in request.extra)
    tier = next((name for said in tiers if (name := service_tier(said))), "")
    searches = price.charges_searches and (price.searches_unasked or _may_search(request))
    return price.asked(tier, ASSUMED_SEARCHES if searches else 0)


def _may_search(request: ChatRequest) -> bool:
    if not _SEARCHING.isdisjoint(request.extra):
        return True
    if request.tools is UNSET:
        return False
    try:
        return any(tool.type != "function" for tool in _decode_tools(request.tools) or ())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False  # the wire refuses it


def _text(raw: Raw) -> str:
    try:
        return _decode_text(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
