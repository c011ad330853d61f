"""A batch job of many lines: wall time against the loop that people write, and memory against the input's size.

The loop: aiohttp as it comes, a semaphore, `json`, each answer appended to a JSONL file; nothing durable, no retries, no
costs. greenroom: every result and every ledger row on disk before it counts, resumable after `kill -9`.

    python -m benchmarks batch [--rounds 5] [--lines 20000] [--in-flight 512] [--megabytes 100] [--json]
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp

from benchmarks._harness import (
    Result,
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

_LATENCY = "50ms"
_PROMPT = "Classify as one of: billing, bug, feature request. Ticket {}: the export button does nothing since Tuesday."


def write_input(path: Path, lines: int, padding: int = 0) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            prompt = _PROMPT.format(number) + " please" * (padding // 7)
            file.write(json.dumps({"custom_id": f"t-{number}", "prompt": prompt}) + "\n")


async def plain_loop(base_url: str, source: Path, out: Path, in_flight: int) -> None:
    settle_memory()
    semaphore = asyncio.Semaphore(in_flight)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:
        with out.open("w", encoding="utf-8") as file:

            async def one(line: dict[str, str]) -> None:
                async with semaphore:
                    body = {"model": "fast", "messages": [{"role": "user", "content": line["prompt"]}]}
                    async with session.post(f"{base_url}/chat/completions", json=body) as response:
                        answer = await response.json()
                file.write(json.dumps({"custom_id": line["custom_id"], "response": answer}) + "\n")

            with source.open(encoding="utf-8") as lines:
                await asyncio.gather(*(one(json.loads(line)) for line in lines))


async def greenroom(base_url: str, source: Path, folder: Path, in_flight: int) -> None:
    settings = Settings(
        providers={"sim": simulator(base_url)},
        storage=StorageSettings(url=f"sqlite:///{folder / 'bench.db'}"),
    )
    async with Runtime(settings) as runtime:
        settle_memory()
        job = await runtime.batch(source, out=folder / "out.jsonl", concurrency=in_flight)
        last = await job.wait()
        assert last.state == "done", last
        assert not last.failed, last


def timed_round(base_url: str, source: Path, in_flight: int) -> dict[str, tuple[float, float]]:
    """Wall and CPU seconds of each contender."""
    figures: dict[str, tuple[float, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for contender, work in (
            ("plain aiohttp loop", plain_loop(base_url, source, folder / "plain.jsonl", in_flight)),
            ("greenroom", greenroom(base_url, source, folder, in_flight)),
        ):
            wall, cpu = time.perf_counter(), time.process_time()
            asyncio.run(work)
            figures[contender] = time.perf_counter() - wall, time.process_time() - cpu
    return figures


def peak_memory_mb(base_url: str, megabytes: int, in_flight: int) -> float:
    """Peak resident memory of `greenroom run` over an input of so many megabytes, in a process of its own."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_input(folder / "big.jsonl", megabytes * 100, padding=10_000)
        (folder / "greenroom.toml").write_text(
            f'[storage]\nurl = "sqlite:///{folder / "big.db"}"\n'
            f'[providers.sim]\nbase_url = "{base_url}"\nfree = true\ndefault_model = "fast"\n'
        )
        command = [sys.executable, "-m", "greenroom.runtime.cli", "run", "big.jsonl", "-c", str(in_flight)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        return max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks batch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=512)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    core, other = two_cores()
    before = os.sched_getaffinity(0)
    rounds: list[dict[str, tuple[float, float]]] = []
    with tempfile.TemporaryDirectory() as name:
        source = Path(name) / "lines.jsonl"
        write_input(source, options.lines)
        pin({core})
        with upstream("--latency", _LATENCY, core=other) as server:
            rounds.extend(
                timed_round(server.base_url, source, options.in_flight) for _ in range(options.rounds)
            )
        with upstream(core=other) as server:
            memory_mb = peak_memory_mb(server.base_url, options.megabytes, 64)
        pin(before)
    wall = {name: [figures[name][0] for figures in rounds] for name in rounds[0]}
    cpu = {name: [figures[name][1] for figures in rounds] for name in rounds[0]}
    value, least, largest = spread(ratios(wall["greenroom"], wall["plain aiohttp loop"]))
    results = [
        Result(
            id="S10",
            what=f"wall of {options.lines} lines at {_LATENCY}, {options.in_flight} in flight, against the plain loop",
            value=value,
            unit="x",
            target=1.2,
            better="lower",
            min=least,
            max=largest,
            against={f"{name}, wall s": spread(values)[0] for name, values in wall.items()}
            | {f"{name}, CPU s": spread(values)[0] for name, values in cpu.items()},
        ),
        Result(
            id="S10m",
            what=f"peak memory of `greenroom run` over {options.megabytes} MB of input",
            value=memory_mb,
            unit="MB",
            target=150.0,
            better="lower",
            min=memory_mb,
            max=memory_mb,
        ),
    ]
    compared = versions("greenroom", "aiohttp", "msgspec", "sqlalchemy")
    return report("batch", results, compared, as_json=options.json)
