"""The writer's thread: group commit, order, who fails with whom, callbacks, limits."""

import itertools
import sqlite3
import threading
from collections import defaultdict
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Column, Integer, MetaData, Table, Text, bindparam, insert
from tests.storage.rows import (
    WAIT_S,
    Outcomes,
    Task,
    hold,
    holds,
    item,
    items,
    job,
    jobs,
    on_disk,
    settles,
    tickets_on_disk,
)

from greenroom.actors.storage import (
    UPDATE_JOB_STATE,
    CallbackFailed,
    Database,
    StorageClosed,
    StorageFailed,
    Write,
    WriteRejected,
    WriterStatistics,
    engine,
    writer,
)


class Gate:
    """Keeps the writer busy until it is opened, so that what is submitted meanwhile must wait."""

    def __init__(self, database: Database) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()
        database.submit(Task(then=self._wait))
        assert self._reached.wait(WAIT_S)

    def _wait(self) -> None:
        self._reached.set()
        assert self._open.wait(WAIT_S)

    def open(self) -> None:
        self._open.set()


def counted(database: Database) -> WriterStatistics:
    found = database.statistics().writer
    assert found is not None
    return found


def test_what_waits_is_committed_together(database: Database, path: Path) -> None:
    outcomes = Outcomes(database)
    gate = Gate(database)
    for ticket in range(500):
        database.submit(Task((holds(ticket),)))
    assert counted(database).waiting == 500
    gate.open()
    assert outcomes.of(1 + 500) == [None] * 501
    figures = counted(database)
    assert (figures.commits, figures.jobs, figures.rows, figures.largest_group) == (1, 501, 500, 500)
    assert tickets_on_disk(path) == list(range(500))


def test_a_group_has_an_upper_bound(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_GROUP", 10)
    outcomes = Outcomes(database)
    gate = Gate(database)
    for ticket in range(25):
        database.submit(Task((holds(ticket),)))
    gate.open()
    assert [len(outcomes.next_group()[0]) for _ in range(4)] == [1, 10, 10, 5]


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 31, 127, 128, 129, 300, 1000])
def test_every_row_of_any_number_arrives(database: Database, path: Path, count: int) -> None:
    outcomes = Outcomes(database)
    database.submit(Task((holds(*range(count)),)))
    assert outcomes.of(1) == [None]
    assert tickets_on_disk(path) == list(range(count))


def test_blobs_arrive_whole(database: Database, path: Path) -> None:
    outcomes = Outcomes(database)
    results = [bytes([n]) * (n * 1000) for n in range(40)]
    database.submit(Task((items(*(item("j", n, result=result) for n, result in enumerate(results))),)))
    assert outcomes.of(1) == [None]
    assert on_disk(path, "SELECT result FROM items ORDER BY position") == [(result,) for result in results]


BAD = {
    "a value of the wrong type": Task((Write(holds().statement, (hold(7) | {"id": "seven"},)),)),
    "a missing value": Task((Write(holds().statement, (hold(7) | {"provider": None},)),)),
    "a value beyond 64 bits": Task((Write(holds().statement, (hold(7, held_pusd=2**63),)),)),
    "a value no driver takes": Task((Write(holds().statement, (hold(7, tag=object()),)),)),
    "a missing parameter": Task((Write(holds().statement, ({"id": 7},)),)),
    "an unknown parameter": Task((Write(holds().statement, (hold(7) | {"colour": "red"},)),)),
    "a second line with the same seq": Task((items(item("j", 1, seq=0)),)),
    "its second row": Task((holds(900), items(item("j", 1, seq=0)))),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_one_bad_save_does_not_fail_the_others(database: Database, path: Path, bad: Task) -> None:
    outcomes = Outcomes(database)
    gate = Gate(database)
    database.submit(Task((items(item("j", 0)),)))
    for ticket in range(20):
        database.submit(bad if ticket == 7 else Task((holds(ticket), settles(ticket))))
    gate.open()
    _, first, *rest = outcomes.of(22)
    assert first is None
    assert [index for index, error in enumerate(rest) if error is not None] == [7]
    assert isinstance(rest[7], WriteRejected)
    assert tickets_on_disk(path) == [ticket for ticket in range(20) if ticket != 7]
    assert counted(database).commits == 1


def test_a_statement_that_cannot_be_compiled_is_refused(database: Database) -> None:
    outcomes = Outcomes(database)
    nowhere = Table("nowhere", MetaData(), Column("a", Integer))
    database.submit(Task((Write(insert(nowhere).values(a=bindparam("a")), ({"a": 1},)),)))
    database.submit(Task((Write(insert(nowhere), ({"b": 1},)),)))
    assert all(isinstance(error, WriteRejected) for error in outcomes.of(2))


def test_callbacks_run_after_the_commit_and_in_order(database: Database, path: Path) -> None:
    outcomes = Outcomes(database)
    gate = Gate(database)
    seen: list[tuple[int, str, list[object]]] = []

    def look(ticket: int) -> None:
        seen.append((ticket, threading.current_thread().name, tickets_on_disk(path)))

    for ticket in range(3):
        database.submit(Task((holds(ticket),), then=partial(look, ticket)))
    gate.open()
    assert outcomes.of(4) == [None] * 4
    assert seen == [(ticket, "greenroom-writer", [0, 1, 2]) for ticket in range(3)]


def test_a_callback_that_fails_is_told_and_harms_nobody(database: Database, path: Path) -> None:
    outcomes = Outcomes(database)
    ran: list[int] = []

    def fail() -> None:
        raise OSError(28, "No space left on device")

    gate = Gate(database)
    database.submit(Task((holds(1),), then=fail))
    database.submit(Task((holds(2),), then=lambda: ran.append(2)))
    gate.open()
    _, first, second = outcomes.of(3)
    assert isinstance(first, CallbackFailed)
    assert isinstance(first.__cause__, OSError)
    assert "No space left" in str(first)
    assert second is None
    assert ran == [2]
    assert tickets_on_disk(path) == [1, 2]


def test_the_callback_of_a_failed_save_does_not_run(database: Database) -> None:
    outcomes = Outcomes(database)
    ran: list[int] = []
    bad = Write(holds().statement, (hold(1, provider=None),))
    database.submit(Task((bad,), then=lambda: ran.append(1)))
    assert isinstance(outcomes.of(1)[0], WriteRejected)
    assert ran == []


def test_a_locked_database_fails_all_that_waited_and_nothing_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_TIMEOUT_S", 0.01)
    database = Database(f"sqlite:///{path}", app_version="1")
    database.open()
    outcomes = Outcomes(database)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    gate = Gate(database)
    for task in (Task((holds(1),)), Task((holds(2),)), Task()):
        database.submit(task)
    gate.open()
    _, *failed = outcomes.of(4)
    assert [type(error) for error in failed] == [StorageFailed] * 3
    assert "locked" in str(failed[0])
    other.execute("ROLLBACK")
    other.close()
    database.submit(Task((holds(2),)))
    assert outcomes.of(1) == [None]
    assert tickets_on_disk(path) == [2]
    database.close()


def test_too_much_waiting_is_refused(database: Database, monkeypatch: pytest.MonkeyPatch, path: Path) -> None:
    monkeypatch.setattr(writer, "MAX_WAITING", 5)
    outcomes = Outcomes(database)
    gate = Gate(database)
    for ticket in range(5):
        database.submit(Task((holds(ticket),)))
    with pytest.raises(StorageFailed, match="5 saves wait already"):
        database.submit(Task((holds(5),)))
    gate.open()
    assert outcomes.of(6) == [None] * 6
    assert tickets_on_disk(path) == [0, 1, 2, 3, 4]


def test_close_commits_what_waits_and_takes_no_more(path: Path) -> None:
    database = Database(f"sqlite:///{path}", app_version="1")
    database.open()
    outcomes = Outcomes(database)
    for ticket in range(3000):
        database.submit(Task((holds(ticket),)))
    database.close()
    assert outcomes.of(3000) == [None] * 3000
    assert tickets_on_disk(path) == list(range(3000))
    with pytest.raises(StorageClosed):
        database.submit(Task((holds(3001),)))


def test_a_job_that_slips_in_behind_the_end_is_told_so(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "MAX_GROUP", 2)
    database = Database(f"sqlite:///{path}", app_version="1")
    database.open()
    outcomes = Outcomes(database)
    gate = Gate(database)
    # The race itself cannot be timed, so its outcome is put into the queue by hand.
    opened = database._opened  # pyright: ignore[reportPrivateUsage]
    assert opened is not None
    queue = opened.writer._queue  # pyright: ignore[reportPrivateUsage]
    for job_or_end in (Task((holds(1),)), None, Task((holds(2),)), Task((holds(3),)), Task((holds(4),))):
        queue.put(job_or_end)
    gate.open()
    _, first, second, *late = outcomes.of(5)
    assert (first, second) == (None, None)
    assert [type(error) for error in late] == [StorageClosed] * 2
    database.close()
    assert tickets_on_disk(path) == [1, 2]


_log = Table(
    "log", MetaData(), Column("id", Integer, primary_key=True), *(Column(name, Text) for name in "abc")
)
_STATEMENTS = {
    name: insert(_log).values(a=bindparam("save"), b=bindparam("step"), c=name) for name in ("x", "y", "z")
}
_SAVES = st.lists(
    st.tuples(st.booleans(), st.lists(st.sampled_from("xyz"), max_size=4)), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(saves=_SAVES)
def test_order_is_kept_within_a_save_within_a_statement_and_around_ordered_saves(
    database: Database, path: Path, saves: list[tuple[bool, list[str]]]
) -> None:
    with sqlite3.connect(path) as other:
        other.execute("DROP TABLE IF EXISTS log")
        other.execute("CREATE TABLE log (id INTEGER PRIMARY KEY AUTOINCREMENT, a TEXT, b TEXT, c TEXT)")
    other.close()
    outcomes = Outcomes(database)
    gate = Gate(database)
    for save, (ordered, steps) in enumerate(saves):
        writes = tuple(
            Write(_STATEMENTS[name], ({"save": save, "step": step},)) for step, name in enumerate(steps)
        )
        database.submit(Task(writes, ordered=ordered))
    gate.open()
    assert set(outcomes.of(1 + len(saves))) == {None}

    rows = [
        (int(str(a)), int(str(b)), str(c)) for a, b, c in on_disk(path, "SELECT a, b, c FROM log ORDER BY id")
    ]
    assert sorted((a, b) for a, b, _ in rows) == [
        (save, step) for save, (_, steps) in enumerate(saves) for step in range(len(steps))
    ]
    by_save: dict[int, list[int]] = defaultdict(list)
    by_statement: dict[str, list[int]] = defaultdict(list)
    for save, step, statement in rows:
        by_save[save].append(step)
        by_statement[statement].append(save)
    assert all(steps == sorted(steps) for steps in by_save.values())
    assert all(order == sorted(order) for order in by_statement.values())
    for (before, _, _), (after, _, _) in itertools.combinations(rows, 2):
        if before > after:
            between = saves[after : before + 1]
            assert not any(ordered for ordered, _ in between)


def test_updates_of_one_statement_apply_in_order(database: Database, path: Path) -> None:
    outcomes = Outcomes(database)
    gate = Gate(database)
    database.submit(Task((jobs(job("a"), job("b")),)))
    for number in range(50):
        row = {"job_id": "a", "state": f"s{number}", "updated_at_ms": number}
        database.submit(Task((Write(UPDATE_JOB_STATE, (row,)),)))
    gate.open()
    assert outcomes.of(52) == [None] * 52
    assert on_disk(path, "SELECT id, state, rewrite, updated_at_ms FROM jobs ORDER BY id") == [
        ("a", "s49", 0, 49),
        ("b", "running", 0, 1),
    ]
