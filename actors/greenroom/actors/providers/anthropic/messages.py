"""Anthropic's Messages wire: `POST /messages`, whole and streamed.

Shapes: Anthropic's API reference, "Create a Message". Two generations of it are spoken, by the `anthropic-version`
header: 2023-06-01 takes the key as `x-api-key`; 2026-10-21 takes it as a bearer token, takes system messages anywhere
in the conversation, and rejects `temperature`, `top_p` and `top_k`.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec
from msgspec import UNSET, Raw, Struct, structs

from greenroom.actors.events import ProviderError, ToolCall, Usage
from greenroom.actors.providers.accumulate import chat_completion
from greenroom.actors.providers.anthropic.errors import failure
from greenroom.actors.providers.anthropic.request import body_of
from greenroom.actors.providers.anthropic.shapes import (
    Block,
    StopDetails,
    WireUsage,
    finish_reason,
    reasoning_state,
    thoughts,
    usage_of,
)
from greenroom.actors.providers.anthropic.stream import MessageStreamDecoder
from greenroom.actors.providers.chat import ChatRequest
from greenroom.actors.providers.counting import Counting, input_of, kept
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.options import RequestReader
from greenroom.actors.providers.wire import Completion, RejectedAnswer, WireRequest
from greenroom.actors.settings import Secret

ApiVersion = Literal["2023-06-01", "2026-10-21"]

_COUNTED = frozenset(
    {"model", "messages", "system", "tools", "tool_choice", "thinking", "output_config", "cache_control"}
)
_STREAM_HEADERS = {"Accept": "text/event-stream"}


class _Answer(Struct, gc=False):
    content: list[Block]
    stop_reason: str | None = None
    stop_details: StopDetails | None = None
    id: str = ""
    model: str = ""
    usage: WireUsage | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


class AnthropicMessages(Counting):
    """The codec.

    Args:
        provider: the host's name, for errors.
        version: the generation of the API.
    """

    request_id_header = "request-id"
    service_tier_header = ""

    def __init__(self, provider: str, version: ApiVersion = "2026-10-21") -> None:
        self._provider = provider
        self._version = version
        self._old = version == "2023-06-01"

    def session_headers(self, key: Secret | None) -> dict[str, str]:
        """See `Codec.session_headers`."""
        headers: dict[str, str] = {"anthropic-version": self._version}
        if key and self._old:
            headers["x-api-key"] = key.reveal()
        elif key:
            headers["Authorization"] = f"Bearer {key.reveal()}"
        return headers

    def encode(self, request: ChatRequest, model: str, *, stream: bool = False) -> WireRequest:
        """See `Codec.encode`. Anthropic demands `max_tokens`; a request without one gets 4096."""
        reader = RequestReader(request, self._provider, model)
        body = body_of(reader, model, old=self._old, stream=stream)
        return WireRequest("/messages", body, headers=_STREAM_HEADERS if stream else {})

    def decode(self, body: bytes) -> Completion:
        """See `Codec.decode`."""
        try:
            body.decode()  # the decoder does not look at what it skips, and the input of a tool is handed on
            answer = _decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
        usage = usage_of(answer.usage) if answer.usage else None
        blocks = answer.content
        parts = Completion(
            id=answer.id,
            model=answer.model,
            text="".join(block.text for block in blocks if block.type == "text"),
            finish_reason=finish_reason(answer.stop_reason),
            usage=usage or Usage(),
            usage_reported=usage is not None,
            raw=Raw(),
            reasoning="".join(block.thinking for block in blocks if block.type == "thinking"),
            refusal=answer.stop_details.explanation if answer.stop_details else None,
            tool_calls=tuple(_tool_call(block) for block in blocks if block.type == "tool_use"),
            reasoning_state=reasoning_state(thoughts(blocks)),
        )
        return structs.replace(parts, raw=chat_completion(parts))

    def encode_count(self, request: ChatRequest, model: str) -> WireRequest:
        """See `TokenCounter.encode_count`: `POST /messages/count_tokens`."""
        whole = self.encode(input_of(request), model)
        return WireRequest("/messages/count_tokens", kept(whole.body, _COUNTED))

    def stream_decoder(self) -> MessageStreamDecoder:
        """See `Codec.stream_decoder`."""
        return MessageStreamDecoder()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ProviderError:
        """See `Codec.failure`."""
        return failure(self._provider, status, headers, body, now_s)


def _tool_call(block: Block) -> ToolCall:
    arguments = "{}" if block.input is UNSET else bytes(block.input).decode()
    return ToolCall(block.id, block.name, arguments)
