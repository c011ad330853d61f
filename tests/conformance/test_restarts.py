# ruff: noqa: N802  # the numbers are those of the conformance table
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Supervisors: intensity, restart loops, trees, significant children. Numbers as in the conformance table."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from tests.conformance.oracle.outcomes import expect, lives, text
from tests.conformance.players import Do, Plain, Puppet, crash, failing, forever, raising
from tests.conformance.troupe import Restart, by_hand, end, infos, leave, puppet, refs, renewed, supervise

from greenroom.actors import (
    ActorRef,
    ActorSystem,
    Crashed,
    ExitReason,
    FakeClock,
    Normal,
    Shutdown,
    StartFailed,
    settle,
)
from greenroom.supervisors import (
    Backoff,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    DynamicSupervisor,
    RestartChild,
    StartChild,
    Supervisor,
    TerminateChild,
    Unsupported,
    WhichChildren,
)

pytestmark = pytest.mark.anyio


# --- intensity ----------------------------------------------------------------------------------------------------------


async def crashes(
    system: ActorSystem, supervisor: ActorRef, clock: FakeClock, *crashes: tuple[str, float]
) -> list[str]:
    """Crash children at the given seconds from now, and say after each what has become of the supervisor."""
    began = clock.monotonic()
    down = asyncio.create_task(system.wait_down(supervisor))
    became: list[str] = []
    for child, at_s in crashes:
        await clock.advance(began + at_s - clock.monotonic())
        await end(system, (await refs(supervisor))[child])
        became.append(text((await down).reason) if down.done() else "lives")
    down.cancel()
    return became


@pytest.mark.parametrize(
    ("case", "intensity", "period", "moments"),
    [
        ("V43.zero", 0, 5, [("a", 0)]),
        ("V43.default", 1, 5, [("a", 0), ("a", 1)]),
        ("V43.three", 3, 60, [("a", 0), ("a", 1), ("a", 2), ("a", 3)]),
        ("V43.shared", 2, 5, [("a", 0), ("a", 0), ("b", 0)]),
        ("V43.inside", 1, 1, [("a", 0.05), ("a", 1.85)]),  # the difference of whole seconds is 1
        ("V43.outside", 1, 1, [("a", 0.85), ("a", 2.05)]),  # it is 2, though less time has passed
        ("V43.for_ever", 1, 1, [("a", 0.1), ("a", 2.2), ("a", 4.3)]),
    ],
)
async def test_V43_intensity_and_period_in_whole_seconds_as_otp_counts(
    system: ActorSystem,
    clock: FakeClock,
    case: str,
    intensity: int,
    period: int,
    moments: list[tuple[str, float]],
) -> None:
    children = [puppet("a"), puppet("b")]
    supervisor = await supervise(system, *children, intensity=intensity, period=period, whole_seconds=True)
    expect(case, *await crashes(system, supervisor, clock, *moments))


async def test_V43_an_incident_counts_once(system: ActorSystem, clock: FakeClock) -> None:
    specs = [puppet(id_) for id_ in "abc"]
    supervisor = await supervise(system, *specs, strategy="one_for_all", intensity=1, whole_seconds=True)
    expect("V43.one_for_all", *await crashes(system, supervisor, clock, ("a", 0)))


async def test_V43_clean_ends_of_permanent_children_count(system: ActorSystem) -> None:
    supervisor = await supervise(system, puppet("a"), intensity=1, whole_seconds=True)
    down = asyncio.create_task(system.wait_down(supervisor))
    became: list[object] = []
    for _ in range(2):
        await leave((await refs(supervisor))["a"], Normal())
        became.append((await down).reason if down.done() else "lives")
    expect("V43.clean_ends", *became)


async def test_V43_actions_by_hand_do_not_count(system: ActorSystem) -> None:
    supervisor = await supervise(system, puppet("a"), intensity=0, whole_seconds=True)
    for _ in range(3):
        await supervisor.call(TerminateChild("a"))
        await supervisor.call(RestartChild("a"))
    expect("V43.by_hand", lives(supervisor))


@pytest.mark.parametrize(("case", "intensity"), [("V43.failed_inits_3", 3), ("V43.failed_inits_2", 2)])
async def test_V43_each_failed_attempt_counts(
    system: ActorSystem, clock: FakeClock, case: str, intensity: int
) -> None:
    attempts = puppet("a", on_init=failing(1, 2))
    supervisor = await supervise(system, attempts, intensity=intensity, whole_seconds=True)
    expect(case, *await crashes(system, supervisor, clock, ("a", 0)))


async def test_V43_twenty_crashes_in_step_with_the_window_are_borne(
    system: ActorSystem, clock: FakeClock
) -> None:
    supervisor = await supervise(system, puppet("a"), intensity=1, period=1, whole_seconds=True)
    moments = [("a", 0.1 + 2.1 * number) for number in range(20)]
    assert await crashes(system, supervisor, clock, *moments) == ["lives"] * 20


async def test_V43_the_window_of_ours_is_closed_and_exact(system: ActorSystem, clock: FakeClock) -> None:
    exact = await supervise(system, puppet("a"), intensity=1, period=1)
    assert await crashes(system, exact, clock, ("a", 0.0), ("a", 1.0)) == ["lives", "shutdown"]
    beyond = await supervise(system, puppet("a"), intensity=1, period=1)
    assert await crashes(system, beyond, clock, ("a", 0.0), ("a", 1.01)) == ["lives", "lives"]


# --- while restarting ---------------------------------------------------------------------------------------------------


def hanging() -> Callable[[Puppet], Awaitable[None]]:
    """An init that works once, and then waits for ever."""
    rounds = [0]

    async def on_init(_: Puppet) -> None:
        rounds[0] += 1
        if rounds[0] > 1:
            await forever()

    return on_init


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_V44_in_a_restart_loop_it_answers_refuses_and_obeys_at_once(
    system: ActorSystem, strategy: str
) -> None:
    """With a million restarts allowed, the failing child never stops failing; each attempt queues behind what waits."""
    supervisor = await supervise(
        system,
        puppet("first"),
        puppet("loops", on_init=failing(*range(1, 1_000_000))),
        strategy=strategy,
        intensity=1_000_000,
    )
    system.kill((await refs(supervisor))["loops"])
    for _ in range(20):
        await asyncio.sleep(0)
    states = {info.state for info in await supervisor.call(WhichChildren()) if info.id == "loops"}
    assert states <= {"restarting", "starting"}
    for message in by_hand("loops"):
        with pytest.raises((ChildRestarting, ChildRunning)):
            await supervisor.call(message)
    await supervisor.call(TerminateChild("loops"))
    await settle()
    assert (await infos(supervisor))["loops"].state == "stopped"
    assert (await infos(supervisor))["first"].state == "running"

    supervisor = await supervise(
        system,
        puppet("loops", on_init=failing(*range(1, 1_000_000))),
        strategy=strategy,
        intensity=1_000_000,
    )
    system.kill((await refs(supervisor))["loops"])
    for _ in range(20):
        await asyncio.sleep(0)
    assert await system.stop(supervisor) == Shutdown()


@pytest.mark.parametrize("strategy", ["one_for_one", "one_for_all", "rest_for_one"])
async def test_V44_it_answers_and_obeys_while_a_childs_init_hangs(system: ActorSystem, strategy: str) -> None:
    """Beyond OTP, whose supervisor waits for init."""
    supervisor = await supervise(system, puppet("hangs", on_init=hanging()), puppet("b"), strategy=strategy)
    await end(system, (await refs(supervisor))["hangs"])
    assert (await infos(supervisor))["hangs"].ref is None
    with pytest.raises((ChildRestarting, ChildRunning)):
        await supervisor.call(RestartChild("hangs"))
    await supervisor.call(TerminateChild("hangs"))
    await settle()
    found = await infos(supervisor)
    assert (found["hangs"].state, found["b"].state) == ("stopped", "running")
    assert await system.stop(supervisor) == Shutdown()


async def test_V44_a_restart_that_fails_without_waiting_lets_requests_overtake_it(
    system: ActorSystem,
) -> None:
    made = 0

    def make() -> Plain:
        nonlocal made
        made += 1
        if made > 1:
            raise ValueError("once was enough")
        return Plain()

    supervisor = await supervise(system, ChildSpec("loops", make), intensity=1_000_000)
    system.kill((await refs(supervisor))["loops"])
    await supervisor.call(TerminateChild("loops"))
    assert (await infos(supervisor))["loops"].state == "stopped"
    assert made > 1


@pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
async def test_V44_ending_the_child_that_holds_a_group_up_lets_the_others_go_on(
    system: ActorSystem, clock: FakeClock, strategy: str
) -> None:
    """Ours beyond OTP, where the others stay down until they are restarted by hand."""
    supervisor = await supervise(
        system,
        puppet("first"),
        puppet("loops", on_init=failing(*range(1, 1_000_000)), backoff=Backoff(first_s=10.0)),
        puppet("last"),
        strategy=strategy,
        intensity=10,
    )
    await end(system, (await refs(supervisor))["first"])
    assert [info.state for info in (await infos(supervisor)).values()][1:] == ["restarting"] * 2
    await supervisor.call(TerminateChild("loops"))
    await settle()
    assert [info.state for info in (await infos(supervisor)).values()] == ["running", "stopped", "running"]
    await clock.advance(100.0)
    assert [info.state for info in (await infos(supervisor)).values()] == ["running", "stopped", "running"]


# --- trees --------------------------------------------------------------------------------------------------------------


async def test_V45_a_workers_crash_stays_below_and_a_sub_supervisor_is_renewed_without_its_dynamic_children(
    system: ActorSystem,
) -> None:
    below = ChildSpec("below", Supervisor, args=([puppet("worker")],), kwargs={"intensity": 1}, name="below")
    top = await supervise(system, below, puppet("sibling"), intensity=1)
    before = await refs(top)
    await system.named("below").call(StartChild(puppet("dynamic")))
    await end(system, (await refs(system.named("below")))["worker"])
    assert await refs(top) == before
    await end(system, (await refs(system.named("below")))["worker"])
    after = await refs(top)
    assert after["below"] is not before["below"]
    assert after["sibling"] is before["sibling"]
    assert list(await refs(after["below"])) == ["worker"]


async def test_V46_a_failed_start_travels_through_nested_starts_with_its_stack(system: ActorSystem) -> None:
    boom = ValueError("at the bottom")
    bottom = ChildSpec("bottom", Supervisor, args=([puppet("leaf", on_init=raising(boom))],))
    with pytest.raises(StartFailed) as failed:
        await supervise(system, bottom)
    error: BaseException = failed.value
    what: list[object] = []
    while isinstance(error, StartFailed):
        what.append(error.what)
        assert error.__cause__ is not None
        error = error.__cause__
    assert error is boom
    assert boom.__traceback__ is not None
    assert "leaf" in what
    assert "bottom" in what
    assert system.statistics().alive == 0


@pytest.mark.parametrize(
    ("case", "restart"), [("V47.transient", "transient"), ("V47.permanent", "permanent")]
)
async def test_V47_a_sub_supervisor_at_its_limit_ends_with_shutdown_and_its_restart_type_decides(
    system: ActorSystem, case: str, restart: Restart
) -> None:
    below = ChildSpec(
        "below", Supervisor, args=([puppet("worker")],), kwargs={"intensity": 0}, restart=restart
    )
    top = await supervise(system, below)
    before = await refs(top)
    down = asyncio.create_task(system.wait_down(before["below"]))
    await end(system, (await refs(before["below"]))["worker"])
    found = (await infos(top))["below"]
    became = found.state if found.ref is None else renewed(before, await refs(top))["below"]
    expect(case, (await down).reason, became)


# --- significant children -----------------------------------------------------------------------------------------------


async def test_V49_the_end_of_an_ordinary_child_never_ends_the_supervisor(system: ActorSystem) -> None:
    for mode in ("never", "any_significant", "all_significant"):
        for restart in ("temporary", "transient"):
            supervisor = await supervise(system, puppet("a", restart=restart), auto_shutdown=mode)
            await leave((await refs(supervisor))["a"], Normal())
            assert supervisor.alive


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("V50.normal", Normal()),
        ("V50.shutdown", Shutdown()),
        ("V50.crash", Crashed(ValueError("x"))),
    ],
)
async def test_V50_any_a_temporary_significant_child_ends_it_in_any_way_but_by_hand(
    system: ActorSystem, case: str, reason: ExitReason
) -> None:
    spec = puppet("a", restart="temporary", significant=True)
    supervisor = await supervise(system, spec, puppet("b"), auto_shutdown="any_significant")
    down = asyncio.create_task(system.wait_down(supervisor))
    await leave((await refs(supervisor))["a"], reason)
    expect(case, (await down).reason)
    by_hand = await supervise(system, spec, auto_shutdown="any_significant")
    await by_hand.call(TerminateChild("a"))
    await settle()
    expect("V50.by_hand", lives(by_hand))


async def test_V51_any_a_transient_significant_child_ends_it_cleanly_and_is_restarted_after_a_crash(
    system: ActorSystem,
) -> None:
    spec = puppet("a", restart="transient", significant=True)
    supervisor = await supervise(system, spec, auto_shutdown="any_significant")
    down = asyncio.create_task(system.wait_down(supervisor))
    before = await refs(supervisor)
    await crash(before["a"])
    await settle()
    after = await refs(supervisor)
    await leave(after["a"], Normal())
    expect("V51", renewed(before, after)["a"], (await down).reason)


async def test_V52_all_only_the_last_significant_child_ends_it(system: ActorSystem) -> None:
    supervisor = await supervise(
        system,
        puppet("a", restart="transient", significant=True),
        puppet("b", restart="temporary", significant=True),
        puppet("ordinary"),
        auto_shutdown="all_significant",
    )
    down = asyncio.create_task(system.wait_down(supervisor))
    children = await refs(supervisor)
    await leave(children["a"], Normal())
    state = lives(supervisor)
    await leave(children["b"], Normal())
    expect("V52", state, (await down).reason)
    assert not children["ordinary"].alive


async def test_V53_significant_is_refused_with_permanent_never_and_dynamic(system: ActorSystem) -> None:
    with pytest.raises(ValueError, match="significant"):
        puppet("a", significant=True)
    expect("V53.permanent", "refused")
    spec = puppet("a", restart="transient", significant=True)
    with pytest.raises(StartFailed, match="auto_shutdown"):
        await supervise(system, spec)
    expect("V53.never", "refused")
    supervisor = await supervise(system)
    with pytest.raises(ValueError, match="auto_shutdown"):
        await supervisor.call(StartChild(spec))
    assert supervisor.alive
    with pytest.raises(Unsupported):
        await (await system.start(DynamicSupervisor)).call(StartChild(spec))


@pytest.mark.parametrize(
    ("case", "strategy"), [("V54.one_for_all", "one_for_all"), ("V54.rest_for_one", "rest_for_one")]
)
async def test_V54_a_significant_bystander_does_not_bring_it_down(
    system: ActorSystem, case: str, strategy: str
) -> None:
    supervisor = await supervise(
        system,
        puppet("crashes"),
        puppet("bystander", restart="temporary", significant=True),
        puppet("other", restart="transient", significant=True),
        strategy=strategy,
        auto_shutdown="any_significant",
    )
    await end(system, (await refs(supervisor))["crashes"])
    expect(case, lives(supervisor), *sorted(await infos(supervisor)))


@pytest.mark.parametrize(("case", "significant"), [("V55.significant", True), ("V55.ordinary", False)])
async def test_V55_auto_shutdown_climbs_through_a_significant_sub_supervisor(
    system: ActorSystem, case: str, *, significant: bool
) -> None:
    leaf = puppet("leaf", restart="transient", significant=True)
    below = ChildSpec(
        "below",
        Supervisor,
        args=([leaf],),
        kwargs={"auto_shutdown": "any_significant"},
        restart="transient",
        significant=significant,
    )
    top = await supervise(system, below, auto_shutdown="any_significant")
    sub = (await refs(top))["below"]
    downs = [asyncio.create_task(system.wait_down(ref)) for ref in (sub, top)]
    await leave((await refs(sub))["leaf"], Normal())
    await settle()
    expect(case, (await downs[0]).reason, (await downs[1]).reason if downs[1].done() else "lives")
    downs[1].cancel()
    assert await (await system.start(Puppet)).call(Do(lambda _: 1)) == 1
