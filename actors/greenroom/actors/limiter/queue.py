"""Who goes next: fair between tenants, interactive before batch, nobody passed over for ever.

Between tenants it is self-clocked fair queueing (S. J. Golestani, A self-clocked fair queueing scheme for broadband
applications, INFOCOM 1994): a request's tag is where its tenant's work ends if all are served in turn, and the least tag goes
first. Tags do not change, and whoever comes later gets a larger one than who was served last, so a large request is
overtaken by no more than its own size in smaller ones. A place costs O(log n), the next one O(log n) for each model.
"""

import heapq
from collections.abc import Iterator

from msgspec import Struct

from greenroom.actors.kernel import ReplyTo
from greenroom.actors.limiter.gcra import NOTHING, Amounts, Counted
from greenroom.actors.limiter.lane import Lane
from greenroom.actors.limiter.messages import INTERACTIVE, Admit, Permit

_AGEING_S = 5.0
"""So long is batch work passed over by interactive work; then one request of it goes first."""
_REQUEST_TOKENS = 100.0
"""What a request counts as beside its tokens, where tenants are compared."""
_SPARE = 64


class Entry(Struct, gc=False, eq=False):
    """One that waits. `reply_to` is of whoever asked last with its ticket."""

    admit: Admit
    reply_to: ReplyTo[Permit]
    lane: Lane
    amounts: Amounts


_Place = tuple[float, int, Entry]


class _Class:
    """The requests of one priority."""

    __slots__ = ("_ahead", "_heaps", "_tags", "_virtual", "size", "waits_since_s")

    def __init__(self) -> None:
        self.size = 0
        self.waits_since_s = 0.0
        self._virtual = 0.0
        self._tags: dict[str, float] = {}
        self._heaps: dict[Lane, list[_Place]] = {}
        self._ahead: dict[tuple[Lane, str], Amounts] = {}

    @property
    def places(self) -> int:
        return sum(map(len, self._heaps.values()))

    def ahead(self, lane: Lane, tenant: str) -> Amounts:
        return self._ahead.get((lane, tenant), NOTHING)

    def push(self, entry: Entry, number: int, now_s: float) -> None:
        tenant, lane, tags = entry.admit.tenant, entry.lane, self._tags
        if not self.size:
            self.waits_since_s = now_s
        start = max(self._virtual, tags.get(tenant, 0.0))
        tag = tags[tenant] = start + entry.amounts[Counted.TOKENS] + _REQUEST_TOKENS
        heapq.heappush(self._heaps.setdefault(lane, []), (tag, number, entry))
        self._count(entry, 1)

    def take_out(self, entry: Entry) -> None:
        """Without it the queue is as if it had never come; its place is cleared away later."""
        self._count(entry, -1)

    def serve(self, place: _Place, now_s: float) -> None:
        """It goes now, whether or not its tag is the least of all models."""
        tag, _, entry = place
        self._virtual = max(self._virtual, tag)
        self.waits_since_s = now_s
        self._count(entry, -1)

    def heads(self, living: dict[int, Entry]) -> list[_Place]:
        """The first of each model, the least tag first."""
        heads: list[_Place] = []
        for lane, heap in list(self._heaps.items()):
            while heap and living.get(heap[0][2].admit.ticket) is not heap[0][2]:
                heapq.heappop(heap)
            if heap:
                heads.append(heap[0])
            else:
                del self._heaps[lane]
        if len(heads) > 1:
            heads.sort()
        return heads

    def tidy(self, living: dict[int, Entry]) -> None:
        """Forget who gave up behind a head that is blocked, and tenants whose turn has passed."""
        if self.places > 2 * self.size + _SPARE:
            for lane, heap in self._heaps.items():
                kept = [place for place in heap if living.get(place[2].admit.ticket) is place[2]]
                heapq.heapify(kept)
                self._heaps[lane] = kept
        if len(self._tags) > 2 * self.size + _SPARE:
            self._tags = {tenant: tag for tenant, tag in self._tags.items() if tag > self._virtual}

    def _count(self, entry: Entry, sign: int) -> None:
        self.size += sign
        key, (requests, tokens, tokens_in, tokens_out) = (entry.lane, entry.admit.tenant), entry.amounts
        ahead = self._ahead.get(key, NOTHING)
        if ahead[0] + sign * requests <= 0:
            del self._ahead[key]
        else:
            self._ahead[key] = (
                ahead[0] + sign * requests,
                ahead[1] + sign * tokens,
                ahead[2] + sign * tokens_in,
                ahead[3] + sign * tokens_out,
            )


class FairQueue:
    """Those who wait for admission.

    Args:
        entries: where they stand by ticket, kept up to date for others to look at.
    """

    def __init__(self, entries: dict[int, Entry]) -> None:
        self.entries = entries
        self._interactive = _Class()
        self._batch = _Class()
        self._numbers = 0

    @property
    def places(self) -> int:
        """How many are kept, those included whose holders gave up."""
        return self._interactive.places + self._batch.places

    def ahead(self, admit: Admit, lane: Lane) -> Amounts:
        """What surely goes before a request that came now: what its tenant waits for at its model already."""
        return self._class(admit).ahead(lane, admit.tenant)

    def push(self, entry: Entry, now_s: float) -> None:
        """Take a place; one ticket has one."""
        self._numbers += 1
        self.entries[entry.admit.ticket] = entry
        self._class(entry.admit).push(entry, self._numbers, now_s)

    def remove(self, ticket: int) -> Entry | None:
        """Give a place up, if the ticket has one."""
        entry = self.entries.pop(ticket, None)
        if entry is not None:
            of = self._class(entry.admit)
            of.take_out(entry)
            of.tidy(self.entries)
        return entry

    def heads(self, now_s: float) -> Iterator[_Place]:
        """Who may go next, the first first: of each priority the first of each model."""
        first, second = self._interactive, self._batch
        if second.size and first.size and now_s - second.waits_since_s >= _AGEING_S:
            first, second = second, first
        if first.size:
            yield from first.heads(self.entries)
        if second.size:
            yield from second.heads(self.entries)

    def serve(self, place: _Place, now_s: float) -> None:
        """The one of this place goes."""
        entry = place[2]
        del self.entries[entry.admit.ticket]
        of = self._class(entry.admit)
        of.serve(place, now_s)
        of.tidy(self.entries)

    def _class(self, admit: Admit) -> _Class:
        return self._interactive if admit.priority <= INTERACTIVE else self._batch
