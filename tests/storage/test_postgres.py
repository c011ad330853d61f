"""The same store on PostgreSQL: the same tables, statements and failures on a real server.

Runs where psycopg and pgserver (a PostgreSQL in a wheel) are installed, else on `GREENROOM_TEST_POSTGRES`, the URL of
an empty database.
"""

import asyncio
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from tests.storage.rows import Outcomes, Task, hold, holds, item, items, job, jobs, settle, settles

from greenroom.actors.kernel import ActorSystem
from greenroom.actors.storage import (
    FINISHED_ITEMS,
    JOB_TOTALS,
    MAX_ROWS,
    OPEN_SLICE,
    TICKET_BITS,
    Commit,
    Database,
    DatabaseUnusable,
    Query,
    SpendRow,
    StorageFailed,
    Store,
    Write,
    WriteRejected,
    attempts,
    charge_slices,
    metadata,
    migrations,
    open_read_only,
    orphaned_by,
    orphaned_slices,
    orphans,
    reclaim,
    runtimes,
    slices,
    spend,
)

pytest.importorskip("psycopg")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if url := os.environ.get("GREENROOM_TEST_POSTGRES"):
        yield url
        return
    with warnings.catch_warnings():
        # Its own business: where it keeps its locks.
        warnings.simplefilter("ignore")
        pgserver = pytest.importorskip("pgserver")
    folder: Path = tmp_path_factory.mktemp("postgres")
    running = pgserver.get_server(folder)
    yield str(running.get_uri()).replace("postgresql://", "postgresql+psycopg://")
    running.cleanup()


@pytest.fixture
def url(server: str) -> Iterator[str]:
    yield server
    engine = sqlalchemy.create_engine(server)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP SCHEMA public CASCADE")
        connection.exec_driver_sql("CREATE SCHEMA public")
    engine.dispose()


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url, app_version="1")
    database.open()
    yield database
    database.close()


def test_migrations_build_the_tables_that_the_code_knows(database: Database, url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"version_table": migrations.VERSION_TABLE, "compare_type": True}
        )
        assert compare_metadata(context, metadata) == []
    engine.dispose()


def test_several_runtimes_share_a_server(database: Database, url: str) -> None:
    second = Database(url, app_version="2")
    second.open()
    assert (database.runtime_id, second.runtime_id) == (1, 2)
    second.close()
    with open_read_only(url) as reading:
        rows = reading.read(
            sqlalchemy.select(runtimes.c.id, runtimes.c.ended_at_ms.is_(None)).order_by(runtimes.c.id)
        )
    assert rows == [(1, True), (2, False)]


def test_rows_are_committed_together_and_one_bad_one_fails_alone(database: Database, url: str) -> None:
    outcomes = Outcomes(database)
    bad = Write(holds().statement, (hold(7, provider=None, tag="a secret"),))
    for ticket in range(300):
        database.submit(Task((bad if ticket == 7 else holds(ticket),)))
    found = outcomes.of(300)
    assert [index for index, error in enumerate(found) if error is not None] == [7]
    assert isinstance(found[7], WriteRejected)
    assert "NotNullViolation" in str(found[7])
    assert "a secret" not in str(found[7])
    with open_read_only(url) as reading:
        count = sqlalchemy.select(sqlalchemy.func.count()).select_from(attempts)
        assert reading.read(count) == [(299,)]


def a_slice(ticket: int, runtime_id: int, reserved_pusd: int) -> Write:
    row: dict[str, object] = {
        "id": ticket,
        "runtime_id": runtime_id,
        "reserved_pusd": reserved_pusd,
        "job_id": "j",
        "session_id": None,
        "key_id": None,
        "tag": None,
        "opened_at_ms": 5,
    }
    return Write(OPEN_SLICE, (row,))


def test_only_what_the_dead_left_is_charged(url: str) -> None:
    """Three runtimes share a server. One dies, and what it held is charged once; the others' holds stay."""
    runtimes = [Database(url, app_version="1") for _ in range(3)]
    outcomes: list[Outcomes] = []
    for number, runtime in enumerate(runtimes, start=1):
        runtime.open()
        outcomes.append(Outcomes(runtime))
        ticket = number << TICKET_BITS
        writes = (
            Write(holds().statement, (hold(ticket, runtime_id=number, held_pusd=number * 100),)),
            a_slice(ticket | 5, number, number * 7),
        )
        runtime.submit(Task(writes))
        assert outcomes[-1].of(1) == [None]
    first, second, _ = runtimes
    with open_read_only(url) as reading:
        assert reading.read(*orphaned_by(1)) == []
    second.close()
    with open_read_only(url) as reading:
        assert reading.read(*orphans(1)) == [(1, 200)]
        assert reading.read(*orphaned_slices(1)) == [(14,)]
    for now_ms in (77, 78):
        first.submit(Task((reclaim(1, now_ms), *charge_slices(1, now_ms))))
        assert outcomes[0].of(1) == [None]
    with open_read_only(url) as reading:
        charged = sqlalchemy.select(attempts.c.runtime_id, attempts.c.outcome, attempts.c.cost_pusd)
        assert reading.read(charged.where(attempts.c.state == "settled").order_by(attempts.c.id)) == [
            (2, "interrupted", 200),
            (2, "unconfirmed", 14),
        ]
        assert reading.read(sqlalchemy.select(slices.c.runtime_id).order_by(slices.c.id)) == [(1,), (3,)]
    for runtime in runtimes:
        runtime.close()


def test_a_writer_whose_connection_was_cut_shows_its_life_again(database: Database, url: str) -> None:
    outcomes = Outcomes(database)
    database.submit(Task((holds(1),)))
    assert outcomes.of(1) == [None]
    engine = sqlalchemy.create_engine(url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )
        database.submit(Task((holds(2),)))
        assert isinstance(outcomes.of(1)[0], StorageFailed)
        database.submit(Task((holds(2),)))
        assert outcomes.of(1) == [None]
        locks = connection.exec_driver_sql(
            "SELECT objid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )
        assert locks.fetchall() == [(database.runtime_id,)]
    engine.dispose()
    with open_read_only(url) as reading:
        assert reading.read(*orphaned_by(99)) == []


async def test_the_ledger_on_a_server(database: Database) -> None:
    outcomes = Outcomes(database)
    for writes in (
        (holds(1), settles(1), holds(1)),
        (settles(1, 1),),
        (Write(settles().statement, (settle(2, cost_pusd=9_000_000_000_000_000_000),)),),
        (Write(holds().statement, (hold(3 << TICKET_BITS, runtime_id=3, started_at_ms=1_700_000_000_000),)),),
    ):
        database.submit(Task(writes))
    assert await asyncio.to_thread(outcomes.of, 4) == [None] * 4
    assert await database.read(*orphans(1)) == [(1, 1000)]
    assert await database.read(*orphaned_by(1)) == [(3,)]
    database.submit(Task((reclaim(1, 5, dead=[3]), reclaim(1, 5))))
    assert await asyncio.to_thread(outcomes.of, 1) == [None]
    (row,) = await database.read(spend("provider", "day"))
    assert row[:2] == ("openai", 19675)
    total = 9_000_000_000_000_000_000 + 400 + 1000
    assert row[2:] == SpendRow(3, 3, 0, 0, total, 1000, 20, 0, 0, 10, 0, 0)
    assert all(type(value) is int for value in row[1:])


async def test_jobs_and_items_on_a_server(database: Database) -> None:
    outcomes = Outcomes(database)
    rows = [item("j", n, result=b"\x00\xff" * n, ok=n != 3) for n in range(40)]
    database.submit(Task((jobs(job("j", out="/x")), items(*rows))))
    database.submit(Task((jobs(job("j", out="/x")), items(*rows))))
    database.submit(Task((items(item("j", 99, seq=0)),)))
    database.submit(Task((jobs(job("k", out="/x")),)))
    first, again, same_seq, same_out = await asyncio.to_thread(outcomes.of, 4)
    assert (first, again) == (None, None)
    assert isinstance(same_seq, WriteRejected)
    assert isinstance(same_out, WriteRejected)
    found = await database.read(FINISHED_ITEMS, {"job_id": "j", "after_position": 2})
    assert found[0] == (3, 3, "line-3", b"\x01" * 16, False, None)
    assert await database.read(JOB_TOTALS, {"job_id": "j", "span": 1 << 30}) == [(40, 39, 39, 280, 120, 80)]


async def test_reading_is_bounded_and_cannot_write(database: Database) -> None:
    numbers = sqlalchemy.text("SELECT * FROM generate_series(1, :count)")
    assert len(await database.read(numbers, {"count": MAX_ROWS})) == MAX_ROWS
    with pytest.raises(StorageFailed, match="more than"):
        await database.read(numbers, {"count": MAX_ROWS + 1})
    with pytest.raises(StorageFailed, match="read-only"):
        await database.read(sqlalchemy.text("DELETE FROM runtimes RETURNING id"))


async def test_a_lost_connection_fails_what_waited_and_heals(database: Database, url: str) -> None:
    outcomes = Outcomes(database)
    database.submit(Task((holds(1),)))
    assert await asyncio.to_thread(outcomes.of, 1) == [None]
    await asyncio.to_thread(_cut_connections, url)
    database.submit(Task((holds(2),)))
    (error,) = await asyncio.to_thread(outcomes.of, 1)
    assert type(error) is StorageFailed
    database.submit(Task((holds(2),)))
    assert await asyncio.to_thread(outcomes.of, 1) == [None]


def _cut_connections(url: str) -> None:
    engine = sqlalchemy.create_engine(url)
    with engine.connect() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database()"
        )
    engine.dispose()


async def test_the_store_on_a_server(url: str) -> None:
    database = Database(url, app_version="1")
    async with ActorSystem() as system:
        store = await system.start(Store, database)
        await store.call(Commit((holds(1, 2),)))
        count = sqlalchemy.select(sqlalchemy.func.count()).select_from(attempts)
        assert await store.call(Query(count)) == [(2,)]
    await asyncio.to_thread(database.close)


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    database = Database("postgresql+psycopg://me:hunter2@127.0.0.1:9/none", app_version="1")
    with pytest.raises(DatabaseUnusable) as refusal:
        database.open()
    assert "127.0.0.1" in str(refusal.value)
    assert "hunter2" not in str(refusal.value)
