"""Acknowledged means durable: a process that talks, really killed after an acknowledged turn, and another that goes on."""

import itertools
import random
import signal
import subprocess
import sys
from pathlib import Path

import anyio.to_thread
import msgspec
import pytest

from greenroom.runtime import Runtime
from greenroom.runtime.testing import ScriptedProvider

pytestmark = pytest.mark.anyio

_TALKS_UNTIL_KILLED = """
import asyncio, sys
from msgspec import json
from greenroom.runtime import Runtime, Settings

async def main():
    async with Runtime(json.decode(sys.argv[1], type=Settings), environ={}) as rt:
        session = await rt.session("user-42", system="Be brief.")
        while True:
            said = len(await session.history()) // 2
            await session.say(f"question {said}")
            print(said, flush=True)

asyncio.run(main())
"""


def talk_and_be_killed(settings: bytes, acknowledged: int) -> int:
    """Have a process talk, kill it once it was told of so many turns; the number of the last one it was told of."""
    command = [sys.executable, "-c", _TALKS_UNTIL_KILLED, settings.decode()]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = list(itertools.islice(process.stdout, acknowledged))
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    return int([line for line in told if line.endswith(b"\n")][-1])


@pytest.mark.parametrize("seed", [1, 2])
async def test_R7_every_acknowledged_turn_survives_a_kill(tmp_path: Path, seed: int) -> None:  # noqa: N802 - a promise's number
    dice = random.Random(seed)
    async with ScriptedProvider(then=lambda asked: f"answer to {asked.prompt}") as provider:
        settings = provider.settings(tmp_path)
        last = -1
        for _ in range(4):
            before = last
            last = await anyio.to_thread.run_sync(
                talk_and_be_killed, msgspec.json.encode(settings), dice.randint(1, 12)
            )
            assert last > before
        async with Runtime(settings, environ={}) as rt:
            session = await rt.session("user-42")
            history = [message.content for message in await session.history()]
            status = await session.status()
    # One more may have been recorded whose acknowledgement nobody lived to hear.
    assert last + 1 <= len(history) / 2 <= last + 2
    expected = [[f"question {n}", f"answer to question {n}"] for n in range(len(history) // 2)]
    assert history == [text for turn in expected for text in turn]
    assert status.totals.turns == len(history) // 2
    assert status.settings.system == "Be brief."
