"""A monkey in greenroom's own tree: it kills any actor below the root, at random, under load (promise R15).

The root and the branches are told to bear it: `intensity` restarts within `period_s`, set here as whoever expects such a
monkey would set it in `[supervision]`.
"""

import asyncio
import json
import logging
import random
from collections import Counter
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import pytest
from msgspec import structs
from tests.inside import database, hear, named, settings, system, tree, until
from tests.integration.evidence import check_charges, stored_ids, stored_results

from greenroom.actors.events import RETRYABLE, Event, Finished, ProviderFailed, TextDelta
from greenroom.actors.kernel import ActorSnapshot, Clock
from greenroom.actors.ledger import GetSpend
from greenroom.actors.limiter import GetLimiterStatus
from greenroom.actors.pool import GetPoolStatus
from greenroom.actors.settings import Limits, Retries, Settings, Supervision
from greenroom.runtime import Runtime
from greenroom.runtime.job import Job
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.supervisors import WhichChildren

pytestmark = pytest.mark.anyio
SUPERVISION = Supervision(intensity=500, period_s=5.0)
PROVIDERS = ("acme", "other")
IN_FLIGHT = 32
PEOPLE = 6


def configured(simulator: Simulator, folder: Path) -> Settings:
    made = settings(
        simulator.openai_base_url,
        folder,
        limits=Limits(concurrency=IN_FLIGHT // 2),
        retries=Retries(attempts=8),
    )
    providers = dict.fromkeys(PROVIDERS, made.providers["acme"])
    return structs.replace(made, providers=providers, supervision=SUPERVISION)


class Load:
    """A job of so many lines, and people who chat.

    Attributes:
        lines: how many the job has.
        answered: chats that were answered.
        failed: chats that failed, by error kind.
    """

    def __init__(self, rt: Runtime, simulator: Simulator, job: Job, lines: int) -> None:
        self.rt = rt
        self.simulator = simulator
        self.job = job
        self.lines = lines
        self.answered = 0
        self.failed: Counter[str] = Counter()
        self._enough = asyncio.Event()
        self._people = [asyncio.create_task(self._chat(person)) for person in range(PEOPLE)]

    async def enough(self) -> None:
        """Let the people have their last answer, and the job its end."""
        self._enough.set()
        await asyncio.gather(*self._people)
        await self.job.wait()

    async def _chat(self, person: int) -> None:
        model = f"{PROVIDERS[person % len(PROVIDERS)]}/fast"
        ask = self._stream if person % 3 == 0 else self._whole
        turn = 0
        while not self._enough.is_set():
            turn += 1
            try:
                assert await ask(model, f"person {person}, turn {turn}")
            except ProviderFailed as failure:
                self.failed[failure.error.kind] += 1
            else:
                self.answered += 1

    async def _whole(self, model: str, text: str) -> str:
        return (await self.rt.chat(model, text, max_tokens=20)).text

    async def _stream(self, model: str, text: str) -> str:
        async with self.rt.stream(model, text, max_tokens=20) as events:
            seen = [event async for event in events]
        assert sum(isinstance(event, Finished) for event in seen) == 1
        told = "".join(event.text for event in seen if isinstance(event, TextDelta))
        assert told == events.reply.text, "told once, and whole"
        return told


@asynccontextmanager
async def load(folder: Path, *, lines: int, latency: str, seed: int) -> AsyncGenerator[Load]:
    source = folder / "in.jsonl"
    text = "".join(f'{{"custom_id": "id-{n}", "prompt": "number {n}"}}\n' for n in range(lines))
    await anyio.to_thread.run_sync(source.write_text, text)
    async with (
        Simulator(SimulatorSettings(seed=seed, latency=latency, journal_capacity=1_000_000)) as simulator,
        Runtime(configured(simulator, folder), environ={}) as rt,
    ):
        job = await rt.batch(
            source,
            out=folder / "out.jsonl",
            model="acme/fast",
            max_tokens=20,
            concurrency=IN_FLIGHT,
            budget_usd="10",
        )
        made = Load(rt, simulator, job, lines)
        await until(lambda: made.answered >= PEOPLE)
        yield made


def below_root(rt: Runtime) -> list[str]:
    """The names of all actors but the root, orphans of a dead supervisor included."""

    def walk(actors: Iterable[ActorSnapshot]) -> Iterator[str]:
        for actor in actors:
            yield str(actor.statistics.name)
            yield from walk(actor.children)

    return sorted(set(walk(system(rt).snapshot().actors)) - {"root"})


async def is_held(rt: Runtime) -> Counter[str]:
    """What is out: permits, leases, holds, and settlements not on disk."""
    running = tree(rt)
    held = Counter(holds=(await running.ledger.call(GetSpend())).open_holds, outbox=not running.outbox.empty)
    for provider in PROVIDERS:
        line = await running.lines.ensure(provider)
        held["permits"] += (await line.limiter.call(GetLimiterStatus())).in_flight + len(
            line.allowance.permits
        )
        held["leases"] += (await line.pool.call(GetPoolStatus())).leases
    return held


class Monkey:
    """Kills one actor at a time, whatever it is doing, itself starting or stopping included."""

    def __init__(self, rt: Runtime, seed: int) -> None:
        self._rt = rt
        self._random = random.Random(seed)
        self._left = self._pause = 0
        self._done = asyncio.Event()
        self.kills: Counter[str] = Counter()

    def strike(self) -> None:
        victim = self._random.choice(below_root(self._rt))
        self.kills[victim] += 1
        system(self._rt).kill(named(self._rt, victim))

    def _strike_in(self, turns: int) -> None:
        loop = asyncio.get_running_loop()
        if turns:
            loop.call_soon(self._strike_in, turns - 1)
        else:
            loop.call_soon(self.strike)

    async def strike_when_calls_end(self, times: int, calls: int) -> None:
        """Strike so often, about `calls` calls apart, within a few turns of the loop after one has ended.

        By then mailboxes hold what it means for them: of the limiter and pool first, then the ledger, then the store.
        """
        flow = tree(self._rt).flow
        tell = flow._tell  # pyright: ignore[reportPrivateUsage] - the one place where the runtime says what happens
        self._left = times

        def told(event: Event) -> None:
            tell(event)
            self._pause -= 1
            if self._left and self._pause <= 0:
                self._left -= 1
                self._pause = self._random.randrange(1, 2 * calls)
                self._strike_in(self._random.randrange(5))
            elif not self._left:
                self._done.set()

        tell = hear(self._rt, told)
        await self._done.wait()
        hear(self._rt, tell)


async def check_tree(rt: Runtime, whole: set[str]) -> None:
    """Everybody who was there is there again, but for the job's actor if it is done."""
    for branch in ("root", "providers", "batches", *(f"provider:{name}" for name in PROVIDERS)):
        while any(info.state != "running" for info in await named(rt, branch).call(WhichChildren())):  # noqa: ASYNC110 - as `until`
            await asyncio.sleep(0)
    missing = whole - set(below_root(rt))
    assert all(name.startswith("batch:") for name in missing), missing


async def check(folder: Path, under: Load) -> None:
    """What must hold once the monkey is gone and the load is over."""
    lines = under.lines
    last = await under.job.wait()
    assert (last.state, last.ok, last.failed, last.total) == ("done", lines, 0, lines)
    assert (last.in_flight, last.resumed) == (0, 0)
    assert set(under.failed) <= RETRYABLE
    out = await anyio.to_thread.run_sync((folder / "out.jsonl").read_bytes)
    ids = [json.loads(line)["custom_id"] for line in out.splitlines()]
    assert len(ids) == lines
    assert set(ids) == {f"id-{n}" for n in range(lines)}
    assert await anyio.to_thread.run_sync(stored_ids, database(folder)) == set(ids)
    assert await anyio.to_thread.run_sync(stored_results, database(folder)) == out
    while (await is_held(under.rt)).total():  # noqa: ASYNC110 - the last settlements have no event to offer
        await asyncio.sleep(0)
    assert system(under.rt).snapshot().statistics.zombies_seen == 0
    ok = await anyio.to_thread.run_sync(check_charges, database(folder), under.simulator.journal)
    # An answer that a batch actor took with it when it died is asked for again; no other is.
    assert ok >= lines + under.answered


def check_log(caplog: pytest.LogCaptureFixture, monkey: Monkey) -> None:
    """Of everybody who was killed a restart is told, of itself or of a supervisor above."""
    said = [record.message for record in caplog.records if record.name == "greenroom.actors"]
    assert sum(" restarts " in message for message in said) >= monkey.kills.total() // 2
    for victim in ("store", "catalog", "ledger", "providers", "batches"):
        assert any(message.startswith(f"root restarts {victim!r}") for message in said) == (
            monkey.kills[victim] > 0
        )


async def test_a_hundred_kills_lose_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The short form, driven by what happens."""
    lines, kills, seed = 2_000, 120, 7
    caplog.set_level(logging.WARNING, "greenroom.actors")
    async with asyncio.timeout(50), load(tmp_path, lines=lines, latency="20ms", seed=seed) as under:
        whole = set(below_root(under.rt))
        monkey = Monkey(under.rt, seed)
        await monkey.strike_when_calls_end(kills, lines // kills)
        await check_tree(under.rt, whole)
        await under.enough()
        await check(tmp_path, under)
    check_log(caplog, monkey)


@pytest.mark.soak
@pytest.mark.timeout(300)
async def test_ten_kills_a_second_for_a_minute_lose_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The promise to the letter."""
    kills_per_s, duration_s, seed = 10, 60, random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    caplog.set_level(logging.WARNING, "greenroom.actors")
    clock = Clock()
    async with load(tmp_path, lines=8_000, latency="lognormal(p50=0.1,p95=0.3)", seed=seed) as under:
        whole = set(below_root(under.rt))
        monkey = Monkey(under.rt, seed)
        until_s = clock.monotonic() + duration_s
        while clock.monotonic() < until_s:
            monkey.strike()
            await clock.sleep(1 / kills_per_s)
        async with asyncio.timeout(1.0):
            await check_tree(under.rt, whole)
        await under.enough()
        await check(tmp_path, under)
    check_log(caplog, monkey)
    print(f"{monkey.kills}, {under.answered} chats answered, failed {under.failed}")  # noqa: T201
