"""Sessions over a whole runtime, a real socket and a real database: what is remembered, shown, charged and told."""

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from tests.inside import system, tree

from greenroom.actors.ledger import BudgetExceeded
from greenroom.actors.providers import Message, RequestedTool
from greenroom.actors.providers.chat import FunctionCall
from greenroom.actors.session import (
    GetSessionStatus,
    SessionExists,
    SessionFull,
    SessionRefused,
    SessionStatus,
    TooLong,
    UnknownSession,
)
from greenroom.actors.settings import ModelSettings, PriceSettings, SessionLimits
from greenroom.runtime import (
    ExportedSession,
    Finished,
    OptionInvalid,
    ProviderFailed,
    Runtime,
    Session,
    Settings,
    TextDelta,
    Window,
)
from greenroom.runtime.testing import Breaks, Fails, HastyClock, Received, Says, ScriptedProvider, ToolCall

pytestmark = pytest.mark.anyio
PRICES = {"*": PriceSettings(input="1", output="2")}
USD_PER_TURN = Decimal("0.00002")


def says(text: str, *calls: ToolCall) -> Says:
    return Says(text, tool_calls=calls, prompt_tokens=10, completion_tokens=5)


def shown(asked: Received) -> list[tuple[object, object]]:
    """Who said what, as the provider was told."""
    messages = msgspec.convert(asked.body["messages"], list[dict[str, object]])
    return [(message["role"], message.get("content")) for message in messages]


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
def settings(provider: ScriptedProvider, tmp_path: Path) -> Settings:
    return provider.settings(tmp_path, prices=PRICES)


def runtime(settings: Settings) -> Runtime:
    return Runtime(settings, environ={}, clock=HastyClock())


@pytest.fixture
async def rt(settings: Settings) -> AsyncIterator[Runtime]:
    async with runtime(settings) as rt:
        yield rt


async def awake(rt: Runtime, name: str) -> bool:
    return system(rt).whereis(f"session:{name}") is not None


async def until_waiting(session: Session, count: int) -> SessionStatus:
    """Ask until so many turns wait."""
    status = await session.status()
    return status if status.waiting >= count else await until_waiting(session, count)


async def never(_: Received) -> str:
    await asyncio.Event().wait()
    raise AssertionError("nobody sets it")


class TestRemembering:
    async def test_what_was_said_in_turn_1_is_in_the_request_of_turn_2(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say("Hello Ada.", "You are Ada.")
        session = await rt.session("user-42", system="Be brief.")
        await session.say("My name is Ada.")
        reply = await session.say("Who am I?")
        assert reply.text == "You are Ada."
        assert shown(provider.received[1]) == [
            ("system", "Be brief."),
            ("user", "My name is Ada."),
            ("assistant", "Hello Ada."),
            ("user", "Who am I?"),
        ]

    async def test_history_usage_and_cost_survive_the_process(
        self, settings: Settings, provider: ScriptedProvider
    ) -> None:
        provider.say(says("Hello Ada."), says("You are Ada."))
        async with runtime(settings) as rt:
            session = await rt.session("user-42", system="Be brief.")
            await session.say("My name is Ada.")
            before, totals = await session.history(), (await session.status()).totals
        async with runtime(settings) as rt:
            session = await rt.session("user-42")
            assert await session.history() == before
            status = await session.status()
            assert status.totals == totals
            assert (totals.turns, totals.cost_usd) == (1, USD_PER_TURN)
            assert status.settings.system == "Be brief."
            await session.say("Who am I?")
        assert ("user", "My name is Ada.") in shown(provider.received[1])

    async def test_a_streamed_turn_is_remembered_once_its_end_is_told(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say("Hello Ada.")
        session = await rt.session("user-42")
        text = ""
        async with session.stream("My name is Ada.") as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    text += event.text
                    assert await session.history() == ()
                if isinstance(event, Finished):
                    assert [m.content for m in await session.history()] == ["My name is Ada.", text]
        assert events.reply.text == text == "Hello Ada."

    async def test_a_stream_that_is_left_early_is_not_remembered(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say("One two three four five.", "Fine.")
        session = await rt.session("user-42")
        async with session.stream("Count.") as events:
            await anext(events)
        assert await session.history() == ()
        assert (await session.say("And now?")).text == "Fine."

    @pytest.mark.parametrize("fault", [Fails(400), Breaks("truncate")], ids=["refused", "cut"])
    async def test_a_turn_that_fails_leaves_nothing_behind(
        self, rt: Runtime, provider: ScriptedProvider, fault: Fails | Breaks
    ) -> None:
        provider.say(fault)
        session = await rt.session("user-42")
        async with session.stream("Hello?") as events:
            with pytest.raises(ProviderFailed):
                await events.finish()
        provider.say("Hello.")
        assert (await session.say("Hello again")).text == "Hello."
        assert [m.content for m in await session.history()] == ["Hello again", "Hello."]

    async def test_tool_calls_and_their_results_go_on_with_the_conversation(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say(says("", ToolCall("call_1", "weather", '{"city": "Paris"}')), says("It rains."))
        session = await rt.session("user-42")
        reply = await session.say("Rain in Paris?")
        assert reply.tool_calls[0].name == "weather"
        await session.say([Message("tool", "yes", tool_call_id="call_1")])
        call = RequestedTool("call_1", FunctionCall("weather", '{"city": "Paris"}'))
        assert await session.history() == (
            Message("user", "Rain in Paris?"),
            Message("assistant", None, tool_calls=(call,)),
            Message("tool", "yes", tool_call_id="call_1"),
            Message("assistant", "It rains."),
        )
        assert [role for role, _ in shown(provider.received[1])] == ["user", "assistant", "tool"]


class TestTurns:
    async def test_two_messages_at_once_are_answered_one_after_the_other(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        go_on = asyncio.Event()

        async def first(_: Received) -> str:
            await go_on.wait()
            return "one"

        provider.say(first, "two", "three")
        session = await rt.session("user-42")
        async with asyncio.TaskGroup() as group:
            group.create_task(session.say("1"))
            await provider.wait_received(1)
            group.create_task(session.say("2"))
            await until_waiting(session, 1)
            group.create_task((await rt.session("user-42")).say("3"))
            assert (await until_waiting(session, 2)).speaking
            assert len(provider.received) == 1
            go_on.set()
        assert [m.content for m in await session.history()] == ["1", "one", "2", "two", "3", "three"]

    async def test_one_that_is_given_up_makes_room_for_the_next(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say(never, "two")
        session = await rt.session("user-42")
        first = asyncio.create_task(session.say("1"))
        await provider.wait_received(1)
        second, third = asyncio.create_task(session.say("2")), asyncio.create_task(session.say("3"))
        await until_waiting(session, 2)
        third.cancel()
        first.cancel()
        assert (await second).text == "two"
        assert [m.content for m in await session.history()] == ["2", "two"]
        await asyncio.wait((first, third))

    async def test_sessions_do_not_wait_for_each_other(self, rt: Runtime, provider: ScriptedProvider) -> None:
        provider.say(never, "two")
        slow = asyncio.create_task((await rt.session("a")).say("1"))
        await provider.wait_received(1)
        assert (await (await rt.session("b")).say("2")).text == "two"
        slow.cancel()
        await asyncio.wait((slow,))

    @pytest.mark.parametrize("streamed", [False, True])
    async def test_killing_its_actor_while_a_model_thinks_loses_nothing(
        self,
        rt: Runtime,
        provider: ScriptedProvider,
        streamed: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        go_on = asyncio.Event()

        async def thinks(_: Received) -> str:
            await go_on.wait()
            return "one"

        async def say(text: str) -> str:
            if not streamed:
                return (await session.say(text)).text
            async with session.stream(text) as events:
                return (await events.finish()).text

        provider.say(thinks, "two")
        session = await rt.session("user-42")
        core = system(rt)
        first = asyncio.create_task(say("1"))
        await provider.wait_received(1)
        second = asyncio.create_task(say("2"))
        for _ in range(3):
            actor = core.whereis("session:user-42")
            assert actor is not None
            core.kill(actor)
            await core.wait_down(actor)
            assert (await session.status()).speaking
        assert len(provider.received) == 1  # the second still waits for the floor
        go_on.set()
        assert [await first, await second] == ["one", "two"]
        assert [m.content for m in await session.history()] == ["1", "one", "2", "two"]


class TestPlaces:
    async def test_branches_share_history_and_never_each_others_later_turns(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say("one", "two", "left", "right")
        session = await rt.session("trunk", system="Be brief.")
        await session.say("1")
        await session.say("2")
        left = await session.branch("left", at=1)
        await left.say("L")
        await session.say("R")
        assert [m.content for m in await left.history()] == ["1", "one", "L", "left"]
        assert [m.content for m in await session.history()] == ["1", "one", "2", "two", "R", "right"]
        assert (await left.status()).settings.system == "Be brief."
        assert (await left.status()).totals.turns == 2
        with pytest.raises(SessionExists):
            await session.branch("left")

    async def test_checkpoints_are_come_back_to(
        self, settings: Settings, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say("one", "two", "other")
        session = await rt.session("user-42")
        await session.checkpoint("start")
        await session.say("1")
        await session.checkpoint("first")
        await session.say("2")
        await session.restore("first")
        await session.say("other?")
        assert [m.content for m in await session.history()] == ["1", "one", "other?", "other"]
        assert shown(provider.received[2]) == [("user", "1"), ("assistant", "one"), ("user", "other?")]
        await session.restore(2)  # what was gone back on is still there
        assert [m.content for m in await session.history()] == ["1", "one", "2", "two"]
        await session.restore("start")
        assert await session.history() == ()
        with pytest.raises(SessionRefused, match=r"no checkpoint 'frist'; there are: start, first"):
            await session.restore("frist")
        with pytest.raises(SessionRefused, match="no turn 99"):
            await session.restore(99)

    async def test_clear_keeps_the_totals(self, rt: Runtime, provider: ScriptedProvider) -> None:
        provider.say(says("one"), says("two"))
        session = await rt.session("user-42")
        await session.say("1")
        await session.clear()
        assert await session.history() == ()
        await session.say("2")
        assert shown(provider.received[1]) == [("user", "2")]
        totals = (await session.status()).totals
        assert (totals.turns, totals.cost_usd) == (2, 2 * USD_PER_TURN)

    async def test_export_and_import_are_each_others_inverse(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say("one", "two", "three")
        session = await rt.session("user-42", system="Be brief.", max_turns=9)
        await session.say("1")
        await session.checkpoint("first")
        await session.say("2")
        await session.restore("first")
        await session.say("2b")
        document = msgspec.json.encode(await session.export())
        copy = await rt.import_session(msgspec.json.decode(document, type=ExportedSession), name="copy")
        assert await copy.history() == await session.history()
        assert (await copy.status()).settings == (await session.status()).settings
        await copy.restore("first")
        assert [m.content for m in await copy.history()] == ["1", "one"]
        assert (await copy.status()).totals.cost_pusd == 0  # paid for elsewhere
        with pytest.raises(SessionExists, match="user-42"):
            await rt.import_session(msgspec.json.decode(document, type=ExportedSession))

    async def test_a_document_that_contradicts_itself_makes_nothing(self, rt: Runtime) -> None:
        document = msgspec.json.decode(
            b'{"name": "x", "settings": {}, "turns": [], "checkpoints": {"a": 4}}', type=ExportedSession
        )
        with pytest.raises(SessionRefused, match="no turn 4"):
            await rt.import_session(document)
        assert (await (await rt.session("x")).status()).checkpoints == {}

    async def test_delete_removes_it(self, rt: Runtime, provider: ScriptedProvider) -> None:
        provider.say("one", "anew")
        session = await rt.session("user-42", system="Be brief.")
        await session.say("1")
        await session.delete()
        with pytest.raises(UnknownSession, match="user-42"):
            await session.say("2")
        again = await rt.session("user-42")
        assert (await again.status()).settings.system is None
        await again.say("2")
        assert shown(provider.received[1]) == [("user", "2")]


class TestSettings:
    async def test_a_budget_holds_over_restarts(self, settings: Settings, provider: ScriptedProvider) -> None:
        provider.say(says("one"), says("two"))
        async with runtime(settings) as rt:
            session = await rt.session("user-42", budget_usd="0.0003")
            await session.say("1", max_tokens=20)
        async with runtime(settings) as rt:
            session = await rt.session("user-42")
            with pytest.raises(BudgetExceeded, match="session"):
                await session.say("2", max_tokens=200)
            assert (await session.say("2", max_tokens=20)).text == "two"
        assert len(provider.received) == 2

    async def test_transfer_keeps_the_history_tools_included(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say(says("", ToolCall("call_1", "weather", "{}")), says("Rain."), says("Paris."))
        session = await rt.session("user-42", model="scripted/first")
        await session.say("Rain?")
        await session.say([Message("tool", "yes", tool_call_id="call_1")])
        await session.transfer("scripted/second")
        await session.say("Where?")
        assert [asked.body["model"] for asked in provider.received] == ["first", "first", "second"]
        roles = [role for role, _ in shown(provider.received[2])]
        assert roles == ["user", "assistant", "tool", "assistant", "user"]
        assert [turn.model for turn in await session.turns()] == [
            "scripted/first",
            "scripted/first",
            "scripted/second",
        ]

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"max_turns": 1}, "holds 1 turns"),
            ({"max_total_tokens": 15}, "took 15 tokens"),
        ],
    )
    async def test_limits_are_enforced(
        self, rt: Runtime, provider: ScriptedProvider, options: dict[str, int], said: str
    ) -> None:
        provider.say(says("one"))
        session = await rt.session("user-42", **options)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        await session.say("1")
        with pytest.raises(SessionFull, match=said):
            await session.say("2")
        assert len(provider.received) == 1
        await session.checkpoint("full")  # what asks no model is not kept from anything

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"modle": "x"}, "modle: a session has no such option; there are model, system"),
            ({"budget_usd": "much"}, "budget_usd: 'much' is no sum"),
            ({"max_turns": 0}, "max_turns: Expected `int` >= 1"),
            ({"window": "wide"}, "window.strategy: Invalid enum value 'wide'"),
            ({"system": 3}, "system: Expected `str"),
        ],
    )
    async def test_what_makes_no_sense_is_refused_by_name(
        self, rt: Runtime, options: dict[str, str], said: str
    ) -> None:
        with pytest.raises(OptionInvalid, match=said):
            await rt.session("user-42", **options)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
        assert not await awake(rt, "user-42")

    @pytest.mark.parametrize("name", ["", " a", "a\n", "x" * 201])
    async def test_names_are_printable(self, rt: Runtime, name: str) -> None:
        with pytest.raises(ValueError, match="a session's name is"):
            await rt.session(name)

    async def test_names_are_text(self, rt: Runtime) -> None:
        with pytest.raises(TypeError, match="a session's name is text: 3"):
            await rt.session(3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


class TestWindow:
    async def test_what_leaves_fits_the_models_context(
        self, provider: ScriptedProvider, settings: Settings
    ) -> None:
        scripted = msgspec.structs.replace(
            settings.providers["scripted"], models={"*": ModelSettings(context_tokens=400)}
        )
        provider.say(*(Says("x" * 80) for _ in range(20)))
        async with runtime(msgspec.structs.replace(settings, providers={"scripted": scripted})) as rt:
            session = await rt.session("user-42", system="Be brief.")
            for number in range(20):
                await session.say(f"{number}: " + "word " * 10, max_tokens=100)
            assert len(await session.turns()) == 20  # all is kept, whatever is shown
            with pytest.raises(TooLong):
                await session.say("word " * 2000, max_tokens=100)
        for number, asked in enumerate(provider.received):
            told = shown(asked)
            assert told[0] == ("system", "Be brief.")
            assert str(told[-1][1]).startswith(f"{number}: ")
            assert sum(len(str(content)) for _, content in told) < 300 / 0.25
        assert 3 < len(shown(provider.received[-1])) < 20

    async def test_a_model_is_chosen_that_has_room(
        self, provider: ScriptedProvider, settings: Settings
    ) -> None:
        windows = {
            "small": ModelSettings(context_tokens=1_000),
            "large": ModelSettings(context_tokens=50_000),
        }
        scripted = msgspec.structs.replace(
            settings.providers["scripted"],
            models=windows,
            prices={
                name: PriceSettings(input=(name == "large" and "2") or "1", output="2") for name in windows
            },
        )
        provider.say("short", "x" * 4_000, "still here")
        async with runtime(msgspec.structs.replace(settings, providers={"scripted": scripted})) as rt:
            session = await rt.session("user-42", model="AUTO")
            replies = [
                await session.say(text, max_tokens=100, strategy="cheapest") for text in ("1", "2", "3")
            ]
        assert [reply.choice is not None for reply in replies] == [True] * 3
        assert [asked.body["model"] for asked in provider.received] == ["small", "small", "large"]
        assert len(shown(provider.received[2])) == 5

    async def test_what_no_longer_fits_is_summarised_charged_and_told(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        def answer(asked: Received) -> Says:
            is_summary = asked.prompt.startswith("Summarise the conversation")
            return Says("They counted." if is_summary else "y" * 60)

        provider.say(*(answer for _ in range(12)))
        session = await rt.session("user-42", window=Window(strategy="summarise", max_tokens=400))
        for number in range(8):
            await session.say(f"{number}: " + "word " * 12, max_tokens=100)
        turns = await session.turns()
        summaries = [turn for turn in turns if turn.kind == "summary"]
        assert summaries
        assert shown(provider.received[-1])[0] == (
            "system",
            "Summary of the conversation so far:\nThey counted.",
        )
        assert all(turn.cost_pusd > 0 for turn in summaries)
        assert (await session.status()).totals.cost_pusd == sum(turn.cost_pusd for turn in turns)
        assert len(provider.received) == len(turns) == 8 + len(summaries)
        assert [turn.covers_seq for turn in summaries] == sorted(turn.covers_seq or 0 for turn in summaries)
        assert len(await session.history()) == 16

    async def test_less_is_shown_where_the_provider_says_it_was_too_much(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say("one " * 50, "two " * 50, Fails(400, code="context_length_exceeded"), "three")
        session = await rt.session("user-42")
        for text in ("1", "2", "3"):
            await session.say(text)
        assert [len(shown(asked)) for asked in provider.received] == [1, 3, 5, 3]
        assert (await session.history())[-1].content == "three"


class TestSleeping:
    async def test_an_idle_one_sleeps_and_wakes_on_the_next_message(
        self, provider: ScriptedProvider, settings: Settings
    ) -> None:
        provider.say("one", "two")
        short = msgspec.structs.replace(settings, sessions=SessionLimits(idle_s=0.001))
        async with Runtime(short, environ={}) as rt:
            session = await rt.session("user-42")
            await session.say("1")
            actor = system(rt).whereis("session:user-42")
            if actor is not None:
                await system(rt).wait_down(actor)
            assert not await awake(rt, "user-42")
            await session.say("2")
            assert [m.content for m in await session.history()] == ["1", "one", "2", "two"]

    async def test_one_that_speaks_does_not_sleep(
        self, provider: ScriptedProvider, settings: Settings
    ) -> None:
        go_on = asyncio.Event()

        async def thinks(_: Received) -> str:
            await go_on.wait()
            return "one"

        provider.say(thinks)
        short = msgspec.structs.replace(settings, sessions=SessionLimits(idle_s=0.001))
        async with Runtime(short, environ={}) as rt:
            session = await rt.session("user-42")
            saying = asyncio.create_task(session.say("1"))
            await provider.wait_received(1)
            actor = system(rt).whereis("session:user-42")
            assert actor is not None
            for _ in range(20):
                await actor.call(GetSessionStatus())
            go_on.set()
            await saying
            assert [m.content for m in await session.history()] == ["1", "one"]

    async def test_too_many_awake_send_the_idlest_to_sleep(
        self, provider: ScriptedProvider, settings: Settings
    ) -> None:
        provider.say(*(f"a{number}" for number in range(31)))
        few = msgspec.structs.replace(settings, sessions=SessionLimits(max_awake=10))
        async with runtime(few) as rt:
            for number in range(30):
                await (await rt.session(f"s{number}")).say("hello")
            assert len(tree(rt).sessions) <= 11
            assert await awake(rt, "s29")
            assert not await awake(rt, "s0")
            first = await rt.session("s0")
            await first.say("again")
            assert [m.content for m in await first.history()] == ["hello", "a0", "again", "a30"]
