"""Every wire through the whole of a call: streamed is whole, and cut at any byte it is an error, never spliced."""

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from msgspec import Struct, structs
from tests.inside import given_back, settings
from tests.providers.streams import events_of
from tests.rawserver import OK, HangUp, Turn, raw_server

from greenroom.actors.providers import ChatRequest, Message, codec_for
from greenroom.actors.settings import ProviderSettings, Retries, Settings
from greenroom.runtime import Finished, ProviderError, ProviderFailed, Reply, Runtime, TextDelta
from greenroom.runtime.simulator import Simulator, SimulatorSettings

pytestmark = pytest.mark.anyio
WIRES = {"openai-chat": "/v1", "anthropic-messages": "/v1", "gemini": "/v1", "ollama": ""}
PROMPT = "Why do glaciers move?"
MAX_TOKENS = 6
TRAILING_BYTES = 2
"""What may be missing of a body that said all: the end of its last line."""


class Recorded(Struct, frozen=True):
    """A streamed answer, byte by byte as the simulator gave it."""

    body: bytes
    content_type: str
    text: str


def configured(wire: str, base_url: str, directory: Path) -> Settings:
    """One provider that speaks `wire`, asked once."""
    made = settings(base_url, directory, retries=Retries(attempts=1))
    provider = structs.replace(made.providers["acme"], wire=wire)
    return structs.replace(made, providers={"acme": provider})


@pytest.fixture(params=WIRES)
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(seed=7)) as simulator:
        yield simulator


async def record(wire: str, simulator: Simulator) -> Recorded:
    provider = structs.replace(ProviderSettings(base_url=simulator.url), wire=wire)
    codec = codec_for("acme", provider)
    request = ChatRequest(model="fast", messages=(Message("user", PROMPT),), max_tokens=MAX_TOKENS)
    sent = codec.encode(request, "fast", stream=True)
    async with (
        aiohttp.ClientSession(headers=codec.session_headers(None)) as session,
        session.post(simulator.url + WIRES[wire] + sent.path, data=sent.body, headers=sent.headers) as answer,
    ):
        body = await answer.read()
        assert answer.status == 200, body
        content_type = answer.headers["Content-Type"]
    events = events_of(codec.stream_decoder(), [body])
    text = "".join(event.text for event in events if isinstance(event, TextDelta))
    return Recorded(body, content_type, text)


async def test_streamed_is_whole(wire: str, simulator: Simulator, tmp_path: Path) -> None:
    base_url = simulator.url + WIRES[wire]
    async with Runtime(configured(wire, base_url, tmp_path), environ={}) as rt:
        whole = await rt.chat("acme/fast", PROMPT, max_tokens=MAX_TOKENS)
        async with rt.stream("acme/fast", PROMPT, max_tokens=MAX_TOKENS) as events:
            streamed = await events.finish()
        await given_back(rt)
    assert whole.text
    assert (streamed.text, streamed.finish_reason, streamed.usage, streamed.cost_pusd) == (
        whole.text,
        whole.finish_reason,
        whole.usage,
        whole.cost_pusd,
    )


async def test_cut_at_every_byte(wire: str, simulator: Simulator, tmp_path: Path) -> None:
    """The framing gives no hint: each body ends as one does whose server has said all."""
    recorded = await record(wire, simulator)
    head = OK + f"Content-Type: {recorded.content_type}\r\nConnection: close\r\n\r\n".encode()

    async def script(turn: Turn) -> None:
        offset = re.search(rb"cut (\d+)", turn.body)
        assert offset is not None
        turn.writer.write(head + recorded.body[: int(offset[1])])
        raise HangUp

    async with (
        raw_server(script) as server,
        Runtime(configured(wire, server.base_url, tmp_path), environ={}) as rt,
    ):
        tries = asyncio.Semaphore(32)

        async def cut_at(offset: int) -> bool:
            """Whether it passed for whole."""
            told: list[object] = []
            outcome: Reply | ProviderFailed
            async with tries:
                try:
                    async with rt.stream("acme/fast", f"cut {offset}", max_tokens=MAX_TOKENS) as events:
                        async for event in events:
                            told.append(event)  # noqa: PERF401 - what came before a failure is looked at
                        outcome = events.reply
                except ProviderFailed as failure:
                    outcome = failure
            text = "".join(event.text for event in told if isinstance(event, TextDelta))
            assert sum(isinstance(event, Finished | ProviderError) for event in told) == 1
            if isinstance(outcome, Reply):
                assert outcome.text == recorded.text
                return True
            assert recorded.text.startswith(text)
            assert outcome.error.kind == "connection", outcome
            return False

        whole = await asyncio.gather(*(cut_at(offset) for offset in range(len(recorded.body) + 1)))
        await given_back(rt)
        assert server.open_connections == 0
    first = whole.index(True)
    assert first >= len(recorded.body) - TRAILING_BYTES
    assert all(whole[first:])
