# pyright: reportUnknownLambdaType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Refs by name: whoever holds the name now, across restarts."""

import asyncio

import pytest

from greenroom.actors import (
    Actor,
    ActorExited,
    ActorSystem,
    Call,
    Cast,
    FakeClock,
    NoProcess,
    Overloaded,
    ReplyTo,
    handles,
    settle,
)
from greenroom.supervisors import Backoff, ChildSpec, Supervisor

pytestmark = pytest.mark.anyio


class Hold(Call[int], frozen=True, resend=True):
    id: int


class Ask(Call[int], frozen=True):
    pass


class Break(Cast, frozen=True):
    pass


class Desk(Actor):
    """Answers with how many desks there have been; a `Hold` with id 0 is never answered."""

    made = 0

    def __init__(self) -> None:
        Desk.made += 1
        self.number = Desk.made

    @handles
    def hold(self, message: Hold, reply_to: ReplyTo[int]) -> None:
        if message.id:
            reply_to.reply(self.number)

    @handles
    def ask(self, message: Ask) -> int:
        return self.number

    @handles
    def fail(self, message: Break) -> None:
        raise ValueError("broken")


@pytest.fixture(autouse=True)
def none_made() -> None:
    Desk.made = 0


async def test_a_name_can_be_used_before_anybody_holds_it(clock: FakeClock, system: ActorSystem) -> None:
    desk = system.named("desk")
    assert system.whereis("desk") is None
    assert not desk.alive
    with pytest.raises(ActorExited) as exited:
        await desk.call(Ask())
    assert exited.value.reason == NoProcess()
    holding = asyncio.create_task(desk.call(Hold(1)))
    await clock.advance(4.9)
    started = await system.start(Desk, name="desk")
    assert await holding == 1
    assert desk == started == system.whereis("desk")
    assert desk != system.named("other")
    assert await desk.call(Ask()) == 1
    assert "desk" in repr(desk)


async def test_resend_waits_out_a_restart_within_its_timeout_and_others_do_not(
    clock: FakeClock, system: ActorSystem
) -> None:
    spec = ChildSpec("desk", Desk, name="desk", backoff=Backoff(first_s=2.0, jitter=0.0))
    await system.start(Supervisor, [spec], intensity=10)
    desk = system.named("desk")
    desk.cast(Break())
    await settle()
    desk.cast(Break())  # the second restart waits two seconds
    holding = asyncio.create_task(desk.call(Hold(1)))
    late = asyncio.create_task(desk.call(Hold(1), timeout=1.0))
    await settle()
    with pytest.raises(ActorExited):
        await desk.call(Ask())
    await clock.advance(1.0)
    with pytest.raises(TimeoutError, match="'desk'"):
        await late
    assert not holding.done()
    await clock.advance(1.0)
    assert await holding == 3


async def test_resend_reaches_the_successor_of_an_actor_that_died_with_the_call(
    clock: FakeClock, system: ActorSystem
) -> None:
    await system.start(Supervisor, [ChildSpec("desk", Desk, name="desk")], intensity=10)
    desk = system.named("desk")
    silent = [asyncio.create_task(desk.call(Hold(0), timeout=3.0)) for _ in range(2)]
    await settle()
    desk.cast(Break())
    await settle()
    assert Desk.made == 2
    assert not any(task.done() for task in silent)  # asked again, still not answered
    assert system.statistics_of(desk).owed == 2
    await clock.advance(3.0)
    for task in silent:
        with pytest.raises(TimeoutError):
            await task


async def test_a_plain_ref_dies_with_its_incarnation(system: ActorSystem) -> None:
    plain = await system.start(Desk, name="desk")
    system.kill(plain)
    await system.start(Desk, name="desk")
    with pytest.raises(ActorExited):
        await plain.call(Hold(1))
    assert await system.named("desk").call(Hold(1)) == 2


async def test_cast_and_send_by_name_go_to_the_holder_or_are_dead_letters(system: ActorSystem) -> None:
    desk = system.named("desk")
    desk.cast(Break())
    await desk.send(Break())
    assert [letter.why for letter in system.dead_letters] == ["unknown name"] * 2
    await system.start(Desk, name="desk", capacity=1)
    await system.suspend(desk)
    await desk.send(Ask())
    with pytest.raises(Overloaded):
        desk.cast(Ask())
    await system.resume(desk)
    assert await desk.call(Ask()) == 1


async def test_leaving_ends_the_wait_for_a_name(clock: FakeClock) -> None:
    async with ActorSystem(clock=clock) as system:
        holding = asyncio.create_task(system.named("nobody").call(Hold(1), timeout=None))
        await settle()
    with pytest.raises(ActorExited):
        await holding
    assert clock.pending == 0
    assert system.core.name_waiters == {}


async def test_a_cancelled_wait_for_a_name_leaves_nothing(clock: FakeClock, system: ActorSystem) -> None:
    holding = asyncio.create_task(system.named("nobody").call(Hold(1)))
    await settle()
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    assert clock.pending == 0
    assert system.core.name_waiters == {}
