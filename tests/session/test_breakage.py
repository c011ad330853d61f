"""Sessions when things break: actors killed, callers who give up, rows that cannot be read, documents that make no sense."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from tests.inside import given_back, system, tree, until

from greenroom.actors.flow import Reply, RuntimeFailed
from greenroom.actors.kernel import StartFailed
from greenroom.actors.providers import ImagePart, ImageUrl, Message
from greenroom.actors.session import SessionRefused, Sleep, UnknownSession
from greenroom.actors.session.messages import Delete
from greenroom.actors.settings import ModelSettings, PriceSettings, SessionLimits, Supervision
from greenroom.actors.storage import StorageFailed
from greenroom.runtime import ExportedSession, ProviderFailed, Runtime, Session, Settings, Window
from greenroom.runtime.testing import Fails, HastyClock, Received, Says, ScriptedProvider

pytestmark = pytest.mark.anyio
PRICES = {"*": PriceSettings(input="1", output="2")}


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider(then=lambda asked: f"re {asked.prompt}") as provider:
        yield provider


@pytest.fixture
def settings(provider: ScriptedProvider, tmp_path: Path) -> Settings:
    supervision = Supervision(intensity=100_000)
    return msgspec.structs.replace(provider.settings(tmp_path, prices=PRICES), supervision=supervision)


@pytest.fixture
async def rt(settings: Settings) -> AsyncIterator[Runtime]:
    async with Runtime(settings, environ={}, clock=HastyClock()) as rt:
        yield rt


async def say(session: Session, text: str, *, streamed: bool) -> Reply:
    if not streamed:
        return await session.say(text)
    async with session.stream(text) as events:
        return await events.finish()


def execute(folder: Path, sql: str) -> list[tuple[object, ...]]:
    """Do something to the database behind its owner's back."""
    (path,) = folder.glob("*.db")
    with closing(sqlite3.connect(path)) as database, database:
        return database.execute(sql).fetchall()


async def check_whole(rt: Runtime, session: Session, acknowledged: set[str], tried: set[str]) -> None:
    """Nothing acknowledged is lost, nothing is there twice, each question has its answer, and nobody has the floor."""
    history = await session.history()
    questions = [str(message.content) for message in history[::2]]
    assert [message.content for message in history[1::2]] == [f"re {question}" for question in questions]
    assert len(set(questions)) == len(questions)
    assert acknowledged <= set(questions) <= tried
    status = await session.status()
    assert (status.speaking, status.waiting, status.totals.turns) == (False, 0, len(questions))
    await given_back(rt, "scripted")


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_giving_up_at_any_moment_leaves_the_floor_free(rt: Runtime, streamed: bool) -> None:  # noqa: FBT001
    dice = random.Random(7)
    session = await rt.session("user-42")
    tried = {f"q{number}" for number in range(200)}
    acknowledged: set[str] = set()

    async def turn(text: str) -> None:
        await say(session, text, streamed=streamed)
        acknowledged.add(text)

    async def given_up(text: str) -> None:
        saying = asyncio.create_task(turn(text))
        for _ in range(dice.randrange(120)):
            await asyncio.sleep(0)
        saying.cancel()
        await asyncio.wait((saying,))

    for first in range(0, 200, 4):
        await asyncio.gather(*(given_up(f"q{number}") for number in range(first, first + 4)))
    await turn("last")
    await check_whole(rt, session, acknowledged, {*tried, "last"})


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "victims", [("session:user-42",), ("session:user-42", "sessions", "store", "ledger")]
)
async def test_killing_actors_at_any_moment_loses_and_doubles_nothing(
    rt: Runtime,
    victims: tuple[str, ...],
    streamed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    dice = random.Random(11)
    session = await rt.session("user-42")
    tried = {f"q{number}" for number in range(40)}
    talking = asyncio.gather(*(say(session, text, streamed=streamed) for text in sorted(tried)))
    while not talking.done():
        for _ in range(dice.randrange(60)):
            await asyncio.sleep(0)
        victim = system(rt).whereis(dice.choice(victims))
        if victim is not None:
            system(rt).kill(victim)
            await system(rt).wait_down(victim)
            if dice.random() < 0.5:
                await session.status()  # else a quick loop beside a slow disk would never let one begin
    await talking
    await check_whole(rt, session, tried, tried)


async def test_falling_asleep_at_any_moment_loses_nobody(
    provider: ScriptedProvider, settings: Settings
) -> None:
    drowsy = msgspec.structs.replace(settings, sessions=SessionLimits(idle_s=0.001, max_awake=2))
    async with Runtime(drowsy, environ={}) as rt:
        sessions = [await rt.session(f"s{number}") for number in range(5)]
        tried = {f"q{number}" for number in range(20)}

        async def talk(session: Session, text: str) -> None:
            await session.say(text)
            system(rt).named(f"session:{session.name}").cast(Sleep())
            await session.status()

        await asyncio.gather(*(talk(session, text) for session in sessions for text in sorted(tried)))
        for session in sessions:
            await check_whole(rt, session, tried, tried)


async def test_a_thousand_talk_at_once(rt: Runtime) -> None:
    async def talk(number: int) -> list[object]:
        session = await rt.session(f"s{number}")
        await session.say(f"q{number}")
        return [message.content for message in await session.history()]

    talks = await asyncio.gather(*map(talk, range(1_000)))
    assert talks == [[f"q{number}", f"re q{number}"] for number in range(1_000)]
    await given_back(rt, "scripted")


async def test_when_the_root_gives_up_all_who_wait_are_told(rt: Runtime, provider: ScriptedProvider) -> None:
    async def never(_: Received) -> str:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    provider.say(never)
    session = await rt.session("user-42")
    first = asyncio.create_task(session.say("1"))
    await provider.wait_received(1)
    second = asyncio.create_task(session.say("2"))
    while (await session.status()).waiting < 1:
        pass
    system(rt).kill(tree(rt).root)
    for saying in (first, second, session.status(), session.checkpoint("here")):
        with pytest.raises(RuntimeFailed):
            await saying


async def test_a_session_that_cannot_be_read_tells_each_who_wants_it(rt: Runtime, tmp_path: Path) -> None:
    session = await rt.session("user-42")
    system(rt).named("session:user-42").cast(Sleep())
    await until(lambda: system(rt).whereis("session:user-42") is None)
    execute(tmp_path, "UPDATE sessions SET settings = '{\"future\": 1}'")
    told = await asyncio.gather(*(session.say("?") for _ in range(5)), return_exceptions=True)
    assert [type(error) for error in told] == [StartFailed] * 5
    assert "unknown field `future`" in str(told[4])
    assert (await (await rt.session("other")).say("?")).text == "re ?"


async def test_deleting_is_done_once_and_told_also_by_a_new_incarnation(rt: Runtime) -> None:
    session = await rt.session("user-42")
    talk = session._talk  # pyright: ignore[reportPrivateUsage] - a message sent again
    async with talk.floor(for_turn=False) as floor:
        await floor.ask(Delete(floor.ticket))
        await floor.ask(Delete(floor.ticket))


async def test_what_is_said_in_a_session_that_was_purged_awake_belongs_to_one(
    rt: Runtime, tmp_path: Path
) -> None:
    session = await rt.session("user-42", system="Be brief.")
    await session.say("1")
    execute(tmp_path, "UPDATE sessions SET updated_at_ms = 5")
    async with session.stream("2") as events:
        assert (await rt.purge(sessions_days=30)).sessions == 1
        await events.finish()
    assert [message.content for message in await session.history()] == ["2", "re 2"]
    rows = execute(tmp_path, "SELECT count(*), sum(session_id IN (SELECT id FROM sessions)) FROM turns")
    assert rows == [(1, 1)]
    assert (await session.status()).settings.system == "Be brief."


async def test_a_session_that_was_purged_is_not_remembered_by_its_actor(rt: Runtime, tmp_path: Path) -> None:
    session = await rt.session("user-42")
    await session.say("1")
    execute(tmp_path, "UPDATE sessions SET updated_at_ms = 5")
    await rt.purge(sessions_days=30)
    await until(lambda: system(rt).whereis("session:user-42") is None)
    assert (await (await rt.session("user-42")).status()).totals.turns == 0


@pytest.mark.parametrize("at", [10**30, 2**63, 2**31, 0, -1, 3])
async def test_there_is_no_such_turn(rt: Runtime, at: int) -> None:
    session = await rt.session("user-42")
    await session.say("1")
    await session.say("2")
    await session.restore(1)  # which is recorded as 3, and is no turn
    for asking in (session.turns(at=at), session.restore(at), session.branch("other", at=at)):
        with pytest.raises(SessionRefused, match=f"no turn {at}"):
            await asking


def turn(**fields: object) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": "hi"}], "created_at_ms": 1, **fields}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"turns": [turn(seq=1), turn(seq=1)]}, "two turns 1"),
        ({"turns": [turn(seq=1, summary_of_seq=1)]}, "no turn 1 before"),
        ({"turns": [turn(seq=1, summary_of_seq=2), turn(seq=2)]}, "no turn 2 before"),
        ({"checkpoints": {"a": -3}}, "no turn -3"),
        ({"checkpoints": {"a\n": None}}, "a session's name is"),
        ({"turns": [turn(created_at_ms=10**15)]}, "<= 253402300799999"),
        ({"turns": [turn(created_at_ms="now")]}, "Expected `int`"),
        ({"turns": [{"created_at_ms": 1}]}, "missing required field `messages`"),
        ({"settings": {"max_turns": 0}}, "Expected `int` >= 1"),
        ({"settings": {"future": 1}}, "unknown field `future`"),
        ({"greenroom_session": 2}, "Invalid enum value 2"),
    ],
)
async def test_documents_of_rubbish_make_nothing(
    rt: Runtime, document: dict[str, object], message: str
) -> None:
    whole = msgspec.json.encode({"name": "x", "settings": {}, **document})
    with pytest.raises((SessionRefused, ValueError), match=message):
        await rt.import_session(msgspec.json.decode(whole, type=ExportedSession))
    assert await (await rt.session("x")).history() == ()


async def test_half_a_surrogate_pair_is_refused_and_breaks_nothing(rt: Runtime) -> None:
    with pytest.raises(SessionRefused, match=r"'\\ud800' is no text"):
        await rt.session("user-42", system="\ud800")
    other = await rt.session("other")
    with pytest.raises(SessionRefused, match=r"'\\ud800' is no text"):
        await other.configure(window=Window(summary_model="\ud800"))
    assert (await other.say("?")).text == "re ?"


@pytest.mark.parametrize("name", ["Zoë", "用户-42", "мир", "🦊" * 50, "a/b%2F?'\";--", "نص"])
async def test_names_may_be_of_any_script(rt: Runtime, name: str) -> None:
    session = await rt.session(name)
    await session.say("1")
    await session.checkpoint(name)
    copy = await session.branch(f"{name} 2", at=name)
    assert await copy.history() == await session.history() != ()


class TestWindow:
    async def test_an_image_takes_no_more_room_than_it_costs(
        self, provider: ScriptedProvider, settings: Settings
    ) -> None:
        scripted = msgspec.structs.replace(
            settings.providers["scripted"], models={"*": ModelSettings(context_tokens=8_000, vision=True)}
        )
        image = ImagePart(ImageUrl("data:image/png;base64,iVBORw0KGgo" + "A" * 400_001))
        provider.say("seen", "again")
        async with Runtime(
            msgspec.structs.replace(settings, providers={"scripted": scripted}), environ={}
        ) as rt:
            session = await rt.session("user-42")
            await session.say([Message("user", (image,))])
            await session.say("What was it?")
        told = msgspec.convert(provider.received[1].body["messages"], list[dict[str, object]])
        assert [message["role"] for message in told] == ["user", "assistant", "user"]

    @pytest.mark.parametrize(
        ("answer", "error"),
        [(Fails(400), ProviderFailed), (Says(" "), SessionRefused)],
        ids=["fails", "empty"],
    )
    async def test_a_summary_that_comes_to_nothing_forgets_nothing(
        self,
        rt: Runtime,
        provider: ScriptedProvider,
        answer: Says | Fails,
        error: type[Exception],
    ) -> None:
        session = await rt.session("user-42", window=Window(strategy="summarise", max_tokens=400))
        questions = ["word " * 60 + str(number) for number in range(2)]
        for question in questions:
            await session.say(question, max_tokens=100)
        provider.say(answer)
        with pytest.raises(error):
            await session.say("word " * 60, max_tokens=100)
        assert len(await session.turns()) == 2
        await check_whole(rt, session, set(questions), set(questions))
        provider.say("They said words.", "fine")
        assert (await session.say("word " * 60, max_tokens=100)).text == "fine"
        (summary,) = [entry for entry in await session.turns() if entry.kind == "summary"]
        branch = await session.branch("of-the-summary", at=summary.seq)
        assert [entry.kind for entry in await branch.turns()] == ["turn", "turn", "summary"]
        await session.restore(1)  # before the summary, which is not shown any more
        provider.say("fine again")
        await session.say("now?", max_tokens=100)
        assert questions[0] in str(provider.received[-1].body["messages"])
        assert "Summary of" not in str(provider.received[-1].body["messages"])


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_turn_that_the_database_refuses_is_no_conflict_and_the_next_is_fine(
    rt: Runtime,
    tmp_path: Path,
    streamed: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    session = await rt.session("user-42")
    await say(session, "1", streamed=streamed)
    execute(
        tmp_path,
        "CREATE TRIGGER refuse BEFORE INSERT ON turns BEGIN SELECT RAISE(ABORT, 'not this row'); END",
    )
    with pytest.raises(StorageFailed, match="not this row"):
        await say(session, "2", streamed=streamed)
    execute(tmp_path, "DROP TRIGGER refuse")
    await say(session, "3", streamed=streamed)
    await check_whole(rt, session, {"1", "3"}, {"1", "3"})


async def test_deleting_tells_those_who_wait_for_the_floor(rt: Runtime) -> None:
    session = await rt.session("user-42")
    talk = session._talk  # pyright: ignore[reportPrivateUsage] - to have the floor for a while
    async with talk.floor(for_turn=False) as floor:
        saying = [asyncio.create_task(session.say("?")) for _ in range(3)]
        while (await session.status()).waiting < len(saying):
            pass
        await floor.ask(Delete(floor.ticket))
    told = await asyncio.gather(*saying, return_exceptions=True)
    assert [type(error) for error in told] == [UnknownSession] * 3
