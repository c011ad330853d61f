"""Embeddings: what is asked and answered, whatever the wire.

A vector is an `array` of 32-bit floats, which is what models compute and what travels as base64; as JSON numbers they
are rounded to the same 32 bits, so both forms give equal vectors.
"""

import sys
from array import array
from base64 import b64decode
from collections.abc import Iterator, Sequence
from math import isfinite
from typing import Literal, Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from greenroom.actors.events import ProviderError, ProviderFailed, Usage
from greenroom.actors.providers.wire import Codec, RejectedAnswer, WireRequest

Vector: TypeAlias = "array[float]"
"""Type code `f`: 32-bit floats. `numpy.frombuffer(vector, "f4")` takes it without a copy."""

_MAX_REQUEST_BYTES = 300_000
"""Of text in one request: a token is never less than a byte, and OpenAI takes 300 000 tokens at once."""


class EmbeddingRequest(Struct, frozen=True, kw_only=True):
    """What to embed.

    `dimensions` shortens the vectors, where the model can; `encoding` is how they travel, None leaving it to the
    host's row.
    """

    model: str
    inputs: tuple[str, ...]
    dimensions: int | None = None
    encoding: Literal["float", "base64"] | None = None


class EmbeddingAnswer(Struct, frozen=True, kw_only=True):
    """The vectors of one request, in the order of its inputs."""

    vectors: tuple[Vector, ...]
    usage: Usage
    usage_reported: bool
    model: str = ""


@runtime_checkable
class EmbeddingCodec(Protocol):
    """The part of a wire that embeds. Wires without it have no embeddings."""

    def max_embedding_inputs(self, model: str) -> int:
        """Inputs that one request to `model` may hold."""
        ...

    def encode_embeddings(self, request: EmbeddingRequest, model: str) -> WireRequest:
        """The request's bytes.

        Raises:
            ProviderFailed: with kind `unsupported_capability`, naming an option the wire cannot express.
        """
        ...

    def decode_embeddings(self, body: bytes) -> EmbeddingAnswer:
        """A 2xx body as vectors.

        Raises:
            RejectedAnswer: it is no JSON, or not of the dialect's shape.
        """
        ...


def embedding_codec(codec: Codec, provider: str, model: str) -> EmbeddingCodec:
    """The embedding part of a codec.

    Raises:
        ProviderFailed: with kind `unsupported_capability`: it has none.
    """
    if isinstance(codec, EmbeddingCodec):
        return codec
    raise _failed(
        "unsupported_capability", provider, model, "model", "this provider's wire has no embeddings"
    )


def check_inputs(request: EmbeddingRequest, provider: str) -> None:
    """Refuse what no provider embeds.

    Raises:
        ProviderFailed: with kind `invalid_request`: there is no input, one of them is empty, or `dimensions` is no
            number of them.
    """
    if not request.inputs:
        raise _failed("invalid_request", provider, request.model, "input", "there is nothing to embed")
    for place, text in enumerate(request.inputs):
        if not text:
            raise _failed("invalid_request", provider, request.model, "input", f"text {place} is empty")
    if request.dimensions is not None and request.dimensions < 1:
        raise _failed("invalid_request", provider, request.model, "dimensions", "must be 1 or more")


def no_base64(request: EmbeddingRequest, provider: str, model: str) -> None:
    """Refuse base64, for wires that have only JSON numbers.

    Raises:
        ProviderFailed: with kind `unsupported_capability`.
    """
    if request.encoding == "base64":
        why = "this provider gives vectors as JSON numbers alone"
        raise _failed("unsupported_capability", provider, model, "encoding", why)


def parts(
    inputs: Sequence[str], max_inputs: int, max_bytes: int = _MAX_REQUEST_BYTES
) -> Iterator[tuple[str, ...]]:
    """The inputs in their order, as many at a time as one request may hold. A text too large goes alone."""
    part: list[str] = []
    size = 0
    for text in inputs:
        added = len(text.encode())
        if part and (len(part) == max_inputs or size + added > max_bytes):
            yield tuple(part)
            part, size = [], 0
        part.append(text)
        size += added
    if part:
        yield tuple(part)


def decode_all(codec: EmbeddingCodec, count: int, body: bytes) -> EmbeddingAnswer:
    """A 2xx body as the vectors of `count` inputs.

    Raises:
        RejectedAnswer: as `EmbeddingCodec.decode_embeddings`, and where there are more or fewer.
    """
    answer = codec.decode_embeddings(body)
    if len(answer.vectors) != count:
        raise RejectedAnswer(f"{len(answer.vectors)} vectors for {count} texts")
    return answer


def vectors(found: Sequence[Sequence[float] | str]) -> tuple[Vector, ...]:
    """Vectors out of JSON numbers or base64.

    Raises:
        RejectedAnswer: one of them is none, or they are not of one length.
    """
    made = tuple(_from_base64(one) if isinstance(one, str) else array("f", one) for one in found)
    if len({len(vector) for vector in made}) > 1 or not all(made):
        raise RejectedAnswer(
            f"vectors of {sorted({len(vector) for vector in made})} numbers, not of one length"
        )
    # No sum of 32-bit floats leaves the range of Python's, so it shows whether one of them is no number.
    if not all(isfinite(sum(vector)) for vector in made):
        raise RejectedAnswer("a vector holds what is no 32-bit float")
    return made


def _from_base64(text: str) -> Vector:
    vector: Vector = array("f")
    try:
        vector.frombytes(b64decode(text, validate=True))
    except ValueError as error:
        raise RejectedAnswer(f"a vector is no base64 of 32-bit floats: {error}") from None
    if sys.byteorder == "big":
        vector.byteswap()
    return vector


def _failed(
    kind: Literal["unsupported_capability", "invalid_request"],
    provider: str,
    model: str,
    param: str,
    why: str,
) -> ProviderFailed:
    return ProviderFailed(
        ProviderError(kind=kind, message=f"{param}: {why}", provider=provider, model=model, param=param)
    )
