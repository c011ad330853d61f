"""Bedrock's Converse wire: `POST /model/MODEL/converse`, and `/converse-stream` with Amazon's event stream.

Shapes: Amazon Bedrock API reference. A Bedrock API key is sent as a bearer token; without one, requests are signed where they
are sent (`signing`).
"""

from collections.abc import Mapping
from urllib.parse import quote

import msgspec
from msgspec import UNSET, Raw, structs

from greenroom.actors.events import ProviderError, ToolCall, Usage
from greenroom.actors.providers.accumulate import chat_completion
from greenroom.actors.providers.bedrock import embeddings
from greenroom.actors.providers.bedrock.answer import (
    Reasoning,
    ServiceTier,
    TokenUsage,
    Wire,
    finish_reason,
    reasoning_state,
    usage_of,
)
from greenroom.actors.providers.bedrock.errors import REQUEST_ID_HEADER, failure
from greenroom.actors.providers.bedrock.request import body_of
from greenroom.actors.providers.bedrock.stream import ConverseStreamDecoder
from greenroom.actors.providers.chat import ChatRequest
from greenroom.actors.providers.counting import Counting, input_of, kept
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest, no_base64
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.keyed import KeyedWire
from greenroom.actors.providers.options import RequestReader
from greenroom.actors.providers.wire import Completion, RejectedAnswer, WireRequest

_COUNTED = frozenset({"messages", "system", "toolConfig", "additionalModelRequestFields"})
_PROFILES = frozenset({"us", "us-gov", "eu", "apac", "jp", "au", "ca", "global"})
"""What ids of inference profiles that Amazon made begin with: the geography that they route within."""
_STREAM_HEADERS = {"Accept": "application/vnd.amazon.eventstream"}


class _ToolUse(Wire):
    tool_use_id: str = ""
    name: str = ""
    input: Raw | msgspec.UnsetType = UNSET


class _Block(Wire):
    text: str = ""
    tool_use: _ToolUse | None = None
    reasoning_content: Reasoning | None = None


class _Message(Wire):
    content: list[_Block]


class _Output(Wire):
    message: _Message


class _Answer(Wire):
    output: _Output
    stop_reason: str | None = None
    usage: TokenUsage | None = None
    service_tier: ServiceTier | None = None


_decode_answer = msgspec.json.Decoder(_Answer).decode


class BedrockConverse(Counting, KeyedWire):
    """The codec.

    Args:
        provider: the host's name, for errors.
    """

    request_id_header = REQUEST_ID_HEADER

    def encode(self, request: ChatRequest, model: str, *, stream: bool = False) -> WireRequest:
        """See `Codec.encode`. `model` is an id of a model or of an inference profile, or an ARN."""
        body = body_of(RequestReader(request, self._provider, model))
        path = f"/model/{quote(model, safe='')}/converse"
        if stream:
            return WireRequest(f"{path}-stream", body, headers=_STREAM_HEADERS)
        return WireRequest(path, body)

    def decode(self, body: bytes) -> Completion:
        """See `Codec.decode`."""
        try:
            body.decode()  # the decoder does not look at what it skips, and the input of a tool is handed on
            answer = _decode_answer(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
        blocks = answer.output.message.content
        thoughts = [block.reasoning_content for block in blocks if block.reasoning_content is not None]
        parts = Completion(
            id="",
            model="",
            text="".join(block.text for block in blocks),
            finish_reason=finish_reason(answer.stop_reason),
            usage=usage_of(answer.usage, answer.service_tier) if answer.usage else Usage(),
            usage_reported=answer.usage is not None,
            raw=Raw(),
            reasoning="".join(thought.reasoning_text.text for thought in thoughts if thought.reasoning_text),
            tool_calls=tuple(_tool_call(block.tool_use) for block in blocks if block.tool_use is not None),
            reasoning_state=reasoning_state(thoughts),
        )
        return structs.replace(parts, raw=chat_completion(parts))

    def encode_count(self, request: ChatRequest, model: str) -> WireRequest:
        """See `TokenCounter.encode_count`: `POST /model/MODEL/count-tokens`, which knows models and not their profiles."""
        body = kept(body_of(RequestReader(input_of(request), self._provider, model)), _COUNTED)
        prefix, _, bare = model.partition(".")
        path = f"/model/{quote(bare if prefix in _PROFILES else model, safe='')}/count-tokens"
        return WireRequest(path, b'{"input":{"converse":%s}}' % body)

    def stream_decoder(self) -> ConverseStreamDecoder:
        """See `Codec.stream_decoder`."""
        return ConverseStreamDecoder()

    def max_embedding_inputs(self, model: str) -> int:
        """See `EmbeddingCodec.max_embedding_inputs`."""
        return embeddings.max_inputs(model)

    def encode_embeddings(self, request: EmbeddingRequest, model: str) -> WireRequest:
        """See `EmbeddingCodec.encode_embeddings`."""
        no_base64(request, self._provider, model)
        body = embeddings.body_of(request, self._provider, model)
        return WireRequest(f"/model/{quote(model, safe='')}/invoke", body)

    def decode_embeddings(self, body: bytes) -> EmbeddingAnswer:
        """See `EmbeddingCodec.decode_embeddings`."""
        return embeddings.decode(body)

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ProviderError:
        """See `Codec.failure`."""
        return failure(self._provider, status, headers, body, now_s)


def _tool_call(tool: _ToolUse) -> ToolCall:
    return ToolCall(tool.tool_use_id, tool.name, "{}" if tool.input is UNSET else bytes(tool.input).decode())
