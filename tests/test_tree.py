"""greenroom's own tree: any actor of it killed during a job, and what is told when the root itself gives up."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest
from msgspec import structs
from tests.inside import database, given_back, named, settings, system, tree, until
from tests.integration.evidence import check_charges, stored_ids, stored_results

from greenroom.actors.batch import JobProgress, JobRefused
from greenroom.actors.batch.results import ResultFile
from greenroom.actors.flow import Closed, RuntimeFailed
from greenroom.actors.kernel import NoProcess, StartFailed
from greenroom.actors.ledger import pacing
from greenroom.actors.settings import Limits, Settings, Supervision
from greenroom.runtime import Runtime
from greenroom.runtime.job import Job
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.supervisors import WhichChildren

pytestmark = pytest.mark.anyio
LINES = 300
KILLS = 3
CONCURRENCY = 16
WAIT_S = 10.0
"""Nothing here takes a tenth of it; a call that waits for ever fails its test by then, and says which."""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(seed=3, latency="5ms")) as simulator:
        yield simulator


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"custom_id": "id-{n}", "prompt": "number {n}"}}\n' for n in range(LINES)))
    return path


def configured(simulator: Simulator, folder: Path, intensity: int = 10) -> Settings:
    made = settings(simulator.openai_base_url, folder, limits=Limits(concurrency=CONCURRENCY))
    return structs.replace(made, supervision=Supervision(intensity=intensity))


def runtime(simulator: Simulator, folder: Path, intensity: int = 10) -> Runtime:
    return Runtime(configured(simulator, folder, intensity), environ={})


async def start(rt: Runtime, source: Path) -> Job:
    return await rt.batch(
        source,
        out=source.with_name("out.jsonl"),
        model="acme/fast",
        max_tokens=40,
        concurrency=CONCURRENCY,
    )


async def stored(folder: Path) -> set[str]:
    return await anyio.to_thread.run_sync(stored_ids, database(folder))


async def until_stored(folder: Path, count: int) -> None:
    while len(await stored(folder)) < count:
        pass


async def kill(rt: Runtime, name: str) -> None:
    """Kill whoever holds the name, and wait for the next who does."""
    ref = named(rt, name)
    before = system(rt).resolve(ref)
    system(rt).kill(ref)
    await until(lambda: ref.alive and system(rt).resolve(ref) is not before)


async def check_whole(folder: Path, simulator: Simulator, *, unsettled: int = 0) -> None:
    """Every id once in the output and in the database, each attempt one settled row at its price.

    `unsettled`: so many stored answers at most are charged as estimated, since their ledger died for good before their
    settlements were on disk.
    """
    out = await anyio.to_thread.run_sync((folder / "out.jsonl").read_bytes)
    ids = [json.loads(line)["custom_id"] for line in out.splitlines()]
    assert sorted(ids) == sorted(f"id-{n}" for n in range(LINES))
    assert await stored(folder) == set(ids)
    assert await anyio.to_thread.run_sync(stored_results, database(folder)) == out
    settled = await anyio.to_thread.run_sync(check_charges, database(folder), simulator.journal)
    assert settled >= LINES - unsettled


class TestKilledDuringAJob:
    """Killing the pool, the limiter, the ledger, the store, the batch actor or a whole branch by hand."""

    @pytest.mark.parametrize(
        ("victim", "supervisor", "child"),
        [
            ("store", "root", "store"),
            ("catalog", "root", "catalog"),
            ("ledger", "root", "ledger"),
            ("limiter:acme", "provider:acme", "limiter"),
            ("pool:acme", "provider:acme", "pool"),
            ("provider:acme", "providers", "acme"),
            ("providers", "root", "providers"),
        ],
    )
    async def test_no_call_notices(
        self,
        victim: str,
        supervisor: str,
        child: str,
        simulator: Simulator,
        source: Path,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        async with asyncio.timeout(WAIT_S), runtime(simulator, tmp_path) as rt:
            job = await start(rt, source)
            for number in range(1, KILLS + 1):
                due = number * LINES // (KILLS + 2)
                await until(lambda due=due: len(simulator.journal) >= due)  # type: ignore[misc]  # bound per turn
                await kill(rt, victim)
            last = await job.wait()
            assert (last.state, last.ok, last.failed, last.resumed) == ("done", LINES, 0, 0)
            await given_back(rt)
            await check_restarts(rt, supervisor, child)
        assert len(simulator.journal) == LINES, "nothing was asked twice"
        await check_whole(tmp_path, simulator)
        assert said(caplog, f"{supervisor} restarts {child!r}") == KILLS

    @pytest.mark.parametrize("victim", ["batch", "batches"])
    async def test_the_job_goes_on_by_itself(
        self,
        victim: str,
        simulator: Simulator,
        source: Path,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """Calls in flight are lost with the job's actor, and charged; nothing that was stored is asked again."""
        async with asyncio.timeout(WAIT_S), runtime(simulator, tmp_path) as rt:
            job = await start(rt, source)
            name = f"batch:{job.id}" if victim == "batch" else victim
            for number in range(1, KILLS + 1):
                await until_stored(tmp_path, number * LINES // (KILLS + 2))
                await kill(rt, name)
                assert (await job.progress()).state == "running"
            last = await job.wait()
            assert (last.state, last.ok, last.failed, last.resumed) == ("done", LINES, 0, 0)
            await given_back(rt)
            assert (await rt.chat("acme/fast", "one more")).text
        assert len(simulator.journal) - 1 <= LINES + KILLS * CONCURRENCY, "only what was in flight"
        await check_whole(tmp_path, simulator)
        restarted = f"batches restarts {job.id!r}" if victim == "batch" else "root restarts 'batches'"
        assert said(caplog, restarted) == KILLS

    async def test_a_stop_that_a_dead_actor_missed_is_kept(
        self, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        async with asyncio.timeout(WAIT_S), runtime(simulator, tmp_path) as rt:
            job = await start(rt, source)
            await until_stored(tmp_path, LINES // 4)
            system(rt).kill(named(rt, f"batch:{job.id}"))
            job.stop()
            last = await job.wait()
            assert last.state == "stopped"
            assert last.finished < LINES
            again = await (await start(rt, source)).wait()
        assert (again.state, again.ok, again.resumed) == ("done", LINES, last.finished)
        await check_whole(tmp_path, simulator)

    async def test_killed_as_it_ends_it_ends_once_more(
        self, simulator: Simulator, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        close, loop, kills = ResultFile.close, asyncio.get_running_loop(), 0

        def close_and_kill(output: ResultFile) -> None:
            nonlocal kills
            if len(simulator.journal) == LINES and kills < KILLS:
                kills += 1
                loop.call_soon_threadsafe(system(rt).kill, named(rt, f"batch:{job.id}"))
            close(output)

        monkeypatch.setattr(ResultFile, "close", close_and_kill)
        async with asyncio.timeout(WAIT_S), runtime(simulator, tmp_path) as rt:
            job = await start(rt, source)
            last = await job.wait()
            assert (last.state, last.ok, kills) == ("done", LINES, KILLS)
            await given_back(rt)
        await check_whole(tmp_path, simulator)

    async def test_a_job_that_cannot_begin_again_halts_and_takes_nobody_with_it(
        self, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        async with asyncio.timeout(WAIT_S), runtime(simulator, tmp_path) as rt:
            job = await start(rt, source)
            await until_stored(tmp_path, LINES // 4)
            job_actor = named(rt, f"batch:{job.id}")
            out = tmp_path / "out.jsonl"
            await anyio.to_thread.run_sync(out.unlink)
            await anyio.to_thread.run_sync(out.mkdir)
            system(rt).kill(job_actor)
            last = await job.wait()
            assert last.state == "halted"
            assert last.because is not None
            assert "out.jsonl" in last.because
            assert last.finished >= LINES // 4
            assert (await rt.chat("acme/fast", "one more")).text
            await anyio.to_thread.run_sync(out.rmdir)
            again = await (await start(rt, source)).wait()
        assert (again.state, again.ok) == ("done", LINES)
        await check_whole(tmp_path, simulator)


class TestStarting:
    async def test_the_same_job_again_is_another_handle_on_it(
        self, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        async with asyncio.timeout(WAIT_S), runtime(simulator, tmp_path) as rt:
            first, second = await start(rt, source), await start(rt, source)
            with pytest.raises(JobRefused, match=r"runs, writes .* begun with other options"):
                await rt.batch(source, out=tmp_path / "out.jsonl", model="acme/fast", max_tokens=41)
            assert first.id == second.id
            ended = await asyncio.gather(first.wait(), second.wait())
            assert ended[0] == ended[1]
            assert ended[0].ok == len(simulator.journal) == LINES
            # Over, it is opened anew, however soon.
            assert (await (await start(rt, source)).wait()).resumed == LINES
        await check_whole(tmp_path, simulator)

    @pytest.mark.parametrize("turns", [0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89])
    async def test_cancelled_while_it_starts_it_can_be_asked_for_again(
        self, turns: int, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        async with asyncio.timeout(WAIT_S), runtime(simulator, tmp_path) as rt:
            starting = asyncio.create_task(start(rt, source))
            for _ in range(turns):
                await asyncio.sleep(0)
            starting.cancel()
            await asyncio.wait([starting])
            assert (await (await start(rt, source)).wait()).ok == LINES
        await check_whole(tmp_path, simulator)

    async def test_a_start_that_failed_is_tried_again(
        self, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        folder = tmp_path / "not made yet"
        async with asyncio.timeout(WAIT_S), runtime(simulator, tmp_path) as rt:

            async def begin() -> Job:
                return await rt.batch(source, out=folder / "out.jsonl", model="acme/fast", max_tokens=40)

            for _ in range(2):
                with pytest.raises(StartFailed):
                    await begin()
            await anyio.to_thread.run_sync(folder.mkdir)
            assert (await (await begin()).wait()).ok == LINES

    async def test_who_waits_for_a_job_is_told_when_the_runtime_is_left(
        self, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        """That it was stopped, where its actor lived to say so, and else that the runtime was left."""
        async with asyncio.timeout(WAIT_S):
            async with runtime(simulator, tmp_path) as rt:
                job = await start(rt, source)
                waiting = asyncio.create_task(job.wait())
                await until_stored(tmp_path, 1)
                system(rt).kill(named(rt, "batches"))
            told = await asyncio.gather(waiting, job.wait(), job.progress(), return_exceptions=True)
        for one in told:
            assert isinstance(one, Closed) or (isinstance(one, JobProgress) and one.state == "stopped"), one


async def check_restarts(rt: Runtime, supervisor: str, child: str) -> None:
    (info,) = [info for info in await named(rt, supervisor).call(WhichChildren()) if info.id == child]
    assert (info.restarts, info.state) == (KILLS, "running")


def said(caplog: pytest.LogCaptureFixture, text: str) -> int:
    """How many warnings of the actors' log begin so."""
    return sum(
        record.name == "greenroom.actors" and record.levelno >= logging.WARNING and text in record.message
        for record in caplog.records
    )


async def keep_asking(rt: Runtime) -> None:
    while True:
        await rt.chat("acme/fast", "hello", max_tokens=20)


async def keep_streaming(rt: Runtime) -> None:
    while True:
        async with rt.stream("acme/fast", "hello", max_tokens=20) as events:
            async for _ in events:
                pass


class TestTheRootGivesUp:
    """Nobody is left to answer a call by name, so everybody who waits is told."""

    @pytest.mark.parametrize("how", ["intensity", "killed"])
    async def test_calls_and_jobs_are_told_and_another_runtime_goes_on(
        self,
        how: str,
        simulator: Simulator,
        source: Path,
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        # Settlements go to the disk as they come, so that few answers are stored ahead of theirs.
        monkeypatch.setattr(pacing, "_GATHER_S", 0.0)
        async with asyncio.timeout(WAIT_S):
            async with runtime(simulator, tmp_path, intensity=1) as rt:
                job = await start(rt, source)
                await until_stored(tmp_path, LINES // 4)
                chats = asyncio.create_task(keep_asking(rt))
                streams = asyncio.create_task(keep_streaming(rt))
                await until(lambda: not tree(rt).outbox.empty)
                if how == "intensity":
                    await kill(rt, "store")
                    system(rt).kill(named(rt, "store"))
                else:
                    system(rt).kill(tree(rt).root)
                for waiting in (job.wait(), job.progress(), chats, streams):
                    with pytest.raises(RuntimeFailed, match="root supervisor gave up"):
                        await waiting
                for asked in (rt.chat("acme/fast", "later"), start(rt, source)):
                    with pytest.raises(RuntimeFailed):
                        await asked
            finished = len(await stored(tmp_path))
            async with runtime(simulator, tmp_path) as rt:
                last = await (await start(rt, source)).wait()
                assert (last.state, last.ok, last.resumed) == ("done", LINES, finished)
        await check_whole(tmp_path, simulator, unsettled=2 * CONCURRENCY)

    async def test_a_branch_that_gives_up_is_begun_again_with_its_children(
        self, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        async with asyncio.timeout(WAIT_S), runtime(simulator, tmp_path, intensity=1) as rt:
            job = await start(rt, source)
            await until_stored(tmp_path, LINES // 4)
            for victim, branch in ((f"batch:{job.id}", "batches"), ("limiter:acme", "provider:acme")):
                before = system(rt).resolve(named(rt, branch))
                assert before is not None
                await kill(rt, victim)
                system(rt).kill(named(rt, victim))
                down = await system(rt).wait_down(before)
                assert not isinstance(down.reason, NoProcess) or not before.alive
            last = await job.wait()
            assert (last.state, last.ok) == ("done", LINES)
        await check_whole(tmp_path, simulator)
