"""A provider that does as it is told: a real aiohttp server on the loopback, for what the simulator never does."""

import asyncio
import json
import threading
import time
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self, TypeAlias

import msgspec
from aiohttp import web

PROMPT_TOKENS, COMPLETION_TOKENS = 7, 11


class Asked(msgspec.Struct):
    """One request as the provider saw it."""

    request: web.BaseRequest
    number: int
    arrived_s: float
    body: dict[str, Any]
    headers: dict[str, str]
    closed: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def prompt(self) -> str:
        return str(self.body["messages"][-1]["content"])


Answering: TypeAlias = Callable[[Asked], Awaitable[web.StreamResponse]]


class Upstream:
    """A provider whose every answer is the test's to give.

    Args:
        answer: called with each request; may wait, raise, or take the connection down.
    """

    def __init__(self, answer: Answering) -> None:
        self.answer = answer
        self.asked: list[Asked] = []
        self.in_flight = 0
        self.peak = 0
        self.connections = 0
        self.arrived = asyncio.Condition()

    async def __aenter__(self) -> Self:
        server = web.Server(self._serve, handler_cancellation=True, access_log=None)
        self._server = server
        self._runner = web.ServerRunner(server, shutdown_timeout=0.01)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, backlog=4096).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._runner.cleanup()

    @property
    def open_connections(self) -> int:
        return len(self._server.connections)

    async def wait_asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        async with self.arrived:
            await self.arrived.wait_for(lambda: len(self.asked) >= count)

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response({"data": [{"id": "fast"}]})
        arrived_s = time.monotonic()
        body = msgspec.json.decode(await request.read(), type=dict[str, Any])
        asked = Asked(request, len(self.asked) + 1, arrived_s, body, dict(request.headers))
        self.asked.append(asked)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            async with self.arrived:
                self.arrived.notify_all()
            return await self.answer(asked)
        finally:
            self.in_flight -= 1
            asked.closed.set()


class UpstreamThread:
    """An `Upstream` for tests that start processes and have no loop of their own."""

    def __init__(self, answer: Answering) -> None:
        self._answer = answer
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="upstream")

    def __enter__(self) -> Upstream:
        self._thread.start()
        self._ready.wait()
        return self.upstream

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def wait_asked(self, count: int) -> None:
        """Wait until so many requests have come."""
        asyncio.run_coroutine_threadsafe(self.upstream.wait_asked(count), self._loop).result(30.0)

    async def _run(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with Upstream(self._answer) as self.upstream:
            self._ready.set()
            await self._stop.wait()


def completion(
    text: str = "fine", *, usage: tuple[int, int] | None = (PROMPT_TOKENS, COMPLETION_TOKENS)
) -> bytes:
    """The body of a good answer; `usage` None leaves it out."""
    body: dict[str, object] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "fast",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
    }
    if usage is not None:
        tokens_in, tokens_out = usage
        body["usage"] = {
            "prompt_tokens": tokens_in,
            "completion_tokens": tokens_out,
            "total_tokens": tokens_in + tokens_out,
        }
    return json.dumps(body).encode()


def good(
    text: str = "fine", *, usage: tuple[int, int] | None = (PROMPT_TOKENS, COMPLETION_TOKENS)
) -> web.Response:
    return web.Response(
        body=completion(text, usage=usage), content_type="application/json", headers={"x-request-id": "req-1"}
    )


async def answer_well(asked: Asked) -> web.StreamResponse:
    return good()


def refusal(status: int, code: str | None = None, **headers: str) -> web.Response:
    """An error as OpenAI words it; underscores in header names become dashes."""
    body = {"error": {"message": f"no: {status}", "type": "error", "param": None, "code": code}}
    return web.json_response(
        body, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()}
    )


def cut(asked: Asked) -> None:
    """Take the connection down, as a dying server does."""
    assert asked.request.transport is not None
    asked.request.transport.abort()
