"""The cost tracker: a singleton that holds money before a call and settles it after.

One hold is one row is one attempt. A hold is granted once its row is on disk, so an attempt in flight at a `kill -9`
is always known to the next runtime, which charges it once, estimated (`interrupted`). A settlement carries its whole
hold, so writing it is idempotent and needs no memory of the grant.

Who keeps what, so that nothing is lost when an actor dies:
- the `Outbox`, plain memory owned by the tree, keeps every living hold and every settlement not yet on disk;
- a new ledger adopts both before it grants anything (`Adopt`);
- what the ledger has cast to the store and not seen acknowledged it casts again when a new store says `Resend`.
"""

import asyncio
from collections.abc import Callable, Iterable

import structlog
from msgspec import Struct

from greenroom.actors.events import Event, HoldsReclaimed, OverCharged, Usage
from greenroom.actors.kernel import Actor, ActorRef, Call, Cast, Overloaded, Refused, ReplyTo, handles
from greenroom.actors.prices import usd
from greenroom.actors.storage import (
    HOLD,
    SETTLE,
    Commit,
    Introduce,
    Query,
    Resend,
    Save,
    Saved,
    StorageFailed,
    Write,
    orphans,
    reclaim,
)

_SETTLE_AGAIN_S = 1.0
_MAX_BOUND_PUSD = 10**18
_log = structlog.get_logger(__name__)


class Account(Struct, frozen=True, gc=False):
    """Whom a call is charged to."""

    job_id: str | None = None
    session_id: str | None = None
    key_id: str | None = None
    tag: str | None = None


class Held(Struct, frozen=True, gc=False):
    """The answer to a `Hold`: its row is on disk."""

    ticket: int


class Hold(Call[Held], frozen=True, kw_only=True, resend=True):
    """Set aside the upper bound of one attempt before it is made.

    `ticket` is made by the caller and unique for ever; asking twice with one ticket holds once.

    Raises, at the caller:
        StorageFailed: the row could not be written; nothing is held, and nothing may be sent.
        TooManyUnsettled: the disk does not keep up; nothing is held.
    """

    ticket: int
    call_id: int
    number: int
    provider: str
    model: str
    bound_pusd: int
    account: Account
    started_at_ms: int


class Settle(Cast, frozen=True, kw_only=True):
    """What an attempt came to: its outcome (`ok` or an error kind), what it used and what it is charged.

    `estimated` marks a charge that the provider did not state: a cancelled call, a lost answer.
    """

    hold: Hold
    outcome: str
    cost_pusd: int
    usage: Usage
    estimated: bool
    settled_at_ms: int
    request_id: str | None = None


class Adopt(Cast, frozen=True):
    """What living calls offer a new ledger: the holds they keep, and the settlements nobody has acknowledged."""

    holds: tuple[Hold, ...]
    settlements: tuple[Settle, ...]


class Spend(Struct, frozen=True, kw_only=True):
    """The ledger's accounts since this runtime started, in pico-dollars."""

    settled_pusd: int
    held_pusd: int
    open_holds: int
    unsaved: int


class GetSpend(Call[Spend], frozen=True):
    """Ask for the accounts."""


class TooManyUnsettled(Refused):
    """Settlements wait for the disk in such number that no new call may be made until it catches up."""


class BoundTooLarge(Refused):
    """One call's upper bound is beyond a million dollars: surely a mistake in `max_tokens` or in a price."""


class _SettleAgain(Struct, frozen=True):
    """Our own timer: settlements that the disk refused are due once more."""


class Outbox:
    """Living holds, and settlements not yet acknowledged. Owned by the tree, so it outlives every ledger.

    Args:
        ledger: the ledger, by name.
        capacity: unacknowledged settlements beyond which no new hold is opened.
    """

    def __init__(self, ledger: ActorRef, capacity: int = 20_000) -> None:
        self._ledger = ledger
        self._capacity = capacity
        self._holds: dict[int, Hold] = {}
        self._settlements: dict[int, Settle] = {}
        self._late: list[Settle] = []
        self._settled: asyncio.Event | None = None

    def open(self, hold: Hold) -> None:
        """Keep a hold that is about to be asked for.

        Raises:
            TooManyUnsettled: see there; nothing is kept.
        """
        if len(self._settlements) >= self._capacity:
            raise TooManyUnsettled(f"{len(self._settlements)} settlements wait for the disk")
        self._holds[hold.ticket] = hold

    def drop(self, hold: Hold) -> None:
        """Forget a hold that was refused: there is nothing to settle."""
        self._holds.pop(hold.ticket, None)

    def settle(self, settle: Settle) -> None:
        """Settle a hold, for good: kept here until the ledger says that it is on disk. Never waits, never fails."""
        self._holds.pop(settle.hold.ticket, None)
        self._settlements[settle.hold.ticket] = settle
        self._send(settle)

    def acknowledge(self, tickets: Iterable[int]) -> None:
        """The ledger's word that these settlements are on disk."""
        for ticket in tickets:
            self._settlements.pop(ticket, None)
        if self._settled is not None and self.empty:
            self._settled.set()
        if self._late:
            late, self._late = self._late, []
            for settle in late:
                self._send(settle)

    def offer(self) -> Adopt:
        """Everything that a new ledger has to know."""
        self._late.clear()
        return Adopt(tuple(self._holds.values()), tuple(self._settlements.values()))

    async def wait_empty(self) -> None:
        """Return once nothing is held and every settlement is on disk."""
        while not self.empty:
            self._settled = asyncio.Event()
            await self._settled.wait()

    @property
    def empty(self) -> bool:
        return not self._holds and not self._settlements

    def _send(self, settle: Settle) -> None:
        try:
            self._ledger.cast(settle)
        except Overloaded:
            # Sent again with the next acknowledgement, which is what makes room.
            self._late.append(settle)


class _Flush(Cast, frozen=True):
    """Our own word to ourselves: hand over what the messages before this one brought, as one save."""


class _Unsaved(Struct, gc=False):
    """A row on its way to the disk, and who waits for it."""

    hold: Hold
    settle: Settle | None
    waiting: list[ReplyTo[Held]]


class Ledger(Actor):
    """The cost tracker.

    Args:
        store: the store, by name.
        outbox: what outlives this incarnation.
        runtime_id: the identity of this runtime in the database.
        now_ms: unix milliseconds.
        tell: where events go.
    """

    capacity = (
        100_000  # a new store asks for everything unacknowledged at once, and settlements must find room
    )

    def __init__(
        self,
        store: ActorRef,
        outbox: Outbox,
        runtime_id: int,
        now_ms: Callable[[], int],
        tell: Callable[[Event], None],
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._runtime_id = runtime_id
        self._now_ms = now_ms
        self._tell = tell
        self._held: dict[int, Hold] = {}
        self._held_pusd = 0
        self._settled_pusd = 0
        self._tag = 0
        self._fresh: list[_Unsaved] = []
        self._unsaved: dict[int, tuple[Save, list[_Unsaved]]] = {}
        self._holding: dict[int, _Unsaved] = {}
        self._settling: set[int] = set()
        self._refused: list[Settle] = []

    async def init(self) -> None:
        """Charge what dead runtimes left in flight, then adopt what living calls hold."""
        await self._store.call(Introduce(self.ref), timeout=60.0)
        found = await self._store.call(Query(*orphans(self._runtime_id)), timeout=60.0)
        await self._store.call(Commit((reclaim(self._runtime_id, self._now_ms()),)), timeout=60.0)
        count, cost_pusd = _count_and_sum(found)
        if count:
            self._tell(HoldsReclaimed(count=count, cost_pusd=cost_pusd))
        self.adopt(self._outbox.offer())

    @handles
    def adopt(self, message: Adopt) -> None:
        for hold in message.holds:
            # The living wait for a grant themselves, or have it; either way the row is made sure of, once.
            if hold.ticket not in self._held:
                self._keep(hold)
        for settle in message.settlements:
            self.settle(settle)

    @handles
    def hold(self, message: Hold, reply_to: ReplyTo[Held]) -> None:
        if message.bound_pusd > _MAX_BOUND_PUSD:
            raise BoundTooLarge(
                f"a call may cost up to {usd(message.bound_pusd)} dollars: set a lower max_tokens"
            )
        if (saving := self._holding.get(message.ticket)) is not None:
            saving.waiting.append(reply_to)
        elif message.ticket in self._held:
            reply_to.reply(Held(message.ticket))
        else:
            self._keep(message).waiting.append(reply_to)

    @handles
    def settle(self, message: Settle) -> None:
        ticket = message.hold.ticket
        if ticket in self._settling:
            return
        self._settling.add(ticket)
        self._forget(ticket)
        self._settled_pusd += message.cost_pusd
        if message.cost_pusd > message.hold.bound_pusd:
            self._tell(
                OverCharged(
                    ticket=ticket,
                    provider=message.hold.provider,
                    model=message.hold.model,
                    held_pusd=message.hold.bound_pusd,
                    cost_pusd=message.cost_pusd,
                )
            )
        self._save(message.hold, message)

    @handles
    def flush(self, message: _Flush) -> None:
        fresh, self._fresh = self._fresh, []
        holds = tuple(self._held_row(row.hold) for row in fresh if row.settle is None)
        settles = tuple(self._settled_row(row.settle) for row in fresh if row.settle is not None)
        self._tag += 1
        save = Save((Write(HOLD, holds), Write(SETTLE, settles)), self.ref, self._tag)
        self._unsaved[self._tag] = (save, fresh)
        self._store.cast(save)

    @handles
    def saved(self, message: Saved) -> None:
        settled: list[int] = []
        for tag in message.tags:
            _, rows = self._unsaved.pop(tag, (None, ()))
            for row in rows:
                if row.settle is None:
                    self._answer_hold(row, message.error)
                elif message.error is None:
                    self._settling.discard(row.hold.ticket)
                    settled.append(row.hold.ticket)
                else:
                    self._settle_later(row.settle, message.error)
        if settled:
            self._outbox.acknowledge(settled)

    @handles
    def resend(self, message: Resend) -> None:
        for save, _ in self._unsaved.values():
            self._store.cast(save)

    @handles
    def spend(self, message: GetSpend) -> Spend:
        return Spend(
            settled_pusd=self._settled_pusd,
            held_pusd=self._held_pusd,
            open_holds=len(self._held),
            unsaved=len(self._holding) + len(self._settling),
        )

    async def handle_info(self, message: object) -> None:
        if isinstance(message, _SettleAgain):
            refused, self._refused = self._refused, []
            for settle in refused:
                self._save(settle.hold, settle)

    def _keep(self, hold: Hold) -> _Unsaved:
        self._held[hold.ticket] = hold
        self._held_pusd += hold.bound_pusd
        row = self._holding[hold.ticket] = self._save(hold, None)
        return row

    def _forget(self, ticket: int) -> None:
        hold = self._held.pop(ticket, None)
        if hold is not None:
            self._held_pusd -= hold.bound_pusd

    def _answer_hold(self, row: _Unsaved, error: StorageFailed | None) -> None:
        ticket = row.hold.ticket
        del self._holding[ticket]
        if error is not None:
            self._forget(ticket)
        for reply_to in row.waiting:
            if error is None:
                reply_to.reply(Held(ticket))
            else:
                reply_to.refuse(error)

    def _settle_later(self, settle: Settle, error: StorageFailed) -> None:
        if not self._refused:
            _log.error("settlement not written, trying again", ticket=settle.hold.ticket, error=str(error))
            self.send_after(_SETTLE_AGAIN_S, _SettleAgain())
        self._refused.append(settle)

    def _save(self, hold: Hold, settle: Settle | None) -> _Unsaved:
        """Put a row into the next save: one for all messages of a turn, which is a third of the cost of one each."""
        if not self._fresh:
            self.ref.cast(_Flush())
        row = _Unsaved(hold, settle, [])
        self._fresh.append(row)
        return row

    def _held_row(self, hold: Hold) -> dict[str, object]:
        account = hold.account
        return {
            "id": hold.ticket,
            "runtime_id": self._runtime_id,
            "call_id": hold.call_id,
            "number": hold.number,
            "held_pusd": hold.bound_pusd,
            "provider": hold.provider,
            "model": hold.model,
            "job_id": account.job_id,
            "session_id": account.session_id,
            "key_id": account.key_id,
            "tag": account.tag,
            "started_at_ms": hold.started_at_ms,
        }

    def _settled_row(self, settle: Settle) -> dict[str, object]:
        usage = settle.usage
        return self._held_row(settle.hold) | {
            "outcome": settle.outcome,
            "estimated": settle.estimated,
            "cost_pusd": settle.cost_pusd,
            "input_tokens": usage.input_tokens,
            "cached_tokens": usage.cached_tokens,
            "cache_write_5m_tokens": usage.cache_write_5m_tokens,
            "cache_write_1h_tokens": usage.cache_write_1h_tokens,
            "output_tokens": usage.output_tokens,
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_input_tokens": usage.audio_input_tokens,
            "audio_output_tokens": usage.audio_output_tokens,
            "request_id": settle.request_id,
            "settled_at_ms": settle.settled_at_ms,
        }


def _count_and_sum(rows: list[tuple[object, ...]]) -> tuple[int, int]:
    ((count, total),) = rows
    return (count if isinstance(count, int) else 0), (total if isinstance(total, int) else 0)
