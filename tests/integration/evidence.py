"""What stands in the database afterwards, read as another program would: with sqlite3 and no code of ours."""

import sqlite3
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path

from msgspec import Struct

INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK = Decimal("0.15"), Decimal("0.60")


class AttemptRow(Struct, frozen=True):
    """One row of the ledger."""

    id: int
    call_id: int
    number: int
    state: str
    outcome: str | None
    estimated: bool
    held_pusd: int
    cost_pusd: int
    provider: str
    model: str
    job_id: str | None
    input_tokens: int
    output_tokens: int
    request_id: str | None


def query(database: Path, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(sql, parameters).fetchall()


def ledger(database: Path) -> list[AttemptRow]:
    """All rows, in the order in which their holds were made."""
    columns = AttemptRow.__struct_fields__
    rows = query(database, f"SELECT {', '.join(columns)} FROM attempts ORDER BY id")  # noqa: S608 - our own names
    found: list[AttemptRow] = []
    for row in rows:
        values = dict(zip(columns, row, strict=True))
        values["estimated"] = bool(values["estimated"])
        found.append(AttemptRow(**values))  # type: ignore[arg-type]  # sqlite3 types nothing
    return found


def stored_ids(database: Path) -> set[str]:
    """The ids whose result is on disk."""
    return {str(row[0]) for row in query(database, "SELECT custom_id FROM items")}


def exact_pusd(input_tokens: int, output_tokens: int) -> int:
    """What tokens cost at the prices of `Greenroom.configure`, by way of fractions and rounded up once."""
    dollars = Fraction(INPUT_USD_PER_MTOK) * input_tokens + Fraction(OUTPUT_USD_PER_MTOK) * output_tokens
    return ceil(dollars / 10**6 * 10**12)
