"""Serves one model over OpenAI's wire on the loopback, in a process of its own: `python worker.py`.

What to serve is one line of JSON on standard input, so that the key stands in no list of processes. Once it can be
asked, the base URL is one line on standard output; what libraries print goes to standard error.

It must not outlive who started it, however that one ends: Linux kills it with its parent, and elsewhere the end of
standard input ends it. It imports nothing of greenroom's, to start sooner and to be small.
"""

import ctypes
import hmac
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, TypedDict

UNLOADABLE = 3
"""The exit status that says: this model cannot be loaded, and trying again will not help."""

_PR_SET_PDEATHSIG = 1
_PROMPT_CACHE_MIB = 512
_ERRORS_ONLY = 1

_Ready = Callable[[str], None]
# ASGI's.
_Said = dict[str, Any]
_Receive = Callable[[], Awaitable[_Said]]
_Send = Callable[[_Said], Awaitable[None]]
_App = Callable[[_Said, _Receive, _Send], Awaitable[None]]


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
        sys.exit(UNLOADABLE)  # not at once: llama.cpp has a thread that still writes why


def die_with(parent: int) -> None:
    """End when the parent does. The thread alone would not do: loading a model may keep the interpreter to itself."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(0)
    threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> None:
    while os.read(0, 1024):  # not through `sys.stdin`, whose lock would be held when the interpreter ends
        pass
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
        logging.getLogger(
            "uvicorn.access"
        ).disabled = True  # a line for each request would push out why it dies
        server.config.app = _guarded(server.config.app, job)
        ready(f"http://127.0.0.1:{listening.getsockname()[1]}/v1")
        run(server, sockets=[listening])

    uvicorn.Server.run = run_guarded
    serving.Serve(force_model=job["where"], log_level="error")


def _guarded(app: _App, job: Job) -> _App:
    """An ASGI application that asks `app` what comes with the key, under the model's name there; it refuses the rest."""
    right = f"Bearer {job['key']}".encode()

    async def guarded(scope: _Said, receive: _Receive, send: _Send) -> None:
        given = dict(scope.get("headers", ())).get(b"authorization", b"")
        if scope["type"] != "http":
            await app(scope, receive, send)
        elif not hmac.compare_digest(given, right):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b'{"error": {"message": "wrong key"}}'})
        else:
            await app(
                scope, await _renamed(receive, job["where"]) if scope["method"] == "POST" else receive, send
            )

    return guarded


async def _renamed(receive: _Receive, model: str) -> _Receive:
    """What is received, with another name of the model: a server of one model takes no other."""
    message = await receive()
    body = message.get("body", b"")
    while message.get("more_body"):
        message = await receive()
        body += message.get("body", b"")
    with suppress(ValueError, TypeError):
        body = json.dumps({**json.loads(body), "model": model}).encode()
    whole: _Said | None = {"type": "http.request", "body": body}

    async def received() -> _Said:
        nonlocal whole
        if whole is None:
            return await receive()
        said, whole = whole, None
        return said

    return received


if __name__ == "__main__":
    main()
