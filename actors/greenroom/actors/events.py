"""What is told: the stream events common to all providers and their legal order, normalised usage, and the
runtime's own event table.

Every Struct here is frozen and carries no behaviour beyond arithmetic on its own fields, so that one vocabulary
serves codecs, actors, logs, traces, the live page and users' code.
"""

from typing import Literal

from msgspec import Raw, Struct

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]
"""Why a model stopped, in OpenAI's words, whatever the provider said."""

ErrorKind = Literal[
    "authentication",
    "permission",
    "not_found",
    "invalid_request",
    "context_length",
    "rate_limited",
    "overloaded",
    "server",
    "timeout",
    "connection",
    "stalled",
    "circuit_open",
    "cancelled",
    "budget_exceeded",
    "content_filter",
    "unsupported_capability",
    "protocol",
    "internal",
]
"""The classes of failure of a provider call. What is retried and what fails over is decided from these alone.

`internal` is a fault of greenroom's own, met by one line of a job.
"""

RETRYABLE: frozenset[ErrorKind] = frozenset(
    {"rate_limited", "overloaded", "server", "timeout", "connection", "stalled"}
)
"""What another attempt may mend. Everything else is the caller's or the key's to mend."""


class Usage(Struct, frozen=True, gc=False):
    """Tokens of one or more attempts in disjoint classes: each token is counted in exactly one field.

    `output_tokens` are visible output, `reasoning_tokens` are apart; `input_tokens` exclude what was read from or
    written to a cache, audio, and images and video where the provider counts these by themselves. `citation_tokens`
    are what a model that searches read there. Searches are those that the provider made, which some charge by number.
    As an event of a stream it is what the call used so far, all of it: a later one replaces the earlier.

    `service_tier` is what the provider says that it served the request by, where that is not its standard one:
    `priority`, `flex`, `batch`. Of attempts in several tiers it is `mixed`.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_5m_tokens: int = 0
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    audio_input_tokens: int = 0
    audio_output_tokens: int = 0
    cached_audio_tokens: int = 0
    image_input_tokens: int = 0
    image_output_tokens: int = 0
    video_input_tokens: int = 0
    video_output_tokens: int = 0
    citation_tokens: int = 0
    web_searches: int = 0
    file_searches: int = 0
    service_tier: str = ""

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
            self.cached_tokens + other.cached_tokens,
            self.cache_write_5m_tokens + other.cache_write_5m_tokens,
            self.cache_write_1h_tokens + other.cache_write_1h_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.audio_input_tokens + other.audio_input_tokens,
            self.audio_output_tokens + other.audio_output_tokens,
            self.cached_audio_tokens + other.cached_audio_tokens,
            self.image_input_tokens + other.image_input_tokens,
            self.image_output_tokens + other.image_output_tokens,
            self.video_input_tokens + other.video_input_tokens,
            self.video_output_tokens + other.video_output_tokens,
            self.citation_tokens + other.citation_tokens,
            self.web_searches + other.web_searches,
            self.file_searches + other.file_searches,
            _tier_of_both(self.service_tier, other.service_tier),
        )

    @property
    def total_input_tokens(self) -> int:
        """All tokens that went in: fresh, cached, written to a cache, audio, images, video."""
        return (
            self.input_tokens
            + self.cached_tokens
            + self.cache_write_5m_tokens
            + self.cache_write_1h_tokens
            + self.audio_input_tokens
            + self.cached_audio_tokens
            + self.image_input_tokens
            + self.video_input_tokens
        )

    @property
    def total_output_tokens(self) -> int:
        """All tokens that came out: visible, reasoning, audio, images, video, citations."""
        return (
            self.output_tokens
            + self.reasoning_tokens
            + self.audio_output_tokens
            + self.image_output_tokens
            + self.video_output_tokens
            + self.citation_tokens
        )


def _tier_of_both(one: str, other: str) -> str:
    return one or other if one == other or not (one and other) else "mixed"


class ProviderError(Struct, frozen=True, kw_only=True):
    """A provider's failure as data: the terminal event of a stream, and what `ProviderFailed` carries.

    `status` is the HTTP status where there was an answer; `retry_after_s` is the provider's own advice;
    `attempts` counts the attempts made so far, this one included; 0: the request was refused before any.
    """

    kind: ErrorKind
    message: str
    provider: str = ""
    model: str = ""
    status: int | None = None
    code: str | None = None
    param: str | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    attempts: int = 1

    @property
    def is_retryable(self) -> bool:
        """Whether the same request may fare better later: after `retry_after_s`, where that is told."""
        return self.kind in RETRYABLE or self.kind == "circuit_open"


class Tried(Struct, frozen=True, gc=False):
    """One attempt of a call, ended: of which model, with what outcome (`ok`, `cancelled` or an error kind), and what it
    was charged, in pico-dollars; `estimated` where the provider did not say.
    """

    provider: str
    model: str
    outcome: str
    cost_pusd: int
    estimated: bool = False
    request_id: str | None = None


class ProviderFailed(Exception):
    """A provider call failed for good, or one attempt of it did.

    The provider or the way to it is to blame unless `error.kind` is one of the caller's own mistakes
    (`invalid_request`, `context_length`, `unsupported_capability`, `authentication`...). `cost_pusd` is what all
    attempts were charged, in pico-dollars, and `tried` tells of each. Never holds a key.
    """

    def __init__(self, error: ProviderError, *, cost_pusd: int = 0, tried: tuple[Tried, ...] = ()) -> None:
        super().__init__(error)
        self.error = error
        self.cost_pusd = cost_pusd
        self.tried = tried

    def __str__(self) -> str:
        error = self.error
        where = f"{error.provider}/{error.model}" if error.model else error.provider
        status = f" {error.status}" if error.status is not None else ""
        tries = f" after {error.attempts} attempts" if error.attempts > 1 else ""
        return f"{where}: {error.kind}{status}{tries}: {error.message}"


class ToolCall(Struct, frozen=True):
    """A function call that a model asked for; `arguments` is the JSON text as the model wrote it."""

    id: str
    name: str
    arguments: str


class TokenLogprob(Struct, frozen=True):
    """One output token, the logarithm of its probability, and the likeliest tokens at its place.

    `bytes` are the token's UTF-8 bytes where the provider gives them: one character may be several tokens.
    """

    token: str
    logprob: float
    bytes: tuple[int, ...] | None = None
    top_logprobs: tuple["TokenLogprob", ...] = ()


class Started(Struct, frozen=True, gc=False):
    """A provider began to answer: its own id of the answer, its own name of the model, unix time if it tells."""

    id: str = ""
    model: str = ""
    created_s: int = 0


class TextDelta(Struct, frozen=True):
    """A further piece of the answer's text. Never empty, but where log probabilities come without text."""

    text: str
    logprobs: tuple[TokenLogprob, ...] = ()


class ReasoningDelta(Struct, frozen=True, gc=False):
    """A further piece of what the model thinks before it answers, where the provider shows it."""

    text: str


class RefusalDelta(Struct, frozen=True, gc=False):
    """A further piece of a refusal, where the provider tells it from an answer."""

    text: str


class ToolCallDelta(Struct, frozen=True, gc=False):
    """A further piece of a tool call's arguments.

    `index` counts the calls of the answer from 0, without gaps. The first piece of a call carries its `name`, and its
    `id` where the provider gives one; later ones leave both empty. The pieces of several calls may come mixed.
    """

    index: int
    arguments: str = ""
    id: str = ""
    name: str = ""


class ToolResult(Struct, frozen=True):
    """What came of a tool call: `output` is what the model was told, an error's words where it `failed`."""

    id: str
    name: str
    arguments: str
    output: str
    failed: bool
    duration_s: float


class ReasoningState(Struct, frozen=True):
    """What a provider wants back, unread, with the assistant's message: signed or encrypted thoughts, as JSON.

    `wire` is the wire format that it belongs to; the others leave it out. Without it a model that thinks and calls
    tools loses its thread between rounds, and some providers refuse the next request.
    """

    wire: str
    items: Raw


class Finished(Struct, frozen=True, gc=False):
    """The answer is whole. The last event of a stream that went well."""

    finish_reason: FinishReason


Delta = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta
"""Content. Only this keeps a stream from counting as stalled, and after the first of it nothing is tried again."""

StreamEvent = Started | Delta | Usage | ReasoningState | Finished | ProviderError
"""What a stream consists of, whatever the provider."""

CallEvent = StreamEvent | ToolResult
"""What a caller is told of: the providers' events, and what tools gave between two answers."""

StreamState = Literal["new", "open", "closed"]

STREAM_ORDER: dict[tuple[StreamState, type[StreamEvent]], StreamState] = {
    ("new", Started): "open",
    ("new", ProviderError): "closed",
    ("open", TextDelta): "open",
    ("open", ReasoningDelta): "open",
    ("open", RefusalDelta): "open",
    ("open", ToolCallDelta): "open",
    ("open", Usage): "open",
    ("open", ReasoningState): "open",
    ("open", Finished): "closed",
    ("open", ProviderError): "closed",
}
"""The legal order of events: what may come in which state, and the state after it. Anything else is a codec's bug."""


class OutOfOrder(Exception):
    """A codec told events in an order that `STREAM_ORDER` does not have. Ours, never the provider's."""


class StreamOrder:
    """Follows one stream through `STREAM_ORDER`, and the one rule that a table cannot hold: tool calls count up."""

    def __init__(self) -> None:
        self.state: StreamState = "new"
        self._calls = 0

    def check(self, event: StreamEvent) -> None:
        """Take the next event.

        Raises:
            OutOfOrder: it may not come here.
        """
        state = STREAM_ORDER.get((self.state, type(event)))
        if state is None:
            raise OutOfOrder(f"{type(event).__name__} in a stream that is {self.state}")
        if isinstance(event, ToolCallDelta):
            self._check_call(event)
        self.state = state

    def _check_call(self, event: ToolCallDelta) -> None:
        if not 0 <= event.index <= self._calls:
            raise OutOfOrder(f"tool call {event.index} after {self._calls} calls")
        if event.index == self._calls:
            if not event.name:
                raise OutOfOrder(f"tool call {event.index} begins without a name")
            self._calls += 1
        elif event.name or event.id:
            raise OutOfOrder(f"tool call {event.index} is named twice")


Operation = Literal["chat", "embeddings"]
"""What a call asks for, in the words of OpenTelemetry's GenAI conventions."""


class AttemptFailed(Struct, frozen=True, kw_only=True):
    """One attempt of a call failed. Told before any waiting, so an operator knows now what is retried when.

    `retry_in_s` is None where the call is given up; `cost_pusd` is what the attempt is charged, in pico-dollars;
    `started_s` is when its call began, by the clock's `monotonic`.
    """

    call_id: int
    error: ProviderError
    retry_in_s: float | None
    cost_pusd: int
    job_id: str | None = None
    operation: Operation = "chat"
    started_s: float = 0.0


class FailedOver(Struct, frozen=True, kw_only=True):
    """A call goes on to the next model. `error` is why, `cost_pusd` what the call was charged so far, in pico-dollars, and
    `passed_over` the fallbacks before that could not be asked, each with the reason.
    """

    call_id: int
    from_model: str
    to_model: str
    error: ProviderError
    cost_pusd: int
    passed_over: tuple[str, ...] = ()
    job_id: str | None = None


class OptionsDropped(Struct, frozen=True, kw_only=True):
    """A model is not sent some of a request's options, which it cannot take: the caller said `unsupported="drop"`."""

    call_id: int
    model: str
    options: tuple[str, ...]
    job_id: str | None = None


class HedgeMade(Struct, frozen=True, kw_only=True):
    """A call whose answer is late is asked of `model` as well, `after_s` seconds after the first attempt began."""

    call_id: int
    model: str
    after_s: float
    job_id: str | None = None


class CallDone(Struct, frozen=True, kw_only=True, gc=False):
    """A call was answered: its attempts, what it used and cost, and how long it took from hold to settle."""

    call_id: int
    provider: str
    model: str
    attempts: int
    usage: Usage
    cost_pusd: int
    duration_s: float
    job_id: str | None = None
    operation: Operation = "chat"


class OverCharged(Struct, frozen=True, kw_only=True):
    """A provider charged more than the hold's upper bound; the excess is recorded and told, never hidden."""

    ticket: int
    provider: str
    model: str
    held_pusd: int
    cost_pusd: int


class HoldsReclaimed(Struct, frozen=True, kw_only=True):
    """Attempts that were in flight when another runtime died; each is now charged once, estimated."""

    count: int
    cost_pusd: int


class BreakerChanged(Struct, frozen=True, kw_only=True):
    """A provider's breaker opened, lets one call through to see, or closed again.

    `because` is the kind of the failure that opened it, the last of so many `failures`; for `open_s` nothing is sent.
    """

    provider: str
    state: Literal["closed", "open", "half_open"]
    because: str = ""
    failures: int = 0
    open_s: float = 0.0


Event = (
    AttemptFailed
    | FailedOver
    | HedgeMade
    | OptionsDropped
    | CallDone
    | OverCharged
    | HoldsReclaimed
    | BreakerChanged
)
"""Everything the runtime tells about itself; `greenroom.runtime.telemetry` renders it."""
