"""A conversation as data: its settings, what was said, and what its turns need of each other."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from greenroom.actors.kernel import Refused
from greenroom.actors.prices import usd
from greenroom.actors.providers import Message

MAX_NAME_CHARS = 200
MAX_WAITING = 1_000
"""Turns of one session that may wait for the one before them."""

MAX_CHECKPOINTS = 1_000

Kind = Literal["turn", "summary", "move"]
Count = Annotated[int, Meta(ge=1)]


class SessionRefused(Refused):
    """The session cannot do what was asked; the message says why. Nothing has changed."""


class UnknownSession(SessionRefused):
    """There is no session of this name, or it was deleted."""


class SessionExists(SessionRefused):
    """There is a session of this name already."""


class SessionBusy(SessionRefused):
    """So many turns wait in this session that another one would wait hopelessly."""


class SessionFull(SessionRefused):
    """A limit of the session is reached: its turns, or its tokens."""


class SessionConflict(SessionRefused):
    """Another process has added to the session meanwhile. The turn was not recorded; what it cost is in the ledger."""


class TooLong(SessionRefused):
    """What is to be said does not fit the model's context, even with nothing said before it."""


class Window(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What of a conversation a model is shown, where all of it does not fit.

    Attributes:
        strategy: `sliding` drops the oldest turns that do not fit; `keep_system_and_last` shows the last `keep_last`
            turns at most; `summarise` has a model write a summary of what no longer fits, which stands in its place.
        max_tokens: the room for a request and its answer, in tokens; None: the model's own context window.
        keep_last: turns shown by `keep_system_and_last`.
        summary_model: who summarises; None: the session's own model. It is charged to the session.
    """

    strategy: Literal["sliding", "keep_system_and_last", "summarise"] = "sliding"
    max_tokens: Annotated[int, Meta(ge=16)] | None = None
    keep_last: Count = 10
    summary_model: str | None = None


class SessionSettings(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a session talks; kept with it.

    Attributes:
        model: whom it talks to, `provider/model`; None: the default model.
        system: the system message, which stands before everything that was said.
        budget_pusd: the most that the session may ever be charged, in pico-dollars.
        window: what of the conversation is shown.
        max_turns: turns that it may hold; one more is refused.
        max_total_tokens: tokens, in and out, after which no further turn is begun.
        tag: what its spend is booked under besides the session.
    """

    model: str | None = None
    system: str | None = None
    budget_pusd: Annotated[int, Meta(ge=0)] | None = None
    window: Window = Window()
    max_turns: Count | None = None
    max_total_tokens: Count | None = None
    tag: str | None = None


class SettingsChange(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What of a session's settings is to be otherwise from now on; UNSET: as it is. Fields as in `SessionSettings`."""

    model: str | UnsetType | None = UNSET
    system: str | UnsetType | None = UNSET
    budget_pusd: Annotated[int, Meta(ge=0)] | UnsetType | None = UNSET
    window: Window | UnsetType = UNSET
    max_turns: Count | UnsetType | None = UNSET
    max_total_tokens: Count | UnsetType | None = UNSET
    tag: str | UnsetType | None = UNSET

    def applied_to(self, settings: SessionSettings) -> SessionSettings:
        """The settings with these changes."""
        said = {name: getattr(self, name) for name in self.__struct_fields__}
        return msgspec.structs.replace(
            settings, **{name: value for name, value in said.items() if value is not UNSET}
        )


class Entry(Struct, frozen=True, kw_only=True):
    """One thing that happened in a session.

    Attributes:
        id: unique for ever.
        seq: its place among all that happened there.
        kind: `turn`; `summary`, which stands for everything up to `covers_seq`; `move`, which is a change of place.
        parent_seq: what it follows; of a `move`, where it goes. None: the beginning.
        messages: of a turn, everything from the user's message to the answer; of a summary, its text.
        bytes_: how long they are as JSON.
        sent_bytes: how long the whole request was that this turn answered.
        input_tokens, output_tokens: of all attempts of the turn.
    """

    id: int
    seq: int
    kind: Kind
    parent_seq: int | None
    messages: tuple[Message, ...]
    bytes_: int
    created_at_ms: int
    covers_seq: int | None = None
    model: str | None = None
    cost_pusd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    sent_bytes: int = 0


class Totals(Struct, frozen=True):
    """What everything comes to that was ever said in a session, what was cleared or gone back on too.

    Turns that failed are not among it; what those cost is in the ledger.
    """

    turns: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_pusd: int = 0

    @property
    def cost_usd(self) -> Decimal:
        """What it was charged, exact."""
        return usd(self.cost_pusd)


class Granted(Struct, frozen=True):
    """The floor, and what is needed to speak: the settings, and what was said, oldest first.

    `entries` are those that may still be shown: not those before a summary, nor what is on no way to `head_seq`.
    """

    settings: SessionSettings
    entries: tuple[Entry, ...]
    head_seq: int | None


class Memory:
    """What outlives a session's actor. Owned by whoever starts it.

    Attributes:
        speaker: the ticket of the turn that has the floor; it gives it back itself, whatever becomes of the actor.
        users: who is about to say something to the actor; it does not fall asleep while there is one.
    """

    __slots__ = ("speaker", "users")

    def __init__(self) -> None:
        self.speaker: int | None = None
        self.users = 0

    def give_back(self, ticket: int) -> None:
        """The turn is over, or was never begun."""
        if self.speaker == ticket:
            self.speaker = None


def no_checkpoint(session_id: str, name: str, known: Iterable[str]) -> SessionRefused:
    """The refusal of a checkpoint that there is not."""
    return SessionRefused(
        f"session {session_id!r} has no checkpoint {name!r}; there are: {', '.join(known) or 'none'}"
    )


def check_name(name: str) -> str:
    """The name, if a session may have it.

    Raises:
        ValueError: it is empty, too long, or holds what cannot be printed.
        TypeError: it is no text.
    """
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
        raise TypeError(f"a session's name is text: {name!r:.80}")
    if not 0 < len(name) <= MAX_NAME_CHARS or not name.isprintable() or name != name.strip():
        raise ValueError(
            f"a session's name is 1 to {MAX_NAME_CHARS} printable characters, without spaces around them: {name!r}"
        )
    return name
