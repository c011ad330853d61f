"""What can go wrong with the database, and whose doing it was.

    StorageFailed              what was asked is not on disk; trying again later may work
    ├── WriteRejected          this write is wrong (a constraint, a value, a statement); again gives the same
    ├── CallbackFailed         the rows are on disk, but what was to follow their commit failed
    ├── StorageClosed          the database is closed, or closing
    └── DatabaseUnusable       the database could not be opened
        ├── DatabaseOwned      another process owns the file
        ├── DatabaseNewer      written by a newer greenroom
        ├── DatabaseOlder      written by an older greenroom, and opened for reading only
        ├── DatabaseMissing    opened for reading only, and there is none
        └── DatabaseCorrupt    the file is no SQLite database, or damaged, or another application's

All derive from the kernel's `Refused`: the store lives on, and whoever asked is told.
"""

from greenroom.actors.kernel import Refused


class StorageFailed(Refused):
    """What was asked is not on disk (a full disk, an I/O error, a lock that was not had in time, too much waiting).

    Nothing of the refused write was applied; the next write is tried afresh.
    """


class WriteRejected(StorageFailed):
    """The write itself is at fault: a constraint, a value or the statement. Writing it again gives the same."""


class CallbackFailed(StorageFailed):
    """The rows are on disk, but the `then` of their save raised; the exception is the `__cause__`."""


class StorageClosed(StorageFailed):
    """The database is closed, or closing: nothing more is taken."""


class DatabaseUnusable(StorageFailed):
    """The database could not be opened; the message says why and what to do."""


class DatabaseOwned(DatabaseUnusable):
    """Another process owns the database file. Stop it, or point `storage.url` elsewhere."""


class DatabaseNewer(DatabaseUnusable):
    """The tables were written by a newer greenroom than this one. Upgrade, or point `storage.url` elsewhere."""


class DatabaseOlder(DatabaseUnusable):
    """The tables are an older greenroom's, and a reader migrates nothing. Any run that writes brings them up."""


class DatabaseMissing(DatabaseUnusable):
    """There is no database where a reader looked for one."""


class DatabaseCorrupt(DatabaseUnusable):
    """The file is damaged, no SQLite database, or holds another application's tables."""
