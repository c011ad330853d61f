"""The batch actor: one job, many lines in flight, every result on disk before it counts.

Pullers, tasks of the actor, share one lazy source of lines: each takes a line, runs the flow, and puts what came of it
behind the other results that are not on disk. The actor saves them, one save at a time: each gets its place in the
order of completion, and counts once the store says it is on disk. The line is appended to the output by the writer
thread, after its commit.

Killed at any moment, its next incarnation reads the rows and goes on: nothing answered is asked again. What it cannot
read there stands in the job's `Memory`. The first incarnation that cannot begin fails its start, so that whoever opens
the job is told; a later one halts the job, since beginning again and again would take the whole tree with it.
"""

import asyncio
import contextlib
import traceback
from collections.abc import Callable
from functools import partial
from typing import Literal

import anyio.to_thread
from msgspec import Struct, structs

from greenroom.actors import storage
from greenroom.actors.batch.input.errors import BadLine
from greenroom.actors.batch.input.lines import Line, parse
from greenroom.actors.batch.input.reading import digest
from greenroom.actors.batch.input.source import LineSource
from greenroom.actors.batch.memory import Finished, Memory
from greenroom.actors.batch.messages import CancelJob, GetProgress, JobProgress, JobStanding, StopJob
from greenroom.actors.batch.records import JobState, OpenJob, finished_positions, state_change, tally
from greenroom.actors.batch.renderings import rendering
from greenroom.actors.batch.restore import restore_output
from greenroom.actors.batch.results import OutputTaken, ResultFile
from greenroom.actors.events import ErrorKind, ProviderError, ProviderFailed, Usage
from greenroom.actors.flow import Closed, Flow, Terms
from greenroom.actors.kernel import (
    Actor,
    ActorExited,
    ActorRef,
    Cast,
    Normal,
    Pipe,
    Piped,
    Refused,
    handles,
)
from greenroom.actors.ledger import Account, Budget, BudgetExceeded
from greenroom.actors.limiter import BATCH
from greenroom.actors.log import Log
from greenroom.actors.storage import (
    CallbackFailed,
    Commit,
    Introduce,
    Resend,
    Save,
    Saved,
    StorageFailed,
    Write,
    WriteRejected,
)

_log = Log(__name__)

_FATAL: frozenset[ErrorKind] = frozenset({"authentication", "permission", "budget_exceeded"})
"""Failures that every further line would meet too: the job halts, and the line is not counted as failed."""
_AT_FIRST: tuple[ErrorKind, ...] = ("not_found", "connection", "timeout", "unsupported_capability")
_FATAL_AT_FIRST: frozenset[ErrorKind] = _FATAL.union(_AT_FIRST)
"""The same, while nothing at all has been answered."""


_STORED_STATE: dict[JobStanding, JobState] = {"running": "done", "stopping": "running", "halted": "halted"}
_LAST_STATE: dict[JobStanding, JobStanding] = {"running": "done", "stopping": "stopped", "halted": "halted"}
_TIMEOUT_S = 60.0
_SAVE_AGAIN_S = 0.5
_SAVES_AGAIN = 3
"""How often results that the disk refused are handed to it again before they are given up, to be asked for anew."""


class _Flush(Cast, frozen=True):
    """Our own word to ourselves: save what this turn of the loop has brought, as one."""


class _SaveAgain(Cast, frozen=True):
    """Our own timer: results that the disk refused are due once more."""


class _Concluded(Struct, frozen=True):
    """The last row and the job's state are on disk."""


def memory_of(job: OpenJob) -> Memory:
    """What the actor of a job that begins remembers: nothing yet."""
    return Memory(ResultFile(job.request.out, rendering(job.request.out, job.scan).header))


class Batch(Actor):
    """One job.

    Args:
        job: what to do.
        flow: the way of a call.
        store: the store, by name.
        now_ms: unix milliseconds.
        memory: what outlives this incarnation.
    """

    def __init__(
        self, job: OpenJob, flow: Flow, store: ActorRef, now_ms: Callable[[], int], memory: Memory
    ) -> None:
        self._job = job
        self._flow = flow
        self._store = store
        self._now_ms = now_ms
        self._memory = memory
        self._output = memory.output
        self._rendering = rendering(job.request.out, job.scan)
        asked = job.request
        self._terms = Terms(
            account=_account(job), priority=BATCH, timeout_s=asked.timeout_s, fallbacks=asked.fallbacks
        )
        self._state: Literal["running", "stopping", "halted"] = "stopping" if memory.stop_asked else "running"
        self._because: str | None = None
        self._because_kind: ErrorKind | None = None
        self._source: LineSource | None = None
        self._unsaved = memory.unsaved
        self._save: Save | None = None
        self._saving = 0
        self._saves_again = 0
        self._tag = 0
        self._seq = 0
        self._room = asyncio.Event()
        self._room.set()
        self._pullers = 0
        self._pulling: list[Pipe] = []
        self._taken_up = 0
        self._concluded = False

    async def init(self) -> None:
        """Read where the job stands, bring the output level with it, and send the pullers off.

        Raises:
            StorageFailed, OutputTaken, OSError: the first incarnation cannot begin; a later one halts the job.
        """
        try:
            source = await self._take_up()
        except (StorageFailed, OutputTaken, OSError, TimeoutError) as error:
            if self._memory.resumed is None:
                await anyio.to_thread.run_sync(self._output.close)
                raise
            self._halt(f"the job could not be gone on with: {error}")
            # Where not even the next place is known, the rows of unsaved results are refused, never written over others.
            self.ref.cast(_Flush())
            return
        finished = self._memory.tally.finished
        if self._memory.resumed is None:
            self._memory.resumed = finished
        left = max(1, self._job.scan.lines - finished)
        self._pullers = min(self._job.request.concurrency, left)
        for _ in range(self._pullers):
            self._pulling.append(self.pipe_to_self(self._pull(source)))
        self.ref.cast(_Flush())

    async def _take_up(self) -> LineSource:
        store, job, memory = self._store, self._job, self._memory
        await store.call(Introduce(self.ref), timeout=_TIMEOUT_S)
        # A barrier: what an earlier incarnation handed to the store is on disk and in the output.
        await store.call(Commit(()), timeout=_TIMEOUT_S)
        await anyio.to_thread.run_sync(self._output.close)
        memory.tally, self._seq = await tally(store, job.id, job.scan.span)
        await restore_output(store, job.id, self._output)
        done = await finished_positions(store, job.id, job.scan.span)
        self._take_over(done)
        self._source = LineSource(job.request.path, job.request.form, job.scan.span, done, job.scan.repeated)
        return self._source

    def _take_over(self, done: bytearray) -> None:
        """Results that an earlier incarnation had, and did not see to the disk, are saved by this one."""
        self._unsaved[:] = [line for line in self._unsaved if not done[line.position]]
        for line in self._unsaved:
            done[line.position] = 1

    @handles
    def progress(self, message: GetProgress) -> JobProgress:
        return self._progress()

    @handles
    def stop_pulling(self, message: StopJob) -> None:
        if self._state == "running":
            self._state = "stopping"

    @handles
    def cancel(self, message: CancelJob) -> None:
        self.stop_pulling(StopJob())
        for pipe in self._pulling:
            pipe.cancel()

    @handles
    def flush(self, message: _Flush) -> None:
        if self._save is None:
            self._save_next()

    def _save_next(self) -> None:
        """One save at a time, of all that came meanwhile: results reach disk and output in the order of their `seq`."""
        self._save, self._saving = None, len(self._unsaved)
        if len(self._unsaved) < self._job.request.concurrency:
            self._room.set()
        if not self._unsaved:
            self._conclude_if_over()
            return
        rows = tuple(line.row(self._job.id, self._seq + n) for n, line in enumerate(self._unsaved))
        self._seq += len(rows)
        self._tag += 1
        append = partial(self._output.append, [line.result for line in self._unsaved])
        self._save = Save((Write(storage.INSERT_ITEM, rows),), self.ref, self._tag, then=append)
        self._store.cast(self._save)

    @handles
    def saved(self, message: Saved) -> None:
        if self._save is None or self._save.tag not in message.tags:
            return  # acknowledged before: it was cast again to a new store
        error = message.error
        if error is not None and not isinstance(error, CallbackFailed):
            self._halt(f"results cannot be stored: {error}")
            self._save_later(error)
            return
        if error is not None:
            where = f"written to {self._output.path}, though they are stored"
            self._halt(f"results cannot be {where}: {error.__cause__ or error}")
        for line in self._unsaved[: self._saving]:
            self._memory.tally.count(line)
        self._memory.tell()
        self._saves_again = 0
        del self._unsaved[: self._saving]
        self._save_next()

    def _save_later(self, error: StorageFailed) -> None:
        """Answers that were paid for are not let go because the disk failed once: a lock ends, space is made."""
        if self._saves_again < _SAVES_AGAIN and not isinstance(error, WriteRejected):
            self._saves_again += 1
            self.send_after(_SAVE_AGAIN_S, _SaveAgain())
        else:
            _log.error("results given up, to be asked for again", job=self._job.id, results=self._saving)
            del self._unsaved[: self._saving]
            self._save_next()

    @handles
    def resend(self, message: Resend) -> None:
        if self._save is not None:
            self._store.cast(self._save)

    @handles
    def save_again(self, message: _SaveAgain) -> None:
        if self._save is not None:
            self._store.cast(self._save)

    async def handle_info(self, message: object) -> None:
        match message:
            case Piped(value=_Concluded()):
                self._concluded = True
                self.stop(Normal())
            case Piped(error=asyncio.CancelledError()) if self._memory.cancel_asked:
                self._pullers -= 1
                self._conclude_if_over()
            case Piped(error=BaseException() as error):
                # A fault of ours, not of a line: crash, and let the supervisor have the job begun again.
                raise error
            case Piped():
                self._pullers -= 1
                self._conclude_if_over()
            case _:
                await super().handle_info(message)

    async def terminate(self, reason: object) -> None:
        await anyio.to_thread.run_sync(self._output.close)
        if self._concluded:
            # The last step: killed before it, the next incarnation concludes; after it, nobody is left to be killed.
            self._memory.ended.set_result(self._progress(over=True))

    # --- pulling: tasks of the actor, on its loop, between its messages ---------------------------------------------

    async def _pull(self, source: LineSource) -> None:
        while await self._room.wait() and self._state == "running":
            taken = await self._next(source)
            if taken is None:
                return
            if self._state == "running":
                await self._ask(*taken)
            else:
                self._taken_up += 1

    async def _next(self, source: LineSource) -> tuple[int, bytes] | None:
        try:
            return await source.next()
        except OSError as error:
            # Begun again the job would fail again.
            self._halt(f"{self._job.request.source} cannot be read: {error}")
            return None

    async def _ask(self, position: int, raw: bytes) -> None:
        """One line, from its bytes to its result."""
        try:
            line = parse(raw, position + 1, self._job.request.defaults, self._job.scan.columns)
        except BadLine:
            self._taken_up += 1  # Passed over as the scan said, and the caller agreed to.
            return
        try:
            terms = structs.replace(self._terms, idempotency_key=f"{self._job.id}-{position}")
            reply = await self._flow.chat(line.request, terms, streamed=self._job.request.streamed)
            result = self._rendering.answered(self._result_id(position), position + 1, line, reply)
            self._keep(position, line, raw, result, (reply.cost_pusd, reply.usage, None))
        except asyncio.CancelledError:
            self._taken_up += 1
            raise
        except Closed:
            self._taken_up += 1
            self._state = "stopping" if self._state == "running" else self._state
        except Refused as refused:
            self._taken_up += 1
            self._halt(str(refused), "budget_exceeded" if isinstance(refused, BudgetExceeded) else None)
        except ProviderFailed as failure:
            self._item_failed(position, line, raw, failure)
        except Exception as error:
            # Ours, and met by this line alone: a crash would take along what else is in flight, and meet it again.
            # Its message and its locals may hold a prompt, so the log tells the place alone.
            at = traceback.extract_tb(error.__traceback__)[-1]
            fault = f"a fault of greenroom: {type(error).__name__} at {at.name}, line {at.lineno}"
            _log.error("line failed", job=self._job.id, line=position + 1, because=fault)
            self._item_failed(
                position, line, raw, ProviderFailed(ProviderError(kind="internal", message=fault))
            )

    def _item_failed(self, position: int, line: Line, raw: bytes, failure: ProviderFailed) -> None:
        error: ProviderError = failure.error
        because = (
            str(failure) if error.kind in (_FATAL if self._memory.tally.ok else _FATAL_AT_FIRST) else None
        )
        if (told_s := error.retry_after_s or 0.0) > self._flow.max_retry_after_s:
            # A day's allowance is spent, say: the next line would be told the same.
            because = f"{failure}; it says to come back in {told_s / 60:,.0f} minutes"
        if because is not None:
            self._taken_up += 1
            self._halt(because, error.kind)
            return
        result = self._rendering.failed(self._result_id(position), position + 1, line, failure)
        self._keep(position, line, raw, result, (failure.cost_pusd, Usage(), error.kind))

    def _keep(
        self,
        position: int,
        line: Line,
        raw: bytes,
        result: bytes,
        came_to: tuple[int, Usage, ErrorKind | None],
    ) -> None:
        """Keep a result until it is on disk. While as many wait for that as may be in flight, no further line is asked.

        So a slow disk slows the job down, and a `kill -9` has at most twice `concurrency` answers asked for again.
        """
        self._taken_up += 1
        unsaved = self._unsaved
        unsaved.append(Finished(position, line.custom_id, digest(raw), result, *came_to, self._now_ms()))
        if len(unsaved) >= self._job.request.concurrency:
            self._room.clear()
        if len(unsaved) == 1:
            self.ref.cast(_Flush())

    def _result_id(self, position: int) -> str:
        return f"batch_req_{self._job.id}_{position + 1}"

    # --- ending -----------------------------------------------------------------------------------------------------

    def _halt(self, because: str, kind: ErrorKind | None = None) -> None:
        if self._because is None:
            _log.error("job halted", job=self._job.id, because=because)
            self._because, self._because_kind = because, kind
            self._state = "halted"

    def _conclude_if_over(self) -> None:
        if self._pullers == 0 and not self._unsaved:
            self._pullers = -1
            missing = self._job.scan.lines - self._memory.tally.finished
            if self._state == "running" and missing > 0:
                self._halt(f"{self._job.request.source} has lost {missing} lines meanwhile")
            elif self._state == "stopping" and missing <= 0:
                self._state = "running"  # nothing was left to be stopped
            self.pipe_to_self(self._conclude())

    async def _conclude(self) -> _Concluded:
        with contextlib.suppress(OSError):
            # Best effort: the rows are safe, and the file is brought level with them whenever it lags.
            await anyio.to_thread.run_sync(self._output.sync)
        state = _STORED_STATE[self._state]
        change = state_change(self._job.id, state, self._now_ms())
        try:
            await self._store.call(Commit((change,)), timeout=_TIMEOUT_S)
        except (StorageFailed, ActorExited, TimeoutError) as error:
            # The rows decide what is left to do; the state is for people who look at jobs.
            _log.warning("job state not stored", job=self._job.id, state=state, error=str(error))
        return _Concluded()

    def _progress(self, *, over: bool = False) -> JobProgress:
        known = self._memory.tally
        return JobProgress(
            job_id=self._job.id,
            state=_LAST_STATE[self._state] if over else self._state,
            total=self._job.scan.lines,
            ok=known.ok,
            failed=known.failed,
            resumed=self._memory.resumed or 0,
            in_flight=self._source.taken - self._taken_up if self._source is not None else 0,
            usage_input_tokens=known.usage.total_input_tokens,
            usage_output_tokens=known.usage.total_output_tokens,
            cost_pusd=known.cost_pusd,
            errors=dict(known.errors),
            because=self._because,
            because_kind=self._because_kind,
        )


def _account(job: OpenJob) -> Account:
    cap_pusd = job.request.budget_pusd
    budgets = () if cap_pusd is None else (Budget("job", cap_pusd),)
    return Account(job_id=job.id, tag=job.request.tag, budgets=budgets)
