"""Embeddings on OpenAI's wire: `POST /embeddings`.

Shapes: OpenAI's published OpenAPI document (CreateEmbeddingRequest, CreateEmbeddingResponse). A vector comes as JSON
numbers, or as base64 of little-endian 32-bit floats where that is asked for.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from greenroom.actors.events import Usage
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest, vectors
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.wire import RejectedAnswer, TokenCount, WireRequest

MAX_INPUTS = 2048


class _Body(Struct, frozen=True, omit_defaults=True):
    model: str
    input: tuple[str, ...]
    dimensions: int | None = None
    encoding_format: Literal["base64"] | None = None


class _Embedding(Struct, gc=False):
    embedding: list[float] | str
    index: int


class _Usage(Struct, gc=False):
    prompt_tokens: TokenCount | None = None


class _Answer(Struct, gc=False):
    data: list[_Embedding]
    model: str = ""
    usage: _Usage | None = None


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def encode(request: EmbeddingRequest, model: str, *, base64: bool) -> WireRequest:
    """See `EmbeddingCodec.encode_embeddings`; `base64` is whether to ask for it where the request does not say."""
    asked = request.encoding == "base64" or (request.encoding is None and base64)
    return WireRequest(
        "/embeddings", _encode(_Body(model, request.inputs, request.dimensions, "base64" if asked else None))
    )


def decode(body: bytes) -> EmbeddingAnswer:
    """See `EmbeddingCodec.decode_embeddings`."""
    try:
        answer = _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
    data = sorted(answer.data, key=lambda each: each.index)
    if [each.index for each in data] != list(range(len(data))):
        raise RejectedAnswer("the vectors' places are not 0, 1, 2 and so on")
    used = answer.usage.prompt_tokens if answer.usage else None
    return EmbeddingAnswer(
        vectors=vectors([each.embedding for each in data]),
        usage=Usage(used or 0),
        usage_reported=used is not None,
        model=answer.model,
    )
