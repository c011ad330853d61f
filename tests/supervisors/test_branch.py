"""A branch begins its children again when it is itself begun again."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from tests.conformance.players import Puppet, Tell
from tests.conformance.troupe import puppet

from greenroom.actors import Actor, ActorRef, ActorSystem, FakeClock, Normal, StartFailed, settle
from greenroom.supervisors import ChildExists, ChildSpec, Supervisor, TerminateChild, WhichChildren
from greenroom.supervisors.branch import Branch, Keep
from greenroom.supervisors.spec import Restart

pytestmark = pytest.mark.anyio


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    async with ActorSystem(clock=FakeClock()) as opened:
        yield opened


@pytest.fixture
def kept() -> dict[str, ChildSpec]:
    return {}


@pytest.fixture
async def branch(system: ActorSystem, kept: dict[str, ChildSpec]) -> ActorRef:
    """A branch under a root that starts it again."""
    made = ChildSpec("branch", Branch, args=(kept,), kwargs={"intensity": 1, "period": 5.0}, name="branch")
    await system.start(Supervisor, [made], intensity=10)
    return system.named("branch")


def a(id_: str, restart: Restart = "permanent") -> ChildSpec:
    return puppet(id_, name=f"puppet {id_}", restart=restart)


async def states(branch: ActorRef) -> dict[str, str]:
    return {info.id: info.state for info in await branch.call(WhichChildren())}


async def kill(system: ActorSystem, ref: ActorRef) -> None:
    system.kill(ref)
    await settle()


async def test_killed_it_begins_its_children_again(system: ActorSystem, branch: ActorRef) -> None:
    first = [await branch.call(Keep(a(id_))) for id_ in "xyz"]
    await kill(system, branch)
    assert not any(ref.alive for ref in first)
    assert await states(branch) == dict.fromkeys("xyz", "running")
    assert all(system.named(f"puppet {id_}").alive for id_ in "xyz")


async def test_beyond_its_intensity_too(system: ActorSystem, branch: ActorRef) -> None:
    for id_ in "xy":
        await branch.call(Keep(a(id_)))
    before = system.resolve(branch)
    for _ in range(2):
        await kill(system, system.named("puppet x"))
    assert system.resolve(branch) is not before
    assert await states(branch) == dict.fromkeys("xy", "running")


async def test_a_child_that_has_ended_is_forgotten(
    system: ActorSystem, branch: ActorRef, kept: dict[str, ChildSpec]
) -> None:
    for id_ in ("done", "sent away", "stays"):
        await branch.call(Keep(a(id_, restart="transient")))
    system.named("puppet done").cast(Tell(lambda it: it.stop(Normal())))
    await branch.call(TerminateChild("sent away"))
    await settle()
    assert list(kept) == ["stays"]
    await kill(system, branch)
    assert await states(branch) == {"stays": "running"}


async def test_what_could_not_start_is_told_and_not_kept(
    system: ActorSystem, branch: ActorRef, kept: dict[str, ChildSpec]
) -> None:
    class Broken(Actor):
        async def init(self) -> None:
            raise OSError("no")

    with pytest.raises(StartFailed):
        await branch.call(Keep(ChildSpec("broken", Broken, name="broken")))
    assert (kept, await states(branch)) == ({}, {})


async def test_a_child_that_is_there_is_not_started_twice(system: ActorSystem, branch: ActorRef) -> None:
    spec = a("x")
    one = await branch.call(Keep(spec))
    assert await branch.call(Keep(spec)) == one
    with pytest.raises(ChildExists, match="already started"):
        await branch.call(Keep(a("x")))
    assert await states(branch) == {"x": "running"}


class Slow(Puppet):
    """Takes until it is told to begin, or to end."""

    gate: asyncio.Event

    async def init(self) -> None:
        await self.gate.wait()


async def test_asked_for_while_it_restarts_a_child_is_started_once(
    system: ActorSystem, branch: ActorRef, kept: dict[str, ChildSpec]
) -> None:
    Slow.gate = asyncio.Event()
    asking = asyncio.create_task(branch.call(Keep(ChildSpec("slow", Slow, args=("slow",), name="slow"))))
    await settle()
    await kill(system, branch)
    assert not asking.done()
    Slow.gate.set()
    assert (await asking).alive
    assert await states(branch) == {"slow": "running"}
    assert list(kept) == ["slow"]


class Clinging(Puppet):
    """Lets go of its name only when its own task has ended, which takes until the gate opens."""

    gate: asyncio.Event

    async def init(self) -> None:
        self.pipe_to_self(self._work())

    async def _work(self) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await self.gate.wait()


async def test_it_waits_for_orphans_that_still_have_their_names(
    system: ActorSystem, branch: ActorRef
) -> None:
    """Taking the name over at once would fail, count as a restart, and take the branch down with it."""
    Clinging.gate = asyncio.Event()
    orphan = await branch.call(Keep(ChildSpec("c", Clinging, args=("c",), name="c")))
    await kill(system, branch)
    assert orphan.alive
    asking = asyncio.create_task(states(branch))
    await settle()
    assert not asking.done()
    Clinging.gate.set()
    assert list(await asking) == ["c"]
    assert not orphan.alive
    await settle()
    assert await states(branch) == {"c": "running"}
