"""What models can do, by provider and name: a table, and the refusal of what a model cannot take.

Options that a whole wire cannot express are refused by its codec; here stands what differs from model to model. Known
facts are laid over each other, the nearest to the user on top: this table, then what the host lists, then what is
configured. Nothing is inferred from a name that no row knows.

Sources, November 2026:

- OpenAI: the pages of https://developers.openai.com/api/docs/models (features and modalities of each model), and the
  reasoning guide's and latest-model guide's parameter compatibility. `temperature`, `top_p` and log probabilities are
  refused by gpt-5, gpt-5-mini, gpt-5-nano and the o series at any effort; from gpt-5.1 on they depend on the effort, so
  nothing is said of them.
- Anthropic: https://platform.claude.com/docs/en/about-claude/models/overview and structured-outputs. Which options its
  API versions reject stands in its codec.
- Gemini: https://ai.google.dev/gemini-api/docs/models, each model's card.
- Mistral, OpenRouter, Together and Gemini also say it in their lists, see `listing`.
- OpenAI, functions at /chat/completions: its own refusal, quoted in https://github.com/BerriAI/litellm/pull/34569.
- xAI: https://docs.x.ai/docs/guides/reasoning: its reasoning models refuse penalties and stop sequences.
- DeepSeek: https://api-docs.deepseek.com/api/create-chat-completion (JSON mode without a schema).
- Perplexity: https://docs.perplexity.ai/api-reference/chat-completions-post (no tools).
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Final, TypeAlias

from msgspec import structs

from greenroom.actors.events import ProviderError, ProviderFailed
from greenroom.actors.providers.chat import ChatRequest, ImagePart
from greenroom.actors.providers.options import JsonSchema, RequestReader
from greenroom.actors.settings import Capabilities, ModelSettings, ProviderSettings

UNKNOWN: Final = Capabilities()
_NO_CHAT: Final = Capabilities(chat=False)
_EMBEDS: Final = Capabilities(chat=False, embeddings=True)
_TEXT: Final = Capabilities(chat=True, vision=False, tools=True)
_SEES: Final = Capabilities(chat=True, vision=True, tools=True, json_schema=True)
_PLAIN: Final = structs.replace(_SEES, reasoning=False, reasoning_effort=False)
_THINKS: Final = structs.replace(_SEES, reasoning=True)
_UNSAMPLED: Final = structs.replace(_THINKS, temperature=False, penalties=False, logprobs=False)
_O_SERIES: Final = structs.replace(_UNSAMPLED, parallel_tool_calls=False, stop=False)

_Rows: TypeAlias = tuple[tuple[str, Capabilities], ...]
"""The first pattern that fits a model's name in small letters says what is known of it."""

_ANY_HOST: Final[_Rows] = (
    # What a name says on whatever host: makers of vectors, speech, pictures and judgements.
    ("*embedding*", _EMBEDS),
    ("*-embed", _EMBEDS),
    ("*-embed[-:]*", _EMBEDS),
    ("embed-*", _EMBEDS),
    ("*.embed-*", _EMBEDS),
    ("bge-*", _EMBEDS),
    ("*rerank*", _NO_CHAT),
    ("*whisper*", _NO_CHAT),
    ("*transcribe*", _NO_CHAT),
    ("*-tts*", _NO_CHAT),
    ("tts-*", _NO_CHAT),
    ("*moderation*", _NO_CHAT),
    ("dall-e*", _NO_CHAT),
    ("*-image*", _NO_CHAT),
    ("*-realtime*", _NO_CHAT),
    ("*-live*", _NO_CHAT),
    ("sora-*", _NO_CHAT),
    ("imagen-*", _NO_CHAT),
    ("veo-*", _NO_CHAT),
    # Open weights, by their model cards.
    ("*gpt-oss*", structs.replace(_TEXT, reasoning=True)),
    ("*-vl*", Capabilities(chat=True, vision=True)),
    ("*llava*", Capabilities(chat=True, vision=True)),
    ("*vision*", Capabilities(chat=True, vision=True)),
    ("*llama-3.[13]*", _TEXT),
    ("*llama3.[13]*", _TEXT),
)

_BY_HOST: Final[dict[str, _Rows]] = {
    "openai": (
        ("gpt-3.5*", structs.replace(_PLAIN, vision=False, json_schema=False)),
        ("gpt-4", structs.replace(_PLAIN, vision=False, json_schema=False)),
        ("gpt-4-0*", structs.replace(_PLAIN, vision=False, json_schema=False)),
        ("gpt-4-turbo*", structs.replace(_PLAIN, json_schema=False)),
        ("gpt-4o-2024-05-13", structs.replace(_PLAIN, json_schema=False)),
        ("gpt-4o*audio*", _NO_CHAT),
        ("gpt-4o*search*", structs.replace(_PLAIN, vision=None, tools=None)),
        ("gpt-4o*", _PLAIN),
        ("gpt-4.1*", _PLAIN),
        # Served at /responses alone.
        ("o[1-9]-pro*", _NO_CHAT),
        ("gpt-[5-9]*-pro*", _NO_CHAT),
        ("gpt-5*-codex*", _NO_CHAT),
        ("*deep-research*", _NO_CHAT),
        ("o3-mini*", structs.replace(_O_SERIES, vision=False)),
        ("o[134]*", _O_SERIES),
        ("gpt-5*-chat*", structs.replace(_SEES, tools=None)),
        ("gpt-5*-search*", structs.replace(_SEES, tools=None)),
        ("gpt-5", _UNSAMPLED),
        ("gpt-5-2*", _UNSAMPLED),
        ("gpt-5-mini*", _UNSAMPLED),
        ("gpt-5-nano*", _UNSAMPLED),
        ("gpt-5.[1-5]*", _THINKS),
        # From here on /chat/completions refuses functions unless reasoning_effort is "none", also where none is said.
        ("gpt-5.[6-9]*", structs.replace(_THINKS, tools=None)),
        ("gpt-6*", structs.replace(_THINKS, tools=None)),
        ("text-*", _NO_CHAT),
        ("davinci*", _NO_CHAT),
        ("babbage*", _NO_CHAT),
        ("gpt-audio*", _NO_CHAT),
        ("computer-use*", _NO_CHAT),
    ),
    "anthropic": (
        ("claude-3-*", structs.replace(_SEES, json_schema=None)),
        ("claude-*-4-[01]", structs.replace(_THINKS, json_schema=None)),
        ("claude-*-4-2*", structs.replace(_THINKS, json_schema=None)),
        ("claude-*", _THINKS),
    ),
    "gemini": (("gemini-*", _SEES),),
    "deepseek": (("deepseek-*", Capabilities(chat=True, tools=True, json_schema=False)),),
    "perplexity": (("*", Capabilities(tools=False)),),
    "xai": (
        ("grok-4*non-reasoning*", structs.replace(_SEES, reasoning=False)),
        ("grok-4*", structs.replace(_THINKS, penalties=False, stop=False)),
        ("grok-code*", structs.replace(_TEXT, json_schema=True, reasoning=True, penalties=False, stop=False)),
    ),
}

_BY_WIRE: Final[dict[tuple[str, str], _Rows]] = {
    ("openai", "openai-responses"): (
        ("o[1-9]-pro*", _THINKS),
        ("gpt-[5-9]*-pro*", _THINKS),
        ("gpt-5*-codex*", _THINKS),
        ("*deep-research*", _THINKS),
        ("gpt-5.[6-9]*", _THINKS),
        ("gpt-6*", _THINKS),
    ),
}
"""What a wire of a host's makes of its models, before what is known of them whatever the wire."""

DROPPABLE: Final = frozenset(
    {
        "temperature", "top_p", "presence_penalty", "frequency_penalty", "logprobs", "top_logprobs", "seed", "stop",
        "reasoning_effort", "parallel_tool_calls", "user",
    }
)  # fmt: skip
"""Options that `unsupported="drop"` may leave out: without them there is still an answer to the question. What is asked,
with which tools, in what form and how long an answer may be, is never dropped.
"""

_OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "temperature": ("temperature", "top_p"),
    "penalties": ("presence_penalty", "frequency_penalty"),
    "logprobs": ("logprobs", "top_logprobs"),
    "seed": ("seed",),
    "stop": ("stop",),
    "reasoning_effort": ("reasoning_effort",),
    "parallel_tool_calls": ("parallel_tool_calls",),
}
"""Which options of a request each capability stands for."""

_MEND: Final = {
    "model": "ask a model that chats; `embed` is for this one",
    "image_url": "ask one that does, or AUTO with vision among its requirements",
    "tools": "ask one that does, or AUTO with tools among its requirements",
    "response_format": "ask one that does, or AUTO with json_schema among its requirements",
}
_FIELDS: Final = tuple(field.name for field in structs.fields(Capabilities))

_NO_DIFFERENCE: Final[Mapping[str, tuple[object, ...]]] = {
    "temperature": (1,),
    "top_p": (1,),
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "parallel_tool_calls": (True,),
    "stop": ((),),
}
"""Values that ask for no more than leaving the option out; they are let through."""


@lru_cache(maxsize=4096)
def known_capabilities(provider: str, model: str, wire: str = "") -> Capabilities:
    """What the table says of a model, asked by a wire; of what it does not, None."""
    name = model.casefold()
    for pattern, known in _ANY_HOST:
        if fnmatchcase(name, pattern):
            return known
    base = name.removeprefix("ft:")  # fine-tuned models are called ft:BASE:OWNER::ID
    for pattern, known in (*_BY_WIRE.get((provider, wire), ()), *_BY_HOST.get(provider, ())):
        if fnmatchcase(base, pattern):
            return known
    return UNKNOWN


def laid_over(under: Capabilities, over: Capabilities) -> Capabilities:
    """What is known by either, the second winning where both say something."""
    said = {name: value for name in _FIELDS if (value := getattr(over, name)) is not None}
    return structs.replace(under, **said) if said else under


def configured_model(models: Mapping[str, ModelSettings], model: str) -> ModelSettings | None:
    """What is configured of a model: by its name, or by `*`."""
    return models.get(model) or models.get("*")


def capabilities_of(
    provider: str, model: str, settings: ProviderSettings, listed: Capabilities = UNKNOWN
) -> Capabilities:
    """All that is known of a model.

    Args:
        provider: whose it is.
        model: its name there.
        settings: the provider's, which may say something of the model.
        listed: what its host lists of it.
    """
    known = laid_over(known_capabilities(provider, model, settings.wire), listed)
    configured = configured_model(settings.models, model)
    return known if configured is None else laid_over(known, configured)


def missing(capabilities: Capabilities) -> tuple[str, ...]:
    """The names of what a model is known not to have; mostly none, so that a request need not be looked at.

    `chat` only of a model that makes vectors: of others that are not for chatting, some answer all the same.
    """
    lacks = tuple(name for name in _FIELDS if name != "chat" and getattr(capabilities, name) is False)
    return ("chat", *lacks) if capabilities.chat is False and capabilities.embeddings else lacks


def refuse_unsupported(request: ChatRequest, lacks: tuple[str, ...], provider: str, model: str) -> None:
    """Refuse the first thing that a request asks of a model that lacks it.

    Args:
        request: what is asked.
        lacks: of `missing`.
        provider: the host's name, for the error.
        model: the upstream model, for the error.

    Raises:
        ProviderFailed: with kind `unsupported_capability`, naming the option, and what would be right.
    """
    found = next(_unsupported(request, lacks, provider, model), None)
    if found is not None:
        param, why = found
        mend = 'leave it out, or say unsupported="drop"' if param in DROPPABLE else _MEND[param]
        raise ProviderFailed(
            ProviderError(
                kind="unsupported_capability",
                message=f"{param}: {model} {why}; {mend}",
                provider=provider,
                model=model,
                param=param,
            )
        )


def drop_unsupported(
    request: ChatRequest, lacks: tuple[str, ...], provider: str, model: str
) -> tuple[ChatRequest, tuple[str, ...]]:
    """The request without the options that a model lacks and that may be dropped, and their names.

    What may not be dropped is still there: `refuse_unsupported` refuses it.
    """
    names = tuple(param for param, _ in _unsupported(request, lacks, provider, model) if param in DROPPABLE)
    return without(request, names), names


def without(request: ChatRequest, names: Collection[str]) -> ChatRequest:
    """The request without those of its options."""
    if not names:
        return request
    kept = {name: value for name, value in request.extra.items() if name not in names}
    unset = {name: None for name in names if name in request.__struct_fields__}
    return structs.replace(request, extra=kept, **unset)


def _unsupported(
    request: ChatRequest, lacks: tuple[str, ...], provider: str, model: str
) -> Iterator[tuple[str, str]]:
    """What the request asks of a model that lacks it: the option's name, and why it cannot be had."""
    reader = RequestReader(request, provider, model)
    for lack in lacks:
        if lack in _PARTS:
            param, why, is_asked = _PARTS[lack]
            if is_asked(reader):
                yield param, why
        for name in _OPTIONS.get(lack, ()):
            value: object = getattr(request, name)
            if value is not None and value not in _NO_DIFFERENCE.get(name, ()):
                yield name, f"takes no {name}"


def _has_image(request: ChatRequest) -> bool:
    return any(
        isinstance(part, ImagePart)
        for message in request.messages
        if type(message.content) is tuple
        for part in message.content
    )


_PARTS: Final[dict[str, tuple[str, str, Callable[[RequestReader], bool]]]] = {
    "chat": ("model", "makes vectors, and answers nothing", lambda _: True),
    "vision": ("image_url", "takes no images", lambda reader: _has_image(reader.request)),
    "tools": ("tools", "calls no functions", lambda reader: bool(reader.tools())),
    "json_schema": (
        "response_format",
        "holds its answers to no JSON Schema",
        lambda reader: isinstance(reader.response_format(), JsonSchema),
    ),
    "json_object": (
        "response_format",
        "has no JSON mode",
        lambda reader: reader.response_format() == "json_object",
    ),
}
"""Which part of a request each capability stands for: its name in errors, why it cannot be had, and whether it is asked."""
