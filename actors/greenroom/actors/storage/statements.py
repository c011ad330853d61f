"""The statements that the ledger writes and asks with. Each is one object: grouping goes by identity.

Every write here may be applied twice without harm, which is what lets a save be sent again after a crash.
"""

from collections.abc import Collection, Iterable
from functools import cache
from typing import Literal, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Executable,
    Integer,
    Select,
    and_,
    bindparam,
    case,
    cast,
    delete,
    func,
    insert,
    literal_column,
    select,
    true,
    update,
)
from sqlalchemy.sql.elements import ColumnElement

from greenroom.actors.storage.binding import Upsert
from greenroom.actors.storage.liveness import IsDead
from greenroom.actors.storage.shapes import TICKET_BITS, Parameters, Write
from greenroom.actors.storage.tables import attempts, runtimes, slices

_DAY_MS = 86_400_000

_HOLD_COLUMNS = (
    "id",
    "runtime_id",
    "call_id",
    "number",
    "held_pusd",
    "provider",
    "model",
    "job_id",
    "session_id",
    "key_id",
    "tag",
    "started_at_ms",
)
_SETTLE_COLUMNS = (
    "outcome",
    "estimated",
    "cost_pusd",
    "input_tokens",
    "cached_tokens",
    "cache_write_5m_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "audio_input_tokens",
    "audio_output_tokens",
    "request_id",
    "settled_at_ms",
)

HOLD = Upsert(attempts, key=("id",), columns=_HOLD_COLUMNS)
"""A hold. Parameters: id, runtime_id, call_id, number, held_pusd, provider, model, job_id, session_id, key_id, tag,
started_at_ms. A row that is there already, held or settled, stays as it is."""

SETTLE = Upsert(
    attempts,
    key=("id",),
    columns=(*_HOLD_COLUMNS, *_SETTLE_COLUMNS),
    literals={"state": "'settled'"},
    update=("state", *_SETTLE_COLUMNS),
    only_if="attempts.state = 'held'",
)
"""A settlement. Parameters: those of `HOLD`, and outcome, estimated, cost_pusd, the eight token counts, request_id,
settled_at_ms. It carries the whole row, so it needs no hold to be there; a settled row stays as it is."""

OPEN_SLICE = Upsert(slices, key=("id",), columns=tuple(slices.c.keys()), update=("reserved_pusd",))
"""A slice, or its new size. Parameters: every column of `slices`."""

CLOSE_SLICE = delete(slices).where(slices.c.id == bindparam("slice_id"))
"""Give a slice up. Parameters: slice_id."""

CLOSE_SLICES = delete(slices).where(slices.c.runtime_id == bindparam("me"))
"""Give up all slices of one runtime. Parameters: me."""

START_RUNTIME = (
    insert(runtimes)
    .values({name: bindparam(name) for name in ("uuid", "started_at_ms", "host", "version", "pid")})
    .returning(runtimes.c.id)
)
END_RUNTIME = (
    update(runtimes).where(runtimes.c.id == bindparam("me")).values(ended_at_ms=bindparam("ended_at_ms"))
)


def total(values: ColumnElement[int]) -> ColumnElement[int]:
    # PostgreSQL sums 64-bit integers as numeric.
    return func.coalesce(cast(func.sum(values), BigInteger), 0)


_ORPHANED = and_(
    attempts.c.state == literal_column("'held'"),
    attempts.c.runtime_id != bindparam("me"),
    IsDead(attempts.c.runtime_id),
)
_ORPHANS = select(func.count(), total(attempts.c.held_pusd)).where(_ORPHANED)
_ORPHANED_BY = select(attempts.c.runtime_id).where(_ORPHANED).distinct().order_by(attempts.c.runtime_id)
_CHARGED: dict[str, object] = {
    "state": literal_column("'settled'"),
    "estimated": true(),
    "cost_pusd": attempts.c.held_pusd,
    "outcome": literal_column("'interrupted'"),
    "settled_at_ms": bindparam("now_ms"),
}
_RECLAIM = update(attempts).where(_ORPHANED).values(_CHARGED)
_RECLAIM_FROM = (
    update(attempts)
    .where(
        attempts.c.state == literal_column("'held'"), attempts.c.runtime_id == bindparam("dead_runtime_id")
    )
    .values(_CHARGED)
)


def orphans(runtime_id: int) -> tuple[Executable, Parameters]:
    """Ask for the number and the sum (pico-dollars) of the holds that dead runtimes left open: one row of two."""
    return _ORPHANS, {"me": runtime_id}


def orphaned_by(runtime_id: int) -> tuple[Executable, Parameters]:
    """Ask which dead runtimes left holds open: one row per runtime."""
    return _ORPHANED_BY, {"me": runtime_id}


def reclaim(runtime_id: int, now_ms: int, dead: Iterable[int] | None = None) -> Write:
    """Charge holds of dead runtimes in full: settled, estimated, outcome 'interrupted'.

    Args:
        runtime_id: who asks, and whose own holds are left alone.
        now_ms: when, in unix milliseconds.
        dead: which runtimes are dead. None: see `liveness`.
    """
    if dead is None:
        return Write(_RECLAIM, ({"me": runtime_id, "now_ms": now_ms},))
    gone = sorted(set(dead) - {runtime_id})
    return Write(_RECLAIM_FROM, tuple({"dead_runtime_id": one, "now_ms": now_ms} for one in gone))


UNCONFIRMED = "(unconfirmed)"
"""Provider and model of the row that a dead runtime's slice becomes: nobody knows whom it was for."""

_LOST: dict[str, ColumnElement[object]] = {
    "id": slices.c.id,
    "runtime_id": slices.c.runtime_id,
    "call_id": slices.c.id,
    "number": literal_column("0"),
    "state": literal_column("'settled'"),
    "outcome": literal_column("'unconfirmed'"),
    "estimated": cast(true(), Boolean),
    "held_pusd": slices.c.reserved_pusd,
    "cost_pusd": slices.c.reserved_pusd,
    "provider": literal_column(f"'{UNCONFIRMED}'"),
    "model": literal_column(f"'{UNCONFIRMED}'"),
    "job_id": slices.c.job_id,
    "session_id": slices.c.session_id,
    "key_id": slices.c.key_id,
    "tag": slices.c.tag,
    "started_at_ms": slices.c.opened_at_ms,
    "settled_at_ms": cast(bindparam("now_ms"), BigInteger),
}
_OF_THE_DEAD = and_(slices.c.runtime_id != bindparam("me"), IsDead(slices.c.runtime_id))
_OF_ONE_DEAD = slices.c.runtime_id == bindparam("dead_runtime_id")
_LOSE, _LOSE_FROM = (
    insert(attempts).from_select(
        list(_LOST), select(*_LOST.values()).where(whose, slices.c.reserved_pusd > 0)
    )
    for whose in (_OF_THE_DEAD, _OF_ONE_DEAD)
)
_FORGET, _FORGET_FROM = (delete(slices).where(whose) for whose in (_OF_THE_DEAD, _OF_ONE_DEAD))


def charge_slices(runtime_id: int, now_ms: int, dead: Iterable[int] | None = None) -> tuple[Write, Write]:
    """Turn the slices of dead runtimes into rows: settled, estimated, outcome 'unconfirmed', `number` 0.

    Both writes belong into one commit. Arguments as those of `reclaim`.
    """
    if dead is None:
        return (
            Write(_LOSE, ({"me": runtime_id, "now_ms": now_ms},)),
            Write(_FORGET, ({"me": runtime_id},)),
        )
    gone = sorted(set(dead) - {runtime_id})
    return (
        Write(_LOSE_FROM, tuple({"dead_runtime_id": one, "now_ms": now_ms} for one in gone)),
        Write(_FORGET_FROM, tuple({"dead_runtime_id": one} for one in gone)),
    )


_Column = Literal["job_id", "session_id", "key_id", "tag"]
Scope = tuple[_Column, str]
"""Whose rows: a column that names the scope, and its value."""


def charged(
    *,
    where: Scope | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    without: Collection[int] = (),
) -> tuple[Executable, Parameters]:
    """Ask what rows amount to, in pico-dollars: the settled at their cost, the held at their bound. One row of two.

    Args:
        where: rows of this scope only; None: all.
        since_ms: attempts started then or later, unix milliseconds.
        until_ms: attempts started before.
        without: ids to leave out.
    """
    given = {"whose": where and where[1], "since_ms": since_ms, "until_ms": until_ms}
    found = _charged(where and where[0], since_ms is not None, until_ms is not None)
    if without:
        found = found.where(attempts.c.id.not_in(without))
    return found, {name: value for name, value in given.items() if value is not None}


@cache
def _charged(column: _Column | None, since: bool, until: bool) -> Select[int, int]:  # noqa: FBT001 - two facts, one caller
    # Built once each: building one costs more than asking.
    columns = attempts.c
    held = columns.state == literal_column("'held'")
    found = select(total(columns.cost_pusd), total(case((held, columns.held_pusd))))
    if column is not None:
        found = found.where(columns[column] == bindparam("whose"))
    if since:
        found = found.where(columns.started_at_ms >= bindparam("since_ms"))
    if until:
        found = found.where(columns.started_at_ms < bindparam("until_ms"))
    return found


def set_aside(
    *, where: Scope | None = None, since_ms: int | None = None, until_ms: int | None = None
) -> Executable:
    """Ask what slices amount to, in pico-dollars: one row of one. Arguments as those of `charged`."""
    found = select(total(slices.c.reserved_pusd))
    if where is not None:
        found = found.where(slices.c[where[0]] == where[1])
    if since_ms is not None:
        found = found.where(slices.c.opened_at_ms >= since_ms)
    if until_ms is not None:
        found = found.where(slices.c.opened_at_ms < until_ms)
    return found


def settled_by(runtime_id: int) -> tuple[Executable, Parameters]:
    """Ask what a runtime has settled so far, in pico-dollars: one row of one."""
    return _SETTLED_BY, {"first": runtime_id << TICKET_BITS, "beyond": (runtime_id + 1) << TICKET_BITS}


_SETTLED_BY = select(total(attempts.c.cost_pusd)).where(
    attempts.c.id >= bindparam("first"), attempts.c.id < bindparam("beyond")
)

_ORPHANED_SLICES = select(total(slices.c.reserved_pusd)).where(_OF_THE_DEAD)


def orphaned_slices(runtime_id: int) -> tuple[Executable, Parameters]:
    """Ask what the slices of dead runtimes amount to, in pico-dollars: one row of one."""
    return _ORPHANED_SLICES, {"me": runtime_id}


Dimension = Literal["provider", "model", "job", "session", "key", "tag", "day"]
"""What spend may be grouped by. A day is UTC, as the number of days since 1970-01-01."""

_DIMENSIONS: dict[Dimension, ColumnElement[object]] = {
    "provider": attempts.c.provider,
    "model": attempts.c.model,
    "job": attempts.c.job_id,
    "session": attempts.c.session_id,
    "key": attempts.c.key_id,
    "tag": attempts.c.tag,
    "day": attempts.c.started_at_ms // literal_column(str(_DAY_MS), Integer),
}


class SpendRow(NamedTuple):
    """The columns of `spend` after those of its dimensions."""

    attempts: int
    calls: int
    open_holds: int
    held_pusd: int
    cost_pusd: int
    estimated_pusd: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    audio_tokens: int


def spend(
    *by: Dimension,
    since_ms: int | None = None,
    until_ms: int | None = None,
    job_id: str | None = None,
) -> Executable:
    """Roll up the ledger: one row per combination of `by`, in their order, each followed by a `SpendRow`'s columns.

    Args:
        by: the dimensions, none for one row in all.
        since_ms: attempts started then or later, unix milliseconds.
        until_ms: attempts started before.
        job_id: attempts of this job only.
    """
    held = attempts.c.state == literal_column("'held'")
    columns = attempts.c
    # What a dead runtime's slice became is money, but no attempt.
    made = columns.number > literal_column("0")
    sums = (
        func.count(case((made, 1))),
        func.count(case((made, columns.call_id)).distinct()),
        func.count(case((held, 1))),
        total(case((held, columns.held_pusd))),
        total(columns.cost_pusd),
        total(case((columns.estimated, columns.cost_pusd))),
        total(columns.input_tokens),
        total(columns.cached_tokens),
        total(columns.cache_write_5m_tokens + columns.cache_write_1h_tokens),
        total(columns.output_tokens),
        total(columns.reasoning_tokens),
        total(columns.audio_input_tokens + columns.audio_output_tokens),
    )
    groups = [_DIMENSIONS[name] for name in by]
    found = select(*groups, *sums).group_by(*groups).order_by(*groups)
    if since_ms is not None:
        found = found.where(columns.started_at_ms >= since_ms)
    if until_ms is not None:
        found = found.where(columns.started_at_ms < until_ms)
    if job_id is not None:
        found = found.where(columns.job_id == job_id)
    return found
