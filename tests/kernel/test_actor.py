# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false, reportUnusedClass=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Declaring actors: handlers, messages, options; each mistake is told at the earliest moment."""

import asyncio
from typing import Any

import msgspec
import pytest

from greenroom.actors import (
    Actor,
    ActorExited,
    ActorSystem,
    Call,
    CallingSelf,
    Cast,
    Down,
    ExitReason,
    FakeClock,
    Killed,
    NameTaken,
    Overloaded,
    Refused,
    Registry,
    ReplyTo,
    Shutdown,
    StartFailed,
    SystemClosed,
    handles,
    settle,
)
from greenroom.actors.kernel.engine.exits import ExitSignal


class Get(Call[int], frozen=True):
    pass


class Put(Cast, frozen=True):
    value: int = 0


class Cell(Actor):
    def __init__(self, value: int = 0) -> None:
        self.value = value

    @handles
    def get(self, message: Get) -> int:
        return self.value

    @handles
    def put(self, message: Put) -> None:
        self.value = message.value


def test_a_handler_without_a_type_is_refused() -> None:
    with pytest.raises(TypeError, match="'message' has no annotation"):

        class Untyped(Actor):
            @handles
            def get(self, message) -> int:  # type: ignore[no-untyped-def]  # noqa: ANN001  # pyright: ignore[reportUnknownParameterType, reportMissingParameterType]
                return 0

    with pytest.raises(TypeError, match="not 0 parameters"):

        class Empty(Actor):
            @handles
            def get(self) -> int:
                return 0

    with pytest.raises(TypeError, match="one message class"):

        class Several(Actor):
            @handles
            def get(self, message: Get | Put) -> int:
                return 0

    with pytest.raises(TypeError, match=r"must be annotated ReplyTo\[...\]"):

        class WrongSecond(Actor):
            @handles
            def get(self, message: Get, reply_to: int) -> None: ...

    with pytest.raises(TypeError, match="nobody waits"):

        class ReplyToCast(Actor):
            @handles
            def put(self, message: Put, reply_to: ReplyTo[None]) -> None: ...

    with pytest.raises(TypeError, match="cannot resolve"):

        class Unresolved(Actor):
            @handles
            def get(self, message: "Missing") -> int:  # type: ignore[name-defined]  # noqa: F821  # pyright: ignore[reportUndefinedVariable, reportUnknownParameterType]
                return 0

    with pytest.raises(TypeError, match="directly above its def"):
        handles(property(lambda _: None))  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


def test_two_handlers_for_a_message_are_refused() -> None:
    with pytest.raises(TypeError, match="two handlers for Get: first and second"):

        class Twice(Actor):
            @handles
            def first(self, message: Get) -> int:
                return 1

            @handles
            def second(self, message: Get) -> int:
                return 2


def test_a_mutable_message_is_refused() -> None:
    class Mutable(Call[int]):
        value: int = 0

    class Thawed(Get, frozen=False):  # type: ignore[misc]  # pyright: ignore[reportGeneralTypeIssues]
        pass

    for kind in (Mutable, Thawed):
        with pytest.raises(TypeError, match="mutable; declare it with frozen=True"):
            type("Bad", (Actor,), {"get": handles(_handler_of(kind))})
    with pytest.raises(TypeError, match="no message"):
        type("Bad", (Actor,), {"get": handles(_handler_of(dict))})


def _handler_of(kind: type[Any]) -> Any:
    def get(self: Actor, message: Any) -> int:
        return 0

    get.__annotations__["message"] = kind
    return get


@pytest.mark.parametrize(
    "option", [{"overflow": "explode"}, {"capacity": 0}, {"capacity": True}, {"capacity": 1.5}]
)
def test_a_bad_class_option_is_refused(option: dict[str, object]) -> None:
    with pytest.raises(TypeError, match=next(iter(option))):
        type("Bad", (Actor,), dict(option))


def test_a_callback_that_is_not_async_is_refused() -> None:
    for callback in ("init", "handle_info", "terminate"):
        with pytest.raises(TypeError, match=f"Bad.{callback} must be an async def"):
            type("Bad", (Actor,), {callback: _plain(callback)})


def _plain(name: str) -> Any:
    def callback(self: Actor, *_: object) -> None: ...

    callback.__name__ = name
    return callback


@pytest.mark.anyio
async def test_handlers_are_inherited_and_replaced_by_name_or_by_message() -> None:
    class Doubled(Cell):
        @handles
        def get(self, message: Get) -> int:
            return 2 * super().get(message)

    class Renamed(Cell):
        @handles
        def other_name(self, message: Get) -> int:
            return -1

    class Dropped(Cell):
        get = None  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

    async with ActorSystem() as system:
        assert await (await system.start(Doubled, 4)).call(Get()) == 8
        assert await (await system.start(Renamed, 4)).call(Get()) == -1
        assert Dropped.__table__.calls == {}


@pytest.mark.anyio
async def test_messages_may_be_declared_in_a_function_and_annotated_in_quotes() -> None:
    class Local(Call[str], frozen=True):
        text: str

    class Echo(Actor):
        @handles
        def echo(self, message: "Local") -> "str":
            return message.text

        @handles
        def down(self, message: Down) -> None: ...

    async with ActorSystem() as system:
        assert await (await system.start(Echo)).call(Local("hello")) == "hello"


@pytest.mark.anyio
async def test_ref_name_and_system_are_there_from_the_constructor_on() -> None:
    class Curious(Actor):
        def __init__(self) -> None:
            self.found = (self.name, self.ref, self.system)

        @handles
        def get(self, message: Get) -> int:
            return 1 if self.found == (self.name, self.ref, self.system) else 0

    async with ActorSystem() as system:
        ref = await system.start(Curious, name="curious")
        assert await ref.call(Get()) == 1
        assert "curious" in repr(ref)
        assert "Curious" in repr(ref)


@pytest.mark.anyio
async def test_a_constructor_that_fails_leaves_nothing_of_what_it_began() -> None:
    handled: list[object] = []

    class Failing(Cell):
        def __init__(self) -> None:
            super().__init__()
            registry.register("key", ref=self.ref)
            self.ref.cast(Put(1))
            self.send_after(1.0, "late")
            self.pipe_to_self(asyncio.Event().wait())
            raise ValueError("at last")

        @handles
        def put(self, message: Put) -> None:
            handled.append(message)

    clock = FakeClock()
    before = asyncio.all_tasks()
    async with ActorSystem(clock=clock) as system:
        registry = Registry(system)
        with pytest.raises(StartFailed):
            await system.start(Failing, name="nobody")
        await settle()
        assert (len(registry), handled, clock.pending) == (0, [], 0)
        assert asyncio.all_tasks() == before
        assert system.whereis("nobody") is None
        statistics = system.statistics()
        assert (statistics.started, statistics.exited) == (0, 0)
        assert [letter.why for letter in system.dead_letters] == ["left in the mailbox"]


@pytest.mark.anyio
async def test_a_function_may_make_the_actor() -> None:
    async with ActorSystem() as system:
        assert await (await system.start(lambda value: Cell(value + 1), 1)).call(Get()) == 2
        with pytest.raises(StartFailed):
            await system.start(lambda: Cell(*range(9)))
        wrong: Any = lambda: "no actor"  # noqa: E731  # what is wrong with it is its result
        with pytest.raises(StartFailed, match="which is no Actor"):
            await system.start(wrong)
        for name in ("", 3, ("a", "b")):
            wrong = name
            with pytest.raises(TypeError, match="a name is a text"):
                await system.start(Cell, name=wrong)
        assert system.statistics().alive == 1


@pytest.mark.anyio
async def test_only_calls_are_called_and_timeouts_are_seconds() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Cell)
        wrongs: list[Any] = [Put(), "no message at all"]
        for wrong in wrongs:
            with pytest.raises(TypeError, match="use cast"):
                await ref.call(wrong)
        await system.suspend(ref)
        for timeout in (-1.0, float("nan")):
            with pytest.raises(ValueError, match="timeout"):
                await ref.call(Get(), timeout=timeout)


@pytest.mark.anyio
async def test_a_call_that_is_cast_is_handled_and_its_reply_dropped() -> None:
    handled: list[str] = []

    class All(Actor):
        @handles
        def plain(self, message: Get) -> int:
            handled.append("plain")
            return 1

        @handles
        async def awaited(self, message: "Wait") -> int:
            handled.append("awaited")
            return 2

        @handles
        def later(self, message: "Later", reply_to: ReplyTo[int]) -> None:
            assert reply_to.abandoned
            handled.append(f"later {reply_to.reply(3)}")

    async with ActorSystem() as system:
        ref = await system.start(All)
        for message in (Get(), Wait(), Later()):
            ref.cast(message)
        await settle()
        assert handled == ["plain", "awaited", "later False"]
        assert ref.alive


@pytest.mark.anyio
async def test_a_refusal_that_nobody_waits_for_is_logged_and_the_actor_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class No(Refused):
        pass

    class Refusing(Cell):
        @handles
        def get(self, message: Get) -> int:
            raise No("not now")

        @handles
        async def wait(self, message: Wait) -> int:
            raise No("not now")

        @handles
        def later(self, message: Later, reply_to: ReplyTo[int]) -> None:
            raise No("not now")

        async def handle_info(self, message: object) -> None:
            raise No("not now")

    async with ActorSystem() as system:
        ref = await system.start(Refusing)
        for message in (Get(), Wait(), Later(), "info", Put(7)):
            ref.cast(message)
        await settle()
        assert ref.alive
        assert await system.get_state(ref) == {"value": 7}
        assert system.statistics_of(ref).handled == 5
    assert caplog.text.count("which nobody waits for: not now") == 4


@pytest.mark.anyio
async def test_whatever_would_wait_for_its_own_actor_is_refused_at_once() -> None:
    class Selfish(Actor):
        capacity = 1

        @handles
        async def wait(self, message: Wait) -> int:
            self.ref.cast("fills the mailbox")
            refused = 0
            for waiting in (
                self.ref.send("does not fit"),
                self.system.get_state(self.ref),
                self.system.suspend(self.ref),
                self.system.wait_down(self.ref),
                self.system.stop(self.ref),
            ):
                try:
                    await waiting
                except CallingSelf:
                    refused += 1
            return refused

    async with ActorSystem() as system:
        assert await (await system.start(Selfish)).call(Wait()) == 5


class Wait(Call[int], frozen=True):
    pass


class Later(Call[int], frozen=True):
    pass


def test_resend_is_a_class_keyword_that_subclasses_inherit() -> None:
    class Hold(Call[int], frozen=True, resend=True):
        id: int = 0

    class Narrower(Hold, frozen=True):
        pass

    class Never(Hold, frozen=True, resend=False):
        pass

    assert (Get.__resend__, Hold.__resend__, Narrower.__resend__, Never.__resend__) == (
        False,
        True,
        True,
        False,
    )
    assert msgspec.json.encode(Hold(7)) == b'{"id":7}'


@pytest.mark.anyio
async def test_a_full_mailbox_refuses_calls_and_casts_and_send_waits() -> None:
    class Small(Cell):
        capacity = 3

    async with ActorSystem() as system:
        ref = await system.start(Small)
        await system.suspend(ref)
        for value in range(3):
            ref.cast(Put(value))
        with pytest.raises(Overloaded, match="full \\(3 messages\\)"):
            ref.cast(Put(9))
        with pytest.raises(Overloaded):
            await ref.call(Get())
        sending = [asyncio.create_task(ref.send(Put(value))) for value in (3, 4, 5, 6)]
        await settle()
        assert not any(task.done() for task in sending)
        sending[1].cancel()
        await system.resume(ref)
        await asyncio.gather(*sending, return_exceptions=True)
        assert await ref.call(Get()) == 6
        assert system.statistics_of(ref).handled == 7
        await system.suspend(ref)
        for value in range(3):
            ref.cast(Put(value))
        last = asyncio.create_task(ref.send(Put(1)))
        await settle()
        system.kill(ref)
        await last
        assert [letter.why for letter in system.dead_letters] == ["left in the mailbox"] * 3 + ["dead"]


@pytest.mark.anyio
async def test_drop_oldest_drops_the_oldest_message_and_tells_a_caller() -> None:
    class Lossy(Cell):
        capacity = 2
        overflow = "drop_oldest"

    async with ActorSystem() as system:
        ref = await system.start(Lossy)
        await system.suspend(ref)
        call = asyncio.create_task(ref.call(Get()))
        await settle()
        for value in (1, 2, 3):
            ref.cast(Put(value))
        await ref.send(Put(4))
        with pytest.raises(Overloaded):
            await call
        assert [(letter.message, letter.why) for letter in system.dead_letters] == [
            (Put(1), "overflow"),
            (Put(2), "overflow"),
        ]
        await system.resume(ref)
        assert await ref.call(Get()) == 4


@pytest.mark.anyio
async def test_system_messages_and_timers_are_never_refused() -> None:
    class Small(Cell):
        capacity = 1

    async with ActorSystem() as system:
        ref = await system.start(Small)
        await system.suspend(ref)
        ref.cast(Put(1))
        assert await system.get_state(ref) == {"value": 0}
        await system.trace(ref, 1)
        await system.resume(ref)
        assert await ref.call(Get()) == 1
        assert (await system.stop(ref)).clean


@pytest.mark.anyio
async def test_capacity_may_be_given_at_start() -> None:
    async with ActorSystem() as system:
        ref = await system.start(Cell, capacity=1)
        await system.suspend(ref)
        ref.cast(Put())
        with pytest.raises(Overloaded):
            ref.cast(Put())
        for capacity in (0, -1, "many"):
            with pytest.raises(TypeError, match="capacity"):
                await system.start(Cell, capacity=capacity, name="never")  # type: ignore[arg-type]
        assert system.whereis("never") is None
        with pytest.raises(NameTaken):
            await asyncio.gather(system.start(Cell, name="x"), system.start(Cell, name="x"))


@pytest.mark.anyio
@pytest.mark.parametrize("how", ["stop", "self.stop", "exit"])
async def test_what_waits_behind_a_request_to_stop_is_not_handled(how: str) -> None:
    handled: list[object] = []

    class Ending(Cell):
        @handles
        def put(self, message: Put) -> None:
            handled.append(message.value)
            if message.value < 0:
                self.stop()

        @handles
        async def wait(self, message: Wait) -> int:
            handled.append("wait")
            return 0

        async def terminate(self, reason: ExitReason) -> None:
            handled.append("terminate")

    async with ActorSystem() as system:
        ref = await system.start(Ending)
        await system.suspend(ref)
        ref.cast(Put(1))
        await system.resume(ref)
        process = system.resolve(ref)
        assert process is not None
        if how == "self.stop":
            ref.cast(Put(-1))
        elif how == "stop":
            system.request_stop(ref)
        else:
            process.actor.trap_exit = True
            process.post(ExitSignal(Shutdown()))
        ref.cast(Put(2))
        calls = [asyncio.create_task(ref.call(message)) for message in (Wait(), Get())]
        ref.cast(Wait())
        for outcome in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(outcome, ActorExited)
        assert handled == [1, *([-1] if how == "self.stop" else []), "terminate"]
        assert [letter.message for letter in system.dead_letters] == [Put(2), Wait()]


@pytest.mark.anyio
@pytest.mark.parametrize("begun", [False, True])
async def test_an_actor_whose_stop_was_cancelled_ends_in_its_classs_time(*, begun: bool) -> None:
    class Slow(Cell):
        terminate_timeout_s = 2.0

        async def terminate(self, reason: ExitReason) -> None:
            await asyncio.Event().wait()

    clock = FakeClock()
    async with ActorSystem(clock=clock) as system:
        ref = await system.start(Slow)
        down = asyncio.create_task(system.wait_down(ref))
        stopping = asyncio.create_task(system.stop(ref, timeout=None))
        await asyncio.sleep(0)
        if begun:
            await settle()
        stopping.cancel()
        await clock.advance(1.9)
        assert not down.done()
        await clock.advance(0.1)
        assert (await down).reason == Killed()
    assert clock.pending == 0


@pytest.mark.anyio
async def test_a_system_is_entered_once_and_wanted_open() -> None:
    system = ActorSystem()
    with pytest.raises(SystemClosed, match="async with"):
        await system.start(Cell)
    async with system:
        ref = await system.start(Cell)
        with pytest.raises(SystemClosed, match="once"):
            await system.__aenter__()
        async with ActorSystem() as other:
            with pytest.raises(TypeError, match="no ref of this"):
                await other.stop(ref)
    assert not ref.alive
    with pytest.raises(ValueError, match="timeout"):
        ActorSystem(stop_timeout_s=-1)
    with pytest.raises(ValueError, match="stall_s"):
        ActorSystem(stall_s=0)
