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
from typing import Self, TypeVar, Unpack, overload

import anyio
import anyio.to_thread
from msgspec import structs

from greenroom.actors.asks import Asker
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
from greenroom.actors.catalog import Choice, Choose, ListModels, ProviderModels, Requirements, Strategy
from greenroom.actors.embedding import Embeddings
from greenroom.actors.event_stream import EventStream
from greenroom.actors.flow import Reply
from greenroom.actors.kernel import Clock
from greenroom.actors.providers.embeddings import EmbeddingRequest
from greenroom.actors.providers.hosts import SIMULATOR, simulator
from greenroom.actors.settings import Settings
from greenroom.actors.structured import ParsedReply, chat_parsed, form_of_schema, form_of_type
from greenroom.actors.tools import ToolAsker
from greenroom.runtime.config import load_settings
from greenroom.runtime.discovery import Chosen, choose_providers
from greenroom.runtime.job import Job, unless_failed
from greenroom.runtime.life import Life
from greenroom.runtime.options import (
    Asked,
    Messages,
    Options,
    TermsOptions,
    read_budget,
    read_only_terms,
    read_options,
)
from greenroom.runtime.retention import Purged, purge
from greenroom.runtime.session import (
    ExportedSession,
    Session,
    SessionOptions,
    import_session,
    open_session,
)
from greenroom.runtime.telemetry import Telemetry
from greenroom.supervisors.tree import Tree

__all__ = ["Job", "Runtime"]

_T = TypeVar("_T")
_TOOL_THREADS = 40
"""As many as anyio keeps for everything else: functions that hang must not take the threads of others."""
_SIMULATED_LATENCY = "lognormal(p50=0.15,p95=0.4)"


class Runtime:
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
        self.telemetry = Telemetry()

    async def __aenter__(self) -> Self:
        """Start the tree.

        Raises:
            ConfigError: the configuration or a key is not usable.
            DatabaseUnusable: the database is another's, damaged, or cannot be made.
        """
        async with AsyncExitStack() as stack:
            settings = await self._settings()
            chosen = self._chosen or await choose_providers(settings, self._environ)
            if chosen.simulated:
                chosen = await self._simulate(stack, chosen)
            await self._life.start(stack, settings, chosen, clock=self._clock, tell=self.telemetry.tell)
            self.chosen = chosen
            self._tool_threads = anyio.CapacityLimiter(_TOOL_THREADS)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    @overload
    async def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: None = None,
        reasks: int = ...,
        **options: Unpack[Options],
    ) -> Reply: ...

    @overload
    async def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: type[_T],
        reasks: int = ...,
        **options: Unpack[Options],
    ) -> ParsedReply[_T]: ...

    @overload
    async def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: Mapping[str, object],
        reasks: int = ...,
        **options: Unpack[Options],
    ) -> ParsedReply[object]: ...

    async def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: type[_T] | Mapping[str, object] | None = None,
        reasks: int = 2,
        **options: Unpack[Options],
    ) -> Reply | ParsedReply[_T] | ParsedReply[object]:
        """Ask a model, and wait for its whole answer.

            reply = await rt.chat(None, "Where is the Eiffel tower?", response_type=Place)
            print(reply.parsed.city)

        Args:
            model: `provider/model`; None: the default model.
            messages: the conversation, as `Message`s or dicts in OpenAI's shape, or one user message's text.
            response_type: what the answer is to be, in `reply.parsed`: a `msgspec.Struct`, a dataclass, a pydantic
                model, or a JSON Schema as a dict. It is asked for as JSON, and decoded strictly.
            reasks: how often an answer that is not of `response_type` is shown to the model with what is wrong.
            **options: see `Options`.

        Where a budget applies and `max_tokens` is None, one is set, and told as `reply.max_tokens_set`.

        Raises:
            Refused: before anything is sent: an unknown or unpriced model, a budget without room
                (`BudgetExceeded`), a database that cannot be written.
            ProviderFailed: no attempt succeeded; `AnswerInvalid`: no answer was of `response_type`.
            OptionInvalid: an option or a message is wrong; it is named.
            TypeError: JSON cannot hold `response_type`, or it is no object there.
            ValueError: the JSON Schema makes no sense or has a word that is not checked, or `reasks` is not 0 to 20.

        Cancelling closes the connection and settles what was used; see `Flow.chat`.
        """
        asked = self._read(model, messages, options)
        asker = self._asker(asked)
        if response_type is None:
            return await asker.chat(asked.request, asked.terms)
        ask = partial(
            chat_parsed, asker, self._life.system.clock, asked.request, reasks=reasks, terms=asked.terms
        )
        if isinstance(response_type, Mapping):
            return await ask(form_of_schema(response_type))
        return await ask(form_of_type(response_type))

    def stream(self, model: str | None, messages: Messages, **options: Unpack[Options]) -> EventStream:
        """Ask a model, and be told its answer as it comes.

            async with rt.stream("openai/gpt-5-mini", "Why is the sky blue?") as events:
                async for event in events:
                    if isinstance(event, TextDelta):
                        print(event.text, end="")
            print(events.reply.cost_usd)

        Takes what `chat` takes. Nothing is asked before the block is entered; what is raised there and in the
        iteration stands at `EventStream`. Leaving the block early closes the connection and settles what came.

        Raises:
            OptionInvalid: an option or a message is wrong; it is named.
        """
        asked = self._read(model, messages, options)
        return self._asker(asked).stream(asked.request, asked.terms)

    async def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        dimensions: int | None = None,
        **options: Unpack[TermsOptions],
    ) -> Embeddings:
        """Turn texts into vectors, arrays of 32-bit floats in the order of the texts.

            vectors = await rt.embed("openai/text-embedding-3-small", ["a", "b"])
            print(len(vectors), len(vectors[0]), vectors.cost_usd)

        Args:
            model: `provider/model`.
            texts: one or many; more than a request may hold are asked for one request after another.
            dimensions: shortens the vectors, where the model can.
            **options: see `TermsOptions`; of all requests together.

        Raises:
            OptionInvalid: an option is wrong; it is named.
            ProviderFailed: a text is empty or there is none, the provider has no embeddings, or no attempt succeeded.
            Refused: as `chat`.
        """
        inputs = (texts,) if isinstance(texts, str) else tuple(texts)
        return await self._running().flow.embed(
            EmbeddingRequest(model=model, inputs=inputs, dimensions=dimensions), read_only_terms(options)
        )

    async def models(self, *providers: str, refresh: bool = False) -> tuple[ProviderModels, ...]:
        """What models there are: those that hosts list and those that the configuration names, by provider.

            for found in await rt.models():
                print(found.provider, found.unreachable or [card.model for card in found.models])

        Args:
            *providers: which; none: all in use.
            refresh: whether to ask the hosts anew; else what they said is kept for an hour, a failure for a minute.

        Raises:
            UnknownModel: one of the providers is not in use.
        """
        asked = self._running().catalog.call(ListModels(providers, refresh=refresh), timeout=None)
        return await unless_failed(asked, self._life.failure)

    async def choose(
        self,
        requirements: Requirements | None = None,
        *,
        strategy: Strategy = "balanced",
        input_tokens: int = 0,
        output_tokens: int = 0,
    ) -> Choice:
        """Choose a model as `model="AUTO"` would, and explain it; nothing is asked.

            choice = await rt.choose(Requirements(vision=True, max_output_usd_per_mtok=5), strategy="best")
            print(choice.model, choice.reason, [(one.model, one.why) for one in choice.rejected])

        Args:
            requirements: what it must have; no strategy breaks one of them.
            strategy: which of those that have it.
            input_tokens: how many go in, for what the call would cost; 0: not known.
            output_tokens: the most that come out; 0: not known.

        Raises:
            NothingEligible: no model meets the requirements; it says what rejected each, and what would help.
        """
        asked = Choose(
            requirements=requirements or Requirements(),
            strategy=strategy,
            input_tokens=input_tokens,
            output_tokens=output_tokens,
        )
        return await unless_failed(self._running().catalog.call(asked, timeout=None), self._life.failure)

    async def batch(
        self,
        source: str | Path,
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
    ) -> Job:
        """Answer every line of a JSONL or CSV file; the same call goes on with a job that was interrupted.

        Args:
            source: the file, of OpenAI batch lines, `{"messages": [...]}` or `{"prompt": "..."}`; a name that ends in
                `.csv` holds CSV with a row of column names.
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

        Raises:
            BadLine: the first line that cannot be asked; nothing has been sent.
            BadInput: no line could be asked: the columns, a template or an option is wrong.
            JobRefused: the output belongs to something else, or the input has changed.
            OptionInvalid: `budget_usd` is no sum of dollars.
        """
        request = JobRequest(
            path=Path(source),
            source=str(await anyio.to_thread.run_sync(absolute, Path(source))),
            out=await anyio.to_thread.run_sync(absolute, Path(out)) if out is not None else None,
            defaults=Defaults(
                model=model,
                fallback_model=self.chosen.default_model,
                max_tokens=max_tokens,
                system=system,
                prompt=prompt,
                options=job_options(params or {}),
            ),
            form=form_of(Path(source)),
            concurrency=concurrency,
            retry_failed=retry_failed,
            streamed=streamed,
            budget_pusd=read_budget(budget_usd),
            tag=tag,
        )
        found = await anyio.to_thread.run_sync(
            partial(scan, request.path, request.defaults, form=request.form)
        )
        if found.bad:
            raise found.bad[0]
        return await self.start_job(await self.open_job(request, found))

    async def session(self, name: str, **options: Unpack[SessionOptions]) -> Session:
        """Have a conversation that outlives this process: make it, or go on with the one of this name.

            session = await rt.session("user-42", model="openai/gpt-5-mini", system="Be brief.", budget_usd="0.50")
            reply = await session.say("My name is Ada.")

        Args:
            name: 1 to 200 printable characters.
            **options: see `SessionOptions`; what is not said stays as it was.

        Raises:
            OptionInvalid: an option is unknown or has no such value.
            ValueError: no session can have this name.
            StorageFailed: it cannot be read or written.
        """
        opening = open_session(self._running(), name, self.chosen.default_model, options)
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
        importing = import_session(self._running(), document, name, self.chosen.default_model)
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
            StorageFailed: nothing was removed.
        """
        return await purge(
            self._running().store,
            self._life.now_ms(),
            sessions_days=sessions_days,
            jobs_days=jobs_days,
            dry_run=dry_run,
        )

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
        return Job(await unless_failed(starting, self._life.failure), opened, self._life.failure)

    def _read(self, model: str | None, messages: Messages, options: Options) -> Asked:
        self._running()
        return read_options(model or self.chosen.default_model or "", messages, options)

    def _asker(self, asked: Asked) -> Asker:
        """Who asks, of all that stands before the flow where it is wanted."""
        asker: Asker = self._running().flow
        if asked.toolbox is not None:
            clock = self._life.system.clock
            asker = ToolAsker(asker, clock, asked.toolbox, asked.tool_terms, self._tool_threads)
        return asker

    def _running(self) -> Tree:
        return self._life.running()

    async def _settings(self) -> Settings:
        if isinstance(self._config, Settings):
            return self._config
        path = Path(self._config) if self._config is not None else None
        load: Callable[[], Settings] = partial(load_settings, path)
        return await anyio.to_thread.run_sync(load)

    async def _simulate(self, stack: AsyncExitStack, chosen: Chosen) -> Chosen:
        simulation = await anyio.to_thread.run_sync(import_module, "greenroom.runtime.simulator")
        settings = simulation.SimulatorSettings(
            latency=_SIMULATED_LATENCY, also_serve=tuple(self._simulate_models)
        )
        running = await stack.enter_async_context(simulation.Simulator(settings))
        return structs.replace(
            chosen, providers={**chosen.providers, SIMULATOR: simulator(running.openai_base_url)}
        )
