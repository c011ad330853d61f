"""The batch actor: what it counts, when it gives up, and how it ends, over real sockets, rows and files."""

import asyncio
import sqlite3
import threading
from collections import Counter
from collections.abc import AsyncGenerator, Iterable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from msgspec import structs
from tests.inside import database, given_back, named, settings, system, until
from tests.integration.commands import prompt, prompt_line, results
from tests.integration.upstream import Answering, Asked, Upstream, answer_well, cut, good, refusal

from greenroom.actors.batch import Defaults, JobProgress, JobRequest, OpenJob, scan
from greenroom.actors.batch.results import ResultFile
from greenroom.actors.kernel import Clock, FakeClock
from greenroom.actors.providers import ChatRequest, OpenAIChat, WireRequest
from greenroom.actors.settings import PriceSettings, Retries
from greenroom.runtime import Runtime
from greenroom.runtime.job import Job

pytestmark = pytest.mark.anyio
LINES = 30
WAIT_S = 10.0
ONCE = Retries(attempts=1)


@asynccontextmanager
async def running(
    answer: Answering, folder: Path, clock: Clock | None = None
) -> AsyncGenerator[tuple[Runtime, Upstream]]:
    async with (
        Upstream(answer) as upstream,
        Runtime(settings(upstream.base_url, folder, retries=ONCE), environ={}, clock=clock) as rt,
    ):
        yield rt, upstream


async def write(path: Path, text: str) -> Path:
    await anyio.to_thread.run_sync(path.write_text, text)
    return path


async def opened(
    rt: Runtime,
    folder: Path,
    text: str | None = None,
    *,
    concurrency: int = 4,
    limit: int | None = None,
    retry_failed: bool = False,
) -> OpenJob:
    """Open the job on the lines of `text`, passing over those that cannot be asked."""
    path = folder / "in.jsonl"
    if text is not None:
        await write(path, text)
    defaults = Defaults(fallback_model="acme/fast", max_tokens=50)
    request = JobRequest(
        path=path,
        source=str(path),
        out=folder / "out.jsonl",
        defaults=defaults,
        limit=limit,
        concurrency=concurrency,
        retry_failed=retry_failed,
    )
    look = partial(scan, path, defaults, limit=limit)
    return await rt.open_job(request, await anyio.to_thread.run_sync(look))


async def to_its_end(rt: Runtime, job: OpenJob) -> JobProgress:
    return await asyncio.wait_for((await rt.start_job(job)).wait(), WAIT_S)


def prompts(count: int = LINES) -> str:
    return "".join(prompt_line(number) for number in range(1, count + 1))


class TestCounts:
    async def test_progress_never_goes_back_and_ends_whole(self, tmp_path: Path) -> None:
        seen: list[JobProgress] = []
        async with running(answer_well, tmp_path) as (rt, _):
            job = await rt.start_job(await opened(rt, tmp_path, prompts()))
            while not seen or seen[-1].state == "running":
                seen.append(await job.progress())
                await asyncio.sleep(0)
            last = await job.wait()
        assert [p.finished for p in seen] == sorted(p.finished for p in seen)
        assert [p.cost_pusd for p in seen] == sorted(p.cost_pusd for p in seen)
        assert all(0 <= p.in_flight <= 4 and p.finished + p.in_flight <= LINES for p in seen)
        assert (last.state, last.ok, last.failed, last.in_flight, last.total) == ("done", LINES, 0, 0, LINES)

    async def test_lines_that_are_passed_over_are_not_in_flight(self, tmp_path: Path) -> None:
        text = "oops\n" * 7 + prompts(5) + prompt_line(1)
        async with running(answer_well, tmp_path) as (rt, upstream):
            last = await to_its_end(rt, await opened(rt, tmp_path, text))
            assert len(upstream.asked) == 5
        assert (last.ok, last.total, last.in_flight) == (5, 5, 0)

    async def test_what_is_counted_is_on_disk(self, tmp_path: Path) -> None:
        """Whenever a line is counted, its result can be read, also by another program."""
        async with running(answer_well, tmp_path) as (rt, _):
            job = await rt.start_job(await opened(rt, tmp_path, prompts()))
            while (progress := await job.progress()).state == "running":
                text = await anyio.to_thread.run_sync((tmp_path / "out.jsonl").read_bytes)
                assert text.count(b"\n") >= progress.finished


class TestFailures:
    async def test_a_line_that_fails_leaves_the_others_alone(self, tmp_path: Path) -> None:
        async def answer(asked: Asked) -> web.StreamResponse:
            if "number 7." in asked.prompt:
                cut(asked)
            return refusal(400) if "number 9." in asked.prompt else good()

        async with running(answer, tmp_path) as (rt, _):
            last = await to_its_end(rt, await opened(rt, tmp_path, prompts()))
            await given_back(rt)
        assert (last.state, last.ok, last.failed) == ("done", LINES - 2, 2)
        assert last.errors == {"connection": 1, "invalid_request": 1}
        found = results(tmp_path / "out.jsonl")
        assert len(found) == LINES
        assert {line["error"]["code"] for line in found.values() if line["error"]} == set(last.errors)

    @pytest.mark.parametrize(
        ("status", "kind"), [(401, "authentication"), (403, "permission"), (404, "not_found")]
    )
    async def test_what_every_line_would_meet_halts_the_job(
        self, tmp_path: Path, status: int, kind: str
    ) -> None:
        async def answer(asked: Asked) -> web.StreamResponse:
            return refusal(status)

        async with running(answer, tmp_path) as (rt, upstream):
            last = await to_its_end(rt, await opened(rt, tmp_path, prompts()))
            assert (last.state, last.because_kind, last.ok, last.failed) == ("halted", kind, 0, 0)
            assert last.because is not None
            assert str(status) in last.because
            assert len(upstream.asked) <= 8
            # Nothing was stored as failed, so the same job asks all lines once this is mended.
            upstream.answer = answer_well
            again = await to_its_end(rt, await opened(rt, tmp_path))
        assert (again.state, again.ok, again.resumed) == ("done", LINES, 0)

    async def test_halted_it_asks_nothing_more(self, tmp_path: Path) -> None:
        async def answer(asked: Asked) -> web.StreamResponse:
            return refusal(401) if asked.number == 5 else good()

        async with running(answer, tmp_path) as (rt, upstream):
            last = await to_its_end(rt, await opened(rt, tmp_path, prompts(), concurrency=1))
            assert (last.state, last.ok, last.in_flight) == ("halted", 4, 0)
            assert len(upstream.asked) == 5

    async def test_a_key_that_is_revoked_in_the_middle_halts_it_and_keeps_the_rest(
        self, tmp_path: Path
    ) -> None:
        async def answer(asked: Asked) -> web.StreamResponse:
            return refusal(401) if asked.number > 10 else good()

        async with running(answer, tmp_path) as (rt, upstream):
            last = await to_its_end(rt, await opened(rt, tmp_path, prompts()))
            assert (last.state, last.ok, last.failed) == ("halted", 10, 0)
            assert len(results(tmp_path / "out.jsonl")) == 10
            upstream.answer = answer_well
            again = await to_its_end(rt, await opened(rt, tmp_path))
        assert (again.state, again.ok, again.resumed) == ("done", LINES, 10)
        assert len(results(tmp_path / "out.jsonl")) == LINES

    async def test_a_missing_model_of_one_line_fails_that_line_once_others_were_answered(
        self, tmp_path: Path
    ) -> None:
        async def answer(asked: Asked) -> web.StreamResponse:
            return refusal(404) if "number 20." in asked.prompt else good()

        async with running(answer, tmp_path) as (rt, _):
            last = await to_its_end(rt, await opened(rt, tmp_path, prompts(), concurrency=1))
        assert (last.state, last.ok, last.errors) == ("done", LINES - 1, {"not_found": 1})


async def test_a_fault_of_ours_fails_the_line_that_met_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Begun again, the job would meet it again, and pay anew for what else was in flight."""
    encode = OpenAIChat.encode

    def faulty(codec: OpenAIChat, request: ChatRequest, model: str, *, stream: bool = False) -> WireRequest:
        if "number 7." in str(request.messages[-1].content):
            raise ZeroDivisionError("Say something")
        return encode(codec, request, model, stream=stream)

    monkeypatch.setattr(OpenAIChat, "encode", faulty)
    async with running(answer_well, tmp_path) as (rt, upstream):
        last = await to_its_end(rt, await opened(rt, tmp_path, prompts()))
        assert (last.state, last.ok, last.errors) == ("done", LINES - 1, {"internal": 1})
        assert len(upstream.asked) == LINES - 1
        monkeypatch.undo()
        again = await to_its_end(rt, await opened(rt, tmp_path, retry_failed=True))
    assert (again.state, again.ok, again.failed) == ("done", LINES, 0)


class Output:
    """A disk that takes no output line until it is let."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.let = threading.Event()
        append = ResultFile.append

        def slow(file: ResultFile, records: Iterable[bytes]) -> None:
            assert self.let.wait(3 * WAIT_S)
            append(file, records)

        monkeypatch.setattr(ResultFile, "append", slow)


async def test_pullers_wait_for_a_disk_that_does_not_keep_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At most as many results as may be in flight wait for the disk, and those in flight come on top."""
    output = Output(monkeypatch)
    async with Upstream(answer_well) as upstream:
        # Free, so that no call waits for a hold of its own to reach the disk.
        free = settings(upstream.base_url, tmp_path, retries=ONCE)
        acme = structs.replace(free.providers["acme"], prices={"*": PriceSettings(input="0", output="0")})
        async with Runtime(structs.replace(free, providers={"acme": acme}), environ={}) as rt:
            job = await rt.start_job(await opened(rt, tmp_path, prompts(), concurrency=4))
            found = system(rt).resolve(named(rt, f"batch:{job.id}"))
            assert found is not None
            waiting = found.actor._room._waiters  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]
            await until(lambda: len(waiting) == 4 or len(upstream.asked) == LINES)  # pyright: ignore[reportUnknownArgumentType]
            assert 4 <= len(upstream.asked) <= 7
            output.let.set()
            last = await asyncio.wait_for(job.wait(), WAIT_S)
    assert (last.state, last.ok) == ("done", LINES)


class TestInputThatGoesAway:
    async def test_before_it_is_read(self, tmp_path: Path) -> None:
        """Begun again it would fail again: the job ends and says why, it does not hang or spin."""
        async with running(answer_well, tmp_path) as (rt, upstream):
            job = await opened(rt, tmp_path, prompts())
            await anyio.to_thread.run_sync((tmp_path / "in.jsonl").unlink)
            last = await to_its_end(rt, job)
            assert last.state == "halted"
            assert last.because is not None
            assert "in.jsonl" in last.because
            assert upstream.asked == []

    async def test_shorter_than_it_was_looked_at_it_is_not_done(self, tmp_path: Path) -> None:
        async with running(answer_well, tmp_path) as (rt, _):
            job = await opened(rt, tmp_path, prompts())
            await write(tmp_path / "in.jsonl", prompts(10))
            last = await to_its_end(rt, job)
        assert (last.ok, last.total) == (10, LINES)
        assert last.state != "done"


async def test_a_stopped_job_is_not_counted_as_done(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def answer(asked: Asked) -> web.StreamResponse:
        await gate.wait()
        return good()

    async with running(answer, tmp_path) as (rt, upstream):
        job = await rt.start_job(await opened(rt, tmp_path, prompts()))
        await upstream.wait_asked(4)
        job.stop()
        while (await job.progress()).state != "stopping":  # noqa: ASYNC110
            await asyncio.sleep(0)
        gate.set()
        last = await job.wait()
        assert (last.state, last.ok, last.in_flight) == ("stopped", 4, 0)
        assert len(upstream.asked) == 4
        again = await to_its_end(rt, await opened(rt, tmp_path))
    assert (again.state, again.ok, again.resumed) == ("done", LINES, 4)


class TestLimit:
    async def test_what_lies_beyond_it_does_not_count(self, tmp_path: Path) -> None:
        """Lines finish in any order: after an interruption some beyond the limit are done, and some within it are not."""
        held = asyncio.Event()

        async def answer(asked: Asked) -> web.StreamResponse:
            if "number 1." in asked.prompt:
                await held.wait()
            return refusal(400) if "number 2." in asked.prompt or "number 20." in asked.prompt else good()

        async with running(answer, tmp_path) as (rt, upstream):
            job = await rt.start_job(await opened(rt, tmp_path, prompts()))
            while (await job.progress()).finished < LINES - 1:  # noqa: ASYNC110
                await asyncio.sleep(0)
        held.set()
        async with running(answer, tmp_path) as (rt, upstream):
            limited = await opened(rt, tmp_path, limit=10)
            assert (limited.finished, limited.failed, limited.complete) == (9, 1, False)
            last = await to_its_end(rt, limited)
            assert (last.state, last.ok, last.failed, last.total, last.resumed) == ("done", 9, 1, 10, 9)
            assert last.errors == {"invalid_request": 1}
            assert [asked.prompt for asked in upstream.asked] == ["Say something about the number 1."]
            again = await opened(rt, tmp_path, limit=10, retry_failed=True)
            assert (again.retried, again.finished) == (1, 9)
            assert (await to_its_end(rt, again)).failed == 1
            whole = await to_its_end(rt, await opened(rt, tmp_path))
            assert (whole.state, whole.ok, whole.failed, whole.resumed) == ("done", LINES - 2, 2, LINES)
        assert len(results(tmp_path / "out.jsonl")) == LINES


async def test_answers_that_were_not_on_disk_when_the_actor_died_are_saved_by_the_next(
    tmp_path: Path,
) -> None:
    async with running(answer_well, tmp_path) as (rt, upstream):
        job = await rt.start_job(await opened(rt, tmp_path, prompts()))
        await upstream.wait_asked(5)
        await system(rt).suspend(named(rt, "store"))
        unsaved = job._memory.unsaved  # pyright: ignore[reportPrivateUsage] - seen nowhere else
        await until(lambda: len(unsaved) >= 4)
        answered = [line.custom_id for line in unsaved]
        system(rt).kill(named(rt, f"batch:{job.id}"))
        await system(rt).resume(named(rt, "store"))
        last = await asyncio.wait_for(job.wait(), WAIT_S)
        assert (last.state, last.ok, last.in_flight) == ("done", LINES, 0)
        asked = Counter(asked.prompt for asked in upstream.asked)
        assert [asked[prompt(int(custom_id[2:]))] for custom_id in answered] == [1] * len(answered)
    assert len(results(tmp_path / "out.jsonl")) == LINES


class Lock:
    """Another process's transaction on the database, as far as the database can tell."""

    def __init__(self, path: Path) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)

    def take(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def close(self) -> None:
        self._connection.close()


class TestADatabaseThatIsLocked:
    @pytest.fixture(autouse=True)
    def patience(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("greenroom.actors.storage.engine.BUSY_TIMEOUT_S", 0.05)

    async def test_answers_that_could_not_be_stored_are_stored_later(self, tmp_path: Path) -> None:
        clock = FakeClock()

        async def answer(asked: Asked) -> web.StreamResponse:
            if asked.number == 10:
                await anyio.to_thread.run_sync(lock.take)
            return good()

        async with running(answer, tmp_path, clock) as (rt, upstream):
            lock = Lock(database(tmp_path))
            job = await rt.start_job(await opened(rt, tmp_path, prompts()))
            while (await job.progress()).state == "running":  # noqa: ASYNC110
                await asyncio.sleep(0)
            await anyio.to_thread.run_sync(lock.close)
            last = await moved_on(clock, job)
            assert (last.state, last.in_flight) == ("halted", 0)
            assert last.because is not None
            assert "locked" in last.because
            asked = len(upstream.asked)
            assert last.ok == len(results(tmp_path / "out.jsonl")) == asked
            again = await asyncio.wait_for((await rt.start_job(await opened(rt, tmp_path))).wait(), WAIT_S)
            assert (again.state, again.ok, again.resumed) == ("done", LINES, asked)
            assert len(upstream.asked) == LINES, "no answer was paid for twice"

    async def test_for_too_long_they_are_given_up_and_asked_for_again(self, tmp_path: Path) -> None:
        clock = FakeClock()

        async def answer(asked: Asked) -> web.StreamResponse:
            if asked.number == 10:
                await anyio.to_thread.run_sync(lock.take)
            return good()

        async with running(answer, tmp_path, clock) as (rt, upstream):
            lock = Lock(database(tmp_path))
            job = await rt.start_job(await opened(rt, tmp_path, prompts()))
            last = await moved_on(clock, job)
            assert (last.state, last.in_flight) == ("halted", 0)
            assert last.ok == len(results(tmp_path / "out.jsonl")) < len(upstream.asked)
            await anyio.to_thread.run_sync(lock.close)
            again = await asyncio.wait_for((await rt.start_job(await opened(rt, tmp_path))).wait(), WAIT_S)
            assert (again.state, again.ok, again.resumed) == ("done", LINES, last.ok)
        assert len(results(tmp_path / "out.jsonl")) == LINES


async def moved_on(clock: FakeClock, job: Job) -> JobProgress:
    """The job's end, the clock going on while results wait for the disk, and no longer: ending takes its own time."""
    ended = asyncio.ensure_future(job.wait())
    async with asyncio.timeout(WAIT_S):
        while not ended.done():
            if job._memory.unsaved:  # pyright: ignore[reportPrivateUsage] - seen nowhere else
                await clock.advance(0.1)
            await asyncio.sleep(0)
    return await ended
