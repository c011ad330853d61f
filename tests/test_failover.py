"""Which failures go on to the next model and which do not: a table with a test a row, over real HTTP."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import get_args

import anyio.to_thread
import pytest
from aiohttp import web
from msgspec import structs
from tests.inside import database, hear, settings, tree
from tests.integration.evidence import AttemptRow, ledger
from tests.integration.upstream import Answering, Asked, Upstream, answer_well, good, refusal

from greenroom.actors.call import Terms
from greenroom.actors.call.failover import FAILOVER
from greenroom.actors.catalog import UnknownModel
from greenroom.actors.events import (
    AttemptFailed,
    CallDone,
    ErrorKind,
    Event,
    FailedOver,
    ProviderFailed,
    Started,
    TextDelta,
)
from greenroom.actors.ledger import BudgetExceeded
from greenroom.actors.providers import ChatRequest, Message
from greenroom.actors.settings import BreakerSettings, Settings, Stalls
from greenroom.runtime import Runtime
from greenroom.runtime.testing import HastyClock

pytestmark = pytest.mark.anyio
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)
TERMS = Terms(fallbacks=("other/spare",))
MAX_TOKENS = 50


def refusing(status: int, code: str | None = None, **headers: str) -> Answering:
    async def answer(asked: Asked) -> web.StreamResponse:
        return refusal(status, code, **headers)

    return answer


async def hang_up(asked: Asked) -> web.StreamResponse:
    assert asked.request.transport is not None
    asked.request.transport.abort()
    return web.Response()


async def say_nothing(asked: Asked) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def stop_in_the_middle(asked: Asked) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = 1000
    await response.prepare(asked.request)
    await response.write(b'{"id":')
    await asyncio.Event().wait()
    return response


async def garbage(asked: Asked) -> web.StreamResponse:
    return web.Response(body=b"<html>Welcome to the hotel</html>", content_type="text/html")


ROWS: list[tuple[ErrorKind, Answering, int, bool]] = [
    ("overloaded", refusing(503), 1, True),
    ("server", refusing(500), 1, True),
    ("timeout", say_nothing, 1, True),
    ("connection", hang_up, 1, True),
    ("stalled", stop_in_the_middle, 1, True),
    ("protocol", garbage, 1, True),
    ("not_found", refusing(404), 1, True),
    ("rate_limited", refusing(429), 3, True),
    ("context_length", refusing(400, "context_length_exceeded"), 1, False),
    ("authentication", refusing(401), 1, False),
    ("permission", refusing(403), 1, False),
    ("invalid_request", refusing(400), 1, False),
    ("content_filter", refusing(400, "content_filter"), 1, False),
]
"""The failure, who answers so, how often he is asked, and whether the next model is. `context_length`: it is not known
here to be of a larger window, see `TestContextLength`."""
UNSENT: set[ErrorKind] = {
    "circuit_open",
    "unsupported_capability",
    "budget_exceeded",
    "cancelled",
    "internal",
}
"""No server says these; each has its test below or with the part that raises it."""

SILENCES: dict[ErrorKind, Stalls] = {"timeout": Stalls(first_byte_s=0.05), "stalled": Stalls(gap_s=0.05)}


@asynccontextmanager
async def two(
    first: Answering,
    second: Answering,
    folder: Path,
    *,
    stalls: Stalls | None = None,
    change: Callable[[Settings], Settings] | None = None,
) -> AsyncGenerator[tuple[Runtime, Upstream, Upstream, list[Event]]]:
    """A runtime with the providers `acme`, answered by the first, and `other`; and what it tells."""
    async with Upstream(first) as one, Upstream(second) as another:
        made = settings(one.base_url, folder, stalls=stalls)
        acme = made.providers["acme"]
        other = structs.replace(acme, base_url=another.base_url, stalls=Stalls())
        made = structs.replace(made, providers={"acme": acme, "other": other})
        async with Runtime(change(made) if change else made, environ={}, clock=HastyClock()) as rt:
            told: list[Event] = []
            hear(rt, told.append)
            yield rt, one, another, told


def request(model: str = "acme/fast") -> ChatRequest:
    return ChatRequest(model=model, messages=(Message("user", "hello"),), max_tokens=MAX_TOKENS)


async def rows_of(folder: Path) -> list[AttemptRow]:
    return await anyio.to_thread.run_sync(ledger, database(folder))


def test_the_table_is_whole_and_each_row_has_its_reason() -> None:
    assert set(FAILOVER) == set(KINDS)
    assert all(rule.because for rule in FAILOVER.values())
    assert {kind for kind, *_ in ROWS} | UNSENT == set(KINDS)
    assert {kind for kind, rule in FAILOVER.items() if rule.when == "never"} >= {
        "authentication", "permission", "invalid_request", "content_filter", "budget_exceeded", "cancelled",
    }  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
async def test_a_failure_of_each_kind(row: tuple[ErrorKind, Answering, int, bool], tmp_path: Path) -> None:
    kind, failing, tries, goes_on = row
    async with two(failing, answer_well, tmp_path, stalls=SILENCES.get(kind)) as (rt, one, another, told):
        if goes_on:
            reply = await tree(rt).flow.chat(request(), TERMS)
            assert (reply.provider, reply.text, reply.attempts) == ("other", "fine", tries + 1)
            assert [one.outcome for one in reply.tried] == [kind] * tries + ["ok"]
            assert reply.cost_pusd == sum(one.cost_pusd for one in reply.tried)
            (moved,) = [event for event in told if isinstance(event, FailedOver)]
            assert (moved.from_model, moved.to_model) == ("acme/fast", "other/spare")
            assert (moved.error.kind, moved.passed_over) == (kind, ())
            assert moved.cost_pusd == sum(one.cost_pusd for one in reply.tried[:-1])
            assert [type(event) for event in told] == [AttemptFailed] * tries + [FailedOver, CallDone]
        else:
            with pytest.raises(ProviderFailed) as caught:
                await tree(rt).flow.chat(request(), TERMS)
            assert (caught.value.error.kind, caught.value.error.provider) == (kind, "acme")
            assert [one.outcome for one in caught.value.tried] == [kind]
    assert (len(one.asked), len(another.asked)) == (tries, int(goes_on))
    rows = await rows_of(tmp_path)
    assert [(row.number, row.provider) for row in rows] == [
        *((number, "acme") for number in range(1, tries + 1)),
        *([(tries + 1, "other")] if goes_on else []),
    ]
    assert len({row.call_id for row in rows}) == 1


@pytest.mark.parametrize(("advice_s", "tries"), [("5", 3), ("29", 3), ("31", 1), ("1000", 1)])
async def test_a_limit_is_waited_for_only_as_long_as_a_backoff_may_last(
    advice_s: str, tries: int, tmp_path: Path
) -> None:
    async with two(refusing(429, Retry_After=advice_s), answer_well, tmp_path) as (rt, one, _, _):
        reply = await tree(rt).flow.chat(request(), TERMS)
    assert (reply.provider, reply.attempts) == ("other", tries + 1)
    assert len(one.asked) == tries


async def test_an_open_breaker_sends_calls_on_at_once(tmp_path: Path) -> None:
    """Known to be down, a provider is not asked, and that is no attempt."""

    def one_failure(made: Settings) -> Settings:
        acme = structs.replace(made.providers["acme"], breaker=BreakerSettings(failures=1))
        return structs.replace(
            made,
            providers={**made.providers, "acme": acme},
            retries=structs.replace(made.retries, attempts=1),
        )

    async with two(refusing(503), answer_well, tmp_path, change=one_failure) as (rt, one, another, told):
        with pytest.raises(ProviderFailed):
            await tree(rt).flow.chat(request())
        told.clear()
        reply = await tree(rt).flow.chat(request(), TERMS)
        assert (reply.provider, reply.attempts) == ("other", 1)
        assert [one.outcome for one in reply.tried] == ["ok"]
        assert [type(event) for event in told] == [AttemptFailed, FailedOver, CallDone]
        assert isinstance(told[0], AttemptFailed)
        assert (told[0].error.kind, told[0].error.attempts) == ("circuit_open", 0)
        with pytest.raises(ProviderFailed) as caught:
            await tree(rt).flow.chat(request())
        assert (caught.value.error.kind, caught.value.error.attempts, caught.value.tried) == (
            "circuit_open",
            0,
            (),
        )
        assert caught.value.error.retry_after_s is not None
    assert (len(one.asked), len(another.asked)) == (1, 1)
    assert [row.number for row in await rows_of(tmp_path)] == [1, 1]


async def test_the_last_model_is_tried_again_as_the_policy_says(tmp_path: Path) -> None:
    async with two(refusing(503), refusing(500), tmp_path) as (rt, one, another, _):
        with pytest.raises(ProviderFailed) as caught:
            await tree(rt).flow.chat(request(), TERMS)
    assert (caught.value.error.kind, caught.value.error.provider) == ("server", "other")
    assert caught.value.error.attempts == 4
    assert (len(one.asked), len(another.asked)) == (1, 3)


async def test_models_in_their_order(tmp_path: Path) -> None:
    async def only_third(asked: Asked) -> web.StreamResponse:
        return good("third") if asked.body["model"] == "third" else refusal(503)

    async with two(refusing(503), only_third, tmp_path) as (rt, _, another, told):
        terms = Terms(fallbacks=("other/second", "other/third", "other/fourth"))
        reply = await tree(rt).flow.chat(request(), terms)
    assert reply.text == "third"
    assert [asked.body["model"] for asked in another.asked] == ["second", "third"]
    assert [event.to_model for event in told if isinstance(event, FailedOver)] == [
        "other/second",
        "other/third",
    ]


async def test_a_fallback_that_nobody_has_is_refused_before_anything_is_sent(tmp_path: Path) -> None:
    async with two(answer_well, answer_well, tmp_path) as (rt, one, _, _):
        with pytest.raises(UnknownModel, match="nowhere/spare"):
            await tree(rt).flow.chat(request(), Terms(fallbacks=("nowhere/spare",)))
    assert not one.asked


async def test_one_deadline_over_all_models(tmp_path: Path) -> None:
    """The first uses up the call's time, so there is none to ask the second in."""
    async with two(say_nothing, answer_well, tmp_path) as (rt, _, another, told):
        with pytest.raises(ProviderFailed) as caught:
            await tree(rt).flow.chat(request(), structs.replace(TERMS, timeout_s=0.05))
    assert (caught.value.error.kind, caught.value.error.provider) == ("timeout", "acme")
    assert not another.asked
    assert [type(event) for event in told] == [AttemptFailed]
    assert [row.provider for row in await rows_of(tmp_path)] == ["acme"]


async def test_one_budget_over_all_models(tmp_path: Path) -> None:
    """The first attempt was charged its bound, for it may have been served; so much more the budget has not."""
    async with two(hang_up, answer_well, tmp_path) as (rt, _, another, _):
        sent = await tree(rt).flow.chat(request("other/spare"))
        bound_pusd = (await rows_of(tmp_path))[0].held_pusd
        assert sent.cost_pusd < bound_pusd
        with pytest.raises(BudgetExceeded):
            await tree(rt).flow.chat(request(), structs.replace(TERMS, budget_pusd=bound_pusd * 3 // 2))
    assert len(another.asked) == 1


async def test_a_stream_goes_on_before_its_first_content(tmp_path: Path) -> None:
    async with two(refusing(503), answer_well, tmp_path) as (rt, _, _, told):
        async with tree(rt).flow.stream(request(), TERMS) as events:
            text = "".join([event.text async for event in events if isinstance(event, TextDelta)])
        assert (text, events.reply.provider, events.reply.attempts) == ("fine", "other", 2)
    assert [type(event) for event in told] == [AttemptFailed, FailedOver, CallDone]


async def test_a_stream_never_goes_on_after_content(tmp_path: Path) -> None:
    async def begin_and_hang_up(asked: Asked) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(asked.request)
        chunk = b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Once"}}]}'
        await response.write(b"data: " + chunk + b"\n\n")
        await told_all.wait()
        return await hang_up(asked)

    told_all = asyncio.Event()
    async with two(begin_and_hang_up, answer_well, tmp_path) as (rt, _, another, _):
        stream = tree(rt).flow.stream(request(), TERMS)
        async with stream as events:
            assert isinstance(await anext(events), Started)
            assert await anext(events) == TextDelta("Once")
            told_all.set()
            with pytest.raises(ProviderFailed) as caught:
                await events.finish()
    assert caught.value.error.kind == "connection"
    assert [one.outcome for one in caught.value.tried] == ["connection"]
    assert not another.asked


async def test_a_fallback_that_cannot_be_asked_is_passed_over_and_said(tmp_path: Path) -> None:
    """Its wire has no words for the question; the model that failed is then the last one, and tried again."""

    def other_wire(made: Settings) -> Settings:
        other = structs.replace(made.providers["other"], wire="anthropic-messages")
        once = structs.replace(made.retries, attempts=2)
        return structs.replace(made, providers={**made.providers, "other": other}, retries=once)

    async with two(refusing(503), answer_well, tmp_path, change=other_wire) as (rt, one, another, told):
        with pytest.raises(ProviderFailed, match=r"other/spare was passed over: .*seed") as caught:
            await tree(rt).flow.chat(structs.replace(request(), seed=7), TERMS)
    assert caught.value.error.kind == "overloaded"
    assert (len(one.asked), len(another.asked)) == (2, 0)
    assert not [event for event in told if isinstance(event, FailedOver)]


async def test_two_hundred_calls_at_once_move_and_nothing_is_lost(tmp_path: Path) -> None:
    def unshaken(made: Settings) -> Settings:
        acme = structs.replace(made.providers["acme"], breaker=BreakerSettings(failures=1000))
        return structs.replace(made, providers={**made.providers, "acme": acme})

    async with two(refusing(503), answer_well, tmp_path, change=unshaken) as (rt, one, another, _):
        replies = await asyncio.gather(*(tree(rt).flow.chat(request(), TERMS) for _ in range(200)))
    assert {(reply.provider, reply.attempts) for reply in replies} == {("other", 2)}
    assert (len(one.asked), len(another.asked)) == (200, 200)
    assert len(await rows_of(tmp_path)) == 400
