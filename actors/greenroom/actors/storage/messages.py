"""What actors say to the store, and what it says to them."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from msgspec import Struct, field

from greenroom.actors.kernel import ActorRef, Call, Cast
from greenroom.actors.storage.errors import StorageFailed
from greenroom.actors.storage.shapes import Parameters, Rows, Write, WriterStatistics

if TYPE_CHECKING:
    from sqlalchemy import Executable


class Save(Cast, frozen=True):
    """Write these rows; a `Saved` comes back once they are on disk, also if the store has died meanwhile.

    Attributes:
        writes: applied in order.
        sender: who is told.
        tag: a number that grows with every save of this sender. A tag that is on disk already is not applied again but
            acknowledged again. A save that failed may be sent again under its tag, or under a new one.
        then: called in the writer's thread once the rows are on disk, in the order of the saves. It may block. If it
            raises, `Saved.error` is a `CallbackFailed`: the rows are on disk all the same.
        ordered: nothing sent earlier is applied later than this, and nothing sent later earlier. Without it rows of
            different saves may change places if their statements differ.
    """

    writes: tuple[Write, ...]
    sender: ActorRef
    tag: int
    then: Callable[[], None] | None = None
    ordered: bool = False


class Saved(Cast, frozen=True):
    """What became of saves of one commit: one message for those on disk, one for each way in which others failed.

    Attributes:
        tags: of which saves, in the order in which they were sent.
        error: why they failed; None: they are on disk.
    """

    tags: tuple[int, ...]
    error: StorageFailed | None = None


class Resend(Cast, frozen=True):
    """A new store has taken over: cast again every save that has not been acknowledged, in order of its tag.

    What was in the old store's mailbox is lost; what the writer had is not, and is not applied twice.
    """


class Introduce(Call[None], frozen=True, resend=True):
    """Make a sender known, so that it hears `Resend` even if the first save it ever casts is lost with a store.

    Call it once, before the first save.
    """

    sender: ActorRef


class Commit(Call[None], frozen=True, resend=True):
    """Write these rows and wait until they are on disk.

    Without writes it is a barrier: what was submitted before it has reached the disk or failed, and its `then`s have
    run. Called by name it waits out a restart of the store and may then be applied twice: write what bears that.

    Raises, at the caller:
        StorageFailed: nothing of it was applied.
    """

    writes: tuple[Write, ...] = ()
    ordered: bool = False


class Query(Call[Rows], frozen=True, resend=True):
    """Ask for rows, from what is committed when the query runs. At most `MAX_ROWS`: page by key.

    Raises, at the caller:
        StorageFailed: the query could not be run, or found more rows.
    """

    statement: "Executable"
    parameters: Parameters = field(default_factory=dict[str, object])


class DatabaseStatistics(Struct, frozen=True):
    """Whether the database is open, and what its writer has done since; None when it is not."""

    state: Literal["new", "open", "closed"]
    writer: WriterStatistics | None


class GetStorageStatistics(Call[DatabaseStatistics], frozen=True, resend=True):
    """Ask for the writer's figures."""
