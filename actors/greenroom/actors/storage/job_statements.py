"""The statements that jobs are written and asked for with. Each is one object: grouping goes by identity.

Every write here may be applied twice without harm, which is what lets a save be sent again after a crash.
"""

from sqlalchemy import and_, bindparam, case, delete, false, func, literal_column, select, update

from greenroom.actors.storage.binding import Upsert
from greenroom.actors.storage.shapes import PAGE
from greenroom.actors.storage.statements import total
from greenroom.actors.storage.tables import items, jobs

_TOLD_OF_JOBS = frozenset({
    "id", "created_at_ms", "updated_at_ms", "state", "model", "source", "out", "lines",
})  # fmt: skip

INSERT_ITEM = Upsert(items, key=("job_id", "position"), columns=tuple(items.c.keys()))
"""A finished line of a job. Parameters: every column of `items`. A line that is there already stays as it is; another
line with the same `seq` is an error, never a silent loss."""

INSERT_JOB = Upsert(jobs, key=("id",), columns=tuple(jobs.c.keys()))
"""A new job. Parameters: every column of `jobs`. A job that is there already stays as it is; another job with the same
`out` is an error."""

UPDATE_JOB_INPUT = (
    update(jobs)
    .where(jobs.c.id == bindparam("job_id"))
    .values(digest=bindparam("digest"), lines=bindparam("lines"), updated_at_ms=bindparam("updated_at_ms"))
)
"""An input that has grown, or changed where nothing was answered. Parameters: job_id, digest, lines, updated_at_ms."""

UPDATE_JOB_STATE = (
    update(jobs)
    .where(jobs.c.id == bindparam("job_id"))
    .values(state=bindparam("state"), updated_at_ms=bindparam("updated_at_ms"))
)
"""Where a job stands. Parameters: job_id, state, updated_at_ms."""

BEGIN_REWRITE = update(jobs).where(jobs.c.id == bindparam("job_id")).values(rewrite=True, state="running")
"""The output file no longer holds what the rows hold, and the job goes on. Parameters: job_id."""

END_REWRITE = update(jobs).where(jobs.c.id == bindparam("job_id")).values(rewrite=false())
"""The output file holds what the rows hold. Parameters: job_id."""

_failed = (
    items.c.job_id == bindparam("job_id"),
    items.c.position < bindparam("span"),
    items.c.ok == false(),
)
FORGET_FAILED_ITEMS = delete(items).where(*_failed)
"""Take back what failed in the first `span` lines, so that it is asked again. Parameters: job_id, span."""

GET_JOB = select(jobs).where(jobs.c.id == bindparam("job_id"))
"""A job by its id. Columns: those of `jobs`, in order."""

JOB_BY_OUT = select(
    jobs.c.id, jobs.c.state, jobs.c.source, jobs.c.digest, jobs.c.settings, jobs.c.rewrite
).where(jobs.c.out == bindparam("out"))
"""A job by its output: id, state, source, digest, settings, rewrite."""

MUST_REWRITE = select(jobs.c.rewrite).where(jobs.c.id == bindparam("job_id"))
"""Whether rows were taken back since the output file was written: one row of one."""

ERROR_CLASSES = select(items.c.error_class, func.count()).where(*_failed).group_by(items.c.error_class)
"""What failed in the first `span` lines of a job: error_class, how many."""

FINISHED_ITEMS = (
    select(items.c.position, items.c.seq, items.c.custom_id, items.c.digest, items.c.ok, items.c.error_class)
    .where(items.c.job_id == bindparam("job_id"), items.c.position > bindparam("after_position"))
    .order_by(items.c.position)
    .limit(PAGE)
)
"""The finished lines of a job by position (begin after -1): position, seq, custom_id, digest, ok, error_class."""

ITEM_RESULTS = (
    select(items.c.seq, items.c.result)
    .where(items.c.job_id == bindparam("job_id"), items.c.seq > bindparam("after_seq"))
    .order_by(items.c.seq)
    .limit(PAGE)
)
"""The output lines of a job in the order of completion (begin after -1): seq, result."""

RESULTS_AFTER = (
    select(
        items.c.seq,
        items.c.position,
        items.c.custom_id,
        items.c.error_class,
        items.c.result,
        items.c.cost_pusd,
        items.c.input_tokens,
        items.c.output_tokens,
    )
    .where(items.c.job_id == bindparam("job_id"), items.c.seq > bindparam("after_seq"))
    .order_by(items.c.seq)
    .limit(PAGE)
)
"""The finished lines of a job in the order of completion (begin after -1): seq, position, custom_id, error_class, result,
cost_pusd, input_tokens, output_tokens."""

_asked = items.c.position < bindparam("span")
JOB_TOTALS = select(
    func.count(case((_asked, 1))),
    func.count(case((and_(_asked, items.c.ok), 1))),
    func.coalesce(func.max(items.c.seq), -1),
    total(case((_asked, items.c.cost_pusd))),
    total(case((_asked, items.c.input_tokens))),
    total(case((_asked, items.c.output_tokens))),
).where(items.c.job_id == bindparam("job_id"))
"""Where a job stands in the first `span` lines of its input: finished lines, those that are ok, highest seq (-1: none; of
the whole job), cost_pusd, input and output tokens."""

NTH_RESULT = (
    select(items.c.seq, items.c.result)
    .where(items.c.job_id == bindparam("job_id"))
    .order_by(items.c.seq)
    .offset(bindparam("offset"))
    .limit(1)
)
"""The output line at a place (from 0) in the order of completion: seq, result."""

_first = (
    select(items.c.result)
    .where(items.c.job_id == bindparam("job_id"))
    .order_by(items.c.seq)
    .limit(bindparam("count"))
    .subquery()
)
PREFIX_BYTES = select(func.coalesce(func.sum(func.length(_first.c.result) + 1), 0))
"""How many bytes the first `count` output lines of a job take, newlines included: one row of one."""

JOBS = (
    select(
        jobs.c.id,
        jobs.c.created_at_ms,
        jobs.c.updated_at_ms,
        jobs.c.state,
        jobs.c.model,
        jobs.c.source,
        jobs.c.out,
        jobs.c.lines,
        func.count(case((items.c.ok, 1))),
        func.count(items.c.position),
        total(items.c.cost_pusd),
    )
    .select_from(jobs.outerjoin(items, items.c.job_id == jobs.c.id))
    .where(jobs.c.id.startswith(bindparam("prefix"), autoescape=False))
    .group_by(*(column for column in jobs.c if column.name in _TOLD_OF_JOBS))
    .order_by(jobs.c.created_at_ms.desc(), jobs.c.id)
    .limit(bindparam("count"))
)
"""The latest jobs whose id begins so: id, created_at_ms, updated_at_ms, state, model, source, out, lines, how many are
answered, how many finished, cost_pusd. Parameters: prefix, count."""

FAILED_ITEMS = (
    select(items.c.error_class, func.count(), func.min(items.c.position))
    .where(items.c.job_id == bindparam("job_id"), items.c.ok == false())
    .group_by(items.c.error_class)
    .order_by(func.count().desc())
)
"""What failed of a job: error_class, how many, the first line (from 0). Parameters: job_id."""

ITEM_AT = select(items.c.result).where(
    items.c.job_id == bindparam("job_id"), items.c.position == bindparam("position")
)
"""The output line of one line of the input: result. Parameters: job_id, position."""

_ended = select(jobs.c.id).where(
    jobs.c.state != literal_column("'running'"), jobs.c.updated_at_ms < bindparam("until_ms")
)

ENDED_JOBS = select(func.count()).select_from(_ended.subquery())
"""How many jobs ended before. Parameters: until_ms."""

PURGE_JOBS = (
    delete(items).where(items.c.job_id.in_(_ended)),
    delete(jobs).where(
        jobs.c.state != literal_column("'running'"), jobs.c.updated_at_ms < bindparam("until_ms")
    ),
)
"""Remove those with their results, in two statements of one commit. Parameters: until_ms."""
