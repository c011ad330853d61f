"""Jobs as the database knows them: opening one, finding the one that the same command began, and its rows.

A job is known by its output (the absolute path; a job without output is always new). The same command goes on with
it; another model, prompt bound or system text is another job and is refused, as is an input whose answered lines have
changed. Nothing stored is ever lost to a refusal.
"""

import os
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Literal, cast

import anyio.to_thread
import msgspec
from msgspec import Struct

from greenroom.actors import storage
from greenroom.actors.batch.input.lines import Defaults
from greenroom.actors.batch.input.reading import InputForm, digest, records
from greenroom.actors.batch.input.scan import Scan
from greenroom.actors.batch.memory import Tally
from greenroom.actors.batch.messages import JobResult
from greenroom.actors.events import Usage
from greenroom.actors.kernel import ActorRef
from greenroom.actors.storage import PAGE, Commit, Query, Write, WriteRejected

JobState = Literal["running", "done", "halted"]


class JobRefused(Exception):
    """The job cannot be opened as asked; the message says what stands in the way and how to mend it."""


class OtherJob(JobRefused):
    """The output belongs to a job with another model, other settings or another input."""


class ChangedInput(JobRefused):
    """A line whose answer is stored has changed since."""


class JobRequest(Struct, frozen=True, kw_only=True):
    """What a caller asks for.

    `path` is the file to read, JSON lines or CSV by `form`; `source` is what to call it (for standard input the two
    differ). `out` None: no file, the rows are the output; a name that ends in `.csv` is written as CSV, any other as
    OpenAI's batch output lines. `concurrency` is how many lines may be in flight. `budget_pusd` caps what the job may
    ever be charged, earlier runs included; it may be another one when the job is gone on with. `streamed` answers are
    put together here: a server that falls silent is noticed earlier, and results are the same. `timeout_s` is for each line. `fallbacks` are models that a
    line goes on to when its own fails; they may be others the next time.
    """

    path: Path
    source: str
    out: Path | None
    defaults: Defaults
    form: InputForm = "jsonl"
    limit: int | None = None
    concurrency: int = 64
    retry_failed: bool = False
    streamed: bool = False
    budget_pusd: int | None = None
    tag: str | None = None
    timeout_s: float | None = None
    fallbacks: tuple[str, ...] = ()


class OpenJob(Struct, frozen=True, kw_only=True):
    """An opened job: what to do, and where it stood when it was opened."""

    id: str
    request: JobRequest
    scan: Scan
    resumed: bool = False
    finished: int = 0
    failed: int = 0
    retried: int = 0

    @property
    def complete(self) -> bool:
        """Every line has its result already."""
        return self.finished >= self.scan.lines


class _Identity(Struct, frozen=True, omit_defaults=True):
    model: str | None
    max_tokens: int | None
    system: str | None
    prompt: str | None = None
    options: str | None = None
    columns: tuple[str, ...] | None = None


async def open_job(store: ActorRef, request: JobRequest, scan: Scan, new_id: str, now_ms: int) -> OpenJob:
    """Open the job that `request` describes: the one begun with the same output, or a new one.

    Raises:
        OtherJob: the output file belongs to another job, or to nobody this database knows.
        ChangedInput: naming the first line that was answered and has changed.
        StorageFailed: the database cannot be read or written.
    """
    identity = msgspec.json.encode(_identity(request.defaults, scan)).decode()
    by_out = Query(storage.JOB_BY_OUT, {"out": str(request.out)})
    rows = await store.call(by_out) if request.out else []
    if not rows:
        await anyio.to_thread.run_sync(_refuse_foreign_file, request.out)
        try:
            await _insert(store, request, scan, new_id=new_id, identity=identity, now_ms=now_ms)
        except WriteRejected:
            # Who was cancelled while opening the same job may have made it after we looked.
            if request.out is None or not await store.call(by_out):
                raise
            return await open_job(store, request, scan, new_id, now_ms)
        return OpenJob(id=new_id, request=request, scan=scan)
    job_id, _, source, known_digest, settings, _ = cast("tuple[str, str, str, str, str, bool]", rows[0])
    _refuse_other(request, scan, source, settings)
    if known_digest != scan.digest:
        await _refuse_changed(store, job_id, request)
        values = {"job_id": job_id, "digest": scan.digest, "lines": scan.lines, "updated_at_ms": now_ms}
        await store.call(Commit((Write(storage.UPDATE_JOB_INPUT, (values,)),)))
    stands, _ = await tally(store, job_id, scan.span)
    finished, failed = stands.finished, stands.failed
    retried = failed if request.retry_failed else 0
    if retried:
        forget = Write(storage.FORGET_FAILED_ITEMS, ({"job_id": job_id, "span": scan.span},))
        await store.call(Commit((forget, Write(storage.BEGIN_REWRITE, ({"job_id": job_id},))), ordered=True))
    return OpenJob(
        id=job_id,
        request=request,
        scan=scan,
        resumed=True,
        finished=finished - retried,
        failed=failed - retried,
        retried=retried,
    )


async def _insert(
    store: ActorRef, request: JobRequest, scan: Scan, *, new_id: str, identity: str, now_ms: int
) -> None:
    models = sorted(scan.models, key=lambda name: -scan.models[name].lines)
    row = {
        "id": new_id,
        "created_at_ms": now_ms,
        "updated_at_ms": now_ms,
        "state": "running",
        "model": ", ".join(models[:3]) or "none",
        "source": request.source,
        "out": str(request.out) if request.out else None,
        "digest": scan.digest,
        "lines": scan.lines,
        "settings": identity,
        "rewrite": False,
    }
    await store.call(Commit((Write(storage.INSERT_JOB, (row,)),)))


def _identity(defaults: Defaults, scan: Scan) -> _Identity:
    return _Identity(
        model=defaults.model or defaults.fallback_model,
        max_tokens=defaults.max_tokens,
        system=defaults.system,
        prompt=defaults.prompt,
        options=defaults.options.as_json,
        columns=scan.columns,
    )


def _refuse_foreign_file(out: Path | None) -> None:
    if out is not None and out.exists() and out.stat().st_size:
        raise OtherJob(
            f"{out} holds something that no job of this database wrote; "
            f"move it away, or give another file with --out"
        )


def _refuse_other(request: JobRequest, scan: Scan, source: str, settings: str) -> None:
    was, wanted = msgspec.json.decode(settings, type=_Identity), _identity(request.defaults, scan)
    differing = [
        f"{name} was {before!r}, now {now!r}"
        for name, before, now in (
            ("input", source, request.source),
            ("model", was.model, wanted.model),
            ("max tokens", was.max_tokens, wanted.max_tokens),
            ("system text", was.system, wanted.system),
            ("prompt", was.prompt, wanted.prompt),
            ("options", was.options, wanted.options),
            ("columns", was.columns, wanted.columns),
        )
        if before != now
    ]
    if differing:
        raise OtherJob(
            f"{request.out} belongs to another job ({'; '.join(differing)}); "
            f"give the same options to go on with it, or another file with --out"
        )


async def _refuse_changed(store: ActorRef, job_id: str, request: JobRequest) -> None:
    known = {position: line_digest async for position, _, line_digest in _finished(store, job_id)}
    changed = await anyio.to_thread.run_sync(partial(_first_changed, request.path, request.form, known))
    if changed is not None:
        raise ChangedInput(
            f"{request.source}, line {changed} has changed since it was answered: put it back, "
            f"or give another output with --out to ask all lines afresh"
        )


def _first_changed(path: Path, form: InputForm, known: dict[int, bytes]) -> int | None:
    left = dict(known)
    with path.open("rb") as file:
        for number, raw in records(file, form):
            before = left.pop(number - 1, None)
            if before is not None and before != digest(raw):
                return number
            if not left:
                return None
    return min(left) + 1 if left else None


async def _finished(store: ActorRef, job_id: str) -> AsyncIterator[tuple[int, bool, bytes]]:
    after = -1
    while True:
        page = await store.call(
            Query(storage.FINISHED_ITEMS, {"job_id": job_id, "after_position": after}), timeout=60.0
        )
        for row in page:
            position, _, _, line_digest, ok, _ = cast("tuple[int, int, str, bytes, bool, str | None]", row)
            yield position, bool(ok), line_digest
            after = position
        if len(page) < PAGE:
            return


async def finished_positions(store: ActorRef, job_id: str, span: int) -> bytearray:
    """One byte a line of the input, set where the line has its result."""
    done = bytearray(span)
    async for position, _, _ in _finished(store, job_id):
        if position < span:
            done[position] = 1
    return done


async def results_after(store: ActorRef, job_id: str, skip: int) -> AsyncIterator[list[bytes]]:
    """The output lines of a job in order of completion, in pages, without the first `skip`."""
    after = -1
    if skip:
        rows = await store.call(
            Query(storage.NTH_RESULT, {"job_id": job_id, "offset": skip - 1}), timeout=60.0
        )
        after = cast("int", rows[0][0])
    while True:
        page = await store.call(
            Query(storage.ITEM_RESULTS, {"job_id": job_id, "after_seq": after}), timeout=60.0
        )
        if page:
            yield [cast("bytes", row[1]) for row in page]
            after = cast("int", page[-1][0])
        if len(page) < PAGE:
            return


async def results_of(store: ActorRef, job_id: str, after_seq: int) -> list[JobResult]:
    """The next page of finished lines, in the order of completion; begin after -1. A short page is the last for now."""
    where = {"job_id": job_id, "after_seq": after_seq}
    rows = await store.call(Query(storage.RESULTS_AFTER, where), timeout=60.0)
    return [
        JobResult(
            seq=seq,
            position=position,
            custom_id=custom_id,
            error_class=error_class,
            line=line,
            cost_pusd=cost_pusd,
            input_tokens=tokens_in,
            output_tokens=tokens_out,
        )
        for seq, position, custom_id, error_class, line, cost_pusd, tokens_in, tokens_out in cast(
            "list[tuple[int, int, str, str | None, bytes, int, int, int]]", rows
        )
    ]


async def nth_result(store: ActorRef, job_id: str, number: int) -> bytes | None:
    """The output line of the `number`-th finished item (from 1), or None where there are fewer."""
    rows = await store.call(Query(storage.NTH_RESULT, {"job_id": job_id, "offset": number - 1}), timeout=60.0)
    return cast("bytes", rows[0][1]) if rows else None


async def prefix_bytes(store: ActorRef, job_id: str, lines: int) -> int:
    """How many bytes the first so many output lines take, newlines included."""
    rows = await store.call(Query(storage.PREFIX_BYTES, {"job_id": job_id, "count": lines}), timeout=60.0)
    return cast("int", rows[0][0])


async def must_rewrite(store: ActorRef, job_id: str) -> bool:
    """Whether rows were taken back (`--retry-failed`) since the output file was written."""
    rows = await store.call(Query(storage.MUST_REWRITE, {"job_id": job_id}))
    return bool(rows and rows[0][0])


async def tally(store: ActorRef, job_id: str, span: int) -> tuple[Tally, int]:
    """What the finished ones of the first `span` lines come to, and the next free place in the order of completion."""
    where = {"job_id": job_id, "span": span}
    rows = await store.call(Query(storage.JOB_TOTALS, where), timeout=60.0)
    count, ok, last_seq, cost_pusd, *tokens = (int(str(value)) for value in rows[0])
    kinds = await store.call(Query(storage.ERROR_CLASSES, where), timeout=60.0)
    errors = {str(kind): cast("int", number) for kind, number in kinds}
    return Tally(ok, count - ok, cost_pusd, Usage(tokens[0], tokens[1]), errors), last_seq + 1


def rewritten(job_id: str) -> Write:
    """Note that the output file holds what the rows hold."""
    return Write(storage.END_REWRITE, ({"job_id": job_id},))


def state_change(job_id: str, state: JobState, now_ms: int) -> Write:
    """Note where the job stands."""
    return Write(storage.UPDATE_JOB_STATE, ({"job_id": job_id, "state": state, "updated_at_ms": now_ms},))


def default_out(source: Path, form: InputForm = "jsonl") -> Path:
    """Where results go unless told: beside the input, in its own form, `tickets.csv` -> `tickets.results.csv`."""
    return source.with_name(f"{source.stem}.results.{form}")


def absolute(path: Path) -> Path:
    """The path by which a job is known, whatever the working directory."""
    return Path(os.path.realpath(path))
