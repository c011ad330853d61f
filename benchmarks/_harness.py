"""What the benchmarks share: an upstream on another core, interleaved rounds, CPU time, and one way to report."""

import json
import os
import platform
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

from msgspec import Struct, to_builtins


class Result(Struct, kw_only=True):
    """One figure: a promise's (`id` as in the list of promises) or one that stands beside it (`id` empty)."""

    id: str
    what: str
    value: float
    unit: str
    target: float | None
    better: Literal["higher", "lower"]
    min: float
    max: float
    against: dict[str, float] = {}

    @classmethod
    def of(
        cls,
        id_: str,
        what: str,
        values: list[float],
        unit: str,
        *,
        target: float | None = None,
        better: Literal["higher", "lower"] = "higher",
        against: dict[str, float] | None = None,
    ) -> "Result":
        """The median of the rounds' values, and their spread."""
        middle, least, most = spread(values)
        return cls(
            id=id_,
            what=what,
            value=middle,
            unit=unit,
            target=target,
            better=better,
            min=least,
            max=most,
            against=against or {},
        )

    @property
    def meets(self) -> bool | None:
        if self.target is None:
            return None
        return self.value >= self.target if self.better == "higher" else self.value <= self.target


def pin(cpus: set[int]) -> None:
    """Keep this process on these cores, where the system allows it."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cpus & os.sched_getaffinity(0) or os.sched_getaffinity(0))


def raise_open_files(wanted: int) -> int:
    """Let this process, and those that it starts, open so many files; returns how many they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return soft


def environment() -> dict[str, str]:
    """For child processes: compiled modules are kept, else each start compiles again, and its memory counts as theirs."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def two_cores() -> tuple[int, int]:
    """A core for what is measured and another for its upstream (the same one where there is only one)."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0, 0]
    return cores[0], cores[-1]


class Upstream(Struct):
    """A server in a process of its own."""

    base_url: str
    pid: int

    def cpu_s(self) -> float:
        """CPU seconds that it has used."""
        if sys.platform != "linux":
            return float("nan")
        return time.clock_gettime((~self.pid << 3) | 2)  # as clock_getcpuclockid(3) makes a process's clock


@contextmanager
def canned_upstream(core: int) -> Generator[Upstream]:
    """`_peers/canned.py` in a process of its own, on another core; its base URL lacks the part that says how it answers."""
    command = [sys.executable, "-m", "benchmarks._peers.canned"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise RuntimeError(f"the upstream did not start: {' '.join(command)}")
            if hasattr(os, "sched_setaffinity"):
                os.sched_setaffinity(process.pid, {core})
            yield Upstream(f"http://127.0.0.1:{int(line)}", process.pid)
        finally:
            process.terminate()
            process.wait(10)


def ratios(ours: list[float], theirs: list[float]) -> list[float]:
    """Round by round, so that a drift of the machine's speed falls out."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(values: list[float]) -> tuple[float, float, float]:
    """Median, least and largest."""
    return statistics.median(values), min(values), max(values)


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of these packages; the missing are left out."""
    found: dict[str, str] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> str:
    """What the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text(encoding="utf-8") if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return f"{model.group(1) if model else platform.machine()}, {os.cpu_count()} cores, {platform.system()}"


def report(
    benchmark: str,
    results: list[Result],
    compared: dict[str, str],
    *,
    as_json: bool,
    lacks: Mapping[str, str] | None = None,
) -> int:
    """Print the results, and what could not be compared and why; 1 if a promise falls short, else 0."""
    lacks = lacks or {}
    if as_json:
        rows = [to_builtins(result) | {"meets": result.meets} for result in results]
        print(
            json.dumps(
                {
                    "benchmark": benchmark,
                    "python": platform.python_version(),
                    "machine": machine(),
                    "versions": compared,
                    "lacks": lacks,
                    "results": rows,
                }
            )
        )
    else:
        told = ", ".join(f"{name} {number}" for name, number in compared.items())
        print(f"{benchmark}: Python {platform.python_version()}; {machine()}; {told}")
        for result in results:
            _print(result)
        for name, why in lacks.items():
            print(f"  lacks {name}: {why}")
    return int(any(result.meets is False for result in results))


def _print(result: Result) -> None:
    mark = {True: "ok  ", False: "MISS", None: "    "}[result.meets]
    target = (
        ""
        if result.target is None
        else f" (promised {'>=' if result.better == 'higher' else '<='} {result.target:g})"
    )
    print(
        f"  {mark} {result.id:4} {result.what}: {result.value:.3g} {result.unit}"
        f" [{result.min:.3g} to {result.max:.3g}]{target}"
    )
    for name, value in result.against.items():
        print(f"              {name}: {value:.4g}")
