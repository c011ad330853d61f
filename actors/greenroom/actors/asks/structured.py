"""Answers of a type: asked for by JSON Schema, decoded strictly, and asked for again with what was wrong.

Above `flow`: each ask is a call of its own, with holds, retries and settlements as any other. What they share is the
caller's budget and deadline, and what they add up to is in the reply.
"""

import re
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar, runtime_checkable

import msgspec
from msgspec import Raw, Struct, structs

from greenroom.actors.asks.asks import Asker, Asks
from greenroom.actors.asks.json_schema import check_schema, is_array, is_object, named_in_place, problem
from greenroom.actors.call import NO_TERMS, Reply, Terms
from greenroom.actors.events import ProviderError, ProviderFailed, Usage
from greenroom.actors.kernel import Clock
from greenroom.actors.providers import ChatRequest, Message

T = TypeVar("T")

MAX_REASKS = 20
_MAX_WHY_CHARS = 2000
"""How much of a validation error a model is told; pydantic's may be as long as the answer."""
_STRICT_WORDS = frozenset({
    "type", "properties", "required", "additionalProperties", "items", "anyOf", "enum", "const", "$ref", "$defs",
    "title", "description",
})  # fmt: skip
"""What OpenAI's strict mode certainly takes (its guide to structured outputs, "Supported schemas")."""

_SAYS_WHAT = frozenset({"type", "anyOf", "enum", "const", "$ref"})


class Rejected(Struct, frozen=True):
    """An answer that was not of the type: its text, and what was wrong with it."""

    text: str
    why: str


class ParsedReply(Reply, Generic[T], frozen=True, kw_only=True):
    """A `Reply` whose text is of the type that was asked for.

    `parsed` is the value. `usage`, `cost_usd`, `attempts` and `tried` are of all asks together; `rejected` are the answers
    before this one, oldest first.
    """

    parsed: T
    rejected: tuple[Rejected, ...] = ()


class AnswerInvalid(ProviderFailed):
    """No answer was of the type that was asked for.

    `rejected` are the answers, oldest first; `usage`, `cost_pusd` and `error.attempts` are of all asks together. The
    kind is `content_filter` where the model refused, else `protocol`.
    """

    def __init__(
        self, error: ProviderError, *, cost_pusd: int, usage: Usage, rejected: tuple[Rejected, ...]
    ) -> None:
        super().__init__(error, cost_pusd=cost_pusd)
        self.usage = usage
        self.rejected = rejected


class Form(Struct, Generic[T], frozen=True):
    """What an answer is to be: `response_format` and `schema` as JSON, and what makes a value of a text.

    `decode` raises ValueError, `msgspec.DecodeError` or RecursionError.
    """

    response_format: Raw
    schema: bytes
    decode: Callable[[str], T]


@runtime_checkable
class _Pydantic(Protocol):
    """What is used of a pydantic model's class, so that pydantic need not be there."""

    @classmethod
    def model_json_schema(cls) -> dict[str, object]: ...
    @classmethod
    def model_validate_json(cls, json_data: str, *, strict: bool) -> object: ...


def form_of_type(response_type: type[T]) -> Form[T]:
    """The form of a `msgspec.Struct`, a dataclass, a pydantic model, or another type that msgspec decodes to an object.

    Raises:
        TypeError: JSON cannot hold such a type, or no object is its form, which providers want.
    """
    name = getattr(response_type, "__name__", "answer")
    model = _as_model(response_type)
    if model is not None:
        return _form_of_model(name, model, response_type)
    schema = msgspec.json.schema(response_type)
    return _form(name, _closed_object(schema, name), msgspec.json.Decoder(response_type).decode)


def form_of_schema(schema: Mapping[str, object]) -> Form[object]:
    """The form of a JSON Schema; it is sent as it is.

    Raises:
        ValueError: it has a word that is not checked here, or makes no sense (see `json_schema.check_schema`).
    """
    check_schema(schema)

    def decode(text: str) -> object:
        value: object = msgspec.json.decode(text)
        wrong = problem(schema, value)
        if wrong:
            raise ValueError(wrong)
        return value

    return _form(str(schema.get("title") or "answer"), schema, decode)


class _Asking(Struct, Generic[T]):
    """One question, over all its asks."""

    form: Form[T]
    request: ChatRequest
    asks: Asks
    in_words: bool = False
    rejected: tuple[Rejected, ...] = ()

    def reject(self, reply: Reply, why: str) -> None:
        """Have the next ask show the model its answer and what was wrong with it."""
        self.rejected += (Rejected(reply.text, why),)
        answer = Message("assistant", reply.text, reasoning_state=reply.reasoning_state)
        demand = Message(
            "user",
            f"This is not the JSON that was asked for: {why}\nAnswer again, with nothing but JSON of the schema.",
        )
        more = (answer, demand) if reply.text else (demand,)
        self.request = structs.replace(
            self.request, messages=(*self.request.messages, *reply.tool_messages, *more)
        )

    def put_in_words(self) -> None:
        """Have the next ask say the schema in a message, for a provider that has no mode for it."""
        self.in_words = True
        demand = f"Answer with nothing but JSON of this JSON Schema:\n{self.form.schema.decode()}"
        self.request = structs.replace(
            self.request,
            response_format=msgspec.UNSET,
            messages=(Message("system", demand), *self.request.messages),
        )

    def invalid(self, reply: Reply, why: str) -> AnswerInvalid:
        asks = self.asks
        refused = reply.refusal is not None or reply.finish_reason == "content_filter"
        error = ProviderError(
            kind="content_filter" if refused else "protocol",
            message=why,
            provider=reply.provider,
            model=reply.model,
            request_id=reply.request_id,
            attempts=asks.attempts,
        )
        failure = AnswerInvalid(error, cost_pusd=asks.cost_pusd, usage=asks.usage, rejected=self.rejected)
        failure.tried = asks.tried
        return failure


async def chat_parsed(
    asker: Asker,
    clock: Clock,
    request: ChatRequest,
    form: Form[T],
    *,
    reasks: int = 2,
    terms: Terms = NO_TERMS,
) -> ParsedReply[T]:
    """Ask until an answer is of the form, at most `reasks` times more than once.

    Args:
        asker: who asks.
        clock: time.
        request: the question; its `response_format` is set here.
        form: what the answer is to be.
        reasks: how often an invalid answer is shown to the model with what was wrong; 0 to 20.
        terms: of all asks together; see `Asks`.

    A provider that refuses the option `response_format` is told the schema in words. A refusal of the model, and an
    answer cut off at `max_tokens`, are not asked for again: they would come out the same.

    Raises:
        AnswerInvalid: no answer was of the form, or no time was left to ask again.
        Refused, ProviderFailed: as `Flow.chat`; the cost and attempts of a failure are of all asks together.
        ValueError: `reasks` is out of its range.

    Cancelling leaves behind what `Flow.chat` does: each ask is settled.
    """
    if not 0 <= reasks <= MAX_REASKS:
        raise ValueError(f"reasks must be 0 to {MAX_REASKS}, not {reasks}")
    request = structs.replace(request, response_format=form.response_format)
    asking = _Asking(form, request, Asks(clock, terms))
    while True:
        reply = await _ask(asker, asking)
        if reply is None:
            continue
        asking.asks.add(reply)
        if reply.refusal is not None:
            raise asking.invalid(reply, f"the model refused: {reply.refusal}")
        try:
            parsed = form.decode(reply.text)
        except (ValueError, msgspec.DecodeError, RecursionError) as error:
            why = str(error)[:_MAX_WHY_CHARS]
            asking.reject(reply, why)
            over = _over(asking, reply, reasks)
            if over:
                raise asking.invalid(reply, f"{over}: {why}") from error
        else:
            return _parsed(asking, reply, parsed)


async def _ask(asker: Asker, asking: _Asking[T]) -> Reply | None:
    """One ask; None: the provider has no mode for schemas, and the next ask does without."""
    try:
        with asking.asks.one() as terms:
            return await asker.chat(asking.asks.pinned(asking.request), terms)
    except ProviderFailed as failure:
        if failure.error.param != "response_format" or asking.in_words:
            raise
        asking.put_in_words()
        return None


def _over(asking: _Asking[T], reply: Reply, reasks: int) -> str | None:
    """Why an invalid answer is the last one; None: it is not."""
    count = len(asking.rejected)
    if reply.finish_reason == "length":
        return "the answer was cut off at max_tokens"
    if reply.finish_reason == "content_filter":
        return "the answer was cut off by a content filter"
    if count > reasks:
        return f"not of the type asked for, {count} times" if count > 1 else "not of the type asked for"
    if asking.asks.left_s == 0:
        return "not of the type asked for, and no time was left to ask again"
    return None


def _parsed(asking: _Asking[T], reply: Reply, parsed: T) -> ParsedReply[T]:
    whole = asking.asks.summed(reply)
    said = {name: getattr(whole, name) for name in Reply.__struct_fields__}
    return ParsedReply(**said, parsed=parsed, rejected=asking.rejected)


def _as_model(kind: object) -> _Pydantic | None:
    return kind if isinstance(kind, _Pydantic) else None


def _form_of_model(name: str, model: _Pydantic, response_type: type[T]) -> Form[T]:
    def decode(text: str) -> T:
        value = model.model_validate_json(text, strict=True)
        if not isinstance(value, response_type):
            raise TypeError(f"{name}.model_validate_json gave a {type(value).__name__}")
        return value

    return _form(name, _closed_object(model.model_json_schema(), name), decode)


def _form(name: str, schema: Mapping[str, object], decode: Callable[[str], T]) -> Form[T]:
    encoded = msgspec.json.encode(schema)
    said: dict[str, object] = {
        "name": re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64],
        "schema": Raw(encoded),
    }
    if _is_strict(schema):
        said["strict"] = True
    wanted = {"type": "json_schema", "json_schema": said}
    return Form(Raw(msgspec.json.encode(wanted)), encoded, decode)


def _closed_object(schema: Mapping[str, object], name: str) -> Mapping[str, object]:
    """The schema of an object as providers want it: named in place, and nothing left out or added."""
    closed = _closed(named_in_place(schema))
    if not is_object(closed) or closed.get("type") != "object":
        raise TypeError(
            f"response_type: {name} is no object in JSON; put it in a field of a Struct or dataclass"
        )
    return closed


def _closed(node: object) -> object:
    if is_array(node):
        return [_closed(one) for one in node]
    if not is_object(node):
        return node
    properties = node.get("properties")
    if not is_object(properties):
        return {word: _closed(said) for word, said in node.items()}
    kept = {word: _closed(said) for word, said in node.items() if word != "properties"}
    kept["properties"] = {name: _closed(_without_default(one)) for name, one in properties.items()}
    return {**kept, "required": list(properties), "additionalProperties": False}


def _without_default(node: object) -> object:
    # A default is for what a model leaves out, and it is asked to leave nothing out.
    return {word: said for word, said in node.items() if word != "default"} if is_object(node) else node


def _is_strict(node: object) -> bool:
    """Whether OpenAI's strict mode takes a schema: closed objects of known words only."""
    if not is_object(node) or not node.keys() <= _STRICT_WORDS or not node.keys() & _SAYS_WHAT:
        return False
    properties, definitions = node.get("properties", {}), node.get("$defs", {})
    choices, required = node.get("anyOf", ()), node.get("required", ())
    if not (is_object(properties) and is_object(definitions) and is_array(choices) and is_array(required)):
        return False
    is_open = node.get("additionalProperties") is not False or set(required) != set(properties)
    if is_open and ("properties" in node or node.get("type") == "object"):
        return False
    items = (node["items"],) if "items" in node else ()
    return all(map(_is_strict, (*properties.values(), *definitions.values(), *choices, *items)))
