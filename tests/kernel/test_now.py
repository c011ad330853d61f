# pyright: reportUnknownMemberType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""What is handled at once: `call_now`, casts that come from the loop itself, and each task's credit for calls."""

import asyncio
import logging

import pytest

from greenroom.actors import Actor, ActorSystem, Call, Cast, Crashed, NoProcess, Refused, ReplyTo, handles
from greenroom.actors.kernel.engine.core import CREDIT, RENEWALS

pytestmark = pytest.mark.anyio


class Said(Refused):
    pass


class Plain(Call[str], frozen=True, resend=True):
    how: str = "reply"


class Later(Call[str], frozen=True, resend=True):
    how: str = "reply"


class Slow(Call[str], frozen=True, resend=True):
    pass


class Nested(Call[str], frozen=True, resend=True):
    pass


class Note(Cast, frozen=True):
    text: str


class Desk(Actor):
    """Answers at once, later, slowly, or with a failure."""

    def __init__(self) -> None:
        self.kept: list[ReplyTo[str]] = []
        self.notes: list[str] = []

    @handles
    def plain(self, message: Plain) -> str:
        self._fail(message.how)
        return message.how

    @handles
    def later(self, message: Later, reply_to: ReplyTo[str]) -> None:
        self._fail(message.how)
        if message.how == "refuse later":
            reply_to.refuse(Said("later"))
        elif message.how == "keep":
            assert not reply_to.abandoned
            self.kept.append(reply_to)
        else:
            assert reply_to.reply(message.how)
            assert not reply_to.reply("again")

    @handles
    async def slow(self, message: Slow) -> str:
        await asyncio.sleep(0)
        return "slow"

    @handles
    def nested(self, message: Nested) -> str:
        return str(self.ref.call_now(Plain()))

    @handles
    def note(self, message: Note) -> None:
        self.notes.append(message.text)

    def _fail(self, how: str) -> None:
        if how == "refuse":
            raise Said("no")
        if how == "crash":
            raise ZeroDivisionError


async def test_what_is_answered_at_once_is_the_reply(system: ActorSystem) -> None:
    plain = await system.start(Desk, name="desk")
    for ref in (plain, system.named("desk")):
        assert ref.call_now(Plain("a")) == "a"
        assert ref.call_now(Later("b")) == "b"
        with pytest.raises(Said, match="no"):
            ref.call_now(Plain("refuse"))
        with pytest.raises(Said, match="no"):
            ref.call_now(Later("refuse"))
        with pytest.raises(Said, match="later"):
            ref.call_now(Later("refuse later"))
        assert await ref.call(Plain("c")) == "c"


async def test_a_second_answer_is_refused_and_logged(
    system: ActorSystem, caplog: pytest.LogCaptureFixture
) -> None:
    ref = await system.start(Desk)
    with caplog.at_level(logging.WARNING, "greenroom.actors"):
        assert ref.call_now(Later()) == "reply"
    assert caplog.text.count("second reply to Later") == 1
    assert system.statistics().second_replies == 1


async def test_what_cannot_be_answered_at_once_is_none_and_a_call_may_follow(system: ActorSystem) -> None:
    desk = Desk()
    ref = await system.start(lambda: desk)
    assert ref.call_now(Slow()) is None
    assert ref.call_now(Nested()) == "None"  # its own actor is busy, with this
    assert system.named("nobody").call_now(Plain()) is None
    ref.cast(Note("first"))
    assert ref.call_now(Plain()) is None  # it would overtake the note
    assert await ref.call(Plain()) == "reply"
    assert await ref.call(Slow()) == "slow"


async def test_whoever_asks_again_is_told_and_the_first_right_to_answer_is_void(system: ActorSystem) -> None:
    desk = Desk()
    ref = await system.start(lambda: desk)
    assert ref.call_now(Later("keep")) is None
    asking = asyncio.create_task(ref.call(Later("keep")))
    await asyncio.sleep(0)
    first, second = desk.kept
    assert first.abandoned
    assert not first.reply("late")
    assert second.reply("in time")
    assert await asking == "in time"
    assert system.statistics().late_replies == 1
    system.kill(ref)  # what was never answered owes nothing
    await system.wait_down(ref)


@pytest.mark.parametrize("message", [Plain("crash"), Later("crash")])
async def test_a_crash_ends_the_actor_and_not_who_asks(system: ActorSystem, message: Plain | Later) -> None:
    ref = await system.start(Desk)
    assert ref.call_now(message) is None
    down = await system.wait_down(ref)
    assert isinstance(down.reason, Crashed | NoProcess)
    assert not ref.alive
    assert ref.call_now(Plain()) is None


async def test_a_cast_from_the_loop_is_handled_at_once(system: ActorSystem) -> None:
    desk = Desk()
    plain = await system.start(lambda: desk, name="desk")
    seen: list[tuple[list[str], str | None]] = []

    def timer(text: str) -> None:
        plain.cast(Note(f"{text} before"))
        system.named("desk").cast_from_loop(Note(text))
        seen.append((list(desk.notes), plain.call_now(Plain())))

    loop = asyncio.get_running_loop()
    loop.call_soon(timer, "one")
    loop.call_soon(timer, "two")
    await asyncio.sleep(0)
    assert seen == [
        (["one before", "one"], "reply"),
        (["one before", "one", "two before", "two"], "reply"),
    ]


async def test_within_a_task_it_is_a_cast(system: ActorSystem) -> None:
    desk = Desk()
    ref = await system.start(lambda: desk)
    ref.cast_from_loop(Note("from a task"))
    assert desk.notes == []
    assert await ref.call(Plain()) == "reply"
    assert desk.notes == ["from a task"]
    system.named("nobody").cast_from_loop(Note("to nobody"))
    assert system.statistics().dead_letters == 1


async def test_one_tasks_credit_ends_and_the_next_task_has_its_own(system: ActorSystem) -> None:
    ref = await system.start(Desk)
    share = CREDIT * (RENEWALS + 2)

    async def greedy() -> int:
        """How many calls in a row are handled at once."""
        return next(count for count in range(share) if ref.call_now(Plain()) is None)

    counts = await asyncio.gather(*(greedy() for _ in range(4)))
    assert all(0 < count <= CREDIT * (RENEWALS + 1) for count in counts)
