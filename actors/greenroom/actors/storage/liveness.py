"""Who lives: which runtimes' open holds and slices may be charged, because nobody is there to settle them.

With SQLite one runtime owns the file, so all others are dead. PostgreSQL is shared: each runtime's writer holds an
advisory lock that goes by the runtime's id and dies with its connection, and dead is whose lock can be had.
https://www.postgresql.org/docs/current/functions-admin.html#FUNCTIONS-ADVISORY-LOCKS

A runtime whose connection was cut counts as dead until its writer has connected again. What it held is then charged
in full, estimated, if another runtime starts in between: too much, never too little.
"""

from sqlalchemy import Boolean
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement

_LOCK_CLASS = 0x67726E72
_LOCK_WAIT_S = 5


class IsDead(FunctionElement[bool]):
    """Whether the runtime of an id is dead, as a condition. True for the runtime that asks, too: leave it out."""

    inherit_cache = True
    name = "is_dead"
    type = Boolean()


@compiles(IsDead)
def _all_others(element: IsDead, compiler: SQLCompiler, **_: object) -> str:
    return "1"


@compiles(IsDead, "postgresql")
def _whose_lock_can_be_had(element: IsDead, compiler: SQLCompiler, **options: object) -> str:
    # For the length of the transaction only, so that two who start at once do not charge the same.
    return f"pg_try_advisory_xact_lock({_LOCK_CLASS}, {compiler.process(element.clauses, **options)})"


def show_life(dialect_name: str, runtime_id: int) -> tuple[str, ...]:
    """What the writer of a runtime runs whenever it has connected."""
    if dialect_name == "sqlite":
        return ()
    # Waited for: at a start somebody may be trying it, and a connection that was cut may keep it for a moment.
    return (
        f"SET lock_timeout = '{_LOCK_WAIT_S}s'",
        f"SELECT pg_advisory_lock({_LOCK_CLASS}, {runtime_id})",
        "SET lock_timeout = 0",
    )
