"""Kept answers: what is asked again and costs nothing, what is not the same question, and how much is kept."""

import asyncio
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest
from msgspec import Raw, structs
from tests.inside import given_back
from tests.providers.asking import IMAGE

from greenroom.actors.asks.cache import ResponseCache
from greenroom.actors.events import ToolCall, Usage
from greenroom.actors.kernel import FakeClock
from greenroom.actors.settings import CacheSettings, PriceSettings, Retries
from greenroom.runtime import (
    CallEvent,
    Finished,
    Message,
    OptionInvalid,
    Options,
    ProviderFailed,
    Reply,
    Runtime,
    Started,
    TextDelta,
)
from greenroom.runtime.options import Messages
from greenroom.runtime.testing import (
    Breaks,
    Fails,
    Received,
    Says,
    ScriptedProvider,
    runtime_with,
    settings_for,
)

pytestmark = pytest.mark.anyio
PRICES = {"*": PriceSettings(input="1", output="2")}
KEPT: Options = {"cache": True}


class Numbered:
    """A provider each of whose answers is another one."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, asked: Received) -> Says:
        self.count += 1
        return Says(f"answer {self.count}", prompt_tokens=10, completion_tokens=5)


async def events_of(rt: Runtime, question: str) -> tuple[list[CallEvent], Reply]:
    async with rt.stream(None, question, cache=True) as events:
        told = [event async for event in events]
        return told, events.reply


class TestHit:
    async def test_costs_nothing_asks_nobody_and_says_so(self) -> None:
        async with runtime_with(then=Numbered(), prices=PRICES) as (rt, provider):
            first = await rt.chat(None, "x", **KEPT)
            second = await rt.chat(None, "x", **KEPT)
            statistics = rt.cache.statistics()
        assert len(provider.received) == 1
        assert (first.cached, second.cached) == (False, True)
        assert first.cost_usd == Decimal(20) / 10**6
        assert (second.text, second.cost_usd, second.usage, second.attempts) == (
            first.text,
            Decimal(0),
            Usage(),
            0,
        )
        assert (second.raw, second.model, second.finish_reason) == (first.raw, first.model, "stop")
        assert (statistics.hits, statistics.misses, statistics.entries) == (1, 1, 1)

    async def test_without_a_word_nothing_is_kept(self) -> None:
        async with runtime_with(then=Numbered()) as (rt, provider):
            await rt.chat(None, "x")
            await rt.chat(None, "x", cache=False)
            await rt.chat(None, "x", cache=True)
            assert rt.cache.statistics().entries == 1
        assert len(provider.received) == 3

    async def test_or_as_the_configuration_says(self, tmp_path: Path) -> None:
        async with ScriptedProvider(then=Numbered()) as provider:
            made = structs.replace(
                settings_for(provider.simulator, tmp_path), cache=CacheSettings(enabled=True)
            )
            async with Runtime(made, environ={}) as rt:
                assert [(await rt.chat(None, "x")).cached for _ in range(2)] == [False, True]
                assert not (await rt.chat(None, "x", cache=False)).cached
        assert len(provider.received) == 2

    async def test_whole_and_streamed_share_answers(self) -> None:
        async with runtime_with(then=Numbered()) as (rt, provider):
            told, reply = await events_of(rt, "x")
            again, kept = await events_of(rt, "x")
            whole = await rt.chat(None, "x", cache=True)
        assert len(provider.received) == 1
        assert "".join(event.text for event in told if isinstance(event, TextDelta)) == reply.text
        assert [type(event) for event in again] == [Started, TextDelta, Usage, Finished]
        assert (reply.cached, kept.cached, whole.cached) == (False, True, True)
        assert again[1] == TextDelta(reply.text)
        assert again[2] == Usage()
        assert kept == whole

    async def test_all_of_an_answer_is_kept(self) -> None:
        says = Says(tool_calls=(ToolCall("a", "look", '{"x": "\\u00e9\U0001f600"}'),))
        async with runtime_with(says) as (rt, _provider):
            tools: Options = {"tools": [{"type": "function", "function": {"name": "look"}}], "cache": True}
            first, second = [await rt.chat(None, "x", **tools) for _ in range(2)]
        same = structs.replace(first, usage=Usage(), attempts=0, tried=(), cached=True)
        assert msgspec.json.encode(second) == msgspec.json.encode(same)

    async def test_rounds_of_tools_are_kept_and_the_tools_run_anew(self) -> None:
        runs = 0

        def look() -> str:
            nonlocal runs
            runs += 1
            return "seen"

        script = (Says(tool_calls=(ToolCall("a", "look", "{}"),)), "Done.")
        async with runtime_with(*script) as (rt, provider):
            replies = [await rt.chat(None, "x", tools=[look], cache=True) for _ in range(2)]
        assert (len(provider.received), runs) == (2, 2)
        assert [reply.text for reply in replies] == ["Done.", "Done."]
        assert [reply.attempts for reply in replies] == [2, 0]


ASKED: Options = {"cache": True, "max_tokens": 5, "temperature": 0.5, "seed": 1}
OTHERS: list[tuple[str, Messages, Options]] = [
    ("scripted/other", "x", ASKED),
    ("scripted/any", "y", ASKED),
    ("scripted/any", [Message("system", "x")], ASKED),
    ("scripted/any", [Message("user", "x"), Message("user", "x")], ASKED),
    ("scripted/any", [Message("user", "x", name="ada")], ASKED),
    ("scripted/any", [Message("user", (IMAGE,))], ASKED),
    ("scripted/any", "x", {**ASKED, "max_tokens": 6}),
    ("scripted/any", "x", {**ASKED, "temperature": 0.6}),
    ("scripted/any", "x", {**ASKED, "seed": 2}),
    ("scripted/any", "x", {**ASKED, "top_p": 0.5}),
    ("scripted/any", "x", {**ASKED, "stop": "z"}),
    ("scripted/any", "x", {**ASKED, "stop": ["z", "y"]}),
    ("scripted/any", "x", {**ASKED, "user": "u"}),
    ("scripted/any", "x", {**ASKED, "response_format": {"type": "json_object"}}),
    ("scripted/any", "x", {**ASKED, "tools": [{"type": "function", "function": {"name": "look"}}]}),
    ("scripted/any", "x", {**ASKED, "extra": {"prompt_cache_key": "a"}}),
    ("scripted/any", "x", {**ASKED, "extra": {"prompt_cache_key": "b"}}),
]


async def test_another_question_is_another_answer() -> None:
    """Every option in the key, and no two of these questions share one."""
    async with runtime_with(then=Numbered()) as (rt, provider):
        for _ in range(2):
            texts = [(await rt.chat("scripted/any", "x", **ASKED)).text]
            texts += [(await rt.chat(model, question, **options)).text for model, question, options in OTHERS]
            assert len(set(texts)) == len(OTHERS) + 1
    assert len(provider.received) == len(OTHERS) + 1


async def test_terms_and_the_order_of_extra_options_do_not_matter() -> None:
    async with runtime_with(then=Numbered()) as (rt, provider):
        await rt.chat(None, "x", extra={"prompt_cache_key": "a", "verbosity": "low"}, cache=True, tag="t")
        more: Options = {
            "extra": {"verbosity": "low", "prompt_cache_key": "a"},
            "timeout_s": 5,
            "priority": "batch",
            "cache": True,
        }
        assert (await rt.chat("scripted/any", "x", **more)).cached
    assert len(provider.received) == 1


class TestNotKept:
    async def test_an_answer_of_another_model(self) -> None:
        async with runtime_with(Fails(404), "of two", "of one") as (rt, _provider):
            asked: Options = {"fallbacks": ["scripted/two"], "cache": True}
            assert (await rt.chat("scripted/one", "x", **asked)).text == "of two"
            assert (await rt.chat("scripted/one", "x", **asked)).text == "of one"
            assert (await rt.chat("scripted/one", "x", **asked)).cached

    async def test_a_failure_or_a_truncated_answer(self) -> None:
        once = Retries(attempts=1)
        async with runtime_with(Fails(500), Breaks("truncate", at_byte=400), "whole", retries=once) as (
            rt,
            _provider,
        ):
            with pytest.raises(ProviderFailed):
                await rt.chat(None, "x", cache=True)
            async with rt.stream(None, "x", cache=True) as events:
                with pytest.raises(ProviderFailed):
                    await events.finish()
                assert isinstance(events.failure, ProviderFailed)
            assert rt.cache.statistics().entries == 0
            assert (await events_of(rt, "x"))[1].text == "whole"

    async def test_a_stream_that_was_left(self) -> None:
        async with runtime_with("one two three four", "again") as (rt, _provider):
            async with rt.stream(None, "x", cache=True) as events:
                await anext(events)
            assert (await rt.chat(None, "x", cache=True)).text == "again"
            await given_back(rt, "scripted")

    @pytest.mark.parametrize("finish", ["content_filter", "length"])
    async def test_what_was_cut_off_by_a_filter_or_a_budget(self, finish: str) -> None:
        cut = Says("cut", finish="length" if finish == "length" else "content_filter")
        async with runtime_with(cut, "whole", prices=PRICES) as (rt, _provider):
            await rt.chat(None, "x", cache=True, budget_usd=1)
            assert (await rt.chat(None, "x", cache=True)).text == "whole"

    async def test_a_model_that_nobody_knows_is_the_flows_to_refuse(self) -> None:
        async with runtime_with() as (rt, _provider):
            with pytest.raises(Exception, match="nobody"):
                await rt.chat("nobody/x", "x", cache=True)

    async def test_what_is_no_yes_or_no_is_refused(self) -> None:
        async with runtime_with() as (rt, _provider):
            with pytest.raises(OptionInvalid, match="cache: 'yes'; it must be True, False or None"):
                await rt.chat(None, "x", cache="yes")  # type: ignore[call-overload]


REPLY = Reply(
    text="x" * 1000,
    model="any",
    provider="scripted",
    finish_reason="stop",
    usage=Usage(),
    cost_pusd=0,
    attempts=1,
    raw=Raw(b'{"n":"' + b"x" * 1000 + b'"}'),
)


class TestBounds:
    def test_the_least_recently_used_goes_first(self) -> None:
        cache = ResponseCache(CacheSettings(max_bytes=8_000), FakeClock())
        for n in range(4):
            cache.put(b"%d" % n, REPLY)
        held = cache.statistics().entries
        assert 1 < held < 4  # so large is an answer
        assert cache.statistics().bytes <= 8_000
        oldest = b"%d" % (4 - held)
        assert cache.get(oldest) is not None
        cache.put(b"new", REPLY)
        assert cache.get(oldest) is not None
        assert cache.get(b"%d" % (5 - held)) is None

    def test_what_is_larger_than_all_is_not_kept(self) -> None:
        cache = ResponseCache(CacheSettings(max_bytes=1000), FakeClock())
        cache.put(b"a", REPLY)
        assert (cache.statistics().entries, cache.statistics().bytes) == (0, 0)

    async def test_what_is_too_old_is_forgotten(self) -> None:
        clock = FakeClock()
        cache = ResponseCache(CacheSettings(ttl_s=60), clock)
        cache.put(b"a", REPLY)
        cache.put(b"a", REPLY)
        await clock.advance(59.9)
        assert cache.get(b"a") is not None
        await clock.advance(0.1)
        assert cache.get(b"a") is None
        assert cache.statistics().bytes == 0

    def test_clearing_forgets_all(self) -> None:
        cache = ResponseCache(CacheSettings(), FakeClock())
        cache.put(b"a", REPLY)
        assert repr(cache) == f"<ResponseCache 1 answers, {cache.statistics().bytes} of 67108864 bytes>"
        cache.clear()
        assert (cache.get(b"a"), cache.statistics().bytes) == (None, 0)


async def test_a_thousand_at_once_and_hits_beside_misses() -> None:
    async with runtime_with(then=Numbered()) as (rt, provider):
        await asyncio.gather(*(rt.chat(None, f"question {n}", cache=True) for n in range(50)))
        replies = await asyncio.gather(
            *(rt.chat(None, f"question {n % 50}", cache=True) for n in range(1000))
        )
    assert all(reply.cached for reply in replies)
    assert len(provider.received) == 50
