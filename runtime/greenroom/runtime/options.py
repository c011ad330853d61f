"""What `chat` and `stream` can be told besides model and messages: typed for checkers, looked at before anything is held.

The request's own options go by OpenAI's names. `ChatRequest` has their types once more, for msgspec; a test holds both
tables together.
"""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from difflib import get_close_matches
from typing import Annotated, Literal, TypedDict, TypeVar, cast, get_args

import msgspec
from msgspec import Meta, Raw, Struct

from greenroom.actors.asks.tools import Tool, Toolbox, ToolTerms
from greenroom.actors.catalog import Requirements, Strategy
from greenroom.actors.flow import NO_TERMS, Terms
from greenroom.actors.ledger import Account
from greenroom.actors.limiter import BATCH, INTERACTIVE
from greenroom.actors.prices import pico_usd
from greenroom.actors.providers import ChatRequest, ImagePart, Message, Part, Role, TextPart
from greenroom.actors.providers.embeddings import EmbeddingRequest
from greenroom.runtime.images import ImageInvalid, check_image

Messages = str | Sequence[Message | Mapping[str, object]]
"""A conversation, its messages as `Message` or as dicts in OpenAI's shape; or the text of one user message."""

MAX_TIMEOUT_S = 30 * 86_400.0
MAX_DAYS = 100_000


class TermsOptions(TypedDict, total=False):
    """Whom a call is charged to, how much it may be charged and how long it may take.

    `timeout_s` is seconds for everything, waiting, retries and further asks included; `budget_usd` the most that all of
    it may be charged; `tag` what the spend is booked under, and what budget of `[budgets.tags]` binds it; `priority`
    "batch" lets interactive calls go first, and waits for a budget that others' calls hold.
    """

    timeout_s: float | None
    budget_usd: Decimal | str | float | None
    tag: str | None
    priority: Literal["interactive", "batch"]


class ModelOptions(TypedDict, total=False):
    """Who is asked where the model that was named cannot, and what becomes of options that a model cannot take.

    `fallbacks` are models, as `provider/model`, asked one after another when the one before fails in a way that another
    may mend, until there is content. `unsupported` "refuse" names such an option before anything is sent; "drop" leaves
    it out, and tells in `reply.dropped`. `hedge` has a second attempt made, of the next fallback if there is one, when the
    first has no answer after so many seconds; True: after what is late for the model. The first answer wins, and both
    are paid for.

    `requirements` and `strategy` choose the model where it is "AUTO"; `reply.choice` explains the choice. `cache` is whether an answer that is kept will do, and a new one is kept; unless
    said, as `[cache]` of the configuration has it.
    """

    fallbacks: Sequence[str] | None
    unsupported: Literal["refuse", "drop"]
    hedge: float | bool
    requirements: Requirements | Mapping[str, object] | None
    strategy: Strategy
    cache: bool | None


class ToolOptions(TypedDict, total=False):
    """What a model may call, and how that is run.

    `tools` are functions that are run here (see `Tool`), and tools as dicts in OpenAI's shape, whose calls are returned
    in `reply.tool_calls`. `max_rounds` is how often tools are run and the model is asked again; `max_parallel_tools` how
    many calls of an answer run at once; `tool_timeout_s` seconds for each. `tool_errors` is what becomes of a tool's
    exception and of a call that cannot be made: "tell" the model, who may mend it, or "raise" it.
    """

    tools: Sequence[Tool | Callable[..., object] | Mapping[str, object]] | None
    max_rounds: int
    max_parallel_tools: int
    tool_timeout_s: float
    tool_errors: Literal["tell", "raise"]


class Options(TermsOptions, ModelOptions, ToolOptions, total=False):
    """All options of `chat` and `stream`.

    `max_tokens` bounds each answer, reasoning included. `extra` holds options that only some providers have, by their
    wire names; they are sent as they are. What a provider cannot do is refused with its name.
    """

    max_tokens: int | None
    temperature: float | None
    top_p: float | None
    stop: str | Sequence[str] | None
    seed: int | None
    presence_penalty: float | None
    frequency_penalty: float | None
    reasoning_effort: str | None
    user: str | None
    logprobs: bool | None
    top_logprobs: int | None
    parallel_tool_calls: bool | None
    response_format: Mapping[str, object] | None
    tool_choice: str | Mapping[str, object] | None
    extra: Mapping[str, object]


class OptionInvalid(TypeError, ValueError):
    """An option or a message is none, or has a value that makes no sense; nothing was held or sent.

    `option` is its name. It is a `TypeError` and a `ValueError`, since who calls cannot be asked to tell which.
    """

    def __init__(self, option: str, why: str) -> None:
        super().__init__(f"{option}: {why}")
        self.option = option


_TERMS = frozenset({*TermsOptions.__annotations__, *ModelOptions.__annotations__}) - {"cache"}
_ONLY_TERMS = frozenset(TermsOptions.__annotations__)
_TOOL_TERMS = frozenset(ToolTerms.__struct_fields__)
_KNOWN = tuple(Options.__annotations__)
_AS_JSON: dict[str, object] = {
    "response_format": Mapping[str, object],
    "tool_choice": str | Mapping[str, object],
}
"""Options that travel as they are, and what they must be at least."""
_OWN_WAY = {
    "max_completion_tokens": "is max_tokens here; each provider is told by its own name",
    "messages": "is the second argument",
    "model": "is the first argument",
    "stream": "is how greenroom asks, not what: use rt.stream(...)",
    "stream_options": "is how greenroom asks, not what: the events of rt.stream(...) tell the usage",
}
_REQUEST = frozenset(ChatRequest.__struct_fields__) - {"model", "messages", "extra", "tools", *_AS_JSON}
_LIKENESS = 0.75
_MAX_MODEL_CHARS = 4_096
"""As long as a path, which the name of a model on this machine is."""
_ROLES = frozenset(get_args(Role))
_SPEAKERS = _ROLES - {"tool"}
_PARTS = get_args(Part)
_PRIORITIES = {"interactive": INTERACTIVE, "batch": BATCH}
_convert = msgspec.convert
_T = TypeVar("_T")
_R = TypeVar("_R", ChatRequest, EmbeddingRequest)


class Asked(Struct, frozen=True):
    """What a caller said, read: what is asked, on which terms, and what runs here."""

    request: ChatRequest
    terms: Terms
    toolbox: Toolbox | None = None
    tool_terms: ToolTerms = ToolTerms()
    cache: bool | None = None


def read_options(model: str, messages: Messages, options: Options) -> Asked:
    """What a caller said.

    Raises:
        OptionInvalid: an option is unknown or has no such value, or `messages` is no conversation.
        ToolInvalid: a function cannot be a tool.
    """
    said: dict[str, object] = {}
    of_tools: dict[str, object] = {}
    toolbox: Toolbox | None = None
    cache: bool | None = None
    for name, value in options.items():
        if name in _REQUEST:
            said[name] = value
        elif name in _AS_JSON:
            if value is not None:
                said[name] = _as_json(name, value)
        elif name in _TOOL_TERMS:
            of_tools[name] = value
        elif name == "extra":
            said[name] = _extra(value)
        elif name == "tools":
            toolbox = _toolbox(value)
            if toolbox.specs:
                said[name] = _as_json(name, toolbox.specs)
        elif name == "cache":
            cache = _cache(value)
        elif name not in _TERMS:
            raise _unknown(name)
    terms = NO_TERMS if _TERMS.isdisjoint(options) else read_terms(options)
    request = _request(model, messages, said)
    if toolbox is None and cache is None and not of_tools:
        return Asked(request, terms)
    tool_terms = _converted(of_tools, ToolTerms)
    return Asked(request, terms, toolbox if toolbox and toolbox.tools else None, tool_terms, cache)


def read_terms(options: Mapping[str, object]) -> Terms:
    """A call's terms out of its options.

    Raises:
        OptionInvalid: one of them has no such value.
    """
    said = {name: value for name, value in options.items() if name in _TERMS and value is not None}
    if not said:
        return NO_TERMS
    timeout_s, tag = said.get("timeout_s"), said.pop("tag", "")
    if timeout_s is not None and not 0 < _number("timeout_s", timeout_s) <= MAX_TIMEOUT_S:
        raise OptionInvalid(
            "timeout_s", f"{timeout_s!r}; it must be seconds, more than 0 and at most {MAX_TIMEOUT_S:.0f}"
        )
    if not isinstance(tag, str):
        raise OptionInvalid("tag", f"{tag!r}; it must be text")
    hedge = said.get("hedge", False)
    if hedge is not True and hedge is not False and not 0 < _number("hedge", hedge) <= MAX_TIMEOUT_S:
        raise OptionInvalid("hedge", f"{hedge!r}; it must be True, False or seconds, more than 0")
    priority = str(said.pop("priority", "interactive"))
    if priority not in _PRIORITIES:
        raise OptionInvalid("priority", f"{priority!r}; it must be one of {', '.join(_PRIORITIES)}")
    said["priority"] = _PRIORITIES[priority]
    said["budget_pusd"] = read_budget(said.pop("budget_usd", None))
    said["account"] = Account(tag=tag or None)
    return _converted(said, Terms)


def read_only_terms(options: TermsOptions) -> Terms:
    """As `read_terms`, where a call has no other options."""
    for name in options:
        if name not in _ONLY_TERMS:
            raise _unknown(name, tuple(_ONLY_TERMS))
    return read_terms(options)


class _JobTerms(Struct):
    concurrency: Annotated[int, Meta(ge=1)]
    fallbacks: tuple[str, ...]
    max_tokens: Annotated[int, Meta(ge=1)] | None
    model: str | None
    prompt: str | None
    system: str | None
    tag: str | None


class _Ages(Struct):
    sessions_days: Annotated[int, Meta(ge=1, le=MAX_DAYS)] | None
    jobs_days: Annotated[int, Meta(ge=1, le=MAX_DAYS)] | None


def check_ages(**said: object) -> None:
    """Look at what `Runtime.purge` is told: an age below a day would be that of everything.

    Raises:
        OptionInvalid: one of it is no number of days.
    """
    _converted(said, _Ages)


def check_job(**said: object) -> None:
    """Look at what `Runtime.batch` is told, before anything of a job is made.

    Raises:
        OptionInvalid: one of it is of another type, or too small.
    """
    _converted(said, _JobTerms)


def read_embedding(model: str, texts: str | Sequence[str], dimensions: int | None) -> EmbeddingRequest:
    """What `embed` is asked.

    Raises:
        OptionInvalid: the model, a text or `dimensions` is of another type.
    """
    try:
        inputs = (texts,) if isinstance(texts, str) else tuple(texts)
    except TypeError:
        raise OptionInvalid("texts", f"{texts!r:.80}; it must be text, or a list of texts") from None
    for at, text in enumerate(inputs):
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
            raise OptionInvalid("texts", f"texts[{at}] is {text!r:.80}; it must be text")
        if not _is_unicode(text):
            raise OptionInvalid("texts", f"texts[{at}] has half a surrogate pair, which UTF-8 cannot say")
    return _named(_converted({"model": model, "inputs": inputs, "dimensions": dimensions}, EmbeddingRequest))


def _named(request: _R) -> _R:
    """The request, where its model's name is one that URLs, logs and tables can hold."""
    model = request.model
    if len(model) > _MAX_MODEL_CHARS or not model.isprintable():
        raise OptionInvalid(
            "model", f"{model!r:.80}; it must be at most {_MAX_MODEL_CHARS} printable characters"
        )
    return request


def _request(model: str, messages: Messages, said: dict[str, object]) -> ChatRequest:
    said["model"] = model
    said["messages"] = _conversation(messages)
    request = _named(_converted(said, ChatRequest))
    for at, message in enumerate(request.messages):
        content = message.content
        if message.role not in _SPEAKERS or type(content) is not str or not content.isascii():
            _check(message, f"messages[{at}]")
    return request


def _cache(value: object) -> bool | None:
    if not isinstance(value, bool | None):
        raise OptionInvalid("cache", f"{value!r}; it must be True, False or None")
    return value


def _toolbox(tools: object) -> Toolbox:
    if not isinstance(tools, list | tuple | None):
        raise OptionInvalid("tools", f"{tools!r:.80}; it must be a list of functions")
    return Toolbox(cast("Sequence[Mapping[str, object]]", tools or ()))


def read_budget(value: object) -> int | None:
    """A budget in pico-dollars. Raises `OptionInvalid` where it is no sum of dollars."""
    try:
        return None if value is None else pico_usd(str(value))
    except (ValueError, TypeError) as error:
        raise OptionInvalid("budget_usd", str(error)) from None


def _number(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        return value
    raise OptionInvalid(name, f"{value!r}; it must be a number")


def _unknown(name: str, known: Sequence[str] = _KNOWN) -> OptionInvalid:
    if name in _OWN_WAY:
        return OptionInvalid(name, _OWN_WAY[name])
    if near := get_close_matches(name, known, n=1, cutoff=_LIKENESS):
        return OptionInvalid(name, f"there is no such option; did you mean {near[0]}?")
    if "extra" not in known:
        return OptionInvalid(name, f"there is no such option; there are {', '.join(sorted(known))}")
    return OptionInvalid(
        name, f"there is no such option; one that only some providers have goes in extra={{{name!r}: ...}}"
    )


def _as_json(name: str, value: object) -> Raw:
    try:
        return Raw(msgspec.json.encode(_convert(value, _AS_JSON.get(name, object))))
    except (TypeError, ValueError, RecursionError) as error:
        raise OptionInvalid(name, f"{value!r}: {error}") from None


def _extra(value: object) -> dict[str, Raw]:
    try:
        options = _convert(value, dict[str, object])
    except msgspec.ValidationError:
        raise OptionInvalid("extra", f"{value!r}; it must be a dict of options by their wire names") from None
    found: dict[str, Raw] = {}
    for name, one in options.items():
        if name in _OWN_WAY:
            raise OptionInvalid("extra", f"{name} {_OWN_WAY[name]}")
        if name in _KNOWN:
            raise OptionInvalid("extra", f"{name} is an option by itself: {name}=...")
        try:
            found[name] = Raw(msgspec.json.encode(one))
        except (TypeError, ValueError, RecursionError) as error:
            raise OptionInvalid("extra", f"{name} cannot be written as JSON: {error}") from None
    return found


def _conversation(messages: Messages) -> Sequence[object]:
    if isinstance(messages, str):
        return (Message("user", messages),)
    if not isinstance(messages, Sequence) or isinstance(messages, bytes | bytearray):  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
        raise OptionInvalid("messages", f"{messages!r:.80}; it must be text, or a list of messages")
    if not messages:
        raise OptionInvalid("messages", "empty; there must be at least one message")
    return tuple(messages)


def _check(message: Message, where: str) -> None:
    """What msgspec looks at in a dict, and not in a Struct that somebody made."""
    content: object = message.content
    if message.role not in _ROLES:
        raise OptionInvalid(
            "messages", f"{where}.role is {message.role!r}; it must be one of {', '.join(sorted(_ROLES))}"
        )
    if message.role == "tool" and not message.tool_call_id:
        raise OptionInvalid("messages", f"{where} is of role tool and has no tool_call_id")
    parts = (TextPart(content),) if type(content) is str else () if content is None else content
    if type(parts) is not tuple or not all(isinstance(part, _PARTS) for part in parts):
        raise OptionInvalid(
            "messages",
            f"{where}.content is {content!r:.80}; it must be text or a tuple of TextPart and ImagePart",
        )
    for part in parts:
        if isinstance(part, ImagePart):
            _check_image(part, where)
        elif isinstance(part, TextPart) and not _is_unicode(part.text):
            raise OptionInvalid(
                "messages", f"{where}.content has half a surrogate pair, which UTF-8 cannot say"
            )


def _check_image(part: ImagePart, where: str) -> None:
    try:
        check_image(part.image_url.url)
    except ImageInvalid as error:
        raise OptionInvalid("messages", f"{where}.content: {error}") from None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _converted(said: dict[str, object], kind: type[_T]) -> _T:
    try:
        return _convert(said, kind)
    except msgspec.ValidationError as error:
        # In the caller's words: what msgspec puts last, the place, comes first.
        what, _, at = str(error).rpartition(" - at `$.")
        place = at.rstrip("`")
        name = place.partition("[")[0].partition(".")[0]
        raise OptionInvalid(name, what if place == name else f"{what}, at {place}") from None
