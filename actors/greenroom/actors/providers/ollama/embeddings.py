"""Embeddings on Ollama's own wire: `POST /api/embed`.

Shapes: Ollama's API documentation, "Generate embeddings". An input that is too long is an error, not cut in silence.
"""

import msgspec
from msgspec import Struct

from greenroom.actors.events import Usage
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest, vectors
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.wire import RejectedAnswer, TokenCount, WireRequest

MAX_INPUTS = 512


class _Body(Struct, frozen=True, omit_defaults=True):
    model: str
    input: tuple[str, ...]
    truncate: bool
    dimensions: int | None = None


class _Answer(Struct, gc=False):
    embeddings: list[list[float]]
    model: str = ""
    prompt_eval_count: TokenCount | None = None


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def encode(request: EmbeddingRequest, model: str) -> WireRequest:
    """See `EmbeddingCodec.encode_embeddings`."""
    return WireRequest(
        "/api/embed", _encode(_Body(model, request.inputs, truncate=False, dimensions=request.dimensions))
    )


def decode(body: bytes) -> EmbeddingAnswer:
    """See `EmbeddingCodec.decode_embeddings`."""
    try:
        answer = _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
    return EmbeddingAnswer(
        vectors=vectors(answer.embeddings),
        usage=Usage(answer.prompt_eval_count or 0),
        usage_reported=answer.prompt_eval_count is not None,
        model=answer.model,
    )
