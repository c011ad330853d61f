# ruff: noqa: N802  # the numbers are those of the conformance table
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""What Python adds: tasks, cancellation, contexts, signals. Numbers as in the conformance table."""

import asyncio
import contextlib
import contextvars
import gc
import os
import signal
import sys
import time
import tracemalloc
from typing import Any

import anyio
import pytest
import structlog
from tests.conformance.players import (
    Await,
    Do,
    Fail,
    Plain,
    Puppet,
    Step,
    Tell,
    TellAwait,
    crash,
    forever,
    inside,
    raising,
    seen,
)
from tests.conformance.troupe import puppet

from greenroom.actors import (
    ActorExited,
    ActorRef,
    ActorSystem,
    Crashed,
    FakeClock,
    Killed,
    Shutdown,
    Stall,
    SystemClosed,
    settle,
)
from greenroom.supervisors import Supervisor

asynchronous = pytest.mark.anyio


@asynchronous
async def test_P01_a_childs_crash_cancels_neither_sibling_nor_the_callers_task_group(
    system: ActorSystem,
) -> None:
    puppets = [await system.start(Puppet) for _ in range(2)]
    outcomes: list[object] = []

    async def call(ref: ActorRef, message: Any) -> None:
        try:
            outcomes.append(await ref.call(message))
        except ActorExited:
            outcomes.append("exited")

    async with asyncio.TaskGroup() as group:
        group.create_task(call(puppets[0], Await(raising(ValueError("x")))))
        group.create_task(call(puppets[1], Await(lambda _: asyncio.sleep(0, "fine"))))
    assert sorted(map(str, outcomes)) == ["exited", "fine"]
    assert puppets[1].alive


@asynchronous
async def test_P02_a_cancelled_caller_leaves_the_handler_alone_and_withdraws_what_is_queued(
    system: ActorSystem,
) -> None:
    gate = asyncio.Event()
    handled: list[str] = []

    async def slow(_: Puppet) -> None:
        await gate.wait()
        handled.append("slow")

    ref = await system.start(Puppet)
    begun = asyncio.create_task(ref.call(Await(slow)))
    queued = asyncio.create_task(ref.call(Do(lambda _: handled.append("queued"))))
    await settle()
    begun.cancel()
    queued.cancel()
    await settle()
    gate.set()
    await settle()
    assert handled == ["slow"]

    class Keen(Puppet):
        skip_abandoned = False

    gate.clear()
    keen = await system.start(Keen)
    calls = [
        asyncio.create_task(keen.call(Await(slow))),
        asyncio.create_task(keen.call(Do(lambda _: handled.append("kept")))),
    ]
    await settle()
    for call in calls:
        call.cancel()
    gate.set()
    await settle()
    assert handled == ["slow", "slow", "kept"]


@asynchronous
async def test_P03_a_stray_cancelled_error_is_a_crash_and_a_cancelled_task_a_kill(
    system: ActorSystem,
) -> None:
    for message in (Do(raising(asyncio.CancelledError())), Await(raising(asyncio.CancelledError()))):
        stray = await system.start(Puppet)
        with pytest.raises(ActorExited) as exited:
            await stray.call(message)
        assert isinstance(exited.value.reason, Crashed)
        assert isinstance(exited.value.reason.exception, asyncio.CancelledError)

    def own_task(_: Puppet) -> Any:
        return asyncio.sleep(0, asyncio.current_task())

    for busy in (True, False):
        ref = await system.start(Puppet)
        task = await ref.call(Await(own_task))
        call = asyncio.create_task(ref.call(Await(forever))) if busy else None
        down = asyncio.create_task(system.wait_down(ref))
        await settle()
        task.cancel()
        assert (await down).reason == Killed()
        if call is not None:
            with pytest.raises(ActorExited):
                await call


@asynchronous
async def test_P04_timeouts_scopes_and_task_groups_work_inside_handlers_twice(system: ActorSystem) -> None:
    async def use_all(_: Puppet) -> list[str]:
        found: list[str] = []
        try:
            async with asyncio.timeout(0):
                await forever()
        except TimeoutError:
            found.append("asyncio.timeout")
        with anyio.move_on_after(0) as scope:
            await forever()
        if scope.cancelled_caught:
            found.append("anyio scope")
        with contextlib.suppress(TimeoutError):
            with anyio.fail_after(0):
                await forever()
            found.append("not reached")
        async with anyio.create_task_group() as group:
            group.start_soon(forever)
            group.cancel_scope.cancel()
        async with asyncio.TaskGroup() as native:
            native.create_task(asyncio.sleep(0))
        found.append("groups")
        return found

    ref = await system.start(Puppet)
    for _ in range(2):
        assert await ref.call(Await(use_all)) == ["asyncio.timeout", "anyio scope", "groups"]


@asynchronous
async def test_P05_a_group_of_one_gives_its_inner_error_and_of_several_keeps_the_group(
    system: ActorSystem,
) -> None:
    inner = ValueError("inner")

    async def one(_: Puppet) -> None:
        async with anyio.create_task_group():
            raise inner

    ref = await system.start(Puppet)
    with pytest.raises(ActorExited) as exited:
        await ref.call(Await(one))
    assert exited.value.reason == Crashed(inner)
    several = ExceptionGroup("several", [ValueError("a"), KeyError("b")])
    assert await crash(await system.start(Puppet), ExceptionGroup("outer", [several])) == Crashed(several)


@pytest.mark.parametrize("error", [KeyboardInterrupt("ctrl-c"), SystemExit(3)])
@pytest.mark.parametrize("how", ["plain call", "async call", "cast", "info", "init", "task"])
def test_P06_interrupts_leave_the_loop_after_one_ordered_shutdown(error: BaseException, how: str) -> None:
    journal: list[str] = []

    async def main() -> None:
        async with ActorSystem() as system:
            await system.start(Supervisor, [puppet("a", journal), puppet("b", journal)])
            victim = await system.start(Puppet, "victim", journal, on_info=raising(error))
            if how == "init":
                await system.start(Puppet, on_init=raising(error))
            elif how == "plain call":
                await victim.call(Do(raising(error)), timeout=None)
            elif how == "async call":
                await victim.call(Await(raising(error)), timeout=None)
            elif how == "task":
                await inside(victim, lambda self: self.pipe_to_self(_raise_later(error)))
            else:
                victim.cast(Tell(raising(error)) if how == "cast" else "info")
            await forever()

    with pytest.raises(type(error)) as caught:
        asyncio.run(main())
    assert caught.value is error
    assert [line for line in journal if line.startswith("terminate")] == [
        "terminate victim",
        "terminate b",
        "terminate a",
    ]


def test_P06_a_second_interrupt_kills_who_would_be_waited_for() -> None:
    journal: list[str] = []

    async def main() -> None:
        async with ActorSystem(stop_timeout_s=None) as system:
            await system.start(Puppet, "hangs", journal, on_terminate=forever)
            await system.start(Puppet, "impatient", journal, on_terminate=raising(KeyboardInterrupt("again")))
            victim = await system.start(Puppet)
            await victim.call(Do(raising(KeyboardInterrupt("first"))), timeout=None)

    with pytest.raises(KeyboardInterrupt, match="first"):
        asyncio.run(main())
    assert "terminate impatient" in journal


async def _raise_later(error: BaseException) -> None:
    await asyncio.sleep(0)
    raise error


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_P06_a_signal_stops_all_in_order(number: int) -> None:
    journal: list[str] = []

    async def main() -> None:
        async with ActorSystem(stop_on_signals=(signal.SIGTERM,)) as system:
            await system.start(Supervisor, [puppet("a", journal), puppet("b", journal)])
            os.kill(os.getpid(), number)
            await forever()

    with pytest.raises((SystemExit, KeyboardInterrupt)) as caught:
        asyncio.run(main())
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 128 + signal.SIGTERM
    assert isinstance(caught.value, SystemExit) is (number == signal.SIGTERM)
    assert journal[-2:] == ["terminate b", "terminate a"]


@asynchronous
async def test_P07_context_variables_do_not_leak_between_caller_and_actor(system: ActorSystem) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="default")

    def swap(_: Puppet) -> str:
        before = variable.get()
        variable.set("the actor's")
        structlog.contextvars.bind_contextvars(who="actor")
        return before

    async def swap_async(puppet: Puppet) -> str:
        return swap(puppet)

    variable.set("the caller's")
    structlog.contextvars.bind_contextvars(who="caller")
    ref = await system.start(Puppet)
    assert await ref.call(Do(swap)) == "default"
    assert await ref.call(Do(swap)) == "the actor's"
    assert await ref.call(Await(swap_async)) == "the actor's"
    ref.cast(Tell(lambda self: self.seen.append(variable.get())))
    assert await seen(ref) == ["the actor's"]
    assert variable.get() == "the caller's"
    assert structlog.contextvars.get_contextvars() == {"who": "caller"}
    structlog.contextvars.clear_contextvars()


async def _crowd(system: ActorSystem) -> None:
    """Actors in every state: idle, lingering, busy, starting, suspended, with timers, tasks and waiting callers."""
    await system.start(Supervisor, [puppet("a", name="a"), puppet("b", name="b")], name="supervisor")
    lingering = await system.start(Puppet, name="lingering")
    await lingering.call(Await(lambda _: asyncio.sleep(0)))
    busy = await system.start(Puppet, name="busy")
    busy.cast(Tell(lambda self: self.seen.append(self.send_after(1000.0, "late"))))
    await inside(busy, lambda self: self.pipe_to_self(forever()))
    await inside(busy, lambda self: self.set_timeout(1000.0))
    suspended = await system.start(Puppet)
    await system.suspend(suspended)
    suspended.cast("waits")
    await settle()


@asynchronous
@pytest.mark.parametrize("how", ["normally", "by an error", "cancelled", "cancelled by a scope"])
async def test_P08_leaving_leaves_no_task_no_timer_and_no_name(how: str) -> None:
    clock = FakeClock()
    systems: list[ActorSystem] = []
    before = asyncio.all_tasks()

    async def live() -> None:
        async with ActorSystem(clock=clock) as system:
            systems.append(system)
            await _crowd(system)
            if how == "by an error":
                raise KeyError("in the block")
            if how != "normally":
                await forever()

    if how == "cancelled by a scope":
        async with anyio.create_task_group() as group:
            group.start_soon(live)
            await settle()
            group.cancel_scope.cancel()
    else:
        running = asyncio.create_task(live())
        await settle()
        if how == "cancelled":
            running.cancel()
        outcome = (await asyncio.gather(running, return_exceptions=True))[0]
        expected = {"normally": type(None), "by an error": KeyError, "cancelled": asyncio.CancelledError}[how]
        assert isinstance(outcome, expected)
    [system] = systems
    await settle()
    assert asyncio.all_tasks() == before
    assert clock.pending == 0
    statistics = system.statistics()
    assert (statistics.alive, statistics.names) == (0, 0)
    with pytest.raises(SystemClosed):
        await system.start(Plain)


@asynchronous
async def test_P09_the_stop_order_is_reverse_even_in_a_cancelled_scope() -> None:
    journal: list[str] = []

    async def live() -> None:
        async with ActorSystem(clock=FakeClock()) as system:
            for id_ in "abc":
                await system.start(Puppet, id_, journal, on_terminate=lambda *_: asyncio.sleep(0))
            await forever()

    with anyio.CancelScope() as scope:
        scope.cancel()
        await live()
    assert journal in ([], ["init a"])  # cancelled before anything ran

    async with anyio.create_task_group() as group:
        group.start_soon(live)
        await settle()
        group.cancel_scope.cancel()
    assert journal[-3:] == ["terminate c", "terminate b", "terminate a"]


@asynchronous
async def test_P10_a_handler_that_swallows_cancellation_is_counted_as_a_zombie(
    system: ActorSystem, clock: FakeClock
) -> None:
    gate = asyncio.Event()
    swallowed = 0

    async def stubborn(_: Puppet) -> None:
        nonlocal swallowed
        while not gate.is_set():
            try:
                await gate.wait()
            except asyncio.CancelledError:
                swallowed += 1

    ref = await system.start(Puppet, name="stubborn")
    call = asyncio.create_task(ref.call(Await(stubborn)))
    down = asyncio.create_task(system.wait_down(ref))
    await settle()
    system.kill(ref)
    await clock.advance(1.9)
    assert not down.done()
    await clock.advance(0.1)
    assert (await down).reason == Killed()
    with pytest.raises(ActorExited):
        await call
    assert swallowed == 4  # cancelled a few times, not once a turn
    assert system.statistics().zombies == 1
    assert system.whereis("stubborn") is None
    gate.set()
    await settle()
    statistics = system.statistics()
    assert (statistics.zombies, statistics.zombies_seen) == (0, 1)


@asynchronous
async def test_P11_calls_in_place_and_a_backlog_leave_others_their_turns(system: ActorSystem) -> None:
    """Counted in turns of the loop; timed in the benchmarks."""
    turns = 0
    loop = asyncio.get_running_loop()

    def turn() -> None:
        nonlocal turns
        turns += 1
        ticking[0] = loop.call_soon(turn)

    ticking = [loop.call_soon(turn)]
    plain = await system.start(Plain, capacity=400_000)
    for _ in range(100_000):
        await plain.call(Step())
    assert turns >= 100_000 // (33 * 9)
    turns = 0
    plain.cast(Step())
    for _ in range(300_000):
        plain.cast(Step())
    assert await plain.call(Step()) == 400_002
    assert turns >= 10
    ticking[0].cancel()


@asynchronous
async def test_P11_async_handlers_that_never_wait_leave_others_their_turns(system: ActorSystem) -> None:
    others_turn = asyncio.Event()

    async def again(self: Puppet) -> None:
        if not others_turn.is_set():
            self.ref.cast(TellAwait(again))

    ref = await system.start(Puppet)
    ref.cast(TellAwait(again))
    for _ in range(3):
        await asyncio.sleep(0)
    others_turn.set()
    assert await ref.call(Do(lambda _: "done")) == "done"


@asynchronous
async def test_P12_a_calls_b_calls_a_times_out_and_nothing_overlaps(
    system: ActorSystem, clock: FakeClock
) -> None:
    first = await system.start(Puppet)
    second = await system.start(Puppet)
    inside_first = 0
    most = 0

    async def outer(_: Puppet) -> str:
        nonlocal inside_first, most
        inside_first += 1
        most = max(most, inside_first)
        try:
            return str(await second.call(Await(inner), timeout=10.0))
        finally:
            inside_first -= 1

    async def inner(_: Puppet) -> str:
        try:
            return str(await first.call(Await(outer), timeout=1.0))
        except TimeoutError:
            return "timed out"

    call = asyncio.create_task(first.call(Await(outer), timeout=20.0))
    await clock.advance(1.0)
    assert await call == "timed out"
    assert most == 1


@asynchronous
async def test_P13_idle_actors_are_small_and_stop_in_order() -> None:
    """Ten thousand here; a hundred thousand, and the collector's pause, in the benchmarks."""
    async with ActorSystem(clock=FakeClock()) as system:
        gc.collect()
        tracemalloc.start()
        for _ in range(10_000):
            await system.start(Plain)
        bytes_each = tracemalloc.get_traced_memory()[0] / 10_000
        tracemalloc.stop()
    # CPython 3.13 makes room for attributes in each object, used or not; an actor with slots needs none of it
    assert bytes_each <= (600 if sys.version_info < (3, 13) else 720)
    journal: list[str] = []
    async with ActorSystem(clock=FakeClock()) as system:
        for number in range(100):
            await system.start(Puppet, str(number), journal)
        journal.clear()
    assert journal == [f"terminate {number}" for number in reversed(range(100))]


@asynchronous
async def test_P14_a_blocked_loop_is_reported_with_the_actors_name() -> None:
    stalls: list[Stall] = []
    async with ActorSystem(stall_s=0.02, on_stall=stalls.append) as system:

        def spin(_: Puppet) -> None:
            count = len(stalls)
            until = time.monotonic() + 10.0
            while len(stalls) == count and time.monotonic() < until:
                pass

        async def spin_async(self: Puppet) -> None:
            spin(self)

        blocker = await system.start(Puppet, name="blocker")
        await blocker.call(Do(spin))
        await blocker.call(Await(spin_async))
        blocker.cast(Tell(spin))
        await blocker.call(Do(lambda _: None))
        statistics = system.statistics()
    assert len(stalls) == statistics.stalls == 3
    for stall in stalls:
        assert stall.actor is not None
        assert "blocker" in stall.actor
        assert stall.seconds >= 0.02
        assert "spin" in stall.stack


@asynchronous
async def test_killing_waits_for_a_handlers_cleanup(system: ActorSystem, clock: FakeClock) -> None:
    """Ours beyond the table: cancellation is sent once, so a finally that waits is not cut short."""
    cleaned: list[str] = []

    async def work(_: Puppet) -> None:
        try:
            await forever()
        finally:
            await clock.sleep(0.4)
            cleaned.append("cleaned")

    ref = await system.start(Puppet)
    call = asyncio.create_task(ref.call(Await(work)))
    await settle()
    system.kill(ref)
    await clock.advance(0.4)
    assert cleaned == ["cleaned"]
    with pytest.raises(ActorExited) as exited:
        await call
    assert exited.value.reason == Killed()
    plain = await system.start(Plain)
    plain.cast(Fail())
    assert isinstance((await system.wait_down(plain)).reason, Crashed)
    assert await system.stop(await system.start(Plain)) == Shutdown()
