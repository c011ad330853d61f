"""The cost tracker: a singleton that holds money before a call and settles it after.

One hold is one row is one attempt. An attempt in flight at a `kill -9` is charged once, estimated, by the next
runtime: by its held row (`interrupted`), or, where that was not written yet, by the slice on which it was granted
(`slices` says why that is enough). A settlement carries its whole hold, so writing it is idempotent and needs no
memory of the grant.

Rows gather: a save goes to the store when somebody waits for one of its rows, when there are many, or after some
milliseconds; a commit costs the same CPU for one row as for a hundred.

Who keeps what, so that nothing is lost when an actor dies:
- the `Outbox`, plain memory owned by the tree, keeps every granted hold and every settlement not yet on disk;
- a new ledger writes both before it grants anything, and adopts them; what was spent before it reads from the rows,
  scope by scope, when a hold first needs to know;
- what the ledger has cast to the store and not seen acknowledged it casts again when a new store says `Resend`.

With PostgreSQL, where several runtimes may share a database, a runtime counts what others have spent when it first
needs to know, and not what they spend afterwards: caps there are each runtime's own.
"""

import itertools
from collections.abc import Callable
from typing import cast

from msgspec import Struct

from greenroom.actors.events import Event, OverCharged
from greenroom.actors.kernel import (
    Actor,
    ActorExited,
    ActorRef,
    Normal,
    Piped,
    Refused,
    ReplyTo,
    Shutdown,
    handles,
)
from greenroom.actors.ledger.accounts import Accounts, OpenSlices
from greenroom.actors.ledger.balances import Balance, Entry, Purse, Room, Waiting
from greenroom.actors.ledger.messages import (
    Account,
    Adopt,
    BoundTooLarge,
    Budget,
    GetSpend,
    Held,
    Hold,
    Settle,
    Spend,
)
from greenroom.actors.ledger.outbox import Outbox
from greenroom.actors.ledger.pacing import Flush, Pacer, Tidy
from greenroom.actors.ledger.rows import give_up_slices, spent_before, take_over, writes
from greenroom.actors.log import Log
from greenroom.actors.prices import dollars
from greenroom.actors.storage import (
    TICKET_BITS,
    Introduce,
    Query,
    Resend,
    Rows,
    Save,
    Saved,
    StorageFailed,
)

_SETTLE_AGAIN_S = 1.0
_GATHER_ROWS = 512
_MAX_BOUND_PUSD = 10**18
_LOAD_TIMEOUT_S = 60.0
_CLOSE_TIMEOUT_S = 2.0
# The upper half of a runtime's tickets, which a flow that counts from 1 never reaches.
_FIRST_SLICE = 1 << (TICKET_BITS - 1)
_log = Log(__name__)


class _SettleAgain(Struct, frozen=True):
    """Our own timer: rows that the disk refused are due once more."""


class _Saving(Struct, gc=False):
    """A save on its way to the disk, and what it is about."""

    save: Save
    holds: list[Entry]
    settled: list[Entry]
    slices: list[Purse]


class Ledger(Actor):
    """The cost tracker.

    Args:
        store: the store, by name.
        outbox: what outlives this incarnation.
        runtime_id: the identity of this runtime in the database.
        now_ms: unix milliseconds.
        tell: where events go.
        bind: the configured budgets that bind an account.
    """

    capacity = 100_000  # as many as may ask for holds at once

    def __init__(  # noqa: PLR0917 - a child specification hands them over in order
        self,
        store: ActorRef,
        outbox: Outbox,
        runtime_id: int,
        now_ms: Callable[[], int],
        tell: Callable[[Event], None],
        bind: Callable[[Account], tuple[Budget, ...]],
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._runtime_id = runtime_id
        self._now_ms = now_ms
        self._tell = tell
        slice_ids = itertools.count(runtime_id << TICKET_BITS | _FIRST_SLICE)
        self._accounts = Accounts(bind, slice_ids.__next__)
        self._entries = self._accounts.entries
        self._waiting = self._accounts.waiting
        self._blocked: set[Balance] = set()
        self._loading: dict[Balance, list[Waiting]] = {}
        self._slices = OpenSlices()
        self._settled_pusd = 0
        self._fresh: dict[int, Entry] = {}
        self._refused: list[Entry] = []
        self._disk_fails = False
        self._tag = 0
        self._unsaved: dict[int, _Saving] = {}
        self._pacer = Pacer(self.ref, self._waiting)

    async def init(self) -> None:
        """Charge what dead runtimes left in flight, write what living calls hold and have settled, then adopt it."""
        await self._store.call(Introduce(self.ref), timeout=60.0)
        taken = await take_over(self._store, self._outbox, self._runtime_id, self._now_ms())
        if taken.reclaimed.count or taken.reclaimed.cost_pusd:
            self._tell(taken.reclaimed)
        self._settled_pusd = taken.settled_pusd
        self._outbox.attend(self._pacer.settled)
        since = self._outbox.offer()
        for hold in (*since.holds, *(one.hold for one in since.settlements)):
            self._accounts.enter(hold).granted = True
        for settle in since.settlements:
            self.settle(settle)

    @handles
    def adopt(self, message: Adopt) -> None:
        for hold in message.holds:
            if hold.ticket not in self._entries:
                # Whoever waits for a grant of it gets it once its row is on disk.
                self._fresh[hold.ticket] = self._accounts.enter(hold)
                self._outbox.keep(hold)
                self._pacer.flush_at_once()
        for settle in message.settlements:
            self.settle(settle)

    @handles
    def hold(self, message: Hold, reply_to: ReplyTo[Held]) -> None:
        ticket = message.ticket
        if (entry := self._entries.get(ticket)) is not None:
            if entry.granted:
                reply_to.reply(Held(ticket))
            else:
                entry.waiting.append(reply_to)
            return
        if (waiting := self._waiting.get(ticket)) is not None:
            waiting.replies.append(reply_to)
            return
        if message.bound_pusd > _MAX_BOUND_PUSD:
            raise BoundTooLarge(
                f"a call may cost up to {dollars(message.bound_pusd)}: set a lower max_tokens"
            )
        purse = self._accounts.purse(message)
        if purse.limits and message.bound_pusd:
            self._decide_or_wait(message, purse, reply_to)
        else:
            self._grant(message, purse, [reply_to])

    @handles
    def settle(self, message: Settle) -> None:
        self._settle(message)
        self._flush_soon()

    def _settle(self, message: Settle) -> None:
        ticket = message.hold.ticket
        entry = self._entries.get(ticket)
        if entry is None:
            # Its caller has given up waiting for a grant; the row says so.
            self._waiting.pop(ticket, None)
            entry = self._accounts.enter(message.hold, held=False)
        elif entry.settle is not None:
            return
        entry.begin_settling(message)
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
        self._fresh[ticket] = entry

    def _flush_soon(self) -> None:
        """Hand over what has gathered: in a while, or at once where somebody waits for what it leaves over."""
        if self._waiting or len(self._fresh) >= _GATHER_ROWS:
            self._pacer.flush_at_once()
        else:
            self._pacer.flush_soon()

    def _collect(self) -> None:
        """Take what was settled from the outbox."""
        if settlements := self._outbox.collect():
            for settle in settlements:
                self._settle(settle)
            self._flush_soon()

    @handles
    def flush(self, message: Flush) -> None:
        self._collect()
        self._pacer.flushed()
        fresh, self._fresh = self._fresh, {}
        slices = self._slices.resize(fresh.values(), self._blocked)
        if not fresh and not slices:
            return
        if slices:
            self._pacer.tidy_soon()
        holds = [entry for entry in fresh.values() if entry.settle is None]
        settled = [entry for entry in fresh.values() if entry.settle is not None]
        self._tag += 1
        save = Save(writes(holds, settled, slices, self._runtime_id), self.ref, self._tag)
        self._unsaved[self._tag] = _Saving(save, holds, settled, slices)
        self._store.cast(save)

    @handles
    def saved(self, message: Saved) -> None:
        for tag in message.tags:
            saving = self._unsaved.pop(tag, None)
            if saving is not None:
                if message.error is None:
                    self._stored(saving)
                else:
                    self._not_stored(saving, message.error)
        if self._waiting or self._blocked:
            self._serve()

    @handles
    def resend(self, message: Resend) -> None:
        for saving in self._unsaved.values():
            self._store.cast(saving.save)

    @handles
    def tidy(self, message: Tidy) -> None:
        self._pacer.tidied()
        if self._slices.tick():
            self._flush_soon()
        if self._slices.reserved_pusd:
            self._pacer.tidy_soon()

    @handles
    def spend(self, message: GetSpend) -> Spend:
        self._collect()
        held = [entry.hold for entry in self._entries.values() if entry.settle is None]
        saving = sum(len(saving.holds) + len(saving.settled) for saving in self._unsaved.values())
        return Spend(
            settled_pusd=self._settled_pusd,
            held_pusd=sum(hold.bound_pusd for hold in held),
            open_holds=len(held),
            unsaved=len(self._fresh) + saving + len(self._refused),
            reserved_pusd=self._slices.reserved_pusd,
            waiting=len(self._waiting),
        )

    async def handle_info(self, message: object) -> None:
        match message:
            case _SettleAgain():
                refused, self._refused = self._refused, []
                self._fresh |= {one.hold.ticket: one for one in refused if one.hold.ticket in self._entries}
                self._pacer.flush_at_once()
            case Piped(tag=Balance() as balance):
                self._loaded(balance, message)
            case _:
                await super().handle_info(message)

    async def terminate(self, reason: object) -> None:
        """Give up the slices, unless something stands on them that is not on disk."""
        self._pacer.stop()
        slices = self._slices
        if slices.used_pusd or not slices.reserved_pusd or not isinstance(reason, Normal | Shutdown):
            return
        try:
            await self._store.call(give_up_slices(self._runtime_id), timeout=_CLOSE_TIMEOUT_S)
        except (StorageFailed, ActorExited, TimeoutError) as error:
            _log.warning("slices not given up; the next runtime charges them", error=str(error))

    # --- deciding ---------------------------------------------------------------------------------------------------

    def _decide_or_wait(self, hold: Hold, purse: Purse, reply_to: ReplyTo[Held]) -> None:
        """Decide at once, if what is needed is known and nobody is overtaken."""
        self._collect()
        waiting = self._waiting[hold.ticket] = Waiting(hold, purse, [reply_to])
        if purse.loaded:
            self._decide_in_turn(waiting)
        else:
            self._load(waiting)

    def _serve(self) -> None:
        """Look at those who wait, in order of arrival; who waits for a budget is not overtaken in it."""
        self._collect()
        self._blocked.clear()
        for waiting in list(self._waiting.values()):
            if waiting.purse.loaded:
                self._decide_in_turn(waiting)

    def _decide_in_turn(self, waiting: Waiting) -> None:
        if not waiting.hold.wait or self._blocked.isdisjoint(waiting.purse.bound_by):
            self._decide(waiting)

    def _decide(self, waiting: Waiting) -> None:
        """Grant, refuse, or leave waiting."""
        hold, purse = waiting.hold, waiting.purse
        room = purse.room(hold.bound_pusd)
        if room is Room.FITS:
            del self._waiting[hold.ticket]
            self._grant(hold, purse, waiting.replies)
        elif room is Room.NEVER or (room is Room.LATER and not hold.wait):
            del self._waiting[hold.ticket]
            _refuse(waiting.replies, purse.refusal(hold.bound_pusd))
        else:
            self._blocked.update(purse.tight(hold.bound_pusd))
            if room is Room.SOON:
                self._pacer.flush_at_once()

    def _grant(self, hold: Hold, purse: Purse, replies: list[ReplyTo[Held]]) -> None:
        """The money is set aside: at once on the slice, else once its own row is on disk.

        While the disk is known to fail, nothing is granted on a slice: what cannot be recorded is not spent.
        """
        entry = self._fresh[hold.ticket] = self._accounts.enter(hold, purse)
        self._outbox.keep(hold)
        if not self._disk_fails and purse.slice.take(hold.bound_pusd):
            entry.lazy = entry.granted = True
            _answer(replies, hold.ticket)
            self._flush_soon()
        else:
            entry.waiting = replies
            self._pacer.flush_at_once()

    # --- what was spent before --------------------------------------------------------------------------------------

    def _load(self, waiting: Waiting) -> None:
        """Ask for what is not known yet, one balance after the other."""
        balance = next(one for one in waiting.purse.bound_by if not one.loaded)
        if (others := self._loading.get(balance)) is not None:
            others.append(waiting)
            return
        self._loading[balance] = [waiting]
        query = spent_before(balance.key, self._accounts.begin_loading(balance))
        self.pipe_to_self(self._ask(query), tag=balance)

    async def _ask(self, query: Query) -> Rows:
        return await self._store.call(query, timeout=_LOAD_TIMEOUT_S)

    def _loaded(self, balance: Balance, answer: Piped) -> None:
        # Who has given up meanwhile waits no more.
        loading = [one for one in self._loading.pop(balance) if self._waiting.get(one.hold.ticket) is one]
        if answer.error is not None:
            unread = StorageFailed(f"what was spent before cannot be read: {answer.error!r}")
            error = answer.error if isinstance(answer.error, Refused) else unread
            for waiting in loading:
                del self._waiting[waiting.hold.ticket]
                _refuse(waiting.replies, error)
            return
        ((settled_pusd, held_pusd),) = cast("list[tuple[int, int]]", answer.value)
        # What is held by nobody here is another runtime's, or was never settled: it may yet be charged.
        balance.settled_pusd += settled_pusd + held_pusd
        balance.loaded = True
        for waiting in loading:
            if waiting.purse.loaded:
                self._decide_in_turn(waiting)
            else:
                self._load(waiting)

    # --- on the way to the disk -------------------------------------------------------------------------------------

    def _stored(self, saving: _Saving) -> None:
        self._disk_fails = False
        for entry in saving.holds:
            self._slices.confirm(entry)
            if entry.waiting:
                replies, entry.waiting = entry.waiting, []
                _answer(replies, entry.hold.ticket)
            entry.granted = True
        for entry in saving.settled:
            # A row that was refused may have been written by a later save already.
            if self._entries.pop(entry.hold.ticket, None) is not None:
                self._slices.confirm(entry)
                entry.close()
        self._slices.changed(saving.slices, on_disk=True)
        if saving.settled:
            self._outbox.acknowledge([entry.hold.ticket for entry in saving.settled])

    def _not_stored(self, saving: _Saving, error: StorageFailed) -> None:
        """Refuse whom nothing was granted yet; keep what cannot be taken back, and try again."""
        self._disk_fails = True
        self._slices.changed(saving.slices, on_disk=False)
        again: list[Entry] = []
        for entry in saving.holds:
            if entry.settle is not None:
                continue
            if entry.waiting:
                entry.close()
                del self._entries[entry.hold.ticket]
                self._outbox.drop(entry.hold)
                _refuse(entry.waiting, error)
            else:
                again.append(entry)
        again += saving.settled
        if again:
            if not self._refused:
                _log.error("rows not written, trying again", rows=len(again), error=str(error))
                self.send_after(_SETTLE_AGAIN_S, _SettleAgain())
            self._refused += again
        waiting = list(self._waiting.values())
        self._waiting.clear()
        self._blocked.clear()
        for one in waiting:
            _refuse(one.replies, error)


def _answer(replies: list[ReplyTo[Held]], ticket: int) -> None:
    for reply_to in replies:
        reply_to.reply(Held(ticket))


def _refuse(replies: list[ReplyTo[Held]], error: Refused) -> None:
    for reply_to in replies:
        reply_to.refuse(error)
