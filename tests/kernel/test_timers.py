# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false, reportPrivateUsage=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Timers, tasks of an actor, deadlines, and the clock that stands still."""

import asyncio
from typing import Any

import pytest
from tests.conformance.players import Await, Do, Later, Puppet, forever, inside, raising, seen

from greenroom.actors import ActorSystem, Clock, FakeClock, Killed, Piped, settle
from greenroom.actors.kernel.engine.deadlines import Deadlines, Queue
from greenroom.actors.kernel.engine.signals import GetState

pytestmark = pytest.mark.anyio


async def test_send_after_sends_once_unless_cancelled(clock: FakeClock, system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    timers = await inside(puppet, lambda self: [self.send_after(delay, delay) for delay in (3.0, 1.0, 2.0)])
    assert timers[2].cancel() is True
    assert timers[2].cancel() is False
    await clock.advance(1.0)
    assert await seen(puppet) == [1.0]
    await clock.advance(10.0)
    assert await seen(puppet) == [1.0, 3.0]
    assert timers[0].cancel() is False
    assert system.statistics_of(puppet).timers == 0


async def test_a_delay_that_is_no_number_is_refused(clock: FakeClock, system: ActorSystem) -> None:
    puppet = await system.start(Puppet)

    def try_all(self: Puppet) -> None:
        for start in (self.send_after, self.set_timeout):
            with pytest.raises(ValueError, match="not nan"):
                start(float("nan"), "never")
        self.send_after(-1.0, "past")

    await inside(puppet, try_all)
    await clock.advance(0)
    assert await seen(puppet) == ["past"]
    assert system.statistics_of(puppet).timers == 0


@pytest.mark.parametrize("meanwhile", [[], ["a message"]])
async def test_an_idle_timeout_that_comes_due_while_suspended_fires_on_resume(
    clock: FakeClock, system: ActorSystem, meanwhile: list[str]
) -> None:
    puppet = await system.start(Puppet)
    await inside(puppet, lambda self: self.set_timeout(2.0, "idle"))
    await system.suspend(puppet)
    await clock.advance(5.0)
    for message in meanwhile:
        puppet.cast(message)
    await system.resume(puppet)
    await settle()
    assert await seen(puppet) == (meanwhile or ["idle"])


async def test_a_system_message_at_the_same_moment_does_not_end_an_idle_timeout(
    clock: FakeClock, system: ActorSystem
) -> None:
    puppet = await system.start(Puppet)
    await inside(puppet, lambda self: self.set_timeout(2.0, "idle"))
    process = system.resolve(puppet)
    assert process is not None
    assert process.ties is not None
    assert process.ties.idle is not None
    process.post(GetState(process))
    process.ties.idle._fire()  # in the same turn of the loop, which the clock that stands still cannot do
    await clock.advance(2.0)
    assert await seen(puppet) == ["idle"]


async def test_timers_die_with_their_actor(clock: FakeClock, system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    await inside(puppet, lambda self: self.send_after(1.0, "never"))
    system.kill(puppet)
    assert clock.pending == 0
    assert system.dead_letters == ()


async def test_pipe_to_self_brings_results_and_failures_back(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    boom = ValueError("in the pipe")
    gate = asyncio.Event()

    async def slow(value: int) -> int:
        await gate.wait()
        return value

    await inside(puppet, lambda self: self.pipe_to_self(slow(7), tag="slow"))
    await inside(puppet, lambda self: self.pipe_to_self(_raise(boom), tag="boom"))
    assert await puppet.call(Do(lambda _: "meanwhile")) == "meanwhile"
    gate.set()
    await settle()
    assert sorted(await seen(puppet), key=lambda piped: str(piped.tag)) == [
        Piped("boom", error=boom),
        Piped("slow", 7),
    ]
    assert puppet.alive
    assert system.statistics_of(puppet).tasks == 0


async def _raise(error: Exception) -> None:
    raise error


async def test_pipes_are_cancelled_and_awaited_before_terminate(system: ActorSystem) -> None:
    order: list[str] = []

    async def work(number: int) -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            order.append("pipe")
            if number == 299:
                await asyncio.sleep(0)

    async def on_terminate(*_: object) -> None:
        order.append("terminate")

    for end in ("stop", "crash", "kill"):
        order.clear()
        puppet = await system.start(Puppet, on_terminate=on_terminate)
        await inside(puppet, lambda self: [self.pipe_to_self(work(number)) for number in range(300)])
        await settle()
        assert system.statistics_of(puppet).tasks == 300
        if end == "stop":
            await system.stop(puppet)
        elif end == "kill":
            system.kill(puppet)
            assert (await system.wait_down(puppet)).reason == Killed()
        else:
            await asyncio.gather(puppet.call(Do(raising(ValueError("x")))), return_exceptions=True)
        assert order == ["pipe"] * 300 + ([] if end == "kill" else ["terminate"])


async def test_a_pipe_cancelled_before_its_first_step_leaves_no_warning(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)

    def start_and_cancel(self: Puppet) -> None:
        self.pipe_to_self(forever(), tag="cancelled").cancel()
        self.pipe_to_self(forever())

    await inside(puppet, start_and_cancel)
    system.kill(puppet)
    assert (await system.wait_down(puppet)).reason == Killed()


async def test_a_cancelled_pipe_says_so(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    pipe = await inside(puppet, lambda self: self.pipe_to_self(forever(), tag="tag"))
    await settle()
    pipe.cancel()
    await settle()
    [piped] = await seen(puppet)
    assert piped.tag == "tag"
    assert isinstance(piped.error, asyncio.CancelledError)
    assert pipe.done


async def test_one_timer_serves_all_calls_with_the_same_limit(clock: FakeClock, system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    calls = [asyncio.create_task(puppet.call(Later(lambda *_: None), timeout=3.0)) for _ in range(50)]
    calls += [asyncio.create_task(puppet.call(Later(lambda *_: None), timeout=1.0))]
    await settle()
    assert clock.pending == 1
    await clock.advance(1.0)
    assert [call.done() for call in calls] == [False] * 50 + [True]
    await clock.advance(2.0)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(outcome, TimeoutError) for outcome in outcomes)
    assert clock.pending == 0
    await puppet.call(Await(lambda _: asyncio.sleep(0)))


class Item:
    def __init__(self) -> None:
        self.queue: Queue | None = None
        self.late: list[float] = []

    def expire(self, limit_s: float) -> None:
        self.late.append(limit_s)


async def test_deadlines_hold_for_more_limits_than_there_are_queues() -> None:
    clock = FakeClock()
    deadlines = Deadlines(clock)
    items = [Item() for _ in range(200)]
    for number, item in enumerate(items):
        deadlines.add(item, 1.0 + number)
    for item in items[::2]:
        assert item.queue is not None
        item.queue.pop(item, None)
    await clock.advance(500.0)
    assert [item.late for item in items] == [[] if n % 2 == 0 else [1.0 + n] for n in range(200)]
    assert clock.pending == 0
    deadlines.add(items[0], 1.0)
    deadlines.close()
    assert clock.pending == 0


async def test_the_fake_clock_runs_timers_at_their_moments_in_order() -> None:
    clock = FakeClock(start_s=10.0, epoch_s=100.0)
    ran: list[tuple[str, float]] = []

    def note(name: str) -> None:
        ran.append((name, clock.monotonic()))
        if name == "first":
            clock.call_later(0.5, note, "chained")

    clock.call_later(2.0, note, "second")
    clock.call_later(1.0, note, "first")
    clock.call_later(1.0, note, "cancelled").cancel()
    sleeping = asyncio.create_task(clock.sleep(1.7))
    assert clock.next_due() == 1.0
    await clock.advance(3.0)
    assert ran == [("first", 11.0), ("chained", 11.5), ("second", 12.0)]
    assert sleeping.done()
    assert (clock.monotonic(), clock.time()) == (13.0, 103.0)
    assert (clock.pending, clock.next_due()) == (0, None)
    sleeping = asyncio.create_task(clock.sleep(5.0))
    await settle()
    sleeping.cancel()
    await settle()
    assert clock.pending == 0


async def test_the_real_clock_tells_the_time_and_calls_later() -> None:
    clock = Clock()
    before = clock.monotonic()
    await clock.sleep(0)
    await clock.sleep(0.000_1)
    called: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    clock.call_later(0, called.set_result, "called")
    assert await called == "called"
    assert clock.monotonic() > before
    assert clock.time() > 1_700_000_000


async def test_settle_says_so_when_something_spins() -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110  # spinning is what it is for
            await asyncio.sleep(0)

    spinning = asyncio.create_task(spin())
    with pytest.raises(RuntimeError, match="something spins"):
        await settle()
    spinning.cancel()
    both: Any = await asyncio.gather(settle(), settle())
    assert both == [None, None]
