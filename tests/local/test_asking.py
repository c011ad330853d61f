"""`local/...` is asked like any other provider: whole, streamed, for vectors, and across its process's death."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from tests.inside import database, tree, until

from greenroom.actors.events import Finished, ProviderFailed, TextDelta
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.ledger import GetSpend
from greenroom.actors.local import Loaded
from greenroom.actors.settings import ProviderSettings, Retries, Settings, StorageSettings
from greenroom.runtime import Runtime


@pytest.fixture
async def rt(local: ProviderSettings, tmp_path: Path) -> AsyncIterator[Runtime]:
    settings = Settings(
        providers={"local": local},
        storage=StorageSettings(url=f"sqlite:///{database(tmp_path)}"),
        retries=Retries(attempts=2, backoff_base_s=0.001),
    )
    async with Runtime(settings, environ={}) as runtime:
        yield runtime
        await asyncio.wait_for(given_back(runtime), 30.0)


async def loaded(rt: Runtime) -> Loaded:
    line = await tree(rt).lines.ensure("local")
    assert line.local is not None
    return line.local.loaded


async def rest(events: EventStream) -> None:
    async for _ in events:
        pass


async def given_back(rt: Runtime) -> None:
    line = await tree(rt).lines.ensure("local")
    users = (await loaded(rt)).users
    await until(lambda: not users and not line.allowance.permits and not line.sockets.leases)
    while (await tree(rt).ledger.call(GetSpend())).open_holds:  # noqa: ASYNC110 - as `until`
        await asyncio.sleep(0)


async def test_whole_and_streamed_say_the_same_for_nothing(rt: Runtime) -> None:
    whole = await rt.chat("local/one", "Why is the sky blue?", max_tokens=12, seed=1, temperature=0)
    assert (whole.provider, whole.model, whole.cost_pusd, whole.attempts) == ("local", "one", 0, 1)
    assert 0 < whole.usage.output_tokens <= 12
    async with rt.stream("local/one", "Why is the sky blue?", max_tokens=12, seed=1, temperature=0) as events:
        told = [event async for event in events]
    assert isinstance(told[-1], Finished)
    assert "".join(event.text for event in told if isinstance(event, TextDelta)) == whole.text
    assert events.reply.usage.output_tokens == whole.usage.output_tokens


async def test_a_model_that_pools_makes_vectors(rt: Runtime) -> None:
    vectors = await rt.embed("local/vectors", ["a", "something longer than that"])
    assert [len(vector) for vector in vectors] == [64, 64]
    assert list(vectors[0]) != list(vectors[1])


async def test_many_at_once_over_two_models(rt: Runtime) -> None:
    replies = await asyncio.gather(
        *(rt.chat(f"local/{model}", f"{n}", max_tokens=4) for n in range(10) for model in ("one", "two"))
    )
    assert {reply.model for reply in replies} == {"one", "two"}
    assert set((await loaded(rt)).models) == {"one", "two"}


async def test_a_model_that_is_none_is_told_before_anything_starts(rt: Runtime) -> None:
    with pytest.raises(
        ProviderFailed, match=r"local/nothing\.gguf: not_found: there is no model file"
    ) as caught:
        await rt.chat("local/nothing.gguf", "hi")
    assert caught.value.error.attempts == 1
    assert not (await loaded(rt)).models


async def test_a_prompt_beyond_its_window_is_told_as_that(rt: Runtime) -> None:
    with pytest.raises(ProviderFailed) as caught:
        await rt.chat("local/one", "long " * 2000, max_tokens=1)
    assert caught.value.error.kind == "context_length"


async def test_killed_in_mid_stream_that_stream_fails_and_the_next_call_works(rt: Runtime) -> None:
    async with rt.stream("local/endless", "hi", max_tokens=90_000) as events:
        assert await anext(aiter(events))
        os.kill((await loaded(rt)).models["endless"].process.pid, signal.SIGKILL)
        with pytest.raises(ProviderFailed) as caught:
            await rest(events)
    assert caught.value.error.kind == "connection"
    assert (await rt.chat("local/endless", "hi", max_tokens=2)).usage.output_tokens == 2


async def test_killed_while_nobody_asks_the_next_call_works(rt: Runtime) -> None:
    await rt.chat("local/one", "hi", max_tokens=2)
    process = (await loaded(rt)).models["one"].process
    os.kill(process.pid, signal.SIGKILL)
    reply = await rt.chat("local/one", "hi", max_tokens=2)
    assert reply.attempts in {1, 2}, "asked before its death was known, it was asked again"
    assert process.ended


async def test_leaving_the_runtime_in_mid_stream_leaves_no_process(
    local: ProviderSettings, tmp_path: Path
) -> None:
    settings = Settings(
        providers={"local": local}, storage=StorageSettings(url=f"sqlite:///{database(tmp_path)}")
    )
    async with Runtime(settings, environ={}) as rt:
        stream = rt.stream("local/endless", "hi", max_tokens=90_000)
        events = await stream.__aenter__()
        await anext(aiter(events))
        process = (await loaded(rt)).models["endless"].process
    assert process.ended


async def test_without_configuration_a_path_is_enough(models: Path, tmp_path: Path) -> None:
    settings = Settings(discover_local=False, storage=StorageSettings(url=f"sqlite:///{database(tmp_path)}"))
    async with Runtime(settings, environ={}) as rt:
        reply = await rt.chat(f"local/{models / 'one.gguf'}", "hi", max_tokens=2)
    assert (reply.provider, reply.model) == ("local", str(models / "one.gguf"))
