"""The statements that sessions are written and asked for with. Each is one object: grouping goes by identity.

Every write here may be applied twice without harm, which is what lets it be sent again after a crash.
"""

from sqlalchemy import bindparam, case, delete, func, literal_column, select

from greenroom.actors.storage.binding import Upsert
from greenroom.actors.storage.statements import total
from greenroom.actors.storage.tables import checkpoints, sessions, turns

TURNS_PAGE = 200
"""Rows of one page of `TURNS_BACKWARDS`; ask again before the last `seq` until a page is short."""

PUT_SESSION = Upsert(
    sessions, key=("id",), columns=tuple(sessions.c.keys()), update=("settings", "updated_at_ms")
)
"""A session, or its new settings. Parameters: every column of `sessions`."""

TOUCH_SESSION = Upsert(sessions, key=("id",), columns=tuple(sessions.c.keys()), update=("updated_at_ms",))
"""Something happened there; a session that is gone is made again, so that no turn is without one. Parameters: every
column of `sessions`."""

INSERT_TURN = Upsert(turns, key=("id",), columns=tuple(turns.c.keys()))
"""What happened. Parameters: every column of `turns`. What is there already stays as it is; something else of the same
`seq` is an error, never a silent loss."""

PUT_CHECKPOINT = Upsert(
    checkpoints,
    key=("session_id", "name"),
    columns=tuple(checkpoints.c.keys()),
    update=("seq", "created_at_ms"),
)
"""The name of a place, or its new place. Parameters: every column of `checkpoints`."""

DELETE_SESSION = tuple(
    delete(table).where(column == bindparam("session_id"))
    for table, column in (
        (turns, turns.c.session_id),
        (checkpoints, checkpoints.c.session_id),
        (sessions, sessions.c.id),
    )
)
"""Remove a session, in three statements of one commit. Parameters: session_id."""

SESSION_SETTINGS = select(sessions.c.settings).where(sessions.c.id == bindparam("session_id"))
"""Parameters: session_id."""

_of = turns.c.session_id == bindparam("session_id")
_is_turn = turns.c.kind == literal_column("'turn'")

TURNS_BACKWARDS = (
    select(*(column for column in turns.c if column.name != "session_id"))
    .where(_of, turns.c.seq < bindparam("before_seq"))
    .order_by(turns.c.seq.desc())
    .limit(literal_column(str(TURNS_PAGE)))
)
"""What happened in a session, the latest first: every column of `turns` but session_id. Parameters: session_id,
before_seq."""

TURN_AT = select(turns.c.seq).where(
    _of, turns.c.seq == bindparam("seq"), turns.c.kind != literal_column("'move'")
)
"""One row, if there is a turn or summary of that `seq`. Parameters: session_id, seq."""

SESSION_TOTALS = select(
    func.count(case((_is_turn, 1))),
    total(turns.c.input_tokens),
    total(turns.c.output_tokens),
    total(turns.c.cost_pusd),
).where(_of)
"""Turns ever recorded, and tokens in, tokens out and cost of everything. Parameters: session_id."""

CHECKPOINTS = (
    select(checkpoints.c.name, checkpoints.c.seq)
    .where(checkpoints.c.session_id == bindparam("session_id"))
    .order_by(checkpoints.c.created_at_ms, checkpoints.c.name)
)
"""The places that have a name: name, seq. Parameters: session_id."""

SESSIONS = (
    select(
        sessions.c.id,
        sessions.c.created_at_ms,
        sessions.c.updated_at_ms,
        sessions.c.settings,
        func.count(case((_is_turn, 1))),
        total(turns.c.input_tokens + turns.c.output_tokens),
        total(turns.c.cost_pusd),
    )
    .select_from(sessions.outerjoin(turns, turns.c.session_id == sessions.c.id))
    .where(sessions.c.id > bindparam("after_id"))
    .group_by(sessions.c.id, sessions.c.created_at_ms, sessions.c.updated_at_ms, sessions.c.settings)
    .order_by(sessions.c.id)
    .limit(literal_column(str(TURNS_PAGE)))
)
"""Sessions by name, a page of `TURNS_PAGE`: id, created_at_ms, updated_at_ms, settings, turns, tokens, cost_pusd.
Parameters: after_id."""

_idle = select(sessions.c.id).where(sessions.c.updated_at_ms < bindparam("until_ms"))

IDLE_SESSIONS = select(func.count()).select_from(_idle.subquery())
"""How many sessions there are in which nothing has happened since. Parameters: until_ms."""

PURGE_SESSIONS = (
    delete(turns).where(turns.c.session_id.in_(_idle)),
    delete(checkpoints).where(checkpoints.c.session_id.in_(_idle)),
    delete(sessions).where(sessions.c.updated_at_ms < bindparam("until_ms")),
)
"""Remove those, in three statements of one commit. Parameters: until_ms."""
