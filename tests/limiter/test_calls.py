"""What calls tell the limiter, over HTTP: limits, refusals, sizes, whose they are; and what it refuses them."""

import asyncio
from pathlib import Path

import pytest
from aiohttp import web
from msgspec import structs
from tests.inside import given_back, named, settings, system, tree, until
from tests.integration.upstream import Asked, Upstream, answer_well, good

from greenroom.actors.flow import attempt
from greenroom.actors.ledger import Account
from greenroom.actors.limiter import CannotStart, GetLimiterStatus, LimiterStatus
from greenroom.actors.settings import Limits, Retries, Stalls
from greenroom.runtime import ProviderFailed, Runtime
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.testing import PROVIDER, Fails, ScriptedProvider, settings_for

pytestmark = pytest.mark.anyio
ONCE = Retries(attempts=1)


async def status(rt: Runtime, provider: str = "acme") -> LimiterStatus:
    return await named(rt, f"limiter:{provider}").call(GetLimiterStatus())


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("wire", ["openai-chat", "openai-responses", "anthropic-messages"])
async def test_calls_learn_limits_on_every_wire_that_tells_them(
    tmp_path: Path,
    wire: str,
    streamed: bool,  # noqa: FBT001 - a table
) -> None:
    limited = SimulatorSettings(
        requests_per_min=600, tokens_per_min=90_000, shutdown_grace_s=0.001, also_serve=("any",)
    )
    async with Simulator(limited) as simulator:
        rehearsal = settings_for(simulator, tmp_path, wire=wire)  # type: ignore[arg-type]
        async with Runtime(rehearsal, environ={}) as rt:
            if streamed:
                async with rt.stream(None, "hello", max_tokens=50) as events:
                    await events.finish()
            else:
                await rt.chat(None, "hello", max_tokens=50)
            known = (await status(rt, PROVIDER)).models[0]
    assert (known.requests_per_min, known.tokens_per_min) == (600, 90_000)
    assert known.output_tokens is not None


@pytest.mark.parametrize("wire", ["openai-chat", "anthropic-messages", "gemini"])
async def test_a_refusal_freezes_its_model_as_long_as_told_even_with_no_limiter_there(
    tmp_path: Path, wire: str
) -> None:
    """Gemini tells in the body, the others in a header. The limiter dies while the refusal is on its way."""
    limiters: list[Runtime] = []

    def refuse(received: object) -> Fails:
        rt = limiters[0]
        system(rt).kill(named(rt, f"limiter:{PROVIDER}"))
        return Fails(429, retry_after_s=200.0)

    async with ScriptedProvider(refuse, "fine") as provider:
        asked = provider.settings(tmp_path, wire=wire, retries=ONCE)  # type: ignore[arg-type]
        async with Runtime(asked, environ={}) as rt:
            limiters.append(rt)
            with pytest.raises(ProviderFailed, match=r"429|limit"):
                await rt.chat(None, "hello", max_tokens=50)
            assert 190 < (await status(rt, PROVIDER)).frozen_s <= 200
            with pytest.raises(CannotStart) as refusal:
                await rt.chat(None, "hello", max_tokens=50, timeout_s=60.0)
    assert refusal.value.wait_s > 190
    assert provider.left == 1


async def test_who_cannot_start_in_time_is_told_at_once_and_nothing_is_sent_or_kept(tmp_path: Path) -> None:
    async with Upstream(answer_well) as upstream:
        slow = settings(upstream.base_url, tmp_path, limits=Limits(requests_per_min=1))
        async with Runtime(slow, environ={}) as rt:
            await rt.chat("acme/fast", "first", max_tokens=50)
            with pytest.raises(CannotStart, match=r"acme's limits admit it in 6\d\.\d s"):
                await rt.chat("acme/fast", "second", max_tokens=50, timeout_s=30.0)
            await given_back(rt)
    assert len(upstream.asked) == 1


async def test_another_model_takes_over_that_can_start_in_time(tmp_path: Path) -> None:
    async with Upstream(answer_well) as slow, Upstream(answer_well) as quick:
        configured = settings(slow.base_url, tmp_path, limits=Limits(requests_per_min=1))
        other = structs.replace(configured.providers["acme"], base_url=quick.base_url, limits=Limits())
        both = structs.replace(configured, providers={**configured.providers, "other": other})
        async with Runtime(both, environ={}) as rt:
            await rt.chat("acme/fast", "first", max_tokens=50)
            reply = await rt.chat(
                "acme/fast", "second", max_tokens=50, timeout_s=30.0, fallbacks=("other/fast",)
            )
            await given_back(rt)
    assert (reply.provider, len(slow.asked), len(quick.asked)) == ("other", 1, 1)


async def test_a_job_s_lines_wait_however_long_it_takes(tmp_path: Path) -> None:
    """Refused, one after another would be: the whole rest of the file, within seconds."""
    going_on = asyncio.Event()

    async def answer(asked: Asked) -> web.StreamResponse:
        await going_on.wait()
        return good()

    lines = tmp_path / "in.jsonl"
    lines.write_text("".join(f'{{"prompt": "line {number}"}}\n' for number in range(3)), encoding="utf-8")
    async with Upstream(answer) as upstream:
        one = settings(upstream.base_url, tmp_path, limits=Limits(concurrency=1), stalls=Stalls(total_s=30.0))
        async with Runtime(one, environ={}) as rt:
            job = await rt.batch(lines, out=tmp_path / "out.jsonl", model="acme/fast", max_tokens=50)
            line = await tree(rt).lines.ensure("acme")
            await until(lambda: len(line.allowance.waiting) == 2)
            assert [entry.admit.deadline_s for entry in line.allowance.waiting.values()] == [None, None]
            going_on.set()
            assert (await job.wait()).state == "done"
    assert len(upstream.asked) == 3


async def test_a_call_is_reckoned_at_a_token_for_four_bytes_and_all_that_may_be_answered(
    tmp_path: Path,
) -> None:
    going_on = asyncio.Event()

    async def answer(asked: Asked) -> web.StreamResponse:
        await going_on.wait()
        return good(usage=(1_000, 40))

    async with Upstream(answer) as upstream, Runtime(settings(upstream.base_url, tmp_path), environ={}) as rt:
        call = asyncio.create_task(rt.chat("acme/fast", "x" * 4_000, max_tokens=50))
        await upstream.wait_asked(1)
        line = await tree(rt).lines.ensure("acme")
        (grant,) = line.allowance.permits.values()
        assert grant.admit.input_tokens == int(upstream.asked[0].request.headers["Content-Length"]) // 4
        assert (grant.admit.output_tokens, grant.admit.model) == (50, "fast")
        going_on.set()
        await call


@pytest.mark.parametrize(
    ("account", "tenant"),
    [
        (Account(), ""),
        (Account(job_id="j"), "j"),
        (Account(job_id="j", session_id="s"), "s"),
        (Account(job_id="j", session_id="s", tag="t"), "t"),
        (Account(job_id="j", session_id="s", tag="t", key_id="k"), "k"),
    ],
)
async def test_admission_is_fair_between_keys_else_tags_sessions_or_jobs(
    account: Account, tenant: str
) -> None:
    assert attempt._tenant(account) == tenant  # pyright: ignore[reportPrivateUsage]


async def test_one_tag_s_backlog_is_not_in_the_way_of_another_s(tmp_path: Path) -> None:
    going_on = asyncio.Event()

    async def answer(asked: Asked) -> web.StreamResponse:
        await going_on.wait()
        return good()

    async with Upstream(answer) as upstream:
        one = settings(upstream.base_url, tmp_path, limits=Limits(concurrency=1))
        async with Runtime(one, environ={}) as rt:
            calls = [
                asyncio.create_task(rt.chat("acme/fast", f"much {number}", max_tokens=50, tag="much"))
                for number in range(10)
            ]
            line = await tree(rt).lines.ensure("acme")
            await until(lambda: len(line.allowance.waiting) == 9)
            calls.append(asyncio.create_task(rt.chat("acme/fast", "little", max_tokens=50, tag="little")))
            await until(lambda: len(line.allowance.waiting) == 10)
            going_on.set()
            await asyncio.gather(*calls)
    order = [asked.body["messages"][-1]["content"] for asked in upstream.asked]
    assert order.index("little") in {1, 2}


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("counted", ["arrival", "end"])
@pytest.mark.parametrize("kind", ["bucket", "fixed", "sliding"])
async def test_r10_over_http_in_real_minutes(tmp_path: Path, kind: str, counted: str) -> None:
    """Learned from nothing but answers, while two real minutes pass; prompts of 1 and of 100 times a size."""
    minutes, tokens_per_min = 2, 600_000
    limited = structs.replace(
        SimulatorSettings(
            tokens_per_min=tokens_per_min,
            requests_per_min=60_000,
            latency="uniform(0.2,0.6)",
            also_serve=("any",),
        ),
        limit_kind=kind,
        tokens_counted=counted,
    )
    async with Simulator(limited) as simulator:
        loop = asyncio.get_running_loop()
        async with Runtime(settings_for(simulator, tmp_path), environ={}) as rt:
            ends_s = loop.time() + minutes * 60
            spent = [0]

            async def caller(number: int) -> None:
                while loop.time() < ends_s:
                    number += 64
                    words = "word " * (10 if number % 2 else 1_000)
                    reply = await rt.chat(None, f"{number} {words}", max_tokens=400)
                    used = reply.usage.input_tokens + reply.usage.output_tokens
                    spent[0] += reply.usage.input_tokens + 400 if counted == "arrival" else used

            async with asyncio.TaskGroup() as callers:
                for number in range(64):
                    callers.create_task(caller(number))
            took_min = (loop.time() - ends_s) / 60 + minutes
            told = (await status(rt, PROVIDER)).models[0]
        seen = simulator.statistics()
    print(kind, counted, spent[0] / took_min / tokens_per_min, seen.limited, told)  # noqa: T201 - shown when it fails
    assert spent[0] / took_min / tokens_per_min >= 0.97
    assert sum(seen.limited.values()) < 0.005 * seen.requests
