"""Models are loaded when they are asked, kept while they are used, started again when they die, and never too many.

Real processes of llama.cpp's real server; the clock is the tests' own.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import Any, cast

import aiohttp
import pytest
from msgspec import structs
from tests.inside import until
from yarl import URL

from greenroom.actors.events import ProviderError
from greenroom.actors.kernel import ActorRef, ActorSystem, FakeClock
from greenroom.actors.local import Loaded, Local, Served, Unused, Use, worker
from greenroom.actors.local.process import ModelProcess
from greenroom.actors.settings import LocalServing, ProviderSettings


class House:
    """The actor of the local models, and what outlives it."""

    def __init__(self, system: ActorSystem, clock: FakeClock, settings: ProviderSettings) -> None:
        self.system = system
        self.clock = clock
        self.loaded = Loaded(settings)
        self.ref: ActorRef

    async def start(self) -> None:
        self.ref = await self.system.start(Local, self.loaded, name="models")

    async def use(self, ticket: int, model: str) -> Served:
        answer = await self.system.named("models").call(Use(ticket, model), timeout=None)
        assert isinstance(answer, Served), answer
        return answer

    async def refused(self, ticket: int, model: str) -> ProviderError:
        answer = await self.system.named("models").call(Use(ticket, model), timeout=None)
        assert isinstance(answer, ProviderError), answer
        return answer

    async def wait_for_room(self, count: int) -> None:
        """Until so many wait for room."""
        while len((await self.state())["_waiting"]) != count:  # noqa: ASYNC110 - as `until`
            await asyncio.sleep(0)

    async def state(self) -> dict[str, Any]:
        """The actor's."""
        return cast("dict[str, Any]", await self.system.get_state(self.ref))

    def done(self, ticket: int, outcome: str = "ok") -> None:
        self.loaded.give_back(ticket, self.clock.monotonic(), outcome)
        self.ref.cast(Unused(ticket))

    async def die(self, model: str) -> None:
        """Kill a model's process, and wait until the actor knows."""
        process = self.loaded.models[model].process
        os.kill(process.pid, signal.SIGKILL)
        await until(lambda: model not in self.loaded.models)


Furnish = Callable[..., Awaitable[House]]


@pytest.fixture
async def furnish(local: ProviderSettings) -> AsyncIterator[Furnish]:
    """Makes a house, with `serve` as it is in the fixture but for what is given."""
    async with AsyncExitStack() as stack:

        async def make(**serve: object) -> House:
            clock = FakeClock()
            serving = structs.replace(local.serve or LocalServing(), **serve)
            settings = structs.replace(local, serve=serving)
            system = ActorSystem(clock=clock)
            house = House(system, clock, settings)
            stack.push_async_callback(house.loaded.aclose)
            await stack.enter_async_context(system)
            await house.start()
            return house

        yield make


async def status_of(served: Served, key: str) -> int:
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{served.base_url}/models", headers={"Authorization": f"Bearer {key}"}) as response,
    ):
        return response.status


async def test_the_first_use_loads_a_model_and_all_share_it(furnish: Furnish) -> None:
    house = await furnish()
    served = await asyncio.gather(*(house.use(ticket, "one") for ticket in range(20)))
    assert len(set(map(id, served))) == 20
    assert len({one.base_url for one in served}) == 1
    assert house.loaded.models["one"].users == 20
    for ticket in range(20):
        house.done(ticket)
    assert house.loaded.models["one"].users == 0
    assert not house.loaded.users


async def test_it_answers_on_the_loopback_to_its_key_alone(furnish: Furnish) -> None:
    house = await furnish()
    served = await house.use(1, "one")
    assert served.base_url.startswith("http://127.0.0.1:")
    assert await status_of(served, served.key.reveal()) == 200
    assert await status_of(served, "guessed") == 401
    with open(f"/proc/{house.loaded.models['one'].process.pid}/cmdline") as file:  # noqa: ASYNC230, PTH123 - no disk
        assert served.key.reveal() not in file.read()


async def test_one_that_was_killed_is_started_again_by_the_next_use(furnish: Furnish) -> None:
    house = await furnish()
    first = await house.use(1, "one")
    await house.die("one")
    second = await house.use(2, "one")
    assert second.base_url != first.base_url or second.key.reveal() != first.key.reveal()
    house.done(1)
    assert house.loaded.models["one"].users == 1


async def test_one_that_dies_again_and_again_waits_longer_each_time(
    furnish: Furnish, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await furnish()
    start, started_s = ModelProcess.start, [0.0]

    async def noted(*args: Any) -> ModelProcess:
        started_s.append(house.clock.monotonic())
        return await start(*args)

    monkeypatch.setattr(ModelProcess, "start", noted)
    due_s = 0.0
    for ticket, wait_s in enumerate([0.0, 0.5, 1.0, 2.0]):
        using = asyncio.create_task(house.use(ticket, "one"))
        while not using.done():
            await house.clock.advance(0.01)
        assert started_s[-1] >= due_s
        await house.die("one")
        due_s = house.loaded.deaths["one"].not_before_s
        assert due_s - house.clock.monotonic() == wait_s


async def test_one_that_lived_for_a_minute_is_started_again_at_once(furnish: Furnish) -> None:
    house = await furnish()
    for ticket in range(4):
        await house.use(ticket, "one")
        await house.clock.advance(60.0)
        await house.die("one")
    assert house.loaded.deaths["one"].not_before_s == house.clock.monotonic()


async def test_one_that_nobody_asks_is_unloaded(furnish: Furnish) -> None:
    house = await furnish(idle_s=100.0)
    await house.use(1, "one")
    process = house.loaded.models["one"].process
    await house.clock.advance(1000.0)
    assert not process.ended, "somebody uses it"
    house.done(1)
    await house.clock.advance(99.0)
    await house.use(2, "one")
    house.done(2)
    await house.clock.advance(99.0)
    assert not house.loaded.models["one"].stopping, "it was used meanwhile"
    await house.clock.advance(2.0)
    await until(lambda: process.ended)
    await house.use(3, "one")
    assert house.loaded.models["one"].process is not process
    assert "one" not in house.loaded.deaths, "it did not die, it was stopped"


async def test_one_that_is_loaded_anew_has_one_timer(furnish: Furnish) -> None:
    house = await furnish(idle_s=100.0)
    await house.use(1, "one")
    await house.die("one")
    await house.use(2, "one")
    await house.clock.advance(250.0)
    assert house.clock.pending == 1, "the other was that of a process that is gone"


async def test_no_more_are_loaded_than_may_be_and_the_idle_one_makes_room(furnish: Furnish) -> None:
    house = await furnish(max_loaded=1)
    await house.use(1, "one")
    waits = [asyncio.create_task(house.use(ticket, "two")) for ticket in (2, 3)]
    await house.wait_for_room(2)
    assert not house.loaded.models["one"].stopping, "somebody uses it"
    behind = asyncio.create_task(house.use(4, "one"))
    await house.wait_for_room(3)
    one = house.loaded.models["one"].process
    house.done(1)
    await asyncio.gather(*waits)
    assert one.ended
    assert list(house.loaded.models) == ["two"]
    assert not behind.done(), "there is no room for it while somebody uses the other"
    house.done(2)
    house.done(3)
    await behind
    assert list(house.loaded.models) == ["one"]


async def test_the_one_that_was_idle_longest_makes_room(furnish: Furnish) -> None:
    house = await furnish(max_loaded=2)
    for ticket, model in enumerate(["one", "two", "one"]):
        await house.use(ticket, model)
        await house.clock.advance(1.0)
        house.done(ticket)
    await house.use(9, "endless")
    assert set(house.loaded.models) == {"one", "endless"}


async def test_a_name_that_is_none_makes_nobody_leave(furnish: Furnish) -> None:
    house = await furnish(max_loaded=1)
    await house.use(1, "one")
    house.done(1)
    assert (await house.refused(2, "nothing.gguf")).kind == "not_found"
    assert not house.loaded.models["one"].stopping


async def test_one_that_cannot_be_loaded_says_why_to_all_who_wait(furnish: Furnish) -> None:
    house = await furnish()
    errors = await asyncio.gather(*(house.refused(ticket, "cut") for ticket in range(3)))
    for error in errors:
        assert error.kind == "unsupported_capability"
        assert error.message.startswith("cut cannot be loaded: exit status 3: ")
        assert "corrupted or incomplete" in error.message
    assert not house.loaded.models
    await house.use(9, "one")


async def test_one_that_dies_while_it_is_loaded_may_be_tried_again(
    furnish: Furnish, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dies = tmp_path / "dies.py"
    dies.write_text(
        "import os, sys; sys.stderr.write('out of memory\\n'); sys.stderr.flush(); os.kill(os.getpid(), 9)"
    )
    house = await furnish()
    with monkeypatch.context() as patched:
        patched.setattr("greenroom.actors.local.process._WORKER", str(dies))
        error = await house.refused(1, "one")
    assert error.kind == "server"
    assert "SIGKILL: out of memory" in error.message
    await house.use(2, "one")


async def test_one_that_takes_too_long_to_load_is_given_up(furnish: Furnish) -> None:
    house = await furnish(start_s=0.001)
    error = await house.refused(1, "one")
    assert (error.kind, error.message) == ("timeout", "one was not loaded within 0.001 s")


async def test_a_process_that_cannot_be_started_at_all(
    furnish: Furnish, monkeypatch: pytest.MonkeyPatch
) -> None:
    house = await furnish()
    with monkeypatch.context() as patched:
        patched.setattr(sys, "executable", "/nowhere/python")
        error = await house.refused(1, "one")
    assert error.kind == "server"
    assert "no process can be started for one" in error.message


async def test_one_to_which_a_connection_was_cut_is_looked_after_first(furnish: Furnish) -> None:
    house = await furnish()
    await house.use(1, "one")
    process = house.loaded.models["one"].process
    house.done(1, "connection")
    await house.use(2, "one")
    assert house.loaded.models["one"].process is process, "one connection was cut, and it answers"
    assert not house.loaded.models["one"].suspect
    url = URL(process.base_url)
    reader, writer = await asyncio.open_connection(url.host, url.port)
    os.kill(process.pid, signal.SIGKILL)
    with suppress(ConnectionError):
        await reader.read()
    writer.close()
    # Dead by now; that its parent has been told of it is not certain.
    house.done(2, "connection")
    served = await asyncio.gather(*(house.use(ticket, "one") for ticket in range(3, 6)))
    assert process.ended
    assert {one.base_url for one in served} == {house.loaded.models["one"].process.base_url}


@pytest.mark.parametrize("where", ["_aside", "_starting"])
async def test_who_gives_up_waiting_uses_nothing(furnish: Furnish, where: str) -> None:
    house = await furnish()
    using = asyncio.create_task(house.use(1, "one"))
    while "one" not in (await house.state())[where]:  # noqa: ASYNC110 - as `until`
        await asyncio.sleep(0)
    using.cancel()
    await asyncio.wait([using])
    house.done(1)
    await house.use(2, "one")
    assert house.loaded.models["one"].users == 1
    assert list(house.loaded.users) == [2]


async def test_models_outlive_their_actor(furnish: Furnish) -> None:
    house = await furnish()
    served = await house.use(1, "one")
    house.system.kill(house.ref)
    await house.system.wait_down(house.ref)
    await house.start()
    assert (await house.use(2, "one")).base_url == served.base_url
    assert house.loaded.models["one"].users == 2
    await house.die("one")
    await house.use(3, "one")


async def test_one_that_died_while_there_was_no_actor_is_started_again(furnish: Furnish) -> None:
    house = await furnish()
    await house.use(1, "one")
    house.system.kill(house.ref)
    await house.system.wait_down(house.ref)
    process = house.loaded.models["one"].process
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: process.ended)
    await house.start()
    await house.use(2, "one")
    assert house.loaded.models["one"].process is not process


async def test_one_that_is_being_loaded_goes_with_the_actor(furnish: Furnish) -> None:
    house = await furnish()
    using = asyncio.create_task(house.use(1, "one"))
    await asyncio.sleep(0)
    house.system.kill(house.ref)
    await house.system.wait_down(house.ref)
    await house.start()
    await using
    assert list(house.loaded.models) == ["one"]


async def test_closing_ends_every_process(furnish: Furnish) -> None:
    house = await furnish()
    for ticket, model in enumerate(["one", "two"]):
        await house.use(ticket, model)
    processes = [model.process for model in house.loaded.models.values()]
    await house.loaded.aclose()
    for process in processes:
        assert process.ended
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


PARENT = """
import asyncio, sys
from greenroom.actors.kernel import ActorSystem
from greenroom.actors.local import Loaded, Local, Use
from greenroom.actors.settings import ProviderSettings

async def main():
    async with ActorSystem() as system:
        loaded = Loaded(ProviderSettings(base_url="http://127.0.0.1/v1"))
        ref = await system.start(Local, loaded)
        await ref.call(Use(1, sys.argv[1]), timeout=None)
        print("at", next(iter(loaded.models.values())).process.base_url, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


def test_no_process_outlives_a_parent_that_was_killed(models: Path) -> None:
    command = [sys.executable, "-c", PARENT, str(models / "one.gguf")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        try:
            assert parent.stdout is not None
            said = next(line for line in parent.stdout if line.startswith(b"at "))
        finally:
            parent.kill()
    url = URL(said.split()[1].decode())
    ends_s = time.monotonic() + 30.0
    while takes_connections(url):
        assert time.monotonic() < ends_s, "it outlived its parent"


def takes_connections(url: URL) -> bool:
    try:
        socket.create_connection((str(url.host), int(url.port or 0))).close()
    except ConnectionError:
        return False
    return True


def test_the_end_of_its_standard_input_ends_a_process(models: Path) -> None:
    """What tells it of its parent's end where Linux does not."""
    with subprocess.Popen(
        [sys.executable, worker.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        job = (
            f'{{"kind": "gguf", "where": "{models / "one.gguf"}", "name": "one", "embeds": false, "key": "k", "parent": '
            f'{os.getpid()}, "slots": 1, "context_tokens": 128, "threads": 1, "gpu_layers": 0}}\n'
        )
        child.stdin.write(job.encode())
        child.stdin.flush()
        assert child.stdout.readline().startswith(b"http://127.0.0.1:")
        child.stdin.close()
        assert child.wait(timeout=30.0) == 0
