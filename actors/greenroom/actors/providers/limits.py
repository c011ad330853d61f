"""The headers in which providers tell their limits and what is left of them, by wire.

Sources: OpenAI's guide to rate limits (x-ratelimit-*, which Groq, Mistral, Together and others have taken over), and
Anthropic's (anthropic-ratelimit-*). Gemini, Ollama and Bedrock send none. When a limit is whole again (`*-reset-*`) is not
read: nothing rests on it, and each host means something else by it.
"""

from typing import Literal, TypeAlias

from multidict import istr

LimitedBy: TypeAlias = Literal["requests", "tokens", "input", "output"]
LimitHeaders: TypeAlias = tuple[tuple[LimitedBy, str, str], ...]
"""What is limited, the header with the limit a minute, and the one with what is left."""

_OPENAI: LimitHeaders = (
    ("requests", istr("x-ratelimit-limit-requests"), istr("x-ratelimit-remaining-requests")),
    ("tokens", istr("x-ratelimit-limit-tokens"), istr("x-ratelimit-remaining-tokens")),
)
_ANTHROPIC: LimitHeaders = (
    ("requests", istr("anthropic-ratelimit-requests-limit"), istr("anthropic-ratelimit-requests-remaining")),
    ("tokens", istr("anthropic-ratelimit-tokens-limit"), istr("anthropic-ratelimit-tokens-remaining")),
    (
        "input",
        istr("anthropic-ratelimit-input-tokens-limit"),
        istr("anthropic-ratelimit-input-tokens-remaining"),
    ),
    (
        "output",
        istr("anthropic-ratelimit-output-tokens-limit"),
        istr("anthropic-ratelimit-output-tokens-remaining"),
    ),
)
LIMIT_HEADERS: dict[str, LimitHeaders] = {
    "openai-chat": _OPENAI,
    "openai-responses": _OPENAI,
    "anthropic-messages": _ANTHROPIC,
}
