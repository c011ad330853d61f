"""Rows and small helpers that the storage tests share."""

import queue
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

from greenroom.actors.storage import (
    HOLD,
    INSERT_ITEM,
    INSERT_JOB,
    SETTLE,
    Database,
    Failures,
    Job,
    StorageFailed,
    Write,
)

WAIT_S = 20.0


class Task(Struct):
    """A job for the writer, as a thread would submit it."""

    writes: tuple[Write, ...] = ()
    ordered: bool = False
    then: Callable[[], None] | None = None


class Outcomes:
    """Collects what the writer delivers, group by group."""

    def __init__(self, database: Database) -> None:
        self._groups: queue.SimpleQueue[tuple[Sequence[Job], Failures]] = queue.SimpleQueue()
        database.attach(lambda group, failures: self._groups.put((group, dict(failures))))

    def next_group(self) -> tuple[Sequence[Job], Failures]:
        return self._groups.get(timeout=WAIT_S)

    def of(self, count: int) -> list[StorageFailed | None]:
        """The outcomes of the next `count` jobs, in order."""
        outcomes: list[StorageFailed | None] = []
        while len(outcomes) < count:
            group, failures = self.next_group()
            outcomes += [failures.get(index) for index in range(len(group))]
        assert len(outcomes) == count
        return outcomes


def hold(ticket: int, *, runtime_id: int = 1, **changes: object) -> dict[str, object]:
    return {
        "id": ticket,
        "runtime_id": runtime_id,
        "call_id": ticket,
        "number": 1,
        "held_pusd": 1000,
        "provider": "openai",
        "model": "gpt-5-mini",
        "job_id": None,
        "session_id": None,
        "key_id": None,
        "tag": None,
        "started_at_ms": 1_700_000_000_000 + ticket,
    } | changes


def settle(ticket: int, *, runtime_id: int = 1, **changes: object) -> dict[str, object]:
    return (
        hold(ticket, runtime_id=runtime_id)
        | {
            "outcome": "ok",
            "estimated": False,
            "cost_pusd": 400,
            "input_tokens": 10,
            "cached_tokens": 0,
            "cache_write_5m_tokens": 0,
            "cache_write_1h_tokens": 0,
            "output_tokens": 5,
            "reasoning_tokens": 0,
            "audio_input_tokens": 0,
            "audio_output_tokens": 0,
            "request_id": "req-1",
            "settled_at_ms": 1_700_000_001_000,
        }
        | changes
    )


def job(job_id: str, **changes: object) -> dict[str, object]:
    return {
        "id": job_id,
        "created_at_ms": 1,
        "updated_at_ms": 1,
        "state": "running",
        "model": "sim/echo",
        "source": "in.jsonl",
        "out": None,
        "digest": "d",
        "lines": 2,
        "settings": "{}",
        "rewrite": False,
    } | changes


def item(job_id: str, position: int, **changes: object) -> dict[str, object]:
    return {
        "job_id": job_id,
        "position": position,
        "seq": position,
        "custom_id": f"line-{position}",
        "digest": b"\x01" * 16,
        "ok": True,
        "error_class": None,
        "result": b'{"text":"x"}',
        "cost_pusd": 7,
        "input_tokens": 3,
        "output_tokens": 2,
        "finished_at_ms": 5,
    } | changes


def holds(*tickets: int) -> Write:
    return Write(HOLD, tuple(hold(ticket) for ticket in tickets))


def settles(*tickets: int) -> Write:
    return Write(SETTLE, tuple(settle(ticket) for ticket in tickets))


def jobs(*rows: dict[str, object]) -> Write:
    return Write(INSERT_JOB, rows)


def items(*rows: dict[str, object]) -> Write:
    return Write(INSERT_ITEM, rows)


def on_disk(path: Path, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    """What another program sees in the file now."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return connection.execute(sql, parameters).fetchall()
    finally:
        connection.close()


def tickets_on_disk(path: Path) -> list[object]:
    return [row[0] for row in on_disk(path, "SELECT id FROM attempts ORDER BY id")]
