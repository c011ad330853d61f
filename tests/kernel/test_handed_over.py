"""A call that wakes an idle actor's task is handed to it past the mailbox, and all the same withdrawn, refused and counted as if it had queued."""

import asyncio
import gc

import pytest

from greenroom.actors import Actor, ActorExited, ActorRef, ActorSystem, Call, Cast, Killed, handles, settle


class Ask(Call[str], frozen=True):
    name: str


class Tell(Cast, frozen=True):
    name: str


class Listener(Actor):
    def __init__(self, heard: list[str]) -> None:
        self.heard = heard

    @handles
    async def ask(self, message: Ask) -> str:
        self.heard.append(message.name)
        await asyncio.sleep(0)
        return message.name

    @handles
    def tell(self, message: Tell) -> None:
        self.heard.append(message.name)


class Patient(Listener):
    skip_abandoned = False


async def parked(system: ActorSystem, heard: list[str], kind: type[Listener] = Listener) -> ActorRef:
    """A listener that has a task and nothing to do."""
    ref = await system.start(kind, heard)
    assert await ref.call(Ask("first")) == "first"
    await settle()
    heard.clear()
    return ref


async def test_what_comes_after_it_waits_its_turn(system: ActorSystem) -> None:
    heard: list[str] = []
    ref = await parked(system, heard)
    a = system.request(ref, Ask("a"))
    ref.cast(Tell("after a"))
    b = system.request(ref, Ask("b"))
    ref.cast(Tell("after b"))
    assert not heard
    assert (await a.wait(), await b.wait()) == ("a", "b")
    await settle()
    assert heard == ["a", "after a", "b", "after b"]
    assert system.statistics_of(ref).handled == 5


async def test_killed_before_it_begins_its_caller_hears_of_it_and_no_handler_is_left(
    system: ActorSystem,
) -> None:
    heard: list[str] = []
    ref = await parked(system, heard)
    request = system.request(ref, Ask("never"))
    system.kill(ref)
    with pytest.raises(ActorExited) as raised:
        await request.wait()
    assert raised.value.reason == Killed()
    assert not heard
    gc.collect()  # a coroutine that was never begun would warn here


@pytest.mark.parametrize(("kind", "expected"), [(Listener, []), (Patient, ["late"])])
async def test_one_whose_caller_has_gone_is_skipped_as_its_class_says(
    system: ActorSystem, kind: type[Listener], expected: list[str]
) -> None:
    heard: list[str] = []
    ref = await parked(system, heard, kind)
    system.request(ref, Ask("late")).abandon()
    await settle()
    assert heard == expected
    assert await ref.call(Ask("next")) == "next"
