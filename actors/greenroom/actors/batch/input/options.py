"""Request options that a job says for all its lines: `--param temperature=0.2`, `params={"seed": 7}`."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches

import msgspec
from msgspec import Raw, Struct, structs

from greenroom.actors.batch.input.errors import BadInput
from greenroom.actors.providers import ChatOptions

_OWN_WAY = {
    "max_tokens": "bounds all lines by its own option: --max-tokens, or max_tokens=",
    "max_completion_tokens": "goes by the name of --max-tokens, or max_tokens=; each provider is told by its own",
    "model": "is chosen by --model, or model=",
    "messages": "come from the lines; see --prompt and --system",
    "prompt": "is made by --prompt, or prompt=",
    "n": "cannot be chosen: a line gets one answer",
    "stream": "cannot be chosen so: it is how greenroom asks, not what",
    "stream_options": "cannot be chosen so: it is how greenroom asks, not what",
}
_TYPES: dict[str, object] = {
    field.name: field.type for field in structs.fields(ChatOptions) if field.name not in _OWN_WAY
}
_SHAPES: dict[str, object] = {
    "response_format": dict[str, object],
    "tools": list[dict[str, object]],
    "tool_choice": str | dict[str, object],
}
_OF_SOME_PROVIDERS = (
    "chat_template_kwargs",
    "logit_bias",
    "metadata",
    "min_p",
    "prediction",
    "prompt_cache_key",
    "provider",
    "random_seed",
    "reasoning",
    "repeat_penalty",
    "repetition_penalty",
    "safe_prompt",
    "safety_identifier",
    "search_mode",
    "service_tier",
    "store",
    "thinking",
    "top_a",
    "top_k",
    "typical_p",
    "verbosity",
    "web_search_options",
)
"""Names that look like others but are right: those that documented hosts take beside OpenAI's common ones."""
_LIKENESS = 0.75


class JobOptions(Struct, frozen=True):
    """Options by name: those that every request knows, typed, and those of some providers, as they go on the wire."""

    known: dict[str, object] = {}
    extra: dict[str, Raw] = {}

    @property
    def as_json(self) -> str | None:
        """One text for one choice of options, whatever the order they were given in; None for none."""
        if not self.known and not self.extra:
            return None
        return msgspec.json.encode({**self.known, **self.extra}, order="deterministic").decode()


def job_options(params: Mapping[str, object]) -> JobOptions:
    """Options from values.

    Raises:
        BadInput: naming an option that is misspelt, is said elsewhere, or does not take this value.
    """
    known: dict[str, object] = {}
    extra: dict[str, Raw] = {}
    for name, value in params.items():
        if name in _TYPES:
            known[name] = _typed(name, value)
        else:
            _refuse_wrong_name(name)
            extra[name] = Raw(_encoded(name, value))
    return JobOptions(known, extra)


def read_params(texts: Iterable[str]) -> JobOptions:
    """Options from `name=value` texts. A value is JSON where it can be (numbers, booleans, objects), else text.

    Raises:
        BadInput: as `job_options` does, and where a text has no `=` or a name stands twice.
    """
    params: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        name = name.strip()
        if not equals or not name:
            raise BadInput(f"option {text!r}: write name=value, such as temperature=0.2")
        if name in params:
            raise BadInput(f"option {name} is given twice")
        params[name] = _from_text(name, value)
    return job_options(params)


def _from_text(name: str, text: str) -> object:
    """JSON or text, whichever the option takes; JSON where both would do."""
    try:
        value = msgspec.json.decode(text.encode())
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return text
    try:
        _typed(name, value)
    except BadInput:
        return text
    return value


def _typed(name: str, value: object) -> object:
    shape = _SHAPES.get(name)
    try:
        if shape is not None:
            return Raw(_encoded(name, msgspec.convert(value, shape)))
        return msgspec.convert(value, _TYPES.get(name, object))
    except msgspec.ValidationError as error:
        raise BadInput(f"option {name} is {value!r}: {error}") from None


def _encoded(name: str, value: object) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise BadInput(f"option {name} cannot be written as JSON: {error}") from None


def _refuse_wrong_name(name: str) -> None:
    if name in _OWN_WAY:
        raise BadInput(f"option {name} {_OWN_WAY[name]}")
    if name in _OF_SOME_PROVIDERS:
        return
    if near := get_close_matches(name, [*_TYPES, *_OF_SOME_PROVIDERS], n=1, cutoff=_LIKENESS):
        raise BadInput(f"unknown option {name}; did you mean {near[0]}?")
