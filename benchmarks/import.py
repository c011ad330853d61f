# ruff: noqa: N999 - it is named by what the command line says
"""How long `from greenroom.runtime import Runtime` takes (S12), beside what others take to be ready for a first call.

Each import has an interpreter of its own that has done nothing else, round by round; the first round, which fills the disk's
cache, does not count. Seconds are of CPU, which other programs do not lengthen. What is not installed is said and left out.

    python -m benchmarks import [--rounds 9] [--json]
"""

import argparse
import os
import subprocess
import sys

from benchmarks._contenders import OURS, Lacking, add_python_option, leave_out
from benchmarks._harness import Result, environment, report, two_cores, versions

_WANTED = {
    OURS: ("from greenroom.runtime import Runtime", "greenroom"),
    "openai SDK": ("from openai import AsyncOpenAI", "openai"),
    "litellm": ("import litellm", "litellm"),
    "any-llm": ("from any_llm import acompletion", "any-llm-sdk"),
    "pydantic-ai": ("from pydantic_ai import Agent", "pydantic-ai-slim"),
}
_PROGRAM = "import time; began_s = time.process_time(); {}; print(time.process_time() - began_s)"
_TIMEOUT_S = 60.0


def import_s(statement: str, python: str, core: int) -> float:
    """CPU seconds that a statement takes in an interpreter of its own.

    Raises:
        Lacking: it fails there.
    """
    command = [python, "-c", _PROGRAM.format(statement)]
    quiet = environment() | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}  # else it asks the network
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet
    ) as process:
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(process.pid, {core})
        told, errors = process.communicate(timeout=_TIMEOUT_S)
    if process.returncode:
        raise Lacking(errors.strip().splitlines()[-1])
    return float(told.splitlines()[-1])


def measure(rounds: int, pythons: dict[str, str], lacks: dict[str, str]) -> dict[str, list[float]]:
    core, _ = two_cores()
    figures: dict[str, list[float]] = {name: [] for name in _WANTED}
    for turn in range(-1, rounds):
        for name in tuple(figures):
            try:
                took_s = import_s(_WANTED[name][0], pythons.get(name, sys.executable), core)
            except Lacking as why:
                leave_out(name, why, lacks)
                del figures[name]
                continue
            if turn >= 0:
                figures[name].append(took_s)
    return figures


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks import", description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    add_python_option(parser)
    options = parser.parse_args(argv)
    lacks: dict[str, str] = {}
    figures = measure(options.rounds, dict(options.python), lacks)
    others = {f"{name}, s": Result.of("", name, took, "s").value for name, took in figures.items()}
    others.pop(f"{OURS}, s")
    results = [
        Result.of(
            "S12",
            "from greenroom.runtime import Runtime",
            figures[OURS],
            "s",
            target=0.25,
            better="lower",
            against=others,
        )
    ]
    compared = versions(*(package for name, (_, package) in _WANTED.items() if name in figures))
    return report("import", results, compared, as_json=options.json, lacks=lacks)
