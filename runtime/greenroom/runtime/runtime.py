"""The embedded API: `async with Runtime() as rt:` and ask."""

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from decimal import Decimal
from functools import partial
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import anyio
import anyio.to_thread
from msgspec import structs

from greenroom.actors.batch import (
    Defaults,
    JobRequest,
    OpenJob,
    Scan,
    absolute,
    form_of,
    job_options,
    open_job,
    scan,
)
from greenroom.actors.catalog import is_auto
from greenroom.actors.kernel import Clock
from greenroom.actors.providers.hosts import SIMULATOR, simulator
from greenroom.actors.settings import Settings
from greenroom.runtime.askers import Askers
from greenroom.runtime.asking import Asking
from greenroom.runtime.config import load_settings
from greenroom.runtime.discovery import Chosen, choose_providers
from greenroom.runtime.job import Job, unless_failed
from greenroom.runtime.life import Life
from greenroom.runtime.options import (
    check_ages,
    check_job,
    read_budget,
    read_terms,
)
from greenroom.runtime.retention import Purged, purge
from greenroom.runtime.session import (
    ExportedSession,
    Session,
    SessionOptions,
    import_session,
    open_session,
)
from greenroom.runtime.spool import Source, spool
from greenroom.runtime.telemetry import Telemetry

__all__ = ["Job", "Runtime"]

_SIMULATED_LATENCY = "lognormal(p50=0.15,p95=0.4)"


class Runtime(Asking):
    """greenroom, embedded: the whole tree, within `async with`.

    Args:
        config: settings, or the path of a `greenroom.toml`; None: the one in the working directory, else defaults.
        environ: where keys are looked up; None: the process's environment.
        chosen: providers decided on already (`choose_providers`); None: decided on entering.
        simulate_models: further model names that the simulator shall answer to, where it is used.
        clock: time, for tests.

    Leaving stops new work, ends every actor in reverse order of start, writes what is unwritten and closes the
    database; also when cancelled.
    """

    def __init__(
        self,
        config: Settings | Path | str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        chosen: Chosen | None = None,
        simulate_models: Sequence[str] = (),
        clock: Clock | None = None,
    ) -> None:
        self._config = config
        self._environ = os.environ if environ is None else environ
        self._chosen = chosen
        self._simulate_models = simulate_models
        self._clock = clock
        self._stack = AsyncExitStack()
        self._life = Life()
        self._spooled: set[Path] = set()
        self.telemetry = Telemetry()

    async def __aenter__(self) -> Self:
        """Start the tree.

        Raises:
            ConfigError: the configuration or a key is not usable.
            DatabaseUnusable: the database is another's, damaged, or cannot be made.
        """
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._unspool_all)
            settings = await self._settings()
            chosen = self._chosen or await choose_providers(settings, self._environ)
            if chosen.simulated:
                chosen = await self._simulate(stack, chosen)
            await self.telemetry.start(settings.telemetry, stack)
            await self._life.start(stack, settings, chosen, clock=self._clock, tell=self.telemetry.tell)
            self.chosen = chosen
            tree = self._running()
            self.telemetry.watch("actors", self._life.system.statistics)
            self.telemetry.watch("database", self._life.written)
            self._askers = Askers(settings.cache, self._life.system.clock, tree.catalog)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def batch(
        self,
        source: Source,
        *,
        out: str | Path | None = None,
        model: str | None = None,
        max_tokens: int | None = None,
        prompt: str | None = None,
        system: str | None = None,
        params: Mapping[str, object] | None = None,
        concurrency: int = 64,
        retry_failed: bool = False,
        streamed: bool = False,
        budget_usd: Decimal | str | float | None = None,
        tag: str | None = None,
        timeout_s: float | None = None,
        fallbacks: Sequence[str] = (),
    ) -> Job:
        """Answer every line of a JSONL or CSV file, or of an iterable; the same call goes on with a job that was interrupted.

        Args:
            source: the file, of OpenAI batch lines, `{"messages": [...]}` or `{"prompt": "..."}`; a name that ends in
                `.csv` holds CSV with a row of column names. Or an iterable, async or not, of prompts or of dicts such as
                a line of JSON holds; it is written to a temporary file first, which is there until the runtime is left.
            out: where results are appended, as OpenAI batch output lines, or as CSV rows where the name ends in `.csv`;
                None: they stay in the database.
            model: `provider/model` for all lines; None: each line's own, else the default model.
            max_tokens: bound of each output.
            prompt: what to ask of each line, a sandboxed Jinja template over its fields: `"Classify: {{ text }}"`.
            system: a system message for lines that have none; may be a template too.
            params: request options for all lines, such as `{"temperature": 0.2}`.
            concurrency: how many lines may be in flight.
            retry_failed: ask lines again that failed in an earlier run.
            streamed: have answers streamed, and put together here.
            budget_usd: the most that the job may ever be charged, earlier runs included. A line that has no room waits
                for what lines in flight leave over; when there is none left, the job halts, and the same call with a
                larger budget goes on with it.
            tag: what the spend is booked under besides the job, and what budget of `[budgets.tags]` binds it.
            timeout_s: for each line, waiting and retries included; None: the provider's `stalls.total_s`.
            fallbacks: models that a line goes on to, in their order, when its own fails in a way that another may mend.

        Raises:
            BadLine: the first line that cannot be asked; nothing has been sent.
            BadInput: no line could be asked: the columns, a template or an option is wrong.
            JobRefused: the output belongs to something else, or the input has changed.
            OptionInvalid: `budget_usd` is no sum of dollars, `timeout_s` no time, or one of the others of another type.
            ValueError: a line of an iterable is no text and nothing that JSON can hold.
        """
        self._running()
        check_job(
            concurrency=concurrency,
            fallbacks=fallbacks,
            max_tokens=max_tokens,
            model=model,
            prompt=prompt,
            system=system,
            tag=tag,
        )
        path, name = await self._input(source)
        request = JobRequest(
            path=path,
            source=name,
            out=await anyio.to_thread.run_sync(absolute, Path(out)) if out is not None else None,
            defaults=Defaults(
                model=model,
                fallback_model=self.chosen.default_model,
                max_tokens=max_tokens,
                system=system,
                prompt=prompt,
                options=job_options(params or {}),
            ),
            form=form_of(path),
            concurrency=concurrency,
            retry_failed=retry_failed,
            streamed=streamed,
            budget_pusd=read_budget(budget_usd),
            tag=tag,
            timeout_s=read_terms({"timeout_s": timeout_s}).timeout_s,
            fallbacks=tuple(fallbacks),
        )
        try:
            return await self._scan_and_start(request)
        except Exception:
            await self._unspool(path)
            raise

    async def _input(self, source: Source) -> tuple[Path, str]:
        """The file to read, and what to call it."""
        if isinstance(source, str | Path):
            return Path(source), str(await anyio.to_thread.run_sync(absolute, Path(source)))
        path = await spool(source)
        self._spooled.add(path)
        return path, "an iterable"

    async def _unspool(self, *paths: Path) -> None:
        """Remove those of the files that were written here for jobs."""
        mine = self._spooled.intersection(paths)
        self._spooled -= mine
        with anyio.CancelScope(shield=True):
            for path in mine:
                await anyio.to_thread.run_sync(partial(path.unlink, missing_ok=True))

    async def _unspool_all(self) -> None:
        await self._unspool(*self._spooled)

    async def _scan_and_start(self, request: JobRequest) -> Job:
        found = await anyio.to_thread.run_sync(
            partial(scan, request.path, request.defaults, form=request.form)
        )
        if found.bad:
            raise found.bad[0]
        return await self.start_job(await self.open_job(request, found))

    async def session(self, name: str, **options: Unpack[SessionOptions]) -> Session:
        """Have a conversation that outlives this process: make it, or go on with the one of this name.

            session = await rt.session("user-42", model="openai/gpt-5.4-mini", system="Be brief.", budget_usd="0.50")
            reply = await session.say("My name is Ada.")

        Args:
            name: 1 to 200 printable characters.
            **options: see `SessionOptions`; what is not said stays as it was.

        Raises:
            OptionInvalid: an option is unknown or has no such value.
            ValueError: no session can have this name.
            StorageFailed: it cannot be read or written.
        """
        opening = open_session(self._running(), self._askers, name, self.chosen.default_model, options)
        return await unless_failed(opening, self._life.failure)

    async def import_session(self, document: ExportedSession, *, name: str | None = None) -> Session:
        """Make a session of a document that `Session.export` gave, here or elsewhere: all of it, or nothing.

        Args:
            document: the session.
            name: of the new session; None: as in the document.

        Raises:
            SessionExists: there is a session of that name.
            SessionRefused: the document contradicts itself.
            ValueError: no session can have this name.
            StorageFailed: it cannot be written.
        """
        importing = import_session(self._running(), self._askers, document, name, self.chosen.default_model)
        return await unless_failed(importing, self._life.failure)

    async def purge(
        self, *, sessions_days: int | None = None, jobs_days: int | None = None, dry_run: bool = False
    ) -> Purged:
        """Remove what nobody has used for so many days, for good; None: nothing of that kind.

        Args:
            sessions_days: sessions in which nothing was said since.
            jobs_days: jobs that ended before, with their results; output files stay.
            dry_run: only count them.

        Raises:
            OptionInvalid: less than a day, or no number of days.
            StorageFailed: nothing was removed.
        """
        tree = self._running()
        check_ages(sessions_days=sessions_days, jobs_days=jobs_days)
        found = await purge(
            tree.store,
            self._life.now_ms(),
            sessions_days=sessions_days,
            jobs_days=jobs_days,
            dry_run=dry_run,
        )
        if not dry_run:
            tree.sessions.rest()
        return found

    async def open_job(self, request: JobRequest, found: Scan) -> OpenJob:
        """Find or make the job that `request` describes; nothing is asked yet. Raises as `batch` does."""
        tree = self._running()
        running = tree.jobs.find(request)
        if running is not None:
            return running
        opening = open_job(tree.store, request, found, uuid.uuid4().hex[:12], self._life.now_ms())
        return await unless_failed(opening, self._life.failure)

    async def start_job(self, opened: OpenJob) -> Job:
        """Set an opened job going.

        Raises:
            StartFailed: its output cannot be written, or is not what the job wrote; the cause says which.
        """
        tree = self._running()
        starting = tree.jobs.start(opened, tree.flow, self._life.now_ms)
        running = await unless_failed(starting, self._life.failure)
        return Job(running, opened, tree.store, self._life.failure, self._scan_and_start)

    async def _settings(self) -> Settings:
        if isinstance(self._config, Settings):
            return self._config
        path = Path(self._config) if self._config is not None else None
        load: Callable[[], Settings] = partial(load_settings, path)
        return await anyio.to_thread.run_sync(load)

    async def _simulate(self, stack: AsyncExitStack, chosen: Chosen) -> Chosen:
        simulation = await anyio.to_thread.run_sync(import_module, "greenroom.runtime.simulator")
        named = tuple(name for name in self._simulate_models if not is_auto(name))
        settings = simulation.SimulatorSettings(latency=_SIMULATED_LATENCY, also_serve=named)
        running = await stack.enter_async_context(simulation.Simulator(settings))
        return structs.replace(
            chosen, providers={**chosen.providers, SIMULATOR: simulator(running.openai_base_url)}
        )
