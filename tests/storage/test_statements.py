"""The prepared statements: each may be applied twice, and each question has one answer."""

import sqlite3
from pathlib import Path

import pytest
from sqlalchemy import Executable
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.elements import ClauseElement
from tests.storage.rows import Outcomes, Task, hold, holds, item, items, job, jobs, on_disk, settle, settles

from greenroom.actors.storage import (
    CLOSE_SLICE,
    CLOSE_SLICES,
    FINISHED_ITEMS,
    GET_JOB,
    ITEM_RESULTS,
    JOB_TOTALS,
    OPEN_SLICE,
    PAGE,
    SETTLE,
    TICKET_BITS,
    UPDATE_JOB_STATE,
    Database,
    Dimension,
    Parameters,
    Rows,
    SpendRow,
    Statement,
    Write,
    WriteRejected,
    charge_slices,
    charged,
    open_read_only,
    orphaned_by,
    orphans,
    reclaim,
    set_aside,
    settled_by,
    spend,
)

DAY_MS = 86_400_000


def write(database: Database, *writes: Write) -> None:
    outcomes = Outcomes(database)
    for one in writes:
        database.submit(Task((one,)))
    assert set(outcomes.of(len(writes))) == {None}


def refused(database: Database, one: Write) -> bool:
    outcomes = Outcomes(database)
    database.submit(Task((one,)))
    return isinstance(outcomes.of(1)[0], WriteRejected)


def ask(path: Path, statement: Executable, parameters: Parameters | None = None) -> Rows:
    with open_read_only(f"sqlite:///{path}") as reading:
        return reading.read(statement, parameters)


def ledger(path: Path) -> list[tuple[object, ...]]:
    return on_disk(
        path, "SELECT id, state, outcome, estimated, held_pusd, cost_pusd FROM attempts ORDER BY id"
    )


@pytest.mark.parametrize(
    "order",
    [
        (holds(1), settles(1)),
        (settles(1), holds(1)),
        (holds(1), holds(1), settles(1), settles(1), holds(1)),
        (settles(1),),
    ],
)
def test_hold_and_settle_in_any_order_and_number_are_one_settled_row(
    database: Database, path: Path, order: tuple[Write, ...]
) -> None:
    write(database, *order)
    assert ledger(path) == [(1, "settled", "ok", 0, 1000, 400)]


def test_a_settled_row_never_changes(database: Database, path: Path) -> None:
    write(database, settles(1))
    again = Write(SETTLE, (settle(1, cost_pusd=999, outcome="timeout", estimated=True),))
    write(database, again, holds(1), reclaim(2, 5))
    assert ledger(path) == [(1, "settled", "ok", 0, 1000, 400)]


def test_settling_fills_every_column(database: Database, path: Path) -> None:
    full = settle(
        3,
        job_id="j",
        session_id="s",
        key_id="k",
        tag="t",
        cached_tokens=1,
        cache_write_5m_tokens=2,
        cache_write_1h_tokens=3,
        reasoning_tokens=4,
        audio_input_tokens=5,
        audio_output_tokens=6,
    )
    bare = {name: value for name, value in full.items() if name in hold(3)}
    write(database, Write(holds().statement, (bare,)), Write(SETTLE, (full,)))
    columns = ", ".join(full)
    assert on_disk(path, f"SELECT {columns} FROM attempts") == [tuple(full.values())]  # noqa: S608 -- column names


def test_holds_of_other_runtimes_are_found_and_charged_in_full(database: Database, path: Path) -> None:
    rows = [hold(n << TICKET_BITS, runtime_id=n, held_pusd=n * 100) for n in (1, 2, 3, 4)]
    write(database, Write(holds().statement, tuple(rows)), Write(SETTLE, (settle(2 << 40, runtime_id=2),)))
    me = 4
    assert ask(path, *orphans(me)) == [(2, 400)]
    assert ask(path, *orphaned_by(me)) == [(1,), (3,)]
    write(database, reclaim(me, 77, dead=[3, me]))
    assert ask(path, *orphaned_by(me)) == [(1,)]
    write(database, reclaim(me, 78), reclaim(me, 79))
    assert ask(path, *orphans(me)) == [(0, 0)]
    assert [row[1:] for row in ledger(path)] == [
        ("settled", "interrupted", 1, 100, 100),
        ("settled", "ok", 0, 200, 400),
        ("settled", "interrupted", 1, 300, 300),
        ("held", None, 0, 400, 0),
    ]
    assert on_disk(path, "SELECT settled_at_ms FROM attempts WHERE outcome = 'interrupted' ORDER BY id") == [
        (78,),
        (77,),
    ]


def a_slice(number: int, runtime_id: int, reserved_pusd: int, **changes: object) -> Write:
    row: dict[str, object] = {
        "id": runtime_id << TICKET_BITS | number,
        "runtime_id": runtime_id,
        "reserved_pusd": reserved_pusd,
        "job_id": "j",
        "session_id": None,
        "key_id": "k",
        "tag": None,
        "opened_at_ms": 5 * DAY_MS,
    }
    return Write(OPEN_SLICE, (row | changes,))


def slices_on_disk(path: Path) -> list[tuple[object, ...]]:
    return on_disk(path, "SELECT id, reserved_pusd FROM slices ORDER BY id")


def test_a_slice_changes_its_size_and_is_given_up(database: Database, path: Path) -> None:
    write(database, a_slice(1, 0, 100), a_slice(2, 0, 7), a_slice(1, 0, 40))
    assert slices_on_disk(path) == [(1, 40), (2, 7)]
    write(database, Write(CLOSE_SLICE, ({"slice_id": 1},)))
    assert slices_on_disk(path) == [(2, 7)]
    write(database, a_slice(1, 1, 9), Write(CLOSE_SLICES, ({"me": 0},)))
    assert slices_on_disk(path) == [(1 << TICKET_BITS | 1, 9)]


@pytest.mark.parametrize("dead", [None, (2, 3)])
def test_slices_of_the_dead_become_rows_once(
    database: Database, path: Path, dead: tuple[int, ...] | None
) -> None:
    me = 1
    write(database, a_slice(1, me, 50), a_slice(1, 2, 300), a_slice(2, 2, 0), a_slice(1, 3, 20, job_id=None))
    for now_ms in (77, 78):
        write(database, *charge_slices(me, now_ms, dead))
    assert slices_on_disk(path) == [(me << TICKET_BITS | 1, 50)]
    columns = "runtime_id, number, state, outcome, estimated, held_pusd, cost_pusd, job_id, key_id, started_at_ms, settled_at_ms"
    assert on_disk(path, f"SELECT {columns} FROM attempts ORDER BY id") == [  # noqa: S608 -- column names
        (2, 0, "settled", "unconfirmed", 1, 300, 300, "j", "k", 5 * DAY_MS, 77),
        (3, 0, "settled", "unconfirmed", 1, 20, 20, None, "k", 5 * DAY_MS, 77),
    ]
    row = SpendRow(*ask(path, spend())[0])  # type: ignore[arg-type]  # a driver's row
    assert (row.attempts, row.calls, row.cost_pusd, row.estimated_pusd) == (0, 0, 320, 320)


def test_what_slices_set_aside(database: Database, path: Path) -> None:
    write(database, a_slice(1, 2, 300), a_slice(1, 3, 20, job_id=None), a_slice(2, 3, 4, opened_at_ms=DAY_MS))
    assert ask(path, set_aside()) == [(324,)]
    assert ask(path, set_aside(where=("job_id", "j"))) == [(304,)]
    assert ask(path, set_aside(where=("key_id", "k"), since_ms=DAY_MS, until_ms=2 * DAY_MS)) == [(4,)]


def test_slices_of_one_dead_runtime_leave_the_others(database: Database, path: Path) -> None:
    write(database, a_slice(1, 2, 300), a_slice(1, 3, 20))
    write(database, *charge_slices(1, 5, dead=[2, 1]))
    assert slices_on_disk(path) == [(3 << TICKET_BITS | 1, 20)]
    assert [row[4] for row in ledger(path)] == [300]


def test_what_a_scope_is_charged_counts_the_held_at_their_bound(database: Database, path: Path) -> None:
    rows = [hold(1, job_id="j"), hold(2, job_id="j"), hold(3, job_id="i")]
    rows.append(hold(4, job_id="j", started_at_ms=DAY_MS))
    write(database, Write(holds().statement, tuple(rows)))
    write(database, Write(SETTLE, (settle(2, job_id="j"),)))
    assert ask(path, *charged()) == [(400, 3000)]
    assert ask(path, *charged(where=("job_id", "j"))) == [(400, 2000)]
    assert ask(path, *charged(where=("job_id", "j"), without=[1, 3])) == [(400, 1000)]
    assert ask(path, *charged(since_ms=DAY_MS, until_ms=2 * DAY_MS)) == [(0, 1000)]
    assert ask(path, *charged(where=("tag", "none"))) == [(0, 0)]
    assert ask(path, *settled_by(0)) == [(400,)]
    assert ask(path, *settled_by(1)) == [(0,)]


def test_reclaiming_from_nobody_writes_nothing(database: Database) -> None:
    assert reclaim(1, 5, dead=[1]).parameters == ()
    write(database, reclaim(1, 5, dead=[]))


def spend_rows(path: Path, *by: Dimension, **options: object) -> dict[tuple[object, ...], SpendRow]:
    rows = ask(path, spend(*by, **options))  # type: ignore[arg-type]  # options are spend's own
    return {row[: len(by)]: SpendRow(*row[len(by) :]) for row in rows}  # type: ignore[arg-type]  # columns are ints


def test_spend_is_rolled_up_by_any_dimension(database: Database, path: Path) -> None:
    first, second = 20_000 * DAY_MS, 20_001 * DAY_MS
    write(
        database,
        Write(
            SETTLE,
            (
                settle(1, job_id="a", cost_pusd=10, started_at_ms=first, call_id=1),
                settle(2, job_id="a", cost_pusd=20, started_at_ms=second - 1, call_id=1, estimated=True),
                settle(3, job_id="b", cost_pusd=40, started_at_ms=second, call_id=2, provider="groq"),
            ),
        ),
        Write(holds().statement, (hold(4, job_id="b", started_at_ms=second, call_id=3, provider="groq"),)),
    )
    assert spend_rows(path)[()] == SpendRow(4, 3, 1, 1000, 70, 20, 30, 0, 0, 15, 0, 0)
    assert {key: row.cost_pusd for key, row in spend_rows(path, "provider", "job").items()} == {
        ("groq", "b"): 40,
        ("openai", "a"): 30,
    }
    assert {key: row.attempts for key, row in spend_rows(path, "day").items()} == {(20_000,): 2, (20_001,): 2}
    assert spend_rows(path, since_ms=second)[()].attempts == 2
    assert spend_rows(path, until_ms=second)[()].attempts == 2
    assert list(spend_rows(path, "model", job_id="b")) == [("gpt-5-mini",)]
    assert spend_rows(path, "job", since_ms=second + 1) == {}


def test_an_item_is_stored_once_and_never_loses_another(database: Database, path: Path) -> None:
    write(database, items(item("j", 0, seq=0)))
    write(database, items(item("j", 0, seq=0)), items(item("j", 0, seq=9, result=b"other")))
    assert on_disk(path, "SELECT position, seq, result FROM items") == [(0, 0, b'{"text":"x"}')]
    assert refused(database, items(item("j", 1, seq=0)))
    write(database, items(item("other job", 0, seq=0)))


def test_a_job_is_stored_once_and_an_output_file_has_one_job(database: Database, path: Path) -> None:
    write(database, jobs(job("a", out="/x")), jobs(job("a", out="/x", lines=99)))
    assert refused(database, jobs(job("b", out="/x")))
    write(database, jobs(job("c", out=None)), jobs(job("d", out=None)))
    assert [row[0] for row in on_disk(path, "SELECT id FROM jobs ORDER BY id")] == ["a", "c", "d"]
    write(
        database,
        Write(UPDATE_JOB_STATE, ({"job_id": "a", "state": "done", "updated_at_ms": 9},)),
    )
    (row,) = ask(path, GET_JOB, {"job_id": "a"})
    assert row == ("a", 1, 9, "done", "sim/echo", "in.jsonl", "/x", "d", 2, "{}", False)


def test_finished_items_and_results_come_page_by_page(database: Database, path: Path) -> None:
    count = PAGE + 5
    rows = [item("j", n, seq=count - 1 - n, ok=n % 2 == 0, result=b"%d" % n) for n in range(count)]
    write(database, items(*rows), items(item("k", 0)))

    finished: Rows = []
    while page := ask(
        path, FINISHED_ITEMS, {"job_id": "j", "after_position": finished[-1][0] if finished else -1}
    ):
        assert len(page) <= PAGE
        finished += page
    assert [row[0] for row in finished] == list(range(count))
    assert finished[1] == (1, count - 2, "line-1", b"\x01" * 16, False, None)

    first = ask(path, ITEM_RESULTS, {"job_id": "j", "after_seq": -1})
    assert first[0] == (0, b"%d" % (count - 1))
    assert ask(path, ITEM_RESULTS, {"job_id": "j", "after_seq": first[-1][0]})[-1] == (count - 1, b"0")

    assert ask(path, JOB_TOTALS, {"job_id": "j", "span": 1 << 30}) == [
        (count, (count + 1) // 2, count - 1, 7 * count, 3 * count, 2 * count)
    ]
    assert ask(path, JOB_TOTALS, {"job_id": "j", "span": 3}) == [(3, 2, count - 1, 21, 9, 6)]
    assert ask(path, JOB_TOTALS, {"job_id": "none", "span": 1 << 30}) == [(0, 0, -1, 0, 0, 0)]


@pytest.mark.parametrize(
    ("statement", "index"),
    [
        (orphans(1)[0], "ix_attempts_held"),
        (reclaim(1, 1).statement, "ix_attempts_held"),
        (reclaim(1, 1, [2]).statement, "ix_attempts_held"),
        (spend("model", job_id="j"), "ix_attempts_job_id"),
        (spend("model", since_ms=5), "ix_attempts_started_at_ms"),
        (charged(where=("job_id", "j"))[0], "ix_attempts_job_id"),
        (charged(where=("session_id", "s"))[0], "ix_attempts_session_id"),
        (charged(where=("key_id", "k"))[0], "ix_attempts_key_id"),
        (charged(where=("tag", "t"))[0], "ix_attempts_tag"),
        (charged(since_ms=5, until_ms=6)[0], "ix_attempts_started_at_ms"),
        (settled_by(1)[0], "PRIMARY KEY"),
    ],
)
def test_what_must_not_scan_the_ledger_uses_an_index(
    database: Database, path: Path, statement: Statement, index: str
) -> None:
    assert isinstance(statement, ClauseElement)
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="named"))
    with sqlite3.connect(path) as other:
        parameters = dict.fromkeys(compiled.params or (), 1)
        plan = other.execute(f"EXPLAIN QUERY PLAN {compiled}", parameters).fetchall()
    other.close()
    assert index in str(plan)
