"""`greenroom run`: the main job. A file of prompts through the tree, resumable."""

import asyncio
import gc
import os
import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio.to_thread
import typer
from msgspec import Struct

from greenroom.actors.batch import (
    Defaults,
    JobProgress,
    JobRefused,
    JobRequest,
    OpenJob,
    Scan,
    absolute,
    default_out,
    scan,
)
from greenroom.actors.flow import RuntimeFailed
from greenroom.actors.kernel import Refused, StartFailed
from greenroom.actors.settings import Settings
from greenroom.actors.storage import StorageFailed
from greenroom.runtime.cli import report
from greenroom.runtime.cli.live import LiveView
from greenroom.runtime.cli.output import (
    EXIT_FAILED_ITEMS,
    EXIT_INTERRUPTED,
    EXIT_OK,
    fail,
    note,
    notes,
)
from greenroom.runtime.config import Chosen, ConfigError, choose_providers, environment, load_settings
from greenroom.runtime.runtime import Job, Runtime
from greenroom.runtime.telemetry import log_to

_LOOK_EVERY_S = 0.25
_SHOWN_BAD_LINES = 10


class Options(Struct, frozen=True, kw_only=True):
    """The command's options, as given."""

    input: str
    model: str | None
    out: Path | None
    concurrency: int
    max_tokens: int | None
    system: str | None
    limit: int | None
    dry_run: bool
    as_json: bool
    skip_invalid: bool
    retry_failed: bool
    config: Path | None


def run(
    input: Annotated[  # noqa: A002 - the name users see in --help
        str,
        typer.Argument(
            metavar="INPUT", help="A JSONL file of prompts; - is standard input.", show_default=False
        ),
    ],
    *,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="provider/model for all lines; else each line's own.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Results file. [default: INPUT with .results.jsonl]")
    ] = None,
    concurrency: Annotated[
        int, typer.Option("--concurrency", "-c", min=1, help="Lines in flight at most.")
    ] = 64,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Bound of each answer, for all lines.")
    ] = None,
    system: Annotated[str | None, typer.Option(help="A system message for lines that have none.")] = None,
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
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. [default: greenroom.toml, if there is one]")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every failed attempt and restart.")
    ] = False,
) -> None:
    r"""Answer a file of prompts through any model; interrupted, the same command goes on where it was.

    Each line is JSON: {"prompt": "..."}, {"messages": [...]} or an OpenAI batch line; "custom_id" names its result.
    Results are OpenAI batch output lines, in the order of completion; costs are kept (greenroom costs).

    \b
    Examples:
      greenroom run tickets.jsonl
          with the provider whose key is set, else a local server, else simulated
      greenroom run tickets.jsonl --model openai/gpt-5-mini --dry-run
          what it would ask and cost; sends nothing
      greenroom run tickets.jsonl --limit 10 -o first.jsonl
          the first ten lines, to look at
      greenroom run tickets.jsonl --retry-failed
          ask the failed ones again
      cat tickets.jsonl | greenroom run - -o answers.jsonl --json

    Ctrl-C lets what is in flight finish (again: drops it), and keeps all results.

    Exit codes: 0 all answered, 1 some lines failed, 2 usage or configuration, 130 interrupted.
    """
    log_to(sys.stderr, level="info" if verbose else "critical")
    options = Options(
        input=input,
        model=model,
        out=out,
        concurrency=concurrency,
        max_tokens=max_tokens,
        system=system,
        limit=limit,
        dry_run=dry_run,
        as_json=as_json,
        skip_invalid=skip_invalid,
        retry_failed=retry_failed,
        config=config,
    )
    try:
        code = asyncio.run(_run(options))
    except RuntimeFailed as error:
        fail(f"{error}; the same command goes on where it was", EXIT_FAILED_ITEMS)
    except (ConfigError, JobRefused, StorageFailed, Refused, OSError) as error:
        fail(str(error))
    except StartFailed as error:
        fail(str(error.__cause__ or error))
    except KeyboardInterrupt:
        code = EXIT_INTERRUPTED
    raise typer.Exit(code)


async def _run(options: Options) -> int:
    """From options to an exit code: settings, input, checks, then the job."""
    settings = await anyio.to_thread.run_sync(partial(load_settings, options.config))
    chosen = await choose_providers(settings, environment())
    note(chosen.how)
    with ExitStack() as files:
        request = _request(options, chosen, files)
        found = await _scan(request, options)
        await anyio.to_thread.run_sync(report.check_models, found, chosen)
        if options.dry_run:
            await anyio.to_thread.run_sync(partial(report.dry_run, found, chosen, as_json=options.as_json))
            return EXIT_OK
        _check_writable(request.out)
        return await _answer(options, settings, chosen, request, found)


async def _answer(
    options: Options, settings: Settings, chosen: Chosen, request: JobRequest, found: Scan
) -> int:
    """Start the runtime, open the job, see it through."""
    async with Runtime(
        settings, chosen=chosen, simulate_models=report.simulated_models(found, chosen)
    ) as runtime:
        opened = await runtime.open_job(request, found)
        if opened.complete:
            # Nothing is asked; the output is written anew where it was removed, mended where it was cut.
            await (await runtime.start_job(opened)).wait()
            return report.already_complete(opened, as_json=options.as_json)
        if opened.resumed:
            again = f", {opened.retried} failed ones are asked again" if opened.retried else ""
            note(f"going on: {opened.finished} of {found.lines} lines have their results{again}")
        # What start-up left behind lives as long as the process: no collection need look through it again.
        gc.collect()
        gc.freeze()
        started_s = asyncio.get_running_loop().time()
        last = await _watch(await runtime.start_job(opened), opened)
        return report.ended(
            last, opened, asyncio.get_running_loop().time() - started_s, as_json=options.as_json
        )


async def _watch(job: Job, opened: OpenJob) -> JobProgress:
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
        with LiveView(notes, f"{opened.request.source} → {opened.request.out}") as view:
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


def _request(options: Options, chosen: Chosen, files: ExitStack) -> JobRequest:
    if options.input == "-":
        path, source = _spool(files), "standard input"
        if options.out is None:
            fail("standard input has no name to call the results by: say where they go, with --out FILE")
        out = options.out
    else:
        path = Path(options.input)
        source = str(absolute(path))
        if not path.is_file():
            fail(f"{path}: {'is a directory, not a file' if path.is_dir() else 'there is no such file'}")
        out = options.out or default_out(path)
    if options.input != "-" and absolute(out) == absolute(path):
        fail(f"{out} is the input itself: give another file with --out")
    return JobRequest(
        path=path,
        source=source,
        out=absolute(out),
        defaults=Defaults(
            model=options.model,
            fallback_model=chosen.default_model,
            max_tokens=options.max_tokens,
            system=options.system,
        ),
        limit=options.limit,
        concurrency=options.concurrency,
        retry_failed=options.retry_failed,
    )


def _spool(files: ExitStack) -> Path:
    """Standard input as a file: it is looked at whole before any line of it is asked."""
    spool = files.enter_context(tempfile.NamedTemporaryFile(prefix="greenroom-", suffix=".jsonl"))  # noqa: SIM115 - the caller closes it
    # Reading blocks and cannot be cancelled, so Ctrl-C has to raise rather than to cancel.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while block := sys.stdin.buffer.read(1 << 20):
            spool.write(block)
    finally:
        signal.signal(signal.SIGINT, before)
    spool.flush()
    return Path(spool.name)


async def _scan(request: JobRequest, options: Options) -> Scan:
    """Look at the whole input before anything is sent, and refuse what cannot be asked."""
    with notes.status(f"reading {request.source}") as status:
        look = partial(
            scan,
            request.path,
            request.defaults,
            limit=options.limit,
            progress=lambda lines: status.update(f"reading {request.source}: {lines:,} lines"),
        )
        try:
            found = await anyio.to_thread.run_sync(look)
        except OSError as error:
            fail(f"{request.source} cannot be read: {error.strerror}")
    if found.bad and not options.skip_invalid:
        for bad in found.bad[:_SHOWN_BAD_LINES]:
            note(f"{request.source}, {bad}")
        fail(
            f"{found.bad_count} of {found.bad_count + found.lines} lines cannot be asked; nothing was sent. "
            f"Mend them, or go on without them with --skip-invalid"
        )
    if found.bad:
        note(f"passing over {found.bad_count} lines that cannot be asked; the first: {found.bad[0]}")
    if not found.lines:
        fail(f'{request.source} holds no prompts: one JSON object a line, such as {{"prompt": "Hello"}}')
    return found


def _check_writable(out: Path | None) -> None:
    """Refuse an output that cannot be written before any money is spent; a file made by looking is removed."""
    if out is None:
        return
    if out.exists() and not out.is_file():
        # Opening a pipe waits for its reader, and a device may be read without end.
        fail(f"{out} is {'a directory' if out.is_dir() else 'no ordinary file'}: give a file with --out")
    if not out.parent.is_dir():
        fail(f"{out.parent}: there is no such directory; make it, or give another file with --out")
    is_new = not out.exists()
    try:
        os.close(os.open(out, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644))
    except OSError as error:
        fail(f"{out} cannot be written: {error.strerror}; give another file with --out")
    if is_new:
        with suppress(OSError):
            out.unlink()
