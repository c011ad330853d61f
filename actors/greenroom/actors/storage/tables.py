"""The tables. `migrations/` builds them; a test holds the two together.

Times are unix milliseconds (`*_at_ms`), money is whole pico-dollars (`*_pusd`), both 64-bit. A signed 64-bit sum of
pico-dollars ends at 9.2 million dollars; SQLite reports an overflow there, it never wraps.

Defaults are the server's, because grouped writes reach the driver without SQLAlchemy's Python-side ones.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    Table,
    Text,
    UniqueConstraint,
    false,
    text,
)

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    }
)

# "INTEGER PRIMARY KEY" makes the key SQLite's rowid: no second B-tree. Its integers are 64-bit whatever their name.
_Key = BigInteger().with_variant(Integer(), "sqlite")


def _tokens(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default=text("0"))


runtimes = Table(
    "runtimes",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("uuid", Text, nullable=False, unique=True),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("ended_at_ms", BigInteger),
    Column("host", Text, nullable=False),
    Column("version", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    # AUTOINCREMENT: an id is never given twice, since tickets are made from it.
    sqlite_autoincrement=True,
)
"""One row per opening of the database for writing. `ended_at_ms` stays NULL where the process was killed."""

attempts = Table(
    "attempts",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=False),
    Column("runtime_id", Integer, nullable=False),
    Column("call_id", BigInteger, nullable=False),
    Column("number", SmallInteger, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'held'")),
    Column("outcome", Text),
    Column("estimated", Boolean, nullable=False, server_default=false()),
    Column("held_pusd", BigInteger, nullable=False),
    Column("cost_pusd", BigInteger, nullable=False, server_default=text("0")),
    Column("provider", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("job_id", Text),
    Column("session_id", Text),
    Column("key_id", Text),
    Column("tag", Text),
    _tokens("input_tokens"),
    _tokens("cached_tokens"),
    _tokens("cache_write_5m_tokens"),
    _tokens("cache_write_1h_tokens"),
    _tokens("output_tokens"),
    _tokens("reasoning_tokens"),
    _tokens("audio_input_tokens"),
    _tokens("audio_output_tokens"),
    Column("request_id", Text),
    Column("started_at_ms", BigInteger, nullable=False),
    Column("settled_at_ms", BigInteger),
)
"""The ledger: one row per hold, which is one per attempt. `state` is 'held' or 'settled'; `number` counts a call's
attempts from 1; `outcome` is 'ok' or the class of the failure."""

# Indexes, each worth its share of an insert: rows of open holds only (a handful at any time), the time, which only
# ever grows and so lands on the rightmost page, and of each scope that a budget may have only the rows that name one.
_HELD = text("state = 'held'")
Index("ix_attempts_held", attempts.c.runtime_id, sqlite_where=_HELD, postgresql_where=_HELD)
Index("ix_attempts_started_at_ms", attempts.c.started_at_ms)
for _scope in (attempts.c.job_id, attempts.c.session_id, attempts.c.key_id, attempts.c.tag):
    _named = text(f"{_scope.name} IS NOT NULL")
    Index(f"ix_attempts_{_scope.name}", _scope, sqlite_where=_named, postgresql_where=_named)

slices = Table(
    "slices",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=False),
    Column("runtime_id", Integer, nullable=False),
    Column("reserved_pusd", BigInteger, nullable=False),
    Column("job_id", Text),
    Column("session_id", Text),
    Column("key_id", Text),
    Column("tag", Text),
    Column("opened_at_ms", BigInteger, nullable=False),
)
"""What a runtime may hold for an account without a row in `attempts` yet. Its id is an unused one of `attempts`: should
the runtime die, the slice becomes a row there."""

jobs = Table(
    "jobs",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("state", Text, nullable=False),
    Column("model", Text, nullable=False),
    Column("source", Text, nullable=False),
    Column("out", Text, unique=True),
    Column("digest", Text, nullable=False),
    Column("lines", Integer, nullable=False),
    Column("settings", Text, nullable=False),
    Column("rewrite", Boolean, nullable=False, server_default=false()),
)
"""Batch jobs. `state` is 'running', 'done' or 'halted'; `source` says where the input came from; `out` is an absolute
path; `digest` is of the whole input; `settings` is JSON; `rewrite`: the output file must be rewritten from the rows."""

items = Table(
    "items",
    metadata,
    Column("job_id", Text, nullable=False, primary_key=True),
    Column("position", Integer, nullable=False, primary_key=True, autoincrement=False),
    Column("seq", Integer, nullable=False),
    Column("custom_id", Text, nullable=False),
    Column("digest", LargeBinary, nullable=False),
    Column("ok", Boolean, nullable=False),
    Column("error_class", Text),
    Column("result", LargeBinary, nullable=False),
    Column("cost_pusd", BigInteger, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("finished_at_ms", BigInteger, nullable=False),
    UniqueConstraint("job_id", "seq"),
)
"""Finished lines of a job. `position` is the 0-based line of the input, `seq` the order of completion within the job,
`digest` of the input line, `result` the output line without its newline.

A plain rowid table on purpose: WITHOUT ROWID sends a result above about 1 000 bytes to an overflow page of its own
(measured at 1.2 KB: 25 us and 4 700 bytes a row, against 7.5 us and 1 400)."""

sessions = Table(
    "sessions",
    metadata,
    Column("id", Text, primary_key=True),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("updated_at_ms", BigInteger, nullable=False),
    Column("settings", Text, nullable=False),
)
"""Conversations. `settings` is JSON; `updated_at_ms` is of the last change, a turn included."""

turns = Table(
    "turns",
    metadata,
    Column("id", _Key, primary_key=True, autoincrement=False),
    Column("session_id", Text, nullable=False),
    Column("seq", Integer, nullable=False),
    Column("kind", Text, nullable=False),
    Column("parent_seq", Integer),
    Column("covers_seq", Integer),
    Column("body", LargeBinary, nullable=False),
    Column("model", Text),
    Column("cost_pusd", BigInteger, nullable=False),
    Column("input_tokens", Integer, nullable=False),
    Column("output_tokens", Integer, nullable=False),
    Column("sent_bytes", Integer, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    UniqueConstraint("session_id", "seq"),
)
"""What happened in each session, appended and never changed. `seq` counts within the session, so two processes that
add to one at once cannot both succeed. `kind` is 'turn', 'summary' or 'move'; `parent_seq` is what it follows, or where
a 'move' goes (NULL: to the beginning); a 'summary' stands for everything up to `covers_seq`; `body` is messages as JSON;
`sent_bytes` is how long they and all before them were as they were sent."""

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("session_id", Text, nullable=False, primary_key=True),
    Column("name", Text, nullable=False, primary_key=True),
    Column("seq", Integer),
    Column("created_at_ms", BigInteger, nullable=False),
)
"""Names of places in sessions; `seq` NULL is the beginning."""
