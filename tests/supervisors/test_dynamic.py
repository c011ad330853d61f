# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Dynamic supervisors beyond the conformance table: how many stop at once, and what that leaves."""

import asyncio

import pytest
from tests.conformance.players import Plain, forever
from tests.conformance.troupe import end, infos, puppet, refs

from greenroom.actors import ActorSystem, FakeClock, Killed, Shutdown, settle
from greenroom.supervisors import ChildSpec, DynamicSupervisor, StartChild

pytestmark = pytest.mark.anyio


async def test_who_hangs_is_killed_when_its_grace_period_is_over_whoever_else_hangs(
    system: ActorSystem, clock: FakeClock
) -> None:
    supervisor = await system.start(DynamicSupervisor)
    for number, shutdown in enumerate([1.0, 3.0, 1.0, 3.0, 1.0]):
        await supervisor.call(StartChild(puppet(f"p{number}", shutdown=shutdown, on_terminate=forever)))
    children = list((await refs(supervisor)).values())
    stopping = asyncio.create_task(system.stop(supervisor, timeout=None))
    await clock.advance(1.0)
    assert [child.alive for child in children] == [False, True, False, True, False]
    await clock.advance(1.9)
    assert not stopping.done()
    await clock.advance(0.1)
    assert await stopping == Shutdown()
    assert not any(child.alive for child in children)


@pytest.mark.parametrize("begun", [False, True])
async def test_killed_while_its_children_stop_it_leaves_none_and_no_timer(
    system: ActorSystem, clock: FakeClock, *, begun: bool
) -> None:
    """Who asked them to stop kept the time; when it is gone, their class's own limit holds."""
    supervisor = await system.start(DynamicSupervisor)
    for number in range(3):
        await supervisor.call(StartChild(puppet(f"p{number}", shutdown="infinity", on_terminate=forever)))
    stopping = asyncio.create_task(system.stop(supervisor, timeout=None))
    if begun:
        await settle()
    else:
        while system.statistics_of(supervisor).state != "leaving":  # noqa: ASYNC110  # it has no event to offer
            await asyncio.sleep(0)
    system.kill(supervisor)
    assert await stopping == Killed()
    await clock.advance(5.0)
    assert system.statistics().alive == 0
    assert clock.pending == 0


async def test_a_thousand_children_come_and_go_and_nothing_is_kept(system: ActorSystem) -> None:
    supervisor = await system.start(DynamicSupervisor, intensity=0)
    specs = [ChildSpec(f"p{number}", Plain, restart="temporary") for number in range(1000)]
    started = await asyncio.gather(*[supervisor.call(StartChild(spec)) for spec in specs])
    for child in started:
        system.kill(child)
    await settle()
    assert supervisor.alive
    assert await infos(supervisor) == {}
    assert system.statistics_of(supervisor).links == 0


async def test_restarts_are_counted_for_the_whole_system(system: ActorSystem) -> None:
    supervisor = await system.start(DynamicSupervisor, intensity=5)
    await supervisor.call(StartChild(puppet("a")))
    for _ in range(3):
        await end(system, (await refs(supervisor))["a"])
    assert system.statistics().restarts == 3
