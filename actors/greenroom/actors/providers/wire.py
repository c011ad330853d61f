"""What a codec gives and takes: bytes and values, no socket, clock, task or logger."""

from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Final, Literal, Protocol

from msgspec import Meta, Raw, Struct

from greenroom.actors.events import (
    FinishReason,
    ProviderError,
    ReasoningState,
    StreamEvent,
    TokenLogprob,
    ToolCall,
    Usage,
)
from greenroom.actors.providers.chat import ChatRequest
from greenroom.actors.settings import Secret

TokenCount = Annotated[int, Meta(ge=0, le=10**10)]
"""A number of tokens that a provider reports. One beyond is a server gone wrong, and its cost would fit no ledger."""
SearchCount = Annotated[int, Meta(ge=0, le=10**4)]
"""A number of searches that a provider reports, each of which may cost as much as ten thousand tokens."""
_STANDARD_TIERS = frozenset({"auto", "default", "on_demand", "standard", "standard_only", "unspecified"})


def service_tier(said: object) -> str:
    """What an answer says that it was served by, as `Usage` has it: empty for what a provider calls its standard."""
    name = said.lower() if isinstance(said, str) else ""
    for prefix in ("service_tier_", "on_demand_"):
        name = name.removeprefix(prefix)
    return "" if name in _STANDARD_TIERS else name


class WireRequest(Struct, frozen=True, gc=False):
    """One HTTP request, ready to send: the path below the provider's base URL, and the body's bytes.

    `headers` are this request's own, on top of `Codec.session_headers`.
    """

    path: str
    body: bytes
    method: str = "POST"
    headers: dict[str, str] = {}


class Completion(Struct, frozen=True, kw_only=True, gc=False):
    """A whole answer, decoded: the normalised parts, and JSON of it in `raw` (one line).

    `raw` is OpenAI's `chat.completion` whatever the wire: the provider's own bytes where it speaks that shape and
    answered whole, and else put together from the parts.
    """

    id: str
    model: str
    text: str
    finish_reason: FinishReason
    usage: Usage
    usage_reported: bool
    raw: Raw
    reasoning: str = ""
    refusal: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()
    reasoning_state: ReasoningState | None = None


class RejectedAnswer(Exception):
    """An answer that is not what the dialect promises. Theirs, not ours: the call ends as `protocol`."""


class NeedData(Enum):
    """The type of `NEED_DATA`."""

    NEED_DATA = "NEED_DATA"


NEED_DATA: Final = NeedData.NEED_DATA
"""What a decoder answers when it has no event to tell until more bytes come."""


class StreamDecoder(Protocol):
    """The decoder of one streamed answer: bytes in, events out, in the order of `events.STREAM_ORDER`.

    It raises nothing: what the dialect does not allow becomes the terminal `ProviderError`, of kind `protocol`. After
    the terminal event, further bytes are ignored and there are no further events.
    """

    def receive(self, data: bytes) -> None:
        """Take the next bytes of the body, cut anywhere."""
        ...

    def next_event(self) -> StreamEvent | Literal[NeedData.NEED_DATA]:
        """The next event that the bytes so far tell of, or `NEED_DATA`."""
        ...

    def end(self) -> None:
        """No bytes come any more. Unless there was one, the terminal event is next.

        A body that ends early is a `ProviderError` of kind `connection`: its answer is truncated.
        """
        ...


class Codec(Protocol):
    """One wire format. Both directions are synchronous and keep nothing between calls."""

    request_id_header: str
    """The header by which the provider names a request, for its support."""
    service_tier_header: str
    """The header that tells which service tier served a request; empty where the body tells it, or nothing does."""

    def session_headers(self, key: Secret | None) -> dict[str, str]:
        """What every request of this wire carries: authentication and versions. Not for logs."""
        ...

    def encode(self, request: ChatRequest, model: str, *, stream: bool = False) -> WireRequest:
        """The request's bytes, asking the upstream `model` for a whole answer or a streamed one.

        Raises:
            ProviderFailed: with kind `unsupported_capability`, naming an option the wire cannot express.
        """
        ...

    def decode(self, body: bytes) -> Completion:
        """A 2xx body as a Completion.

        Raises:
            RejectedAnswer: it is no JSON, or not of the dialect's shape.
            ProviderFailed: it tells that the provider failed, though its status was 2xx.
        """
        ...

    def stream_decoder(self) -> StreamDecoder:
        """A decoder for the 2xx body of one streamed answer."""
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ProviderError:
        """A non-2xx answer as an error, classified from status and code, never by substring.

        `now_s` is unix time, for a Retry-After given as a date.
        """
        ...
