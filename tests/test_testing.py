"""What people's tests are given: a provider that says what was written down, and a runtime around it."""

import asyncio
from contextlib import suppress
from pathlib import Path

import aiohttp
import anyio
import msgspec
import pytest
from tests.simulator.conftest import Client
from tests.simulator.speakers import SPEAKERS, Speaker

from greenroom.actors.events import ErrorKind
from greenroom.actors.settings import PriceSettings, Retries
from greenroom.runtime import Message, ProviderFailed, Runtime, testing
from greenroom.runtime.testing import (
    Breaks,
    Fails,
    FakeClock,
    HastyClock,
    Raw,
    Received,
    Says,
    ScriptedProvider,
    Simulator,
    ToolCall,
    runtime_with,
    settings_for,
)

pytestmark = pytest.mark.anyio
ONCE = Retries(attempts=1)
PRICES = {"*": PriceSettings(input="1", output="2")}


def test_everything_that_is_promised_is_there() -> None:
    assert all(hasattr(testing, name) for name in testing.__all__)


async def test_the_example_of_the_module() -> None:
    async with runtime_with("Paris.", Fails(503), "London.") as (rt, provider):
        assert (await rt.chat(None, "The capital of France?")).text == "Paris."
        assert (await rt.chat(None, "And of England?")).attempts == 2
        assert [asked.prompt for asked in provider.received] == [
            "The capital of France?",
            *["And of England?"] * 2,
        ]


async def test_what_was_asked_can_be_read() -> None:
    async with runtime_with("One.") as (rt, provider):
        messages = [Message("system", "Be brief."), Message("user", "Well?"), Message("assistant", "Hm.")]
        await rt.chat("scripted/some-model", messages, max_tokens=7)
        (asked,) = provider.received
        assert (asked.number, asked.model, asked.prompt, asked.stream) == (1, "some-model", "Well?", False)
        assert asked.body["max_tokens"] == 7
        assert asked.headers["Content-Type"] == "application/json"
        assert provider.left == 0


async def test_usage_finish_and_tool_calls_are_as_written() -> None:
    called = (ToolCall("call-1", "weather", '{"city":"Oslo"}'), ToolCall("call-2", "time", "{}"))
    script = (
        Says("Half a", finish="length", prompt_tokens=100, completion_tokens=7),
        Says(tool_calls=called),
        Says("", finish="content_filter"),
    )
    async with runtime_with(*script, prices=PRICES) as (rt, _):
        cut_off = await rt.chat(None, "Tell me.")
        assert (cut_off.finish_reason, cut_off.usage.input_tokens, cut_off.usage.output_tokens) == (
            "length",
            100,
            7,
        )
        assert cut_off.cost_pusd == 100 * 1_000_000 + 7 * 2_000_000
        calling = await rt.chat(None, "The weather?")
        assert (calling.finish_reason, calling.tool_calls) == ("tool_calls", called)
        assert (await rt.chat(None, "Badly?")).finish_reason == "content_filter"


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (Fails(401), "authentication"),
        (Fails(404), "not_found"),
        (Fails(429), "rate_limited"),
        (Fails(429, code="insufficient_quota"), "permission"),
        (Fails(418), "invalid_request"),
        (Fails(500), "server"),
        (Fails(599), "server"),
        (Fails(529), "overloaded"),
        (Breaks("drop"), "connection"),
        (Breaks("truncate", at_byte=10), "connection"),
        (Breaks("end_early"), "protocol"),
        (Breaks("garbage"), "protocol"),
        (Raw(b"<html>"), "protocol"),
        (Raw(b"", status=502), "server"),
    ],
)
async def test_failures_are_what_a_program_sees_of_real_ones(
    step: Fails | Breaks | Raw, kind: ErrorKind
) -> None:
    async with runtime_with(step, retries=ONCE) as (rt, provider):
        with pytest.raises(ProviderFailed) as failed:
            await rt.chat(None, "Well?")
        assert failed.value.error.kind == kind
        assert len(provider.received) == 1


@pytest.mark.parametrize("status", [200, 399, 600])
def test_a_failure_has_the_status_of_one(status: int) -> None:
    with pytest.raises(ValueError, match="400 to 599"):
        Fails(status)


async def test_waits_are_told_and_take_no_time() -> None:
    clock = HastyClock()
    script = (Fails(429, retry_after_s=30), Fails(503, retry_after_s=20, headers={"x-more": "1"}), "There.")
    async with runtime_with(*script, clock=clock, retries=Retries(backoff_base_s=0.5)) as (rt, _):
        before_s, before_unix_s = clock.monotonic(), clock.time()
        assert (await rt.chat(None, "Well?")).attempts == 3
    first_s, second_s = clock.slept_s
    assert 30 <= first_s <= 30.5
    assert 20 <= second_s <= 20.5
    assert clock.monotonic() - before_s >= first_s + second_s
    assert clock.time() - before_unix_s >= first_s + second_s


async def test_a_script_that_is_over_says_so() -> None:
    async with runtime_with("Only.") as (rt, provider):
        await rt.chat(None, "One?")
        with pytest.raises(ProviderFailed, match="no answer for request 2, 'Two\\?'"):
            await rt.chat(None, "Two?")
        provider.say("More.", "And more.")
        assert provider.left == 2
        assert (await rt.chat(None, "Three?")).text == "More."
        assert repr(provider) == "<ScriptedProvider 3 received, 1 answers left>"


async def test_what_comes_after_the_script_may_look_at_the_request() -> None:
    def shout(asked: Received) -> str:
        return asked.prompt.upper()

    async with runtime_with("First.", then=shout) as (rt, _):
        assert [(await rt.chat(None, text)).text for text in ("a", "b", "c")] == ["First.", "B", "C"]


async def test_what_an_answering_function_raises_the_block_raises() -> None:
    def picky(asked: Received) -> str:
        assert asked.prompt == "Please?"
        return "Since you ask."

    async def ask_twice() -> None:
        async with runtime_with(then=picky) as (rt, provider):
            with pytest.raises(ProviderFailed, match="the script failed: AssertionError"):
                await rt.chat(None, "Now!")
            assert (await rt.chat(None, "Please?")).text == "Since you ask."
            assert len(provider.received) == 2

    with pytest.raises(AssertionError, match="Please"):
        await ask_twice()


async def test_what_is_no_answer_is_named() -> None:
    async def ask() -> None:
        async with runtime_with(42) as (rt, _):  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
            with pytest.raises(ProviderFailed, match="42 is no answer"):
                await rt.chat(None, "Well?")

    with pytest.raises(TypeError, match="42 is no answer"):
        await ask()


async def test_an_answer_can_wait_for_the_test() -> None:
    gate = asyncio.Event()

    async def slowly(asked: Received) -> Says:
        await gate.wait()
        return Says(f"At last, {asked.number}.")

    async with runtime_with(then=slowly) as (rt, provider):
        asking = [asyncio.create_task(rt.chat(None, f"{number}?")) for number in range(50)]
        await provider.wait_received(50)
        assert not any(task.done() for task in asking)
        gate.set()
        assert {reply.text for reply in await asyncio.gather(*asking)} == {
            f"At last, {number}." for number in range(1, 51)
        }
        await provider.wait_received(50)


async def test_a_call_that_is_cancelled_leaves_the_provider_alone() -> None:
    async with runtime_with(Breaks("hang"), "Next.") as (rt, provider):
        asking = asyncio.create_task(rt.chat(None, "Well?"))
        await provider.wait_received(1)
        asking.cancel()
        with suppress(asyncio.CancelledError):
            await asking
        assert (await rt.chat(None, "And?")).text == "Next."


async def test_a_clock_that_stands_still_holds_an_answer_back() -> None:
    clock = FakeClock()
    async with ScriptedProvider(Says("Later.", after_s=5), clock=clock) as provider:
        body = {"model": "any", "messages": [{"role": "user", "content": "Well?"}]}
        async with aiohttp.ClientSession() as session:
            asking = asyncio.create_task(session.post(f"{provider.base_url}/chat/completions", json=body))
            await provider.wait_received(1)
            while not clock.pending:  # noqa: ASYNC110 - a clock tells nobody that somebody sleeps on it
                await asyncio.sleep(0)
            await clock.advance(4.99)
            assert not asking.done()
            await clock.advance(0.01)
            async with await asking as response:
                answer = await response.json()
    assert answer["choices"][0]["message"]["content"] == "Later."


async def test_a_step_is_streamed_where_the_request_wants_that() -> None:
    async with ScriptedProvider("Streamed text, token by token.") as provider:
        body = {"model": "any", "stream": True, "messages": [{"role": "user", "content": "Well?"}]}
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{provider.base_url}/chat/completions", json=body) as response,
        ):
            events = (await response.text()).split("\n\n")
    assert events[-2] == "data: [DONE]"
    chunks = [msgspec.json.decode(event.removeprefix("data: ")) for event in events[:-2]]
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    assert (text, len(chunks)) == ("Streamed text, token by token.", 10)


@pytest.mark.parametrize("speaker", SPEAKERS, ids=lambda speaker: str(speaker.name))
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_script_is_spoken_on_every_wire(speaker: Speaker, stream: bool) -> None:  # noqa: FBT001  # a parameter
    steps = (
        "Plain text.",
        Says(tool_calls=(ToolCall("call_1", "look", '{"at":"it"}'),)),
        Says("Cut", finish="length", completion_tokens=1, prompt_tokens=9),
        Fails(503, "Come back later.", retry_after_s=3),
    )
    async with ScriptedProvider(*steps) as provider, aiohttp.ClientSession() as session:
        client = Client(session, provider.simulator)
        plain = await speaker.ask(client, "One?", model="of-any-name", stream=stream)
        assert (plain.text, plain.finish, plain.calls) == ("Plain text.", speaker.finishes[0], [])
        calling = await speaker.ask(client, "Two?", stream=stream)
        assert (calling.finish, calling.calls) == (speaker.finishes[2], [("look", {"at": "it"})])
        cut = await speaker.ask(client, "Three?", stream=stream)
        assert (cut.text, cut.finish, cut.tokens_in, cut.tokens_out) == ("Cut", speaker.finishes[1], 9, 1)
        refused = await speaker.send(client, "Four?", stream=stream)
        assert (refused.status, speaker.error(refused.json)[0]) == (503, "Come back later.")
        assert [asked.prompt for asked in provider.received] == ["One?", "Two?", "Three?", "Four?"]
        assert {asked.stream for asked in provider.received} == {stream}


async def test_settings_serve_a_simulator_too(tmp_path: Path) -> None:
    async with Simulator() as simulator:
        settings = settings_for(simulator, tmp_path)
        async with Runtime(settings, environ={}) as rt:
            reply = await rt.chat("scripted/echo", "Well?")
        assert reply.text == "Well?"
        assert [entry.model for entry in simulator.journal] == ["echo"]
    assert (tmp_path / "greenroom.db").exists()


async def test_a_provider_that_is_not_running_says_so() -> None:
    with pytest.raises(RuntimeError, match="not listening"):
        _ = ScriptedProvider().base_url


async def test_the_database_goes_with_the_runtime(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    async with runtime_with("Yes.") as (rt, _):
        await rt.chat(None, "There?")
        assert [path.name async for path in anyio.Path(tmp_path).glob("greenroom-*/greenroom.db")]
    assert [path async for path in anyio.Path(tmp_path).iterdir()] == []
