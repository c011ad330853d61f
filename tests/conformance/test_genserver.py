# ruff: noqa: N802  # the numbers are those of the conformance table
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""One actor: start, call, cast, info, stop. Numbers as in the conformance table."""

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
    forever,
    inside,
    link,
    raising,
    seen,
)

from greenroom.actors import (
    Actor,
    ActorExited,
    ActorSystem,
    BadReturn,
    Call,
    CallingSelf,
    Cast,
    Crashed,
    Down,
    ExitReason,
    FakeClock,
    Ignored,
    NameTaken,
    NoProcess,
    Normal,
    Outcome,
    Refused,
    Registry,
    ReplyTo,
    Report,
    Requests,
    Shutdown,
    StartFailed,
    Stop,
    Timeout,
    UndefinedHandler,
    handles,
    settle,
)

pytestmark = pytest.mark.anyio


# --- start --------------------------------------------------------------------------------------------------------------


async def test_G01_start_returns_after_init_and_its_variants_deliver_exit_nothing_down(
    system: ActorSystem,
) -> None:
    gate = asyncio.Event()
    starting = asyncio.create_task(system.start(Puppet, on_init=lambda _: gate.wait()))
    await settle()
    assert not starting.done()
    gate.set()
    await starting

    parent = await system.start(Puppet, traps=True)

    async def start_both(_: Puppet) -> tuple[Any, Any]:
        return await system.start_link(Puppet), await system.start(Puppet)

    linked, unlinked = await parent.call(Await(start_both))
    number = await inside(parent, lambda _: system.monitor(unlinked))
    reason = await crash(linked)
    other = await crash(unlinked)
    assert await exits_of(parent) == [(linked, reason)]
    assert [item for item in await seen(parent) if isinstance(item, Down)] == [Down(unlinked, other, number)]


async def test_G02_init_beyond_its_timeout_fails_and_leaves_no_process(
    system: ActorSystem, clock: FakeClock
) -> None:
    starting = asyncio.create_task(system.start(Puppet, on_init=forever, name="slow", init_timeout=3.0))
    await clock.advance(2.9)
    assert not starting.done()
    assert system.whereis("slow") is not None
    await clock.advance(0.1)
    with pytest.raises(StartFailed) as failed:
        await starting
    assert isinstance(failed.value.reason, Crashed)
    assert isinstance(failed.value.reason.exception, TimeoutError)
    assert system.statistics().alive == 0
    assert system.whereis("slow") is None


async def test_G03_init_may_decline_and_the_name_is_free(system: ActorSystem) -> None:
    with pytest.raises(Ignored):
        await system.start(Puppet, on_init=raising(Ignored()), name="nobody")
    expect("G03", "ignore", "free" if system.whereis("nobody") is None else "taken")
    assert system.statistics().alive == 0


async def test_G04_init_may_stop_a_hundred_times_and_never_leaves_its_name(system: ActorSystem) -> None:
    class Why(Shutdown, frozen=True):
        pass

    count = 0
    for _ in range(100):
        with pytest.raises(StartFailed) as failed:
            await system.start(Puppet, on_init=raising(Stop(Why("no"))), name="again")
        count += failed.value.reason == Why("no") and system.whereis("again") is None
    expect("G04", count)


async def test_G05_init_that_raises_gives_reason_and_stack_and_no_stray_exit(
    system: ActorSystem, reports: list[Report]
) -> None:
    parent = await system.start(Puppet, traps=True)
    boom = ValueError("in init")

    async def start(_: Puppet) -> StartFailed:
        with pytest.raises(StartFailed) as failed:
            await system.start_link(Puppet, on_init=raising(boom))
        return failed.value

    failed = await parent.call(Await(start))
    assert failed.reason == Crashed(boom)
    assert failed.__cause__ is boom
    assert boom.__traceback__ is not None
    assert await exits_of(parent) == []
    assert reports == []


async def test_G06_init_must_return_none(system: ActorSystem) -> None:
    class Rubbish(Actor):
        async def init(self) -> None:
            return 42  # type: ignore[return-value]

    with pytest.raises(StartFailed) as failed:
        await system.start(Rubbish)
    assert isinstance(failed.value.reason, Crashed)
    assert isinstance(failed.value.reason.exception, BadReturn)


async def test_G07_a_taken_name_is_refused_with_its_holder(system: ActorSystem) -> None:
    holder = await system.start(Plain, name="one")
    with pytest.raises(NameTaken) as taken:
        await system.start(Plain, name="one")
    assert taken.value.ref is holder
    assert system.statistics().alive == 1


# --- call ---------------------------------------------------------------------------------------------------------------


async def test_G08_reply_delayed_reply_and_reply_from_another(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    other = await system.start(Puppet)
    assert await puppet.call(Do(lambda _: 1)) == 1
    assert await puppet.call(Await(lambda _: asyncio.sleep(0, 2))) == 2

    kept: list[ReplyTo[Any]] = []
    delayed = asyncio.create_task(puppet.call(Later(lambda _, reply_to: kept.append(reply_to))))
    await settle()
    assert await puppet.call(Do(lambda _: "meanwhile")) == "meanwhile"
    await inside(other, lambda _: kept[0].reply(3))
    assert await delayed == 3


async def test_G09_a_late_reply_is_dropped_and_the_next_call_gets_its_own(
    system: ActorSystem, clock: FakeClock
) -> None:
    puppet = await system.start(Puppet)
    kept: list[ReplyTo[Any]] = []
    slow = asyncio.create_task(puppet.call(Later(lambda _, reply_to: kept.append(reply_to)), timeout=2.0))
    await clock.advance(1.9)
    assert not slow.done()
    await clock.advance(0.1)
    with pytest.raises(TimeoutError, match="Later"):
        await slow
    state = lives(puppet)
    following = asyncio.create_task(puppet.call(Later(lambda _, reply_to: kept.append(reply_to))))
    await settle()
    assert kept[0].reply("late") is False
    assert kept[1].reply("own") is True
    expect("G09", "timeout", state, await following)
    assert system.statistics().late_replies == 1


async def test_G10_calling_the_dead_or_an_unknown_name_is_noproc(system: ActorSystem) -> None:
    dead = await system.start(Plain)
    system.kill(dead)
    reasons: list[ExitReason] = []
    for ref in (dead, system.named("nobody")):
        with pytest.raises(ActorExited) as exited:
            await ref.call(Step())
        reasons.append(exited.value.reason)
    expect("G10", *reasons)


async def test_G11_an_end_during_a_call_reaches_caller_and_queue_at_once(
    system: ActorSystem, clock: FakeClock
) -> None:
    puppet = await system.start(Puppet)
    calls = [asyncio.create_task(puppet.call(Await(forever))) for _ in range(2)]
    calls.append(asyncio.create_task(puppet.call(Later(lambda *_: None))))
    await settle()
    system.kill(puppet)
    await settle()
    assert clock.monotonic() == 1000.0
    reasons: list[ExitReason] = []
    for call in calls:
        with pytest.raises(ActorExited) as exited:
            await call
        reasons.append(exited.value.reason)
    expect("G11", *reasons)


async def test_G12_a_call_to_itself_fails_at_once(system: ActorSystem) -> None:
    puppet = await system.start(Puppet, name="self")

    async def call_itself(puppet: Puppet) -> str:
        for ref in (puppet.ref, system.named("self")):
            with pytest.raises(CallingSelf):
                await ref.call(Do(lambda _: None))
        with pytest.raises(CallingSelf):
            await system.stop(puppet.ref)
        return "calling_self"

    expect("G12", await puppet.call(Await(call_itself)), lives(puppet))

    async def from_a_task(puppet: Puppet) -> None:
        puppet.pipe_to_self(puppet.ref.call(Do(lambda _: "answered")))  # a task of its own may wait

    await puppet.call(Await(from_a_task))
    await settle()
    assert [item.value for item in await seen(puppet)] == ["answered"]


async def test_G13_stop_with_a_reply_is_terminate_then_reply_then_exit(system: ActorSystem) -> None:
    order: list[str] = []

    async def note_exit(_: Puppet, __: object) -> None:
        order.append("exit")

    async def note_terminate(_: Puppet, __: object) -> None:
        await asyncio.sleep(0)
        order.append("terminate")

    watcher = await system.start(Puppet, traps=True, on_info=note_exit)
    for kind in (Do, Await):
        order.clear()
        leaver = await system.start(Puppet, on_terminate=note_terminate)
        await inside(watcher, link(system, leaver))

        async def stop(puppet: Puppet) -> str:
            puppet.stop()
            return "bye"

        action: Any = stop if kind is Await else (lambda puppet: puppet.stop() or "bye")

        message = kind(action)

        async def call(_: Puppet, message: Any = message, leaver: Any = leaver) -> str:
            reply: str = await leaver.call(message)
            order.append("reply")
            return reply

        assert await watcher.call(Await(call)) == "bye"
        await settle()
        expect("G13", *order)


async def test_G14_stop_without_a_reply_gives_the_caller_the_reason(system: ActorSystem) -> None:
    for message in (
        Do(raising(Stop(Shutdown("enough")))),
        Await(raising(Stop(Shutdown("enough")))),
        Later(lambda puppet, _: puppet.stop(Shutdown("enough"))),
    ):
        puppet = await system.start(Puppet)
        with pytest.raises(ActorExited) as exited:
            await puppet.call(message)
        expect("G14", exited.value.reason)


async def test_G15_rubbish_from_a_callback_ends_the_actor(system: ActorSystem) -> None:
    class Rubbish(Puppet):
        @handles
        def tell(self, message: Tell) -> None:
            return 42  # type: ignore[return-value]

        @handles
        async def tell_async(self, message: TellAwait) -> None:
            return 42  # type: ignore[return-value]

        async def handle_info(self, message: object) -> None:
            return 42  # type: ignore[return-value]

        @handles
        def later(self, message: Later, reply_to: ReplyTo[Any]) -> None:
            return 42  # type: ignore[return-value]

    reasons: dict[str, ExitReason] = {}
    for message in (Tell(lambda _: None), TellAwait(forever), "info", Later(lambda *_: None)):
        ref = await system.start(Rubbish)
        ref.cast(message)
        reasons[type(message).__name__] = (await system.wait_down(ref)).reason
    assert all(isinstance(reason, Crashed) for reason in reasons.values())
    expect("G15", reasons["Later"], reasons["Tell"], reasons["str"])
    expect("G15", reasons["Later"], reasons["TellAwait"], reasons["str"])


async def test_G16_a_crash_is_one_report_and_a_clean_end_none(
    system: ActorSystem, reports: list[Report]
) -> None:
    boom = ValueError("boom")
    puppet = await system.start(Puppet, name="breaks")
    with pytest.raises(ActorExited) as exited:
        await puppet.call(Do(raising(boom)))
    assert exited.value.reason == Crashed(boom)
    assert exited.value.__cause__ is boom
    expect("G16", exited.value.reason, "stack" if boom.__traceback__ else "no stack")
    assert [(report.context, report.name, report.reason) for report in reports] == [
        ("crashed", "breaks", Crashed(boom))
    ]
    for reason in (Normal(), Shutdown(), Shutdown("for this")):
        await system.stop(await system.start(Puppet), reason)
    assert len(reports) == 1


# --- cast and info ------------------------------------------------------------------------------------------------------


async def test_G17_cast_returns_at_once_also_to_the_dead_and_the_unknown(system: ActorSystem) -> None:
    busy = await system.start(Puppet)
    call = asyncio.create_task(busy.call(Await(forever)))
    await settle()
    dead = await system.start(Puppet)
    system.kill(dead)
    busy.cast("hello")
    expect("G17", *[ref.cast("hello") or "ok" for ref in (dead, system.named("nobody"))])  # type: ignore[func-returns-value]
    assert [(letter.ref, letter.why) for letter in system.dead_letters] == [
        (dead, "dead"),
        (system.named("nobody"), "unknown name"),
    ]
    system.kill(busy)
    with pytest.raises(ActorExited):
        await call


@pytest.mark.parametrize("kind", [Tell, TellAwait])
async def test_G18_a_cast_may_go_on_set_a_timeout_or_stop(
    system: ActorSystem, clock: FakeClock, kind: type[Cast]
) -> None:
    def message(action: Any) -> Any:
        async def awaited(puppet: Puppet) -> None:
            action(puppet)

        return Tell(action) if kind is Tell else TellAwait(awaited)

    puppet = await system.start(Puppet)
    puppet.cast(message(lambda puppet: puppet.seen.append("noreply")))
    puppet.cast(message(lambda puppet: puppet.set_timeout(1.0)))
    await clock.advance(1.0)
    assert await seen(puppet) == ["noreply", Timeout()]
    puppet.cast(message(lambda puppet: puppet.stop(Shutdown())))
    assert (await system.wait_down(puppet)).reason == Shutdown()


async def test_G19_an_info_may_go_on_set_a_timeout_or_stop(system: ActorSystem, clock: FakeClock) -> None:
    async def on_info(puppet: Puppet, message: object) -> None:
        if message == "wait":
            puppet.set_timeout(1.0)
        elif message == "stop":
            puppet.stop()

    puppet = await system.start(Puppet, on_info=on_info)
    puppet.cast("go on")
    puppet.cast("wait")
    await clock.advance(1.0)
    assert await seen(puppet) == ["go on", "wait", Timeout()]
    puppet.cast("stop")
    assert (await system.wait_down(puppet)).reason == Normal()


async def test_G20_no_info_handler_warns_and_lives(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    plain = await system.start(Plain)
    plain.cast("unexpected")
    assert await plain.call(Step()) == 1
    assert "has no handle_info; str dropped" in caplog.text


async def test_G21_no_handler_for_a_call_or_a_cast_ends_it_and_the_caller_sees_why(
    system: ActorSystem,
) -> None:
    called = await system.start(Plain)
    with pytest.raises(ActorExited) as exited:
        await called.call(Do(lambda _: None))
    assert isinstance(exited.value.reason, Crashed)
    assert isinstance(exited.value.reason.exception, UndefinedHandler)
    told = await system.start(Plain)
    told.cast(Tell(lambda _: None))
    reason = (await system.wait_down(told)).reason
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, UndefinedHandler)


async def test_G22_an_undefined_name_inside_handle_info_is_a_crash(system: ActorSystem) -> None:
    class Typo(Actor):
        async def handle_info(self, message: object) -> None:
            undefined_name  # type: ignore[name-defined]  # noqa: B018, F821

    typo = await system.start(Typo)
    typo.cast("anything")
    reason = (await system.wait_down(typo)).reason
    assert isinstance(reason, Crashed)
    assert isinstance(reason.exception, NameError)


# --- terminate and continue ---------------------------------------------------------------------------------------------


async def test_G23_without_terminate_stop_ends_it_with_its_reason(system: ActorSystem) -> None:
    assert await system.stop(await system.start(Plain), Shutdown("x")) == Shutdown("x")


async def test_G24_what_terminate_raises_replaces_the_reason_and_is_reported(
    system: ActorSystem, reports: list[Report]
) -> None:
    late = KeyError("in terminate")
    puppet = await system.start(Puppet, on_terminate=raising(late))
    assert await system.stop(puppet) == Crashed(late)
    assert [report.reason for report in reports] == [Crashed(late)]
    crashing = await system.start(Puppet, on_terminate=raising(late))
    assert await crash(crashing) == Crashed(late)


async def test_G25_continue_comes_before_queued_messages_from_every_callback(system: ActorSystem) -> None:
    def chained(puppet: Puppet) -> None:
        puppet.seen.append("first")
        puppet.continue_with(Tell(lambda puppet: puppet.seen.append("second")))

    def begin(puppet: Puppet) -> None:
        puppet.ref.cast("queued")
        puppet.continue_with(Tell(chained))

    async def begin_async(puppet: Puppet) -> None:
        begin(puppet)

    async def begin_info(puppet: Puppet, message: object) -> None:
        if message == "begin":
            begin(puppet)

    def begin_and_answer_later(puppet: Puppet, reply_to: ReplyTo[Any]) -> None:
        begin(puppet)
        reply_to.reply(None)

    expect("G25.init", *await seen(await system.start(Puppet, on_init=begin_async)))
    for case, message in (
        ("G25.call", Do(begin)),
        ("G25.call", Await(begin_async)),
        ("G25.noreply", Later(begin_and_answer_later)),
        ("G25.cast", Tell(begin)),
        ("G25.cast", TellAwait(begin_async)),
        ("G25.info", "begin"),
    ):
        puppet = await system.start(Puppet, on_info=begin_info)
        if isinstance(message, Call):
            await puppet.call(message)
        else:
            puppet.cast(message)
        await settle()
        expect(case, *[item for item in await seen(puppet) if item != "begin"])


async def test_G26_stop_from_a_continue(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    down = asyncio.create_task(system.wait_down(puppet))
    await settle()
    await inside(puppet, lambda puppet: puppet.continue_with(Tell(lambda puppet: puppet.stop(Shutdown("c")))))
    assert (await down).reason == Shutdown("c")


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
    await clock.advance(2.0)
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
