"""The one thread that writes: it takes whatever waits and commits it together.

There is no timer. While one group is being committed the next one gathers, so groups grow with the load and shrink to
a single save when there is none. A timer of 5 ms made this four times slower.
"""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue

from sqlalchemy import Engine
from sqlalchemy.pool import PoolProxiedConnection

from greenroom.actors.storage.binding import Cursor, Prepared, Preparer, Row
from greenroom.actors.storage.engine import explain
from greenroom.actors.storage.errors import CallbackFailed, StorageClosed, StorageFailed, WriteRejected
from greenroom.actors.storage.shapes import MAX_WAITING, Failures, Job, WriterStatistics

MAX_GROUP = 1024
"""Jobs of one commit; what waits beyond that goes into the next one, so that no acknowledgement waits for all."""


Deliver = Callable[[Sequence[Job], Failures], object]
Plan = list[tuple[Prepared, list[Row]]]


class Writer:
    """Group commit in a daemon thread.

    Args:
        engine: makes the one connection, in the thread.
        where: the database as messages name it.
        deliver: called in the writer's thread after each group, whatever became of it.
        on_connect: statements to run on each new connection.
    """

    def __init__(self, engine: Engine, where: str, deliver: Deliver, on_connect: Sequence[str] = ()) -> None:
        self._engine = engine
        self._where = where
        self._deliver = deliver
        self._on_connect = on_connect
        self._preparer = Preparer(engine.dialect)
        self._begin = "BEGIN IMMEDIATE" if engine.dialect.name == "sqlite" else "BEGIN"
        self._queue: SimpleQueue[Job | None] = SimpleQueue()
        self._closing = False
        self._connection: PoolProxiedConnection | None = None
        self._commits = self._jobs = self._rows = self._largest_group = self._failures = 0
        self._thread = threading.Thread(target=self._run, name="greenroom-writer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, job: Job) -> None:
        """Queue a job. Never waits; may be called from any thread.

        Raises:
            StorageClosed: the writer is closed, or closing.
            StorageFailed: too much waits already; the job was not taken.
        """
        if self._closing:
            raise StorageClosed(f"{self._where} is closed")
        if self._queue.qsize() >= MAX_WAITING:
            raise StorageFailed(f"{self._where}: {MAX_WAITING} saves wait already; the disk does not keep up")
        self._queue.put(job)

    def close(self, timeout_s: float) -> bool:
        """Commit what waits, then end the thread. False if that took longer than `timeout_s`; it goes on then."""
        self._closing = True
        self._queue.put(None)
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def statistics(self) -> WriterStatistics:
        """The figures of this moment. May be called from any thread."""
        return WriterStatistics(
            waiting=self._queue.qsize(),
            commits=self._commits,
            jobs=self._jobs,
            rows=self._rows,
            largest_group=self._largest_group,
            failures=self._failures,
        )

    def _run(self) -> None:
        open_ = True
        while open_:
            group, open_ = self._take(self._queue.get())
            if group:
                self._serve(group)
        # What another thread queued while it still saw the writer open.
        while late := self._take(None)[0]:
            closed = StorageClosed(f"{self._where} is closed")
            self._deliver(late, dict.fromkeys(range(len(late)), closed))
        self._disconnect()

    def _take(self, first: Job | None) -> tuple[list[Job], bool]:
        group: list[Job] = [] if first is None else [first]
        open_ = first is not None
        with suppress(Empty):
            while len(group) < MAX_GROUP:
                job = self._queue.get_nowait()
                if job is None:
                    open_ = False
                else:
                    group.append(job)
        return group, open_

    def _serve(self, group: list[Job]) -> None:
        failures: dict[int, StorageFailed] = {}
        plan = self._plan(group, failures)
        if plan:
            try:
                self._commit(plan)
            except Exception as error:
                self._roll_back()
                self._recover(explain(error, self._where), group, failures)
        self._call_back(group, failures)
        self._jobs += len(group)
        self._failures += len(failures)
        self._largest_group = max(self._largest_group, len(group))
        self._deliver(group, failures)

    def _plan(self, group: list[Job], failures: dict[int, StorageFailed]) -> Plan:
        """Gather the rows of equal statements, keeping each job's own order and each statement's.

        A row may join an earlier run of its statement only if that run comes after everything its job has written
        before. An ordered job stands where it is: what came before goes before it, what comes after goes after.
        A job whose values do not fit its statement is out.
        """
        plan: Plan = []
        last: dict[Prepared, int] = {}
        for index, job in enumerate(group):
            try:
                bound = self._bind(job)
            except Exception as error:
                failures[index] = explain(error, self._where)
                continue
            if job.ordered:
                last.clear()
                plan += bound
            elif len(bound) == 1 and (place := last.get(bound[0][0])) is not None:
                plan[place][1].extend(bound[0][1])
            else:
                _place(bound, plan, last)
        return plan

    def _bind(self, job: Job) -> Plan:
        preparer = self._preparer
        bound: Plan = []
        for write in job.writes:
            parameters = write.parameters
            if parameters:
                statement = write.statement
                prepared = preparer.get(id(statement)) or preparer.prepare(statement, parameters[0])
                bound.append((prepared, [prepared.bind(one) for one in parameters]))
        return bound

    def _commit(self, plan: Plan) -> None:
        cursor = self._cursor()
        cursor.execute(self._begin)
        for prepared, rows in plan:
            prepared.execute(cursor, rows)
        cursor.execute("COMMIT")
        self._commits += 1
        self._rows += sum(len(rows) for _, rows in plan)

    def _recover(self, why: StorageFailed, group: list[Job], failures: dict[int, StorageFailed]) -> None:
        """The group failed whole. Where single jobs are to blame, find them and commit the others."""
        if isinstance(why, WriteRejected):
            try:
                self._commit_singly(group, failures)
            except Exception as error:
                self._roll_back()
                why = explain(error, self._where)
            else:
                return
        self._disconnect()
        for index in range(len(group)):
            failures.setdefault(index, why)

    def _commit_singly(self, group: list[Job], failures: dict[int, StorageFailed]) -> None:
        cursor = self._cursor()
        cursor.execute(self._begin)
        rows_written = 0
        rejected: dict[int, StorageFailed] = {}
        for index, job in enumerate(group):
            if index in failures:
                continue
            cursor.execute("SAVEPOINT job")
            try:
                for prepared, rows in self._bind(job):
                    prepared.execute_each(cursor, rows)
                    rows_written += len(rows)
            except Exception as error:
                why = explain(error, self._where)
                if not isinstance(why, WriteRejected):
                    raise
                cursor.execute("ROLLBACK TO SAVEPOINT job")
                rejected[index] = why
            cursor.execute("RELEASE SAVEPOINT job")
        cursor.execute("COMMIT")
        failures |= rejected
        self._commits += 1
        self._rows += rows_written

    def _call_back(self, group: list[Job], failures: dict[int, StorageFailed]) -> None:
        for index, job in enumerate(group):
            if job.then is None or index in failures:
                continue
            try:
                job.then()
            except Exception as error:
                told = CallbackFailed(f"{self._where}: stored, but what was to follow failed: {error!r}")
                told.__cause__ = error
                failures[index] = told

    def _cursor(self) -> Cursor:
        if self._connection is None:
            self._connection = self._engine.raw_connection()
            driver = self._connection.driver_connection
            if self._engine.dialect.name != "sqlite" and driver is not None:
                # Transactions are begun and committed in words here, on every driver.
                driver.autocommit = True
            for statement in self._on_connect:
                self._connection.cursor().execute(statement)
        return self._connection.cursor()

    def _roll_back(self) -> None:
        if self._connection is not None:
            try:
                self._connection.rollback()
            except Exception:
                self._disconnect()

    def _disconnect(self) -> None:
        """Let go of the connection; the next group makes a new one, after whatever was wrong with this one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.invalidate()


def _place(bound: Plan, plan: Plan, last: dict[Prepared, int]) -> None:
    floor = 0
    for prepared, rows in bound:
        place = last.get(prepared, -1)
        if place >= floor:
            plan[place][1].extend(rows)
        else:
            place = last[prepared] = len(plan)
            plan.append((prepared, rows))
        floor = place
