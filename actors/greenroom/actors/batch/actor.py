"""The batch actor: one job, many lines in flight, every result on disk before it counts.

Pullers, tasks of the actor, share one lazy source of lines: each takes a line, runs the flow, and casts what came of
it to the actor, which owns all accounts: it gives the result its place in the order of completion, saves the row, and
counts it once the store says it is on disk. The line is appended to the output by the writer thread, after its commit.

Killed at any moment, its next incarnation reads the rows and goes on: nothing stored is asked again.
"""

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
from greenroom.actors.batch.records import JobState, OpenJob, error_classes, finished_positions, state_change
from greenroom.actors.batch.renderings import rendering
from greenroom.actors.batch.restore import restore_output
from greenroom.actors.batch.results import ResultFile
from greenroom.actors.events import ErrorKind, ProviderError, ProviderFailed, Usage
from greenroom.actors.flow import Closed, Flow
from greenroom.actors.kernel import (
    Actor,
    ActorExited,
    ActorRef,
    Call,
    Cast,
    Normal,
    Piped,
    Refused,
    ReplyTo,
    handles,
)
from greenroom.actors.ledger import Account
from greenroom.actors.limiter import BATCH
from greenroom.actors.storage import (
    INSERT_ITEM,
    JOB_TOTALS,
    CallbackFailed,
    Commit,
    Introduce,
    Query,
    Resend,
    Save,
    Saved,
    StorageFailed,
    Write,
)

_log = structlog.get_logger(__name__)

_FATAL: frozenset[ErrorKind] = frozenset({"authentication", "permission", "budget_exceeded"})
"""Failures that every further line would meet too: the job halts, and the line is not counted as failed."""
_AT_FIRST: tuple[ErrorKind, ...] = ("not_found", "connection", "timeout", "unsupported_capability")
_FATAL_AT_FIRST: frozenset[ErrorKind] = _FATAL.union(_AT_FIRST)
"""The same, while nothing at all has been answered."""


_STORED_STATE: dict[str, JobState] = {"running": "done", "stopping": "running", "halted": "halted"}
_LAST_STATE: dict[str, Literal["done", "stopped", "halted"]] = {
    "running": "done",
    "stopping": "stopped",
    "halted": "halted",
}


class JobProgress(Struct, frozen=True, kw_only=True):
    """Where a job stands. Counts and sums are of the whole job, earlier processes included.

    `state`: `running`; `stopping` (no new lines, those in flight finish); and at the end `done` (every line has its
    result), `stopped` (as asked) or `halted` (`because` says why no further line could succeed).
    """

    job_id: str
    state: Literal["running", "stopping", "done", "stopped", "halted"]
    total: int
    ok: int
    failed: int
    resumed: int
    in_flight: int
    usage_input_tokens: int
    usage_output_tokens: int
    cost_pusd: int
    errors: dict[str, int]
    because: str | None = None
    because_kind: ErrorKind | None = None

    @property
    def finished(self) -> int:
        return self.ok + self.failed


class GetProgress(Call[JobProgress], frozen=True, resend=True):
    """Ask where the job stands."""


class WaitJob(Call[JobProgress], frozen=True, resend=True):
    """Wait for the job's end: done, stopped or halted."""


class StopJob(Cast, frozen=True):
    """Ask no further line; let those in flight finish. The job can be gone on with later."""


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


class _Hopeless(Cast, frozen=True):
    """A puller's word: no further line can succeed."""

    because: str
    kind: ErrorKind | None


class _Concluded(Struct, frozen=True):
    """The last row and the job's state are on disk."""


class Batch(Actor):
    """One job.

    Args:
        job: what to do.
        flow: the way of a call.
        store: the store, by name.
        now_ms: unix milliseconds.
    """

    def __init__(self, job: OpenJob, flow: Flow, store: ActorRef, now_ms: Callable[[], int]) -> None:
        self._job = job
        self._flow = flow
        self._store = store
        self._now_ms = now_ms
        self._rendering = rendering(job.request.out, job.scan.columns)
        self._output = ResultFile(job.request.out, self._rendering.header)
        self._account = Account(job_id=job.id)
        self._state: Literal["running", "stopping", "halted"] = "running"
        self._because: _Hopeless | None = None
        self._waiting: list[ReplyTo[JobProgress]] = []
        self._fresh: list[tuple[dict[str, object], _ItemDone]] = []
        self._unsaved: dict[int, tuple[Save, list[_ItemDone]]] = {}
        self._tag = 0
        self._pullers = 0
        self._taken_up = 0

    async def init(self) -> None:
        """Read where the job stands, bring the output level with it, and send the pullers off."""
        store, job = self._store, self._job
        await store.call(Introduce(self.ref), timeout=60.0)
        # A barrier: what an earlier incarnation handed to the store is on disk and in the output.
        await store.call(Commit(()), timeout=60.0)
        count, ok, last_seq, cost_pusd, input_tokens, output_tokens = (
            int(str(value))
            for value in (await store.call(Query(JOB_TOTALS, {"job_id": job.id}), timeout=60.0))[0]
        )
        self._ok, self._failed, self._resumed = ok, count - ok, count
        self._seq = last_seq + 1
        self._cost_pusd, self._usage = cost_pusd, Usage(input_tokens, output_tokens)
        self._errors = await error_classes(store, job.id)
        await restore_output(store, job.id, self._output)
        done = await finished_positions(store, job.id, job.scan.span)
        self._source = LineSource(job.request.path, job.request.form, job.scan.span, done, job.scan.repeated)
        left = max(1, job.scan.lines - count)
        self._pullers = min(job.request.concurrency, left)
        for _ in range(self._pullers):
            self.pipe_to_self(self._pull())

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
    def hopeless(self, message: _Hopeless) -> None:
        self._taken_up += 1
        self._halt(message)

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
        stored = error is None or isinstance(error, CallbackFailed)
        for tag in message.tags:
            _, items = self._unsaved.pop(tag, (None, ()))
            for item in items if stored else ():
                self._count(item)
        if error is not None:
            where = f"written to {self._output.path}, though they are stored" if stored else "stored"
            self._halt(_Hopeless(f"results cannot be {where}: {error.__cause__ or error}", None))
        self._conclude_if_over()

    @handles
    def resend(self, message: Resend) -> None:
        for save, _ in self._unsaved.values():
            self._store.cast(save)

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

    async def _pull(self) -> None:
        while self._state == "running" and (taken := await self._next()) is not None:
            await self._ask(*taken)

    async def _next(self) -> tuple[int, bytes] | None:
        try:
            return await self._source.next()
        except OSError as error:
            # Begun again the job would fail again.
            self._halt(_Hopeless(f"{self._job.request.source} cannot be read: {error}", None))
            return None

    async def _ask(self, position: int, raw: bytes) -> None:
        """One line, from its bytes to a message about what came of it."""
        try:
            line = parse(raw, position + 1, self._job.request.defaults, self._job.scan.columns)
        except BadLine:
            self._taken_up += 1  # Passed over as the scan said, and the caller agreed to.
            return
        try:
            reply = await self._flow.chat(line.request, account=self._account, priority=BATCH)
        except Closed:
            self.ref.cast(StopJob())
        except Refused as refused:
            self.ref.cast(_Hopeless(str(refused), None))
        except ProviderFailed as failure:
            self._item_failed(position, line, raw, failure)
        else:
            result = self._rendering.answered(self._result_id(position), position + 1, line, reply)
            self.ref.cast(
                _ItemDone(position, line.custom_id, digest(raw), result, reply.cost_pusd, reply.usage, None)
            )

    def _item_failed(self, position: int, line: Line, raw: bytes, failure: ProviderFailed) -> None:
        error: ProviderError = failure.error
        if error.kind in (_FATAL if self._ok else _FATAL_AT_FIRST):
            self.ref.cast(_Hopeless(str(failure), error.kind))
            return
        result = self._rendering.failed(self._result_id(position), position + 1, line, failure)
        self.ref.cast(
            _ItemDone(position, line.custom_id, digest(raw), result, failure.cost_pusd, Usage(), error.kind)
        )

    def _result_id(self, position: int) -> str:
        return f"batch_req_{self._job.id}_{position + 1}"

    def _halt(self, why: _Hopeless) -> None:
        if self._because is None:
            _log.error("job halted", job=self._job.id, because=why.because)
            self._because = why
            self._state = "halted"

    def _count(self, item: _ItemDone) -> None:
        if item.error_kind is None:
            self._ok += 1
        else:
            self._failed += 1
            self._errors[item.error_kind] = self._errors.get(item.error_kind, 0) + 1
        self._cost_pusd += item.cost_pusd
        self._usage += item.usage

    def _conclude_if_over(self) -> None:
        if self._pullers == 0 and not self._fresh and not self._unsaved:
            self._pullers = -1
            missing = self._job.scan.lines - self._ok - self._failed
            if self._state == "running" and missing > 0:
                self._halt(_Hopeless(f"{self._job.request.source} has lost {missing} lines meanwhile", None))
            self.pipe_to_self(self._conclude())

    async def _conclude(self) -> _Concluded:
        with contextlib.suppress(OSError):
            # Best effort: the rows are safe, and the file is brought level with them whenever it lags.
            await anyio.to_thread.run_sync(self._output.sync)
        state = _STORED_STATE[self._state]
        try:
            await self._store.call(Commit((state_change(self._job.id, state, self._now_ms()),)), timeout=60.0)
        except (StorageFailed, ActorExited, TimeoutError) as error:
            # The rows decide what is left to do; the state is for people who look at jobs.
            _log.warning("job state not stored", job=self._job.id, state=state, error=str(error))
        return _Concluded()

    def _tell_the_waiting(self) -> None:
        for reply_to in self._waiting:
            reply_to.reply(self._progress(over=True))

    def _progress(self, *, over: bool = False) -> JobProgress:
        return JobProgress(
            job_id=self._job.id,
            state=_LAST_STATE[self._state] if over else self._state,
            total=self._job.scan.lines,
            ok=self._ok,
            failed=self._failed,
            resumed=self._resumed,
            in_flight=self._source.taken - self._taken_up,
            usage_input_tokens=self._usage.total_input_tokens,
            usage_output_tokens=self._usage.total_output_tokens,
            cost_pusd=self._cost_pusd,
            errors=dict(self._errors),
            because=self._because.because if self._because else None,
            because_kind=self._because.kind if self._because else None,
        )
