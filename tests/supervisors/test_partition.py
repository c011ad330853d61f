# pyright: reportUnknownMemberType=false, reportUnknownLambdaType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Partitions beyond the conformance table: resized while they are being resized."""

import asyncio

import pytest
from tests.conformance.players import Plain, Step
from tests.conformance.troupe import puppet, refs

from greenroom.actors import ActorSystem, settle
from greenroom.supervisors import ChildSpec, CountPartitions, PartitionSupervisor, ResizePartitions

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("wishes", [(1, 4), (4, 1, 3), (0, 4, 0, 2)])
async def test_the_last_wish_holds_however_soon_it_comes(
    system: ActorSystem, wishes: tuple[int, ...]
) -> None:
    gate = asyncio.Event()
    spec = puppet("any", on_terminate=lambda *_: gate.wait())
    supervisor = await system.start(PartitionSupervisor, "part", spec, 4)
    resizing = [asyncio.create_task(supervisor.call(ResizePartitions(wish))) for wish in wishes]
    await settle()
    gate.set()
    await asyncio.gather(*resizing)
    await settle()
    assert sorted(await refs(supervisor)) == [str(number) for number in range(wishes[-1])]
    assert await supervisor.call(CountPartitions()) == wishes[-1]


async def test_a_partition_that_crashes_comes_back_under_its_name(system: ActorSystem) -> None:
    supervisor = await system.start(PartitionSupervisor, "part", ChildSpec("any", Plain), 2)
    system.kill((await refs(supervisor))["1"])
    await settle()
    assert await system.named("part:1").call(Step(3)) == 3
