"""Embeddings at Bedrock: `POST /model/MODEL/invoke`, in the words of whose model it is, Amazon's Titan or Cohere's.

Shapes: Amazon Bedrock user guide, "Amazon Titan Text Embeddings" and "Cohere Embed". Titan takes one text at a time and
counts its tokens; Cohere takes many, and Bedrock tells their tokens in a header alone, so that they are charged at the
upper bound.
"""

from typing import Literal

import msgspec
from msgspec import Struct

from greenroom.actors.events import ProviderError, ProviderFailed, Usage
from greenroom.actors.providers.embeddings import EmbeddingAnswer, EmbeddingRequest, vectors
from greenroom.actors.providers.faults import excerpt
from greenroom.actors.providers.wire import RejectedAnswer, TokenCount

_COHERE_INPUTS = 96


class _Titan(Struct, frozen=True, rename="camel", omit_defaults=True):
    input_text: str
    dimensions: int | None = None


class _Cohere(Struct, frozen=True, omit_defaults=True):
    texts: tuple[str, ...]
    input_type: str
    truncate: Literal["NONE"] | None = None
    embedding_types: tuple[Literal["float"]] | None = None
    output_dimension: int | None = None


class _ByType(Struct, gc=False):
    float: list[list[float]]


class _Answer(Struct, gc=False):
    embedding: list[float] | None = None
    inputTextTokenCount: TokenCount | None = None  # noqa: N815 - Titan's name
    embeddings: list[list[float]] | _ByType | None = None


_encode = msgspec.json.Encoder().encode
_decode_answer = msgspec.json.Decoder(_Answer).decode


def max_inputs(model: str) -> int:
    """Texts that one request to a model may hold."""
    return _COHERE_INPUTS if _maker(model) == "cohere" else 1


def body_of(request: EmbeddingRequest, provider: str, model: str) -> bytes:
    """See `EmbeddingCodec.encode_embeddings`. Nothing is cut: a text that is too long is an error."""
    maker = _maker(model)
    if maker == "titan":
        return _encode(_Titan(request.inputs[0], request.dimensions))
    if maker == "cohere":
        return _encode(
            _Cohere(
                request.inputs, "search_document", "NONE", ("float",), output_dimension=request.dimensions
            )
        )
    raise ProviderFailed(
        ProviderError(
            kind="unsupported_capability",
            message="model: of this provider's models those of Titan and Cohere are known to embed texts",
            provider=provider,
            model=model,
            param="model",
        )
    )


def decode(body: bytes) -> EmbeddingAnswer:
    """See `EmbeddingCodec.decode_embeddings`."""
    try:
        answer = _decode_answer(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RejectedAnswer(f"{error}; the body begins {excerpt(body)!r}") from None
    found = answer.embeddings.float if isinstance(answer.embeddings, _ByType) else answer.embeddings
    if answer.embedding is not None:
        found = [answer.embedding]
    if found is None:
        raise RejectedAnswer(f"an answer without embeddings; the body begins {excerpt(body)!r}")
    used = answer.inputTextTokenCount
    return EmbeddingAnswer(vectors=vectors(found), usage=Usage(used or 0), usage_reported=used is not None)


def _maker(model: str) -> Literal["titan", "cohere"] | None:
    """Whose words a model takes, by its id, which an ARN or an inference profile holds too."""
    if "cohere.embed" in model:
        return "cohere"
    return "titan" if "amazon.titan-embed-text" in model else None
