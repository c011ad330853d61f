"""`greenroom batches`: the jobs that the database knows, and what came of their lines."""

import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer
from msgspec import Struct
from rich.table import Table

from greenroom.actors import storage
from greenroom.actors.prices import usd
from greenroom.actors.storage import ReadOnly
from greenroom.runtime.cli.database import Config, reading
from greenroom.runtime.cli.output import (
    EXIT_INTERRUPTED,
    end_output,
    fail,
    help_of,
    moment,
    money,
    note,
    plain,
    print_json,
    tables,
)

_LISTED = 200
_WATCH_EVERY_S = 0.5
_EXAMPLE_CHARS = 200
Id = Annotated[str, typer.Argument(metavar="ID", help="The job's id, or how it begins.", show_default=False)]

app = typer.Typer(
    help="List jobs, and show what came of them; also while they run.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Listed(Struct, frozen=True, kw_only=True):
    """What `--json` prints of each job. `unfinished`: it runs, or was interrupted. Times are in ISO's form, UTC."""

    id: str
    state: str
    model: str
    input: str
    output: str | None
    lines: int
    ok: int
    failed: int
    cost_usd: Decimal
    created_at: str
    updated_at: str


class Failed(Struct, frozen=True, kw_only=True):
    """Lines that failed in one way, with the first of them, from 1, and what became of it."""

    error_class: str
    lines: int
    first_line: int
    example: str


class Shown(Struct, frozen=True, kw_only=True):
    """What `greenroom batches show --json` prints."""

    job: Listed
    errors: tuple[Failed, ...]


def list_(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a job, on standard output.")
    ] = False,
    config: Config = None,
) -> None:
    r"""List the latest jobs: how far they are, and what they cost.

    A job that is not finished is gone on with by the command that began it.

    \b
    Examples:
      greenroom batches list
      greenroom batches list --json | jq -r 'select(.state == "unfinished") | .output'
    """
    with reading(config) as database:
        found = [] if database is None else _jobs(database, "", _LISTED)
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        tables.print(_table(found))
    else:
        note("there are no jobs yet: greenroom run FILE begins one")


def show(
    job: Id,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, on standard output.")] = False,
    config: Config = None,
) -> None:
    r"""Show a job: how far it is, and which lines failed, by class of error, with an example of each.

    \b
    Examples:
      greenroom batches show 3f2a9c
      greenroom batches show 3f --json | jq '.errors[].example'
    """
    with _one(job, config) as (database, found):
        shown = Shown(job=found, errors=tuple(_failed(database, found.id)))
    if as_json:
        print_json(shown)
        return
    tables.print(_table([found]))
    note(f"from {found.input} to {found.output or 'the database alone'}")
    if shown.errors:
        table = Table("error", title="Failed lines")
        for heading in ("lines", "first"):
            table.add_column(heading, justify="right", no_wrap=True)
        table.add_column("example", overflow="fold")
        for one in shown.errors:
            table.add_row(one.error_class, f"{one.lines:,}", f"line {one.first_line:,}", plain(one.example))
        tables.print(table)
        note("the same command with --retry-failed asks them again")


def watch(job: Id, *, config: Config = None) -> None:
    r"""Tell how far a job is, until it ends; it runs in another process.

    A job that was interrupted does not end until it is gone on with; Ctrl-C stops watching.

    \b
    Examples:
      greenroom batches watch 3f2a9c && mail -s "done" me@example.org
    """
    said = ""
    try:
        while True:
            with _one(job, config) as (_, found):
                finished = found.ok + found.failed
            line = f"{finished:,} of {found.lines:,}, {found.failed:,} failed, {money(found.cost_usd)}"
            if line != said:
                note(line)
                said = line
            if found.state != "unfinished":
                note(found.state)
                return
            time.sleep(_WATCH_EVERY_S)
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None


def results(
    job: Id,
    *,
    failed: Annotated[bool, typer.Option("--failed", help="Only lines that failed.")] = False,
    config: Config = None,
) -> None:
    r"""Print a job's results, in the order of completion: the lines of its output, also where it has none.

    \b
    Examples:
      greenroom batches results 3f2a9c > answers.jsonl
      greenroom batches results 3f --failed | jq .error
    """
    with _one(job, config) as (database, found):
        try:
            for line in _results(database, found.id, only_failed=failed):
                sys.stdout.buffer.write(line + b"\n")
            sys.stdout.flush()
        except BrokenPipeError:
            end_output()


_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_,
    "show": show,
    "watch": watch,
    "results": results,
}
for _name, _command in _COMMANDS.items():
    app.command(_name, help=help_of(_command))(_command)


@contextmanager
def _one(prefix: str, config: Path | None) -> Generator[tuple[ReadOnly, Listed]]:
    """The one job whose id begins so."""
    with reading(config) as database:
        found = [] if database is None or not prefix.isalnum() else _jobs(database, prefix, 3)
        if database is None or not found:
            fail(f"there is no job {prefix!r}; greenroom batches list shows those there are")
        if len(found) > 1:
            fail(f"several jobs begin with {prefix}: {', '.join(one.id for one in found)}, ...")
        yield database, found[0]


def _jobs(database: ReadOnly, prefix: str, count: int) -> list[Listed]:
    rows = database.read(storage.JOBS, {"prefix": prefix, "count": count})
    return [
        Listed(
            id=id_,
            state="unfinished" if state == "running" else state,
            model=model,
            input=source,
            output=out,
            lines=lines,
            ok=ok,
            failed=finished - ok,
            cost_usd=usd(cost),
            created_at=moment(created),
            updated_at=moment(updated),
        )
        for id_, created, updated, state, model, source, out, lines, ok, finished, cost in cast(
            "list[tuple[str, int, int, str, str, str, str | None, int, int, int, int]]", rows
        )
    ]


def _failed(database: ReadOnly, job_id: str) -> Generator[Failed]:
    rows = cast("list[tuple[str, int, int]]", database.read(storage.FAILED_ITEMS, {"job_id": job_id}))
    for error_class, count, position in rows:
        ((line,),) = database.read(storage.ITEM_AT, {"job_id": job_id, "position": position})
        example = _example(cast("bytes", line))
        yield Failed(error_class=error_class, lines=count, first_line=position + 1, example=example)


def _example(line: bytes) -> str:
    """What an output line says of its failure: the error's words, or else the line."""
    try:
        said: object = msgspec.json.decode(line)["error"]["message"]
    except (msgspec.DecodeError, LookupError, TypeError):
        said = line.decode(errors="replace")
    return str(said)[:_EXAMPLE_CHARS]


def _results(database: ReadOnly, job_id: str, *, only_failed: bool) -> Generator[bytes]:
    after = -1
    while True:
        rows = database.read(storage.RESULTS_AFTER, {"job_id": job_id, "after_seq": after})
        for row in rows:
            after = cast("int", row[0])
            if row[3] is not None or not only_failed:
                yield cast("bytes", row[4])
        if len(rows) < storage.PAGE:
            return


def _table(found: list[Listed]) -> Table:
    table = Table("job", "state", "model")
    for heading in ("lines", "ok", "failed", "cost", "begun"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("output", overflow="fold")
    for one in found:
        figures = (f"{one.lines:,}", f"{one.ok:,}", f"{one.failed:,}", money(one.cost_usd), one.created_at)
        table.add_row(one.id, one.state, plain(one.model), *figures, plain(one.output or "-"))
    return table
