"""The key by which a provider that has such a thing knows a request again."""

import asyncio
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from msgspec import structs
from tests.inside import settings, tree
from tests.integration.upstream import Asked, Upstream, good, refusal

from greenroom.actors.call import Terms
from greenroom.actors.kernel import FakeClock
from greenroom.actors.providers import ChatRequest, Message
from greenroom.actors.settings import Retries, Settings
from greenroom.runtime import Runtime
from greenroom.runtime.testing import HastyClock

pytestmark = pytest.mark.anyio
HEADER = "Idempotency-Key"


def keyed(upstream: Upstream, folder: Path, retries: Retries | None = None) -> Settings:
    made = settings(upstream.base_url, folder, retries=retries)
    acme = structs.replace(made.providers["acme"], idempotency_header=HEADER)
    return structs.replace(made, providers={"acme": acme})


async def twice(asked: Asked) -> web.StreamResponse:
    return refusal(503) if asked.number % 2 else good()


async def test_it_is_the_same_over_attempts_and_another_for_each_call(tmp_path: Path) -> None:
    async with (
        Upstream(twice) as upstream,
        Runtime(keyed(upstream, tmp_path), environ={}, clock=HastyClock()) as rt,
    ):
        for _ in range(2):
            assert (await rt.chat("acme/fast", "hello", max_tokens=9)).attempts == 2
    keys = [asked.headers[HEADER] for asked in upstream.asked]
    assert keys[0] == keys[1] != keys[2] == keys[3]


async def test_a_host_that_has_no_such_thing_is_sent_none(tmp_path: Path) -> None:
    async with (
        Upstream(twice) as upstream,
        Runtime(settings(upstream.base_url, tmp_path), environ={}, clock=HastyClock()) as rt,
    ):
        await rt.chat("acme/fast", "hello", max_tokens=9)
    assert not any(HEADER in asked.headers for asked in upstream.asked)


async def test_a_job_s_line_keeps_it_in_the_next_process(tmp_path: Path) -> None:
    source, keys = tmp_path / "in.jsonl", list[str]()
    await anyio.to_thread.run_sync(source.write_text, '{"prompt": "same"}\n{"prompt": "same"}\n')

    async def fail(asked: Asked) -> web.StreamResponse:
        return refusal(500)

    for _ in range(2):
        async with (
            Upstream(fail) as upstream,
            Runtime(keyed(upstream, tmp_path, Retries(attempts=1)), environ={}) as rt,
        ):
            job = await rt.batch(
                source,
                out=tmp_path / "out.jsonl",
                model="acme/fast",
                max_tokens=9,
                retry_failed=True,
                concurrency=1,
            )
            assert (await job.wait()).failed == 2
        keys += [asked.headers[HEADER] for asked in upstream.asked]
    first, second, *again = keys
    assert first != second, "two lines are two requests, whatever they say"
    assert again == [first, second]


async def test_a_hedge_is_a_request_of_its_own(tmp_path: Path) -> None:
    clock = FakeClock()

    async def late(asked: Asked) -> web.StreamResponse:
        if asked.number == 1:
            await asyncio.Event().wait()
        return good()

    async with (
        Upstream(late) as upstream,
        Runtime(keyed(upstream, tmp_path), environ={}, clock=clock) as rt,
    ):
        request = ChatRequest(model="acme/fast", messages=(Message("user", "hello"),), max_tokens=9)
        asking = asyncio.create_task(tree(rt).flow.chat(request, Terms(hedge=1.0)))
        await upstream.wait_asked(1)
        await clock.advance(1.0)
        assert (await asking).attempts == 2
    assert len({asked.headers[HEADER] for asked in upstream.asked}) == 2
