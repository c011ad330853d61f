"""What `greenroom run` says of what came of it."""

from decimal import Decimal
from typing import cast

from msgspec import Struct
from rich.table import Table

from greenroom.actors.batch import JobProgress, OpenJob, Scan
from greenroom.actors.prices import usd
from greenroom.actors.providers.hosts import SIMULATOR
from greenroom.actors.storage import SpendRow, StorageFailed, open_read_only, spend
from greenroom.runtime.cli.inputs import Options, shown_out
from greenroom.runtime.cli.output import (
    EXIT_FAILED_ITEMS,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REFUSED,
    EXIT_USAGE,
    duration,
    money,
    note,
    notes,
    print_json,
    tables,
)
from greenroom.runtime.discovery import Chosen


class Summary(Struct, frozen=True, kw_only=True):
    """What `--json` prints at the end."""

    job_id: str
    state: str
    lines: int
    ok: int
    failed: int
    resumed: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal
    seconds: float
    out: str | None
    errors: dict[str, int]
    because: str | None = None


def simulated_models(found: Scan, chosen: Chosen) -> tuple[str, ...]:
    """The names by which the job's models are simulated: what follows `sim/`, or a line's own model as it is."""
    return tuple(name.removeprefix(f"{SIMULATOR}/") for name in found.models) if chosen.simulated else ()


def already_complete(opened: OpenJob, options: Options) -> int:
    """Say that there is nothing to do, and what can be done about failures."""
    if options.as_json:
        print_json(
            {
                "job_id": opened.id,
                "state": "done",
                "lines": opened.scan.lines,
                "ok": opened.finished - opened.failed,
                "failed": opened.failed,
                "out": str(opened.request.out),
            }
        )
    note(f"complete: all {opened.scan.lines} lines have their results in {shown_out(opened, options)}")
    return _failures(opened.failed)


def ended(last: JobProgress, opened: OpenJob, seconds: float, options: Options) -> int:
    """Sum a run up, and turn its end into an exit code."""
    if options.as_json:
        print_json(_summary(last, opened, seconds))
    else:
        table = _table(last, seconds, shown_out(opened, options))
        (notes if options.to_stdout else tables).print(table)
    if last.state == "halted":
        note(f"halted: {last.because}")
        if last.because_kind == "budget_exceeded":
            note(f"results so far are kept; with a larger budget the same command goes on{_needed(last)}")
            return EXIT_REFUSED
        note("results so far are kept; once this is mended, the same command goes on")
        return EXIT_USAGE
    if last.state == "stopped":
        note(f"stopped with {last.total - last.finished} lines to go; the same command goes on")
        return EXIT_INTERRUPTED
    return _failures(last.failed)


def charged_besides(url: str, last: JobProgress) -> None:
    """Say what the ledger charges a job beyond the cost of its results: for calls that a kill or Ctrl-C cut off.

    Args:
        url: the database, which everything about the job has reached. One that cannot be read says nothing.
        last: how the job ended.
    """
    try:
        with open_read_only(url) as database:
            (row,) = database.read(spend(job_id=last.job_id))
    except StorageFailed:
        return
    in_all_pusd = SpendRow(*cast("tuple[int, ...]", row)).cost_pusd
    if in_all_pusd > last.cost_pusd:
        besides = money(usd(in_all_pusd - last.cost_pusd))
        note(
            f"besides the results' cost, {besides} is charged for calls whose answers are not among them: "
            f"{money(usd(in_all_pusd))} in all (greenroom costs --job {last.job_id})"
        )


def _needed(last: JobProgress) -> str:
    """What the lines that are left may come to, where there is something to go by."""
    if not last.finished:
        return ""
    each = usd(last.cost_pusd) / last.finished
    return f" (at the cost so far, the {last.total - last.finished:,} lines left take about {money(each * (last.total - last.finished))})"


def _failures(failed: int) -> int:
    if not failed:
        return EXIT_OK
    note(f"{failed} lines failed; ask them again with --retry-failed")
    return EXIT_FAILED_ITEMS


def _summary(last: JobProgress, opened: OpenJob, seconds: float) -> Summary:
    return Summary(
        job_id=last.job_id,
        state=last.state,
        lines=last.total,
        ok=last.ok,
        failed=last.failed,
        resumed=last.resumed,
        input_tokens=last.usage_input_tokens,
        output_tokens=last.usage_output_tokens,
        cost_usd=usd(last.cost_pusd),
        seconds=round(seconds, 3),
        out=str(opened.request.out) if opened.request.out else None,
        errors=last.errors,
        because=last.because,
    )


def _table(last: JobProgress, seconds: float, out: str) -> Table:
    table = Table(show_header=False, title=f"{last.finished:,} of {last.total:,} lines")
    asked = last.finished - last.resumed
    rows = [
        ("answered", f"{last.ok:,}"),
        ("failed", f"{last.failed:,}" + (f" ({_classes(last.errors)})" if last.errors else "")),
        ("input tokens", f"{last.usage_input_tokens:,}"),
        ("output tokens", f"{last.usage_output_tokens:,}"),
        ("cost", money(usd(last.cost_pusd))),
        ("time", f"{duration(seconds)} ({asked / seconds:.1f} lines/s)" if seconds else duration(seconds)),
    ]
    rows.append(("results", out))
    if last.resumed:
        rows.insert(2, ("from earlier runs", f"{last.resumed:,}"))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(name, value)
    return table


def _classes(errors: dict[str, int]) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(errors.items(), key=lambda item: -item[1]))
