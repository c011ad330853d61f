# pyright: reportUnknownLambdaType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Registries where they meet ends: what a listener does must never keep an actor from ending."""

import asyncio

import pytest
from tests.conformance.players import Plain, Puppet, seen

from greenroom.actors import Actor, ActorSystem, Call, Registered, Registry, Unregistered, handles, settle

pytestmark = pytest.mark.anyio


async def test_a_listener_that_is_full_or_dead_misses_what_it_is_told_and_nothing_breaks(
    system: ActorSystem,
) -> None:
    full, dead, watcher = [await system.start(Puppet, capacity=capacity) for capacity in (1, 1, 9)]
    await system.suspend(full)
    full.cast("no room")
    system.kill(dead)
    registry = Registry(system, listeners=(full, dead, watcher))
    plain = await system.start(Plain, name=registry.via("key"))
    assert await seen(watcher) == [Registered("key", plain, None)]
    down = system.wait_down(plain)
    system.kill(plain)
    assert (await down).ref is plain
    assert registry.whereis("key") is None
    assert (await seen(watcher))[1:] == [Unregistered("key", plain)]
    assert sorted(letter.why for letter in system.dead_letters) == ["dead", "dead", "overflow", "overflow"]


async def test_an_actor_that_registers_twice_and_leaves_keeps_nothing(system: ActorSystem) -> None:
    registry = Registry(system, "duplicate")
    plain = await system.start(Plain)
    for value in (1, 2):
        registry.register("a", value, ref=plain)
    registry.register("b", ref=plain)
    assert registry.lookup("a") == ((plain, 2),)
    registry.unregister("a", ref=plain)
    registry.unregister("a", ref=plain)
    assert registry.keys(plain) == ("b",)
    system.kill(plain)
    assert (len(registry), registry.keys(plain)) == (0, ())
    registry.register("a", ref=plain)
    assert len(registry) == 0  # the dead register nothing


async def test_who_registers_itself_is_found_by_name_across_its_ends(system: ActorSystem) -> None:
    class Which(Call[int], frozen=True, resend=True):
        pass

    class Seat(Actor):
        def __init__(self, number: int) -> None:
            self.number = number
            registry.register("seat", ref=self.ref)

        @handles
        def which(self, message: Which) -> int:
            return self.number

    registry = Registry(system)
    seat = system.named(registry.via("seat"))
    assert system.whereis(registry.via("seat")) is None
    waiting = asyncio.create_task(seat.call(Which()))
    await settle()
    first = await system.start(Seat, 1)
    assert await waiting == 1
    assert system.whereis(registry.via("seat")) == first
    system.kill(first)
    waiting = asyncio.create_task(seat.call(Which()))
    await settle()
    assert not waiting.done()
    await system.start(Seat, 2)
    assert await waiting == 2
