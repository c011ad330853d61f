"""What may be shown of an actor's state: bounded, and without secrets."""

import re
from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from itertools import islice
from typing import cast

from msgspec import Struct

DEPTH_MAX = 3
ITEMS_MAX = 20
TEXT_MAX = 80
REDACTED = "[redacted]"

_SECRET_NAME = re.compile(r"key|token|secret|passw|authori[sz]|credential|cookie|bearer", re.IGNORECASE)
_SECRET_TEXT = re.compile(
    r"\b(?:sk|pk|rk|gsk|xai|hf|r8|ghp|pplx)[-_][\w-]{8,}|\bAIza[\w-]{20,}|\bBearer\s+\S+|\beyJ[\w-]{10,}\.[\w-]+",
    re.IGNORECASE,
)
_ASSIGNED = re.compile(r"""(\w+)(["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s,;)>}\]]+)""")
# names that sound secret and are not: how many tokens a model took is what people ask for
_COUNTED_TOKENS = re.compile(r"tokens(_|$)|(^|_)n_tokens?|max_token", re.IGNORECASE)


def attributes(owner: object) -> dict[str, object]:
    """What ``owner`` has, by name, whether in a ``__dict__``, in slots or as fields of a Struct; an actor's ``ref`` is left out."""
    found: dict[str, object] = {}
    for kind in reversed(type(owner).__mro__):
        slots = kind.__dict__.get("__slots__", ())
        for name in (slots,) if isinstance(slots, str) else slots:
            if (
                not name.startswith("__")
                and (kind.__name__, name) != ("Actor", "ref")
                and hasattr(owner, name)
            ):
                found[name] = getattr(owner, name)
    return found | getattr(owner, "__dict__", {})


def presentable(value: object, *, depth: int = DEPTH_MAX) -> object:
    """``value`` as numbers, texts, lists and dictionaries, cut to size, with secrets replaced by ``[redacted]``.

    A value counts as secret if its name says so (``api_key``, ``authorization``), or if it looks like a provider's key.
    Structs and dataclasses are shown by their fields, bytes by their number, other objects by their ``repr``.
    """
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return _mapping(cast("Mapping[object, object]", value), depth)
    if isinstance(value, (list, tuple, set, frozenset, deque)):
        return _items(cast("Collection[object]", value), depth)
    if isinstance(value, (bytes, bytearray)):
        return f"<{len(value)} bytes>"
    if isinstance(value, Struct) or (is_dataclass(value) and not isinstance(value, type)):
        return _mapping(attributes(value), depth, type(value).__name__)
    return _text(_ASSIGNED.sub(_without_secret, safe_repr(value)[: 4 * TEXT_MAX]))


def _without_secret(assigned: re.Match[str]) -> str:
    return f"{assigned[1]}{assigned[2]}{REDACTED}" if _is_secret(assigned[1]) else assigned[0]


def _mapping(
    value: Mapping[object, object] | dict[str, object], depth: int, kind: str | None = None
) -> object:
    if depth <= 0:
        return f"<{kind or f'{type(value).__name__} of {len(value)}'}>"
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
