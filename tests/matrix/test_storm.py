"""A bad day of all providers at once: what is told is true, nobody is told twice, and nothing is kept."""

import asyncio
import random
from collections import Counter
from pathlib import Path

import pytest
from msgspec import structs
from tests.inside import given_back
from tests.matrix.providers import PROVIDERS, settings_of

from greenroom.actors.settings import Retries, Stalls
from greenroom.runtime import Finished, ProviderError, ProviderFailed, Runtime, TextDelta
from greenroom.runtime.testing import HastyClock, Simulator, SimulatorSettings

pytestmark = pytest.mark.anyio
FAULTS = "429:0.05,500:0.05,drop:0.05,truncate:0.1,end_early:0.05,garbage:0.05,stall:0.03"
CALLS = 40
"""Of each provider."""


async def test_r11_a_storm_over_every_wire_leaves_nothing_behind(tmp_path: Path) -> None:
    simulator = Simulator(SimulatorSettings(seed=11, faults=FAULTS, shutdown_grace_s=0.001))
    async with simulator:
        settings = settings_of(simulator.url, tmp_path, retries=Retries(attempts=3))
        stalls = Stalls(gap_s=0.2)
        rows = {name: structs.replace(row, stalls=stalls) for name, row in settings.providers.items()}
        settings = structs.replace(settings, providers=rows)
        dice = random.Random(11)
        async with Runtime(settings, environ={}, clock=HastyClock()) as rt:
            tasks = [
                asyncio.create_task(ask(rt, provider, number, streamed=number % 2 == 0))
                for number in range(CALLS)
                for provider in PROVIDERS
            ]
            for task in dice.sample(tasks, len(tasks) // 10):
                asyncio.get_running_loop().call_later(dice.random() / 2, task.cancel)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for provider in PROVIDERS:
                await given_back(rt, provider)
    cancelled = [outcome for outcome in outcomes if isinstance(outcome, asyncio.CancelledError)]
    said = Counter(outcome for outcome in outcomes if outcome not in cancelled)
    assert set(said) <= {"answered", "rate_limited", "server", "connection", "protocol", "stalled"}, said
    assert said["answered"]
    assert said["connection"]


async def ask(rt: Runtime, provider: str, number: int, *, streamed: bool) -> str:
    """What came of a question; whatever was told must be true."""
    prompt = f"{number} at {provider}: {'Grüß 世界 ' * 20}"
    try:
        if not streamed:
            assert (await rt.chat(f"{provider}/echo", prompt, max_tokens=500)).text == prompt
            return "answered"
        return await listen(rt, provider, prompt)
    except ProviderFailed as failed:
        return failed.error.kind


async def listen(rt: Runtime, provider: str, prompt: str) -> str:
    text, ends = "", 0
    try:
        async with rt.stream(f"{provider}/echo", prompt, max_tokens=500) as events:
            async for event in events:
                text += event.text if isinstance(event, TextDelta) else ""
                ends += isinstance(event, Finished | ProviderError)
                assert prompt.startswith(text)
    finally:
        assert ends <= 1
    assert (text, ends) == (prompt, 1)
    return "answered"
