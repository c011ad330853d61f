"""What one attempt leaves behind for those that follow it."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from tests.inside import given_back, settings, system, tree
from tests.integration.evidence import exact_pusd
from tests.integration.upstream import COMPLETION_TOKENS, PROMPT_TOKENS, Asked, Upstream, good, refusal

from greenroom.actors.settings import Retries
from greenroom.runtime import ProviderFailed, Runtime

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("advice", ["1000000000", "Fri, 31 Dec 9999 23:59:59 GMT", "1e300"])
async def test_an_absurd_retry_after_keeps_nobody_waiting(tmp_path: Path, advice: str) -> None:
    """Who was told gives up at once, and the others ask for themselves: held back, a halted job would last for as long."""

    async def answer(asked: Asked) -> web.StreamResponse:
        return refusal(429, retry_after=advice) if asked.number == 1 else good()

    retries = Retries(attempts=3, backoff_base_s=0.001, max_retry_after_s=300.0)
    async with (
        Upstream(answer) as upstream,
        Runtime(settings(upstream.base_url, tmp_path, retries=retries), environ={}) as rt,
    ):
        with pytest.raises(ProviderFailed) as failed:
            await rt.chat("acme/fast", "first", timeout_s=20.0)
        assert (failed.value.error.kind, failed.value.error.attempts) == ("rate_limited", 1)
        assert (await rt.chat("acme/fast", "second", timeout_s=5.0)).text == "fine"
        await given_back(rt)
    assert len(upstream.asked) == 2


@pytest.mark.parametrize("streamed", [False, True])
async def test_an_error_that_calls_itself_a_success_is_tried_again_and_costs_nothing(
    tmp_path: Path,
    streamed: bool,  # noqa: FBT001 - a table
) -> None:
    async def answer(asked: Asked) -> web.StreamResponse:
        if asked.number == 1:
            return web.json_response({"error": {"message": "upstream died", "code": 502}})
        return good()

    async with (
        Upstream(answer) as upstream,
        Runtime(settings(upstream.base_url, tmp_path), environ={}) as rt,
    ):
        if streamed:
            async with rt.stream("acme/fast", "hello", max_tokens=50) as events:
                reply = await events.finish()
        else:
            reply = await rt.chat("acme/fast", "hello", max_tokens=50)
        await given_back(rt)
    assert (reply.text, reply.attempts) == ("fine", 2)
    assert reply.cost_pusd == exact_pusd(PROMPT_TOKENS, COMPLETION_TOKENS)


async def test_what_is_known_of_a_model_comes_from_its_calls(tmp_path: Path) -> None:
    """Answers and failures of its own count; the caller's mistakes and cancelled calls say nothing of it."""
    gate = asyncio.Event()

    async def never() -> web.StreamResponse:
        await asyncio.Event().wait()
        return good()

    async def answer(asked: Asked) -> web.StreamResponse:
        match asked.prompt:
            case "server":
                return refusal(500)
            case "invalid":
                return refusal(400)
            case "hang":
                gate.set()
                return await never()
            case _:
                return good()

    once = Retries(attempts=1)
    async with (
        Upstream(answer) as upstream,
        Runtime(settings(upstream.base_url, tmp_path, retries=once), environ={}) as rt,
    ):
        route, _ = await tree(rt).flow._ways.reach("acme/fast")  # pyright: ignore[reportPrivateUsage] - the one way in
        record = route.record
        await rt.chat("acme/fast", "hello", max_tokens=50)
        for prompt in ("server", "invalid"):
            with pytest.raises(ProviderFailed):
                await rt.chat("acme/fast", prompt, max_tokens=50)
        hanging = asyncio.create_task(rt.chat("acme/fast", "hang", max_tokens=50))
        await gate.wait()
        assert record.in_flight == 1
        hanging.cancel()
        await asyncio.wait({hanging})
        async with rt.stream("acme/fast", "hello", max_tokens=50) as events:
            await events.finish()
        await given_back(rt)
        told = record.measured(system(rt).clock.monotonic())
    assert (told.attempts, told.in_flight, told.output_tokens) == (3, 0, COMPLETION_TOKENS)
    assert 0.0 < told.failure_share < 0.2
    assert told.latency_s is not None
    assert told.first_content_s is not None
