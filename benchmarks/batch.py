"""A batch job of many lines: wall time against what people use, and memory against the input's size.

The loop: aiohttp as it comes, a semaphore, `json`, each answer appended to a JSONL file; nothing durable, no retries, no
costs. The same loop around the OpenAI SDK and around litellm. curator, which keeps its answers as greenroom does.
greenroom: every result and every ledger row on disk before it counts, resumable after `kill -9`. Each is a process of its own on
one core; the upstream answers from memory after 50 ms, on another core, and its ceiling is told. The slow ones get fewer rounds.

    python -m benchmarks batch [--rounds 5] [--slow-rounds 1] [--lines 20000] [--in-flight 512] [--megabytes 100] [--json]

curator asks for older releases than the others and goes into an environment of its own: `--python curator=PATH`, the path of its
interpreter.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks._contenders import (
    OURS,
    Contender,
    Lacking,
    Rounds,
    add_python_option,
    column,
    leave_out,
    medians,
    started,
)
from benchmarks._harness import Result, Upstream, canned_upstream, environment, pin, ratios, report, two_cores

_PROMPT = "Classify as one of: billing, bug, feature request. Ticket {}: the export button does nothing since Tuesday."
_PLAIN, _CURATOR = "plain aiohttp loop", "curator"
_JOBS = (
    (OURS, "greenroom"),
    (_PLAIN, "plain"),
    ("openai SDK loop", "openai"),
    ("litellm loop", "litellm"),
    (_CURATOR, "curator"),
)
_QUICK = (OURS, _PLAIN)


def write_input(path: Path, lines: int, padding: int = 0) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            prompt = _PROMPT.format(number) + " please" * (padding // 7)
            file.write(json.dumps({"custom_id": f"t-{number}", "prompt": prompt}) + "\n")


def measure(
    contenders: list[Contender], lines: int, rounds: int, slow_rounds: int, lacks: dict[str, str]
) -> Rounds:
    figures: Rounds = {}
    for turn in range(max(rounds, slow_rounds)):
        for one in tuple(contenders):
            if turn >= (rounds if one.name in _QUICK else slow_rounds):
                continue
            try:
                figures.setdefault(one.name, []).append(one.measure("job", lines))
            except Lacking as why:
                leave_out(one.name, why, lacks)
                contenders.remove(one)
                figures.pop(one.name, None)
    return figures


def ceiling(server: Upstream, before_s: float, answered: int) -> Result:
    each_s = (server.cpu_s() - before_s) / answered
    return Result.of("", "what the upstream could serve", [1 / each_s], "answers/s")


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
        with subprocess.Popen(
            command, cwd=folder, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as process:
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"greenroom run over {megabytes} MB ended with exit code {process.returncode}")
    return _megabytes(used)


def _megabytes(used: resource.struct_rusage) -> float:
    return used.ru_maxrss / (1024 * 1024 if sys.platform == "darwin" else 1024)


def results(figures: Rounds, options: argparse.Namespace, memory_mb: float) -> list[Result]:
    job = f"{options.lines} lines at 50 ms, {options.in_flight} in flight"
    ours = column(figures[OURS], "wall_s")
    found: list[Result] = []
    if _PLAIN in figures:
        values = ratios(ours, column(figures[_PLAIN], "wall_s"))
        what = f"wall of {job}, against the plain loop"
        found.append(Result.of("S10", what, values, "x", target=1.0, better="lower"))
    if _CURATOR in figures:
        theirs = column(figures[_CURATOR], "wall_s")
        values = ratios(theirs, ours[: len(theirs)])
        found.append(Result.of("S10", f"wall of {job}, faster than curator", values, "x", target=12.0))
    if found:
        for key, told in (("wall_s", "wall s"), ("cpu_s", "CPU s"), ("peak_mb", "peak MB")):
            found[0].against |= {f"{name}, {told}": value for name, value in medians(figures, key).items()}
    what = f"peak memory of `greenroom run` over {options.megabytes} MB of input"
    found.append(Result.of("S10m", what, [memory_mb], "MB", target=150.0, better="lower"))
    return found


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks batch", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--slow-rounds", type=int, default=1, help="of the SDK, litellm and curator")
    parser.add_argument("--lines", type=int, default=20_000)
    parser.add_argument("--in-flight", type=int, default=512)
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--json", action="store_true")
    add_python_option(parser)
    options = parser.parse_args(argv)
    core, other = two_cores()
    with tempfile.TemporaryDirectory() as name, canned_upstream(other) as server:
        source = Path(name) / "lines.jsonl"
        write_input(source, options.lines)
        modules = [
            (one, f"batch_jobs {job} {server.base_url}/slow/v1 {source} {options.in_flight}")
            for one, job in _JOBS
        ]
        with started(modules, core=core, pythons=options.python) as (contenders, lacks):
            compared = {one.name: one.version for one in contenders}
            before_s = server.cpu_s()
            figures = measure(contenders, options.lines, options.rounds, options.slow_rounds, lacks)
            answered = options.lines * sum(len(rounds) for rounds in figures.values())
            could = ceiling(server, before_s, answered)
    before = os.sched_getaffinity(0)
    pin({core})
    with canned_upstream(other) as server:
        memory_mb = peak_memory_mb(f"{server.base_url}/burst/v1", options.megabytes, 64)
    pin(before)
    found = [*results(figures, options, memory_mb), could]
    return report("batch", found, compared, as_json=options.json, lacks=lacks)
