# ruff: noqa: N802  # the numbers are those of the conformance table
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Supervisors: children by hand, restart types, strategies. Numbers as in the conformance table."""

import asyncio
from typing import Any

import pytest
from tests.conformance.oracle.outcomes import expect
from tests.conformance.players import Plain, Puppet, failing
from tests.conformance.troupe import Restart, by_hand, end, infos, leave, puppet, refs, renewed, supervise

from greenroom.actors import (
    ActorExited,
    ActorSystem,
    Crashed,
    ExitReason,
    FakeClock,
    Ignored,
    Normal,
    Report,
    Shutdown,
    settle,
)
from greenroom.supervisors import (
    ChildExists,
    ChildRunning,
    ChildSpec,
    CountChildren,
    DeleteChild,
    DynamicSupervisor,
    GetChildSpec,
    NoSuchChild,
    RestartChild,
    StartChild,
    Supervisor,
    TerminateChild,
    Unsupported,
    WhichChildren,
)

pytestmark = pytest.mark.anyio


CLEAN: list[ExitReason] = [Normal(), Shutdown(), Shutdown("x")]


# --- by hand ------------------------------------------------------------------------------------------------------------


async def test_V25_starting_twice_says_started_or_present(system: ActorSystem) -> None:
    supervisor = await supervise(system)
    child = await supervisor.call(StartChild(puppet("a")))
    with pytest.raises(ChildExists) as exists:
        await supervisor.call(StartChild(puppet("a")))
    assert exists.value.ref is child
    await supervisor.call(TerminateChild("a"))
    with pytest.raises(ChildExists) as present:
        await supervisor.call(StartChild(puppet("a")))
    expect(
        "V25",
        "already_started" if exists.value.ref else "already_present",
        "already_started" if present.value.ref else "already_present",
    )


async def test_V26_terminate_child_keeps_the_spec_and_is_ok_again(system: ActorSystem) -> None:
    supervisor = await supervise(system, puppet("a"))
    child = (await refs(supervisor))["a"]
    down = asyncio.create_task(system.wait_down(child))
    await settle()
    await supervisor.call(TerminateChild("a"))
    assert ((await infos(supervisor))["a"].ref, (await infos(supervisor))["a"].state) == (None, "stopped")
    await supervisor.call(TerminateChild("a"))
    with pytest.raises(NoSuchChild, match="unknown"):
        await supervisor.call(TerminateChild("unknown"))
    await system.stop(supervisor)
    with pytest.raises(ActorExited) as exited:
        await supervisor.call(TerminateChild("a"))
    expect("V26", "ok", "ok", "not_found", exited.value.reason, ("a", (await down).reason))


async def test_V27_restart_and_delete_want_a_stopped_child(system: ActorSystem) -> None:
    supervisor = await supervise(system, puppet("a"))
    before = await refs(supervisor)
    answers: list[str] = []
    for message in by_hand("a"):
        with pytest.raises(ChildRunning):
            await supervisor.call(message)
        answers.append("running")
    await supervisor.call(TerminateChild("a"))
    assert (await supervisor.call(RestartChild("a"))).alive
    answers.append(renewed(before, await refs(supervisor))["a"])
    await supervisor.call(TerminateChild("a"))
    await supervisor.call(DeleteChild("a"))
    assert await infos(supervisor) == {}
    for message in by_hand("a"):
        with pytest.raises(NoSuchChild):
            await supervisor.call(message)
    expect("V27", *answers, "not_found")


async def test_V28_children_come_newest_first_and_are_counted_by_kind(system: ActorSystem) -> None:
    supervisor = await supervise(
        system, puppet("a"), ChildSpec("below", Supervisor), puppet("b", restart="transient")
    )
    assert [info.id for info in await supervisor.call(WhichChildren())] == ["b", "below", "a"]
    assert [info.type for info in await supervisor.call(WhichChildren())] == [
        "worker",
        "supervisor",
        "worker",
    ]
    await leave((await refs(supervisor))["b"], Normal())
    counts = await supervisor.call(CountChildren())
    assert (counts.specs, counts.active, counts.supervisors, counts.workers) == (3, 2, 1, 2)
    assert (await supervisor.call(GetChildSpec("b"))).restart == "transient"
    with pytest.raises(NoSuchChild):
        await supervisor.call(GetChildSpec("c"))


async def test_V29_dynamic_children_are_ended_by_ref_and_never_restarted_by_hand(system: ActorSystem) -> None:
    supervisor = await system.start(DynamicSupervisor)
    child = await supervisor.call(StartChild(puppet("a")))
    stranger = await system.start(Plain)
    with pytest.raises(NoSuchChild):
        await supervisor.call(TerminateChild(stranger))
    for message in by_hand("a"):
        with pytest.raises(Unsupported):
            await supervisor.call(message)
    await supervisor.call(TerminateChild(child))
    assert not child.alive
    assert await infos(supervisor) == {}
    with pytest.raises(NoSuchChild):  # it is forgotten: Elixir's answer, OTP says ok
        await supervisor.call(TerminateChild(child))


async def test_V30_restarting_children_are_counted_but_not_active(
    system: ActorSystem, clock: FakeClock
) -> None:
    gate = asyncio.Event()

    async def on_init(_: Puppet, rounds: list[int] = [0]) -> None:  # noqa: B006  # counts its calls
        rounds[0] += 1
        if rounds[0] > 1:
            await gate.wait()

    supervisor = await supervise(system, puppet("slow", on_init=on_init), puppet("other"))
    await end(system, (await refs(supervisor))["slow"])
    counts = await supervisor.call(CountChildren())
    assert (counts.specs, counts.active) == (2, 1)
    gate.set()
    await settle()
    assert (await supervisor.call(CountChildren())).active == 2


async def test_V31_an_unknown_message_is_logged_and_it_lives(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    supervisor = await supervise(system)
    supervisor.cast("nonsense")
    await settle()
    assert supervisor.alive
    assert "str dropped" in caplog.text


# --- restart types ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "restart"), [("V32", "permanent"), ("V33", "transient"), ("V34", "temporary")]
)
async def test_V32_V33_V34_permanent_transient_temporary_after_each_end(
    system: ActorSystem, case: str, restart: Restart
) -> None:
    became: list[str] = []
    for reason in [*CLEAN, Crashed(ValueError("x"))]:
        supervisor = await supervise(system, puppet("a", restart=restart), intensity=10)
        before = await refs(supervisor)
        await leave(before["a"], reason)
        found = (await infos(supervisor)).get("a")
        if found is None or found.ref is None:
            became.append("gone" if found is None else found.state)
        else:
            became.append(renewed(before, await refs(supervisor))["a"])
            assert found.restarts == 1
    expect(case, *became)


async def test_V33_a_transient_child_that_ended_well_can_be_restarted_by_hand(system: ActorSystem) -> None:
    supervisor = await supervise(system, puppet("a", restart="transient"))
    await leave((await refs(supervisor))["a"], Normal())
    assert (await supervisor.call(RestartChild("a"))).alive


async def test_V34_a_temporary_bystander_stays_gone(system: ActorSystem) -> None:
    for strategy in ("one_for_all", "rest_for_one"):
        supervisor = await supervise(system, puppet("a"), puppet("t", restart="temporary"), strategy=strategy)
        await end(system, (await refs(supervisor))["a"])
        assert list(await infos(supervisor)) == ["a"]


async def test_V35_a_temporary_childs_arguments_are_not_kept(system: ActorSystem) -> None:
    for supervisor in (await supervise(system), await system.start(DynamicSupervisor)):
        await supervisor.call(StartChild(ChildSpec("t", Plain, args=(7,), restart="temporary")))
        await supervisor.call(StartChild(ChildSpec("p", Plain, args=(7,))))
        assert (await supervisor.call(GetChildSpec("t"))).args == ()
        assert (await supervisor.call(GetChildSpec("p"))).args == (7,)


# --- strategies ---------------------------------------------------------------------------------------------------------


async def test_V36_one_for_one_leaves_the_others_and_gives_up_at_the_limit(
    system: ActorSystem, reports: list[Report]
) -> None:
    journal: list[str] = []
    supervisor = await supervise(system, *[puppet(id_, journal) for id_ in "abc"], intensity=2)
    before = await refs(supervisor)
    journal.clear()
    await end(system, before["b"])
    after = await refs(supervisor)
    expect("V36", *journal, *renewed(before, after).items())
    await end(system, after["b"])
    after = await refs(supervisor)
    await end(system, after["b"])
    assert not supervisor.alive
    assert not any(ref.alive for ref in after.values())
    assert "reached its restart intensity" in [report.context for report in reports]


async def test_V37_one_for_all_renews_all_in_order(system: ActorSystem) -> None:
    journal: list[str] = []
    supervisor = await supervise(system, *[puppet(id_, journal) for id_ in "abc"], strategy="one_for_all")
    before = await refs(supervisor)
    journal.clear()
    await end(system, before["b"])
    expect("V37", *journal, *renewed(before, await refs(supervisor)).items())


async def test_V38_rest_for_one_keeps_the_earlier_and_renews_the_later(system: ActorSystem) -> None:
    journal: list[str] = []
    supervisor = await supervise(system, *[puppet(id_, journal) for id_ in "abc"], strategy="rest_for_one")
    before = await refs(supervisor)
    journal.clear()
    await end(system, before["b"])
    expect("V38", *journal, *renewed(before, await refs(supervisor)).items())


async def test_V39_dynamic_children_are_renewed_alone_under_one_limit(system: ActorSystem) -> None:
    supervisor = await system.start(DynamicSupervisor, intensity=2)
    for id_ in "abc":
        await supervisor.call(StartChild(puppet(id_)))
    before = await refs(supervisor)
    await end(system, before["a"])
    after = await refs(supervisor)
    assert after["a"] is not before["a"]
    assert (after["b"], after["c"]) == (before["b"], before["c"])
    await end(system, after["b"])
    await end(system, after["c"])
    assert not supervisor.alive

    supervisor = await system.start(DynamicSupervisor)
    child = await supervisor.call(StartChild(puppet("d", on_init=failing(1, error=Ignored))))
    await end(system, child)
    assert await infos(supervisor) == {}


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one", "dynamic"])
async def test_V40_a_restart_that_keeps_failing_ends_supervisor_and_siblings(
    system: ActorSystem, strategy: str
) -> None:
    options: dict[str, Any] = {} if strategy == "dynamic" else {"strategy": strategy}
    supervisor = await system.start(
        DynamicSupervisor if strategy == "dynamic" else Supervisor, intensity=4, **options
    )
    await supervisor.call(StartChild(puppet("sibling")))
    await supervisor.call(StartChild(puppet("once", on_init=failing(*range(1, 100)))))
    children = await refs(supervisor)
    await end(system, children["once"])
    assert not supervisor.alive
    assert not children["sibling"].alive


async def test_V41_one_for_all_whose_second_child_fails_stops_the_first_and_tries_all_again(
    system: ActorSystem,
) -> None:
    journal: list[str] = []
    supervisor = await supervise(
        system,
        puppet("a", journal),
        puppet("b", journal, on_init=failing(1)),
        strategy="one_for_all",
        intensity=2,
    )
    journal.clear()
    await end(system, (await refs(supervisor))["a"])
    expect("V41", *journal)
    assert set(await refs(supervisor)) == {"a", "b"}


async def test_V42_rest_for_one_whose_second_child_fails_leaves_the_first_alone(system: ActorSystem) -> None:
    journal: list[str] = []
    supervisor = await supervise(
        system,
        puppet("a", journal),
        puppet("b", journal, on_init=failing(1)),
        puppet("c", journal),
        strategy="rest_for_one",
        intensity=2,
    )
    journal.clear()
    await end(system, (await refs(supervisor))["a"])
    expect("V42", *journal)
    assert set(await refs(supervisor)) == {"a", "b", "c"}
