"""The versions of the tables, and bringing a database up to the newest.

`versions/` holds one Alembic script per change, each frozen once released. Nothing reads an `alembic.ini`: `upgrade`
hands Alembic a connection. Alembic is imported only where a migration has to run, because importing it takes longer
than opening a database that is up to date.
"""

from pathlib import Path

from sqlalchemy import Connection, inspect, text

from greenroom.actors.storage.errors import DatabaseCorrupt, DatabaseNewer, DatabaseOlder

HEAD = "v0003"
"""The revision of `tables.metadata`; a test holds it to the newest script."""

VERSION_TABLE = "greenroom_version"
"""Where Alembic keeps the revision. A name of our own, so that a server's database may be shared."""


def revision_of(connection: Connection) -> str | None:
    """The revision that the database is at; None if greenroom has never written to it."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    revision: str | None = connection.scalar(text(f"SELECT version_num FROM {VERSION_TABLE}"))  # noqa: S608 -- a constant
    return revision


def upgrade(connection: Connection, where: str) -> None:
    """Bring the tables to `HEAD`, whole or not at all. Blocking.

    Args:
        connection: in a transaction, which the caller commits.
        where: the database as messages name it.

    Raises:
        DatabaseNewer: a newer greenroom has written it.
        DatabaseCorrupt: the file holds tables, and none of greenroom's.
    """
    found = revision_of(connection)
    if found == HEAD:
        return
    if found is None and connection.dialect.name == "sqlite":
        _refuse_foreign(connection, where)
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    # No separator between version locations is needed; naming one keeps Alembic from warning about its default.
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    if found is not None:
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        if found not in known:
            raise _newer(found, where)
    command.upgrade(config, HEAD)


def check_readable(connection: Connection, where: str) -> None:
    """Refuse to read tables that this code does not know.

    Raises:
        DatabaseOlder, DatabaseNewer, DatabaseCorrupt: as `upgrade`, except that nothing is migrated.
    """
    with connection.begin():
        found = revision_of(connection)
        if found == HEAD:
            return
        if found is None:
            _refuse_foreign(connection, where)
            raise DatabaseOlder(f"{where} is empty; run something that writes to it first")
    if found < HEAD:
        raise DatabaseOlder(
            f"{where} is at revision {found}, this greenroom reads {HEAD}; any run brings it up"
        )
    raise _newer(found, where)


def _newer(found: str, where: str) -> DatabaseNewer:
    return DatabaseNewer(
        f"{where} is at revision {found}, written by a newer greenroom than this one ({HEAD}); "
        "upgrade greenroom, or point storage.url elsewhere"
    )


def _refuse_foreign(connection: Connection, where: str) -> None:
    if foreign := inspect(connection).get_table_names():
        raise DatabaseCorrupt(
            f"{where} holds another application's tables ({', '.join(foreign[:3])}); point storage.url elsewhere"
        )
