# pyright: reportPrivateUsage=false
"""Whatever is sent however to whomever: once at most, in order, one at a time, answered with its own reply; nothing is left."""

import asyncio

import pytest
from tests.conformance.stage import pass_time
from tests.kernel.chatter import Scene, disturb, send, start_talker

from greenroom.actors import ActorRef, ActorSystem, settle


def check(handled: list[tuple[ActorRef, int, int]]) -> None:
    """Each message once at most, and each sender's in the order in which one actor was sent them."""
    assert len({(sender, number) for _, sender, number in handled}) == len(handled)
    last: dict[tuple[ActorRef, int], int] = {}
    for ref, sender, number in handled:
        assert number > last.get((ref, sender), -1)
        last[ref, sender] = number


async def chatter(seed: int) -> None:
    scene, before = Scene(seed), asyncio.all_tasks()
    async with ActorSystem(clock=scene.clock) as system:
        refs = [await start_talker(system, scene) for _ in range(3)]
        senders = [asyncio.create_task(send(system, scene, refs, sender, 60)) for sender in range(4)]
        disturbing = asyncio.create_task(disturb(system, scene, refs, 60))
        while not all(task.done() for task in senders):
            await scene.clock.advance(1.0)
            if disturbing.done():
                if scene.dice.random() < 0.2:  # who is owed an answer for ever is told of an end
                    for ref in refs:
                        system.kill(ref)
                disturbing = asyncio.create_task(disturb(system, scene, refs, 20))
        passing = asyncio.create_task(pass_time(scene.clock))
        await asyncio.gather(*senders, disturbing)
        passing.cancel()
        await scene.clock.advance(10.0)  # requests that nobody waited for to their end expire
        deadlines = sum(map(len, system.core.deadlines._queues.values()))
        passing = asyncio.create_task(pass_time(scene.clock))
    passing.cancel()
    await settle()
    check(scene.handled)
    assert deadlines == 0
    assert asyncio.all_tasks() == before
    assert scene.clock.pending == 0


@pytest.mark.anyio
@pytest.mark.parametrize("seed", range(20))
async def test_order_replies_and_ends_hold_in_any_chatter(seed: int) -> None:
    await chatter(seed)


@pytest.mark.anyio
@pytest.mark.soak
@pytest.mark.parametrize("first", range(100, 1100, 100))
async def test_order_replies_and_ends_hold_in_long_chatter(first: int) -> None:
    for seed in range(first, first + 100):
        await chatter(seed)
