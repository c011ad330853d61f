"""The batch actor: one job, many lines in flight, every result on disk before it counts.

Pullers, tasks of the actor, share one lazy source of lines: each takes a line, runs the flow, and casts what came of
it to the actor, which owns all accounts: it gives the result its place in the order of completion, saves the row, and
counts it once the store says it is on disk. The line is appended to the output by the writer thread, after its commit.

Killed at any moment, its next incarnation reads the rows and goes on: nothing stored is asked again. What it cannot
read there stands in the job's `Memory`. The first incarnation that cannot begin fails its start, so that whoever opens
the job is told; a later one halts the job, since beginning again and again would take the whole tree with it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from functools import partial
from typing import Literal

import anyio.to_thread
import structlog
from msgspec import Struct

from greenroom.actors.batch.input.errors import BadLine
from greenroom.actors.batch.input.lines import Line, parse
from greenroom.actors.batch.input.reading import digest
from greenroom.actors.batch.input.source import LineSource
from greenroom.actors.batch.memory import Memory
from greenroom.actors.batch.messages import GetProgress, JobProgress, JobStanding, StopJob, WaitJob
from greenroom.actors.batch.records import JobState, OpenJob, finished_positions, state_change, tally
from greenroom.actors.batch.renderings import rendering
from greenroom.actors.batch.restore import restore_output
from greenroom.actors.batch.results import OutputTaken, ResultFile
from greenroom.actors.events import ErrorKind, ProviderError, ProviderFailed, Usage
from greenroom.actors.flow import Closed, Flow
from greenroom.actors.kernel import (
    Actor,
    ActorExited,
    ActorRef,
    Cast,
    Normal,
    Piped,
    Refused,
    ReplyTo,
    handles,
)
from greenroom.actors.ledger import Account, Budget, BudgetExceeded
from greenroom.actors.limiter import BATCH
from greenroom.actors.storage import (
    INSERT_ITEM,
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

_log = structlog.get_logger(__name__)

_FATAL: frozenset[ErrorKind] = frozenset({"authentication", "permission", "budget_exceeded"})
"""Failures that every further line would meet too: the job halts, and the line is not counted as failed."""
_AT_FIRST: tuple[ErrorKind, ...] = ("not_found", "connection", "timeout", "unsupported_capability")
_FATAL_AT_FIRST: frozenset[ErrorKind] = _FATAL.union(_AT_FIRST)
"""The same, while nothing at all has been answered."""


_STORED_STATE: dict[JobStanding, JobState] = {"running": "done", "stopping": "running", "halted": "halted"}
_LAST_STATE: dict[JobStanding, JobStanding] = {"running": "done", "stopping": "stopped", "halted": "halted"}
_TIMEOUT_S = 60.0
_SAVE_AGAIN_S = 1.0
_SAVES_AGAIN = 5
"""How often results that the disk refused are handed to it again before they are given up, to be asked for anew."""


class _ItemDone(Cast, frozen=True):
    """A puller's word: this line has its result."""

    position: int
    custom_id: str
    line_digest: bytes
    result: bytes
    cost_pusd: int
    usage: Usage
    error_kind: ErrorKind | None


class _Flush(Cast, frozen=True):
    """Our own word to ourselves: save what the messages before this one brought, as one."""


class _SaveAgain(Cast, frozen=True):
    """Our own timer: results that the disk refused are due once more."""


class _Concluded(Struct, frozen=True):
    """The last row and the job's state are on disk."""


def memory_of(job: OpenJob) -> Memory:
    """What the actor of a job that begins remembers: nothing yet."""
    return Memory(ResultFile(job.request.out, rendering(job.request.out, job.scan.columns).header))


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
        self._rendering = rendering(job.request.out, job.scan.columns)
        self._account = _account(job)
        self._state: Literal["running", "stopping", "halted"] = "stopping" if memory.stop_asked else "running"
        self._because: str | None = None
        self._because_kind: ErrorKind | None = None
        self._source: LineSource | None = None
        self._waiting: list[ReplyTo[JobProgress]] = []
        self._fresh: list[tuple[dict[str, object], _ItemDone]] = []
        self._unsaved: dict[int, tuple[Save, list[_ItemDone]]] = {}
        self._refused: set[int] = set()
        self._saves_again = 0
        self._tag = 0
        self._pullers = 0
        self._taken_up = 0
        self._answers_unsaved = 0
        self._room = asyncio.Event()
        self._room.set()

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
            self._conclude_if_over()
            return
        finished = self._memory.tally.finished
        if self._memory.resumed is None:
            self._memory.resumed = finished
        left = max(1, self._job.scan.lines - finished)
        self._pullers = min(self._job.request.concurrency, left)
        for _ in range(self._pullers):
            self.pipe_to_self(self._pull(source))

    async def _take_up(self) -> LineSource:
        store, job, memory = self._store, self._job, self._memory
        await store.call(Introduce(self.ref), timeout=_TIMEOUT_S)
        # A barrier: what an earlier incarnation handed to the store is on disk and in the output.
        await store.call(Commit(()), timeout=_TIMEOUT_S)
        await anyio.to_thread.run_sync(self._output.close)
        memory.tally, self._seq = await tally(store, job.id, job.scan.span)
        await restore_output(store, job.id, self._output)
        done = await finished_positions(store, job.id, job.scan.span)
        self._source = LineSource(job.request.path, job.request.form, job.scan.span, done, job.scan.repeated)
        return self._source

    @handles
    def progress(self, message: GetProgress) -> JobProgress:
        return self._progress()

    @handles
    def wait(self, message: WaitJob, reply_to: ReplyTo[JobProgress]) -> None:
        self._waiting.append(reply_to)

    @handles
    def stop_pulling(self, message: StopJob) -> None:
        if self._state == "running":
            self._state = "stopping"

    @handles
    def item_done(self, message: _ItemDone) -> None:
        self._taken_up += 1
        row: dict[str, object] = {
            "job_id": self._job.id,
            "position": message.position,
            "seq": self._seq,
            "custom_id": message.custom_id,
            "digest": message.line_digest,
            "ok": message.error_kind is None,
            "error_class": message.error_kind,
            "result": message.result,
            "cost_pusd": message.cost_pusd,
            "input_tokens": message.usage.total_input_tokens,
            "output_tokens": message.usage.total_output_tokens,
            "finished_at_ms": self._now_ms(),
        }
        self._seq += 1
        if not self._fresh:
            self.ref.cast(_Flush())
        self._fresh.append((row, message))

    @handles
    def flush(self, message: _Flush) -> None:
        fresh, self._fresh = self._fresh, []
        self._tag += 1
        rows = tuple(row for row, _ in fresh)
        append = partial(self._output.append, [item.result for _, item in fresh])
        save = Save((Write(INSERT_ITEM, rows),), self.ref, self._tag, then=append)
        self._unsaved[self._tag] = (save, [item for _, item in fresh])
        self._store.cast(save)

    @handles
    def saved(self, message: Saved) -> None:
        error = message.error
        if error is not None and not isinstance(error, CallbackFailed):
            self._halt(f"results cannot be stored: {error.__cause__ or error}")
            self._save_later(message.tags, error)
        else:
            self._saves_again = 0
            for tag in message.tags:
                _, items = self._unsaved.pop(tag, (None, ()))
                self._unsaved_answers(-len(items))
                for item in items:
                    self._memory.tally.count(item.error_kind, item.cost_pusd, item.usage)
        if isinstance(error, CallbackFailed):
            where = f"written to {self._output.path}, though they are stored"
            self._halt(f"results cannot be {where}: {error.__cause__ or error}")
        self._conclude_if_over()

    @handles
    def resend(self, message: Resend) -> None:
        for save, _ in self._unsaved.values():
            self._store.cast(save)

    @handles
    def save_again(self, message: _SaveAgain) -> None:
        tags, self._refused = self._refused, set()
        for tag in sorted(tags):
            if tag in self._unsaved:
                self._store.cast(self._unsaved[tag][0])

    async def handle_info(self, message: object) -> None:
        match message:
            case Piped(value=_Concluded()):
                self._tell_the_waiting()
                self.stop(Normal())
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
        """One line, from its bytes to a message about what came of it."""
        try:
            line = parse(raw, position + 1, self._job.request.defaults, self._job.scan.columns)
        except BadLine:
            self._taken_up += 1  # Passed over as the scan said, and the caller agreed to.
            return
        try:
            reply = await self._flow.chat(
                line.request,
                account=self._account,
                priority=BATCH,
                streamed=self._job.request.streamed,
            )
        except Closed:
            self._taken_up += 1
            self._state = "stopping" if self._state == "running" else self._state
        except Refused as refused:
            self._taken_up += 1
            self._halt(str(refused), "budget_exceeded" if isinstance(refused, BudgetExceeded) else None)
        except ProviderFailed as failure:
            self._item_failed(position, line, raw, failure)
        else:
            result = self._rendering.answered(self._result_id(position), position + 1, line, reply)
            self._keep(
                _ItemDone(position, line.custom_id, digest(raw), result, reply.cost_pusd, reply.usage, None)
            )

    def _keep(self, item: _ItemDone) -> None:
        """Hand a result to the actor. While as many wait for the disk as may be in flight, no further line is asked.

        So a slow disk slows the job down, and a `kill -9` has at most twice `concurrency` answers asked for again.
        """
        self._unsaved_answers(1)
        self.ref.cast(item)

    def _unsaved_answers(self, change: int) -> None:
        self._answers_unsaved += change
        if self._answers_unsaved < self._job.request.concurrency:
            self._room.set()
        else:
            self._room.clear()

    def _item_failed(self, position: int, line: Line, raw: bytes, failure: ProviderFailed) -> None:
        error: ProviderError = failure.error
        if error.kind in (_FATAL if self._memory.tally.ok else _FATAL_AT_FIRST):
            self._taken_up += 1
            self._halt(str(failure), error.kind)
            return
        result = self._rendering.failed(self._result_id(position), position + 1, line, failure)
        self._keep(
            _ItemDone(position, line.custom_id, digest(raw), result, failure.cost_pusd, Usage(), error.kind)
        )

    def _result_id(self, position: int) -> str:
        return f"batch_req_{self._job.id}_{position + 1}"

    # --- ending -----------------------------------------------------------------------------------------------------

    def _halt(self, because: str, kind: ErrorKind | None = None) -> None:
        if self._because is None:
            _log.error("job halted", job=self._job.id, because=because)
            self._because, self._because_kind = because, kind
            self._state = "halted"

    def _save_later(self, tags: tuple[int, ...], error: StorageFailed) -> None:
        """Answers that were paid for are not let go because the disk failed once: a lock ends, space is made."""
        if isinstance(error, WriteRejected) or self._saves_again >= _SAVES_AGAIN:
            lost = sum(len(self._unsaved.pop(tag)[1]) for tag in tags if tag in self._unsaved)
            self._unsaved_answers(-lost)
            _log.error("results given up, to be asked for again", job=self._job.id, results=lost)
            return
        if not self._refused:
            self._saves_again += 1
            self.send_after(_SAVE_AGAIN_S, _SaveAgain())
        self._refused.update(tags)

    def _conclude_if_over(self) -> None:
        if self._pullers == 0 and not self._fresh and not self._unsaved:
            self._pullers = -1
            missing = self._job.scan.lines - self._memory.tally.finished
            if self._state == "running" and missing > 0:
                self._halt(f"{self._job.request.source} has lost {missing} lines meanwhile")
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

    def _tell_the_waiting(self) -> None:
        for reply_to in self._waiting:
            reply_to.reply(self._progress(over=True))

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
