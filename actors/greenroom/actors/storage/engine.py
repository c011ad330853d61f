"""How connections to the database are made, and what a driver's failure means in our words."""

import sqlite3
from pathlib import Path

import sqlalchemy
from sqlalchemy import URL, Engine, event, make_url
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError
from sqlalchemy.pool import NullPool

from greenroom.actors.storage.errors import (
    DatabaseCorrupt,
    DatabaseMissing,
    DatabaseUnusable,
    StorageFailed,
    WriteRejected,
)

BUSY_TIMEOUT_S = 5.0
"""How long a statement waits for another process's short transaction."""

_EXAMPLE = "for example sqlite:////home/me/greenroom.db"

# The primary result codes of SQLite for which the statement is not to blame. https://sqlite.org/rescode.html
_TROUBLE = {
    sqlite3.SQLITE_PERM: "access was denied",
    sqlite3.SQLITE_BUSY: "another process kept the database locked",
    sqlite3.SQLITE_LOCKED: "another connection kept a table locked",
    sqlite3.SQLITE_NOMEM: "there is not enough memory",
    sqlite3.SQLITE_READONLY: "the file or its folder may not be written",
    sqlite3.SQLITE_INTERRUPT: "the statement was interrupted",
    sqlite3.SQLITE_IOERR: "the disk failed to read or write",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_FULL: "the disk is full",
    sqlite3.SQLITE_CANTOPEN: "the file, or one beside it, cannot be opened",
    sqlite3.SQLITE_PROTOCOL: "the locking protocol failed",
    sqlite3.SQLITE_AUTH: "access was denied",
    sqlite3.SQLITE_NOTADB: "the file is not an SQLite database",
}


def parse(url: str) -> URL:
    """Check a database URL and make the file it names absolute, `~` included. Reads nothing from the disk.

    Raises:
        DatabaseUnusable: it is no URL, names no file, or a database that greenroom cannot use.
    """
    try:
        parsed = make_url(url)
    except ArgumentError:
        # Not repeated: what does not parse may still hold a password.
        raise DatabaseUnusable(f"storage.url is not a database URL; write one, {_EXAMPLE}") from None
    if parsed.get_backend_name() == "sqlite":
        if parsed.get_driver_name() not in {"pysqlite", ""} or parsed.drivername not in {
            "sqlite",
            "sqlite+pysqlite",
        }:
            raise DatabaseUnusable(f"storage.url: write sqlite:///FILE, not {parsed.drivername}:///FILE")
        if parsed.database in {None, "", ":memory:"} or parsed.query:
            raise DatabaseUnusable(f"storage.url must name a file and nothing else, {_EXAMPLE}")
        path = Path(str(parsed.database)).expanduser()
        return parsed.set(database=str(path if path.is_absolute() else Path.cwd() / path))
    if parsed.drivername != "postgresql+psycopg":
        raise DatabaseUnusable(
            f"storage.url: {parsed.drivername} is not supported; use sqlite:///FILE or postgresql+psycopg://"
        )
    return parsed


def file_of(url: URL) -> Path | None:
    """The file of an SQLite URL; None for a server."""
    return Path(str(url.database)) if url.get_backend_name() == "sqlite" else None


def writing(url: URL) -> Engine:
    """An engine whose connections write: WAL, and every commit on disk before it returns."""
    engine = _create(url)
    if engine.dialect.name == "sqlite":
        _prepare_sqlite(
            engine,
            (
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                # No table declares a foreign key: rows outlive what they name, and a check is a look-up per row.
                "PRAGMA foreign_keys = OFF",
                "PRAGMA temp_store = MEMORY",
                # After a long reader has let the log grow, give the space back.
                "PRAGMA journal_size_limit = 67108864",
            ),
            begin="BEGIN IMMEDIATE",
        )
    return engine


def reading(url: URL) -> Engine:
    """An engine whose connections cannot write.

    Raises:
        DatabaseMissing: there is no such file.
    """
    path = file_of(url)
    if path is None:
        return _create(url, options="-c default_transaction_read_only=on")
    if not path.exists():
        raise DatabaseMissing(f"there is no database at {path}")
    engine = _create(url.set(database=f"file:{_quoted(path)}", query={"mode": "ro", "uri": "true"}))
    _prepare_sqlite(engine, (), begin="BEGIN")
    return engine


def explain(error: Exception, where: str) -> StorageFailed:
    """Turn a driver's or SQLAlchemy's exception into ours.

    Returns:
        `WriteRejected` where the statement or a value is to blame, `DatabaseCorrupt` where the file is, and plain
        `StorageFailed` where a later attempt may work. The cause is attached.
    """
    if isinstance(error, StorageFailed):
        return error
    cause = error
    if isinstance(error, DBAPIError) and isinstance(error.orig, Exception):
        cause = error.orig
    told = _explain(cause, where)
    told.__cause__ = cause
    return told


def _explain(cause: Exception, where: str) -> StorageFailed:
    code = getattr(cause, "sqlite_errorcode", None)
    if isinstance(code, int):
        primary = code & 0xFF
        trouble = _TROUBLE.get(primary)
        if primary in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            return DatabaseCorrupt(
                f"{where}: {trouble} ({cause}); restore it from a copy, or point storage.url elsewhere"
            )
        if trouble is not None:
            return StorageFailed(f"{where}: {trouble} ({cause})")
    elif _is_connection_trouble(cause):
        return StorageFailed(f"{where}: {_first_line(cause)}")
    return WriteRejected(f"{where}: {type(cause).__name__}: {_first_line(cause)}")


def _first_line(cause: Exception) -> str:
    # PostgreSQL's further lines show the row itself, and rows hold what people wrote.
    return (str(cause).splitlines() or [""])[0]


def _is_connection_trouble(cause: Exception) -> bool:
    # psycopg's names, so that it need not be installed; a full disk and a lost connection are operational there.
    return type(cause).__module__.startswith("psycopg") and any(
        kind.__name__ in {"OperationalError", "InterfaceError", "InternalError"}
        for kind in type(cause).__mro__
    )


def _create(url: URL, **connect_args: object) -> Engine:
    sqlite = url.get_backend_name() == "sqlite"
    if sqlite:
        connect_args |= {"check_same_thread": False, "timeout": BUSY_TIMEOUT_S, "cached_statements": 256}
    try:
        return sqlalchemy.create_engine(
            url,
            poolclass=NullPool,
            connect_args=connect_args,
            # Positional parameters, so that a row is one tuple whatever the driver.
            paramstyle="qmark" if sqlite else "format",
        )
    except (NoSuchModuleError, ModuleNotFoundError) as error:
        raise DatabaseUnusable(f"storage.url needs a driver that is not installed: {error}") from error


def _prepare_sqlite(engine: Engine, pragmas: tuple[str, ...], *, begin: str) -> None:
    @event.listens_for(engine, "connect")
    def prepare(connection: DBAPIConnection, record: object) -> None:
        # The driver's own transaction control would begin late and commit around DDL.
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in pragmas:
            cursor.execute(pragma)
        cursor.close()

    @event.listens_for(engine, "begin")
    def start(connection: sqlalchemy.Connection) -> None:
        # The write lock at once: a transaction that reads first and writes later can be refused half-way.
        connection.exec_driver_sql(begin)


def _quoted(path: Path) -> str:
    return str(path).replace("%", "%25").replace("?", "%3f").replace("#", "%23")
