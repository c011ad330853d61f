# ruff: noqa: N802  # the numbers are those of the conformance table
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Supervisors: how they start, what they are told, how they stop. Numbers as in the conformance table."""

import asyncio
import itertools
from typing import Any, Literal

import pytest
from tests.conformance.oracle.outcomes import expect, lives
from tests.conformance.players import Await, Do, Plain, Puppet, Step, crash, failing, forever, inside, raising
from tests.conformance.troupe import end, infos, puppet, refs, supervise

from greenroom.actors import (
    Actor,
    ActorExited,
    ActorSystem,
    Crashed,
    ExitReason,
    FakeClock,
    Ignored,
    Killed,
    NameTaken,
    NoProcess,
    Normal,
    Report,
    Shutdown,
    StartFailed,
    Stop,
    settle,
)
from greenroom.supervisors import (
    Backoff,
    BadSpec,
    ChildExists,
    ChildSpec,
    CountChildren,
    DynamicSupervisor,
    GetChildSpec,
    RestartChild,
    StartChild,
    Supervisor,
    TerminateChild,
)

pytestmark = pytest.mark.anyio


# --- start --------------------------------------------------------------------------------------------------------------


async def test_V01_starts_empty_and_stops_with_shutdown(system: ActorSystem) -> None:
    """A supervisor of ours has no init of the user's that could be ignored; one of a subclass may decline."""
    empty = await system.start(Supervisor)
    assert await infos(empty) == {}
    assert await system.stop(empty) == Shutdown()

    class Declining(Supervisor):
        async def init(self) -> None:
            raise Ignored

    with pytest.raises(Ignored):
        await system.start(Declining, name="declined")
    assert system.whereis("declined") is None


async def test_V02_a_child_that_declines_is_kept_if_permanent_and_not_if_temporary(
    system: ActorSystem,
) -> None:
    supervisor = await supervise(
        system,
        puppet("permanent", on_init=raising(Ignored())),
        puppet("temporary", restart="temporary", on_init=raising(Ignored())),
        puppet("last"),
    )
    found = await infos(supervisor)
    assert list(found) == ["permanent", "last"]
    assert (found["permanent"].ref, found["permanent"].state) == (None, "stopped")


async def test_V03_a_dynamic_child_that_declines_is_never_kept(system: ActorSystem) -> None:
    supervisor = await system.start(DynamicSupervisor)
    with pytest.raises(Ignored):
        await supervisor.call(StartChild(puppet("declines", on_init=raising(Ignored()))))
    assert await infos(supervisor) == {}


async def test_V04_a_supervisor_whose_own_start_fails_says_why(system: ActorSystem) -> None:
    with pytest.raises(StartFailed) as failed:
        await system.start(Supervisor, "rubbish", name="bad")
    assert isinstance(failed.value.reason, Crashed)
    assert isinstance(failed.value.reason.exception, BadSpec)
    assert system.whereis("bad") is None


async def test_V05_a_child_whose_start_fails_is_an_error_and_nothing_is_kept(system: ActorSystem) -> None:
    supervisor = await supervise(system)

    class Rubbish(Actor):
        async def init(self) -> None:
            return 42  # type: ignore[return-value]

    for spec in (
        puppet("raises", on_init=raising(ValueError("no"))),
        ChildSpec("constructor", Plain, kwargs={"unknown": 1}),
        ChildSpec("rubbish", Rubbish),
    ):
        with pytest.raises(StartFailed):
            await supervisor.call(StartChild(spec))
    assert await infos(supervisor) == {}


async def test_V06_a_restart_by_hand_that_fails_keeps_the_spec(system: ActorSystem) -> None:
    supervisor = await supervise(system, puppet("once", on_init=failing(1)))
    await supervisor.call(TerminateChild("once"))
    with pytest.raises(StartFailed):
        await supervisor.call(RestartChild("once"))
    assert (await infos(supervisor))["once"].state == "stopped"
    assert await supervisor.call(RestartChild("once")) == (await refs(supervisor))["once"]


async def test_V07_spec_defaults(system: ActorSystem, clock: FakeClock) -> None:
    spec = ChildSpec("a", Plain)
    assert (spec.restart, spec.shutdown, spec.significant, spec.backoff) == ("permanent", None, False, None)
    supervisor = await supervise(system, puppet("worker", on_terminate=forever), puppet("below"))
    stopping = asyncio.create_task(supervisor.call(TerminateChild("worker"), timeout=None))
    await clock.advance(4.9)
    assert not stopping.done()
    await clock.advance(0.1)
    await stopping

    gate = asyncio.Event()
    slow = [puppet("slow", on_terminate=lambda *_: gate.wait(), shutdown="infinity")]
    top = await supervise(system, ChildSpec("below", Supervisor, args=(slow,)))
    stopping = asyncio.create_task(top.call(TerminateChild("below"), timeout=None))
    await clock.advance(1_000_000.0)
    assert not stopping.done()  # a supervisor is given for ever
    gate.set()
    await stopping


async def test_V08_missing_and_unknown_fields_are_refused(system: ActorSystem) -> None:
    """OTP ignores unknown keys; ours are a TypeError."""
    make: Any = ChildSpec
    with pytest.raises(TypeError, match="id"):
        make()
    with pytest.raises(TypeError, match="actor"):
        make("only an id")
    with pytest.raises(TypeError, match="colour"):
        make("a", Plain, colour="green")
    with pytest.raises(StartFailed) as failed:
        await system.start(Supervisor, [{"id": "a"}])
    assert "ChildSpec" in str(failed.value.__cause__)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", 3),
        ("actor", 3),
        ("actor", int),
        ("args", [1]),
        ("kwargs", 3),
        ("name", ""),
        ("name", 3),
        ("restart", "sometimes"),
        ("shutdown", -1),
        ("shutdown", "gently"),
        ("shutdown", True),
        ("significant", "yes"),
        ("backoff", 3),
    ],
)
def test_V09_each_bad_field_has_its_own_error(field: str, value: object) -> None:
    make: Any = ChildSpec
    fields: dict[str, object] = {"id": "a", "actor": Plain, field: value}
    with pytest.raises(BadSpec, match=f"{field} is "):
        make(**fields)


async def test_V09_duplicate_ids_are_refused_and_legal_combinations_pass(system: ActorSystem) -> None:
    with pytest.raises(StartFailed, match="id is 'same'"):
        await supervise(system, puppet("same"), puppet("same"))
    restarts: tuple[Literal["permanent", "transient", "temporary"], ...] = (
        "permanent",
        "transient",
        "temporary",
    )
    shutdowns: tuple[Any, ...] = (0, 1, 2.5, "brutal_kill", "infinity", None)
    for restart, shutdown, backoff in itertools.product(restarts, shutdowns, (None, Backoff())):
        ChildSpec("a", Plain, restart=restart, shutdown=shutdown, backoff=backoff)
        if restart != "permanent":
            ChildSpec("a", Plain, restart=restart, shutdown=shutdown, significant=True)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("strategy", "one_for_some"),
        ("intensity", -1),
        ("intensity", 1.5),
        ("intensity", True),
        ("period", 0),
        ("period", "5"),
        ("auto_shutdown", "always"),
    ],
)
async def test_V10_a_bad_option_is_refused_before_anything_starts(
    system: ActorSystem, option: str, value: object
) -> None:
    journal: list[str] = []
    with pytest.raises(StartFailed) as failed:
        await supervise(system, puppet("a", journal), **{option: value})
    assert isinstance(failed.value.__cause__, BadSpec)
    assert option in str(failed.value.__cause__)
    assert journal == []


async def test_V10_an_unknown_option_is_refused(system: ActorSystem) -> None:
    """OTP ignores it."""
    with pytest.raises(StartFailed, match="colour"):
        await supervise(system, colour="green")


async def test_V11_a_dynamic_supervisor_takes_no_spec_beforehand(system: ActorSystem) -> None:
    """simple_one_for_one takes exactly one spec; ours takes one with each StartChild, as Elixir's."""
    with pytest.raises(StartFailed):
        await system.start(DynamicSupervisor, [puppet("a")])


async def test_V12_children_start_in_order_and_stop_in_reverse(system: ActorSystem) -> None:
    journal: list[str] = []
    specs = [puppet(id_, journal) for id_ in "abcd"]
    await system.stop(await supervise(system, *specs))
    expect("V12", *journal)


async def test_V13_a_child_that_fails_at_start_stops_the_earlier_ones_in_reverse(
    system: ActorSystem, reports: list[Report]
) -> None:
    journal: list[str] = []
    boom = ValueError("third")
    with pytest.raises(StartFailed) as failed:
        await supervise(
            system, puppet("a", journal), puppet("b", journal), puppet("c", journal, on_init=raising(boom))
        )
    inner = failed.value.__cause__
    assert isinstance(inner, StartFailed)
    assert inner.reason == Crashed(boom)
    expect("V13", *journal, ("error", (inner.what, inner.reason)))
    assert [(report.context, report.name) for report in reports] == [("did not start", "c")]
    assert system.statistics().alive == 0


async def test_V14_start_child_and_restart_child_hand_on_the_ref(system: ActorSystem) -> None:
    """OTP's extra start info has no place here: start returns a ref and nothing else. What an actor has to tell, it is asked."""
    supervisor = await supervise(system)
    first = await supervisor.call(StartChild(puppet("a")))
    assert (await refs(supervisor))["a"] is first
    await supervisor.call(TerminateChild("a"))
    second = await supervisor.call(RestartChild("a"))
    assert (await refs(supervisor))["a"] is second
    assert second is not first


async def test_V15_a_name_taken_outside_is_refused_and_the_supervisor_lives(system: ActorSystem) -> None:
    holder = await system.start(Plain, name="taken")
    supervisor = await supervise(system)
    with pytest.raises(NameTaken) as taken:
        await supervisor.call(StartChild(puppet("a", name="taken")))
    assert taken.value.ref is holder
    assert await infos(supervisor) == {}


# --- stop ---------------------------------------------------------------------------------------------------------------


async def test_V16_infinity_holds_for_workers_too(system: ActorSystem, clock: FakeClock) -> None:
    gate = asyncio.Event()
    supervisor = await supervise(
        system, puppet("slow", shutdown="infinity", on_terminate=lambda *_: gate.wait())
    )
    child = (await refs(supervisor))["slow"]
    stopping = asyncio.create_task(system.stop(supervisor, timeout=None))
    await clock.advance(1_000_000.0)
    assert not stopping.done()
    gate.set()
    assert await stopping == Shutdown()
    assert not child.alive


@pytest.mark.parametrize("dynamic", [False, True])
async def test_V17_the_good_one_shuts_down_and_the_sleeping_one_is_killed(
    system: ActorSystem, clock: FakeClock, reports: list[Report], *, dynamic: bool
) -> None:
    specs = [puppet("good", shutdown=1.0), puppet("sleeping", shutdown=1.0, on_terminate=forever)]
    supervisor = await system.start(DynamicSupervisor) if dynamic else await supervise(system)
    for spec in specs:
        await supervisor.call(StartChild(spec))
    downs = {id_: asyncio.create_task(system.wait_down(ref)) for id_, ref in (await refs(supervisor)).items()}
    stopping = asyncio.create_task(system.stop(supervisor))
    await clock.advance(1.0)
    await stopping
    expect("V17", *[(id_, (await down).reason) for id_, down in downs.items()])
    assert [
        (report.context, report.name)
        for report in reports
        if report.supervisor and report.context != "crashed"
    ] == [("did not stop well", "sleeping")]


@pytest.mark.parametrize("dynamic", [False, True])
async def test_V18_brutal_kill_kills_without_terminate(system: ActorSystem, *, dynamic: bool) -> None:
    journal: list[str] = []
    supervisor = await system.start(DynamicSupervisor) if dynamic else await supervise(system)
    for id_ in "abcdefghij":
        await supervisor.call(StartChild(puppet(id_, journal, shutdown="brutal_kill")))
    downs = [asyncio.create_task(system.wait_down(ref)) for ref in (await refs(supervisor)).values()]
    await settle()
    journal.clear()
    await system.stop(supervisor)
    assert [(await down).reason for down in downs] == [Killed()] * 10
    expect("V18", ("a", (await downs[0]).reason), *journal)


RACES: list[tuple[Literal["permanent", "transient", "temporary"], ExitReason]] = [
    (restart, reason)
    for restart in ("permanent", "transient", "temporary")
    for reason in (Normal(), Shutdown(), Shutdown("x"), Crashed(ValueError("late")))
]


@pytest.mark.parametrize("dynamic", [False, True])
async def test_V19_V20_children_that_end_by_themselves_during_shutdown_keep_their_reasons(
    system: ActorSystem, *, dynamic: bool
) -> None:
    def ending(reason: ExitReason) -> Any:
        async def on_terminate(_: Puppet, __: ExitReason) -> None:
            raise Stop(reason)

        return on_terminate

    supervisor = await system.start(DynamicSupervisor) if dynamic else await supervise(system)
    for number, (restart, reason) in enumerate(RACES):
        spec = puppet(f"p{number}", restart=restart, on_terminate=ending(reason))
        await supervisor.call(StartChild(spec))
    downs = [asyncio.create_task(system.wait_down(ref)) for ref in (await refs(supervisor)).values()]
    await settle()
    assert await system.stop(supervisor) == Shutdown()
    assert [(await down).reason for down in downs] == [reason for _, reason in RACES]


async def test_V21_dynamic_children_stop_together_in_the_time_of_the_slowest(
    system: ActorSystem, clock: FakeClock
) -> None:
    supervisor = await system.start(DynamicSupervisor)
    for seconds in (1.0, 2.0, 3.0, 2.0, 1.0):
        spec = puppet(
            f"p{len(await refs(supervisor))}",
            on_terminate=lambda *_, seconds=seconds: clock.sleep(seconds),
        )
        await supervisor.call(StartChild(spec))
    began = clock.monotonic()
    stopping = asyncio.create_task(system.stop(supervisor, timeout=None))
    while not stopping.done():
        await clock.advance(0.5)
    assert clock.monotonic() - began == 3.0


async def test_V22_a_child_that_unlinked_itself_does_not_hang_the_supervisor(system: ActorSystem) -> None:
    supervisor = await supervise(system, puppet("a"), puppet("b"))
    loner = (await refs(supervisor))["a"]
    await inside(loner, lambda _: system.unlink(supervisor))
    assert await system.stop(supervisor) == Shutdown()
    assert not loner.alive


async def test_V23_its_parents_exit_ends_it_and_a_strangers_is_ignored(system: ActorSystem) -> None:
    parent = await system.start(Puppet)

    async def start(_: Puppet) -> Any:
        return await system.start_link(Supervisor, [puppet("a")])

    supervisor = await parent.call(Await(start))
    stranger = await system.start(Puppet)
    states: list[str] = []
    for reason in (Normal(), Shutdown(), Crashed(ValueError("x"))):
        await inside(stranger, lambda _, reason=reason: system.exit(supervisor, reason))  # type: ignore[misc]
        await settle()
        states.append(lives(supervisor))
    expect("V23.stranger", *states)
    ends = [system.wait_down(ref) for ref in (supervisor, (await refs(supervisor))["a"])]
    downs = [asyncio.create_task(end) for end in ends]
    await settle()
    await inside(parent, lambda _: system.exit(supervisor, Normal()))
    expect("V23.parent", (await downs[0]).reason, ("a", (await downs[1]).reason))


async def test_V24_when_a_supervisor_is_killed_its_children_end_too(system: ActorSystem) -> None:
    supervisor = await supervise(system, puppet("a"), puppet("b", traps=True))
    children = await refs(supervisor)
    downs = {id_: asyncio.create_task(system.wait_down(ref)) for id_, ref in children.items()}
    await settle()
    system.kill(supervisor)
    expect("V24", *[(id_, (await down).reason) for id_, down in downs.items()])


# --- scale --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [False, True])
async def test_V48_starting_and_stopping_costs_the_same_per_child_however_many(
    system: ActorSystem, *, dynamic: bool
) -> None:
    """Counted in turns of the loop; timed in the benchmarks."""

    async def turns(count: int) -> int:
        specs = [ChildSpec(f"p{number}", Plain) for number in range(count)]
        supervisor = await system.start(DynamicSupervisor) if dynamic else await supervise(system)
        counted = 0
        for spec in specs:
            await supervisor.call(StartChild(spec))
        stopping = asyncio.create_task(system.stop(supervisor, timeout=None))
        while not stopping.done():
            await asyncio.sleep(0)
            counted += 1
        assert system.statistics().alive == 0
        return counted

    few, many = await turns(50), await turns(1000)
    assert many / 1000 <= 2 * few / 50 + 1


async def test_restarted_children_answer_under_their_names(system: ActorSystem) -> None:
    """Ours beyond the table: a ref by name follows its child, and a resendable message waits out the restart."""
    supervisor = await supervise(system, ChildSpec("plain", Plain, name="plain"))
    named = system.named("plain")
    assert await named.call(Step(5)) == 5
    await end(system, (await refs(supervisor))["plain"])
    assert await named.call(Step(1)) == 1
    assert (await infos(supervisor))["plain"].restarts == 1
    spec = await supervisor.call(GetChildSpec("plain"))
    assert spec.name == "plain"
    with pytest.raises(ChildExists):
        await supervisor.call(StartChild(spec))
    assert (await supervisor.call(CountChildren())).active == 1
    assert isinstance(await crash(await system.start(Puppet)), Crashed)
    assert await system.stop(supervisor) == Shutdown()
    with pytest.raises(ActorExited) as exited:
        await supervisor.call(CountChildren())
    assert exited.value.reason == NoProcess()
    assert await (await system.start(Puppet)).call(Do(lambda _: 1)) == 1
