"""`greenroom costs`: what was spent, by provider, model and job."""

import time
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, cast

import typer
from msgspec import Struct
from rich.table import Table

from greenroom.actors.ledger import Budget, Budgets, Key, span_of
from greenroom.actors.prices import usd
from greenroom.actors.storage import (
    DatabaseMissing,
    Dimension,
    ReadOnly,
    SpendRow,
    StorageFailed,
    charged,
    open_read_only,
    set_aside,
    spend,
)
from greenroom.runtime.cli.output import fail, money, note, print_json, tables
from greenroom.runtime.config import ConfigError, database_url, load_settings

_DEFAULT: tuple[Dimension, ...] = ("provider", "model", "job")


class Group(StrEnum):
    """What spend may be grouped by."""

    provider = "provider"
    model = "model"
    job = "job"
    session = "session"
    key = "key"
    tag = "tag"
    day = "day"


class Spend(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Spend of one group. `estimated_usd` is the part of `cost_usd` that no provider stated."""

    group: dict[str, str | None]
    calls: int
    attempts: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    estimated_usd: Decimal
    held_usd: Decimal


class BudgetLeft(Struct, frozen=True, kw_only=True):
    """A configured budget, and what is left of it. `held_usd` is what calls in flight may be charged yet."""

    budget: str
    name: str | None
    period: str
    cap_usd: Decimal
    settled_usd: Decimal
    held_usd: Decimal
    left_usd: Decimal


def costs(
    *,
    by: Annotated[
        list[Group] | None,
        typer.Option("--by", help="What to group by; repeatable. [default: provider, model, job]"),
    ] = None,
    job: Annotated[str | None, typer.Option(help="Only this job.")] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a group, on standard output.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. [default: greenroom.toml, if there is one]")
    ] = None,
) -> None:
    r"""Show what was spent, by provider, model and job, and what is left of budgets; also while a job runs.

    \b
    Examples:
      greenroom costs
      greenroom costs --by day --by model
      greenroom costs --job 3f2a9c --json

    Estimated: calls whose answer never came (cancelled, cut, killed) are charged at their upper bound. "(unconfirmed)"
    is what was set aside when the process was killed, for calls whose row was not on disk yet.
    Budgets are those of [budgets] in the configuration; days and months are UTC.
    """
    dimensions: tuple[Dimension, ...] = tuple(group.value for group in by) if by else _DEFAULT
    left: list[BudgetLeft] = []
    try:
        settings = load_settings(config)
        with open_read_only(database_url(settings)) as database:
            rows = database.read(spend(*dimensions, job_id=job))
            left = _left(database, Budgets(settings.budgets), time.time_ns() // 1_000_000)
    except DatabaseMissing:
        rows = []
    except (ConfigError, StorageFailed) as error:
        fail(str(error))
    groups = [_spend(dimensions, row) for row in rows]
    if as_json:
        for group in (*groups, *left):
            print_json(group)
        return
    if groups:
        tables.print(_table(dimensions, groups))
    else:
        note("nothing was spent yet")
    if left:
        tables.print(_budget_table(left))


def _left(database: ReadOnly, budgets: Budgets, now_ms: int) -> list[BudgetLeft]:
    """What is left of each configured budget, as the rows stand now."""
    named: list[tuple[str | None, Budget]] = [(None, budget) for budget in budgets.overall]
    named += [
        (name, budget) for each in (budgets.by_key, budgets.by_tag) for name in each for budget in each[name]
    ]
    return [_left_of(database, name, budget, now_ms) for name, budget in named]


def _left_of(database: ReadOnly, name: str | None, budget: Budget, now_ms: int) -> BudgetLeft:
    since_ms, until_ms = span_of(budget.period, now_ms)
    where = Key(budget.scope, name).column
    ((settled_pusd, held_pusd),) = database.read(*charged(where=where, since_ms=since_ms, until_ms=until_ms))
    ((slices_pusd,),) = database.read(set_aside(where=where, since_ms=since_ms, until_ms=until_ms))
    settled, held, slices = (cast("int", value) for value in (settled_pusd, held_pusd, slices_pusd))
    return BudgetLeft(
        budget=budget.scope,
        name=name,
        period=budget.period,
        cap_usd=usd(budget.cap_pusd),
        settled_usd=usd(settled),
        held_usd=usd(held + slices),
        left_usd=usd(max(0, budget.cap_pusd - settled - held - slices)),
    )


def _budget_table(left: list[BudgetLeft]) -> Table:
    table = Table("budget", "of", "for", title="Budgets")
    for heading in ("cap", "settled", "held", "left"):
        table.add_column(heading, justify="right", no_wrap=True)
    periods = {"ever": "ever", "day": "today", "month": "this month"}
    for one in left:
        sums = (one.cap_usd, one.settled_usd, one.held_usd, one.left_usd)
        table.add_row(one.budget, one.name or "-", periods[one.period], *(money(amount) for amount in sums))
    return table


def _spend(dimensions: tuple[Dimension, ...], row: tuple[object, ...]) -> Spend:
    figures = SpendRow(*cast("tuple[int, ...]", row[len(dimensions) :]))
    return Spend(
        group={name: _name(name, value) for name, value in zip(dimensions, row, strict=False)},
        calls=figures.calls,
        attempts=figures.attempts,
        input_tokens=figures.input_tokens + figures.cached_tokens + figures.cache_write_tokens,
        output_tokens=figures.output_tokens + figures.reasoning_tokens,
        cost_usd=usd(figures.cost_pusd),
        estimated_usd=usd(figures.estimated_pusd),
        held_usd=usd(figures.held_pusd),
    )


def _name(dimension: Dimension, value: object) -> str | None:
    if dimension == "day" and isinstance(value, int):
        from datetime import UTC, datetime

        return datetime.fromtimestamp(value * 86_400, UTC).date().isoformat()
    return None if value is None else str(value)


def _table(dimensions: tuple[Dimension, ...], groups: list[Spend]) -> Table:
    table = Table()
    for name in dimensions:
        table.add_column(name, overflow="fold")
    for heading in ("calls", "attempts", "tokens in", "out", "cost", "estimated"):
        table.add_column(heading, justify="right", no_wrap=True)
    for group in groups:
        table.add_row(*(value or "-" for value in group.group.values()), *_cells(group))
    if len(groups) > 1:
        table.add_section()
        table.add_row("all", *[""] * (len(dimensions) - 1), *_cells(_total(groups)))
    return table


def _cells(group: Spend) -> tuple[str, ...]:
    return (
        f"{group.calls:,}",
        f"{group.attempts:,}",
        f"{group.input_tokens:,}",
        f"{group.output_tokens:,}",
        money(group.cost_usd),
        money(group.estimated_usd),
    )


def _total(groups: list[Spend]) -> Spend:
    return Spend(
        group={},
        calls=sum(g.calls for g in groups),
        attempts=sum(g.attempts for g in groups),
        input_tokens=sum(g.input_tokens for g in groups),
        output_tokens=sum(g.output_tokens for g in groups),
        cost_usd=sum((g.cost_usd for g in groups), Decimal(0)),
        estimated_usd=sum((g.estimated_usd for g in groups), Decimal(0)),
        held_usd=sum((g.held_usd for g in groups), Decimal(0)),
    )
