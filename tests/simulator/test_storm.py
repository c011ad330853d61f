"""Every fault on every wire at once, and clients that leave: afterwards nothing is left open and everything is noted."""

import asyncio
import os
from collections.abc import Awaitable, Callable

import aiohttp
import pytest
from tests.simulator.conftest import Client
from tests.simulator.speakers import SPEAKERS

from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.simulator.traffic.faults import WIRE_FAULTS

REQUESTS = 800
# Those that only end when their client leaves.
STUCK = {"stall", "hang", "keepalive", "endless", "drip"}
pytestmark = pytest.mark.anyio
ORDER = ",".join([*[f"{fault}:0.06" for fault in WIRE_FAULTS], "429:0.05", "500:0.05", "503:0.05"])


def only_stuck_ones_are_left(simulator: Simulator) -> bool:
    stuck = sum(entry.fault in STUCK for entry in simulator.journal)
    told = simulator.statistics()
    return told.journal_entries == REQUESTS and told.in_flight <= stuck


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - counting needs no paths


async def test_a_storm_leaves_nothing_behind(
    until: Callable[[Callable[[], object]], Awaitable[None]], caplog: pytest.LogCaptureFixture
) -> None:
    settings = SimulatorSettings(seed=3, faults=ORDER, latency="uniform(0,0.05)+per_token(1ms)")
    before = (await asyncio.to_thread(open_files), len(asyncio.all_tasks()))
    async with Simulator(settings) as simulator:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:
            client = Client(session, simulator)
            asking = [
                asyncio.create_task(
                    SPEAKERS[number % len(SPEAKERS)].send(
                        client, f"Say something about {number}.", model="smart", stream=number % 2 == 0
                    )
                )
                for number in range(REQUESTS)
            ]
            await until(lambda: simulator.statistics().requests == REQUESTS)
            # Some leave whatever they get, in the middle of it or before.
            for task in asking[::7]:
                task.cancel()
            await until(lambda: all(task.done() for task in asking) or only_stuck_ones_are_left(simulator))
            for task in asking:
                task.cancel()
            ended = await asyncio.gather(*asking, return_exceptions=True)
        await until(lambda: simulator.statistics().in_flight == 0)
        told = simulator.statistics()
    failures = {type(error) for error in ended if isinstance(error, BaseException)}
    assert failures
    assert all(issubclass(kind, (aiohttp.ClientError, asyncio.CancelledError)) for kind in failures)
    assert set(told.faults) == {*WIRE_FAULTS, "429", "500", "503"}
    assert told.journal_entries == told.requests == sum(told.by_status.values())
    assert {"0", "200", "429", "500", "503"} == set(told.by_status)
    assert caplog.records == []
    assert (await asyncio.to_thread(open_files), len(asyncio.all_tasks())) == before
