"""A job's handle: its results and events as they come, giving it up, and asking what failed again."""

import asyncio
import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import anyio
import msgspec
import pytest
from tests.inside import given_back, system

from greenroom.actors.batch import BadLine, ChangedInput, JobProgress, JobResult
from greenroom.actors.settings import PriceSettings, Retries, Supervision
from greenroom.runtime import Job, Runtime, Settings
from greenroom.runtime.spool import Item, Source, spool
from greenroom.runtime.testing import Fails, HastyClock, Received, ScriptedProvider

pytestmark = pytest.mark.anyio
PRICES = {"*": PriceSettings(input="1", output="2")}


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider() as provider:
        yield provider


@pytest.fixture
async def rt(provider: ScriptedProvider, tmp_path: Path) -> AsyncIterator[Runtime]:
    settings = provider.settings(tmp_path, prices=PRICES, retries=Retries(attempts=1))
    async with Runtime(settings, environ={}, clock=HastyClock()) as rt:
        yield rt


async def prompts(folder: Path, count: int) -> Path:
    path = folder / "in.jsonl"
    lines = (f'{{"custom_id": "c{number}", "prompt": "p{number}"}}\n' for number in range(count))
    await anyio.Path(path).write_text("".join(lines))
    return path


def text(result: JobResult) -> object:
    line = msgspec.json.decode(result.line)
    return line["response"]["body"]["choices"][0]["message"]["content"] if line["response"] else None


class TestResults:
    async def test_come_while_the_job_runs_and_end_with_it(
        self, rt: Runtime, provider: ScriptedProvider, tmp_path: Path
    ) -> None:
        go_on = asyncio.Event()

        async def last(_: Received) -> str:
            await go_on.wait()
            return "last"

        provider.say("one", "two", last)
        job = await rt.batch(await prompts(tmp_path, 3), concurrency=1)
        results = job.results()
        first = [await anext(results), await anext(results)]
        assert [(r.custom_id, r.ok, text(r)) for r in first] == [("c0", True, "one"), ("c1", True, "two")]
        assert (await job.progress()).state != "done"
        go_on.set()
        rest = [result async for result in results]
        assert [(r.seq, r.position, text(r)) for r in rest] == [(2, 2, "last")]
        total = sum((r.cost_usd for r in (*first, *rest)), start=first[0].cost_usd * 0)
        assert total == (await job.wait()).cost_usd > 0

    async def test_can_be_had_again_and_from_where_one_was(
        self, rt: Runtime, provider: ScriptedProvider, tmp_path: Path
    ) -> None:
        provider.say("one", Fails(400), "three")
        job = await rt.batch(await prompts(tmp_path, 3), concurrency=1)
        await job.wait()
        everything = [result async for result in job.results()]
        assert [(r.custom_id, r.error_class) for r in everything] == [
            ("c0", None),
            ("c1", "invalid_request"),
            ("c2", None),
        ]
        assert [r async for r in job.results(after_seq=1)] == everything[2:]

    async def test_of_thousands_are_each_there_once(
        self, tmp_path: Path, provider: ScriptedProvider, rt: Runtime
    ) -> None:
        provider.say(*(["yes"] * 2_500))
        job = await rt.batch(await prompts(tmp_path, 2_500), concurrency=100)
        seen = [result.position async for result in job.results()]
        assert sorted(seen) == list(range(2_500))

    async def test_of_earlier_runs_come_first(
        self, rt: Runtime, provider: ScriptedProvider, tmp_path: Path
    ) -> None:
        source, out = await prompts(tmp_path, 4), tmp_path / "out.jsonl"
        provider.say("one", "two", "three", "four")
        before = await rt.batch(source, out=out, concurrency=1)
        assert (await anext(before.results())).position == 0
        before.stop()
        await before.wait()
        job = await rt.batch(source, out=out)
        assert sorted([r.position async for r in job.results()]) == [0, 1, 2, 3]


async def test_events_are_monotone_and_end_with_the_job(
    rt: Runtime, provider: ScriptedProvider, tmp_path: Path
) -> None:
    provider.say(*(["yes"] * 40))
    job = await rt.batch(await prompts(tmp_path, 40), concurrency=4)
    events = [event async for event in job.events()]
    finished = [event.finished for event in events]
    assert finished == sorted(finished)
    assert (events[-1].state, finished[-1]) == ("done", 40)
    assert [event.state for event in events[:-1]] == ["running"] * (len(events) - 1)
    assert [event async for event in job.events()] == events[-1:]


async def test_cancel_keeps_what_is_finished_and_gives_all_else_up(
    rt: Runtime, provider: ScriptedProvider, tmp_path: Path
) -> None:
    async def never(_: Received) -> str:
        await asyncio.Event().wait()
        raise AssertionError("nobody sets it")

    provider.say("one", never, never, never)
    source, out = await prompts(tmp_path, 6), tmp_path / "out.jsonl"
    job = await rt.batch(source, out=out, concurrency=3)
    assert (await anext(job.results())).ok
    await provider.wait_received(4)
    job.cancel()
    ended = await job.wait()
    assert (ended.state, ended.ok, ended.failed, ended.in_flight) == ("stopped", 1, 0, 0)
    await given_back(rt, "scripted")
    provider.say(*(["yes"] * 5))
    assert (await (await rt.batch(source, out=out)).wait()).ok == 6


class TestSources:
    @pytest.mark.parametrize("kind", ["list", "generator", "async"])
    async def test_lines_may_come_from_a_program(
        self, rt: Runtime, provider: ScriptedProvider, kind: str
    ) -> None:
        lines: list[Item] = [
            "p0",
            {"custom_id": "mine", "prompt": "p1"},
            {"messages": [{"role": "user", "content": "p2"}]},
        ]

        async def slowly() -> AsyncIterator[Item]:
            for line in lines:
                await asyncio.sleep(0)
                yield line

        provider.say("one", "two", "three")
        sources: dict[str, Source] = {"list": lines, "generator": (line for line in lines), "async": slowly()}
        job = await rt.batch(sources[kind], concurrency=1)
        found = [(r.custom_id, text(r)) async for r in job.results()]
        assert found == [("line-1", "one"), ("mine", "two"), ("line-3", "three")]
        assert [asked.prompt for asked in provider.received] == ["p0", "p1", "p2"]

    async def test_the_same_lines_go_on_with_the_same_output(
        self, rt: Runtime, provider: ScriptedProvider, tmp_path: Path
    ) -> None:
        provider.say("one", Fails(400), "two")
        out = tmp_path / "out.jsonl"
        before = await rt.batch(["p0", "p1"], out=out, concurrency=1)
        assert (await before.wait()).failed == 1
        job = await before.retry_failed()
        assert (job.id, (await job.wait()).ok) == (before.id, 2)
        with pytest.raises(ChangedInput, match="line 2 has changed"):
            await rt.batch(["p0", "other"], out=out)

    async def test_templates_fill_in_what_programs_hand_over(
        self, rt: Runtime, provider: ScriptedProvider
    ) -> None:
        provider.say("good")
        await (await rt.batch([{"text": "fine"}], prompt="Classify: {{ text }}")).wait()
        assert provider.received[0].prompt == "Classify: fine"

    @pytest.mark.parametrize(
        ("line", "said"), [(3, "line 2: 3; it must be text, or a dict"), ({"prompt": object()}, "line 2: ")]
    )
    async def test_what_is_no_line_is_named(self, rt: Runtime, line: Item, said: str) -> None:
        with pytest.raises(ValueError, match=said):
            await rt.batch(["fine", line])

    async def test_memory_stays_flat(self, rt: Runtime, tmp_path: Path) -> None:
        path = anyio.Path(await spool({"prompt": "x" * 1_000, "n": n} for n in range(30_000)))
        assert (await path.stat()).st_size > 30_000_000
        await path.unlink()

    async def test_leave_nothing_behind(
        self, provider: ScriptedProvider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = tmp_path / "tmp"
        folder.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(folder))

        def breaks() -> Iterator[Item]:
            yield "p0"
            raise KeyError("half-way")

        def files() -> int:
            return len(list(folder.iterdir()))

        async with Runtime(provider.settings(tmp_path, prices=PRICES), environ={}) as rt:
            with pytest.raises(KeyError, match="half-way"):
                await rt.batch(breaks())
            with pytest.raises(BadLine, match="line 1"):
                await rt.batch([{"nonsense": 1}])
            assert (await (await rt.batch([])).wait()).finished == 0
            assert files() == 1  # of the job, which is there
            provider.say(Fails(400), "two")
            job = await rt.batch(["p0"], out=tmp_path / "out.jsonl")
            await job.wait()
            assert (await (await job.retry_failed()).wait()).ok == 1  # its lines are still known
            assert files() == 2
        assert files() == 0

    async def test_each_line_has_its_time(self, tmp_path: Path, provider: ScriptedProvider) -> None:
        async def never(_: Received) -> str:
            await asyncio.Event().wait()
            raise AssertionError("nobody sets it")

        provider.say("one", never, "three")
        settings = provider.settings(tmp_path, prices=PRICES, retries=Retries(attempts=1))
        async with Runtime(settings, environ={}) as rt:
            job = await rt.batch(["p0", "p1", "p2"], concurrency=1, timeout_s=1.5)
            assert [r.error_class async for r in job.results()] == [None, "timeout", None]


class TestRetryFailed:
    async def test_asks_those_again_that_failed_and_no_others(
        self, rt: Runtime, provider: ScriptedProvider, tmp_path: Path
    ) -> None:
        provider.say("one", Fails(400), "three", "two")
        job = await rt.batch(await prompts(tmp_path, 3), out=tmp_path / "out.jsonl", concurrency=1)
        again: Job = await job.retry_failed()
        ended = await again.wait()
        assert (again.id, ended.ok, ended.failed) == (job.id, 3, 0)
        assert [asked.prompt for asked in provider.received] == ["p0", "p1", "p2", "p1"]
        assert {r.custom_id: text(r) async for r in again.results()} == {
            "c0": "one",
            "c1": "two",
            "c2": "three",
        }

    async def test_needs_an_output(self, rt: Runtime, provider: ScriptedProvider, tmp_path: Path) -> None:
        provider.say("one")
        job = await rt.batch(await prompts(tmp_path, 1))
        with pytest.raises(ValueError, match="give out="):
            await job.retry_failed()
        await job.wait()


def patient(provider: ScriptedProvider, folder: Path) -> Settings:
    """Settings that bear any number of crashes."""
    settings = provider.settings(folder, prices=PRICES, retries=Retries(attempts=1))
    return msgspec.structs.replace(settings, supervision=Supervision(intensity=1_000_000))


async def test_killing_actors_at_any_moment_tells_each_result_once(tmp_path: Path) -> None:
    dice = random.Random(3)
    async with (
        ScriptedProvider(then=lambda _: "yes") as provider,
        Runtime(patient(provider, tmp_path), environ={}) as rt,
    ):
        job = await rt.batch((f"p{number}" for number in range(30)), concurrency=8)

        async def results() -> list[int]:
            return [result.position async for result in job.results()]

        async def events() -> list[JobProgress]:
            return [event async for event in job.events()]

        watching = asyncio.gather(results(), events(), job.wait())
        victims = (f"batch:{job.id}", "batches", "store")
        while not watching.done():
            for _ in range(dice.randrange(400)):
                await asyncio.sleep(0)
            victim = system(rt).whereis(dice.choice(victims))
            if victim is not None:
                system(rt).kill(victim)
                await system(rt).wait_down(victim)
        positions, told, end = await watching
        assert sorted(positions) == list(range(30))
        assert [event.finished for event in told] == sorted(event.finished for event in told)
        assert (told[-1], end.state, end.ok) == (end, "done", 30)
        await given_back(rt, "scripted")


async def test_cancelling_at_any_moment_and_again_ends_it_and_it_can_be_gone_on_with(tmp_path: Path) -> None:
    dice = random.Random(5)
    async with (
        ScriptedProvider(then=lambda _: "yes") as provider,
        Runtime(patient(provider, tmp_path), environ={}) as rt,
    ):
        for number in range(15):
            job = await rt.batch(["p"] * 20, concurrency=4, out=tmp_path / f"{number}.jsonl")
            for _ in range(dice.randrange(200)):
                await asyncio.sleep(0)
            job.cancel()
            job.cancel()
            end = await job.wait()
            job.cancel()
            assert await job.progress() == end
            assert len([result async for result in job.results()]) == end.finished
            again = await job.retry_failed()
            assert (await again.wait()).ok == 20
            assert (await (await again.retry_failed()).wait()).ok == 20
            await given_back(rt, "scripted")
