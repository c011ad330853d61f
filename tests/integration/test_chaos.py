"""Everything that can go wrong at once: servers that fail in every way, callers who leave, actors that are killed.

Whatever becomes of single calls, all that was granted is given back: permits, leases, holds, sockets, files (promises R5
and R11). The short forms are driven by what happens, never by time.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import pytest
from msgspec import structs
from tests.inside import database, given_back, settings, system, tree, until
from tests.integration.evidence import ledger
from tests.integration.test_monkey import SUPERVISION, Monkey

from greenroom.actors.call import Terms
from greenroom.actors.events import ProviderFailed
from greenroom.actors.kernel import Clock, Refused
from greenroom.actors.providers import ChatRequest, Message
from greenroom.actors.settings import BreakerSettings, Limits, Retries, Settings, Stalls
from greenroom.runtime import Runtime
from greenroom.runtime.simulator import Simulator, SimulatorSettings

pytestmark = pytest.mark.anyio
PROVIDERS = ("acme", "other")
# A dripping server is never silent: only the end of the call ends it.
SHORT_TEMPER = Stalls(connect_s=3.0, first_byte_s=1.0, first_byte_streamed_s=1.0, gap_s=1.0, total_s=3.0)
QUICK = Retries(attempts=3, backoff_base_s=0.01, backoff_max_s=0.05, max_retry_after_s=0.1)
ALL_FAULTS = (
    "429:0.05,500:0.04,503:0.04,drop:0.03,truncate:0.03,end_early:0.03,no_done:0.03,garbage:0.03,"
    "stall:0.02,hang:0.02,keepalive:0.02,drip:0.02"
)
HEDGED = Terms(hedge=0.02)
WITH_FALLBACK = Terms(fallbacks=("other/fast",))


def configured(simulator: Simulator, folder: Path, in_flight: int) -> Settings:
    made = settings(
        simulator.openai_base_url,
        folder,
        limits=Limits(concurrency=max(2, in_flight // 3)),
        stalls=SHORT_TEMPER,
        retries=QUICK,
    )
    # Where a machine is slow, timeouts would have a breaker send everybody away, and nothing would be tried.
    acme = structs.replace(made.providers["acme"], breaker=BreakerSettings(failures=1_000_000))
    providers = dict.fromkeys(PROVIDERS, acme)
    return structs.replace(made, providers=providers, supervision=SUPERVISION)


class Crowd:
    """So many callers at once, who ask in every way there is; whenever one is done, another may be cancelled.

    Attributes:
        ended: how calls ended: `ok`, `cancelled`, an error kind, or the name of a refusal.
    """

    def __init__(self, rt: Runtime, seed: int, *, cancel_share: float) -> None:
        self.rt = rt
        self.ended: Counter[str] = Counter()
        self._random = random.Random(seed)
        self._cancel_share = cancel_share
        self._living: list[asyncio.Task[None]] = []
        self._ways: tuple[Callable[[ChatRequest], Awaitable[object]], ...] = (
            self._whole, self._with_fallback, self._hedged, self._put_together, self._streamed, self._left_early,
        )  # fmt: skip

    async def ask(self, calls: int, in_flight: int, on_end: Callable[[int], None] | None = None) -> None:
        """Ask so often; `on_end` is told the number of each call that has ended."""
        numbers = iter(range(calls))

        async def caller() -> None:
            for number in numbers:
                await self._one(number)
                if on_end is not None:
                    on_end(number)
                if self._living and self._random.random() < self._cancel_share:
                    self._random.choice(self._living).cancel()

        async with asyncio.TaskGroup() as callers:
            for _ in range(in_flight):
                callers.create_task(caller())

    async def _one(self, number: int) -> None:
        request = ChatRequest(
            model=f"{self._random.choice(PROVIDERS)}/fast",
            messages=(Message("user", f"call {number}"),),
            max_tokens=30,
        )
        task = asyncio.create_task(self._noted(self._random.choice(self._ways), request))
        self._living.append(task)
        if self._random.random() < self._cancel_share / 2:
            for _ in range(self._random.randrange(30)):  # while it is being held, admitted, sent
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait({task})
        self._living.remove(task)
        if task.cancelled():
            self.ended["cancelled"] += 1
        else:
            task.result()

    async def _noted(self, ask: Callable[[ChatRequest], Awaitable[object]], request: ChatRequest) -> None:
        try:
            await ask(request)
        except ProviderFailed as failure:
            self.ended[failure.error.kind] += 1
        except Refused as refused:
            self.ended[type(refused).__name__] += 1
        else:
            self.ended["ok"] += 1

    async def _whole(self, request: ChatRequest) -> object:
        return await tree(self.rt).flow.chat(request)

    async def _with_fallback(self, request: ChatRequest) -> object:
        return await tree(self.rt).flow.chat(structs.replace(request, model="acme/fast"), WITH_FALLBACK)

    async def _hedged(self, request: ChatRequest) -> object:
        return await tree(self.rt).flow.chat(request, HEDGED)

    async def _put_together(self, request: ChatRequest) -> object:
        return await tree(self.rt).flow.chat(request, streamed=True)

    async def _streamed(self, request: ChatRequest) -> object:
        async with tree(self.rt).flow.stream(request) as events:
            return await events.finish()

    async def _left_early(self, request: ChatRequest) -> None:
        async with tree(self.rt).flow.stream(request) as events:
            for _ in range(self._random.randrange(6)):
                if await anext(events, None) is None:
                    break


@asynccontextmanager
async def crowd(
    folder: Path, *, seed: int, faults: str, cancel_share: float, in_flight: int
) -> AsyncGenerator[tuple[Crowd, Simulator]]:
    """A crowd; and when it has gone, nothing may be left of it."""
    simulated = SimulatorSettings(
        seed=seed, faults=faults, fault_retry_after_s=0.02, latency="uniform(0,0.01)", shutdown_grace_s=0.01
    )
    files_before, tasks_before = await anyio.to_thread.run_sync(open_files), len(asyncio.all_tasks())
    async with (
        Simulator(simulated) as simulator,
        Runtime(configured(simulator, folder, in_flight), environ={}) as rt,
    ):
        yield Crowd(rt, seed, cancel_share=cancel_share), simulator
        for provider in PROVIDERS:
            await given_back(rt, provider)
        await until(lambda: simulator.statistics().in_flight == 0)
        flow = tree(rt).flow
        assert not flow._living  # pyright: ignore[reportPrivateUsage] - what only a flow knows
        assert not flow._streams  # pyright: ignore[reportPrivateUsage] - as above
        assert system(rt).snapshot().statistics.zombies_seen == 0
        for provider in PROVIDERS:
            assert not (await tree(rt).lines.ensure(provider)).allowance.waiting
    await until(lambda: len(asyncio.all_tasks()) <= tasks_before)
    await files_are(files_before)
    rows = await anyio.to_thread.run_sync(ledger, database(folder))
    assert {row.state for row in rows} == {"settled"}
    assert len({(row.call_id, row.number) for row in rows}) == len(rows)
    assert all(row.cost_pusd <= row.held_pusd for row in rows)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting needs no paths


async def files_are(count: int) -> None:
    """Wait until no more files are open than that: closed sockets and databases have no event to offer."""
    while await anyio.to_thread.run_sync(open_files) > count:  # noqa: ASYNC110 - see above
        await asyncio.sleep(0)


async def test_r5_cancelled_a_thousand_times_at_random_moments(tmp_path: Path) -> None:
    async with crowd(tmp_path, seed=5, faults="500:0.05", cancel_share=0.6, in_flight=40) as (people, _):
        while people.ended["cancelled"] < 1000:
            await people.ask(400, 40)
    assert people.ended["ok"], "nobody was fast enough: the moments tell nothing"


async def test_r11_faults_cancels_and_kills_leave_nothing_behind(tmp_path: Path) -> None:
    """The short form."""
    async with crowd(tmp_path, seed=11, faults=ALL_FAULTS, cancel_share=0.2, in_flight=60) as (people, _):
        monkey = Monkey(people.rt, 11)

        def on_end(number: int) -> None:
            if number % 25 == 0:
                monkey.strike()

        await people.ask(1_000, 60, on_end)
    assert monkey.kills.total() >= 30
    assert people.ended["ok"]
    assert len(set(people.ended)) > 2, "too little went wrong"


@pytest.mark.soak
@pytest.mark.timeout(900)
async def test_r11_five_minutes_of_chaos_at_500_in_flight(tmp_path: Path) -> None:
    """The promise to the letter; memory is flat once the first minute has warmed it up."""
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when it fails
    clock = Clock()
    began_s = clock.monotonic()
    resident_mb: list[float] = []
    async with crowd(tmp_path, seed=seed, faults=ALL_FAULTS, cancel_share=0.2, in_flight=500) as (people, _):
        monkey = Monkey(people.rt, seed)

        def on_end(number: int) -> None:
            if number % 100 == 0:
                monkey.strike()

        while clock.monotonic() - began_s < 300:
            await people.ask(5_000, 500, on_end)
            resident_mb.append(await anyio.to_thread.run_sync(resident))
    warm = resident_mb[len(resident_mb) // 5]
    print(f"{people.ended}, {monkey.kills.total()} kills, {warm:.0f} to {resident_mb[-1]:.0f} MB")  # noqa: T201
    assert resident_mb[-1] < warm * 1.1


def resident() -> float:
    """Megabytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
