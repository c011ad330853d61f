# ruff: noqa: N802  # the numbers are those of the conformance table
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Signals: exits, links, monitors, order. Numbers as in the conformance table."""

import asyncio

import pytest
from tests.conformance.oracle.outcomes import expect, lives
from tests.conformance.players import (
    Do,
    Puppet,
    Tell,
    crash,
    exits_of,
    forever,
    ignore,
    inside,
    link,
    raising,
    seen,
)

from greenroom.actors import (
    ActorExited,
    ActorRef,
    ActorSystem,
    Crashed,
    Down,
    Exit,
    Killed,
    NoProcess,
    Normal,
    Shutdown,
    Stop,
    settle,
)

pytestmark = pytest.mark.anyio


async def pair(system: ActorSystem, *, traps: bool) -> tuple[ActorRef, ActorRef]:
    """Two linked puppets, the first trapping exits if `traps`."""
    first = await system.start(Puppet, traps=traps)
    second = await system.start(Puppet)
    await inside(first, link(system, second))
    return first, second


async def test_S01_exit_normal_from_another_process_is_ignored_unless_trapping(system: ActorSystem) -> None:
    plain = await system.start(Puppet)
    trapping = await system.start(Puppet, traps=True)
    sender = await system.start(Puppet)
    for target in (plain, trapping):
        await inside(sender, lambda _, target=target: system.exit(target, Normal()))  # type: ignore[misc]
    await settle()
    expect("S01.plain", lives(plain), *await seen(plain))
    expect("S01.trapping", lives(trapping), *await seen(trapping))
    assert await seen(trapping) == [Exit(sender, Normal())]


async def test_S02_kill_ends_a_trapping_process_and_its_links_see_killed(system: ActorSystem) -> None:
    watcher, victim = await pair(system, traps=True)
    await inside(victim, lambda puppet: setattr(puppet, "trap_exit", True))
    down = asyncio.create_task(system.wait_down(victim))
    await settle()
    system.exit(victim, Killed())
    expect("S02", (await down).reason, *await seen(watcher))
    assert await exits_of(watcher) == [(victim, Killed())]


async def test_S03_raising_kill_inside_can_be_trapped_by_links(system: ActorSystem) -> None:
    watcher, victim = await pair(system, traps=True)
    with pytest.raises(ActorExited) as caught:
        await victim.call(Do(raising(Stop(Killed()))))
    assert caught.value.reason == Killed()
    expect("S03", lives(watcher), *await seen(watcher))
    assert await exits_of(watcher) == [(victim, Killed())]


async def test_S04_abnormal_exit_ends_links_with_the_same_reason_and_a_cycle_once_each(
    system: ActorSystem,
) -> None:
    ring = [await system.start(Puppet) for _ in range(3)]
    for index, ref in enumerate(ring):
        await inside(ref, link(system, ring[(index + 1) % 3]))
    watcher = await system.start(Puppet)
    for ref in ring:
        await inside(watcher, lambda _, ref=ref: system.monitor(ref))  # type: ignore[misc]
    reason = await crash(ring[0])
    await settle()
    downs = {down.ref: down.reason for down in await seen(watcher)}
    assert len(await seen(watcher)) == 3
    assert downs == dict.fromkeys(ring, reason)
    expect("S04", *downs.values())


async def test_S05_a_linked_peers_normal_exit_changes_nothing(system: ActorSystem) -> None:
    survivor, leaver = await pair(system, traps=False)
    await system.stop(leaver, Normal())
    await settle()
    expect("S05", lives(survivor), *await seen(survivor))


async def test_S06_linked_twice_one_exit_unlinked_none_also_if_queued(system: ActorSystem) -> None:
    watcher, peer = await pair(system, traps=True)
    await inside(watcher, link(system, peer))
    await crash(peer)
    expect("S06.twice", *await seen(watcher))

    watcher, peer = await pair(system, traps=True)
    await inside(watcher, lambda _: system.unlink(peer))
    await crash(peer)
    expect("S06.unlinked", *await seen(watcher))

    watcher, peer = await pair(system, traps=True)

    def die_and_unlink(_: Puppet) -> None:
        system.kill(peer)
        system.unlink(peer)

    await inside(watcher, die_and_unlink)
    assert not peer.alive
    expect("S06.queued", *await seen(watcher))


async def test_S07_linking_to_the_dead_is_exit_noproc(system: ActorSystem) -> None:
    dead = await system.start(Puppet)
    system.kill(dead)
    trapping = await system.start(Puppet, traps=True)
    await inside(trapping, link(system, dead))
    expect("S07.trapping", *await seen(trapping))
    assert await exits_of(trapping) == [(dead, NoProcess())]
    plain = await system.start(Puppet)
    plain.cast(Tell(link(system, dead)))
    assert plain.alive
    expect("S07.plain", (await system.wait_down(plain)).reason)


async def test_S08_monitoring_the_dead_is_one_down_noproc(system: ActorSystem) -> None:
    dead = await system.start(Puppet)
    system.kill(dead)
    watcher = await system.start(Puppet)
    number = await inside(watcher, lambda _: system.monitor(dead))
    await settle()
    expect("S08", *await seen(watcher))
    assert await seen(watcher) == [Down(dead, NoProcess(), number)]
    assert (await system.wait_down(dead)).reason == NoProcess()


async def test_S09_n_monitors_n_downs_and_none_after_demonitor(system: ActorSystem) -> None:
    watcher = await system.start(Puppet)
    target = await system.start(Puppet)
    numbers = await inside(watcher, lambda _: [system.monitor(target) for _ in range(4)])
    await inside(watcher, lambda _: system.demonitor(numbers[1]))

    def die_and_flush(_: Puppet) -> None:
        system.kill(target)
        system.demonitor(numbers[2])  # its Down waits in the mailbox already

    await inside(watcher, die_and_flush)
    expect("S09", *await seen(watcher))
    assert [down.monitor for down in await seen(watcher)] == [numbers[0], numbers[3]]


async def test_S10_a_message_sent_before_exiting_arrives_before_down(system: ActorSystem) -> None:
    watcher = await system.start(Puppet)
    sender = await system.start(Puppet)
    await inside(watcher, lambda _: system.monitor(sender))

    def say_and_end(puppet: Puppet) -> None:
        watcher.cast("last_words")
        puppet.stop()

    await system.suspend(watcher)  # so that both wait in its mailbox
    await sender.call(Do(say_and_end))
    await system.resume(watcher)
    await settle()
    expect("S10", *await seen(watcher))


async def test_S11_the_name_is_free_once_down_is_seen_a_thousand_times(system: ActorSystem) -> None:
    found: list[bool] = []

    async def on_info(_: Puppet, message: object) -> None:
        if isinstance(message, (Down, Exit)):
            found.append(system.whereis("taken") is None)

    watcher = await system.start(Puppet, traps=True, on_info=on_info)
    for _ in range(500):
        ref = await system.start(Puppet, name="taken")
        await inside(watcher, lambda _, ref=ref: [system.monitor(ref), system.link(ref)])  # type: ignore[misc, func-returns-value]
        system.kill(ref)
        await settle()
    expect("S11", found.count(True))


async def test_S12_each_senders_own_order_is_kept(system: ActorSystem) -> None:
    target = await system.start(Puppet)
    senders = [await system.start(Puppet) for _ in range(2)]

    async def send(puppet: Puppet) -> None:
        for number in range(50):
            target.cast((puppet.ref, number))
            if number % 7 == 0:
                await settle()

    for sender in senders:
        sender.cast(Tell(lambda puppet: ignore(puppet.pipe_to_self(send(puppet)))))
    await settle()
    received = [item for item in await seen(target) if isinstance(item, tuple)]
    order = {ref: [number for sender, number in received if sender == ref] for ref in senders}
    in_order = [("in_order" if order[ref] == list(range(50)) else "mixed_up") for ref in senders]
    expect("S12", *zip(("first", "second"), in_order, strict=True))


async def test_exit_signals_wait_their_turn_but_kill_does_not(system: ActorSystem) -> None:
    """Not in the table by number: one mailbox for messages and signals; kill alone bypasses it."""
    busy = await system.start(Puppet)
    busy.cast(Tell(lambda _: system.exit(busy, Shutdown())))
    busy.cast("behind")
    down = await system.wait_down(busy)
    assert down.reason == Shutdown()
    assert system.statistics().dead_letters == 0  # "behind" came before the signal

    stuck = await system.start(Puppet, on_init=None)
    stuck.cast(Tell(lambda puppet: ignore(puppet.pipe_to_self(forever()))))
    await settle()
    system.kill(stuck)
    assert (await system.wait_down(stuck)).reason == Killed()
    assert isinstance(await crash(await system.start(Puppet)), Crashed)
