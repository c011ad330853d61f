"""Which models a host lists, and what it says of them: where to ask on each wire, and how to read the answer.

Shapes differ by host more than by wire: a list under `data`, under `models`, or bare; a context window under one of half
a dozen names. Sources: each vendor's own API reference, November 2026. What a host says beyond that, or in another
type, is passed over: a list is not refused for what one of its entries holds.
"""

import msgspec
from msgspec import Struct

from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.wire import RejectedAnswer

PATHS: dict[str, str | None] = {
    "openai-chat": "/models",
    "openai-responses": "/models",
    "anthropic-messages": "/models?limit=1000",
    "gemini": "/models?pageSize=1000",
    "ollama": "/api/tags",
    # Bedrock lists its models at another host, to signed requests alone.
    "bedrock-converse": None,
}
"""Where each wire lists its models, below the base URL; None where it does not. Lists that have pages fit the first."""


class ListedModel(Struct, frozen=True):
    """A model as its host lists it. Whatever the host does not say is None; `retires` is a date in ISO's form."""

    id: str
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    retires: str | None = None


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
    retires_at: object = None  # Anthropic
    deprecation: object = None  # Mistral


class _Listing(Struct, gc=False):
    data: list[_Entry] | None = None
    models: list[_Entry] | None = None


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
    return tuple(
        _model(name, entry) for entry in entries if entry.lifecycle != "retired" and (name := _name(entry))
    )


def _entries(found: "_Listing | list[_Entry]") -> list[_Entry] | None:
    if isinstance(found, _Listing):
        return found.models if found.data is None else found.data
    return found


def _name(entry: _Entry) -> str:
    return entry.id or (entry.name or "").removeprefix("models/")


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
        ),
        max_output_tokens=_count(entry.max_completion_tokens, entry.max_tokens, entry.outputTokenLimit),
        retires=next(
            (said[:10] for said in (entry.retires_at, entry.deprecation) if isinstance(said, str)), None
        ),
    )


def _count(*said: object) -> int | None:
    return next((count for count in said if isinstance(count, int) and count > 0), None)
