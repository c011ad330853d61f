"""A session's handle: what `Runtime.session` gives; and conversations as documents."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import partial
from typing import Annotated, Literal, TypedDict, Unpack

import msgspec
from msgspec import Meta, Struct

from greenroom.actors.flow import Reply
from greenroom.actors.prices import usd
from greenroom.actors.providers import Message
from greenroom.actors.session import (
    Conversation,
    Entry,
    GetSessionStatus,
    SessionRefused,
    SessionSettings,
    SessionStatus,
    SessionStream,
    SettingsChange,
    Window,
    check_name,
    no_checkpoint,
)
from greenroom.actors.session.messages import Change, Delete, Fill, Mark, Move, Open
from greenroom.actors.session.records import read_chain
from greenroom.runtime.askers import Askers
from greenroom.runtime.options import Messages, OptionInvalid, Options, read_budget, read_options
from greenroom.supervisors.tree import Tree

_LATEST_MS = 253_402_300_799_999
"""The end of the year 9999, beyond which Python has no dates."""


class SessionOptions(TypedDict, total=False):
    """How a session is to talk, from now on; what is not said stays as it is. See `SessionSettings`.

    `budget_usd` is the most that the session may ever be charged. A new session's system message, budget and limits are
    none, its model the default model, its window `sliding`.
    """

    model: str | None
    system: str | None
    budget_usd: Decimal | str | float | None
    window: Window | Literal["sliding", "keep_system_and_last", "summarise"]
    max_turns: int | None
    max_total_tokens: int | None
    tag: str | None


class ExportedTurn(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A turn, or a summary of the turns before it, in an exported session."""

    messages: tuple[Message, ...]
    created_at_ms: Annotated[int, Meta(ge=0, le=_LATEST_MS)]
    seq: int = 0
    summary_of_seq: int | None = None
    model: str | None = None
    cost_usd: Decimal = Decimal(0)
    input_tokens: int = 0
    output_tokens: int = 0


class ExportedSession(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session as a document: its settings, and what was said on the way to where it is.

    `checkpoints` are those on that way, by the `seq` of the turn; null is the beginning.
    """

    greenroom_session: Literal[1] = 1
    name: str
    settings: SessionSettings
    turns: tuple[ExportedTurn, ...] = ()
    checkpoints: dict[str, int | None] = {}


class Session:
    """A conversation that outlives its process. Made by `Runtime.session`; holding one keeps nothing awake.

    One turn at a time: who says something while another turn is in work waits for it, in order.
    """

    def __init__(
        self, conversation: Conversation, tree: Tree, askers: Askers, default_model: str | None
    ) -> None:
        self._talk = conversation
        self._askers = askers
        self._tree = tree
        self._default_model = default_model

    def __repr__(self) -> str:
        return f"<Session {self.name!r}>"

    @property
    def name(self) -> str:
        return self._talk.id

    async def say(self, message: Messages, **options: Unpack[Options]) -> Reply:
        """Say something, and wait for the whole answer. When this returns, both are on disk.

        Args:
            message: the user's text; or messages, such as the results of tools.
            **options: as of `Runtime.chat`.

        Raises:
            UnknownSession, SessionFull, SessionBusy, TooLong: nothing was asked.
            SessionConflict, StorageFailed: it was answered, and could not be recorded.
            OptionInvalid, Refused, ProviderFailed: as `Runtime.chat`; nothing is recorded.

        Cancelling records nothing, and settles what was used.
        """
        asked = read_options("", message, options)
        return await self._talk.say(asked.request, asked.terms, partial(self._askers.before, asked=asked))

    def stream(self, message: Messages, **options: Unpack[Options]) -> SessionStream:
        """Say something, and be told the answer as it comes: `async with session.stream("...") as events`.

        The turn is on disk before `Finished` is told. Leaving the block early records nothing.
        """
        asked = read_options("", message, options)
        return self._talk.stream(asked.request, asked.terms, partial(self._askers.before, asked=asked))

    async def history(self) -> tuple[Message, ...]:
        """Everything that was said on the way to where the session is, oldest first, the system message not included."""
        return tuple(m for entry in await self.turns() if entry.kind == "turn" for m in entry.messages)

    async def turns(self, *, at: str | int | None = None) -> tuple[Entry, ...]:
        """The turns, and the summaries made on the way, with what each cost. Oldest first.

        Args:
            at: up to where: a checkpoint's name, or the `seq` of one of them; None: where the session is.
        """
        return await self._turns(await self.status(), at)

    async def _turns(self, status: SessionStatus, at: str | int | None) -> tuple[Entry, ...]:
        head = place_of(status, at) if isinstance(at, str) else at
        if head is None and at is not None:
            return ()
        # Where it is stands in the database, where another process may have gone on with it.
        chain = await read_chain(self._tree.store, self.name, head_seq=head, most_bytes=None)
        if head is not None and not chain.entries:
            raise SessionRefused(f"session {self.name!r} has no turn {head}")
        return tuple(chain.entries)

    async def status(self) -> SessionStatus:
        """Where it stands: settings, totals, checkpoints. Answered also while a model thinks.

        Raises:
            UnknownSession: it was deleted.
        """
        return await self._talk.ask(GetSessionStatus())

    async def configure(self, **options: Unpack[SessionOptions]) -> SessionSettings:
        """Change its settings, from the next turn on."""
        async with self._talk.floor(for_turn=False) as floor:
            return await floor.ask(Change(floor.ticket, settings_change(options)))

    async def transfer(self, model: str) -> SessionSettings:
        """Go on with another model, of whatever provider; what was said goes with it, tools included."""
        return await self.configure(model=model)

    async def checkpoint(self, name: str) -> None:
        """Name the present place, to come back to it; a name that was given before moves here."""
        check_name(name)
        async with self._talk.floor(for_turn=False) as floor:
            await floor.ask(Mark(floor.ticket, name))

    async def restore(self, to: str | int | None) -> None:
        """Go on from an earlier place: a checkpoint's name, or the `seq` of one of `turns()`.

        What was said after it is kept, and not shown any more.

        Raises:
            SessionRefused: there is no such place.
        """
        async with self._talk.floor(for_turn=False) as floor:
            await floor.ask(Move(floor.ticket, self._talk.next_ticket(), to))

    async def clear(self) -> None:
        """Begin anew, with the same settings; totals and checkpoints stay."""
        await self.restore(None)

    async def branch(self, name: str, *, at: str | int | None = None) -> "Session":
        """Make another session that shares what was said so far, and nothing that is said later in either.

        Args:
            name: of the new session.
            at: where it branches off: a checkpoint's name, or the `seq` of one of `turns()`; None: where this one is.

        Raises:
            SessionRefused: there is no such place, or a session of that name.
        """
        return await import_session(
            self._tree, self._askers, await self.export(at=at), name, self._default_model
        )

    async def export(self, *, at: str | int | None = None) -> ExportedSession:
        """The session as a document that `Runtime.import_session` takes; `msgspec.json.encode` makes JSON of it.

        Args:
            at: up to where, as in `turns`.
        """
        status = await self.status()
        entries = await self._turns(status, at)
        return document_of(self.name, status.settings, entries, status.checkpoints)

    async def open(self, change: SettingsChange) -> SessionSettings:
        """Have the session on disk, with these changes of its settings."""
        return await self._talk.ask(Open(change))

    async def fill(self, fill: Fill) -> None:
        """Make the session of what was said elsewhere; see `Fill`."""
        await self._talk.ask(fill)

    async def delete(self) -> None:
        """Remove it, and all that was said. What it spent stays in the ledger."""
        async with self._talk.floor(for_turn=False) as floor:
            await floor.ask(Delete(floor.ticket))


async def open_session(
    tree: Tree, askers: Askers, name: str, default_model: str | None, options: SessionOptions
) -> Session:
    """Have a session; see `Runtime.session`."""
    session = _session(tree, askers, name, default_model)
    await session.open(settings_change(options))
    return session


async def import_session(
    tree: Tree, askers: Askers, document: ExportedSession, name: str | None, default_model: str | None
) -> Session:
    """Make a session of a document; see `Runtime.import_session`."""
    session = _session(tree, askers, name or document.name, default_model)
    await session.fill(fill_of(document, tree.next_ticket))
    return session


def _session(tree: Tree, askers: Askers, name: str, default_model: str | None) -> Session:
    conversation = Conversation(
        check_name(name),
        wake=tree.sessions.wake,
        flow=tree.flow,
        next_ticket=tree.next_ticket,
        catalog=tree.catalog,
        default_model=default_model,
    )
    return Session(conversation, tree, askers, default_model)


def settings_change(options: SessionOptions) -> SettingsChange:
    """What a caller wants of a session.

    Raises:
        OptionInvalid: an option is unknown or has no such value.
    """
    said: dict[str, object] = {}
    for name, value in options.items():
        if name not in SessionOptions.__annotations__:
            known = ", ".join(SessionOptions.__annotations__)
            raise OptionInvalid(name, f"a session has no such option; there are {known}")
        if name == "budget_usd":
            said["budget_pusd"] = read_budget(options.get("budget_usd"))
        elif name == "window" and isinstance(value, str):
            said["window"] = {"strategy": value}
        else:
            said[name] = value
    try:
        return msgspec.convert(said, SettingsChange)
    except msgspec.ValidationError as error:
        what, _, at = str(error).rpartition(" - at `$.")
        raise OptionInvalid(at.rstrip("`"), what) from None


def place_of(status: SessionStatus, checkpoint: str) -> int | None:
    """Where a checkpoint is.

    Raises:
        SessionRefused: there is none of this name.
    """
    if checkpoint not in status.checkpoints:
        raise no_checkpoint(status.name, checkpoint, status.checkpoints)
    return status.checkpoints[checkpoint]


def fill_of(document: ExportedSession, next_ticket: Callable[[], int]) -> Fill:
    """What makes a session of a document. Its turns are numbered anew, and cost it nothing: they were paid for elsewhere.

    Raises:
        SessionRefused: two turns have one `seq`, or a checkpoint is of no turn that the document holds, or a summary of
            none before it.
        ValueError: no checkpoint can have this name.
    """
    numbers: dict[int | None, int | None] = {None: None}
    entries: list[Entry] = []
    try:
        for number, turn in enumerate(document.turns, 1):
            entry = Entry(
                id=next_ticket(),
                seq=number,
                kind="turn" if turn.summary_of_seq is None else "summary",
                parent_seq=number - 1 or None,
                covers_seq=numbers[turn.summary_of_seq],
                messages=turn.messages,
                bytes_=len(msgspec.json.encode(turn.messages)),
                model=turn.model,
                created_at_ms=turn.created_at_ms,
            )
            entries.append(entry)
            if turn.seq and numbers.setdefault(turn.seq, number) != number:
                raise SessionRefused(f"the document of session {document.name!r} has two turns {turn.seq}")
        places = {check_name(name): numbers[seq] for name, seq in document.checkpoints.items()}
    except KeyError as error:
        raise SessionRefused(
            f"the document of session {document.name!r} has no turn {error} before what refers to it"
        ) from None
    return Fill(document.settings, tuple(entries), places)


def document_of(
    name: str, settings: SessionSettings, entries: Sequence[Entry], checkpoints: Mapping[str, int | None]
) -> ExportedSession:
    """A session as a document: what was said on one way through it, and the checkpoints on that way."""
    on_the_way = {entry.seq for entry in entries}
    return ExportedSession(
        name=name,
        settings=settings,
        turns=tuple(map(_exported, entries)),
        checkpoints={place: seq for place, seq in checkpoints.items() if seq is None or seq in on_the_way},
    )


def _exported(entry: Entry) -> ExportedTurn:
    return ExportedTurn(
        messages=entry.messages,
        created_at_ms=entry.created_at_ms,
        seq=entry.seq,
        summary_of_seq=entry.covers_seq,
        model=entry.model,
        cost_usd=usd(entry.cost_pusd),
        input_tokens=entry.input_tokens,
        output_tokens=entry.output_tokens,
    )
