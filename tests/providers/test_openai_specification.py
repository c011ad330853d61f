"""Every request that the codec makes, whole and streamed, is valid by OpenAI's own published specification.

The judge is Steady, the mock server that the vendor's own client libraries are tested against, over an excerpt of the
specification (`openai_chat.openapi.json`, MIT). `npm install @stdy/cli` puts it into node_modules/.bin.
"""

import asyncio
import os
import shutil
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import Raw
from tests.providers.test_openai_chat_encode import MESSAGES, OPTIONS, QUESTION
from yarl import URL

from greenroom.actors.exchange import Answer, exchange
from greenroom.actors.providers import ChatRequest, Message, OpenAIChat, WireRequest
from greenroom.actors.settings import Stalls

ROOT = Path(__file__).parents[2]
STEADY = shutil.which("steady") or shutil.which("steady", path=ROOT / "node_modules" / ".bin")
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(STEADY is None, reason="the judge is not installed: npm install @stdy/cli"),
]
CODECS = [OpenAIChat("openai", "max_completion_tokens"), OpenAIChat("other")]


@pytest.fixture(scope="module")
def judge() -> Iterator[str]:
    """The base URL of a running judge."""
    assert STEADY is not None
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    specification = Path(__file__).with_name("openai_chat.openapi.json")
    command = [STEADY, "--host", "127.0.0.1", "-p", str(port), "-q", str(specification)]
    # On a CI service it words its output otherwise.
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        try:
            assert any(b"Ready to accept requests" in line for line in process.stdout), "it did not start"
            yield f"http://127.0.0.1:{port}"
        finally:
            # A kill would end the script that npm puts before it, and leave the judge behind.
            process.terminate()


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        yield session


async def judged(session: aiohttp.ClientSession, judge: str, wire: WireRequest) -> Answer:
    return await exchange(session, URL(judge + wire.path), wire, Stalls(), 20.0)


def complaints(answer: Answer) -> list[str]:
    """What the judge has against a request, be it sure or not."""
    found = [
        f"{name}: {text}"
        for name, text in answer.headers.items()
        if name.lower().startswith("x-steady-error-") and name.lower() != "x-steady-error-count"
    ]
    if answer.headers.get("x-steady-request-valid") != "true":
        found.append(f"not valid: {answer.status} {answer.body[:200]!r}")
    return found


async def test_every_option_and_every_message(session: aiohttp.ClientSession, judge: str) -> None:
    requests = [
        ChatRequest(model="m", messages=QUESTION, **options)
        for options, _ in OPTIONS
        if options.get("tool_choice") != Raw(b"null")  # JSON that a caller wrote is passed on as it is
    ]
    requests += [ChatRequest(model="m", messages=(*QUESTION, message)) for message, _ in MESSAGES]
    wires = [
        codec.encode(request, "gpt-5-mini", stream=stream)
        for codec, request, stream in product(CODECS, requests, (False, True))
    ]
    answers = await asyncio.gather(*(judged(session, judge, wire) for wire in wires))
    found = {
        wire.body: why for wire, answer in zip(wires, answers, strict=True) if (why := complaints(answer))
    }
    assert found == {}
    assert len(wires) > 100


@pytest.mark.parametrize(
    "options", [{"temperature": "warm"}, {"top_logprobs": -1}, {"extra": {"modalities": 7}}, {"stop": 3}]
)
async def test_the_judge_judges(session: aiohttp.ClientSession, judge: str, options: Any) -> None:
    wire = CODECS[0].encode(ChatRequest(model="m", messages=(Message("user", "x"),), **options), "m")
    assert complaints(await judged(session, judge, wire))
