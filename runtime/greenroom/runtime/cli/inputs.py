"""What `greenroom run` reads and writes: looked at, and refused where it cannot be, before any money is spent."""

import os
import signal
import sys
import tempfile
from contextlib import ExitStack, suppress
from functools import partial
from hashlib import blake2b
from pathlib import Path

import anyio.to_thread
import msgspec
from msgspec import Struct, structs
from rich.text import Text

from greenroom.actors.batch import (
    Defaults,
    InputForm,
    JobRequest,
    OpenJob,
    Scan,
    absolute,
    default_out,
    form_of,
    read_params,
    scan,
)
from greenroom.actors.settings import Settings
from greenroom.runtime.cli.output import fail, note, notes
from greenroom.runtime.config import cache_folder, database_url
from greenroom.runtime.discovery import Chosen

_SHOWN_BAD_LINES = 10
_STANDARD_INPUT = "standard input"


class Options(Struct, frozen=True, kw_only=True):
    """The command's options, as given."""

    input: str
    model: str | None
    prompt: str | None
    system: str | None
    params: tuple[str, ...]
    out: str | None
    form: InputForm | None
    concurrency: int
    max_tokens: int | None
    limit: int | None
    dry_run: bool
    as_json: bool
    skip_invalid: bool
    retry_failed: bool
    streamed: bool
    budget_pusd: int | None
    fallbacks: tuple[str, ...]
    yes: bool
    config: Path | None

    @property
    def to_stdout(self) -> bool:
        return self.out == "-"


def shown_out(opened: OpenJob, options: Options) -> str:
    """What to call the output."""
    return "standard output" if options.to_stdout else str(opened.request.out)


def job_request(options: Options, chosen: Chosen, files: ExitStack) -> JobRequest:
    """What is asked for. Standard input is read to its end, into a file that `files` closes.

    Raises:
        BadInput: an option is none.
        typer.Exit: input or output cannot be meant so; the reason is said.
    """
    if options.to_stdout and options.as_json:
        fail("--json and --out - both want standard output: write the results to a file, or leave --json out")
    if options.to_stdout and sys.stdout is None:  # pyright: ignore[reportUnnecessaryComparison] - None where a shell closed it
        # Its number is the next file's that is opened, which results would be written into.
        fail("standard output is closed: give a file with --out")
    # Before anything is read, since reading standard input may take long.
    params = read_params(options.params)
    if options.input == "-":
        path, source = _spool(files), _STANDARD_INPUT
        form: InputForm = options.form or "jsonl"
        if options.out is None:
            fail("standard input has no name to call the results by: say where they go, with --out FILE")
        out = Path(options.out)
    else:
        path = Path(options.input)
        source = str(absolute(path))
        if not path.is_file():
            fail(f"{path}: {'is a directory, not a file' if path.is_dir() else 'there is no such file'}")
        form = options.form or form_of(path)
        out = Path(options.out) if options.out is not None else default_out(path, form)
        if absolute(out) == absolute(path):
            fail(f"{out} is the input itself: give another file with --out")
    return JobRequest(
        path=path,
        source=source,
        out=None if options.to_stdout else absolute(out),
        defaults=Defaults(
            model=options.model,
            fallback_model=chosen.default_model,
            max_tokens=options.max_tokens,
            system=options.system,
            prompt=options.prompt,
            options=params,
        ),
        form=form,
        limit=options.limit,
        concurrency=options.concurrency,
        retry_failed=options.retry_failed,
        streamed=options.streamed,
        budget_pusd=options.budget_pusd,
        fallbacks=options.fallbacks,
    )


def _spool(files: ExitStack) -> Path:
    """Standard input as a file: it is looked at whole before any line of it is asked."""
    spool = files.enter_context(tempfile.NamedTemporaryFile(prefix="greenroom-"))  # noqa: SIM115 - the caller closes it
    # Reading blocks and cannot be cancelled, so Ctrl-C has to raise rather than to cancel.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        while block := sys.stdin.buffer.read(1 << 20):
            spool.write(block)
    finally:
        signal.signal(signal.SIGINT, before)
    spool.flush()
    return Path(spool.name)


async def look_at(request: JobRequest, options: Options) -> Scan:
    """Look at the whole input before anything is sent, and refuse what cannot be asked.

    Raises:
        BadInput: no line could be asked: the columns or a template are wrong.
        typer.Exit: lines cannot be asked, or there are none; they are said.
    """
    with notes.status(Text(f"reading {request.source}")) as status:
        look = partial(
            scan,
            request.path,
            request.defaults,
            form=request.form,
            limit=options.limit,
            progress=lambda lines: status.update(Text(f"reading {request.source}: {lines:,} lines")),
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
        what = (
            "no rows below its column names"
            if request.form == "csv"
            else 'no prompts: one JSON object a line, such as {"prompt": "Hello"}'
        )
        fail(f"{request.source} holds {what}")
    return found


def through_a_spool(request: JobRequest, found: Scan, settings: Settings, files: ExitStack) -> JobRequest:
    """The same job with a file of its own in the cache, to be copied to standard output.

    Its name is made of what makes the job this job, so the same command goes on with it. The file lives as long as
    the command; the database holds its rows.
    """
    source = found.digest if request.source == _STANDARD_INPUT else request.source
    what = [database_url(settings), source, request.form, found.columns, request.defaults]
    name = blake2b(msgspec.json.encode(what, order="deterministic"), digest_size=12).hexdigest()
    folder = cache_folder() / "stdout"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    out = absolute(folder / f"{name}.jsonl")
    files.callback(out.unlink, missing_ok=True)
    return structs.replace(request, out=out)


def check_writable(out: Path | None) -> None:
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
