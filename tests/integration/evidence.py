"""What stands in the database afterwards, read as another program would: with sqlite3 and no code of ours."""

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from math import ceil
from pathlib import Path

from msgspec import Struct

from greenroom.runtime.simulator import JournalEntry

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


def stored_results(database: Path) -> bytes:
    """What the output must hold: every result, a line each, in the order of completion."""
    rows = query(database, "SELECT result FROM items ORDER BY seq")
    return b"".join(bytes(row[0]) + b"\n" for row in rows)  # type: ignore[call-overload]  # as above


def exact_pusd(input_tokens: int, output_tokens: int) -> int:
    """What tokens cost at the prices of `Greenroom.configure`, by way of fractions and rounded up once."""
    dollars = Fraction(INPUT_USD_PER_MTOK) * input_tokens + Fraction(OUTPUT_USD_PER_MTOK) * output_tokens
    return ceil(dollars / 10**6 * 10**12)


def check_charges(database: Path, journal: Iterable[JournalEntry]) -> int:
    """Compare the ledger with what the provider saw: no row lost, none twice, each at its price. Returns how many were ok.

    Every attempt is one settled row. An answered one cost what the provider's own count says; what the provider served
    and nobody has is covered by estimated charges: of calls given up, of holds and slices that a dead runtime left.
    """
    rows = ledger(database)
    assert {row.state for row in rows} <= {"settled"}
    assert len({(row.call_id, row.number) for row in rows}) == len(rows)
    served = {entry.request_id: entry for entry in journal if entry.status == 200}
    answered = [row for row in rows if row.outcome == "ok"]
    for row in answered:
        assert row.request_id is not None
        entry = served.pop(row.request_id)
        exact_cost = exact_pusd(entry.prompt_tokens, entry.completion_tokens)
        assert (row.cost_pusd, row.estimated) == (exact_cost, False)
    others = [row for row in rows if row.outcome != "ok"]
    assert all(row.cost_pusd == (row.held_pusd if row.estimated else 0) for row in others)
    unclaimed_pusd = sum(
        exact_pusd(entry.prompt_tokens, entry.completion_tokens) for entry in served.values()
    )
    assert unclaimed_pusd <= sum(row.cost_pusd for row in others if row.estimated)
    return len(answered)
