"""Serves one model over OpenAI's wire on the loopback, in a process of its own: `python worker.py`.

What to serve is one line of JSON on standard input, so that the key stands in no list of processes. Once it can be
asked, the base URL is one line on standard output; what libraries print goes to standard error.

It must not outlive who started it, however that one ends: Linux kills it with its parent, and elsewhere the end of
standard input ends it. It imports nothing of greenroom's, to start sooner and to be small.
"""

import ctypes
import hmac
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from importlib import import_module
from typing import Any, TypedDict

UNLOADABLE = 3
"""The exit status that says: this model cannot be loaded, and trying again will not help."""

_PR_SET_PDEATHSIG = 1
_PROMPT_CACHE_MIB = 512
_ERRORS_ONLY = 1

_Ready = Callable[[str], None]
# What ASGI hands from one application to the next, unread.
_App = Callable[[dict[str, Any], Any, Callable[[dict[str, Any]], Awaitable[None]]], Awaitable[None]]


class Job(TypedDict):
    """What to serve, and how."""

    kind: str
    where: str
    name: str
    embeds: bool
    key: str
    parent: int
    slots: int
    context_tokens: int
    threads: int | None
    gpu_layers: int


def main() -> None:
    told = os.dup(1)
    os.dup2(2, 1)
    job: Job = json.loads(sys.stdin.buffer.readline())
    die_with(job["parent"])

    def ready(base_url: str) -> None:
        os.write(told, f"{base_url}\n".encode())

    serve = {"gguf": serve_gguf, "transformers": serve_transformers}[job["kind"]]
    try:
        serve(job, ready)
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)  # noqa: T201 - who started it reads it
        os._exit(UNLOADABLE)


def die_with(parent: int) -> None:
    """End when the parent does. The thread alone would not do: loading a model may keep the interpreter to itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def serve_gguf(job: Job, ready: _Ready) -> None:
    llama = import_module("xllamacpp")
    parameters = llama.CommonParams()
    parameters.model.path = job["where"]
    parameters.model_alias = {job["name"]}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.api_keys = [job["key"]]
    parameters.n_parallel = job["slots"]
    parameters.n_ctx = job["slots"] * job["context_tokens"]
    parameters.n_gpu_layers = job["gpu_layers"]
    if job["threads"] is not None:
        parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = job["threads"]
    if job["embeds"]:
        parameters.embedding = True
        parameters.n_batch = parameters.n_ubatch = job["context_tokens"]  # a longer text would be refused
    parameters.cache_ram_mib = _PROMPT_CACHE_MIB
    parameters.verbosity = _ERRORS_ONLY
    parameters.offline = True
    parameters.ui = False
    parameters.endpoint_slots = False
    server = llama.Server(parameters)
    ready(f"{server.listening_address}/v1")
    threading.Event().wait()


def serve_transformers(job: Job, ready: _Ready) -> None:
    """Serve by transformers' own server. It takes no key, and nobody may ask it without one: that is put before it here."""
    uvicorn = import_module("uvicorn")
    serving = import_module("transformers.cli.serve")
    listening = socket.create_server(("127.0.0.1", 0))
    run = uvicorn.Server.run

    def run_guarded(server: Any) -> None:
        server.config.app = _guarded(server.config.app, job["key"])
        ready(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
        run(server, sockets=[listening])

    uvicorn.Server.run = run_guarded
    serving.Serve(force_model=job["where"], log_level="error")


def _guarded(app: _App, key: str) -> _App:
    """An ASGI application that asks `app` what comes with the key, and refuses the rest."""
    right = f"Bearer {key}".encode()

    async def guarded(
        scope: dict[str, Any], receive: Any, send: Callable[[dict[str, Any]], Awaitable[None]]
    ) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] == "http" and not hmac.compare_digest(given, right):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b'{"error": {"message": "wrong key"}}'})
        else:
            await app(scope, receive, send)

    return guarded


if __name__ == "__main__":
    main()
