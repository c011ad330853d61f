"""What is said to a session's actor."""

from msgspec import Struct

from greenroom.actors.kernel import Call, Cast
from greenroom.actors.providers import Message
from greenroom.actors.session.state import Entry, Granted, SessionSettings, SettingsChange, Totals


class Open(Call[SessionSettings], frozen=True, resend=True):
    """Have the session: make it, or change the settings of the one that is there. Answered once it is on disk.

    Raises, at the caller:
        StorageFailed: it is not.
    """

    change: SettingsChange


class Fill(Call[None], frozen=True, resend=True):
    """Make the session with what was said in another one; all of it is on disk when this is answered, or nothing.

    Raises, at the caller:
        SessionExists: there is one of this name.
        StorageFailed: it is not on disk.
    """

    settings: SessionSettings
    entries: tuple[Entry, ...]
    checkpoints: dict[str, int | None]


class Begin(Call[Granted], frozen=True, resend=True):
    """Ask for the floor; answered when it is this ticket's turn. Turns are served in order of arrival.

    Whoever asks gives the floor back in `finally`, granted or not: `Memory.give_back`, then `Next`. Asking twice with
    one ticket counts once. `for_turn`: something is to be said, for which there must be room.

    Raises, at the caller:
        UnknownSession: there is none.
        SessionBusy, SessionFull: see there.
    """

    ticket: int
    for_turn: bool = True


class Next(Cast, frozen=True):
    """This ticket has given the floor back, or waits no longer."""

    ticket: int


class Said(Call[Entry], frozen=True, kw_only=True, resend=True):
    """Record a turn, or a summary of what was before. Answered once it is on disk; with one ticket, recorded once.

    Attributes:
        ticket: who has the floor.
        id: of the entry, unique for ever.
        covers_seq: set for a summary: it stands for everything up to there.

    Raises, at the caller:
        SessionConflict: see there.
        StorageFailed: it is not on disk.
    """

    ticket: int
    id: int
    messages: tuple[Message, ...]
    covers_seq: int | None = None
    model: str | None = None
    cost_pusd: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    sent_bytes: int = 0


class Move(Call[None], frozen=True, resend=True):
    """Go on from another place: what was said after it is kept, and not shown any more.

    Attributes:
        to: the `seq` of a turn, the name of a checkpoint, or None: the beginning.

    Raises, at the caller:
        SessionRefused: there is no such place.
        SessionConflict, StorageFailed: as `Said`.
    """

    ticket: int
    id: int
    to: int | str | None


class Mark(Call[None], frozen=True, resend=True):
    """Give the present place a name; one that has been given moves here. Raises as `Move`."""

    ticket: int
    name: str


class Change(Call[SessionSettings], frozen=True, resend=True):
    """Change the settings, from the next turn on. Raises as `Said`."""

    ticket: int
    change: SettingsChange


class Delete(Call[None], frozen=True, resend=True):
    """Remove the session and all that was said; its spend stays in the ledger. Raises as `Said`."""

    ticket: int


class Sleep(Cast, frozen=True):
    """Fall asleep now, if nobody speaks."""


class SessionStatus(Struct, frozen=True, kw_only=True):
    """Where a session stands: what `totals` come to, which places have a name, where it is, who speaks and waits."""

    name: str
    settings: SessionSettings
    totals: Totals
    checkpoints: dict[str, int | None]
    head_seq: int | None
    speaking: bool
    waiting: int


class GetSessionStatus(Call[SessionStatus], frozen=True, resend=True):
    """Ask where it stands; answered also while a model thinks."""
