"""Chat completions over real HTTP: `python -m benchmarks._peers.chat NAME BASE_URL IN_FLIGHT`.

Each client answers `call` with the decoded answer of one call, and `stream` with the number of chunks of text that it told. All
ask the same thing of the same upstream, so many at a time; rates are calls, or chunks of text, per second.
"""

import asyncio
import importlib
import json
import os
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any  # optional packages: where they lack, there are no types to check against

from benchmarks._peers.serving import Figures, Measure, serve, settle_memory, timed

One = Callable[[str], Awaitable[int]]  # given the part of the upstream that it is to ask
_PROMPT = "Say in about a hundred words why the sky is blue, and what it has to do with the colour of the setting sun."
_MESSAGES = [{"role": "user", "content": _PROMPT}]
_BODY: dict[str, object] = {"model": "fast", "messages": _MESSAGES, "max_tokens": 200}
_STREAMED = _BODY | {"max_tokens": 2000, "stream": True, "stream_options": {"include_usage": True}}


def _library(name: str) -> Any:
    return importlib.import_module(name)


class Client:
    """One contender. `open` is called once, on the loop; `call` and `stream` take the part of the upstream: burst or paced."""

    package = ""

    def __init__(self, base_url: str, stack: AsyncExitStack) -> None:
        self.base_url = base_url
        self.stack = stack

    async def open(self) -> None:
        raise NotImplementedError

    async def call(self, part: str) -> int:
        raise NotImplementedError

    async def stream(self, part: str) -> int:
        raise NotImplementedError

    def url(self, part: str) -> str:
        return f"{self.base_url}/{part}/v1"


class Tuned(Client):
    """aiohttp and a typed msgspec decode and nothing else: prepared URL, session headers, pre-encoded body, whole chunks."""

    package = "aiohttp"

    def __init__(self, base_url: str, stack: AsyncExitStack) -> None:
        super().__init__(base_url, stack)
        self.aiohttp = _library("aiohttp")
        shapes = _library("benchmarks._peers.shapes")
        self.decode = shapes.decode_answer
        self.decode_chunk = shapes.decode_chunk
        make = _library("yarl").URL
        self.urls = {
            part: make(f"{self.url(part)}/chat/completions", encoded=True) for part in ("burst", "paced")
        }
        self.body = json.dumps(_BODY).encode()
        self.streamed = json.dumps(_STREAMED).encode()

    async def open(self) -> None:
        self.session = await self.stack.enter_async_context(
            self.aiohttp.ClientSession(
                connector=self.aiohttp.TCPConnector(limit=0),
                cookie_jar=self.aiohttp.DummyCookieJar(),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                auto_decompress=False,
                timeout=self.aiohttp.ClientTimeout(total=None),
            )
        )

    async def call(self, part: str) -> int:
        async with self.session.post(self.urls[part], data=self.body) as response:
            return len(self.decode(await response.read()).choices)

    async def stream(self, part: str) -> int:
        told = 0
        rest = b""
        async with self.session.post(self.urls[part], data=self.streamed) as response:
            while data := await response.content.readany():
                *events, rest = (rest + data).split(b"\n\n")
                for event in events:
                    if event != b"data: [DONE]":
                        told += _told(self.decode_chunk(event[6:]).choices)
        return told


class Plain(Client):
    """aiohttp as it comes, and streams read line by line, as its documentation does."""

    package = "aiohttp"

    async def open(self) -> None:
        aiohttp = _library("aiohttp")
        shapes = _library("benchmarks._peers.shapes")
        self.decode = shapes.decode_answer
        self.decode_chunk = shapes.decode_chunk
        self.session = await self.stack.enter_async_context(aiohttp.ClientSession())

    async def call(self, part: str) -> int:
        async with self.session.post(f"{self.url(part)}/chat/completions", json=_BODY) as response:
            return len(self.decode(await response.read()).choices)

    async def stream(self, part: str) -> int:
        told = 0
        async with self.session.post(f"{self.url(part)}/chat/completions", json=_STREAMED) as response:
            async for line in response.content:
                if line.startswith(b"data: {"):
                    told += _told(self.decode_chunk(line[6:]).choices)
        return told


class Greenroom(Client):
    """Through everything: resolve, hold on disk, admit, lease, retry owner, settle."""

    package = "greenroom"

    async def open(self) -> None:
        from msgspec import structs

        from greenroom.actors.events import TextDelta
        from greenroom.actors.providers.hosts import simulator
        from greenroom.actors.settings import Limits, Settings, StorageSettings
        from greenroom.runtime import Runtime

        folder = self.stack.enter_context(tempfile.TemporaryDirectory())
        self.delta = TextDelta
        self.runtime = await self.stack.enter_async_context(
            Runtime(
                Settings(
                    providers={
                        # All that are in flight here shall be, not wait for admission.
                        part: structs.replace(simulator(self.url(part)), limits=Limits(concurrency=1_000_000))
                        for part in ("burst", "paced")
                    },
                    storage=StorageSettings(url=f"sqlite:///{Path(folder) / 'bench.db'}"),
                )
            )
        )

    async def call(self, part: str) -> int:
        return len((await self.runtime.chat(f"{part}/fast", _PROMPT, max_tokens=200)).text)

    async def stream(self, part: str) -> int:
        told = 0
        async with self.runtime.stream(f"{part}/fast", _PROMPT, max_tokens=2000) as events:
            async for event in events:
                if isinstance(event, self.delta):
                    told += 1
        return told


class OpenAI(Client):
    package = "openai"

    def __init__(self, base_url: str, stack: AsyncExitStack) -> None:
        super().__init__(base_url, stack)
        self.openai = _library("openai")

    async def open(self) -> None:
        self.clients: dict[str, Any] = {
            part: self.openai.AsyncOpenAI(base_url=self.url(part), api_key="none", max_retries=0)
            for part in ("burst", "paced")
        }

    async def call(self, part: str) -> int:
        answer = await self.clients[part].chat.completions.create(**_BODY)
        return len(answer.choices)

    async def stream(self, part: str) -> int:
        told = 0
        async for chunk in await self.clients[part].chat.completions.create(**_STREAMED):
            told += _told(chunk.choices)
        return told


class LiteLLM(Client):
    package = "litellm"

    def __init__(self, base_url: str, stack: AsyncExitStack) -> None:
        super().__init__(base_url, stack)
        os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # else it asks the network when it is imported
        self.litellm = _library("litellm")
        self.litellm.suppress_debug_info = True
        self.litellm.telemetry = False

    async def open(self) -> None:
        pass

    async def _ask(self, part: str, body: dict[str, object]) -> Any:
        given = body | {
            "model": "openai/fast",
            "api_base": self.url(part),
            "api_key": "none",
            "num_retries": 0,
        }
        return await self.litellm.acompletion(**given)

    async def call(self, part: str) -> int:
        return len((await self._ask(part, _BODY)).choices)

    async def stream(self, part: str) -> int:
        told = 0
        async for chunk in await self._ask(part, _STREAMED):
            told += _told(chunk.choices)
        return told


class AnyLLM(Client):
    """One client for each part, kept."""

    package = "any-llm-sdk"

    def __init__(self, base_url: str, stack: AsyncExitStack) -> None:
        super().__init__(base_url, stack)
        self.any_llm = _library("any_llm")

    async def open(self) -> None:
        self.clients: dict[str, Any] = {
            part: self.any_llm.AnyLLM.create("openai", api_key="none", api_base=self.url(part))
            for part in ("burst", "paced")
        }

    async def call(self, part: str) -> int:
        answer = await self.clients[part].acompletion(**_BODY)
        return len(answer.choices)

    async def stream(self, part: str) -> int:
        told = 0
        async for chunk in await self.clients[part].acompletion(**_STREAMED):
            told += _told(chunk.choices)
        return told


class PydanticAI(Client):
    """An agent without tools for each part, kept."""

    package = "pydantic-ai-slim"

    def __init__(self, base_url: str, stack: AsyncExitStack) -> None:
        super().__init__(base_url, stack)
        self.library = _library("pydantic_ai")
        self.models = _library("pydantic_ai.models.openai")
        self.providers = _library("pydantic_ai.providers.openai")

    async def open(self) -> None:
        self.agents: dict[str, Any] = {}
        for part in ("burst", "paced"):
            provider = self.providers.OpenAIProvider(base_url=self.url(part), api_key="none")
            self.agents[part] = self.library.Agent(self.models.OpenAIChatModel("fast", provider=provider))

    async def call(self, part: str) -> int:
        return len((await self.agents[part].run(_PROMPT, model_settings={"max_tokens": 200})).output)

    async def stream(self, part: str) -> int:
        told = 0
        settings = {"max_tokens": 2000}
        async with self.agents[part].run_stream(_PROMPT, model_settings=settings) as answer:
            async for _ in answer.stream_text(delta=True, debounce_by=None):
                told += 1
        return told


CLIENTS: dict[str, type[Client]] = {
    "tuned": Tuned,
    "plain": Plain,
    "greenroom": Greenroom,
    "openai": OpenAI,
    "litellm": LiteLLM,
    "any-llm": AnyLLM,
    "pydantic-ai": PydanticAI,
}


def _told(choices: Any) -> int:
    return 1 if choices and choices[0].delta.content else 0


async def at_a_time(count: int, in_flight: int, one: One, part: str) -> int:
    """The sum of `one` over so many goes."""
    numbers = iter(range(count))
    total = 0

    async def worker() -> None:
        nonlocal total
        for _ in numbers:
            got = await one(part)
            total += got

    await asyncio.gather(*(worker() for _ in range(min(in_flight, count))))
    return total


def measures(client: Client, in_flight: int) -> Mapping[str, Measure]:
    opened = False

    async def ready() -> None:
        nonlocal opened
        if not opened:
            opened = True
            await client.open()
            settle_memory(in_flight)

    async def call(count: int) -> Figures:
        await ready()
        with timed(count) as figures:
            assert await at_a_time(count, in_flight, client.call, "burst") >= count
        return figures

    def streamed(part: str, chunks: int) -> Measure:
        async def stream(count: int) -> Figures:
            await ready()
            with timed(count * chunks) as figures:
                told = await at_a_time(count, in_flight, client.stream, part)
            assert told == count * chunks, f"{told} chunks told, {count * chunks} sent"
            return figures

        return stream

    return {"call": call, "burst": streamed("burst", 1000), "paced": streamed("paced", 100)}


if __name__ == "__main__":
    _stack = AsyncExitStack()
    _name, _base_url, _in_flight = sys.argv[1:4]
    serve(
        lambda: measures(CLIENTS[_name](_base_url, _stack), int(_in_flight)),
        CLIENTS[_name].package,
        closing=_stack,
    )
