"""Embeddings on Gemini's wire: `POST /models/MODEL:batchEmbedContents`.

Shapes: Google's Gemini API reference, "batchEmbedContents".
"""

import msgspec
from msgspec import Struct

from greenroom.actors.events import Usage
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest, vectors
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.wire import RejectedAnswer, TokenCount

MAX_INPUTS = 100


class _Wire(Struct, rename="camel", omit_defaults=True, gc=False):
    pass


class _Part(_Wire):
    text: str


class _Content(_Wire):
    parts: tuple[_Part]


class _One(_Wire):
    model: str
    content: _Content
    output_dimensionality: int | None = None


class _Body(_Wire):
    requests: list[_One]


class _Values(_Wire):
    values: list[float]


class _Usage(_Wire):
    prompt_token_count: TokenCount | None = None


class _Answer(_Wire):
    embeddings: list[_Values]
    usage_metadata: _Usage | None = None


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def body_of(request: EmbeddingRequest, resource: str) -> bytes:
    """The body of one request; `resource` is the model's, which each input names again."""
    return _encode(
        _Body([_One(resource, _Content((_Part(text),)), request.dimensions) for text in request.inputs])
    )


def decode(body: bytes) -> EmbeddingAnswer:
    """See `EmbeddingCodec.decode_embeddings`."""
    try:
        answer = _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
    used = answer.usage_metadata.prompt_token_count if answer.usage_metadata else None
    return EmbeddingAnswer(
        vectors=vectors([each.values for each in answer.embeddings]),
        usage=Usage(used or 0),
        usage_reported=used is not None,
    )
