"""A Python function as a tool: what a model is told of it, and how it is run with what a model says."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import get_type_hints

import anyio
import anyio.from_thread
import anyio.to_thread
import msgspec

from greenroom.actors.asks.json_schema import is_object, named_in_place

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
"""What OpenAI, Anthropic and Bedrock take as a name; Gemini takes more."""
MAX_OUTPUT_CHARS = 1_000_000
_NAMED = frozenset({inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY})


def _unheard() -> None:
    """Nobody wants to be told."""


class ToolInvalid(TypeError):
    """A function cannot be a tool as it is; the message says which, why, and what would be right."""


class Tool:
    """A function that a model may call, with the arguments that it says.

        def get_weather(city: str, days: int = 1) -> Weather:
            "The weather of a city, for so many days from today."

    Its parameters and their types become the JSON Schema that a model is told, by the rules of msgspec (so
    `Annotated[int, Meta(ge=1, description="...")]` says more); its docstring says what it is for. What a model says is
    decoded strictly by them. A plain function runs in a thread, an `async def` on the loop.

    Args:
        function: what is called. Each parameter has a type that JSON can hold and can be given by name.
        name: what a model calls it by; None: its own name.
        description: what a model is told of it; None: its docstring.
        timeout_s: how long it may take, in seconds; None: as long as the call says for all tools.

    Raises:
        ToolInvalid: a parameter has no type or none that JSON can hold, or the name is none for a tool.
    """

    def __init__(
        self,
        function: Callable[..., object],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout_s: float | None = None,
    ) -> None:
        self.name = str(name or getattr(function, "__name__", ""))
        if not _NAME.fullmatch(self.name):
            raise ToolInvalid(
                f"{function!r}: {self.name!r} is no name for a tool: 1 to 64 of a-z, A-Z, 0-9, _ and -; "
                "say Tool(function, name=...)"
            )
        if timeout_s is not None and not timeout_s > 0:
            raise ToolInvalid(
                f"tool {self.name}: timeout_s is {timeout_s!r}; it must be seconds, more than 0"
            )
        self.timeout_s = timeout_s
        self._function = function
        self._is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 - of an object that is called like a function
        )
        arguments = _struct_of(self.name, function)
        self._decode = msgspec.json.Decoder(arguments).decode
        self._fields = arguments.__struct_fields__
        self.spec: dict[str, object] = {
            "type": "function",
            "function": {
                "name": self.name,
                "description": description or inspect.getdoc(function) or "",
                "parameters": named_in_place(msgspec.json.schema(arguments)),
            },
        }

    def __repr__(self) -> str:
        return f"<Tool {self.name}({', '.join(self._fields)})>"

    def arguments(self, text: str) -> dict[str, object]:
        """The arguments that a model said, by name; no text at all says none.

        Raises:
            msgspec.DecodeError, RecursionError: they are no JSON, or not of the function's types.
        """
        said = self._decode(text if text.strip() else "{}")
        return {name: getattr(said, name) for name in self._fields}

    async def run(
        self,
        arguments: Mapping[str, object],
        threads: anyio.CapacityLimiter,
        begins: Callable[[], None] = _unheard,
    ) -> str:
        """What the function gives, as text: JSON, unless it is text already.

        Args:
            arguments: by name.
            threads: where a plain function waits for a thread.
            begins: told, on the loop, when it has one. What that raises keeps the function from being called.

        Cancelling cancels an `async def`; a function in a thread goes on by itself, and what it gives is dropped.

        Raises:
            Exception: the function's own, or a `TypeError` where JSON cannot hold what it gave.
        """
        if self._is_async:
            return _text(await _awaited(self._function(**arguments)))
        # What it gives is written in the thread, too: it may be large.
        call = partial(_called, self._function, arguments, begins)
        return await anyio.to_thread.run_sync(call, abandon_on_cancel=True, limiter=threads)


class Toolbox:
    """The tools of one call: functions that are run here, and specifications whose calls are the caller's to answer.

    Args:
        tools: functions, `Tool`s, and tools as dicts in OpenAI's shape.

    Raises:
        ToolInvalid: a function cannot be a tool, a dict is none, or two tools go by one name.
    """

    def __init__(self, tools: Sequence[Tool | Callable[..., object] | Mapping[str, object]]) -> None:
        self.specs: list[Mapping[str, object]] = []
        self.tools: dict[str, Tool] = {}
        names: set[str] = set()
        for at, one in enumerate(tools):
            if is_object(one):
                name, spec = _name_of(one, f"tools[{at}]"), one
            else:
                tool = one if isinstance(one, Tool) else _made(one)
                name, spec = tool.name, tool.spec
                self.tools[name] = tool
            if name in names:
                raise ToolInvalid(f"two tools are called {name!r}; say Tool(function, name=...) of one")
            names.add(name)
            self.specs.append(spec)
        self.others = names - self.tools.keys()


def _made(function: object) -> Tool:
    if not callable(function):
        raise ToolInvalid(f"{function!r} is no tool: a function, a Tool or a dict in OpenAI's shape is")
    return Tool(function)


def _name_of(spec: Mapping[str, object], where: str) -> str:
    kind, function = spec.get("type"), spec.get("function")
    if kind != "function" and isinstance(kind, str):
        return f"{where} of type {kind}"  # some host's own, which is passed on as it is
    if kind != "function" or not is_object(function):
        raise ToolInvalid(f'{where} is none; write {{"type": "function", "function": {{"name": ...}}}}')
    name, parameters = function.get("name"), function.get("parameters", {})
    if not isinstance(name, str) or not name:
        raise ToolInvalid(f"{where}.function.name is {name!r}; it must be text")
    if not is_object(parameters):
        raise ToolInvalid(f"{where}.function.parameters is {parameters!r:.80}; it must be a JSON Schema")
    return name


def _called(
    function: Callable[..., object], arguments: Mapping[str, object], begins: Callable[[], None]
) -> str:
    anyio.from_thread.run_sync(begins)
    return _text(function(**arguments))


def _text(result: object) -> str:
    text = result if isinstance(result, str) else _encode(result).decode()
    if len(text) > MAX_OUTPUT_CHARS:
        return f"{text[:MAX_OUTPUT_CHARS]}... (cut off here, of {len(text)} characters in all)"
    return text


def _dumped(value: object) -> object:
    """What msgspec does not know, of pydantic's models."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    raise TypeError(f"JSON cannot hold a {type(value).__name__}")


_encode = msgspec.json.Encoder(enc_hook=_dumped).encode


async def _awaited(given: object) -> object:
    return await given if inspect.isawaitable(given) else given


def _struct_of(name: str, function: Callable[..., object]) -> type[msgspec.Struct]:
    """The arguments as a Struct, which knows their schema and decodes them."""
    try:
        signature = inspect.signature(function)
        hints = get_type_hints(_hinted(function), include_extras=True)
    except (NameError, TypeError, ValueError) as error:
        raise ToolInvalid(f"tool {name}: its types cannot be read: {error}") from error
    fields = [_field(name, parameter, hints) for parameter in signature.parameters.values()]
    return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)


def _hinted(function: object) -> object:
    """Whose types a callable's are."""
    while isinstance(function, partial):
        function = function.func
    return function if inspect.isroutine(function) else type(function).__call__


def _field(
    tool: str, parameter: inspect.Parameter, hints: Mapping[str, object]
) -> tuple[str, object] | tuple[str, object, object]:
    where = f"tool {tool}: parameter {parameter.name}"
    if parameter.kind not in _NAMED:
        raise ToolInvalid(f"{where} cannot be given by name; a model says arguments by their names")
    if parameter.name not in hints:
        raise ToolInvalid(f"{where} has no type; write {parameter.name}: str, or whatever it is")
    kind = hints[parameter.name]
    try:
        msgspec.json.schema(kind)
        msgspec.json.Decoder(kind)
    except (TypeError, ValueError) as error:
        raise ToolInvalid(f"{where} is of a type that JSON cannot hold: {error}") from error
    if parameter.default is inspect.Parameter.empty:
        return parameter.name, kind
    # By way of a factory it may be anything, and a model is not told of it: leaving it out says the same.
    return parameter.name, kind, msgspec.field(default_factory=lambda: parameter.default)
