"""The database of one runtime: opening and owning it, and the two threads that outlive the store actor."""

import asyncio
import contextlib
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from msgspec import Struct
from sqlalchemy import Engine, Executable, func, select

from greenroom.actors.storage import migrations
from greenroom.actors.storage.book import Book
from greenroom.actors.storage.engine import explain, file_of, parse, reading, writing
from greenroom.actors.storage.errors import DatabaseUnusable, StorageClosed, StorageFailed
from greenroom.actors.storage.liveness import show_life
from greenroom.actors.storage.lock import DatabaseLock, Owner
from greenroom.actors.storage.messages import DatabaseStatistics
from greenroom.actors.storage.reader import Done, Reader
from greenroom.actors.storage.shapes import Failures, Job, Parameters, Rows
from greenroom.actors.storage.statements import END_RUNTIME, START_RUNTIME
from greenroom.actors.storage.writer import Deliver, Writer

CLOSE_TIMEOUT_S = 10.0

_MIGRATION_LOCK = 0x67726E72


class _Open(Struct, frozen=True):
    """Everything that exists only while the database is open."""

    engine: Engine
    reading: Engine
    writer: Writer
    reader: Reader
    runtime_id: int
    runtime_uuid: str


class Database:
    """One database, opened for writing by one runtime.

    Making one touches nothing. `open` and `close` block and belong in a thread; the rest may be called on the loop.

    Args:
        url: `sqlite:///FILE` or `postgresql+psycopg://...`.
        app_version: greenroom's version, kept with the runtime's row.
        now_ms: unix milliseconds.

    Raises:
        DatabaseUnusable: the URL is no good.
    """

    def __init__(
        self, url: str, *, app_version: str, now_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000
    ) -> None:
        self._url = parse(url)
        self._path = file_of(self._url)
        self._where = f"database {self._path or self._url.render_as_string(hide_password=True)}"
        self._app_version = app_version
        self._now_ms = now_ms
        self._lock: DatabaseLock | None = None
        self.book = Book()
        self._opening = threading.Lock()
        self._opened: _Open | None = None
        self._closed = False
        self._deliver: Deliver | None = None

    def __repr__(self) -> str:
        return f"<{self._where}: {self._state()}>"

    @property
    def path(self) -> Path | None:
        """The file, by its absolute path; None on a server."""
        return self._path

    @property
    def is_open(self) -> bool:
        """Whether it takes jobs and queries now."""
        return self._opened is not None

    @property
    def runtime_id(self) -> int:
        """The identity of this runtime in the database: the row that `open` inserted.

        Raises:
            StorageClosed: it is not open.
        """
        return self._need_open().runtime_id

    @property
    def runtime_uuid(self) -> str:
        """The same identity as a UUID, unique across databases.

        Raises:
            StorageClosed: it is not open.
        """
        return self._need_open().runtime_uuid

    def open(self) -> None:
        """Own the file, bring its tables up to date, insert this runtime's row, start the threads. Blocking.

        Does nothing if it is open already, so a restarted store just calls it again. After a failure nothing is
        held and nothing runs.

        Raises:
            DatabaseOwned: another process owns it; the message names it.
            DatabaseNewer: a newer greenroom has written it.
            DatabaseCorrupt: it is damaged, no SQLite database, or another application's.
            DatabaseUnusable: its folder cannot be made or written, or its server not reached.
            StorageClosed: it has been closed; make another.
            StorageFailed: the disk is full, or failed.
        """
        with self._opening:
            if self._opened is not None:
                return
            if self._closed:
                raise StorageClosed(f"{self._where} was closed")
            owner = Owner(
                os.getpid(), socket.gethostname(), str(uuid.uuid4()), self._now_ms(), self._app_version
            )
            lock = None if self._path is None else self._own(self._path, owner)
            try:
                self._opened = self._start(owner)
            except Exception as error:
                if lock is not None:
                    lock.release()
                raise self._unusable(error) from error
            self._lock = lock

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Commit what waits, write the log back into the file, note the runtime's end, give the lock up. Blocking.

        Harmless when it is not open. Queries that still run are broken off.

        Args:
            timeout_s: how long the disk may take.

        Raises:
            StorageFailed: it took longer. The threads go on, and the lock stays until the process ends.
        """
        with self._opening:
            self._closed = True
            opened, self._opened = self._opened, None
            if opened is None:
                return
            deadline = time.monotonic() + timeout_s
            if not opened.writer.close(timeout_s):
                raise StorageFailed(f"{self._where}: the disk did not take everything within {timeout_s:g} s")
            opened.reader.close(max(0.1, deadline - time.monotonic()))
            # Only tidiness is left: a failure here loses nothing that was acknowledged.
            with contextlib.suppress(Exception):
                self._finish(opened)
            opened.engine.dispose()
            opened.reading.dispose()
            if self._lock is not None:
                self._lock.release()

    def attach(self, deliver: Deliver) -> None:
        """Say who hears what became of each group. Called in the writer's thread; the last one attached hears all."""
        self._deliver = deliver

    def submit(self, job: Job) -> None:
        """Queue a job for the writer. Never waits; may be called from any thread.

        What became of it is told to whoever is attached.

        Raises:
            StorageClosed: it is not open.
            StorageFailed: too much waits for the disk already; the job was not taken.
        """
        opened = self._opened
        if opened is None:
            raise StorageClosed(f"{self._where} is not open")
        opened.writer.put(job)

    async def read(self, statement: Executable, parameters: Parameters | None = None) -> Rows:
        """The rows of a query, from what is committed at that moment. At most `MAX_ROWS`; page by key.

        Cancelling drops the answer; the query itself runs on.

        Raises:
            StorageClosed: it is not open.
            StorageFailed: the query could not be run, found too many rows, or too many queries wait.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Rows] = loop.create_future()

        def done(rows: Rows | None, error: StorageFailed | None) -> None:
            loop.call_soon_threadsafe(_resolve, answer, rows, error)

        self.query(statement, parameters or {}, done)
        return await answer

    def query(self, statement: Executable, parameters: Parameters, done: Done) -> None:
        """As `read`, for callers that do not wait: `done` is called in the reader's thread, exactly once.

        Raises:
            StorageClosed: it is not open.
            StorageFailed: too many queries wait.
        """
        self._need_open().reader.put(statement, parameters, done)

    def statistics(self) -> DatabaseStatistics:
        """The figures of this moment."""
        opened = self._opened
        return DatabaseStatistics(self._state(), None if opened is None else opened.writer.statistics())

    def _state(self) -> Literal["new", "open", "closed"]:
        if self._opened is not None:
            return "open"
        return "closed" if self._closed else "new"

    def _need_open(self) -> _Open:
        opened = self._opened
        if opened is None:
            raise StorageClosed(f"{self._where} is not open")
        return opened

    def _own(self, path: Path, owner: Owner) -> DatabaseLock:
        """Make the folder and the file, for this user only, and lock it. Files that SQLite puts beside follow its mode.

        The lock goes by the real path, so that two names of one file are one database.
        """
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
            lock = DatabaseLock(path.resolve())
        except OSError as error:
            raise DatabaseUnusable(
                f"{self._where} cannot be written: {error.strerror}; point storage.url elsewhere"
            ) from error
        lock.acquire(owner)
        return lock

    def _start(self, owner: Owner) -> _Open:
        engine = writing(self._url)
        try:
            with engine.connect() as connection, connection.begin():
                if self._path is None:
                    # Several runtimes share a server: one of them migrates, the others wait and find it done.
                    connection.execute(select(func.pg_advisory_xact_lock(_MIGRATION_LOCK)))
                migrations.upgrade(connection, self._where)
                runtime_id = connection.execute(
                    START_RUNTIME,
                    {
                        "uuid": owner.uuid,
                        "started_at_ms": owner.started_at_ms,
                        "host": owner.host,
                        "version": owner.version,
                        "pid": owner.pid,
                    },
                ).scalar_one()
            beside = reading(self._url)
        except BaseException:
            engine.dispose()
            raise
        writer = Writer(engine, self._where, self._hand_over, show_life(engine.dialect.name, runtime_id))
        reader = Reader(beside, self._where)
        writer.start()
        reader.start()
        return _Open(engine, beside, writer, reader, runtime_id, owner.uuid)

    def _finish(self, opened: _Open) -> None:
        with opened.engine.connect() as connection, connection.begin():
            connection.execute(END_RUNTIME, {"me": opened.runtime_id, "ended_at_ms": self._now_ms()})
        if self._path is not None:
            # Closing the last connection would do this too, but a reader in another process may keep one.
            with contextlib.closing(opened.engine.raw_connection()) as raw:
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _hand_over(self, group: Sequence[Job], failures: Failures) -> None:
        deliver = self._deliver
        if deliver is not None:
            # Who hears is gone with its loop; what is on disk is on disk.
            with contextlib.suppress(RuntimeError):
                deliver(group, failures)

    def _unusable(self, error: Exception) -> StorageFailed:
        told = explain(error, self._where)
        if type(told) is StorageFailed and self._path is None:
            return DatabaseUnusable(str(told))
        return told


def _resolve(answer: asyncio.Future[Rows], rows: Rows | None, error: StorageFailed | None) -> None:
    if answer.done():
        return
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(rows or [])
