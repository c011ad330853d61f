"""Google's Gemini wire: `POST /models/MODEL:generateContent`, and `:streamGenerateContent` with server-sent events.

Shapes: Google's Gemini API reference. `/v1` and `/v1beta` differ in what models they reach and stand in the base URL.
"""

from collections.abc import Mapping
from urllib.parse import quote

import msgspec

from greenroom.actors.events import Finished, ProviderError
from greenroom.actors.providers.accumulate import Accumulator
from greenroom.actors.providers.chat import ChatRequest
from greenroom.actors.providers.counting import Counting, input_of
from greenroom.actors.providers.decoder import FrameDecoder
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest, no_base64
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.gemini import embeddings
from greenroom.actors.providers.gemini.answer import AnswerReader, decode_response
from greenroom.actors.providers.gemini.errors import as_error, failure
from greenroom.actors.providers.gemini.request import body_of
from greenroom.actors.providers.keyed import KeyedWire
from greenroom.actors.providers.options import RequestReader
from greenroom.actors.providers.sse import ServerSentEvent, SseSplitter
from greenroom.actors.providers.wire import Completion, RejectedAnswer, WireRequest

_STREAM_HEADERS = {"Accept": "text/event-stream"}


class Gemini(Counting, KeyedWire):
    """The codec.

    Args:
        provider: the host's name, for errors.
    """

    service_tier_header = "x-gemini-service-tier"

    def __init__(self, provider: str) -> None:
        super().__init__(provider, key_header="x-goog-api-key")

    def encode(self, request: ChatRequest, model: str, *, stream: bool = False) -> WireRequest:
        """See `Codec.encode`. `model` may be a resource (`tunedModels/x`); a bare name is one of `models/`."""
        body = body_of(RequestReader(request, self._provider, model), model)
        resource = quote(_resource(model))
        if stream:
            return WireRequest(f"/{resource}:streamGenerateContent?alt=sse", body, headers=_STREAM_HEADERS)
        return WireRequest(f"/{resource}:generateContent", body)

    def decode(self, body: bytes) -> Completion:
        """See `Codec.decode`."""
        whole = Accumulator()
        answer = AnswerReader(whole.add)
        try:
            answer.take(decode_response(body))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
        if answer.reason is None:
            raise RejectedAnswer("an answer without a finishReason")
        state = answer.state()
        if state is not None:
            whole.add(state)
        whole.add(Finished(answer.reason))
        return whole.completion()

    def encode_count(self, request: ChatRequest, model: str) -> WireRequest:
        """See `TokenCounter.encode_count`: `POST /models/MODEL:countTokens` of a whole request."""
        resource = _resource(model)
        body = body_of(RequestReader(input_of(request), self._provider, model), model)
        whole = b'{"generateContentRequest":{"model":%s,%s}' % (msgspec.json.encode(resource), body[1:])
        return WireRequest(f"/{quote(resource)}:countTokens", whole)

    def stream_decoder(self) -> "GeminiStreamDecoder":
        """See `Codec.stream_decoder`."""
        return GeminiStreamDecoder()

    def failure(self, status: int, headers: Mapping[str, str], body: bytes, now_s: float) -> ProviderError:
        """See `Codec.failure`."""
        return failure(self._provider, status, headers, body, now_s)

    def max_embedding_inputs(self, model: str) -> int:
        """See `EmbeddingCodec.max_embedding_inputs`."""
        return embeddings.MAX_INPUTS

    def encode_embeddings(self, request: EmbeddingRequest, model: str) -> WireRequest:
        """See `EmbeddingCodec.encode_embeddings`."""
        no_base64(request, self._provider, model)
        resource = _resource(model)
        return WireRequest(f"/{quote(resource)}:batchEmbedContents", embeddings.body_of(request, resource))

    def decode_embeddings(self, body: bytes) -> EmbeddingAnswer:
        """See `EmbeddingCodec.decode_embeddings`."""
        return embeddings.decode(body)


def _resource(model: str) -> str:
    return model if "/" in model else f"models/{model}"


class GeminiStreamDecoder(FrameDecoder[ServerSentEvent]):
    """A `StreamDecoder`. Nothing marks the end of a stream: it is whole where it ends after a finish reason."""

    def __init__(self) -> None:
        super().__init__(SseSplitter())
        self._answer = AnswerReader(self.tell)

    def take(self, frame: ServerSentEvent) -> None:
        """See `FrameDecoder.take`."""
        if not frame.data:
            return
        try:
            response = decode_response(frame.data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise RejectedAnswer(f"{error}; the event begins {excerpt(frame.data)!r}") from None
        if response.error is None:
            self._answer.take(response)
            return
        failed = as_error(response.error)
        message = failed.message or excerpt(frame.data)
        self.close(msgspec.structs.replace(failed, message=message))

    def ending(self) -> Finished | ProviderError:
        """See `FrameDecoder.ending`."""
        if self._answer.reason is None or self._splitter.cut:
            return self.truncated("its finish reason")
        state = self._answer.state()
        if state is not None:
            self.tell(state)
        return Finished(self._answer.reason)
