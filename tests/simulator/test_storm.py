"""Every fault on every wire at once, and clients that leave: afterwards nothing is left open and everything is noted."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from tests.simulator.conftest import Client
from tests.simulator.speakers import SPEAKERS, Speaker

from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.simulator.traffic.faults import WIRE_FAULTS

REQUESTS = 800
pytestmark = pytest.mark.anyio
ORDER = ",".join([*[f"{fault}:0.06" for fault in WIRE_FAULTS], "429:0.05", "500:0.05", "503:0.05"])


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting needs no paths


async def test_a_storm_leaves_nothing_behind(
    until: Callable[[Callable[[], object]], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    settings = SimulatorSettings(seed=3, faults=ORDER, latency="uniform(0,0.05)+per_token(1ms)")
    before = (await asyncio.to_thread(open_files), len(asyncio.all_tasks()))
    async with Simulator(settings) as simulator:
        # Whoever stalls, drips or hangs is left by its client, some of the healthy ones too.
        timeout = aiohttp.ClientTimeout(total=0.4)
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            client = Client(session, simulator)

            async def ask(number: int, speaker: Speaker) -> None:
                prompt = f"Say something about {number}."
                await speaker.send(client, prompt, model="smart", stream=number % 2 == 0)

            asking = [ask(number, SPEAKERS[number % 4]) for number in range(REQUESTS)]
            ended = await asyncio.gather(*asking, return_exceptions=True)
        await until(lambda: simulator.statistics().in_flight == 0)
        told = simulator.statistics()
    failures = {type(error) for error in ended if error is not None}
    assert failures
    assert all(issubclass(kind, (aiohttp.ClientError, TimeoutError)) for kind in failures)
    assert set(told.faults) == {*WIRE_FAULTS, "429", "500", "503"}
    assert told.journal_entries == told.requests == sum(told.by_status.values())
    assert sum(told.faults.values()) + told.by_status["200"] >= REQUESTS
    assert caplog.records == []
    assert (await asyncio.to_thread(open_files), len(asyncio.all_tasks())) == before
