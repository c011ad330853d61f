"""Which models a host lists, and what it says of them: where to ask on each wire, and how to read the answer.

Shapes differ by host more than by wire: a list under `data`, under `models`, or bare; a context window under one of half
a dozen names. Sources: each vendor's own API reference, November 2026. What a host says beyond that, or in another
type, is passed over: a list is not refused for what one of its entries holds.
"""

from datetime import date
from typing import cast

import msgspec
from msgspec import Struct

from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.wire import RejectedAnswer
from greenroom.actors.providers.wires import url_of
from greenroom.actors.settings import Capabilities, ProviderSettings

PATHS: dict[str, tuple[str, ...]] = {
    "openai-chat": ("/models",),
    "openai-responses": ("/models",),
    "anthropic-messages": ("/models?limit=1000",),
    "gemini": ("/models?pageSize=1000",),
    "ollama": ("/api/tags",),
    # Many models of Bedrock's can be asked by an inference profile alone, and these are a list of their own.
    "bedrock-converse": ("/foundation-models", "/inference-profiles?maxResults=1000"),
}
"""Where each wire lists its models, below the base URL, the list without which there is none first. Lists that have
pages fit the first."""


def listing_urls(host: ProviderSettings) -> tuple[str, ...]:
    """Where a host lists its models. Amazon does so at the host beside the one that runs them."""
    urls = tuple(url_of(host, path) for path in PATHS[host.wire])
    if host.wire == "bedrock-converse":
        return tuple(url.replace("//bedrock-runtime", "//bedrock", 1) for url in urls)
    return urls


class ListedModel(Struct, frozen=True):
    """A model as its host lists it. Whatever the host does not say is None; `retires` is a date in ISO's form."""

    id: str
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    retires: str | None = None
    capabilities: Capabilities = Capabilities()


class Listing(Struct, frozen=True, kw_only=True):
    """What a host said when it was asked for its models.

    `models` is None where it did not tell: either it has no list, or `unreachable` says why it cannot be asked at all.
    """

    models: tuple[ListedModel, ...] | None = None
    unreachable: str | None = None


class _Entry(Struct, gc=False):
    id: str | None = None
    name: str | None = None
    lifecycle: object = None
    context_length: object = None  # OpenRouter, Together, Fireworks
    context_window: object = None  # Groq
    max_context_length: object = None  # Mistral
    max_model_len: object = None  # vLLM
    max_input_tokens: object = None  # Anthropic
    inputTokenLimit: object = None  # noqa: N815 - Gemini's name
    max_completion_tokens: object = None  # Groq
    max_tokens: object = None  # Anthropic
    outputTokenLimit: object = None  # noqa: N815 - Gemini's name
    top_provider: object = None  # OpenRouter
    retires_at: object = None  # Anthropic
    deprecation: object = None  # Mistral
    shutdown_date: object = None  # OpenAI
    expiration_date: object = None  # OpenRouter
    capabilities: object = None  # Anthropic, Mistral, llama.cpp, Ollama
    architecture: object = None  # OpenRouter, Hugging Face
    supported_parameters: object = None  # OpenRouter
    supportedGenerationMethods: object = None  # noqa: N815 - Gemini's name
    thinking: object = None  # Gemini
    type: object = None  # Together
    supports_chat: object = None  # Fireworks
    supports_image_input: object = None  # Fireworks
    supports_tools: object = None  # Fireworks
    providers: object = None  # Hugging Face
    modelId: str | None = None  # noqa: N815 - Bedrock's names, as those below
    inferenceProfileId: str | None = None  # noqa: N815
    modelLifecycle: object = None  # noqa: N815
    inferenceTypesSupported: object = None  # noqa: N815
    inputModalities: object = None  # noqa: N815
    outputModalities: object = None  # noqa: N815


class _Listing(Struct, gc=False):
    data: list[_Entry] | None = None
    models: list[_Entry] | None = None
    modelSummaries: list[_Entry] | None = None  # noqa: N815 - Bedrock's name
    inferenceProfileSummaries: list[_Entry] | None = None  # noqa: N815 - likewise


_decode = msgspec.json.Decoder(_Listing | list[_Entry]).decode


def decode_listing(body: bytes) -> tuple[ListedModel, ...]:
    """The models of a 2xx body, in the host's order, those that can no longer be asked left out.

    Raises:
        RejectedAnswer: it is no list of models.
    """
    try:
        body.decode()
        found = _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
    entries = _entries(found)
    if entries is None:
        raise RejectedAnswer(f"no list of models; the body begins {excerpt(body)!r}")
    return tuple(_model(name, entry) for entry in entries if _can_be_asked(entry) and (name := _name(entry)))


def _entries(found: "_Listing | list[_Entry]") -> list[_Entry] | None:
    if isinstance(found, _Listing):
        lists = (found.data, found.models, found.modelSummaries, found.inferenceProfileSummaries)
        return next((entries for entries in lists if entries is not None), None)
    return found


def _can_be_asked(entry: _Entry) -> bool:
    """Whether it answers by the name that it is listed under: some of Bedrock's do by a profile's alone."""
    ways = entry.inferenceTypesSupported
    return entry.lifecycle != "retired" and not (isinstance(ways, list) and "ON_DEMAND" not in ways)


def _name(entry: _Entry) -> str:
    bedrocks = entry.modelId or entry.inferenceProfileId
    return entry.id or bedrocks or (entry.name or "").removeprefix("models/")


def _model(name: str, entry: _Entry) -> ListedModel:
    return ListedModel(
        name,
        context_tokens=_count(
            entry.context_length,
            entry.context_window,
            entry.max_context_length,
            entry.max_model_len,
            entry.max_input_tokens,
            entry.inputTokenLimit,
            _largest(entry.providers, "context_length"),
        ),
        max_output_tokens=_count(
            entry.max_completion_tokens,
            entry.max_tokens,
            entry.outputTokenLimit,
            _field(entry.top_provider, "max_completion_tokens"),
        ),
        retires=next(
            filter(
                None,
                map(
                    _date,
                    (
                        entry.retires_at,
                        entry.deprecation,
                        entry.shutdown_date,
                        entry.expiration_date,
                        _field(entry.modelLifecycle, "endOfLifeTime"),
                    ),
                ),
            ),
            None,
        ),
        capabilities=_capabilities(entry),
    )


def _capabilities(entry: _Entry) -> Capabilities:
    """What a host says in its own words; of several that say something, the one that says most."""
    said = entry.capabilities
    if isinstance(said, dict):
        words = cast("dict[str, object]", said)
        return _of_anthropic(words) if "image_input" in words else _of_mistral(words)
    if isinstance(said, list):
        return _of_words(frozenset(map(str, cast("list[object]", said))))
    if entry.architecture is not None:
        return _of_openrouter(entry)
    if isinstance(entry.outputModalities, list):
        takes = entry.inputModalities
        return Capabilities(
            chat="TEXT" in entry.outputModalities,
            embeddings="EMBEDDING" in entry.outputModalities,
            vision="IMAGE" in takes if isinstance(takes, list) else None,
        )
    if isinstance(entry.supportedGenerationMethods, list):
        methods = cast("list[object]", entry.supportedGenerationMethods)
        return Capabilities(
            chat="generateContent" in methods,
            embeddings="batchEmbedContents" in methods or "embedContent" in methods,
            reasoning=_flag(entry.thinking),
        )
    if isinstance(entry.type, str) and entry.type != "model":
        return Capabilities(chat=entry.type == "chat", embeddings=entry.type == "embedding")
    return Capabilities(
        chat=_flag(entry.supports_chat),
        vision=_flag(entry.supports_image_input),
        tools=_flag(entry.supports_tools),
    )


def _of_anthropic(said: dict[str, object]) -> Capabilities:
    return Capabilities(
        chat=True,
        vision=_flag(_field(said.get("image_input"), "supported")),
        json_schema=_flag(_field(said.get("structured_outputs"), "supported")),
        reasoning=_flag(_field(said.get("thinking"), "supported")),
        reasoning_effort=_flag(_field(said.get("effort"), "supported")),
    )


def _of_mistral(said: dict[str, object]) -> Capabilities:
    return Capabilities(
        chat=_flag(said.get("completion_chat")),
        vision=_flag(said.get("vision")),
        tools=_flag(said.get("function_calling")),
        reasoning=_flag(said.get("reasoning")),
    )


def _of_words(said: frozenset[str]) -> Capabilities:
    """llama.cpp's list and Ollama's: what a model is made for stands there. Vectors can be had of the others, too."""
    if not said:
        return Capabilities()
    return Capabilities(
        chat="completion" in said,
        embeddings=True if said & {"embedding", "embeddings"} else None,
        vision=bool(said & {"vision", "multimodal"}),
        tools=True if "tools" in said else None,
        reasoning=True if "thinking" in said else None,
    )


def _of_openrouter(entry: _Entry) -> Capabilities:
    takes, gives = (
        _field(entry.architecture, "input_modalities"),
        _field(entry.architecture, "output_modalities"),
    )
    params = entry.supported_parameters
    listed = cast("list[object]", params) if isinstance(params, list) else None

    def has(name: str) -> bool | None:
        return None if listed is None else name in listed

    return Capabilities(
        chat="text" in gives if isinstance(gives, list) else None,
        vision="image" in takes if isinstance(takes, list) else None,
        tools=has("tools") if listed is not None else _any_of(entry.providers, "supports_tools"),
        json_schema=has("structured_outputs")
        if listed is not None
        else _any_of(entry.providers, "supports_structured_output"),
        reasoning=has("reasoning"),
        # What it does not list it leaves out of what it passes on, so nothing of it is refused.
    )


def _any_of(providers: object, name: str) -> bool | None:
    """Whether one of the hosts behind a router can; it picks one that does."""
    if not isinstance(providers, list):
        return None
    said = [_flag(_field(one, name)) for one in cast("list[object]", providers)]
    return True if True in said else False if said and None not in said else None


def _largest(providers: object, name: str) -> int | None:
    if not isinstance(providers, list):
        return None
    said = [_count(_field(one, name)) for one in cast("list[object]", providers)]
    return max((count for count in said if count is not None), default=None)


def _field(table: object, name: str) -> object:
    return cast("dict[str, object]", table).get(name) if isinstance(table, dict) else None


def _flag(said: object) -> bool | None:
    return said if isinstance(said, bool) else None


def _date(said: object) -> str | None:
    try:
        return date.fromisoformat(said[:10]).isoformat() if isinstance(said, str) else None
    except ValueError:
        return None


def _count(*said: object) -> int | None:
    return next((count for count in said if type(count) is int and count > 0), None)
