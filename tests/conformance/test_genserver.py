# ruff: noqa: N802  # the numbers are those of the conformance table
# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnknownVariableType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""One actor: start, call, cast, info, terminate, continue. Numbers as in the conformance table."""

import asyncio
from typing import Any

import pytest
from tests.conformance.oracle.outcomes import expect, lives
from tests.conformance.players import (
    Await,
    Do,
    Later,
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
    Normal,
    ReplyTo,
    Report,
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
