"""Sessions as the database knows them."""

from collections.abc import AsyncIterator, Coroutine
from typing import Any, Protocol, cast

import msgspec

from greenroom.actors import storage
from greenroom.actors.providers import Message
from greenroom.actors.session.state import Entry, Kind, SessionRefused, SessionSettings, Totals
from greenroom.actors.storage import Query, Rows, StorageFailed, Write

_LOADED_BYTES = 8 * 1024 * 1024
"""What of a conversation is read when it wakes: more than any model's context holds."""
_AFTER_EVERYTHING = 2**31 - 1

_Row = tuple[int, int, Kind, int | None, int | None, bytes, str | None, int, int, int, int, int]
_decode = msgspec.json.Decoder(tuple[Message, ...]).decode
encode_messages = msgspec.json.Encoder().encode


class Reader(Protocol):
    """Who answers queries: the store, or a database that is open for reading."""

    def call(self, message: Query, *, timeout: float | None = ...) -> Coroutine[Any, Any, Rows]: ...


class Chain:
    """What was said on the way to where a session is, read from its end backwards.

    Attributes:
        head_seq: where it is; None: at the beginning.
        entries: oldest first, as far as was read.
        next_seq: what comes next.
        whole: whether `entries` reach to the beginning.
    """

    def __init__(self) -> None:
        self.head_seq: int | None = None
        self.entries: list[Entry] = []
        self.next_seq = 1
        self.whole = False


async def read_settings(store: Reader, session_id: str) -> SessionSettings | None:
    """A session's settings; None: there is no such session. Raises also as `settings_of`."""
    rows = await store.call(Query(storage.SESSION_SETTINGS, {"session_id": session_id}))
    return settings_of(session_id, cast("str", rows[0][0])) if rows else None


def settings_of(session_id: str, text: str) -> SessionSettings:
    """Settings as they stand in a row.

    Raises:
        StorageFailed: another version of greenroom has written them.
    """
    try:
        return msgspec.json.decode(text, type=SessionSettings)
    except msgspec.DecodeError as error:
        raise StorageFailed(
            f"the settings of session {session_id!r} are of another version: {error}"
        ) from None


async def read_chain(
    store: Reader, session_id: str, *, head_seq: int | None = None, most_bytes: int | None = _LOADED_BYTES
) -> Chain:
    """The way to the head of a session, or to another entry of it.

    Args:
        store: the store, or whoever reads.
        session_id: the session's name.
        head_seq: the entry to which the way leads; None: where the session is.
        most_bytes: of messages, after which nothing older is read; None: all of it.
    """
    chain = Chain()
    if head_seq is not None and not 0 < head_seq < _AFTER_EVERYTHING:
        return chain
    wanted = chain.head_seq = head_seq
    found: list[Entry] = []
    size = 0
    async for entry in _backwards(store, session_id, head_seq):
        if chain.next_seq == 1:
            chain.next_seq = entry.seq + 1
            if head_seq is None:
                wanted = chain.head_seq = entry.parent_seq if entry.kind == "move" else entry.seq
        if wanted is None:
            break
        if entry.seq == wanted and entry.kind != "move":
            found.append(entry)
            wanted = entry.parent_seq
            size += entry.bytes_
            if most_bytes is not None and size > most_bytes:
                break
    chain.entries = found[::-1]
    chain.whole = wanted is None
    return chain


async def _backwards(store: Reader, session_id: str, head_seq: int | None) -> AsyncIterator[Entry]:
    before = _AFTER_EVERYTHING if head_seq is None else head_seq + 1
    while True:
        rows = await store.call(
            Query(storage.TURNS_BACKWARDS, {"session_id": session_id, "before_seq": before}), timeout=60.0
        )
        for row in rows:
            entry = _entry(row)
            before = entry.seq
            yield entry
        if len(rows) < storage.TURNS_PAGE:
            return


def _entry(row: tuple[object, ...]) -> Entry:
    id_, seq, kind, parent, covers, body, model, cost, tokens_in, tokens_out, sent, at_ms = cast("_Row", row)
    return Entry(
        id=id_,
        seq=seq,
        kind=kind,
        parent_seq=parent,
        covers_seq=covers,
        messages=_decode(body),
        bytes_=len(body),
        model=model,
        cost_pusd=cost,
        input_tokens=tokens_in,
        output_tokens=tokens_out,
        sent_bytes=sent,
        created_at_ms=at_ms,
    )


async def read_checkpoints(store: Reader, session_id: str) -> dict[str, int | None]:
    """The places that have a name, oldest first."""
    rows = await store.call(Query(storage.CHECKPOINTS, {"session_id": session_id}))
    return {cast("str", name): cast("int | None", seq) for name, seq in rows}


async def has_entry(store: Reader, session_id: str, seq: int) -> bool:
    """Whether there is a turn or summary of this number."""
    if not 0 < seq < _AFTER_EVERYTHING:
        return False
    rows = await store.call(Query(storage.TURN_AT, {"session_id": session_id, "seq": seq}))
    return bool(rows)


async def read_totals(store: Reader, session_id: str) -> Totals:
    """What everything comes to that was ever recorded in a session."""
    rows = await store.call(Query(storage.SESSION_TOTALS, {"session_id": session_id}))
    return Totals(*(int(str(value)) for value in rows[0]))


def session_row(session_id: str, settings: SessionSettings, now_ms: int) -> Write:
    """Make a session, or change its settings.

    Raises:
        SessionRefused: they hold what is no Unicode text.
    """
    return Write(storage.PUT_SESSION, (_session_row(session_id, settings, now_ms),))


def _session_row(session_id: str, settings: SessionSettings, now_ms: int) -> dict[str, object]:
    try:
        encoded = msgspec.json.encode(settings).decode()
    except UnicodeEncodeError as error:
        raise SessionRefused(
            f"settings of session {session_id!r}: {error.object[:80]!r} is no text that UTF-8 can hold"
        ) from None
    return {"id": session_id, "created_at_ms": now_ms, "updated_at_ms": now_ms, "settings": encoded}


def entry_row(session_id: str, entry: Entry, body: bytes) -> Write:
    """Append an entry."""
    row = {
        "id": entry.id,
        "session_id": session_id,
        "seq": entry.seq,
        "kind": entry.kind,
        "parent_seq": entry.parent_seq,
        "covers_seq": entry.covers_seq,
        "body": body,
        "model": entry.model,
        "cost_pusd": entry.cost_pusd,
        "input_tokens": entry.input_tokens,
        "output_tokens": entry.output_tokens,
        "sent_bytes": entry.sent_bytes,
        "created_at_ms": entry.created_at_ms,
    }
    return Write(storage.INSERT_TURN, (row,))


def touched(session_id: str, settings: SessionSettings, now_ms: int) -> Write:
    """Note that something happened in a session; one that was purged meanwhile is there again."""
    return Write(storage.TOUCH_SESSION, (_session_row(session_id, settings, now_ms),))


def checkpoint_row(session_id: str, name: str, seq: int | None, now_ms: int) -> Write:
    """Name a place."""
    row = {"session_id": session_id, "name": name, "seq": seq, "created_at_ms": now_ms}
    return Write(storage.PUT_CHECKPOINT, (row,))


def deletion(session_id: str) -> tuple[Write, ...]:
    """Remove a session and all that was said in it."""
    return tuple(Write(statement, ({"session_id": session_id},)) for statement in storage.DELETE_SESSION)
