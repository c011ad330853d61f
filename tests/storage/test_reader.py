"""Reading: beside the writer, from outside, and within bounds."""

import asyncio
import threading
from pathlib import Path

import pytest
from sqlalchemy import bindparam, func, select, text
from tests.storage.rows import WAIT_S, Outcomes, Task, holds, on_disk

from greenroom.actors.storage import (
    MAX_ROWS,
    Database,
    StorageClosed,
    StorageFailed,
    WriteRejected,
    attempts,
    open_read_only,
    reader,
)

COUNT = select(func.count()).select_from(attempts)


NUMBERS = text(
    "WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n WHERE v < :count) SELECT v FROM n"
)


async def test_reading_sees_what_is_committed_and_does_not_wait_for_the_writer(database: Database) -> None:
    outcomes = Outcomes(database)
    database.submit(Task((holds(1, 2, 3),)))
    assert await asyncio.to_thread(outcomes.of, 1) == [None]
    hang, hung = threading.Event(), threading.Event()

    def wait() -> None:
        hung.set()
        assert hang.wait(WAIT_S)

    database.submit(Task((holds(4),), then=wait))
    await asyncio.to_thread(hung.wait, WAIT_S)
    database.submit(Task((holds(5),)))
    assert await database.read(COUNT) == [(4,)]
    hang.set()


async def test_parameters_are_bound(database: Database) -> None:
    outcomes = Outcomes(database)
    database.submit(Task((holds(1, 2, 3),)))
    await asyncio.to_thread(outcomes.of, 1)
    found = await database.read(select(attempts.c.id).where(attempts.c.id > bindparam("after")), {"after": 1})
    assert found == [(2,), (3,)]
    assert all(type(row) is tuple for row in found)


async def test_a_query_that_finds_too_much_is_refused_not_cut_short(database: Database) -> None:
    assert len(await database.read(NUMBERS, {"count": MAX_ROWS})) == MAX_ROWS
    with pytest.raises(StorageFailed, match="more than 10000 rows"):
        await database.read(NUMBERS, {"count": MAX_ROWS + 1})
    assert await database.read(COUNT) == [(0,)]


async def test_a_wrong_query_fails_alone(database: Database) -> None:
    with pytest.raises(WriteRejected, match="no such table: nowhere"):
        await database.read(text("SELECT * FROM nowhere"))
    assert await database.read(COUNT) == [(0,)]


async def test_the_reader_cannot_write(database: Database, path: Path) -> None:
    with pytest.raises(StorageFailed, match="may not be written"):
        await database.read(text("DELETE FROM runtimes RETURNING id"))
    assert on_disk(path, "SELECT count(*) FROM runtimes") == [(1,)]


async def test_a_cancelled_read_leaves_the_reader_whole(database: Database) -> None:
    task = asyncio.create_task(database.read(NUMBERS, {"count": 1000}))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await database.read(COUNT) == [(0,)]


async def test_too_many_queries_are_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "MAX_READS", 0)
    with pytest.raises(StorageFailed, match="queries wait already"):
        await database.read(COUNT)


async def test_closing_breaks_off_a_query_that_runs_for_ever(path: Path) -> None:
    database = Database(f"sqlite:///{path}", app_version="1")
    await asyncio.to_thread(database.open)
    endless = text("WITH RECURSIVE n(v) AS (SELECT 1 UNION ALL SELECT v + 1 FROM n) SELECT max(v) FROM n")
    running = asyncio.create_task(database.read(endless))
    waiting = asyncio.create_task(database.read(COUNT))
    await asyncio.sleep(0)
    await asyncio.to_thread(database.close)
    for task in (running, waiting):
        with pytest.raises(StorageFailed):
            await task
    with pytest.raises(StorageClosed):
        await database.read(COUNT)


def test_another_process_reads_beside_a_live_writer(database: Database, path: Path) -> None:
    outcomes = Outcomes(database)
    with open_read_only(f"sqlite:///{path}") as reading:
        for count in range(1, 6):
            database.submit(Task((holds(count),)))
            assert outcomes.of(1) == [None]
            assert reading.read(COUNT) == [(count,)]
        with pytest.raises(StorageFailed):
            reading.read(text("DELETE FROM attempts RETURNING id"))


def test_a_dead_database_is_read_without_touching_it(path: Path) -> None:
    database = Database(f"sqlite:///{path}", app_version="1")
    database.open()
    outcomes = Outcomes(database)
    database.submit(Task((holds(1),)))
    assert outcomes.of(1) == [None]
    database.close()
    before = path.read_bytes()
    with open_read_only(f"sqlite:///{path}") as reading:
        assert reading.read(COUNT) == [(1,)]
    assert path.read_bytes() == before


@pytest.mark.parametrize("name", ["with space.db", "per%20cent.db", "quest?ion.db", "ha#sh.db", "ünï.db"])
def test_any_file_name_is_read(tmp_path: Path, name: str) -> None:
    url = f"sqlite:///{tmp_path}/" + name.replace("%", "%25").replace("?", "%3F")
    database = Database(url, app_version="1")
    database.open()
    database.close()
    assert (tmp_path / name).exists()
    with open_read_only(url) as reading:
        assert reading.read(COUNT) == [(0,)]
