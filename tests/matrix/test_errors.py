"""Every class of failure as every provider words it: the same class here, whatever the words."""

import json
from collections.abc import AsyncIterator, Callable
from typing import Any, get_args

import pytest
from msgspec import structs
from tests.inside import given_back
from tests.matrix.asking import ask
from tests.matrix.failures import FAILURES, NOT_TOLD, SAID, TOLD_BY_PROVIDERS, Failure
from tests.matrix.providers import ONE_OF_EACH_WIRE, PROVIDERS, settings_of
from tests.providers.streams import events_of
from tests.providers.test_bedrock_decode import exception

from greenroom.actors.events import ErrorKind, ProviderError
from greenroom.actors.providers import codec_for
from greenroom.actors.settings import ProviderSettings, Retries
from greenroom.runtime import ProviderFailed, Runtime
from greenroom.runtime.testing import HastyClock, Raw, ScriptedProvider, WireName

pytestmark = pytest.mark.anyio
MISLEADING = "rate limit exceeded; overloaded; context length; invalid api key; not found; content_filter; timeout; 429 503"
MID_STREAM: dict[WireName, Callable[[Failure], bytes]] = {
    "openai-chat": lambda failure: b"data: %s\n\n" % failure.worded(MISLEADING),
    "openai-responses": lambda failure: (
        b'data: {"type":"error","error":%s}\n\n' % json.dumps(failure.body["error"]).encode()
    ),
    "anthropic-messages": lambda failure: b"event: error\ndata: %s\n\n" % failure.worded(MISLEADING),
    "gemini": lambda failure: b"data: %s\r\n\r\n" % json.dumps(_without_number(failure.body)).encode(),
    "ollama": lambda failure: failure.worded(MISLEADING) + b"\n",
    "bedrock-converse": lambda failure: exception(_small(failure.code), failure.worded(MISLEADING)),
}
CELLS = [
    pytest.param(name, failure, id=f"{name}-{failure.kind}-{failure.status}-{failure.code}")
    for name in ONE_OF_EACH_WIRE
    for failure in FAILURES[PROVIDERS[name][0].wire]
]


class House:
    """A runtime and the scripted server that all its providers are."""

    def __init__(self, rt: Runtime, provider: ScriptedProvider) -> None:
        self.provider = provider
        self._rt = rt

    async def failed(self, name: str, answer: Raw, *, streamed: bool) -> ProviderError:
        """How a question to a provider fails that is answered so."""
        self.provider.say(answer)
        with pytest.raises(ProviderFailed) as failed:
            await ask(self._rt, f"{name}/any", streamed=streamed)
        return failed.value.error


@pytest.fixture(scope="module")
async def house(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[House]:
    directory = tmp_path_factory.mktemp("house")
    # Nobody is kept waiting by a Retry-After that is longer than this.
    once = Retries(attempts=1, max_retry_after_s=1)
    async with (
        ScriptedProvider() as provider,
        Runtime(
            settings_of(provider.simulator.url, directory, retries=once), environ={}, clock=HastyClock()
        ) as rt,
    ):
        yield House(rt, provider)
        for name in ONE_OF_EACH_WIRE:
            await given_back(rt, name)


def test_every_class_stands_with_every_provider() -> None:
    for wire in get_args(WireName):
        told: set[ErrorKind] = {failure.kind for failure in FAILURES[wire]}
        assert told == TOLD_BY_PROVIDERS - NOT_TOLD.get(wire, frozenset())


@pytest.mark.parametrize(("name", "failure"), CELLS)
async def test_the_class_is_in_the_code_and_never_in_the_words(
    house: House, name: str, failure: Failure
) -> None:
    for words, streamed in ((SAID, False), (SAID, True), (MISLEADING, False), (MISLEADING, True)):
        answer = Raw(failure.worded(words), failure.status, headers=failure.headers)
        error = await house.failed(name, answer, streamed=streamed)
        assert (error.kind, error.message) == (failure.kind, words)
        assert (error.status, error.code, error.provider, error.model) == (
            failure.status, failure.code, name, "any",
        )  # fmt: skip
        assert error.retry_after_s == failure.retry_after_s


@pytest.mark.parametrize(
    ("wire", "failure"),
    [
        pytest.param(wire, failure, id=f"{wire}-{failure.kind}-{failure.status}-{failure.code}")
        for wire, failures in FAILURES.items()
        for failure in failures
    ],
)
def test_in_mid_stream_the_code_alone_says_the_class(wire: WireName, failure: Failure) -> None:
    codec = codec_for("p", structs.replace(ProviderSettings(base_url="http://unused"), wire=wire))
    (event,) = events_of(codec.stream_decoder(), [MID_STREAM[wire](failure)])
    assert isinstance(event, ProviderError)
    assert (event.kind, event.code) == (failure.mid_stream, failure.code)
    assert event.retry_after_s == failure.retry_after_s


def _small(name: str | None) -> str:
    """In a stream the names of Bedrock's exceptions begin with a small letter."""
    return name[:1].lower() + name[1:] if name else ""


def _without_number(body: dict[str, Any]) -> dict[str, Any]:
    """Gemini's error with nothing but its name to tell by."""
    return {"error": {name: value for name, value in body["error"].items() if name != "code"}}
