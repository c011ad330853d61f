"""From a SQLAlchemy statement to what the driver runs: compiled once, bound by C code, many rows to one step.

SQLAlchemy's own execution costs several microseconds a row, and the driver's `executemany` gives the interpreter lock
away once per row. Beside a busy event loop each of those handovers waits up to the switch interval: 256 rows took up
to a second. One INSERT with many VALUES is one handover (12 ms in the same trial) and a third less CPU.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter
from typing import Protocol

from sqlalchemy import Executable, Insert, LargeBinary, Table, bindparam, literal_column, text
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Dialect
from sqlalchemy.sql.elements import BindParameter, ClauseElement

from greenroom.actors.storage.errors import WriteRejected
from greenroom.actors.storage.shapes import Parameters

Row = tuple[object, ...]

MAX_STATEMENTS = 512
"""Distinct statements kept compiled. Beyond that all are forgotten: who builds a statement per write pays for it."""

_WIDTH_STEP = 16
_MAX_WIDTH = 128
"""Rows of one INSERT: any number up to 16, then multiples of 16, so that any count takes few steps and a driver's
statement cache holds all variants (23 of a statement, about 2 MB). Gains flatten at 128."""

_MAX_BLOB_WIDTH = 16
"""Rows of one INSERT that brings blobs: SQLite keeps a cached statement's last values in memory."""

_VALUES = re.compile(r"\bVALUES (\([^()]*\))")
# Values of these types go to either driver as they are; SQLAlchemy's bind processors for them only re-check.
_PLAIN = (bool, bytes, float, int, str)


class Upsert:
    """An INSERT that meets a row with the same key, written once and built for each dialect.

    Args:
        table: where the rows go.
        key: the columns that decide whether the row is there already.
        columns: the columns whose values each row brings, as parameters of the same names.
        literals: columns with one value for all rows, as SQL text.
        update: the columns that a row already there takes over from the new one; none: it stays as it is.
        only_if: SQL condition on the row already there, without which it stays as it is.
    """

    def __init__(
        self,
        table: Table,
        key: Sequence[str],
        columns: Sequence[str],
        *,
        literals: Mapping[str, str] | None = None,
        update: Sequence[str] = (),
        only_if: str | None = None,
    ) -> None:
        self._table = table
        self._key = tuple(key)
        self._columns = tuple(columns)
        self._literals = dict(literals or {})
        self._update = tuple(update)
        self._only_if = only_if

    def __repr__(self) -> str:
        return f"<Upsert into {self._table.name}>"

    def build(self, dialect_name: str) -> Insert:
        """The statement for `sqlite` or `postgresql`, whose conflict clauses are two classes in SQLAlchemy."""
        values: dict[str, object] = {name: bindparam(name) for name in self._columns}
        values |= {name: literal_column(sql) for name, sql in self._literals.items()}
        insert = (
            postgresql.insert(self._table) if dialect_name == "postgresql" else sqlite.insert(self._table)
        ).values(values)
        if not self._update:
            return insert.on_conflict_do_nothing(index_elements=self._key)
        return insert.on_conflict_do_update(
            index_elements=self._key,
            set_={name: insert.excluded[name] for name in self._update},
            where=None if self._only_if is None else text(self._only_if),
        )


Statement = Executable | Upsert
"""What may be written: a SQLAlchemy statement, or an `Upsert`. Told apart by identity, so build each once."""


class Cursor(Protocol):
    """The part of a DB-API cursor that writing needs."""

    def execute(self, sql: str, parameters: Sequence[object] = ..., /) -> object: ...
    def executemany(self, sql: str, rows: Sequence[Sequence[object]], /) -> object: ...


class Prepared:
    """One statement as one dialect's driver takes it.

    Args:
        statement: the statement, which is kept so that its identity is not given to another.
        parameters: a first set of parameters; all later ones have the same names.
        dialect: with a positional parameter style.

    Raises:
        WriteRejected: the statement cannot be compiled, or expands per execution (`IN` over a list).
    """

    def __init__(self, statement: Statement, parameters: Parameters, dialect: Dialect) -> None:
        self.statement = statement
        built: object = statement.build(dialect.name) if isinstance(statement, Upsert) else statement
        is_insert = isinstance(built, Insert)
        assert isinstance(built, ClauseElement)
        try:
            compiled = built.compile(dialect=dialect, column_keys=list(parameters))
        except Exception as error:
            raise WriteRejected(
                f"{_name(statement)} cannot be compiled for {dialect.name}: {error}"
            ) from error
        names: list[str] = list(getattr(compiled, "positiontup", None) or ())
        binds: dict[str, BindParameter[object]] = getattr(compiled, "binds", {})
        if getattr(compiled, "post_compile_params", None):
            raise WriteRejected(
                f"{_name(statement)} expands per execution (IN over a list?), which a write may not"
            )
        self.sql = str(compiled)
        self.names = frozenset(name for name in names if binds[name].required)
        self.name_count = len(self.names)
        self.row = _row_maker(names, binds, dialect)
        self._group = _value_group(self.sql, len(names), dialect) if is_insert else ""
        self._max_width = 1
        if self._group:
            blobs = any(isinstance(binds[name].type, LargeBinary) for name in names)
            self._max_width = _MAX_BLOB_WIDTH if blobs else _MAX_WIDTH
        self._wide: dict[int, str] = {}

    def bind(self, parameters: Parameters) -> Row:
        """The values in the order of the placeholders.

        Raises:
            WriteRejected: the names are not those that the statement was first written with.
        """
        try:
            if len(parameters) == self.name_count:
                return self.row(parameters)
        except KeyError:
            pass
        missing, unknown = sorted(self.names - set(parameters)), sorted(set(parameters) - self.names)
        raise WriteRejected(f"parameters of {_name(self.statement)}: missing {missing}, unknown {unknown}")

    def execute(self, cursor: Cursor, rows: Sequence[Row]) -> None:
        """Run the statement for every row, in order, in as few steps as the statement allows."""
        if len(rows) == 1:
            cursor.execute(self.sql, rows[0])
        elif self._max_width == 1:
            cursor.executemany(self.sql, rows)
        else:
            self._execute_wide(cursor, rows)

    def execute_each(self, cursor: Cursor, rows: Sequence[Row]) -> None:
        """Run the statement row by row: PostgreSQL refuses an upsert that meets one key twice in a single step."""
        cursor.executemany(self.sql, rows)

    def _execute_wide(self, cursor: Cursor, rows: Sequence[Row]) -> None:
        start, left = 0, len(rows)
        while left:
            width = min(left - left % _WIDTH_STEP or left, self._max_width)
            flat: list[object] = []
            for row in rows[start : start + width]:
                flat += row
            cursor.execute(self._wide.get(width) or self._widen(width), flat)
            start += width
            left -= width

    def _widen(self, width: int) -> str:
        sql = self.sql.replace(self._group, ", ".join([self._group] * width), 1)
        self._wide[width] = sql
        return sql


class Preparer(dict[int, Prepared]):
    """Compiled statements of one dialect, by the statement's identity. Used by one thread."""

    def __init__(self, dialect: Dialect) -> None:
        super().__init__()
        self._dialect = dialect

    def prepare(self, statement: Statement, parameters: Parameters) -> Prepared:
        """The statement compiled, at once if it was before.

        Raises:
            WriteRejected: it cannot be compiled.
        """
        prepared = self.get(id(statement))
        if prepared is None:
            if len(self) >= MAX_STATEMENTS:
                self.clear()
            prepared = self[id(statement)] = Prepared(statement, parameters, self._dialect)
        return prepared


def _name(statement: Statement) -> str:
    table: object = getattr(statement, "table", None)
    return repr(statement) if table is None else f"<{type(statement).__name__} of {table}>"


def _value_group(sql: str, placeholder_count: int, dialect: Dialect) -> str:
    """The one parenthesis of values that may be repeated for more rows; empty if there is no such thing."""
    groups = _VALUES.findall(sql)
    placeholder = "?" if dialect.paramstyle == "qmark" else "%s"
    # Every placeholder must stand in it: then the values of one row simply follow those of another.
    if len(groups) != 1 or groups[0].count(placeholder) != placeholder_count:
        return ""
    group: str = groups[0]
    return group


def _row_maker(
    names: Sequence[str], binds: Mapping[str, BindParameter[object]], dialect: Dialect
) -> Callable[[Parameters], Row]:
    processors: dict[int, Callable[[object], object]] = {}
    constants: dict[int, object] = {}
    for position, name in enumerate(names):
        bind = binds[name]
        processor = None if _is_plain(bind) else bind.type.dialect_impl(dialect).bind_processor(dialect)
        if processor is not None:
            processors[position] = processor
        if not bind.required:
            constants[position] = bind.effective_value
    if not processors and not constants and len(names) > 1:
        return itemgetter(*names)

    def row(parameters: Parameters) -> Row:
        values = [constants[i] if i in constants else parameters[name] for i, name in enumerate(names)]
        for position, processor in processors.items():
            values[position] = processor(values[position])
        return tuple(values)

    return row


def _is_plain(bind: BindParameter[object]) -> bool:
    try:
        return bind.type.python_type in _PLAIN
    except NotImplementedError:
        return False
