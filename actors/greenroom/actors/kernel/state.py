"""What may be shown of an actor's state: bounded, and without secrets."""

import re
from collections.abc import Collection, Mapping
from itertools import islice
from typing import cast

DEPTH_MAX = 3
ITEMS_MAX = 20
TEXT_MAX = 80
REDACTED = "[redacted]"

_SECRET_NAME = re.compile(r"key|token|secret|passw|authori[sz]|credential|cookie|bearer", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|r8|ghp|pplx)[-_][\w-]{8,}|\bAIza[\w-]{20,}|\bBearer\s+\S+|\beyJ[\w-]{10,}\.[\w-]+",
    re.IGNORECASE,
)
# names that sound secret and are not: how many tokens a model took is what people ask for
_COUNTED_TOKENS = re.compile(r"tokens(_|$)|(^|_)n_tokens?|max_token", re.IGNORECASE)


def presentable(value: object, *, depth: int = DEPTH_MAX) -> object:
    """``value`` as numbers, texts, lists and dictionaries, cut to size, with secrets replaced by ``[redacted]``.

    A value counts as secret if its name says so (``api_key``, ``authorization``), or if it looks like a provider's key.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return _mapping(cast("Mapping[object, object]", value), depth)
    if isinstance(value, (list, tuple, set, frozenset)):
        return _items(cast("Collection[object]", value), depth)
    return _text(safe_repr(value))


def _mapping(value: Mapping[object, object], depth: int) -> object:
    if depth <= 0:
        return f"<{type(value).__name__} of {len(value)}>"
    shown: dict[str, object] = {}
    for index, (name, item) in enumerate(value.items()):
        if index == ITEMS_MAX:
            shown["..."] = f"{len(value) - ITEMS_MAX} more"
            break
        text = _text(str(name))
        shown[text] = (
            REDACTED if _is_secret(text) and item is not None else presentable(item, depth=depth - 1)
        )
    return shown


def _items(value: Collection[object], depth: int) -> object:
    if depth <= 0:
        return f"<{type(value).__name__} of {len(value)}>"
    shown = [presentable(item, depth=depth - 1) for item in islice(value, ITEMS_MAX)]
    return [*shown, f"... {len(value) - ITEMS_MAX} more"] if len(value) > ITEMS_MAX else shown


def _is_secret(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None and _COUNTED_TOKENS.search(name) is None


def _text(text: str) -> str:
    text = _SECRET_TEXT.sub(REDACTED, text[: 4 * TEXT_MAX])
    return text if len(text) <= TEXT_MAX else f"{text[:TEXT_MAX]}..."


def safe_repr(value: object) -> str:
    """``repr``, whatever the object's own does."""
    try:
        return repr(value)
    except Exception as error:
        return f"<{type(value).__name__} whose repr raised {type(error).__name__}>"
