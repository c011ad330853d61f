# ruff: noqa: N802  # the numbers are those of the conformance table
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Dynamic supervisors, tasks, registries, partitions. Numbers as in the conformance table."""

import asyncio
import contextlib
from typing import Any

import pytest
from tests.conformance.players import (
    Await,
    Plain,
    Puppet,
    Step,
    crash,
    exits_of,
    failing,
    forever,
    inside,
    seen,
)
from tests.conformance.troupe import end, infos, puppet, refs

from greenroom.actors import (
    ActorExited,
    ActorRef,
    ActorSystem,
    Crashed,
    Down,
    FakeClock,
    NameTaken,
    NoProcess,
    Registered,
    Registry,
    Shutdown,
    Unregistered,
    settle,
)
from greenroom.supervisors import (
    Backoff,
    ChildSpec,
    CountPartitions,
    DynamicSupervisor,
    NoPartitions,
    Partitions,
    PartitionSupervisor,
    ResizePartitions,
    StartChild,
    Supervisor,
    Tasks,
    TaskSupervisor,
    TerminateChild,
    TooManyChildren,
)

pytestmark = pytest.mark.anyio


async def test_D01_max_children_counts_restarting_ones(system: ActorSystem, clock: FakeClock) -> None:
    supervisor = await system.start(DynamicSupervisor, max_children=2, intensity=5)
    await supervisor.call(StartChild(puppet("a")))
    await supervisor.call(StartChild(puppet("b", on_init=failing(1), backoff=Backoff(first_s=10.0))))
    with pytest.raises(TooManyChildren, match="2 children"):
        await supervisor.call(StartChild(puppet("c")))
    await end(system, (await refs(supervisor))["b"])
    assert (await infos(supervisor))["b"].state == "restarting"
    with pytest.raises(TooManyChildren):
        await supervisor.call(StartChild(puppet("c")))
    await supervisor.call(TerminateChild("b"))
    assert (await supervisor.call(StartChild(puppet("c")))).alive
    assert "b" not in await infos(supervisor)
    await clock.advance(20.0)  # nothing is left of its restart
    assert "b" not in await infos(supervisor)


async def test_D02_extra_arguments_come_first_also_on_restart(system: ActorSystem) -> None:
    made: list[tuple[object, ...]] = []

    class Recorder(Plain):
        def __init__(self, *args: object) -> None:
            super().__init__()
            made.append(args)

    supervisor = await system.start(DynamicSupervisor, extra_args=("extra",))
    child = await supervisor.call(StartChild(ChildSpec("a", Recorder, args=("own",))))
    await end(system, child)
    assert made == [("extra", "own"), ("extra", "own")]


async def test_D03_a_restarting_child_can_be_ended_and_mixed_children_stop(
    system: ActorSystem, clock: FakeClock
) -> None:
    journal: list[str] = []
    supervisor = await system.start(DynamicSupervisor, intensity=10)
    restarting = puppet("restarting", on_init=failing(1), backoff=Backoff(first_s=10.0))
    await end(system, await supervisor.call(StartChild(restarting)))
    assert (await infos(supervisor))["restarting"].state == "restarting"
    await supervisor.call(TerminateChild("restarting"))
    await clock.advance(20.0)
    assert "restarting" not in await infos(supervisor)

    await end(system, await supervisor.call(StartChild(restarting)))
    for spec in (
        puppet("good", journal),
        puppet("brutal", journal, shutdown="brutal_kill"),
        puppet("slow", shutdown=1.0, on_terminate=forever),
        puppet("patient", journal, shutdown="infinity"),
    ):
        await supervisor.call(StartChild(spec))
    journal.clear()
    stopping = asyncio.create_task(system.stop(supervisor, timeout=None))
    await clock.advance(1.0)
    assert await stopping == Shutdown()
    assert sorted(journal) == ["terminate good", "terminate patient"]
    assert system.statistics().alive == 0


# --- tasks --------------------------------------------------------------------------------------------------------------


@pytest.fixture
async def tasks(system: ActorSystem) -> Tasks:
    return Tasks(system, await system.start(TaskSupervisor, name="tasks"))


async def boom() -> None:
    raise ValueError("in a task")


async def test_D04_async_is_linked_to_the_caller_and_async_nolink_is_not(
    system: ActorSystem, tasks: Tasks
) -> None:
    async def start_linked(_: Puppet) -> Any:
        return (await tasks.async_(boom)).ref

    trapping = await system.start(Puppet, traps=True)
    task = await trapping.call(Await(start_linked))
    await settle()
    [(ref, reason)] = await exits_of(trapping)
    assert ref is task
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, ValueError)
    plain = await system.start(Puppet)
    await plain.call(Await(start_linked))
    assert isinstance((await system.wait_down(plain)).reason, (Crashed, NoProcess))
    assert not plain.alive

    async def start_unlinked(puppet: Puppet) -> Any:
        task = await tasks.async_nolink(boom)
        system.monitor(task.ref)
        return task

    watcher = await system.start(Puppet)
    task = await watcher.call(Await(start_unlinked))
    await settle()
    assert watcher.alive
    [down] = await seen(watcher)
    assert isinstance(down, Down)
    with pytest.raises(ActorExited, match="in a task"):
        await task.wait()
    with pytest.raises(RuntimeError, match="async_nolink"):
        await tasks.async_(boom)


async def test_D05_waiting_in_vain_leaves_no_message_behind(
    system: ActorSystem, clock: FakeClock, tasks: Tasks
) -> None:
    gate = asyncio.Event()

    async def wait(puppet: Puppet) -> Any:
        task = await tasks.async_nolink(gate.wait)
        with pytest.raises(TimeoutError):
            await task.wait(1.0)
        return task

    puppet = await system.start(Puppet)
    waiting = asyncio.create_task(puppet.call(Await(wait)))
    await clock.advance(1.0)
    task = await waiting
    gate.set()
    await settle()
    assert await task.wait() is True
    assert await seen(puppet) == []
    assert system.statistics_of(puppet).monitors == 0


@pytest.mark.parametrize("ordered", [True, False])
async def test_D06_a_stream_bounds_its_tasks_and_keeps_or_leaves_their_order(
    system: ActorSystem, tasks: Tasks, *, ordered: bool
) -> None:
    running: list[int] = []
    most = 0
    gates = {number: asyncio.Event() for number in range(6)}

    async def work(number: int) -> int:
        nonlocal most
        running.append(number)
        most = max(most, len(running))
        await gates[number].wait()
        running.remove(number)
        return number * 10

    async def collect() -> list[Any]:
        stream = tasks.async_stream(work, range(6), max_concurrency=3, ordered=ordered)
        return [(outcome.label, outcome.value) async for outcome in stream]

    collecting = asyncio.create_task(collect())
    for number in (2, 1, 0, 5, 4, 3):
        await settle()
        gates[number].set()
    results = await collecting
    assert most == 3
    assert sorted(results) == [(number, number * 10) for number in range(6)]
    if ordered:
        assert results == sorted(results)
    else:
        assert results[:2] == [(2, 20), (1, 10)]


async def test_D06_a_late_task_is_killed_and_stopping_early_leaks_none(
    system: ActorSystem, clock: FakeClock, tasks: Tasks
) -> None:
    async def work(number: int) -> int:
        if number == 1:
            await forever()
        return number

    async def collect() -> list[Any]:
        return [outcome async for outcome in tasks.async_stream(work, range(3), timeout_s=2.0)]

    collecting = asyncio.create_task(collect())
    await clock.advance(2.0)
    outcomes = await collecting
    assert [outcome.value for outcome in outcomes] == [0, None, 2]
    assert isinstance(outcomes[1].error, TimeoutError)
    await settle()
    assert await infos(system.named("tasks")) == {}

    async def stuck(number: int) -> None:
        if number:
            await forever()

    async with contextlib.aclosing(tasks.async_stream(stuck, range(100), max_concurrency=5)) as stream:
        async for _ in stream:
            break
    await settle()
    assert await infos(system.named("tasks")) == {}


# --- registries ---------------------------------------------------------------------------------------------------------


async def test_D07_a_unique_registry_has_one_holder_a_key_and_frees_it_on_a_crash(
    system: ActorSystem,
) -> None:
    registry = Registry(system)
    first = await system.start(Puppet)
    second = await system.start(Puppet)
    await inside(first, lambda _: registry.register("key", 1))
    with pytest.raises(NameTaken) as taken:
        registry.register("key", 2, ref=second)
    assert taken.value.ref is first
    await inside(first, lambda _: registry.register("key", 3))
    assert registry.lookup("key") == ((first, 3),)
    assert registry.keys(first) == ("key",)
    await crash(first)
    assert registry.lookup("key") == ()
    registry.register("key", 2, ref=second)
    registry.unregister("key", ref=second)
    assert len(registry) == 0
    with pytest.raises(RuntimeError, match="handler"):
        registry.register("outside")


async def test_D08_a_duplicate_registry_dispatches_to_all_and_a_failure_is_the_callers(
    system: ActorSystem,
) -> None:
    registry = Registry(system, "duplicate")
    members = [await system.start(Puppet) for _ in range(3)]
    for number, member in enumerate(members):
        registry.register("topic", number, ref=member)
        registry.register(f"own {number}", ref=member)
    assert registry.dispatch("topic", lambda ref, value: ref.cast(("news", value))) == 3
    await settle()
    assert [await seen(member) for member in members] == [[("news", 0)], [("news", 1)], [("news", 2)]]

    def failing(ref: ActorRef, value: object) -> None:
        raise KeyError(value)

    with pytest.raises(KeyError):
        registry.dispatch("topic", failing)
    system.kill(members[1])
    assert registry.dispatch("topic", lambda *_: None) == 2
    assert registry.dispatch("nobody", failing) == 0
    with pytest.raises(ValueError, match="unique or duplicate"):
        Registry(system, "several")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="unique"):
        registry.via("name")


async def test_D09_via_names_start_call_cast_and_stop_and_listeners_are_told(system: ActorSystem) -> None:
    listener = await system.start(Puppet)
    registry = Registry(system, listeners=(listener,))
    name = registry.via(("session", 7))
    plain = await system.start(Plain, 5, name=name)
    assert registry.whereis(("session", 7)) is plain
    assert await system.named(name).call(Step(1)) == 6
    system.named(name).cast("hello")
    with pytest.raises(NameTaken):
        await system.start(Plain, name=registry.via(("session", 7)))
    supervisor = await system.start(Supervisor, [ChildSpec("a", Plain, name=registry.via("supervised"))])
    await end(system, (await refs(supervisor))["a"])
    assert await system.named(registry.via("supervised")).call(Step(1)) == 1
    await system.stop(system.named(name))
    assert registry.whereis(("session", 7)) is None
    told = [item for item in await seen(listener) if item.key == ("session", 7)]
    assert told == [Registered(("session", 7), plain, None), Unregistered(("session", 7), plain)]


# --- partitions ---------------------------------------------------------------------------------------------------------


async def test_D10_the_same_key_finds_the_same_partition_and_partitions_resize(system: ActorSystem) -> None:
    supervisor = await system.start(
        PartitionSupervisor, "part", ChildSpec("any", Plain), 4, with_args=lambda number: (number * 100,)
    )
    partitions = Partitions(system, "part", 4)
    keys = [f"key {number}" for number in range(50)]
    assert {repr(partitions.ref(key)) for key in keys} == {repr(system.named(f"part:{n}")) for n in range(4)}
    for key in keys:
        assert partitions.ref(key) == partitions.ref(key)
    assert await system.named("part:3").call(Step(1)) == 301
    assert await supervisor.call(ResizePartitions(1)) == 1
    assert await supervisor.call(CountPartitions()) == 1
    assert system.whereis("part:1") is None
    partitions.resized(1)
    assert {partitions.ref(key) for key in keys} == {system.named("part:0")}
    assert await supervisor.call(ResizePartitions(9)) == 4
    assert await system.named("part:3").call(Step(1)) == 301
    partitions.resized(0)
    with pytest.raises(NoPartitions):
        partitions.ref("key")
    assert await supervisor.call(ResizePartitions(0)) == 0
    assert isinstance(await system.stop(supervisor), Shutdown)


# --- backoff, beyond the table --------------------------------------------------------------------------------------------


async def test_backoff_restarts_at_once_then_waits_longer_and_starts_over(
    system: ActorSystem, clock: FakeClock
) -> None:
    backoff = Backoff(first_s=1.0, factor=2.0, max_s=3.0, jitter=0.0, reset_after_s=100.0)
    supervisor = await system.start(Supervisor, [puppet("a", backoff=backoff)], intensity=100)
    waits: list[float] = []
    for _ in range(5):
        await end(system, (await refs(supervisor))["a"])
        began = clock.monotonic()
        while "a" not in await refs(supervisor):
            assert (await infos(supervisor))["a"].state == "restarting"
            await clock.advance(0.5)
        waits.append(clock.monotonic() - began)
    assert waits == [0.0, 1.0, 2.0, 3.0, 3.0]
    await clock.advance(100.0)
    await end(system, (await refs(supervisor))["a"])
    assert "a" in await refs(supervisor)


def test_backoff_jitter_stays_within_its_share() -> None:
    backoff = Backoff(first_s=1.0, factor=2.0, max_s=8.0, jitter=0.5)
    assert backoff.delay_s(1, 0.9) == 0.0
    assert backoff.delay_s(2, 0.0) == 1.0
    assert backoff.delay_s(3, 0.999) == pytest.approx(1.001)
    assert backoff.delay_s(10_000, 0.0) == 8.0
    for wrong in ({"first_s": 0}, {"factor": 0.5}, {"max_s": 0.1}, {"jitter": 2}, {"reset_after_s": -1}):
        with pytest.raises(ValueError, match=f"backoff.{next(iter(wrong))}"):
            Backoff(**wrong)
