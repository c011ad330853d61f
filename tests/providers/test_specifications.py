"""Every request that a codec makes, whole and streamed, is valid by its vendor's own published specification.

The judge is Steady, the mock server that vendors' own client libraries are tested against, over excerpts of OpenAI's
and Ollama's specifications (`*.openapi.json`, MIT). `npm install @stdy/cli` puts it into node_modules/.bin.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from msgspec import Raw
from tests.peers import needs_steady, steady
from tests.providers import test_ollama_encode, test_responses_encode
from tests.providers.asking import IMAGE, IMAGE_BY_URL, LOOKED, QUESTION
from tests.providers.test_openai_chat_encode import MESSAGES, OPTIONS
from yarl import URL

from greenroom.actors.call.exchange import Answer, exchange
from greenroom.actors.providers import (
    ChatRequest,
    Codec,
    Message,
    Ollama,
    OpenAIChat,
    OpenAIResponses,
    TextPart,
    WireRequest,
)
from greenroom.actors.providers.embeddings import EmbeddingRequest
from greenroom.actors.settings import Stalls

pytestmark = [pytest.mark.anyio, needs_steady]
CHAT = (OpenAIChat("openai", "max_completion_tokens"), OpenAIChat("other", embeddings_base64=True))
SEEN = (Message("user", (TextPart("a"), IMAGE)),)
SEEN_BY_URL = (Message("user", (TextPart("a"), IMAGE, IMAGE_BY_URL)),)
EMBEDDING = EmbeddingRequest(model="p/m", inputs=("a", "b"), dimensions=8)


def asked(codec: Codec, requests: list[ChatRequest]) -> list[WireRequest]:
    return [
        codec.encode(request, "upstream-name", stream=stream)
        for request, stream in product(requests, (False, True))
    ]


def chat() -> list[WireRequest]:
    requests = [
        ChatRequest(model="m", messages=QUESTION, **options)
        for options, _ in OPTIONS
        if options.get("tool_choice") != Raw(b"null")  # JSON that a caller wrote is passed on as it is
    ]
    requests += [ChatRequest(model="m", messages=(*QUESTION, message)) for message, _ in MESSAGES]
    return [wire for codec in CHAT for wire in asked(codec, requests)]


def responses() -> list[WireRequest]:
    codec = OpenAIResponses("openai")
    requests = [
        ChatRequest(model="m", messages=QUESTION, **options) for options, _ in test_responses_encode.OPTIONS
    ]
    requests += [ChatRequest(model="m", messages=messages) for messages in (LOOKED, SEEN_BY_URL)]
    embeddings = [each.encode_embeddings(EMBEDDING, "m") for each in (*CHAT, codec)]
    return [*asked(codec, requests), *embeddings]


def ollama() -> list[WireRequest]:
    codec = Ollama("ollama")
    requests = [
        ChatRequest(model="m", messages=QUESTION, **options) for options, _ in test_ollama_encode.OPTIONS
    ]
    requests += [ChatRequest(model="m", messages=messages) for messages in (LOOKED, SEEN)]
    return [*asked(codec, requests), codec.encode_embeddings(EMBEDDING, "m")]


VENDORS = {"openai_chat": chat(), "openai_responses": responses(), "ollama": ollama()}


@pytest.fixture(scope="module", params=VENDORS)
def vendor(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def judge(vendor: str) -> Iterator[str]:
    """The base URL of a judge that knows the vendor's specification."""
    with steady(Path(__file__).with_name(f"{vendor}.openapi.json")) as url:
        yield url


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(headers={"Content-Type": "application/json"}) as session:
        yield session


async def judged(session: aiohttp.ClientSession, judge: str, wire: WireRequest) -> Answer:
    return await exchange(session, URL(judge + wire.path), wire, Stalls(), 20.0)


AMBIGUOUS = "E3012: 2 variants structurally match, ambiguous"
"""A value is of two of the specification's variants at once, which is for the specification to mend."""


def complaints(answer: Answer) -> list[str]:
    """What the judge has against a request, be it sure or not."""
    headers = {name.lower(): value for name, value in answer.headers.items()}
    matches = [re.fullmatch(r"x-steady-error-(\d+)-code", name) for name in headers]
    numbers = [match[1] for match in matches if match]
    said = [
        f"{headers[f'x-steady-error-{number}-code']}: {headers[f'x-steady-error-{number}-message']}"
        for number in numbers
    ]
    found = [complaint for complaint in said if complaint != AMBIGUOUS]
    if headers.get("x-steady-request-valid") != "true":
        found.append(f"not valid: {answer.status} {answer.body[:200]!r}")
    return found


async def test_every_option_and_every_message(
    session: aiohttp.ClientSession, judge: str, vendor: str
) -> None:
    wires = VENDORS[vendor]
    answers = await asyncio.gather(*(judged(session, judge, wire) for wire in wires))
    found = {
        wire.body: why for wire, answer in zip(wires, answers, strict=True) if (why := complaints(answer))
    }
    assert found == {}
    assert len(wires) > 40


WRONG: dict[str, list[dict[str, Any]]] = {
    "openai_chat": [
        {"temperature": "warm"}, {"top_logprobs": -1}, {"extra": {"modalities": Raw(b"7")}}, {"stop": 3},
    ],
    "openai_responses": [
        {"temperature": "warm"}, {"max_tokens": 3}, {"extra": {"truncation": Raw(b"7")}}, {"user": 3},
    ],
    "ollama": [{"temperature": "warm"}, {"max_tokens": "x"}, {"extra": {"keep_alive": Raw(b"[]")}}, {"seed": "x"}],
}  # fmt: skip
CODECS: dict[str, Codec] = {
    "openai_chat": CHAT[0],
    "openai_responses": OpenAIResponses("openai"),
    "ollama": Ollama("ollama"),
}


async def test_the_judge_judges(session: aiohttp.ClientSession, judge: str, vendor: str) -> None:
    for options in WRONG[vendor]:
        wire = CODECS[vendor].encode(ChatRequest(model="m", messages=QUESTION, **options), "m")
        assert complaints(await judged(session, judge, wire)), options
