"""What the parts of the storage hand each other. Nothing here needs SQLAlchemy, whose import takes too long for a loop."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from greenroom.actors.storage.errors import StorageFailed

if TYPE_CHECKING:
    from greenroom.actors.storage.binding import Statement

MAX_WAITING = 100_000
"""Jobs that may wait for the disk. Beyond that new ones are refused: spend that cannot be recorded must not be made."""

MAX_ROWS = 10_000
"""Rows of one answer. A query that finds more is refused, never cut short: page by key."""

PAGE = 1000
"""Rows of one page of the queries that are asked page by page: again after the last key until a page is short."""

TICKET_BITS = 40
"""An attempt's id is `runtime_id << TICKET_BITS | counter`: unique for ever without asking the database."""

Parameters = Mapping[str, object]
Rows = list[tuple[object, ...]]


class Write(Struct, frozen=True):
    """One statement for one or more rows, applied in order.

    All writes of a statement bring parameters of the same names.
    """

    statement: "Statement"
    parameters: tuple[Parameters, ...]


class Job(Protocol):
    """What the writer takes: a save, or a commit that somebody waits for."""

    @property
    def writes(self) -> tuple[Write, ...]: ...
    @property
    def ordered(self) -> bool: ...
    @property
    def then(self) -> Callable[[], None] | None: ...


Failures = Mapping[int, StorageFailed]
"""What went wrong, by the job's place in its group. Who is not in it is on disk."""


class WriterStatistics(Struct, frozen=True):
    """What the writer has done since it was started.

    `waiting` counts jobs not yet taken; `rows` counts parameter sets, whether or not they changed a row.
    """

    waiting: int
    commits: int
    jobs: int
    rows: int
    largest_group: int
    failures: int
