"""Answers kept for questions that are asked again, where the caller wants that.

Above `flow`: an answer from here costs nothing and asks nobody, so it takes no hold, permit or connection. The key is
everything that shapes an answer; an answer that another model than the one asked for has given is not kept.
"""

import hashlib
from collections import OrderedDict
from types import TracebackType
from typing import Self

import msgspec
from msgspec import Struct, structs

from greenroom.actors.asks.asks import Asker
from greenroom.actors.call import NO_TERMS, Reply, Terms
from greenroom.actors.catalog import Resolve, Route
from greenroom.actors.events import CallEvent, Finished, ProviderError, Usage
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.kernel import ActorExited, ActorRef, Clock, Refused
from greenroom.actors.providers import NEED_DATA, ChatRequest, Completion, Replay
from greenroom.actors.settings import CacheSettings

_ENTRY_BYTES = 300
"""What an entry takes besides its answer: key, objects, its place in the order."""
_encode = msgspec.json.Encoder(order="deterministic").encode
_decode_reply = msgspec.json.Decoder(Reply).decode


class CacheStatistics(Struct, frozen=True, kw_only=True):
    """What a cache did and holds."""

    hits: int
    misses: int
    entries: int
    bytes: int


class _Kept(Struct, frozen=True):
    reply: bytes
    until_s: float


class ResponseCache:
    """Answers by their questions' keys, in memory: the least recently used goes when there is no more room.

    Args:
        settings: how much is kept, for how long.
        clock: time.
    """

    def __init__(self, settings: CacheSettings, clock: Clock) -> None:
        self._settings = settings
        self._clock = clock
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._bytes = self._hits = self._misses = 0

    def __repr__(self) -> str:
        return f"<ResponseCache {len(self._kept)} answers, {self._bytes} of {self._settings.max_bytes} bytes>"

    def statistics(self) -> CacheStatistics:
        """What it did and holds."""
        return CacheStatistics(
            hits=self._hits, misses=self._misses, entries=len(self._kept), bytes=self._bytes
        )

    def clear(self) -> None:
        """Forget every answer."""
        self._kept.clear()
        self._bytes = 0

    def get(self, key: bytes) -> Reply | None:
        """The answer to a question, marked as `cached`; None: there is none, or it is too old."""
        kept = self._kept.get(key)
        if kept is not None and self._clock.monotonic() >= kept.until_s:
            self._forget(key)
            kept = None
        if kept is None:
            self._misses += 1
            return None
        self._hits += 1
        self._kept.move_to_end(key)
        return _decode_reply(kept.reply)

    def put(self, key: bytes, reply: Reply) -> None:
        """Keep an answer, as one that costs nothing; one that is larger than the whole cache is not kept."""
        free = structs.replace(reply, usage=Usage(), cost_pusd=0, attempts=0, tried=(), cached=True)
        kept = _Kept(_encode(free), self._clock.monotonic() + self._settings.ttl_s)
        self._forget(key)
        if _size(kept) > self._settings.max_bytes:
            return
        self._kept[key] = kept
        self._bytes += _size(kept)
        while self._bytes > self._settings.max_bytes:
            self._forget(next(iter(self._kept)))

    def _forget(self, key: bytes) -> None:
        kept = self._kept.pop(key, None)
        if kept is not None:
            self._bytes -= _size(kept)


def _size(kept: _Kept) -> int:
    return len(kept.reply) + _ENTRY_BYTES


class _Place(Struct, frozen=True):
    """Where an answer is kept, and who alone may give it."""

    key: bytes
    route: Route


class CachingAsker:
    """An `Asker` that looks for an answer before it asks.

    Args:
        asker: who asks.
        cache: where answers are.
        catalog: the catalogue, by name.
    """

    def __init__(self, asker: Asker, cache: ResponseCache, catalog: ActorRef) -> None:
        self._asker = asker
        self._cache = cache
        self._catalog = catalog

    async def chat(self, request: ChatRequest, terms: Terms) -> Reply:
        """The kept answer, or a new one. Raises and leaves behind what the asker does."""
        place = await self.place(request, terms)
        found = self.find(place)
        if found is not None:
            return found
        reply = await self._asker.chat(request, terms)
        self.keep(place, reply)
        return reply

    def stream(self, request: ChatRequest, terms: Terms) -> EventStream:
        """The kept answer, told as if it came, or a new one."""
        return _CachedStream(self, self._asker, request, terms)

    async def place(self, request: ChatRequest, terms: Terms) -> _Place | None:
        """Where the answer is kept; None: nobody knows who will give it."""
        try:
            route = await self._catalog.call(Resolve(request.model))
        except (Refused, ActorExited, TimeoutError):
            return None  # who asks will say so
        settings = route.settings
        who = (route.provider, route.model, settings.base_url, settings.wire, settings.api_version)
        what = structs.replace(request, model="")
        how = structs.replace(terms, account=NO_TERMS.account, priority=0, timeout_s=None, budget_pusd=None)
        said = _encode((who, what, how))
        return _Place(hashlib.blake2b(said, digest_size=32).digest(), route)

    def find(self, place: _Place | None) -> Reply | None:
        """The kept answer."""
        return None if place is None else self._cache.get(place.key)

    def keep(self, place: _Place | None, reply: Reply) -> None:
        """Keep an answer, unless another model gave it, or it was cut off by what may not be so another time."""
        cut_off = reply.finish_reason == "length" and reply.max_tokens_set is not None
        if place is None or cut_off or reply.finish_reason == "content_filter":
            return
        route = place.route
        if all((tried.provider, tried.model) == (route.provider, route.model) for tried in reply.tried):
            self._cache.put(place.key, reply)


class _CachedStream(EventStream):
    """A kept answer's events, or those of a new one, which is kept once it is whole."""

    def __init__(self, cached: CachingAsker, asker: Asker, request: ChatRequest, terms: Terms) -> None:
        super().__init__()
        self._cached = cached
        self._asker = asker
        self._request = request
        self._terms = terms
        self._place: _Place | None = None
        self._inner: EventStream | None = None
        self._replay: Replay | None = None
        self._found: Reply | None = None

    async def __aenter__(self) -> Self:
        """See `EventStream.__aenter__`."""
        if self._inner is not None or self._replay is not None:
            raise RuntimeError("this stream was entered before: ask for another")
        self._place = await self._cached.place(self._request, self._terms)
        self._found = self._cached.find(self._place)
        if self._found is not None:
            self._replay = Replay(_completion(self._found))
            return self
        inner = self._asker.stream(self._request, self._terms)
        self._inner = await inner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inner is not None:
            await self._inner.__aexit__(kind, error, trace)

    async def __anext__(self) -> CallEvent:
        """See `EventStream.__anext__`."""
        if self._inner is not None:
            return await self._next(self._inner)
        if self._replay is None:
            raise RuntimeError("a stream is read within `async with ... as events:`")
        event = self._replay.next_event()
        if event is NEED_DATA:
            raise StopAsyncIteration
        if isinstance(event, Finished):
            self._reply = self._found
        return event

    async def _next(self, inner: EventStream) -> CallEvent:
        event = await anext(inner)
        if isinstance(event, Finished):
            self._reply = inner.reply
            self._cached.keep(self._place, self._reply)
        elif isinstance(event, ProviderError):
            self._failure = inner.failure
        return event


def _completion(reply: Reply) -> Completion:
    return Completion(
        id="",
        model=reply.model,
        text=reply.text,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        usage_reported=True,
        raw=reply.raw,
        reasoning=reply.reasoning,
        refusal=reply.refusal,
        tool_calls=reply.tool_calls,
        logprobs=reply.logprobs,
        reasoning_state=reply.reasoning_state,
    )
