"""The embedded API: `async with Runtime()`, over real sockets and a real database."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from decimal import Decimal
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from tests.integration.evidence import exact_pusd, ledger
from tests.integration.upstream import Asked, Upstream, good, refusal

from greenroom.actors.batch import BadLine, JobRefused
from greenroom.actors.catalog import UnknownModel, Unpriced
from greenroom.actors.events import ProviderFailed
from greenroom.actors.ledger import GetSpend
from greenroom.actors.providers import Message
from greenroom.actors.settings import PriceSettings, ProviderSettings, Retries, Settings, StorageSettings
from greenroom.actors.storage import DatabaseOwned
from greenroom.runtime import Runtime
from greenroom.runtime.simulator import Simulator, SimulatorSettings

pytestmark = pytest.mark.anyio
PRICES = {"*": PriceSettings(input="0.15", output="0.60")}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "greenroom.db"


@pytest.fixture
def settings(database: Path) -> Callable[[str], Settings]:
    """Settings with one priced provider at a URL."""

    def make(base_url: str) -> Settings:
        return Settings(
            providers={"acme": ProviderSettings(base_url=base_url, default_model="fast", prices=PRICES)},
            storage=StorageSettings(url=f"sqlite:///{database}"),
            retries=Retries(attempts=2, backoff_base_s=0.001),
        )

    return make


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(seed=3)) as simulator:
        yield simulator


Make = Callable[[str], Settings]


def open_sockets() -> int:
    return sum(str(target).startswith("socket:") for target in open_files())


def open_files() -> list[Path]:
    """What this process's descriptors lead to."""
    found: list[Path] = []
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(fd.readlink())
    return found


class TestChat:
    async def test_answers_with_its_exact_cost(
        self, settings: Make, simulator: Simulator, database: Path
    ) -> None:
        async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
            reply = await rt.chat("acme/fast", "Why is the sky blue?", max_tokens=200)
        (entry,) = simulator.journal
        assert reply.text
        assert (reply.provider, reply.model, reply.finish_reason, reply.attempts) == (
            "acme",
            "fast",
            "stop",
            1,
        )
        assert (reply.usage.input_tokens, reply.usage.output_tokens) == (
            entry.prompt_tokens,
            entry.completion_tokens,
        )
        expected = Decimal("0.15") * entry.prompt_tokens + Decimal("0.60") * entry.completion_tokens
        assert reply.cost_usd == expected / 10**6
        assert reply.request_id == entry.request_id
        (row,) = ledger(database)
        assert (row.state, row.outcome, row.estimated) == ("settled", "ok", False)
        assert row.cost_pusd == reply.cost_pusd == exact_pusd(entry.prompt_tokens, entry.completion_tokens)

    async def test_takes_a_conversation_and_the_default_model(
        self, settings: Make, simulator: Simulator
    ) -> None:
        conversation = [Message("system", "Repeat what I say."), Message("user", "Hello there")]
        async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
            assert rt.chosen.default_model == "acme/fast"
            reply = await rt.chat(None, conversation)
            echoed = await rt.chat("acme/echo", "Hello there")
        assert reply.model == "fast"
        assert "Hello there" in echoed.text

    async def test_a_thousand_at_once(self, settings: Make, simulator: Simulator, database: Path) -> None:
        async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
            replies = await asyncio.gather(*(rt.chat("acme/echo", f"number {n}") for n in range(1000)))
            assert all(f"number {n}" in reply.text for n, reply in enumerate(replies))
        rows = ledger(database)
        assert len(rows) == len({row.call_id for row in rows}) == 1000
        assert sum(row.cost_pusd for row in rows) == sum(reply.cost_pusd for reply in replies)
        assert sum(row.cost_pusd for row in rows) == sum(
            exact_pusd(entry.prompt_tokens, entry.completion_tokens) for entry in simulator.journal
        )

    async def test_refusals_before_anything_is_sent(self, settings: Make, simulator: Simulator) -> None:
        made = settings(simulator.openai_base_url)
        async with Runtime(made, environ={}) as rt:
            with pytest.raises(UnknownModel, match=r"openai/gpt-5.4-mini needs a key: set OPENAI_API_KEY"):
                await rt.chat("openai/gpt-5.4-mini", "x")
        paid = Settings(
            providers={"acme": ProviderSettings(base_url="https://acme.example/v1")}, storage=made.storage
        )
        async with Runtime(paid, environ={}) as rt:
            with pytest.raises(Unpriced, match=r'\[providers.acme.prices."fast"\]'):
                await rt.chat("acme/fast", "x")
        assert simulator.journal == ()

    async def test_a_failure_says_whose_and_what_it_cost(self, settings: Make, database: Path) -> None:
        async def answer(asked: Asked) -> web.StreamResponse:
            return refusal(500)

        async with Upstream(answer) as upstream, Runtime(settings(upstream.base_url), environ={}) as rt:
            with pytest.raises(ProviderFailed, match=r"acme/fast: server 500 after 2 attempts") as caught:
                await rt.chat("acme/fast", "x")
            assert caught.value.cost_pusd == 0
            assert len(upstream.asked) == 2

    async def test_outside_of_its_block(self) -> None:
        with pytest.raises(RuntimeError, match="async with Runtime"):
            await Runtime(Settings()).chat("acme/fast", "x")


class TestLeaving:
    async def test_leaves_no_task_socket_or_lock(
        self, settings: Make, simulator: Simulator, database: Path
    ) -> None:
        before = asyncio.all_tasks()
        sockets = open_sockets()
        for _ in range(2):  # The second one takes the lock that the first gave up.
            async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
                await asyncio.gather(*(rt.chat("acme/fast", f"number {n}") for n in range(20)))
        await until(lambda: asyncio.all_tasks() <= before | serving())
        gc.collect()
        await until(lambda: open_sockets() <= sockets)

    async def test_while_calls_are_in_flight(self, settings: Make, database: Path) -> None:
        """They fail or are cancelled, soon; each attempt is settled, and the next runtime finds nothing open."""

        async def answer(asked: Asked) -> web.StreamResponse:
            await asyncio.Event().wait()
            return good()

        async with Upstream(answer) as upstream:
            async with Runtime(settings(upstream.base_url), environ={}) as rt:
                calls = [asyncio.create_task(rt.chat("acme/fast", f"number {n}")) for n in range(20)]
                await upstream.wait_asked(20)
            outcomes = await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), 10.0)
            assert all(isinstance(outcome, BaseException) for outcome in outcomes)
            await until(lambda: upstream.in_flight == 0)
            rows = ledger(database)
            assert len(rows) == 20
            assert {(row.state, row.estimated) for row in rows} == {("settled", True)}
            assert all(row.cost_pusd == row.held_pusd for row in rows)

    async def test_by_an_exception(self, settings: Make, simulator: Simulator) -> None:
        async def embed() -> None:
            async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
                await rt.chat("acme/fast", "x")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await embed()
        async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
            await rt.chat("acme/fast", "x")

    async def test_by_a_cancellation(self, settings: Make, database: Path) -> None:
        async def answer(asked: Asked) -> web.StreamResponse:
            await asyncio.Event().wait()
            return good()

        async with Upstream(answer) as upstream:

            async def embed() -> None:
                async with Runtime(settings(upstream.base_url), environ={}) as rt:
                    await rt.chat("acme/fast", "x")

            task = asyncio.create_task(embed())
            await upstream.wait_asked(1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await upstream.asked[0].closed.wait()
        (row,) = ledger(database)
        assert (row.state, row.outcome, row.estimated, row.cost_pusd) == (
            "settled",
            "cancelled",
            True,
            row.held_pusd,
        )

    async def test_two_at_once_on_one_database(self, settings: Make, simulator: Simulator) -> None:
        made = settings(simulator.openai_base_url)
        async with Runtime(made, environ={}) as rt:
            with pytest.raises(DatabaseOwned, match=f"process {os.getpid()}"):
                await Runtime(made, environ={}).__aenter__()
            await rt.chat("acme/fast", "still works")


class TestBatch:
    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        path = tmp_path / "in.jsonl"
        path.write_text("".join(f'{{"prompt": "number {n}"}}\n' for n in range(50)))
        return path

    async def test_a_job_to_its_end(
        self, settings: Make, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
            job = await rt.batch(source, out=tmp_path / "out.jsonl", model="acme/fast", max_tokens=50)
            last = await job.wait()
            spend = await rt._running().ledger.call(GetSpend())  # pyright: ignore[reportPrivateUsage]
        assert (last.state, last.ok, last.failed, last.in_flight, last.total) == ("done", 50, 0, 0, 50)
        assert last.cost_pusd == spend.settled_pusd
        assert (spend.held_pusd, spend.open_holds) == (0, 0)
        assert len(await read_lines(tmp_path / "out.jsonl")) == 50

    async def test_waiting_after_the_end(
        self, settings: Make, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        """A handle says how its job ended, whenever it is asked."""
        async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
            job = await rt.batch(source, out=tmp_path / "out.jsonl")
            first = await job.wait()
            assert await asyncio.wait_for(job.wait(), 1.0) == first
            assert (await asyncio.wait_for(job.progress(), 1.0)).ok == 50

    async def test_stopping_and_going_on(
        self, settings: Make, simulator: Simulator, source: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out.jsonl"
        async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
            job = await rt.batch(source, out=out, concurrency=4)
            job.stop()
            stopped = await job.wait()
            assert stopped.state == "stopped"
            assert stopped.ok < 50
            again = await rt.batch(source, out=out, concurrency=4)
            last = await again.wait()
        assert again.id == job.id
        assert (last.state, last.ok, last.resumed) == ("done", 50, stopped.ok)
        assert len(await read_lines(out)) == 50 == len(simulator.journal)

    async def test_refusals(self, settings: Make, simulator: Simulator, source: Path, tmp_path: Path) -> None:
        bad = tmp_path / "bad.jsonl"
        await anyio.to_thread.run_sync(bad.write_text, '{"prompt": "x"}\noops\n')
        mine = tmp_path / "mine.jsonl"
        await anyio.to_thread.run_sync(mine.write_text, "mine\n")
        async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
            with pytest.raises(BadLine, match="line 2"):
                await rt.batch(bad)
            with pytest.raises(JobRefused, match="no job of this database wrote"):
                await rt.batch(source, out=mine)
        assert simulator.journal == ()

    async def test_without_an_output_the_results_stay_in_the_database(
        self, settings: Make, simulator: Simulator, source: Path
    ) -> None:
        async with Runtime(settings(simulator.openai_base_url), environ={}) as rt:
            first, second = await asyncio.gather(rt.batch(source), rt.batch(source))
            ended = await asyncio.gather(first.wait(), second.wait())
        assert first.id != second.id
        assert [last.ok for last in ended] == [50, 50]
        assert len(simulator.journal) == 100


async def read_lines(path: Path) -> list[bytes]:
    return (await anyio.to_thread.run_sync(path.read_bytes)).splitlines()


def serving() -> set["asyncio.Task[object]"]:
    """Tasks of the simulator's own, which the test started and not the runtime."""
    return {task for task in asyncio.all_tasks() if "aiohttp/web" in str(task.get_coro().cr_code.co_filename)}  # type: ignore[union-attr]


async def until(happened: Callable[[], object]) -> None:
    while not happened():  # noqa: ASYNC110 - what is waited for has no event to offer
        await asyncio.sleep(0)
