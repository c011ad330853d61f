"""The most tokens that a request can be charged for: what a hold is made of, and what a hard cap rests on.

Input: a token is never less than a byte, so the body's length bounds the text, whatever the tokeniser. An image counts
by its pixels and not by its bytes, so each adds the most that its size can come to. Output: `max_tokens`, for each of
the answers asked for.
"""

from greenroom.actors.providers import ChatRequest, ImagePart
from greenroom.actors.providers.options import ASSUMED_OUTPUT_TOKENS

__all__ = ["ASSUMED_OUTPUT_TOKENS", "input_tokens_bound", "output_tokens_bound"]

_IMAGE_TOKENS = 5_000
_IMAGE_TOKENS_4O_MINI = 50_000
"""Tokens of the largest image. OpenAI's tables end at 48 169 for gpt-4o-mini (2 833 + 8 tiles of 5 667) and at 3 779 for
its other models, Anthropic's at 4 784. https://platform.openai.com/docs/guides/images-vision#calculating-costs and
https://docs.claude.com/en/docs/build-with-claude/vision, November 2026."""
_NO_CHOICES = frozenset({b"1", b"null"})


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
    choices = bytes(request.extra.get("n", b"1")) if request.extra else b"1"
    if choices in _NO_CHOICES:
        return most
    # What is no number the provider refuses, and charges nothing for.
    return most * int(choices) if choices.isdigit() else most
