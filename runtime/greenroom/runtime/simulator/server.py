"""The simulator's HTTP server: life cycle, keys, dispatch, and pages that tell what has happened.

It is a plain `aiohttp.web.Server` with a table of paths and not an Application: routing, middlewares and signals of
the latter cost a third of a request, and the simulator is also the upstream of the benchmarks.
"""

import asyncio
import hmac
import itertools
import secrets
from types import TracebackType
from typing import Self

import msgspec
import structlog
from aiohttp import StreamReader, web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.web_protocol import RequestHandler

from greenroom.actors.kernel import Clock
from greenroom.runtime.simulator.delivery import hang_up, json_response
from greenroom.runtime.simulator.engine import Model
from greenroom.runtime.simulator.exchange import NOTHING_SENT, Counters, Exchange, Statistics
from greenroom.runtime.simulator.journal import Journal, JournalEntry
from greenroom.runtime.simulator.routes import Handler, Routes
from greenroom.runtime.simulator.script import Script, ScriptedService
from greenroom.runtime.simulator.serving import Service
from greenroom.runtime.simulator.settings import SimulatorSettings
from greenroom.runtime.simulator.traffic.advice import retry_after
from greenroom.runtime.simulator.wires import WireError

_MAX_PAGE = 1_000
_KEY_HEADERS = ("x-api-key", "api-key", "x-goog-api-key")
"""Where Anthropic, Azure and Google look for a key."""
_log = structlog.get_logger("greenroom.simulator")


class Simulator:
    """A provider on this machine: a real HTTP server that makes its answers up.

    It speaks the wires of OpenAI, Anthropic, Gemini, Bedrock and Ollama. Use it as
    `async with Simulator(SimulatorSettings(seed=7)) as simulator:` and point a client at `simulator.openai_base_url`, or a
    client of the others at `simulator.url`. An answer depends on the seed, the model, the messages and the parameters only, never
    on the order of arrival, so that an undisturbed run and a resumed one get equal bodies, ids included.

    Args:
        settings: How it behaves; the defaults answer at once and let everybody on this machine in.
        clock: What latencies wait on and what stamps the journal.
        script: Answers that were written down; None: they are made up.
    """

    def __init__(
        self,
        settings: SimulatorSettings | None = None,
        *,
        clock: Clock | None = None,
        script: Script | None = None,
    ) -> None:
        self.settings = settings or SimulatorSettings()
        self._clock = clock or Clock()
        self._journal = Journal(capacity=self.settings.journal_capacity, path=self.settings.journal_path)
        self._counters = Counters()
        self._service = (
            Service(self.settings, self._clock, self._record)
            if script is None
            else ScriptedService(self.settings, self._clock, self._record, script)
        )
        pages = {"/sim/journal": self._show_journal, "/sim/stats": self._show_statistics}
        self._routes = Routes(self._service, pages)
        key = self.settings.api_key
        self._key = None if key is None else key.encode()
        self._request_ids = map(f"req_{secrets.token_hex(8)}%016x".__mod__, itertools.count(1))
        self._started_s = 0.0
        self._runner: web.ServerRunner | None = None
        self._address: tuple[str, int] | None = None

    def __repr__(self) -> str:
        where = f"at {self.url}" if self._address else "not listening"
        return (
            f"<Simulator {where}, {self._counters.requests} requests, {self._counters.in_flight} in flight>"
        )

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    @property
    def url(self) -> str:
        """The server's root, such as "http://127.0.0.1:4010".

        Raises:
            RuntimeError: The simulator is not listening.
        """
        if self._address is None:
            raise RuntimeError("the simulator is not listening; start it with `async with` or start()")
        host, port = self._address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def openai_base_url(self) -> str:
        """What an OpenAI client takes as its base URL: the root and /v1. Raises as `url` does."""
        return f"{self.url}/v1"

    @property
    def journal(self) -> tuple[JournalEntry, ...]:
        """The newest requests, oldest first, at most `journal_capacity` of them; readable after closing too."""
        return self._journal.entries

    @property
    def models(self) -> tuple[Model, ...]:
        """The models that are served."""
        return tuple(self._service.models.values())

    def statistics(self) -> Statistics:
        """Counts since the start."""
        counters = self._counters
        return Statistics(
            uptime_s=round(self._clock.monotonic() - self._started_s, 3),
            requests=counters.requests,
            in_flight=counters.in_flight,
            peak_in_flight=counters.peak_in_flight,
            by_status={str(status): count for status, count in sorted(counters.by_status.items())},
            faults=dict(sorted(counters.faults.items())),
            limited=dict(sorted(counters.limited.items())),
            abandoned=counters.abandoned,
            prompt_tokens=counters.prompt_tokens,
            completion_tokens=counters.completion_tokens,
            busiest_minute_requests=counters.busiest_minute_requests,
            busiest_minute_tokens=counters.busiest_minute_tokens,
            journal_entries=self._journal.recorded,
            journal_dropped=self._journal.dropped,
        )

    async def start(self) -> None:
        """Opens the journal and listens. Cancelled or failed, nothing stays open.

        Raises:
            OSError: The address is taken or not this machine's, or the journal's file cannot be opened.
            RuntimeError: It is listening already.
        """
        if self._runner is not None:
            raise RuntimeError(f"the simulator is listening already, at {self.url}")
        await self._journal.open()
        server = web.Server(
            self._serve,
            request_factory=self._make_request,
            handler_cancellation=True,
            access_log=None,
        )
        # aiohttp takes 0 for "wait without end".
        grace_s = max(self.settings.shutdown_grace_s, 0.001)
        self._runner = web.ServerRunner(server, shutdown_timeout=grace_s)
        try:
            await self._runner.setup()
            await web.TCPSite(self._runner, self.settings.host, self.settings.port, backlog=4_096).start()
        except BaseException:
            await self.aclose()
            raise
        self._started_s = self._clock.monotonic()
        host, port = self._runner.addresses[0][:2]
        self._address = (host, port)

    async def aclose(self) -> None:
        """Stops listening, lets open requests finish for `shutdown_grace_s`, cancels the rest, closes the journal.

        Closing twice does nothing. **Cancelled, it may leave connections open** until the loop ends.
        """
        runner, self._runner, self._address = self._runner, None, None
        if runner is not None:
            await runner.cleanup()
        await self._journal.aclose()

    def _make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: RequestHandler,
        writer: AbstractStreamWriter,
        task: asyncio.Task[None],
    ) -> web.BaseRequest:
        loop = asyncio.get_running_loop()
        limit = self.settings.max_body_bytes
        return web.BaseRequest(message, payload, protocol, writer, task, loop, client_max_size=limit)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        counters = self._counters
        counters.opened()
        clock = self._clock
        exchange = Exchange(
            request,
            next(self._request_ids),
            arrived_s=clock.time(),
            started_s=clock.monotonic(),
            in_flight=counters.in_flight,
        )
        try:
            try:
                return await self._handler(exchange)(exchange)
            except WireError as error:
                return await self._refuse(exchange, error)
            except web.HTTPRequestEntityTooLarge:
                limit = self.settings.max_body_bytes
                too_large = WireError(
                    413, f"The request is larger than {limit} bytes.", code="request_too_large"
                )
                return await self._refuse(exchange, too_large)
            except web.RequestPayloadError as error:
                unread = WireError(400, f"The body of the request cannot be read: {error}.")
                return await self._refuse(exchange, unread)
            except ConnectionError:
                self._left(exchange, "client_gone")
                return hang_up(exchange, reset=True)
            except Exception:
                _log.exception("simulator_failed", request_id=exchange.request_id)
                if exchange.recorded:
                    raise
                failed = WireError(500, "The simulator failed; its log says why.", kind="server_error")
                return await self._refuse(exchange, failed)
        except asyncio.CancelledError:
            self._left(exchange, "simulator_stopped" if self._runner is None else "client_gone")
            raise
        finally:
            counters.closed()

    def _handler(self, exchange: Exchange) -> Handler:
        """Who serves this request; a `WireError` for wrong keys, unknown paths and wrong methods."""
        handler = self._routes.find(exchange)
        if self._key is not None:
            self._check_key(exchange, self._key)
        return handler

    def _check_key(self, exchange: Exchange, key: bytes) -> None:
        headers = exchange.request.headers
        given = headers.get("Authorization")
        if given:
            key = b"Bearer " + key
        else:
            given = next((headers[name] for name in _KEY_HEADERS if name in headers), None)
            given = given or exchange.request.query.get("key")
        if not given:
            raise exchange.wire.wrong_key(missing=True)
        if not hmac.compare_digest(given.encode(errors="surrogateescape"), key):
            raise exchange.wire.wrong_key(missing=False)

    async def _refuse(self, exchange: Exchange, error: WireError) -> web.StreamResponse:
        headers = {**error.headers, **exchange.wire.error_headers(error)}
        exchange.retry_after_s = error.retry_after_s
        form = self.settings.retry_after_form or exchange.wire.advice
        if error.retry_after_s is not None and form is not None:
            advice, exchange.retry_after_s = retry_after(error.retry_after_s, form, self._clock.time())
            headers = {**headers, **advice}
        if not exchange.recorded:
            exchange.error_code = error.code or error.kind
            exchange.finish_reason = None
            exchange.completion_tokens = 0
            try:
                await self._record(exchange, error.status)
            except WireError as journal_failed:
                error = journal_failed
                headers = exchange.wire.error_headers(error)
        return json_response(exchange, error.status, exchange.wire.error(error, exchange.request_id), headers)

    async def _record(self, exchange: Exchange, status: int) -> None:
        """Writes the journal's entry, before anything is sent; a `WireError` where the file does not take it."""
        exchange.recorded = True
        entry = self._entry(exchange, status)
        written = self._journal.record_nowait(entry)
        if written is not None:
            try:
                await asyncio.shield(written)
            except OSError as error:
                exchange.error_code = "journal_failed"
                self._journal.replace(self._entry(exchange, 500, sequence=entry.sequence))
                self._counters.by_status[500] += 1
                raise WireError(
                    500, f"The simulator's journal cannot be written: {error}.", kind="server_error"
                ) from None
        self._counters.recorded(entry, self._clock.monotonic() - self._started_s)

    def _left(self, exchange: Exchange, why: str) -> None:
        """Notes that the connection ended: in the journal where nothing was sent, else by a count."""
        if exchange.recorded:
            self._counters.abandoned += why == "client_gone"
            return
        exchange.recorded = True
        exchange.error_code = why
        entry = self._entry(exchange, NOTHING_SENT)
        self._journal.record_nowait(entry)
        self._counters.recorded(entry, self._clock.monotonic() - self._started_s)

    def _entry(self, exchange: Exchange, status: int, *, sequence: int = 0) -> JournalEntry:
        return exchange.entry(sequence or self._journal.recorded + 1, status, self._clock.monotonic())

    async def _show_statistics(self, exchange: Exchange) -> web.StreamResponse:
        """GET /sim/stats. Not in the journal itself, as no page about the simulator is."""
        exchange.recorded = True
        return json_response(exchange, 200, msgspec.json.encode(self.statistics()))

    async def _show_journal(self, exchange: Exchange) -> web.StreamResponse:
        """GET /sim/journal?after=SEQUENCE&limit=COUNT: entries with a higher sequence number, oldest first."""
        exchange.recorded = True
        query = exchange.request.query
        try:
            after, limit = int(query.get("after", "0")), int(query.get("limit", "100"))
        except ValueError:
            raise WireError(400, "'after' and 'limit' are whole numbers.", param="after") from None
        entries = self._journal.after(after, min(max(limit, 1), _MAX_PAGE))
        page = {
            "object": "list",
            "data": entries,
            "recorded": self._journal.recorded,
            "dropped": self._journal.dropped,
        }
        return json_response(exchange, 200, msgspec.json.encode(page))
