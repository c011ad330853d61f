# pyright: reportUnknownLambdaType=false, reportUnknownMemberType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Looking into a system: the façade, snapshots, the tree, states without secrets."""

import asyncio
import dataclasses
import json
from typing import Any

import msgspec
import pytest
from tests.conformance.players import Await, Plain, Puppet, Step, crash, forever

import greenroom.actors
import greenroom.actors.kernel
import greenroom.supervisors
from greenroom.actors import (
    Actor,
    ActorExited,
    ActorSystem,
    DeadLetter,
    FakeClock,
    Report,
    format_tree,
    presentable,
)
from greenroom.actors.kernel.engine.reports import format_report
from greenroom.supervisors import ChildSpec, DynamicSupervisor, StartChild, Supervisor


@pytest.mark.parametrize("package", [greenroom.actors, greenroom.actors.kernel, greenroom.supervisors])
def test_all_names_are_there(package: Any) -> None:
    assert len(set(package.__all__)) == len(package.__all__)
    for name in package.__all__:
        assert hasattr(package, name)


def test_the_contracts_names_are_exported() -> None:
    contract = (
        "Actor ActorRef ActorSystem Call Cast handles ReplyTo Down Exit Timeout ExitReason Normal Shutdown Killed Crashed "
        "NoProcess ActorExited Refused Overloaded CallingSelf NameTaken StartFailed Clock"
    )
    assert set(contract.split()) <= set(greenroom.actors.__all__)


@pytest.mark.anyio
async def test_a_snapshot_is_the_tree_as_structs(system: ActorSystem, clock: FakeClock) -> None:
    await system.start(
        Supervisor,
        [ChildSpec("a", Plain, name="a"), ChildSpec("below", DynamicSupervisor, name="below")],
        name="root",
    )
    await system.named("below").call(StartChild(ChildSpec("x", Plain)))
    await system.named("a").call(Step())
    snapshot = system.snapshot()
    [root] = snapshot.actors
    assert [child.statistics.name for child in root.children] == ["a", "below"]
    assert root.children[0].statistics.handled == 1
    assert root.children[1].children[0].statistics.actor == "Plain"
    assert snapshot.at == clock.time()
    assert json.loads(msgspec.json.encode(snapshot))["statistics"]["alive"] == 4
    lines = format_tree(snapshot).splitlines()
    assert lines[:3] == [
        "root (Supervisor) idle, 0 handled",
        "  a (Plain) idle, 1 handled",
        "  below (DynamicSupervisor) idle, 1 handled",
    ]
    assert lines[3].startswith("    #")
    assert system.format_tree() == "\n".join(lines)
    small = system.snapshot(actors_max=2)
    assert small.left_out == 2
    assert format_tree(small).splitlines()[-1] == "... and 2 more"


@pytest.mark.anyio
async def test_statistics_of_nobody_is_an_error_and_of_the_dead_is_not(system: ActorSystem) -> None:
    with pytest.raises(ActorExited):
        system.statistics_of(system.named("nobody"))
    plain = await system.start(Plain)
    system.kill(plain)
    assert system.statistics_of(plain).state == "dead"
    for ask in (system.suspend, system.resume, system.get_state):
        with pytest.raises(ActorExited):
            await ask(plain)
    assert system.events(plain) == ()
    with pytest.raises(ValueError, match="events_max"):
        await system.trace(plain, -1)


@pytest.mark.anyio
async def test_questions_to_an_actor_that_ends_are_answered_with_its_end(system: ActorSystem) -> None:
    puppet = await system.start(Puppet)
    call = asyncio.create_task(puppet.call(Await(forever)))
    await asyncio.sleep(0)
    asking = asyncio.create_task(system.get_state(puppet))
    await asyncio.sleep(0)
    system.kill(puppet)
    for waiting in (asking, call):
        with pytest.raises(ActorExited):
            await waiting


@pytest.mark.anyio
async def test_hooks_that_fail_do_no_harm(clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    def fail(_: object) -> None:
        raise KeyError("in the hook")

    async with ActorSystem(clock=clock, on_dead_letter=fail, on_report=fail, dead_letters_kept=2) as system:
        plain = await system.start(Plain)
        system.kill(plain)
        for number in range(5):
            plain.cast(number)
        assert system.dead_letters == (DeadLetter(plain, 3, "dead"), DeadLetter(plain, 4, "dead"))
        assert system.statistics().dead_letters == 5
        await crash(await system.start(Puppet))
    assert [record.message for record in caplog.records].count("the dead letter hook failed") == 5
    assert [record.message for record in caplog.records].count("the report hook failed") == 1


def test_structs_and_dataclasses_are_shown_by_their_fields() -> None:
    class Provider(msgspec.Struct):
        url: str
        api_key: str

    @dataclasses.dataclass
    class Session:
        password: str
        provider: Provider

    session = Session("hunter2", Provider("http://x", "no known form"))
    assert presentable({"session": session, "body": b"x" * 1_000_000}) == {
        "session": {
            "password": "[redacted]",
            "provider": {"url": "http://x", "api_key": "[redacted]"},
        },
        "body": "<1000000 bytes>",
    }
    assert presentable([[[session]]]) == [[["<Session>"]]]


@pytest.mark.anyio
async def test_an_actor_with_slots_shows_and_replaces_its_state(system: ActorSystem) -> None:
    class Slotted(Actor):
        __slots__ = ("token", "value")

        def __init__(self) -> None:
            self.value = 1
            self.token = "secret"

    slotted = await system.start(Slotted)
    assert await system.get_state(slotted) == {"token": "[redacted]", "value": 1}
    assert await system.replace_state(slotted, lambda _: {"value": 2}) == {"value": 2}
    with pytest.raises(AttributeError):
        await system.replace_state(slotted, lambda _: {"value": 3, "unknown": 3})
    assert await system.get_state(slotted) == {"value": 2}


@pytest.mark.anyio
async def test_a_dead_letter_hook_is_not_told_of_the_letters_it_writes_itself() -> None:
    told: list[object] = []

    def tell_again(letter: DeadLetter) -> None:
        told.append(letter.message)
        letter.ref.cast("again")

    async with ActorSystem(on_dead_letter=tell_again) as system:
        dead = await system.start(Plain)
        system.kill(dead)
        dead.cast("first")
        dead.cast("second")
        assert told == ["first", "second"]
        assert system.statistics().dead_letters == 4


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ({"api_key": "abc"}, {"api_key": "[redacted]"}),
        ({"Authorization": "x", "max_tokens": 5}, {"Authorization": "[redacted]", "max_tokens": 5}),
        ({"input_tokens": 7, "access_token": "t"}, {"input_tokens": 7, "access_token": "[redacted]"}),
        ("Bearer abcdef", "[redacted]"),
        ("key sk-ant-api03-canary0123456789 leaks", "key [redacted] leaks"),
        ({"password": None}, {"password": None}),
        ([1, 2.5, True, None], [1, 2.5, True, None]),
        ("x" * 100, "x" * 80 + "..."),
        (list(range(22)), [*range(20), "... 2 more"]),
        ({n: n for n in range(22)}, {**{str(n): n for n in range(20)}, "...": "2 more"}),
        ({"a": {"b": {"c": {"d": 1}}}}, {"a": {"b": {"c": "<dict of 1>"}}}),
        ([[[[1]]]], [[["<list of 1>"]]]),
    ],
)
def test_what_is_shown_is_cut_to_size_and_without_secrets(value: object, shown: object) -> None:
    assert presentable(value) == shown


def test_a_secret_in_a_repr_is_found_by_its_name() -> None:
    class Client:
        def __repr__(self) -> str:
            return "<Client api_key='no known form' max_tokens=5 {'password': \"p w\", token:t} url=http://x>"

    assert presentable(Client()) == (
        "<Client api_key=[redacted] max_tokens=5 {'password': [redacted], token:[redacted..."
    )


def test_a_repr_that_raises_is_shown_as_such() -> None:
    class Broken:
        def __repr__(self) -> str:
            raise ValueError("no")

    assert presentable(Broken()) == "<Broken whose repr raised ValueError>"


def test_a_report_reads_as_one_line() -> None:
    report = Report(
        "crashed", "Ledger", "ledger", 7, greenroom.actors.Crashed(KeyError("row")), "Settle", "root"
    )
    assert format_report(report) == "Ledger 'ledger' #7 under root crashed handling Settle: KeyError: 'row'"
    nameless = Report("did not stop well", "Pool", None, 8, greenroom.actors.Killed())
    assert format_report(nameless) == "Pool #8 did not stop well: Killed()"
