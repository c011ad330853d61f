"""Every host that is known by name, as its row says, against a server that takes nothing without the right key."""

from collections.abc import AsyncIterator

import pytest
from msgspec import structs
from tests.inside import given_back
from tests.matrix.providers import BELOW

from greenroom.actors.events import Usage
from greenroom.actors.providers.hosts import HOSTS, LOCAL_HOSTS
from greenroom.actors.settings import Retries, Settings, StorageSettings
from greenroom.runtime import Runtime
from greenroom.runtime.testing import Simulator, SimulatorSettings

pytestmark = pytest.mark.anyio
KEY = "the-right-one"
ROWS = {name: row for name, row in (HOSTS | LOCAL_HOSTS).items() if row.serve is None}
PROMPT = "Why is it dark?"


@pytest.fixture(scope="module")
async def rt(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Runtime]:
    directory = tmp_path_factory.mktemp("house")
    async with Simulator(SimulatorSettings(api_key=KEY)) as simulator:
        providers = {
            name: structs.replace(
                row,
                base_url=simulator.url + BELOW[row.wire],
                base_url_env=None,
                api_key_env="KEY",
                free=True,
            )
            for name, row in ROWS.items()
        }
        settings = Settings(
            providers=providers,
            storage=StorageSettings(url=f"sqlite:///{directory / 'greenroom.db'}"),
            retries=Retries(attempts=1),
        )
        async with Runtime(settings, environ={"KEY": KEY}) as rt:
            yield rt
            for name in providers:
                await given_back(rt, name)


@pytest.mark.parametrize("name", ROWS)
async def test_a_host_answers_whole_and_streamed(rt: Runtime, name: str) -> None:
    reply = await rt.chat(f"{name}/echo", PROMPT, max_tokens=20)
    assert (reply.text, reply.finish_reason, reply.usage) == (PROMPT, "stop", Usage(10, 4))
    async with rt.stream(f"{name}/echo", PROMPT, max_tokens=20) as events:
        streamed = await events.finish()
    assert (streamed.text, streamed.finish_reason) == (PROMPT, "stop")
    # Those who refuse to be asked for it tell it unasked, which a simulator of OpenAI does not.
    assert streamed.usage == (Usage(10, 4) if ROWS[name].stream_usage else Usage())
    cut = await rt.chat(f"{name}/echo", "abcdefgh" * 20, max_tokens=16)
    assert (cut.text, cut.finish_reason) == ("abcdefgh" * 8, "length")
