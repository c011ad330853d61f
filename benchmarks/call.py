"""One unified chat call through everything (resolve, hold, admit, lease, retry owner, settle on disk), in CPU time.

Beside it, in the same run and round by round: the same exchange with aiohttp and a typed msgspec decode and nothing
else, once tuned (prepared URL, session headers, pre-encoded body, no cookie jar) and once as aiohttp comes.

    python -m benchmarks call [--rounds 7] [--calls 2000] [--in-flight 64] [--json]
"""

import argparse
import asyncio
import os
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
from yarl import URL

from benchmarks._harness import (
    Result,
    cpu_us,
    pin,
    ratios,
    report,
    settle_memory,
    spread,
    two_cores,
    upstream,
    versions,
)
from greenroom.actors.providers.hosts import simulator
from greenroom.actors.settings import Settings, StorageSettings
from greenroom.runtime import Runtime

One = Callable[[int], Awaitable[object]]
_PROMPT = "Say in about a hundred words why the sky is blue, and what it has to do with the colour of the setting sun."


class _Message(msgspec.Struct, gc=False):
    content: str


class _Choice(msgspec.Struct, gc=False):
    message: _Message
    finish_reason: str


class _Usage(msgspec.Struct, gc=False):
    prompt_tokens: int
    completion_tokens: int


class _Answer(msgspec.Struct, gc=False):
    id: str
    choices: list[_Choice]
    usage: _Usage


_decode = msgspec.json.Decoder(_Answer).decode
_BODY = msgspec.json.encode(
    {"model": "fast", "messages": [{"role": "user", "content": _PROMPT}], "max_tokens": 200}
)


def tuned(session: aiohttp.ClientSession, base_url: str) -> One:
    url = URL(f"{base_url}/chat/completions", encoded=True)

    async def one(_: int) -> object:
        async with session.post(url, data=_BODY) as response:
            return _decode(await response.read())

    return one


def as_it_comes(session: aiohttp.ClientSession, base_url: str) -> One:
    async def one(_: int) -> object:
        body = {"model": "fast", "messages": [{"role": "user", "content": _PROMPT}], "max_tokens": 200}
        async with session.post(f"{base_url}/chat/completions", json=body) as response:
            return _decode(await response.read())

    return one


def greenroom(runtime: Runtime) -> One:
    async def one(_: int) -> object:
        return await runtime.chat("sim/fast", _PROMPT, max_tokens=200)

    return one


async def measure(base_url: str, rounds: int, calls: int, in_flight: int) -> dict[str, list[float]]:
    figures: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        settings = Settings(
            providers={"sim": simulator(base_url)},
            storage=StorageSettings(url=f"sqlite:///{Path(folder) / 'bench.db'}"),
        )
        async with (
            aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Content-Type": "application/json", "Accept": "application/json"},
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                auto_decompress=False,
            ) as lean,
            aiohttp.ClientSession() as plain,
            Runtime(settings) as runtime,
        ):
            contenders = {
                "bare tuned": tuned(lean, base_url),
                "bare aiohttp": as_it_comes(plain, base_url),
                "greenroom": greenroom(runtime),
            }
            for one in contenders.values():
                await cpu_us(calls // 4, in_flight, one)
            settle_memory()
            for _ in range(rounds):
                for name, one in contenders.items():
                    figures.setdefault(name, []).append(await cpu_us(calls, in_flight, one))
    return figures


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks call", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--in-flight", type=int, default=64)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    core, other = two_cores()
    before = os.sched_getaffinity(0)
    pin({core})
    with upstream(core=other) as base_url:
        figures = asyncio.run(measure(base_url, options.rounds, options.calls, options.in_flight))
    pin(before)
    value, least, largest = spread(ratios(figures["greenroom"], figures["bare tuned"]))
    result = Result(
        id="S6",
        what=f"CPU of one call through everything, against bare tuned aiohttp, {options.in_flight} in flight",
        value=value,
        unit="x",
        target=1.7,
        better="lower",
        min=least,
        max=largest,
        against={f"{name}, us of CPU a call": spread(values)[0] for name, values in figures.items()},
    )
    compared = versions("greenroom", "aiohttp", "msgspec", "sqlalchemy")
    return report("call", [result], compared, as_json=options.json)
