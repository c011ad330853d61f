"""One model's server, a child process: its start, what it says, its end."""

import asyncio
import os
import secrets
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import cast

import msgspec
from yarl import URL

from greenroom.actors.local.sources import Source, failed, served_context_tokens
from greenroom.actors.local.worker import UNLOADABLE, Job
from greenroom.actors.log import Log
from greenroom.actors.settings import LocalServing, Secret

_log = Log(__name__)
_WORKER = str(Path(__file__).with_name("worker.py"))
_TAIL_BYTES = 4096
_TELL_LINES = 8
_MAX_READY_BYTES = 1024
_LAST_WORDS_S = 1.0
_PROBE_S = 5.0


class ModelProcess(asyncio.SubprocessProtocol):
    """A running server of one model. `ModelProcess.start` makes one.

    Attributes:
        base_url: where it answers, on the loopback.
        key: what it wants to be asked with.
        ended: whether the process is gone.
        on_end: called once when it is.
    """

    base_url = ""

    def __init__(self, model: str) -> None:
        self.key = Secret(secrets.token_urlsafe(32))
        self.ended = False
        self.on_end: Callable[[], None] | None = None
        self._model = model
        self._said = bytearray()
        self._tail = bytearray()
        self._ready: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._gone = asyncio.Event()
        self._killed = self._all_said = self._told_end = False
        self._transport: asyncio.SubprocessTransport | None = None

    @classmethod
    async def start(cls, model: str, source: Source, serving: LocalServing, slots: int) -> "ModelProcess":
        """Start a server, and wait until it can be asked.

        Raises:
            ProviderFailed: `unsupported_capability`: the model cannot be loaded; `server`: the process died;
                `timeout`: it was not ready within `serving.start_s`.

        Cancelled, or when it raises, no process is left.
        """
        process = cls(model)
        try:
            await process._run(source, serving, slots)
            async with asyncio.timeout(serving.start_s):
                base_url = await process._ready
        except TimeoutError:
            raise failed("timeout", f"{model} was not loaded within {serving.start_s:g} s") from None
        except OSError as error:
            raise failed("server", f"no process can be started for {model}: {error}") from error
        finally:
            if not process._is_up():
                await process.aclose()
        if base_url is None:
            raise process._failure()
        process.base_url = base_url
        return process

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._transport is not None, "start() has returned"
        return self._transport.get_pid()

    async def aclose(self) -> None:
        """Kill the process, and wait until it is gone. There is nothing that it would have to write."""
        self.on_end = None
        self.kill()
        if self._transport is not None:
            await self._gone.wait()
            self._transport.close()

    def kill(self) -> None:
        """Kill the process; `on_end` is called when it is gone."""
        self._killed = True
        self._kill()

    async def answers(self) -> bool:
        """Whether it answers, or may yet. One that hangs up is killed, and gone when this returns.

        Being connected says nothing: of a process that was just killed, that goes last.
        """
        url = URL(self.base_url)
        try:
            async with asyncio.timeout(_PROBE_S):
                reader, writer = await asyncio.open_connection(url.host, url.port)
                writer.write(f"GET /health HTTP/1.0\r\nHost: {url.host}\r\n\r\n".encode())
                said = await reader.read(1)
                writer.close()
        except TimeoutError:
            return True
        except OSError:
            said = b""
        if not said:
            self._kill()
            await self._gone.wait()
        return bool(said)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == 1 and not self._ready.done():
            self._said += data[:_MAX_READY_BYTES]
            if b"\n" in self._said:
                self._ready.set_result(self._said.split(b"\n", 1)[0].decode(errors="replace"))
        elif fd == 2:
            self._tail += data
            del self._tail[:-_TAIL_BYTES]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd == 2:
            self._all_said = True
            self._tell_end()

    def process_exited(self) -> None:
        self.ended = True
        self._gone.set()
        if self.on_end is not None:
            self.on_end()
        self._tell_end()
        # What it started may hold its standard error open for longer than anybody should wait.
        asyncio.get_running_loop().call_later(_LAST_WORDS_S, self.pipe_connection_lost, 2, None)

    def _tell_end(self) -> None:
        """Say why it ended, once all that it said of that is here."""
        if not self.ended or not self._all_said or self._told_end:
            return
        self._told_end = True
        assert self._transport is not None, "a process that has ended was made"
        self._transport.close()
        if not self._ready.done():
            self._ready.set_result(None)
        elif not self._killed:
            _log.warning("a local model's process died", model=self._model, because=self._because())

    async def _run(self, source: Source, serving: LocalServing, slots: int) -> None:
        job: Job = {
            "kind": source.kind,
            "where": source.where,
            "name": self._model,
            "embeds": source.embeds,
            "key": self.key.reveal(),
            "parent": os.getpid(),
            "slots": slots,
            "context_tokens": served_context_tokens(source, serving),
            "threads": serving.threads,
            "gpu_layers": -1 if serving.gpu_layers is None else serving.gpu_layers,
        }
        loop = asyncio.get_running_loop()
        # Its own session: Ctrl-C on a terminal lets the calls in flight finish, so it is not the model's business. From
        # this thread: Linux ends the child with the thread that made it, and a pool's threads end when they are idle.
        transport, _ = await loop.subprocess_exec(
            lambda: self, sys.executable, _WORKER, start_new_session=True
        )
        pipe = cast("asyncio.WriteTransport", transport.get_pipe_transport(0))
        pipe.write(msgspec.json.encode(job) + b"\n")

    def _kill(self) -> None:
        if self._transport is not None:
            with suppress(ProcessLookupError):
                self._transport.kill()

    def _is_up(self) -> bool:
        return self._ready.done() and not self._ready.cancelled() and not self.ended

    def _failure(self) -> Exception:
        if self._code() == UNLOADABLE:
            return failed("unsupported_capability", f"{self._model} cannot be loaded: {self._because()}")
        return failed("server", f"the process that was to load {self._model} died: {self._because()}")

    def _because(self) -> str:
        code = self._code()
        how = signal.Signals(-code).name if code is not None and code < 0 else f"exit status {code}"
        said = bytes(self._tail).decode(errors="replace").strip().splitlines()
        return f"{how}: {' | '.join(said[-_TELL_LINES:])}" if said else how

    def _code(self) -> int | None:
        return None if self._transport is None else self._transport.get_returncode()
