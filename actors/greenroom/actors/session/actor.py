"""The actor of one conversation. It keeps what was said and gives the floor, one turn after the other.

It never calls a model: whoever speaks does, on their own task, between `Begin` and `Said`. So it stays answerable while
a model thinks, and nothing of a turn is lost with it: who has the floor stands in the session's `Memory`, what was said
is on disk before `Said` is answered.
"""

from collections.abc import Callable

from greenroom.actors.kernel import Actor, ActorRef, ReplyTo, Timeout, handles
from greenroom.actors.session import records
from greenroom.actors.session.messages import (
    Begin,
    Change,
    Delete,
    Fill,
    GetSessionStatus,
    Mark,
    Move,
    Next,
    Open,
    Said,
    SessionStatus,
    Sleep,
)
from greenroom.actors.session.state import (
    MAX_CHECKPOINTS,
    MAX_WAITING,
    Entry,
    Granted,
    Memory,
    SessionBusy,
    SessionConflict,
    SessionExists,
    SessionFull,
    SessionRefused,
    SessionSettings,
    Totals,
    UnknownSession,
    no_checkpoint,
)
from greenroom.actors.storage import Commit, Write, WriteRejected

_KEPT_BYTES = 16 * 1024 * 1024
_TIMEOUT_S = 60.0


class Session(Actor):
    """One session, awake.

    Args:
        session_id: its name.
        store: the store, by name.
        now_ms: unix milliseconds.
        memory: what outlives this incarnation.
        idle_s: how long nobody need speak until it falls asleep.
    """

    def __init__(
        self, session_id: str, store: ActorRef, now_ms: Callable[[], int], memory: Memory, idle_s: float
    ) -> None:
        self._id = session_id
        self._store = store
        self._now_ms = now_ms
        self._memory = memory
        self._idle_s = idle_s
        self._settings: SessionSettings | None = None
        self._chain = records.Chain()
        self._checkpoints: dict[str, int | None] = {}
        self._totals = Totals()
        self._waiting: dict[int, tuple[Begin, ReplyTo[Granted]]] = {}

    async def init(self) -> None:
        """Read the session, if there is one.

        Raises:
            StorageFailed: it cannot be read.
        """
        # A barrier: what an earlier incarnation handed to the store is on disk before any of it is read.
        await self._commit()
        await self._load()
        self.set_timeout(self._idle_s)

    @handles
    async def open(self, message: Open) -> SessionSettings:
        settings = message.change.applied_to(self._settings or SessionSettings())
        if settings != self._settings:
            await self._commit(records.session_row(self._id, settings, self._now_ms()))
            self._settings = settings
        return settings

    @handles
    async def fill(self, message: Fill) -> None:
        ids = {entry.id for entry in message.entries}
        if self._settings is not None and not ids & {entry.id for entry in self._chain.entries}:
            raise SessionExists(f"there is a session {self._id!r} already")
        now_ms = self._now_ms()
        encode = records.encode_messages
        await self._commit(
            records.session_row(self._id, message.settings, now_ms),
            *(records.entry_row(self._id, entry, encode(entry.messages)) for entry in message.entries),
            *(records.checkpoint_row(self._id, *place, now_ms) for place in message.checkpoints.items()),
        )
        await self._load()

    @handles
    def begin(self, message: Begin, reply_to: ReplyTo[Granted]) -> None:
        if self._memory.speaker == message.ticket:
            reply_to.reply(self._granted(message))
        elif len(self._waiting) >= MAX_WAITING:
            reply_to.refuse(SessionBusy(f"{len(self._waiting)} turns wait in session {self._id!r}"))
        else:
            self._waiting[message.ticket] = (message, reply_to)
            self._give_floor()

    @handles
    def next(self, message: Next) -> None:
        self._waiting.pop(message.ticket, None)
        self._give_floor()
        self.set_timeout(self._idle_s)

    @handles
    async def said(self, message: Said) -> Entry:
        for known in reversed(self._chain.entries[-8:]):
            if known.id == message.id:
                return known
        self._check_speaker(message.ticket)
        body = records.encode_messages(message.messages)
        entry = Entry(
            id=message.id,
            seq=self._chain.next_seq,
            kind="turn" if message.covers_seq is None else "summary",
            parent_seq=self._chain.head_seq,
            covers_seq=message.covers_seq,
            messages=message.messages,
            bytes_=len(body),
            model=message.model,
            cost_pusd=message.cost_pusd,
            input_tokens=message.input_tokens,
            output_tokens=message.output_tokens,
            sent_bytes=message.sent_bytes,
            created_at_ms=self._now_ms(),
        )
        await self._append(entry, body)
        self._chain.entries.append(entry)
        self._chain.head_seq = entry.seq
        self._totals = Totals(
            self._totals.turns + (entry.kind == "turn"),
            self._totals.input_tokens + entry.input_tokens,
            self._totals.output_tokens + entry.output_tokens,
            self._totals.cost_pusd + entry.cost_pusd,
        )
        self._forget_oldest()
        return entry

    @handles
    async def move(self, message: Move) -> None:
        self._check_speaker(message.ticket)
        to = await self._place(message.to)
        if to == self._chain.head_seq:
            return
        moved = Entry(
            id=message.id,
            seq=self._chain.next_seq,
            kind="move",
            parent_seq=to,
            messages=(),
            bytes_=2,
            created_at_ms=self._now_ms(),
        )
        await self._append(moved, b"[]")
        await self._load()

    @handles
    async def mark(self, message: Mark) -> None:
        self._check_speaker(message.ticket)
        if len(self._checkpoints) >= MAX_CHECKPOINTS and message.name not in self._checkpoints:
            raise SessionFull(f"session {self._id!r} has {MAX_CHECKPOINTS} checkpoints already")
        head = self._chain.head_seq
        await self._commit(records.checkpoint_row(self._id, message.name, head, self._now_ms()))
        self._checkpoints[message.name] = head

    @handles
    async def change(self, message: Change) -> SessionSettings:
        self._check_speaker(message.ticket)
        return await self.open(Open(message.change))

    @handles
    async def delete(self, message: Delete) -> None:
        if self._settings is None:
            return  # an incarnation before this one has done it, and was killed before it said so
        self._check_speaker(message.ticket)
        await self._commit(*records.deletion(self._id))
        await self._load()

    @handles
    def status(self, message: GetSessionStatus) -> SessionStatus:
        return SessionStatus(
            name=self._id,
            settings=self._existing(),
            totals=self._totals,
            checkpoints=self._checkpoints,
            head_seq=self._chain.head_seq,
            speaking=self._memory.speaker is not None,
            waiting=len(self._waiting),
        )

    @handles
    def sleep(self, message: Sleep) -> None:
        self._fall_asleep()

    async def handle_info(self, message: object) -> None:
        if isinstance(message, Timeout):
            self._fall_asleep()

    def _fall_asleep(self) -> None:
        if self._memory.users == 0 and self._memory.speaker is None and not self._waiting:
            self.stop()
        else:
            self.set_timeout(self._idle_s)

    async def _load(self) -> None:
        self._settings = await records.read_settings(self._store, self._id)
        self._chain = await records.read_chain(self._store, self._id)
        self._checkpoints = await records.read_checkpoints(self._store, self._id)
        self._totals = await records.read_totals(self._store, self._id)

    def _existing(self) -> SessionSettings:
        if self._settings is None:
            raise UnknownSession(f"there is no session {self._id!r}")
        return self._settings

    def _give_floor(self) -> None:
        while self._waiting and self._memory.speaker is None:
            ticket, (begin, reply_to) = next(iter(self._waiting.items()))
            del self._waiting[ticket]
            if reply_to.abandoned:
                continue
            try:
                granted = self._granted(begin)
            except SessionRefused as refusal:
                reply_to.refuse(refusal)
                continue
            self._memory.speaker = ticket
            reply_to.reply(granted)

    def _granted(self, begin: Begin) -> Granted:
        settings = self._existing()
        if begin.for_turn:
            self._check_room(settings)
        return Granted(settings, shown(self._chain.entries), self._chain.head_seq)

    def _check_room(self, settings: SessionSettings) -> None:
        turns, tokens = self._totals.turns, self._totals.input_tokens + self._totals.output_tokens
        if settings.max_turns is not None and turns >= settings.max_turns:
            raise SessionFull(
                f"session {self._id!r} holds {turns} turns, its max_turns is {settings.max_turns}"
            )
        if settings.max_total_tokens is not None and tokens >= settings.max_total_tokens:
            raise SessionFull(
                f"session {self._id!r} took {tokens} tokens, its max_total_tokens is {settings.max_total_tokens}"
            )

    def _check_speaker(self, ticket: int) -> None:
        self._existing()
        if self._memory.speaker != ticket:
            raise SessionConflict(f"ticket {ticket} has not the floor of session {self._id!r}")

    async def _place(self, to: int | str | None) -> int | None:
        if isinstance(to, str):
            if to not in self._checkpoints:
                raise no_checkpoint(self._id, to, self._checkpoints)
            return self._checkpoints[to]
        if to is not None and not await records.has_entry(self._store, self._id, to):
            raise SessionRefused(f"session {self._id!r} has no turn {to}")
        return to

    async def _append(self, entry: Entry, body: bytes) -> None:
        try:
            await self._commit(
                records.entry_row(self._id, entry, body),
                records.touched(self._id, self._existing(), entry.created_at_ms),
            )
        except WriteRejected as error:
            await self._load()
            if self._chain.next_seq == entry.seq:
                raise  # nobody has added anything: the row itself is what the database does not take
            raise SessionConflict(
                f"another process has added to session {self._id!r} meanwhile; say it again"
            ) from error
        self._chain.next_seq += 1

    async def _commit(self, *writes: Write) -> None:
        await self._store.call(Commit(writes, ordered=True), timeout=_TIMEOUT_S)

    def _forget_oldest(self) -> None:
        """Keep of a long conversation no more in memory than may be shown."""
        size = sum(entry.bytes_ for entry in self._chain.entries)
        while size > _KEPT_BYTES and len(self._chain.entries) > 1:
            size -= self._chain.entries.pop(0).bytes_
            self._chain.whole = False


def shown(entries: list[Entry]) -> tuple[Entry, ...]:
    """Of a way to a head, what may still be shown: the newest summary, and the turns that it does not stand for."""
    summary = next((entry for entry in reversed(entries) if entry.kind == "summary"), None)
    if summary is None:
        return tuple(entries)
    covered = summary.covers_seq or 0
    return (summary, *(entry for entry in entries if entry.kind == "turn" and entry.seq > covered))
