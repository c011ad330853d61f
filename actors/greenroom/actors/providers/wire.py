"""What a codec gives and takes: bytes and values, no socket, clock, task or logger."""

from collections.abc import Mapping
from typing import Protocol

from msgspec import Raw, Struct

from greenroom.actors.events import FinishReason, ProviderError, ToolCall, Usage
from greenroom.actors.providers.chat import ChatRequest


class WireRequest(Struct, frozen=True):
    """One HTTP request, ready to send: the path below the provider's base URL, and the body's bytes."""

    path: str
    body: bytes
    method: str = "POST"


class Completion(Struct, frozen=True, kw_only=True):
    """A whole answer, decoded: the normalised parts, and the provider's own JSON in `raw` (one line)."""

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


class RejectedAnswer(Exception):
    """An answer that is not what the dialect promises. Theirs, not ours: the call ends as `protocol`."""


class Codec(Protocol):
    """One wire format. Both directions are synchronous and keep nothing between calls."""

    def encode(self, request: ChatRequest, model: str) -> WireRequest:
        """The request's bytes, asking for the upstream `model`.

        Raises:
            ProviderFailed: with kind `unsupported_capability`, naming an option the wire cannot express.
        """
        ...

    def decode(self, body: bytes) -> Completion:
        """A 2xx body as a Completion.

        Raises:
            RejectedAnswer: it is no JSON, or not of the dialect's shape.
        """
        ...

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ProviderError:
        """A non-2xx answer as an error, classified from status and code, never by substring.

        `now_s` is unix time, for a Retry-After given as a date.
        """
        ...
