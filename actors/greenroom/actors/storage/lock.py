"""Who owns a database file: one process at a time, held by a lock that dies with its holder.

The lock itself is the operating system's, on `<file>.lock`. The owner's description stands beside it in
`<file>.owner`, only so that a refusal can name somebody: it proves nothing, and one left by a killed process is
overwritten by the next owner.
"""

from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import filelock
import msgspec

from greenroom.actors.storage.errors import DatabaseOwned, DatabaseUnusable


class Owner(msgspec.Struct, frozen=True):
    """What an owner says of itself."""

    pid: int
    host: str
    uuid: str
    started_at_ms: int
    version: str


class DatabaseLock:
    """The ownership of one database file.

    A child made by `fork` inherits the lock's descriptor, so the lock lasts until both are gone.

    Args:
        path: the database file, by its real path.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._owner_path = path.with_name(path.name + ".owner")
        # Not bound to a thread: one opens, another closes.
        self._lock = filelock.FileLock(
            path.with_name(path.name + ".lock"), timeout=0, mode=0o600, thread_local=False
        )

    def acquire(self, owner: Owner) -> None:
        """Take the lock and leave the owner's name beside it. Does not wait.

        Raises:
            DatabaseOwned: another process, or this one a second time, holds it.
            DatabaseUnusable: the lock file cannot be made.
        """
        try:
            self._lock.acquire()
        except filelock.Timeout:
            raise DatabaseOwned(
                f"database {self._path} is owned by {self._whom()}; stop it, or point storage.url elsewhere"
            ) from None
        except (OSError, NotImplementedError) as error:
            raise DatabaseUnusable(f"database {self._path} cannot be locked: {error}") from error
        try:
            self._tell(owner)
        except OSError as error:
            self._lock.release()
            raise DatabaseUnusable(f"{self._owner_path} cannot be written: {error}") from error

    def release(self) -> None:
        """Give the lock back. Harmless when it is not held."""
        if self._lock.is_locked:
            with suppress(OSError):
                self._owner_path.unlink()
            self._lock.release()

    def _tell(self, owner: Owner) -> None:
        new = self._owner_path.with_name(self._owner_path.name + ".new")
        new.touch(mode=0o600)
        new.write_bytes(msgspec.json.encode(owner) + b"\n")
        new.replace(self._owner_path)

    def _whom(self) -> str:
        try:
            owner = msgspec.json.decode(self._owner_path.read_bytes(), type=Owner)
        except (OSError, msgspec.DecodeError):
            # Between taking the lock and leaving its name, or after somebody removed the file.
            return "another process"
        since = datetime.fromtimestamp(owner.started_at_ms / 1000, UTC)
        return f"process {owner.pid} on host {owner.host} since {since:%Y-%m-%d %H:%M:%S} UTC"
