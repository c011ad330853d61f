"""Which codec speaks which wire: the one place where a wire's name in the configuration meets its code."""

from collections.abc import Callable

from greenroom.actors.providers.anthropic import AnthropicMessages
from greenroom.actors.providers.bedrock import BedrockConverse
from greenroom.actors.providers.gemini import Gemini
from greenroom.actors.providers.ollama import Ollama
from greenroom.actors.providers.openai import OpenAIChat
from greenroom.actors.providers.responses import OpenAIResponses
from greenroom.actors.providers.responses.counting import CountingChat
from greenroom.actors.providers.wire import Codec
from greenroom.actors.settings import ProviderSettings


def codec_for(provider: str, settings: ProviderSettings) -> Codec:
    """The codec of a provider, by its `wire` and what else its row says of the dialect."""
    return _WIRES[settings.wire](provider, settings)


def url_of(host: ProviderSettings, path: str) -> str:
    """The address of a path at a host."""
    url = host.base_url.rstrip("/") + path
    return url if host.query is None else f"{url}{'&' if '?' in path else '?'}{host.query}"


def _openai_chat(provider: str, settings: ProviderSettings) -> Codec:
    made = CountingChat if settings.counts_tokens else OpenAIChat
    return made(
        provider,
        settings.max_tokens_field,
        stream_usage=settings.stream_usage,
        stream_end=settings.stream_end,
        embeddings_base64=settings.embeddings_base64,
        key_header=settings.key_header,
    )


def _anthropic_messages(provider: str, settings: ProviderSettings) -> Codec:
    return AnthropicMessages(provider, settings.api_version or "2026-10-21")


_WIRES: dict[str, Callable[[str, ProviderSettings], Codec]] = {
    "openai-chat": _openai_chat,
    "anthropic-messages": _anthropic_messages,
    "gemini": lambda provider, _: Gemini(provider),
    "ollama": lambda provider, _: Ollama(provider),
    "bedrock-converse": lambda provider, _: BedrockConverse(provider),
    "openai-responses": lambda provider, settings: OpenAIResponses(provider, key_header=settings.key_header),
}
