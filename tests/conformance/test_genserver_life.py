# ruff: noqa: N802  # the numbers are those of the conformance table
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""One actor: timeouts, idleness, stop, requests, exits, states. Numbers as in the conformance table."""

import asyncio
from typing import Any

import msgspec
import pytest
from tests.conformance.oracle.outcomes import expect, lives
from tests.conformance.players import (
    Await,
    Do,
    Later,
    No,
    Plain,
    Puppet,
    Step,
    Tell,
    TellAwait,
    crash,
    exits_of,
    inside,
    raising,
    seen,
)

from greenroom.actors import (
    ActorExited,
    ActorSystem,
    Crashed,
    FakeClock,
    NoProcess,
    Normal,
    Outcome,
    Refused,
    Registry,
    ReplyTo,
    Report,
    Requests,
    Shutdown,
    Timeout,
    settle,
)

pytestmark = pytest.mark.anyio


# --- timeouts -----------------------------------------------------------------------------------------------------------


async def test_G27_the_idle_timeout_fires_unless_a_message_comes_and_system_messages_do_not_count(
    system: ActorSystem, clock: FakeClock
) -> None:
    puppet = await system.start(Puppet)
    puppet.cast(Tell(lambda puppet: puppet.set_timeout(5.0)))
    await clock.advance(4.0)
    await system.get_state(puppet)
    await clock.advance(1.0)
    assert await seen(puppet) == [Timeout()]

    puppet.cast(Tell(lambda puppet: puppet.set_timeout(5.0)))
    await clock.advance(4.0)
    puppet.cast("a message")
    await clock.advance(10.0)
    assert await seen(puppet) == [Timeout(), "a message"]


async def test_G28_a_timeout_with_a_message_of_its_own_relative_and_absolute(
    system: ActorSystem, clock: FakeClock
) -> None:
    async def on_init(puppet: Puppet) -> None:
        puppet.set_timeout(2.0, "from init")

    puppet = await system.start(Puppet, on_init=on_init)
    await clock.advance(2.0)
    assert await seen(puppet) == ["from init"]
    moment = clock.monotonic() + 3.0
    await inside(puppet, lambda puppet: puppet.set_timeout(None, "absolute", at_s=moment))
    await clock.advance(2.9)
    assert system.statistics_of(puppet).handled == 3  # the timeout, a question, and what set this one
    await clock.advance(0.1)
    assert (await seen(puppet))[-1] == "absolute"
    await puppet.call(Await(lambda puppet: asyncio.sleep(0, puppet.set_timeout(1.0, "from a call"))))  # type: ignore[func-returns-value]
    await clock.advance(1.0)
    assert (await seen(puppet))[-1] == "from a call"
    await inside(puppet, lambda puppet: puppet.set_timeout(1.0, "taken back"))
    await inside(puppet, lambda puppet: puppet.set_timeout(None))
    await clock.advance(1.0)
    assert (await seen(puppet))[-1] == "from a call"


async def test_G29_a_timeout_of_zero_comes_before_what_is_queued(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)

    def now(puppet: Puppet) -> None:
        puppet.set_timeout(0, "zero")

    for message in (Tell(now), "queued"):
        puppet.cast(message)
    assert await seen(puppet) == ["zero", "queued"]


# --- idle actors --------------------------------------------------------------------------------------------------------


async def test_G30_an_idle_actor_has_no_task_and_wakes_on_a_message(
    system: ActorSystem, clock: FakeClock
) -> None:
    """Hibernation is what every idle actor of ours does: its task goes, its state stays."""
    before = len(asyncio.all_tasks())
    puppet = await system.start(Puppet, on_init=lambda _: asyncio.sleep(0))
    await settle()
    assert len(asyncio.all_tasks()) == before
    for message in (Await(lambda _: asyncio.sleep(0)), Do(lambda _: None)):
        await puppet.call(message)
    puppet.cast(TellAwait(lambda _: asyncio.sleep(0)))
    puppet.cast("info")
    await settle()
    assert len(asyncio.all_tasks()) == before + 1  # lingers
    await clock.advance(1.0)
    assert len(asyncio.all_tasks()) == before
    await system.suspend(puppet)
    await system.resume(puppet)
    assert len(asyncio.all_tasks()) == before
    assert await seen(puppet) == ["info"]


async def test_G31_every_message_keeps_the_task_and_get_state_leaves_it_asleep(
    system: ActorSystem, clock: FakeClock
) -> None:
    before = len(asyncio.all_tasks())
    puppet = await system.start(Puppet)
    await puppet.call(Await(lambda _: asyncio.sleep(0)))
    assert len(asyncio.all_tasks()) == before + 1
    await clock.advance(2.0)
    await system.get_state(puppet)
    assert len(asyncio.all_tasks()) == before


# --- stop ---------------------------------------------------------------------------------------------------------------


async def test_G32_stop_waits_until_it_is_gone_and_again_says_noproc(system: ActorSystem) -> None:
    puppet = await system.start(Puppet, name="named")
    assert await system.stop(puppet) == Shutdown()
    assert not puppet.alive
    assert system.whereis("named") is None
    assert await system.stop(puppet) == NoProcess()


async def test_G33_stop_takes_a_reason_a_name_a_via_and_refuses_a_bad_timeout(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    with pytest.raises(ValueError, match="timeout"):
        await system.stop(puppet, timeout=-1.0)
    assert puppet.alive
    assert await system.stop(puppet, Normal()) == Normal()
    await system.start(Puppet, name="by name")
    assert await system.stop(system.named("by name")) == Shutdown()
    registry = Registry(system)
    await system.start(Puppet, name=registry.via("key"))
    assert await system.stop(system.named(registry.via("key"))) == Shutdown()
    assert registry.whereis("key") is None


# --- requests ----------------------------------------------------------------------------------------------------------


async def test_G34_many_actors_are_asked_at_once_and_the_bad_ones_told_in_time(
    system: ActorSystem, clock: FakeClock
) -> None:
    """multi_call over nodes has no meaning here; over actors it is a collection of requests."""
    good = [await system.start(Plain, n) for n in range(3)]
    dead = await system.start(Plain)
    system.kill(dead)
    silent = await system.start(Puppet)
    requests = Requests()
    for ref in (*good, dead):
        requests.add(system.request(ref, Step()), ref)
    kept: list[ReplyTo[Any]] = []
    requests.add(
        system.request(silent, Later(lambda _, reply_to: kept.append(reply_to)), timeout=2.0), silent
    )
    replies: dict[Any, Any] = {}
    bad: dict[Any, Any] = {}
    collecting = asyncio.create_task(_collect(requests))
    await clock.advance(2.0)
    for outcome in await collecting:
        (bad if outcome.error else replies)[outcome.label] = outcome
    assert {ref: outcome.value for ref, outcome in replies.items()} == {
        ref: n + 1 for n, ref in enumerate(good)
    }
    assert set(bad) == {dead, silent}
    assert kept[0].reply("too late") is False


async def _collect(requests: Requests) -> list[Outcome]:
    return [outcome async for outcome in requests]


async def test_G35_a_request_may_be_waited_for_twice_and_noproc_is_its_outcome(
    system: ActorSystem, clock: FakeClock
) -> None:
    puppet = await system.start(Puppet)
    kept: list[ReplyTo[Any]] = []
    request = system.request(puppet, Later(lambda _, reply_to: kept.append(reply_to)))
    waiting = asyncio.create_task(request.wait(0))
    await clock.advance(0)
    with pytest.raises(TimeoutError):
        await waiting
    kept[0].reply("here")
    assert await request.wait(0) == "here"
    system.kill(puppet)
    gone = system.request(puppet, Do(lambda _: 1))
    assert gone.done
    with pytest.raises(ActorExited) as exited:
        await gone.wait()
    assert exited.value.reason == NoProcess()


async def test_G36_a_collection_gives_replies_as_they_come_with_their_labels(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    kept: list[ReplyTo[Any]] = []
    requests = Requests()
    for label in "abc":
        requests.add(system.request(puppet, Later(lambda _, reply_to: kept.append(reply_to))), label)
    await settle()
    for index in (2, 0, 1):
        kept[index].reply(index)
        await settle()
    assert [(outcome.label, outcome.value) for outcome in await _collect(requests)] == [
        ("c", 2),
        ("a", 0),
        ("b", 1),
    ]
    assert len(requests) == 0


async def test_G37_receive_abandons_the_rest_and_wait_does_not(system: ActorSystem, clock: FakeClock) -> None:
    puppet = await system.start(Puppet)
    kept: list[ReplyTo[Any]] = []
    requests = Requests()
    for label in "ab":
        requests.add(
            system.request(puppet, Later(lambda _, reply_to: kept.append(reply_to)), timeout=None), label
        )
    waiting = asyncio.create_task(requests.wait(1.0))
    await clock.advance(1.0)
    with pytest.raises(TimeoutError):
        await waiting
    kept[0].reply("still arrives")
    assert await requests.wait(1.0) == Outcome("a", "still arrives")
    receiving = asyncio.create_task(requests.receive(1.0))
    await clock.advance(1.0)
    with pytest.raises(TimeoutError):
        await receiving
    assert kept[1].abandoned
    assert kept[1].reply("dropped") is False
    assert len(requests) == 0


async def test_G38_the_same_request_twice_is_refused_and_a_dead_server_is_an_error_value(
    system: ActorSystem,
) -> None:
    plain = await system.start(Plain)
    requests = Requests()
    request = system.request(plain, Step())
    requests.add(request, "once")
    with pytest.raises(ValueError, match="once"):
        requests.add(request, "twice")
    system.kill(plain)
    requests.add(system.request(plain, Step()), "dead")
    outcomes = {outcome.label: outcome for outcome in await _collect(requests)}
    assert outcomes["once"].value == 1
    assert isinstance(outcomes["dead"].error, ActorExited)


# --- exits while serving ------------------------------------------------------------------------------------------------


async def test_G39_terminate_runs_on_the_parents_exit_only_if_trapping(system: ActorSystem) -> None:
    journal: list[str] = []
    for traps in (True, False):
        parent = await system.start(Puppet)

        async def start(_: Puppet, *, traps: bool = traps) -> Any:
            return await system.start_link(Puppet, "child", journal, traps=traps)

        child = await parent.call(Await(start))
        journal.clear()
        down = asyncio.create_task(system.wait_down(child))
        await settle()
        reason = await crash(parent)
        ended = (await down).reason
        assert ended == reason
        expect("G39.parent_trapping" if traps else "G39.parent_plain", ended, *journal)
    plain = await system.start(Puppet, "child", journal)
    down = asyncio.create_task(system.wait_down(plain))
    await settle()
    journal.clear()
    system.exit(plain, Crashed(ValueError("boom")))
    expect("G39.signal_plain", (await down).reason, *journal)


async def test_G40_a_strangers_exit_goes_to_handle_info_while_trapping(system: ActorSystem) -> None:
    puppet = await system.start(Puppet, traps=True)
    stranger = await system.start(Puppet)
    await inside(stranger, lambda _: system.exit(puppet, Shutdown("leave")))
    assert await exits_of(puppet) == [(stranger, Shutdown("leave"))]
    expect("G40", lives(puppet), *await seen(puppet))


# --- looking in ---------------------------------------------------------------------------------------------------------


async def test_G41_get_and_replace_state_also_suspended_and_a_failing_function_changes_nothing(
    system: ActorSystem,
) -> None:
    plain = await system.start(Plain, 7)
    assert await system.get_state(plain) == {"value": 7}
    await system.suspend(plain)
    states: list[Any] = [await system.get_state(plain)]
    states.append(await system.replace_state(plain, lambda state: {"value": int(str(state["value"])) + 1}))

    def failing(state: dict[str, object]) -> dict[str, object]:
        state["value"] = "broken"
        raise KeyError("no")

    with pytest.raises(KeyError):
        await system.replace_state(plain, failing)
    await system.resume(plain)
    states.append(await system.get_state(plain))
    before, after, kept = (state["value"] for state in states)
    expect("G41", before, after, "failed", kept)
    assert await plain.call(Step()) == 9


async def test_G42_suspend_holds_messages_and_resume_hands_them_on_in_order(system: ActorSystem) -> None:
    for busy in (False, True):
        puppet = await system.start(Puppet)
        if busy:
            await puppet.call(Await(lambda _: asyncio.sleep(0)))
        await system.suspend(puppet)
        for number in range(5):
            puppet.cast(number)
        call = asyncio.create_task(puppet.call(Do(lambda puppet: list(puppet.seen))))
        await settle()
        assert not call.done()
        held = system.statistics_of(puppet).waiting - 1  # one of them asks what came
        await system.resume(puppet)
        expect("G42", ("held", held), *await call)


async def test_G43_get_state_uses_the_formatter_and_one_that_raises_does_no_harm(system: ActorSystem) -> None:
    class Formatted(Plain):
        def format_state(self) -> object:
            if self.value < 0:
                raise ValueError("cannot say")
            return f"value {self.value}"

    formatted = await system.start(Formatted, 3)
    assert await system.get_state(formatted) == "value 3"
    broken = await system.start(Formatted, -1)
    with pytest.raises(ValueError, match="cannot say"):
        await system.get_state(broken)
    assert await broken.call(Step()) == 0


async def test_G44_a_crash_report_names_actor_message_and_state_within_limits(
    system: ActorSystem, reports: list[Report]
) -> None:
    class Secretive(Puppet):
        def __init__(self) -> None:
            super().__init__("s")
            self.api_key = "sk-canary-0123456789abcdef"
            self.note = "authorised by sk-canary-0123456789abcdef today"
            self.long = "x" * 10_000
            self.deep: Any = [[[[[1]]]]]
            self.many = list(range(1000))

    secretive = await system.start(Secretive, name="keeper of secrets")
    reason = await crash(secretive)
    [report] = reports
    assert (report.actor, report.name, report.message, report.reason) == (
        "Secretive",
        "keeper of secrets",
        "Do",
        reason,
    )
    text = str(report.state)
    assert "canary" not in text
    assert "[redacted]" in text
    assert len(text) < 2_000
    assert "... 980 more" in text
    assert "<list of 1>" in text


async def test_G45_a_trace_keeps_the_last_n_events_in_order(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    await system.trace(puppet, 3)
    await puppet.call(Do(lambda _: None))
    puppet.cast(Tell(lambda _: None))
    puppet.cast("info")
    await puppet.call(Await(lambda _: asyncio.sleep(0)))
    assert [(event.kind, event.message) for event in system.events(puppet)] == [
        ("cast", "Tell"),
        ("info", "str"),
        ("call", "Await"),
    ]
    await system.trace(puppet, 0)
    assert system.events(puppet) == ()


async def test_G46_a_reply_does_not_pass_through_the_callers_mailbox(system: ActorSystem) -> None:
    """Counted in turns of the loop; timed in the benchmarks."""
    server = await system.start(Puppet)

    async def turns(_: Puppet) -> int:
        counted = 0
        call = asyncio.create_task(server.call(Await(lambda _: asyncio.sleep(0))))
        while not call.done():
            await asyncio.sleep(0)
            counted += 1
        return counted

    caller = await system.start(Puppet, capacity=100_000)
    few = await caller.call(Await(turns))

    async def with_backlog(puppet: Puppet) -> int:
        for number in range(50_000):
            puppet.ref.cast(number)
        return await turns(puppet)

    assert await caller.call(Await(with_backlog)) <= few + 1
    system.kill(caller)


async def test_G47_a_reply_to_a_finished_call_is_dropped_and_counted(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    puppet = await system.start(Puppet)
    kept: list[ReplyTo[Any]] = []

    def answer_and_keep(_: Puppet, reply_to: ReplyTo[Any]) -> None:
        reply_to.reply("first")
        kept.append(reply_to)

    assert await puppet.call(Later(answer_and_keep)) == "first"
    assert kept[0].reply("second") is False
    assert kept[0].refuse(No("third")) is False
    assert system.statistics().second_replies == 2
    assert "second reply to Later" in caplog.text


async def test_a_refusal_reaches_the_caller_and_the_actor_lives(system: ActorSystem) -> None:
    """Ours beyond the table: Refused."""
    puppet = await system.start(Puppet)
    for message in (Do(raising(No("no"))), Await(raising(No("no"))), Later(raising(No("no")))):
        with pytest.raises(No, match="no"):
            await puppet.call(message)
    with pytest.raises(Refused):
        await puppet.call(Later(lambda _, reply_to: reply_to.refuse(No("later"))))
    assert puppet.alive
    assert msgspec.structs.asdict(system.statistics_of(puppet))["owed"] == 0
