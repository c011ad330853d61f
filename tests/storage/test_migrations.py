"""The migrations build exactly the tables that the code knows, whole or not at all."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine
from tests.storage.rows import on_disk

from greenroom.actors.storage import Database, DatabaseOlder, metadata, migrations, open_read_only

SCRIPTS = Path(migrations.__file__).parent


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Engine]:
    engine = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    with engine.begin() as connection:
        migrations.upgrade(connection, "test")
    yield engine
    engine.dispose()


def script_directory() -> ScriptDirectory:
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    return ScriptDirectory.from_config(config)


def schema(engine: Engine) -> dict[str, str]:
    with engine.connect() as connection:
        rows = connection.exec_driver_sql(
            "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite_%'"
        )
        return {str(name): " ".join(str(sql).split()) for name, sql in rows}


def test_migrations_build_the_tables_that_the_code_knows(migrated: Engine, tmp_path: Path) -> None:
    with migrated.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": migrations.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []


def test_migrations_build_them_to_the_letter(migrated: Engine, tmp_path: Path) -> None:
    """Autogeneration does not compare partial indexes, defaults and autoincrement; the DDL itself does."""
    made = sqlalchemy.create_engine(f"sqlite:///{tmp_path / 'made.db'}")
    metadata.create_all(made)
    expected, found = schema(made), schema(migrated)
    made.dispose()
    del found[migrations.VERSION_TABLE]
    assert found == expected


def test_head_is_the_newest_script() -> None:
    assert script_directory().get_current_head() == migrations.HEAD


def test_revisions_sort_by_age() -> None:
    """`check_readable` tells older from newer by comparing names."""
    newest_first = [script.revision for script in script_directory().walk_revisions()]
    assert newest_first == sorted(newest_first, reverse=True)


def test_every_migration_can_be_undone(migrated: Engine) -> None:
    from alembic import command

    config = Config()
    config.set_main_option("script_location", str(SCRIPTS))
    config.set_main_option("path_separator", "os")
    with migrated.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert set(schema(migrated)) == {migrations.VERSION_TABLE}


def test_an_up_to_date_database_opens_without_alembic(path: Path) -> None:
    code = (
        "import sys; from greenroom.actors.storage import Database;"
        "d = Database(sys.argv[1], app_version='1'); d.open(); d.close(); print('alembic' in sys.modules)"
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", code, f"sqlite:///{path}"], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(2)
    ]
    assert said == ["True\n", "False\n"]


_KILLED_HALF_WAY = """
import os, signal, sys
import alembic.op
from greenroom.actors.storage import Database

create_index = alembic.op.create_index
def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
alembic.op.create_index = die
Database(sys.argv[1], app_version="1").open()
"""


def test_a_kill_half_way_through_a_migration_leaves_nothing_of_it(path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _KILLED_HALF_WAY, f"sqlite:///{path}"], capture_output=True, check=False
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert on_disk(path, "SELECT name FROM sqlite_master") == []
    database = Database(f"sqlite:///{path}", app_version="1")
    database.open()
    assert database.runtime_id == 1
    database.close()


def test_an_older_or_empty_database_is_not_read(path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    with pytest.raises(DatabaseOlder, match="is empty"), open_read_only(f"sqlite:///{path}"):
        pass
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE greenroom_version (version_num TEXT)")
        other.execute("INSERT INTO greenroom_version VALUES ('v0000')")
    other.close()
    with pytest.raises(DatabaseOlder, match="any run brings it up"), open_read_only(f"sqlite:///{path}"):
        pass


def test_scripts_are_shipped_beside_the_code() -> None:
    names = {str(file.relative_to(SCRIPTS)) for file in SCRIPTS.rglob("*.py")}
    assert {"__init__.py", "env.py", f"versions{os.sep}v0001_first_tables.py"} <= names
