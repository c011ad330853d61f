"""OpenAI's Responses wire: `POST /responses`, whole and streamed.

Shapes: OpenAI's API reference, "Create a model response". Nothing is kept at OpenAI: each request holds the whole
conversation, and reasoning goes back encrypted.
"""

from collections.abc import Mapping

import msgspec
from msgspec import Raw, structs

from greenroom.actors.events import ProviderError, TokenLogprob, ToolCall, Usage
from greenroom.actors.providers.accumulate import chat_completion
from greenroom.actors.providers.chat import ChatRequest
from greenroom.actors.providers.counting import Counting
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.keyed import KeyedWire
from greenroom.actors.providers.openai import embeddings
from greenroom.actors.providers.openai.errors import failure
from greenroom.actors.providers.options import RequestReader
from greenroom.actors.providers.responses.answer import (
    BETWEEN_THOUGHTS,
    Item,
    Part,
    decode_item,
    decode_response,
    finish_reason,
    reasoning_state,
    usage_of,
)
from greenroom.actors.providers.responses.counting import encode_count
from greenroom.actors.providers.responses.request import body_of
from greenroom.actors.providers.responses.stream import ResponseStreamDecoder
from greenroom.actors.providers.wire import Completion, RejectedAnswer, WireRequest

_STREAM_HEADERS = {"Accept": "text/event-stream"}


class OpenAIResponses(Counting, KeyedWire):
    """The codec.

    Args:
        provider: the host's name, for errors.
        key_header: what the key travels in.
    """

    def encode(self, request: ChatRequest, model: str, *, stream: bool = False) -> WireRequest:
        """See `Codec.encode`."""
        body = body_of(RequestReader(request, self._provider, model), model, stream=stream)
        return WireRequest("/responses", body, headers=_STREAM_HEADERS if stream else {})

    def decode(self, body: bytes) -> Completion:
        """See `Codec.decode`."""
        try:
            body.decode()  # the decoder does not look at what it skips, and reasoning items are handed on
            response = decode_response(body)
            items = [(decode_item(raw), raw) for raw in response.output]
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
        calls = tuple(
            ToolCall(item.call_id, item.name, item.arguments)
            for item, _ in items
            if item.type == "function_call"
        )
        reason = finish_reason(response, len(calls))
        usage = usage_of(response)
        said = [part for item, _ in items if item.type == "message" for part in item.content or ()]
        parts = Completion(
            id=response.id,
            model=response.model,
            text="".join(part.text for part in said),
            finish_reason=reason,
            usage=usage or Usage(),
            usage_reported=usage is not None,
            raw=Raw(),
            reasoning=BETWEEN_THOUGHTS.join(part.text for item, _ in items for part in _thoughts(item)),
            refusal="".join(part.refusal for part in said) or None,
            tool_calls=calls,
            logprobs=_logprobs(said),
            reasoning_state=reasoning_state([raw for item, raw in items if item.type == "reasoning"]),
        )
        return structs.replace(parts, raw=chat_completion(parts, int(response.created_at)))

    def encode_count(self, request: ChatRequest, model: str) -> WireRequest:
        """See `TokenCounter.encode_count`."""
        return encode_count(request, self._provider, model)

    def stream_decoder(self) -> ResponseStreamDecoder:
        """See `Codec.stream_decoder`."""
        return ResponseStreamDecoder()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ProviderError:
        """See `Codec.failure`."""
        return failure(self._provider, status, headers, body, now_s)

    def max_embedding_inputs(self, model: str) -> int:
        """See `EmbeddingCodec.max_embedding_inputs`."""
        return embeddings.MAX_INPUTS

    def encode_embeddings(self, request: EmbeddingRequest, model: str) -> WireRequest:
        """See `EmbeddingCodec.encode_embeddings`."""
        return embeddings.encode(request, model, base64=True)

    def decode_embeddings(self, body: bytes) -> EmbeddingAnswer:
        """See `EmbeddingCodec.decode_embeddings`."""
        return embeddings.decode(body)


def _thoughts(item: Item) -> list[Part]:
    if item.type != "reasoning":
        return []
    return [part for part in (*(item.summary or ()), *(item.content or ())) if part.text]


def _logprobs(parts: list[Part]) -> tuple[TokenLogprob, ...]:
    return tuple(logprob for part in parts for logprob in part.logprobs or ())
