"""What `greenroom run` says: before (what it would ask and cost) and after (what came of it)."""

from decimal import Decimal

from msgspec import Struct
from rich.table import Table

from greenroom.actors.batch import JobProgress, ModelShare, OpenJob, Scan
from greenroom.actors.catalog import Route, UnknownModel, find_route
from greenroom.actors.events import Usage
from greenroom.actors.prices import PriceTable, usd
from greenroom.actors.providers.hosts import SIMULATOR, simulator
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

_ASSUMED_OUTPUT_TOKENS = 256


class Estimate(Struct, frozen=True, kw_only=True):
    """What a job would ask of one model. `at_most_usd` is null where some line sets no `max_tokens`."""

    model: str
    lines: int
    input_tokens: int
    likely_usd: Decimal
    at_most_usd: Decimal | None


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


def check_models(found: Scan, chosen: Chosen) -> None:
    """Refuse unknown and unpriced models before anything is sent. Blocks: it loads the price table.

    Raises:
        UnknownModel, Unpriced: as `Resolve` does.
    """
    _routes(found, chosen)


def simulated_models(found: Scan, chosen: Chosen) -> tuple[str, ...]:
    """The names by which the job's models are simulated: what follows `sim/`, or a line's own model as it is."""
    return tuple(name.removeprefix(f"{SIMULATOR}/") for name in found.models) if chosen.simulated else ()


def dry_run(found: Scan, chosen: Chosen, *, as_json: bool) -> None:
    """Say what would be asked, how many tokens, and what it would cost. Blocks as `check_models` does."""
    estimates = [_estimate(name, found.models[name], route) for name, route in _routes(found, chosen).items()]
    if as_json:
        print_json({"lines": found.lines, "skipped": found.bad_count, "models": estimates})
        return
    table = Table("model", title="What would be asked (nothing was sent)")
    for heading in ("lines", "input tokens", "likely cost", "at most"):
        table.add_column(heading, justify="right")
    for estimate in estimates:
        at_most = (
            "no bound: set --max-tokens" if estimate.at_most_usd is None else money(estimate.at_most_usd)
        )
        table.add_row(
            estimate.model,
            f"{estimate.lines:,}",
            f"{estimate.input_tokens:,}",
            money(estimate.likely_usd),
            at_most,
        )
    tables.print(table)
    note(f"likely: about 4 bytes a token and {_ASSUMED_OUTPUT_TOKENS} tokens an answer")


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
        note("results so far are kept; once this is mended, the same command goes on")
        return EXIT_REFUSED if last.because_kind == "budget_exceeded" else EXIT_USAGE
    if last.state == "stopped":
        note(f"stopped with {last.total - last.finished} lines to go; the same command goes on")
        return EXIT_INTERRUPTED
    return _failures(last.failed)


def _failures(failed: int) -> int:
    if not failed:
        return EXIT_OK
    note(f"{failed} lines failed; ask them again with --retry-failed")
    return EXIT_FAILED_ITEMS


def _routes(found: Scan, chosen: Chosen) -> dict[str, Route]:
    providers = dict(chosen.providers)
    if chosen.simulated:
        providers.setdefault(SIMULATOR, simulator("http://127.0.0.1"))
    if not providers:
        raise UnknownModel("no provider is configured")
    prices = PriceTable.load()
    return {name: find_route(name, providers, prices) for name in found.models}


def _estimate(name: str, share: ModelShare, route: Route) -> Estimate:
    likely = Usage(share.input_tokens, share.lines * _ASSUMED_OUTPUT_TOKENS)
    # Tiers are by request, so the price is asked for an average one.
    average = Usage(likely.input_tokens // share.lines, _ASSUMED_OUTPUT_TOKENS)
    at_most = usd(route.price.bound_pusd(share.input_tokens, share.max_output_tokens))
    return Estimate(
        model=f"{route.provider}/{route.model}" if name != route.model else name,
        lines=share.lines,
        input_tokens=share.input_tokens,
        likely_usd=usd(route.price.cost_pusd(average) * share.lines),
        at_most_usd=None if share.unbounded else at_most,
    )


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
