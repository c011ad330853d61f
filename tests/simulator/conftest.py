"""A simulator that listens, and a client that speaks to it over a real socket."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol

import aiohttp
import msgspec
import pytest

from greenroom.runtime.simulator import Simulator, SimulatorSettings

Json = dict[str, Any]


class Reply(msgspec.Struct):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Json:
        return msgspec.json.decode(self.body, type=Json)

    @property
    def text(self) -> str:
        """The first choice's content."""
        return str(self.json["choices"][0]["message"]["content"])

    @property
    def error(self) -> Json:
        error = self.json["error"]
        assert set(error) == {"message", "type", "param", "code"}
        return dict(error)


class Client:
    """A minimal OpenAI client for one simulator."""

    def __init__(self, session: aiohttp.ClientSession, simulator: Simulator) -> None:
        self.session = session
        self.simulator = simulator

    async def send(self, method: str, path: str, **options: Any) -> Reply:
        async with self.session.request(method, self.simulator.url + path, **options) as response:
            headers = {name.lower(): value for name, value in response.headers.items()}
            return Reply(response.status, headers, await response.read())

    async def chat(self, prompt: Any, *, headers: Any = None, **body: Any) -> Reply:
        """Asks `fast` unless told otherwise; `prompt` is a user message or the whole list of messages."""
        messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else prompt
        request = {"model": "fast", "messages": messages, **body}
        return await self.send("POST", "/v1/chat/completions", json=request, headers=headers)


class Connect(Protocol):
    def __call__(self, simulator: Simulator) -> Client: ...


@pytest.fixture
async def connect() -> AsyncIterator[Callable[[Simulator], Client]]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        yield lambda simulator: Client(session, simulator)


@pytest.fixture
async def client(connect: Connect) -> AsyncIterator[Client]:
    async with Simulator(SimulatorSettings(seed=7)) as simulator:
        yield connect(simulator)


@pytest.fixture
def until() -> Callable[[Callable[[], object]], Awaitable[None]]:
    """Waits for something that another task brings about; the test's own timeout bounds it."""

    async def wait(happened: Callable[[], object]) -> None:
        while not happened():  # noqa: ASYNC110  # what is waited for has no event to offer: a count, a file
            await asyncio.sleep(0)

    return wait
