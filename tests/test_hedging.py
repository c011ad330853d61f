"""A second attempt beside a late one: the first answer wins, the loser is cancelled and paid for, nothing is left behind."""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from msgspec import structs
from tests.inside import database, given_back, hear, settings, tree, until
from tests.integration.evidence import AttemptRow, exact_pusd, ledger
from tests.integration.upstream import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Answering,
    Asked,
    Upstream,
    answer_well,
    good,
    refusal,
)

from greenroom.actors.call import Terms
from greenroom.actors.events import (
    AttemptFailed,
    CallDone,
    Event,
    Finished,
    HedgeMade,
    OptionsDropped,
    ProviderFailed,
)
from greenroom.actors.flow.hedging import hedged
from greenroom.actors.kernel import FakeClock, Refused
from greenroom.actors.ledger import Budget, BudgetExceeded
from greenroom.actors.providers import ChatRequest, Message
from greenroom.actors.settings import ModelSettings, Retries
from greenroom.runtime import Reply, Runtime

pytestmark = pytest.mark.anyio
LATE_S = 5.0
HEDGE = Terms(hedge=LATE_S)
ONE_ANSWER_PUSD = exact_pusd(PROMPT_TOKENS, COMPLETION_TOKENS)


def request(prompt: str = "hello", model: str = "acme/fast") -> ChatRequest:
    return ChatRequest(model=model, messages=(Message("user", prompt),), max_tokens=50)


async def rows_of(folder: Path) -> list[AttemptRow]:
    return await anyio.to_thread.run_sync(ledger, database(folder))


class Stage:
    """A runtime whose clock stands still, and a provider; `reply` is what was answered last."""

    reply: Reply

    def __init__(self, rt: Runtime, upstream: Upstream, clock: FakeClock, folder: Path) -> None:
        self.rt, self.upstream, self.clock, self.folder = rt, upstream, clock, folder
        self.told: list[Event] = []
        hear(rt, self.told.append)

    def ask(self, terms: Terms = HEDGE, prompt: str = "hello") -> "asyncio.Task[str]":
        async def text() -> str:
            self.reply = await tree(self.rt).flow.chat(request(prompt), terms)
            return self.reply.text

        return asyncio.create_task(text())

    async def until_late(self) -> None:
        await self.upstream.wait_asked(1)
        await self.clock.advance(LATE_S)


@asynccontextmanager
async def stage(answer: Answering, folder: Path, *, retries: Retries | None = None) -> AsyncGenerator[Stage]:
    clock = FakeClock()
    async with Upstream(answer) as upstream:
        made = settings(upstream.base_url, folder, retries=retries or Retries(attempts=1))
        other = structs.replace(made.providers["acme"], models={"spare": ModelSettings(seed=False)})
        made = structs.replace(made, providers={**made.providers, "other": other})
        async with Runtime(made, environ={}, clock=clock) as rt:
            yield Stage(rt, upstream, clock, folder)
            await until(lambda: upstream.in_flight == 0)
            await given_back(rt)


async def never(asked: Asked) -> web.StreamResponse:
    await asyncio.Event().wait()
    return good()


def in_turn(*answers: Answering) -> Answering:
    async def answer(asked: Asked) -> web.StreamResponse:
        return await answers[asked.number - 1](asked)

    return answer


class TestWhole:
    async def test_an_answer_in_time_is_asked_for_once(self, tmp_path: Path) -> None:
        async with stage(answer_well, tmp_path) as on:
            assert await on.ask() == "fine"
            await on.clock.advance(10 * LATE_S)
        assert len(on.upstream.asked) == 1
        assert [type(event) for event in on.told] == [CallDone]

    async def test_the_second_wins_and_the_first_is_cancelled_and_paid_for(self, tmp_path: Path) -> None:
        async with stage(in_turn(never, answer_well), tmp_path) as on:
            asking = on.ask()
            await on.until_late()
            assert await asking == "fine"
            await on.upstream.asked[0].closed.wait()
        first, second = await rows_of(tmp_path)
        assert (first.outcome, first.estimated, first.cost_pusd) == ("cancelled", True, first.held_pusd)
        assert (second.outcome, second.estimated, second.cost_pusd) == ("ok", False, ONE_ANSWER_PUSD)
        assert (first.call_id, first.number, second.number) == (second.call_id, 1, 2)
        assert on.reply.cost_pusd == first.cost_pusd + second.cost_pusd
        assert on.reply.attempts == 2
        assert {one.outcome for one in on.reply.tried} == {"ok", "cancelled"}
        (made,) = [event for event in on.told if isinstance(event, HedgeMade)]
        assert (made.model, made.after_s) == ("acme/fast", LATE_S)
        (done,) = [event for event in on.told if isinstance(event, CallDone)]
        assert done.cost_pusd == on.reply.cost_pusd

    async def test_the_first_may_still_win(self, tmp_path: Path) -> None:
        go = asyncio.Event()

        async def slow(asked: Asked) -> web.StreamResponse:
            await go.wait()
            return good("slow")

        async with stage(in_turn(slow, never), tmp_path) as on:
            asking = on.ask()
            await on.until_late()
            await on.upstream.wait_asked(2)
            go.set()
            assert await asking == "slow"
        assert [row.outcome for row in await rows_of(tmp_path)] == ["ok", "cancelled"]

    async def test_it_is_asked_of_the_next_fallback(self, tmp_path: Path) -> None:
        async with stage(in_turn(never, answer_well), tmp_path) as on:
            asking = on.ask(structs.replace(HEDGE, fallbacks=("other/spare",)))
            await on.until_late()
            assert await asking == "fine"
        assert [asked.body["model"] for asked in on.upstream.asked] == ["fast", "spare"]
        assert on.reply.provider == "other"

    async def test_what_the_fallback_cannot_take_is_dropped_there_and_told(self, tmp_path: Path) -> None:
        async with stage(in_turn(never, answer_well), tmp_path) as on:
            terms = structs.replace(HEDGE, fallbacks=("other/spare",), unsupported="drop")
            asking = asyncio.create_task(tree(on.rt).flow.chat(structs.replace(request(), seed=7), terms))
            await on.until_late()
            assert (await asking).dropped == ("seed",)
        assert ["seed" in asked.body for asked in on.upstream.asked] == [True, False]
        assert [type(event) for event in on.told] == [HedgeMade, OptionsDropped, CallDone]

    async def test_a_first_that_fails_in_time_is_no_reason_to_hedge(self, tmp_path: Path) -> None:
        async def busy(asked: Asked) -> web.StreamResponse:
            return refusal(503)

        async with stage(in_turn(busy, never), tmp_path, retries=Retries(attempts=2)) as on:
            asking = on.ask()
            await until(lambda: on.told)
            await on.clock.advance(60.0)
            await on.upstream.wait_asked(2)
            await on.clock.advance(10 * LATE_S)
            asking.cancel()
            await asyncio.wait({asking})
        assert len(on.upstream.asked) == 2, "nor is the next one hedged: a call is, once"
        assert not [event for event in on.told if isinstance(event, HedgeMade)]

    async def test_one_that_fails_leaves_it_to_the_other(self, tmp_path: Path) -> None:
        go = asyncio.Event()

        async def fail_late(asked: Asked) -> web.StreamResponse:
            await go.wait()
            return refusal(500)

        async def succeed_later(asked: Asked) -> web.StreamResponse:
            go.set()
            await fallen.wait()
            return good()

        fallen = asyncio.Event()
        async with stage(in_turn(fail_late, succeed_later), tmp_path) as on:
            asking = on.ask()
            await on.until_late()
            await on.upstream.wait_asked(2)
            await on.upstream.asked[0].closed.wait()
            fallen.set()
            assert await asking == "fine"
        assert [row.outcome for row in await rows_of(tmp_path)] == ["server", "ok"]
        assert [type(event) for event in on.told] == [HedgeMade, AttemptFailed, CallDone]

    async def test_where_both_fail_the_call_does(self, tmp_path: Path) -> None:
        go = asyncio.Event()

        async def fail_late(asked: Asked) -> web.StreamResponse:
            if asked.number == 2:
                go.set()
            await go.wait()
            return refusal(500)

        async with stage(fail_late, tmp_path) as on:
            asking = on.ask()
            await on.until_late()
            with pytest.raises(ProviderFailed) as caught:
                await asking
        assert caught.value.error.kind == "server"
        assert [one.outcome for one in caught.value.tried] == ["server", "server"]
        assert [type(event) for event in on.told] == [HedgeMade, AttemptFailed, AttemptFailed]

    async def test_a_budget_without_room_for_both_lets_the_first_go_on(self, tmp_path: Path) -> None:
        go = asyncio.Event()

        async def slow(asked: Asked) -> web.StreamResponse:
            await go.wait()
            return good()

        async with stage(slow, tmp_path) as on:
            asking = on.ask(structs.replace(HEDGE, budget_pusd=50_000_000))
            await on.upstream.wait_asked(1)
            (first,) = await rows_of(tmp_path)
            assert first.held_pusd * 2 > 50_000_000 > first.held_pusd
            await on.clock.advance(LATE_S)
            go.set()
            assert await asking == "fine"
        assert len(on.upstream.asked) == 1

    async def test_the_retry_budget_bounds_it(self, tmp_path: Path) -> None:
        """One retry is all that this provider bears, so of three late calls one has a second attempt."""
        little = Retries(attempts=1, budget_per_s=0.01, budget_share=0.0)
        async with stage(never, tmp_path, retries=little) as on:
            asking = [on.ask(prompt=str(number)) for number in range(3)]
            await on.upstream.wait_asked(3)
            await on.clock.advance(LATE_S)
            await on.upstream.wait_asked(4)
            await given_room(on)
            for task in asking:
                task.cancel()
            await asyncio.wait(asking)
        assert len(on.upstream.asked) == 4
        assert len([event for event in on.told if isinstance(event, HedgeMade)]) == 1

    async def test_true_waits_for_what_19_of_20_answers_took(self, tmp_path: Path) -> None:
        async def take_a_second(asked: Asked) -> web.StreamResponse:
            if asked.number == 21:
                return await never(asked)
            if asked.number < 21:
                await on.clock.advance(1.0)
            return good()

        async with stage(take_a_second, tmp_path) as on:
            for _ in range(20):
                assert await on.ask(Terms()) == "fine"
            asking = on.ask(Terms(hedge=True))
            await on.upstream.wait_asked(21)
            await on.clock.advance(0.9)
            assert len(on.upstream.asked) == 21
            await on.clock.advance(0.2)
            assert await asking == "fine"
        (made,) = [event for event in on.told if isinstance(event, HedgeMade)]
        assert made.after_s == pytest.approx(1.0)

    async def test_true_hedges_nothing_before_twenty_are_known(self, tmp_path: Path) -> None:
        async def only_nineteen(asked: Asked) -> web.StreamResponse:
            return await never(asked) if asked.number == 20 else good()

        async with stage(only_nineteen, tmp_path) as on:
            for _ in range(19):
                assert await on.ask(Terms()) == "fine"
            asking = on.ask(Terms(hedge=True))
            await on.upstream.wait_asked(20)
            await on.clock.advance(1000.0)
            asking.cancel()
            await asyncio.wait({asking})
        assert len(on.upstream.asked) == 20


async def given_room(on: Stage) -> None:
    """Let everybody who could go on have gone on."""
    for _ in range(200):
        await asyncio.sleep(0)


class TestStreamed:
    async def test_a_stream_that_says_nothing_is_hedged_until_its_first_content(self, tmp_path: Path) -> None:
        async with stage(in_turn(never, answer_well), tmp_path) as on:
            stream = tree(on.rt).flow.stream(request(), HEDGE)

            async def listen() -> str:
                async with stream as events:
                    return (await events.finish()).text

            asking = asyncio.create_task(listen())
            await on.until_late()
            assert await asking == "fine"
        assert sorted(str(row.outcome) for row in await rows_of(tmp_path)) == ["cancelled", "ok"]

    async def test_once_content_came_it_is_not(self, tmp_path: Path) -> None:
        async def begin(asked: Asked) -> web.StreamResponse:
            response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
            await response.prepare(asked.request)
            chunk = b'{"id":"c","model":"m","choices":[{"index":0,"delta":{"content":"Once"}}]}'
            await response.write(b"data: " + chunk + b"\n\n")
            return await never(asked)

        async with stage(begin, tmp_path) as on:
            stream = tree(on.rt).flow.stream(request(), HEDGE)
            async with stream as events:
                await anext(events)
                await anext(events)
                await on.clock.advance(10 * LATE_S)
                await given_room(on)
        assert len(on.upstream.asked) == 1
        assert not [event for event in on.told if isinstance(event, HedgeMade | Finished)]


class TestCancelling:
    async def test_cancels_both(self, tmp_path: Path) -> None:
        async with stage(never, tmp_path) as on:
            asking = on.ask()
            await on.until_late()
            await on.upstream.wait_asked(2)
            asking.cancel()
            await asyncio.wait({asking})
            assert asking.cancelled()
            for asked in on.upstream.asked:
                await asked.closed.wait()
        rows = await rows_of(tmp_path)
        assert [(row.outcome, row.estimated) for row in rows] == [("cancelled", True)] * 2

    async def test_leaving_the_runtime_gives_up_both(self, tmp_path: Path) -> None:
        async with Upstream(never) as upstream:
            clock = FakeClock()
            async with Runtime(settings(upstream.base_url, tmp_path), environ={}, clock=clock) as rt:
                asking = asyncio.create_task(tree(rt).flow.chat(request(), HEDGE))
                await upstream.wait_asked(1)
                await clock.advance(LATE_S)
                await upstream.wait_asked(2)
            with pytest.raises(Refused, match="the runtime was left"):
                await asking
        assert [row.outcome for row in await rows_of(tmp_path)] == ["cancelled"] * 2

    async def test_at_random_moments(self, tmp_path: Path) -> None:
        """R5 with a hedge at every call: whoever wins, fails or is cancelled, all is given back and each attempt a row."""
        rng = random.Random(7)

        async def answer(asked: Asked) -> web.StreamResponse:
            await turns(rng.randrange(200))
            return refusal(500) if rng.random() < 0.2 else good()

        async def disturbed(rt: Runtime, number: int) -> None:
            hedge = Terms(hedge=rng.choice((1e-9, 0.001, 0.004)))
            asking = asyncio.create_task(tree(rt).flow.chat(request(str(number)), hedge))
            await turns(rng.randrange(rng.choice((10, 400, 3000))))
            asking.cancel()
            await asyncio.wait({asking})
            if not asking.cancelled():
                asking.exception()

        async with Upstream(answer) as upstream:
            patient = settings(upstream.base_url, tmp_path, retries=Retries(attempts=2, backoff_base_s=0.001))
            async with Runtime(patient, environ={}) as rt:
                for wave in range(0, 200, 20):
                    await asyncio.gather(*(disturbed(rt, number) for number in range(wave, wave + 20)))
                await given_back(rt)
                await until(lambda: upstream.in_flight == 0)
        rows = await rows_of(tmp_path)
        assert {row.state for row in rows} == {"settled"}
        assert len({(row.call_id, row.number) for row in rows}) == len(rows)
        assert {row.outcome for row in rows} == {"ok", "cancelled", "server"}
        assert all(
            row.cost_pusd == (row.held_pusd if row.estimated else 0) for row in rows if row.outcome != "ok"
        )


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class TestTheRace:
    """`hedged` by itself, for orders that no server can be made to answer in."""

    async def race(
        self, first: Awaitable[str], second: Callable[[], Awaitable[str]]
    ) -> tuple[str, list[str]]:
        seen: list[str] = []

        async def one() -> str:
            return await first

        async def other() -> str:
            return await second()

        async def late() -> None:
            await asyncio.sleep(0)

        async def discard(answer: str) -> None:
            seen.append(answer)

        won = await hedged(
            one(), late(), other, failed=lambda error: seen.append(error.error.kind), discard=discard
        )
        return won, seen

    async def test_an_answer_that_came_together_with_the_winner_s_is_handed_over(self) -> None:
        loop = asyncio.get_running_loop()
        first: asyncio.Future[str] = loop.create_future()

        async def second() -> str:
            first.set_result("first")
            return "second"

        won, seen = await self.race(first, second)
        assert {won, *seen} == {"first", "second"}
        assert len(seen) == 1

    async def test_a_second_that_is_refused_leaves_the_first(self) -> None:
        first: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def second() -> str:
            asyncio.get_running_loop().call_soon(first.set_result, "first")
            raise BudgetExceeded(Budget("call", 1), None, settled_pusd=0, held_pusd=0, asked_pusd=2)

        assert await self.race(first, second) == ("first", [])

    async def test_a_fault_of_ours_is_raised_and_not_hidden(self) -> None:
        first: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        async def second() -> str:
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await self.race(first, second)
