"""A database in a folder of its own, opened and closed in the test's thread."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from greenroom.actors.storage import Database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data" / "greenroom.db"


@pytest.fixture
def database(path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{path}", app_version="1.2.3")
    database.open()
    yield database
    database.close()
