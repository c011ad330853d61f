"""What `embed` gives: vectors, and what they cost."""

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal
from functools import partial
from typing import overload

from msgspec import structs

from greenroom.actors.catalog import Route
from greenroom.actors.events import ProviderFailed, Usage
from greenroom.actors.prices import usd
from greenroom.actors.providers import WireRequest
from greenroom.actors.providers.embeddings import (
    EmbeddingAnswer,
    EmbeddingRequest,
    Vector,
    check_inputs,
    decode_all,
    embedding_codec,
    parts,
)


class Embeddings(Sequence[Vector]):
    """Vectors, in the order of their texts, over all requests that it took.

    `usage`, `cost_usd` and `attempts` are of all attempts of all requests together.
    """

    def __init__(self, provider: str, model: str) -> None:
        self._vectors: list[Vector] = []
        self.provider = provider
        self.model = model
        self.usage = Usage()
        self.cost_pusd = 0
        self.attempts = 0

    @property
    def cost_usd(self) -> Decimal:
        """What all attempts were charged, exact."""
        return usd(self.cost_pusd)

    def add(self, answer: EmbeddingAnswer, usage: Usage, cost_pusd: int, attempts: int) -> None:
        """Take the vectors of one more request."""
        self._vectors += answer.vectors
        self.model = answer.model or self.model
        self.usage += usage
        self.cost_pusd += cost_pusd
        self.attempts += attempts

    def __len__(self) -> int:
        return len(self._vectors)

    @overload
    def __getitem__(self, index: int) -> Vector: ...
    @overload
    def __getitem__(self, index: slice) -> list[Vector]: ...
    def __getitem__(self, index: int | slice) -> "Vector | list[Vector]":
        return self._vectors[index]

    def __repr__(self) -> str:
        size = len(self._vectors[0]) if self._vectors else 0
        return f"<{len(self)} embeddings of {size} numbers by {self.provider}/{self.model}, ${self.cost_usd}>"


_Ask = Callable[[Embeddings, WireRequest, Callable[[bytes], EmbeddingAnswer]], Awaitable[None]]


async def embed_in_parts(request: EmbeddingRequest, route: Route, ask: _Ask) -> Embeddings:
    """Embed all inputs, with one request after another where there are more than one may hold.

    Args:
        request: what to embed.
        route: how to reach the model.
        ask: makes one request, and adds what it gave to the embeddings.

    Raises:
        ProviderFailed: an input is empty, the wire has no embeddings, or a request failed. Its cost is of all requests.
    """
    check_inputs(request, route.provider)
    codec = embedding_codec(route.codec, route.provider, route.model)
    found = Embeddings(route.provider, route.model)
    for inputs in parts(request.inputs, codec.max_embedding_inputs(route.model)):
        wire = codec.encode_embeddings(structs.replace(request, inputs=inputs), route.model)
        try:
            await ask(found, wire, partial(decode_all, codec, len(inputs)))
        except ProviderFailed as failure:
            failure.cost_pusd += found.cost_pusd
            raise
    return found
