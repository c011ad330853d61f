"""From a message's type to its handler: one look-up in a table that is built, and checked, when the class is made."""

import inspect
from collections.abc import Callable, Mapping
from types import FunctionType, SimpleNamespace, UnionType
from typing import Any, TypeVar, get_origin, get_type_hints

import msgspec

from greenroom.actors.kernel.contract.messages import Call
from greenroom.actors.kernel.contract.ref import ReplyTo

Handler = Callable[
    ..., Any
]  # called as handler(actor, message[, reply_to]); its reply's type is the message's business
HandlerT = TypeVar("HandlerT", bound=Callable[..., object])

_MARK = "__handles__"
_FRAMES_MAX = 8


def handles(function: HandlerT) -> HandlerT:
    """Marks a method as the handler of the message type that its parameter is annotated with.

    A plain ``def`` cannot wait and may run at once on the caller's stack. An ``async def`` may wait; no other message is
    handled meanwhile. A second parameter annotated ``ReplyTo[...]`` lets it answer later, from anywhere; its own return
    value is then ignored.

    Raises:
        TypeError: ``function`` is no function, or its parameters are not annotated as above.
    """
    marked: object = function
    if not isinstance(marked, FunctionType):
        raise TypeError(f"@handles belongs on a method, directly above its def, not on {function!r}")
    setattr(marked, _MARK, _resolve(marked))
    return function


class Entry(msgspec.Struct, frozen=True):
    """One handler."""

    function: Handler
    is_async: bool
    is_call: bool
    wants_reply: bool


class Table:
    """What a class of actors handles.

    Attributes:
        kind: the class.
        owner: its name.
        calls: plain handlers of Calls that answer by returning; these may run on the caller's stack.
        casts: plain handlers of everything else.
        entries: every handler.
        initialises: whether the class has an ``init`` of its own, which takes a task to run.
        terminates: likewise for ``terminate``.
        informed: likewise for ``handle_info``.
        drops_oldest: whether a full mailbox drops its oldest message instead of refusing the newest.
        skips_abandoned: whether a call whose caller has gone is skipped when its turn comes.
        shutdown_s: how long a self-inflicted ``terminate`` may take, or None.
    """

    __slots__ = (
        "calls",
        "casts",
        "drops_oldest",
        "entries",
        "informed",
        "initialises",
        "kind",
        "owner",
        "shutdown_s",
        "skips_abandoned",
        "terminates",
    )

    def __init__(self, kind: type[Any], entries: Mapping[type[Any], Entry]) -> None:
        plain = {
            kind: entry for kind, entry in entries.items() if not entry.is_async and not entry.wants_reply
        }
        self.kind = kind
        self.owner = kind.__name__
        self.calls: dict[type[Any], Handler] = {
            kind: entry.function for kind, entry in plain.items() if issubclass(kind, Call)
        }
        self.casts: dict[type[Any], Handler] = {
            kind: entry.function for kind, entry in plain.items() if not issubclass(kind, Call)
        }
        self.entries = dict(entries)
        self.initialises = self.terminates = self.informed = False
        self.drops_oldest = False
        self.skips_abandoned = True
        self.shutdown_s: float | None = None


def collect(cls: type[Any], inherited: Mapping[type[Any], Entry]) -> dict[type[Any], Entry]:
    """The handlers of ``cls``: its own, and the inherited ones that it does not replace.

    Raises:
        TypeError: two handlers for one message, or a message class that is not a frozen Struct.
    """
    entries = {kind: entry for kind, entry in inherited.items() if entry.function.__name__ not in vars(cls)}
    own: dict[type[Any], str] = {}
    for name, function in vars(cls).items():
        mark = getattr(function, _MARK, None)
        if mark is None:
            continue
        kind, wants_reply = mark
        if kind in own:
            raise TypeError(
                f"{cls.__qualname__} has two handlers for {kind.__qualname__}: {own[kind]} and {name}"
            )
        own[kind] = name
        _check_message(cls, name, kind)
        if wants_reply and not issubclass(kind, Call):
            raise TypeError(
                f"{cls.__qualname__}.{name}: {kind.__qualname__} is no Call, so nobody waits for a reply to it"
            )
        entries[kind] = Entry(
            function, inspect.iscoroutinefunction(function), issubclass(kind, Call), wants_reply
        )
    return entries


def _check_message(cls: type[Any], name: str, kind: type[Any]) -> None:
    config = getattr(kind, "__struct_config__", None)
    if config is None:
        raise TypeError(
            f"{cls.__qualname__}.{name}: {kind!r} is no message; a message is a frozen subclass of Call or Cast"
        )
    if not config.frozen:
        raise TypeError(
            f"{cls.__qualname__}.{name}: {kind.__qualname__} is mutable; declare it with frozen=True"
        )


def _resolve(function: FunctionType) -> tuple[type[Any], bool]:
    where = function.__qualname__
    parameters = list(inspect.signature(function).parameters.values())[1:]
    if len(parameters) not in {1, 2}:
        raise TypeError(
            f"{where}: a handler takes (self, message) or (self, message, reply_to), not {len(parameters)} parameters"
        )
    wanted: dict[str, object] = {}
    for parameter in parameters:
        if parameter.annotation is inspect.Parameter.empty:
            raise TypeError(
                f"{where}: {parameter.name!r} has no annotation; a handler is found by its message's type"
            )
        wanted[parameter.name] = parameter.annotation
    try:
        hints = get_type_hints(
            SimpleNamespace(__annotations__=wanted), function.__globals__, _enclosing_names()
        )
    except Exception as error:
        raise TypeError(f"{where}: cannot resolve the annotations {wanted!r}") from error
    annotations = [hints[name] for name in wanted]
    kind = annotations[0] if isinstance(annotations[0], type) else get_origin(annotations[0])
    if not isinstance(kind, type) or kind is UnionType:
        raise TypeError(
            f"{where}: {parameters[0].name!r} must be annotated with one message class, not {annotations[0]!r}"
        )
    if len(annotations) == 2 and (get_origin(annotations[1]) or annotations[1]) is not ReplyTo:
        raise TypeError(
            f"{where}: {parameters[1].name!r} must be annotated ReplyTo[...], not {annotations[1]!r}"
        )
    return kind, len(annotations) == 2


def _enclosing_names() -> dict[str, object]:
    """The local names around the class being made, so that messages may be declared inside a function."""
    names: dict[str, object] = {}
    frame = inspect.currentframe()
    while frame is not None and frame.f_globals is globals():
        frame = frame.f_back
    for _ in range(_FRAMES_MAX):
        if frame is None or frame.f_code.co_name == "<module>":
            break
        names = {**frame.f_locals, **names}
        frame = frame.f_back
    return names
