"""The thread that reads, beside the one that writes, and reading from outside the process that owns the database."""

import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from queue import Empty, SimpleQueue

from sqlalchemy import Connection, Engine, Executable

from greenroom.actors.storage.engine import explain, file_of, parse, reading
from greenroom.actors.storage.errors import StorageClosed, StorageFailed
from greenroom.actors.storage.migrations import check_readable
from greenroom.actors.storage.shapes import MAX_ROWS, Parameters, Rows

MAX_READS = 1_000
"""Queries that may wait."""

_INTERRUPT_EVERY_S = 0.02

Done = Callable[[Rows | None, StorageFailed | None], object]
_Read = tuple[Executable, Parameters, Done]


def fetch(connection: Connection, statement: Executable, parameters: Parameters, where: str) -> Rows:
    """Run one query in a transaction of its own and return its rows as plain tuples.

    Raises:
        StorageFailed: it could not be run, or found more than `MAX_ROWS` rows.
    """
    try:
        with connection.begin():
            result = connection.execute(statement, dict(parameters))
            rows = result.fetchmany(MAX_ROWS + 1)
            result.close()
    except Exception as error:
        raise explain(error, where) from error
    if len(rows) > MAX_ROWS:
        raise StorageFailed(f"{where}: a query found more than {MAX_ROWS} rows; ask page by page")
    return [tuple(row) for row in rows]


class Reader:
    """One connection in one daemon thread; with WAL it neither waits for the writer nor keeps it waiting.

    Args:
        engine: makes the connection, in the thread.
        where: the database as messages name it.
    """

    def __init__(self, engine: Engine, where: str) -> None:
        self._engine = engine
        self._where = where
        self._queue: SimpleQueue[_Read | None] = SimpleQueue()
        self._closing = False
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="greenroom-reader", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, statement: Executable, parameters: Parameters, done: Done) -> None:
        """Queue a query. Never waits; `done` is called in the reader's thread, exactly once.

        Raises:
            StorageClosed: the reader is closed, or closing.
            StorageFailed: too many queries wait already.
        """
        if self._closing:
            raise StorageClosed(f"{self._where} is closed")
        if self._queue.qsize() >= MAX_READS:
            raise StorageFailed(f"{self._where}: {MAX_READS} queries wait already")
        self._queue.put((statement, parameters, done))

    def close(self, timeout_s: float) -> bool:
        """Break off the query that runs, refuse those that wait, end the thread. False if it did not end in time."""
        self._closing = True
        self._queue.put(None)
        until = time.monotonic() + timeout_s
        while self._thread.is_alive() and (left := until - time.monotonic()) > 0:
            # Again and again: an interrupt that comes just before its query begins does nothing.
            self._interrupt()
            self._thread.join(min(left, _INTERRUPT_EVERY_S))
        return not self._thread.is_alive()

    def _interrupt(self) -> None:
        connection = self._connection
        if connection is not None:
            with suppress(Exception):
                driver = connection.connection.driver_connection
                if driver is not None:
                    (driver.interrupt if self._engine.dialect.name == "sqlite" else driver.cancel)()

    def _run(self) -> None:
        while (read := self._queue.get()) is not None:
            self._serve(*read)
        closed = StorageClosed(f"{self._where} is closed")
        with suppress(Empty):
            while True:
                if (late := self._queue.get_nowait()) is not None:
                    self._answer(late[2], None, closed)
        self._disconnect()

    def _serve(self, statement: Executable, parameters: Parameters, done: Done) -> None:
        if self._closing:
            self._answer(done, None, StorageClosed(f"{self._where} is closed"))
            return
        try:
            if self._connection is None:
                self._connection = self._engine.connect()
            rows = fetch(self._connection, statement, parameters, self._where)
        except Exception as error:
            self._disconnect()
            self._answer(done, None, explain(error, self._where))
        else:
            self._answer(done, rows, None)

    @staticmethod
    def _answer(done: Done, rows: Rows | None, error: StorageFailed | None) -> None:
        # RuntimeError: the loop is closed, and with it whoever waited.
        with suppress(RuntimeError):
            done(rows, error)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.invalidate()
                connection.close()


class ReadOnly:
    """A database opened for reading by a process that does not own it."""

    def __init__(self, connection: Connection, where: str) -> None:
        self._connection = connection
        self._where = where

    def read(self, statement: Executable, parameters: Parameters | None = None) -> Rows:
        """The rows of a query, at most `MAX_ROWS`. Blocking.

        Raises:
            StorageFailed: it could not be run, or found more.
        """
        return fetch(self._connection, statement, parameters or {}, self._where)


@contextmanager
def open_read_only(url: str) -> Generator[ReadOnly]:
    """Read a database that another process may be writing, or that nobody owns. Takes no lock, writes nothing. Blocking.

    Args:
        url: as `storage.url`.

    Raises:
        DatabaseMissing: there is none.
        DatabaseOlder, DatabaseNewer: its tables are another greenroom's.
        DatabaseCorrupt: it is damaged, or another application's.
        DatabaseUnusable: the URL is no good.
    """
    parsed = parse(url)
    where = f"database {file_of(parsed) or parsed.render_as_string(hide_password=True)}"
    engine = reading(parsed)
    try:
        connection = engine.connect()
    except Exception as error:
        raise explain(error, where) from error
    try:
        try:
            check_readable(connection, where)
        except Exception as error:
            raise explain(error, where) from error
        yield ReadOnly(connection, where)
    finally:
        connection.close()
        engine.dispose()
