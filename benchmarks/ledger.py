"""Durable ledger rows (S11): actors that hold and settle through the store, each waiting for its acknowledgement.

Every row is on disk (SQLite, WAL, synchronous=FULL) before its writer hears of it. Two loads:

- closed: all writers always wait for a commit. Gives the highest rate; latency there is writers / rate (Little's law).
- offered: the promised rate, spread evenly over the writers. Gives the latency that a caller sees at that rate,
  counted from the moment at which each row was due.

Beside them, in the same run: one transaction per row in the same file, which is what a commit per call costs.

    python -m benchmarks ledger [--rounds 5] [--pairs 40000] [--writers 512] [--rate 50000] [--dir DIR] [--json]
"""

import argparse
import asyncio
import gc
import itertools
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec import Struct

from benchmarks._harness import Result, report, spread, versions
from greenroom.actors import Actor, ActorRef, ActorSystem, Cast, handles
from greenroom.actors.storage import HOLD, SETTLE, TICKET_BITS, Database, Save, Saved, Store, Write


class Next(Cast, frozen=True):
    """Write the next row, which was due at this time (seconds)."""

    due_s: float


class Round(Struct, kw_only=True):
    """One round's figures."""

    rows_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    rows_per_commit: float


def hold(ticket: int, runtime_id: int, now_ms: int) -> dict[str, object]:
    return {
        "id": ticket,
        "runtime_id": runtime_id,
        "call_id": ticket,
        "number": 1,
        "held_pusd": 1_234_567,
        "provider": "openai",
        "model": "gpt-5-mini",
        "job_id": "job-01JB3ZK4T5",
        "session_id": None,
        "key_id": None,
        "tag": None,
        "started_at_ms": now_ms,
    }


def settle(ticket: int, runtime_id: int, now_ms: int) -> dict[str, object]:
    return {
        **hold(ticket, runtime_id, now_ms),
        "outcome": "ok",
        "estimated": False,
        "cost_pusd": 456_789,
        "input_tokens": 120,
        "cached_tokens": 0,
        "cache_write_5m_tokens": 0,
        "cache_write_1h_tokens": 0,
        "output_tokens": 80,
        "reasoning_tokens": 0,
        "audio_input_tokens": 0,
        "audio_output_tokens": 0,
        "request_id": "req_0123456789abcdef",
        "settled_at_ms": now_ms + 900,
    }


class Writer(Actor):
    """Holds, hears that the hold is on disk, settles, hears that the settlement is; and so on."""

    def __init__(
        self,
        store: ActorRef,
        runtime_id: int,
        numbers: Iterator[int],
        waited_s: list[float],
        done: Callable[[], None],
    ) -> None:
        self._store = store
        self._runtime_id = runtime_id
        self._numbers = numbers
        self._waited_s = waited_s
        self._done = done
        self._tag = 0
        self._ticket = 0
        self._due_s: dict[int, float] = {}
        self.closed_loop = False

    @handles
    def next(self, message: Next) -> None:
        self._tag += 1
        now_ms = time.time_ns() // 1_000_000
        if self._tag % 2:
            self._ticket = self._runtime_id << TICKET_BITS | next(self._numbers)
            write = Write(HOLD, (hold(self._ticket, self._runtime_id, now_ms),))
        else:
            write = Write(SETTLE, (settle(self._ticket, self._runtime_id, now_ms),))
        self._due_s[self._tag] = message.due_s
        self._store.cast(Save((write,), self.ref, self._tag))

    @handles
    def saved(self, message: Saved) -> None:
        if message.error is not None:
            raise message.error
        now_s = time.perf_counter()
        for tag in message.tags:
            self._waited_s.append(now_s - self._due_s.pop(tag))
            self._done()


class ClosedWriter(Writer):
    """The same, which begins its next row as soon as the last one is on disk."""

    @handles
    def saved(self, message: Saved) -> None:
        super().saved(message)
        for _ in message.tags:
            self.next(Next(time.perf_counter()))


class Echo(Actor):
    """Stands in for the store to weigh the writers alone: acknowledges everything in the loop's next turn."""

    def __init__(self) -> None:
        self._saves: list[Save] = []

    @handles
    def save(self, message: Save) -> None:
        if not self._saves:
            asyncio.get_running_loop().call_soon(self._acknowledge)
        self._saves.append(message)

    def _acknowledge(self) -> None:
        saves, self._saves = self._saves, []
        for save in saves:
            save.sender.cast(Saved((save.tag,)))


async def writers_alone(rows: int, writers: int) -> float:
    """CPU microseconds of a hold and its settlement without a store."""
    finished = asyncio.Event()
    waited_s: list[float] = []

    def done() -> None:
        if len(waited_s) >= rows:
            finished.set()

    async with ActorSystem() as system:
        echo = await system.start(Echo)
        source = itertools.count(1)
        actors = [await system.start(ClosedWriter, echo, 1, source, waited_s, done) for _ in range(writers)]
        gc.collect()
        gc.freeze()
        cpu_s = time.process_time()
        for actor in actors:
            actor.cast(Next(time.perf_counter()))
        await finished.wait()
        cpu_s = time.process_time() - cpu_s
    gc.unfreeze()
    return cpu_s / rows * 2e6


async def run(path: Path, kind: type[Writer], rows: int, writers: int, rate: float | None) -> Round:
    """Write `rows` rows; `rate` rows a second where one is given, else as fast as acknowledgements come."""
    database = Database(f"sqlite:///{path}", app_version="bench")
    finished = asyncio.Event()
    waited_s: list[float] = []
    begun = 0

    def done() -> None:
        if len(waited_s) >= rows:
            finished.set()

    async with ActorSystem() as system:
        store = await system.start(Store, database, name="store")
        source = itertools.count(1)
        actors = [
            await system.start(kind, store, database.runtime_id, source, waited_s, done)
            for _ in range(writers)
        ]
        gc.collect()
        gc.freeze()
        cpu_s, wall_s = time.process_time(), time.perf_counter()
        if rate is None:
            for actor in actors:
                actor.cast(Next(time.perf_counter()))
        else:
            while begun < rows:
                due = min(rows, int((time.perf_counter() - wall_s) * rate) + 1)
                for number in range(begun, due):
                    actors[number % writers].cast(Next(wall_s + number / rate))
                begun = due
                await asyncio.sleep(0.0005)
        await finished.wait()
        cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
        figures = database.statistics().writer
        assert figures is not None
    await asyncio.to_thread(database.close)
    gc.unfreeze()
    waited_ms = statistics.quantiles((one * 1e3 for one in waited_s[:rows]), n=100)
    return Round(
        rows_per_s=rows / wall_s,
        p50_ms=waited_ms[49],
        p99_ms=waited_ms[98],
        cpu_us=cpu_s / rows * 2e6,
        rows_per_commit=figures.rows / figures.commits,
    )


def row_by_row(path: Path, rows: int) -> float:
    """Rows a second with one transaction each."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA synchronous = FULL")
    row = hold(0, 0, time.time_ns() // 1_000_000)
    sql = f"INSERT INTO attempts ({', '.join(row)}) VALUES ({', '.join(':' + name for name in row)})"  # noqa: S608 -- our names
    begun = time.perf_counter()
    for ticket in range(-rows, 0):
        connection.execute(sql, row | {"id": ticket})
    elapsed = time.perf_counter() - begun
    connection.close()
    return rows / elapsed


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks ledger", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--pairs", type=int, default=40_000)
    parser.add_argument("--writers", type=int, default=512)
    parser.add_argument("--rate", type=float, default=50_000)
    parser.add_argument("--dir", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    closed: list[Round] = []
    offered: list[Round] = []
    singly: list[float] = []
    alone: list[float] = []
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory(dir=options.dir) as folder:
            rows = options.pairs * 2
            closed.append(asyncio.run(run(Path(folder) / "a.db", ClosedWriter, rows, options.writers, None)))
            offered.append(
                asyncio.run(run(Path(folder) / "b.db", Writer, rows, options.writers, options.rate))
            )
            singly.append(row_by_row(Path(folder) / "b.db", 2000))
            alone.append(asyncio.run(writers_alone(rows, options.writers)))
    return report(
        "ledger",
        results(closed, offered, singly, alone, options),
        versions("greenroom", "sqlalchemy"),
        as_json=options.json,
    )


def results(
    closed: list[Round],
    offered: list[Round],
    singly: list[float],
    alone: list[float],
    options: argparse.Namespace,
) -> list[Result]:
    def figure(
        id_: str, what: str, unit: str, values: list[float], target: float | None, **against: float
    ) -> Result:
        middle, least, most = spread(values)
        return Result(
            id=id_,
            what=what,
            value=middle,
            unit=unit,
            target=target,
            better="higher" if unit == "rows/s" else "lower",
            min=least,
            max=most,
            against={name.replace("_", " "): value for name, value in against.items()},
        )

    def median(values: list[float]) -> float:
        return statistics.median(values)

    writers, rate = options.writers, options.rate
    return [
        figure(
            "S11",
            f"durable rows, {writers} writers that always wait",
            "rows/s",
            [one.rows_per_s for one in closed],
            50_000,
            one_transaction_per_row=median(singly),
            rows_per_commit=median([one.rows_per_commit for one in closed]),
            p50_ms_there=median([one.p50_ms for one in closed]),
        ),
        figure(
            "S11",
            f"until a row is acknowledged, p50, {rate:g} rows/s offered by {writers} writers",
            "ms",
            [one.p50_ms for one in offered],
            3.0,
            p99_ms=median([one.p99_ms for one in offered]),
            rows_per_commit=median([one.rows_per_commit for one in offered]),
            reached_rows_per_s=median([one.rows_per_s for one in offered]),
        ),
        figure(
            "",
            "CPU of a hold and its settlement in the store, both threads, without the writers themselves",
            "us",
            [one.cpu_us - other for one, other in zip(closed, alone, strict=True)],
            12.0,
            writers_alone=median(alone),
        ),
    ]
