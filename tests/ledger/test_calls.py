"""Budgets as a caller meets them: `rt.chat`, `rt.stream` and `rt.batch`, against a server over a real socket."""

import asyncio
import json
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from msgspec import structs
from tests.inside import database, given_back, settings
from tests.integration.evidence import exact_pusd, query
from tests.integration.upstream import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Asked,
    Upstream,
    answer_well,
    good,
    refusal,
)

from greenroom.actors.ledger import BudgetExceeded
from greenroom.actors.settings import BudgetSettings, Caps, Settings
from greenroom.runtime import Runtime

pytestmark = pytest.mark.anyio
EXACT_PUSD = exact_pusd(PROMPT_TOKENS, COMPLETION_TOKENS)


def with_budgets(upstream: Upstream, folder: Path, budgets: BudgetSettings) -> Settings:
    return structs.replace(settings(upstream.base_url, folder), budgets=budgets)


class TestACallsOwnBudget:
    async def test_it_sets_a_bound_on_the_answer_and_says_so(self, tmp_path: Path) -> None:
        async with Upstream(answer_well) as upstream, Runtime(settings(upstream.base_url, tmp_path)) as rt:
            capped = await rt.chat("acme/fast", "x", budget_usd="0.10")
            own = await rt.chat("acme/fast", "x", budget_usd=0.1, max_tokens=7)
            free = await rt.chat("acme/fast", "x")
        assert [reply.max_tokens_set for reply in (capped, own, free)] == [4096, None, None]
        assert [asked.body.get("max_tokens") for asked in upstream.asked] == [4096, 7, None]

    async def test_without_room_nothing_is_sent_and_nothing_recorded(self, tmp_path: Path) -> None:
        async with Upstream(answer_well) as upstream, Runtime(settings(upstream.base_url, tmp_path)) as rt:
            with pytest.raises(BudgetExceeded, match=r"the call's budget of \$0\.00001 has no room"):
                await rt.chat("acme/fast", "x", budget_usd="0.00001", max_tokens=100)
            with pytest.raises(BudgetExceeded):
                async with rt.stream("acme/fast", "x", budget_usd="0.00001", max_tokens=100):
                    pass
            await given_back(rt)
            assert upstream.asked == []
        assert await rows(tmp_path) == []

    async def test_attempts_count_together(self, tmp_path: Path) -> None:
        """One that was cut off is charged its bound, and there is no room for a second one."""

        async def cut(asked: Asked) -> web.StreamResponse:
            assert asked.request.transport is not None
            asked.request.transport.close()
            return web.Response()

        async with Upstream(cut) as upstream, Runtime(settings(upstream.base_url, tmp_path)) as rt:
            with pytest.raises(BudgetExceeded) as caught:
                await rt.chat("acme/fast", "x", budget_usd="0.0001", max_tokens=100)
            await given_back(rt)
            assert len(upstream.asked) == 1
        ((charged,),) = await rows(tmp_path)
        assert caught.value.settled_pusd == charged == caught.value.asked_pusd

    async def test_what_is_refused_by_the_provider_leaves_room_for_another_try(self, tmp_path: Path) -> None:
        async def busy_once(asked: Asked) -> web.StreamResponse:
            return refusal(503, "busy") if len(upstream.asked) == 1 else good()

        async with Upstream(busy_once) as upstream, Runtime(settings(upstream.base_url, tmp_path)) as rt:
            reply = await rt.chat("acme/fast", "x", budget_usd="0.0001", max_tokens=100)
        assert (reply.attempts, reply.cost_pusd) == (2, EXACT_PUSD)

    @pytest.mark.parametrize("written", ["much", -1, float("nan")])
    async def test_no_sum_of_dollars(self, tmp_path: Path, written: str | float) -> None:
        async with Upstream(answer_well) as upstream, Runtime(settings(upstream.base_url, tmp_path)) as rt:
            with pytest.raises(ValueError, match="no sum of dollars"):
                await rt.chat("acme/fast", "x", budget_usd=written)


class TestConfiguredBudgets:
    async def test_a_tag_has_its_own(self, tmp_path: Path) -> None:
        budgets = BudgetSettings(tags={"red": Caps(day_usd="0.0001")})
        async with (
            Upstream(answer_well) as upstream,
            Runtime(with_budgets(upstream, tmp_path, budgets)) as rt,
        ):
            assert (await rt.chat("acme/fast", "x", tag="red", max_tokens=50)).cost_pusd == EXACT_PUSD
            with pytest.raises(BudgetExceeded, match=r"budget of tag red for today"):
                await rt.chat("acme/fast", "x", tag="red", max_tokens=500)
            await rt.chat("acme/fast", "x", tag="blue", max_tokens=500)
            await given_back(rt)
        found = await anyio.to_thread.run_sync(
            query, database(tmp_path), "SELECT tag FROM attempts ORDER BY id"
        )
        assert found == [("red",), ("blue",)]

    async def test_many_at_once_never_exceed_it(self, tmp_path: Path) -> None:
        """Interactive calls do not wait for what others leave over: who has no room is refused at once."""
        gate = asyncio.Event()

        async def answer(asked: Asked) -> web.StreamResponse:
            await gate.wait()
            return good()

        budgets = BudgetSettings(total_usd="0.001")
        async with Upstream(answer) as upstream, Runtime(with_budgets(upstream, tmp_path, budgets)) as rt:
            calls = [
                asyncio.create_task(rt.chat("acme/fast", f"number {n}", max_tokens=100)) for n in range(100)
            ]
            while sum(call.done() for call in calls) + len(upstream.asked) < 100:  # noqa: ASYNC110
                await asyncio.sleep(0)
            served = len(upstream.asked)
            gate.set()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert sum(isinstance(one, BudgetExceeded) for one in outcomes) == 100 - served
            assert 0 < served < 100
            await given_back(rt)
            # All cost less than their bound, so there is room again.
            await rt.chat("acme/fast", "one more", max_tokens=100)


class TestAJobsBudget:
    async def test_the_job_halts_and_goes_on_with_a_larger_one(self, tmp_path: Path) -> None:
        source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
        source.write_text("".join(json.dumps({"prompt": f"number {n}"}) + "\n" for n in range(60)))
        async with Upstream(answer_well) as upstream, Runtime(settings(upstream.base_url, tmp_path)) as rt:
            job = await rt.batch(source, out=out, max_tokens=30, budget_usd="0.0002", tag="nightly")
            halted = await job.wait()
            assert (halted.state, halted.because_kind) == ("halted", "budget_exceeded")
            assert 0 < halted.ok < 60
            assert halted.cost_pusd == halted.ok * EXACT_PUSD <= 200_000_000
            job = await rt.batch(source, out=out, max_tokens=30, budget_usd=1, tag="nightly")
            assert (await job.wait()).ok == 60
            assert len(upstream.asked) == 60
        tags = await anyio.to_thread.run_sync(query, database(tmp_path), "SELECT DISTINCT tag FROM attempts")
        assert tags == [("nightly",)]


async def rows(folder: Path) -> list[tuple[object, ...]]:
    return await anyio.to_thread.run_sync(
        query, database(folder), "SELECT cost_pusd FROM attempts ORDER BY id"
    )
