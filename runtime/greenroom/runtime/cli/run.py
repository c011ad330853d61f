"""`greenroom run`: the main job. A file of prompts through the tree, resumable."""

import asyncio
import gc
import signal
import sys
from contextlib import ExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio.to_thread
import typer

from greenroom.actors.batch import BadInput, JobProgress, JobRefused, JobRequest, OpenJob
from greenroom.actors.flow import RuntimeFailed
from greenroom.actors.kernel import Refused, StartFailed
from greenroom.actors.ledger import Account, Budgets
from greenroom.actors.prices import pico_usd
from greenroom.actors.settings import Settings
from greenroom.actors.storage import StorageFailed
from greenroom.runtime.cli import inputs, report
from greenroom.runtime.cli.inputs import Options
from greenroom.runtime.cli.live import LiveView
from greenroom.runtime.cli.output import (
    EXIT_FAILED_ITEMS,
    EXIT_INTERRUPTED,
    EXIT_OK,
    fail,
    note,
    notes,
)
from greenroom.runtime.cli.spending import Spending
from greenroom.runtime.cli.stdout import Copier
from greenroom.runtime.config import (
    CONFIG_FILE,
    ConfigError,
    aliases_of,
    database_url,
    environment,
    load_settings,
)
from greenroom.runtime.discovery import Chosen, choose_providers
from greenroom.runtime.job import Job
from greenroom.runtime.runtime import Runtime
from greenroom.runtime.telemetry import log_to

_LOOK_EVERY_S = 0.25
_YOUNG_OBJECTS = 20_000
"""How many new objects make Python search the youngest for garbage. A group commit wakes hundreds of calls at once, and at
its 700 each such burst was searched many times while it lived: a tenth of a call's CPU."""
_OBJECTS_PER_CALL = 100
"""With 10 000 calls in flight their own objects pass for new ones: searching them again and again took as long as the calls."""


class Form(StrEnum):
    """What an input may be."""

    jsonl = "jsonl"
    csv = "csv"


def run(
    input: Annotated[  # noqa: A002 - the name users see in --help
        str,
        typer.Argument(metavar="INPUT", help="A JSONL or CSV file; - is standard input.", show_default=False),
    ],
    *,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="provider/model for all lines; else each line's own.")
    ] = None,
    prompt: Annotated[
        str | None,
        typer.Option(help='What to ask of each line: a template over its fields, "Classify: {{ text }}".'),
    ] = None,
    system: Annotated[
        str | None, typer.Option(help="A system message for lines that have none; may be a template too.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(
            "--param",
            "-p",
            metavar="NAME=VALUE",
            help="A request option for all lines, such as temperature=0.2; repeatable. Values are JSON, else text.",
        ),
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            "--out",
            "-o",
            help="Results file: .csv gets rows, any other name JSONL; - is standard output. "
            "[default: INPUT with .results.jsonl or .results.csv]",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="What INPUT is. [default: by its name; standard input: jsonl]",
            show_default=False,
        ),
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Lines in flight at most.")
    ] = 64,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Bound of each answer, for all lines.")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Ask only the first so many lines.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be asked, how many tokens, what it would cost.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object on standard output at the end.")
    ] = False,
    skip_invalid: Annotated[
        bool, typer.Option("--skip-invalid", help="Go on without the lines that cannot be asked.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Ask the lines again that failed in an earlier run.")
    ] = False,
    streamed: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="Have answers streamed: a silent server is noticed earlier. Results are the same.",
        ),
    ] = False,
    budget: Annotated[
        str | None,
        typer.Option(
            metavar="USD",
            help="The most that the job may be charged, earlier runs included: 0.50. What has no room is not sent.",
        ),
    ] = None,
    fallback: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL", help="provider/model for lines whose own model fails; repeatable, in this order."
        ),
    ] = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before a job that is likely to be dear.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. [default: greenroom.toml, if there is one]")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every failed attempt and restart.")
    ] = False,
) -> None:
    r"""Answer a file of prompts through any model; interrupted, the same command goes on where it was.

    Each line is JSON: {"prompt": "..."}, {"messages": [...]} or an OpenAI batch line; "custom_id" names its result.
    Or INPUT is CSV with a row of column names: --prompt says what to ask of each row.
    Results are OpenAI batch output lines, or CSV rows, in the order of completion; costs are kept (greenroom costs).

    \b
    Examples:
      greenroom run tickets.jsonl
          with the provider whose key is set, else a local server, else simulated
      greenroom run tickets.jsonl --model openai/gpt-5.4-mini --dry-run
          what it would ask and cost; sends nothing
      greenroom run tickets.csv --prompt "Classify as bug, wish or praise: {{ text }}" -p temperature=0
          each row's column "text" in the prompt's place; answers beside the columns, in tickets.results.csv
      greenroom run tickets.jsonl --prompt 'Answer {{ name }}, in {{ fields["mother tongue"] }}: {{ text }}'
          fields of JSON lines; fields[...] for names with spaces
      greenroom run tickets.jsonl --limit 10 -o first.jsonl
          the first ten lines, to look at
      greenroom run tickets.jsonl --budget 0.50 --max-tokens 300
          never more than half a dollar; the same command with a larger budget goes on
      greenroom run tickets.jsonl --retry-failed
          ask the failed ones again
      cat tickets.jsonl | greenroom run - -o - | jq .response.body.choices[0].message.content

    Ctrl-C lets what is in flight finish (again: drops it), and keeps all results.

    Exit codes: 0 all answered, 1 some lines failed, 2 usage or configuration, 3 no room
    in a budget, 130 interrupted.
    """
    log_to(sys.stderr, level="info" if verbose else "critical")
    options = Options(
        input=input,
        model=model,
        prompt=prompt,
        params=tuple(param or ()),
        out=out,
        form=form.value if form else None,
        concurrency=concurrency,
        max_tokens=max_tokens,
        system=system,
        limit=limit,
        dry_run=dry_run,
        as_json=as_json,
        skip_invalid=skip_invalid,
        retry_failed=retry_failed,
        streamed=streamed,
        budget_pusd=_budget(budget),
        fallbacks=tuple(fallback or ()),
        yes=yes,
        config=config,
    )
    try:
        code = asyncio.run(_run(options))
    except RuntimeFailed as error:
        fail(f"{error}; the same command goes on where it was, and with -v shows the log", EXIT_FAILED_ITEMS)
    except (ConfigError, BadInput, JobRefused, StorageFailed, Refused, OSError) as error:
        fail(str(error))
    except StartFailed as error:
        fail(str(error.__cause__ or error))
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    raise typer.Exit(code)


def _budget(text: str | None) -> int | None:
    try:
        return None if text is None else pico_usd(text)
    except ValueError as error:
        fail(f"--budget: {error}")


async def _run(options: Options) -> int:
    """From options to an exit code: settings, input, checks, then the job."""
    settings = await anyio.to_thread.run_sync(partial(load_settings, options.config))
    chosen = await choose_providers(settings, environment())
    note(chosen.how_asked(options.model))
    with ExitStack() as files:
        request = inputs.job_request(options, chosen, files)
        found = await inputs.look_at(request, options)
        capped = options.budget_pusd is not None or bool(Budgets(settings.budgets).bind(Account()))
        aliases = aliases_of(settings, CONFIG_FILE)
        spending = await anyio.to_thread.run_sync(
            partial(Spending, found, chosen, aliases, options.fallbacks, capped=capped)
        )
        spending.check_budget(options.budget_pusd)
        if options.dry_run:
            spending.dry_run(as_json=options.as_json)
            return EXIT_OK
        if options.to_stdout:
            request = inputs.through_a_spool(request, found, settings, files)
        inputs.check_writable(request.out)
        return await _answer(options, settings, chosen, request, spending)


async def _answer(
    options: Options, settings: Settings, chosen: Chosen, request: JobRequest, spending: Spending
) -> int:
    """Start the runtime, open the job, see it through."""
    found = spending.found
    async with Runtime(
        settings, chosen=chosen, simulate_models=report.simulated_models(found, chosen)
    ) as runtime:
        opened = await runtime.open_job(request, found)
        if opened.complete:
            # Nothing is asked; the output is written anew where it was removed, mended where it was cut.
            job = await runtime.start_job(opened)
            with Copier(request.out if options.to_stdout else None, job.stop) as copier:
                await job.wait()
                await copier.finish()
            return copier.verdict(report.already_complete(opened, options))
        if opened.resumed:
            again = f", {opened.retried} failed ones are asked again" if opened.retried else ""
            note(f"going on: {opened.finished} of {found.lines} lines have their results{again}")
        spending.confirm(opened, settings, options)
        # What start-up left behind lives as long as the process: no collection need look through it again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(max(_YOUNG_OBJECTS, _OBJECTS_PER_CALL * request.concurrency))
        started_s = asyncio.get_running_loop().time()
        job = await runtime.start_job(opened)
        with Copier(request.out if options.to_stdout else None, job.stop) as copier:
            last = await _watch(job, opened, options)
            await copier.finish()
        code = copier.verdict(
            report.ended(last, opened, asyncio.get_running_loop().time() - started_s, options)
        )
    await anyio.to_thread.run_sync(partial(report.charged_besides, database_url(settings), last))
    return code


async def _watch(job: Job, opened: OpenJob, options: Options) -> JobProgress:
    """Show the job's progress until it ends. The first SIGINT or SIGTERM stops it gently, the second at once."""
    loop = asyncio.get_running_loop()
    waiting = asyncio.ensure_future(job.wait())
    this_task = asyncio.current_task()
    signals = 0

    def interrupted() -> None:
        nonlocal signals
        signals += 1
        if signals == 1:
            note("stopping: what is in flight finishes; Ctrl-C again drops it")
            job.stop()
        elif this_task is not None:
            this_task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupted)
    try:
        with LiveView(notes, f"{opened.request.source} → {inputs.shown_out(opened, options)}") as view:
            while not waiting.done():
                view.show(await job.progress())
                await asyncio.wait({waiting}, timeout=_LOOK_EVERY_S)
            last = await waiting
            view.show(last)
            return last
    except asyncio.CancelledError:
        raise KeyboardInterrupt from None
    finally:
        waiting.cancel()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
