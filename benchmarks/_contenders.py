"""Contenders: programs that wait, silent, until asked to measure something (`_peers/serving.py` is their side of it).

All stand on one core and only one works at a time, so each round asks every one in turn and a drift of the machine's speed
falls out of their ratios.
"""

import argparse
import contextlib
import os
import select
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks._harness import environment

_ANSWER_S = 180.0
_END_S = 10.0
_STEP = 1600  # a multiple of 64 casts in a burst, 100 clients and 200 restarts
_MOST = 4_000_000
_PEERS = Path(__file__).parent / "_peers"

OURS = "greenroom"
"""The one that must not lack."""

Figures = dict[str, float]
Rounds = dict[str, list[Figures]]


class Lacking(Exception):
    """A contender cannot be compared; the words say why."""


class Contender:
    """One program.

    Args:
        name: what reports call it.
        module: its module in `_peers`, with arguments, or an Erlang script there.
        core: the core that it stands on.
        by_wall: compare its wall time: its work is done by other processes, whose CPU time nobody adds up.
        python: the interpreter that has what it imports.

    Raises:
        Lacking: it is not installed here, or does not start.
    """

    def __init__(
        self, name: str, module: str, *, core: int, by_wall: bool = False, python: str = sys.executable
    ) -> None:
        self.name = name
        self.rate_key = "per_s" if by_wall else "per_cpu_s"
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115  # closed with it
        try:
            self._process = subprocess.Popen(
                _command(module, python),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                text=True,
                cwd=_PEERS.parent.parent,
                env=environment(),
            )
        except FileNotFoundError as error:
            self._errors.close()
            raise Lacking(f"{error.filename} is not installed") from error
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(self._process.pid, {core})
        told, _, rest = self._read().partition(" ")
        if told != "ready":
            self.close()
            raise Lacking(rest or "did not start")
        self.version, _, measures = rest.partition(" ")
        self.measures = tuple(measures.split(","))

    def measure(self, name: str, count: int) -> Figures:
        """One measurement.

        Raises:
            Lacking: it has died, or has not answered within three minutes; it is closed.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{name} {count}\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failed("died") from error
        pairs = (pair.split("=") for pair in self._read().split())
        return {key: float(value) for key, value in pairs}

    def count_for(self, name: str, seconds: float, step: int = _STEP) -> int:
        """How many operations take about so many seconds, after a first go that also warms it up."""
        self.measure(name, step)
        rate = self.measure(name, step)[self.rate_key]
        return min(max(round(rate * seconds / step), 1) * step, _MOST)

    def close(self) -> None:
        """Ends the program: its input ends, and it has ten seconds to tidy up."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(_END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        self._errors.close()

    def _read(self) -> str:
        stream = self._process.stdout
        assert stream is not None
        readable, _, _ = select.select([stream], [], [], _ANSWER_S)
        line = stream.readline() if readable else ""
        if not line:
            raise self._failed("died" if readable else f"did not answer within {_ANSWER_S:g} s")
        return line.strip()

    def _failed(self, what: str) -> Lacking:
        self._errors.seek(0)
        last = [line.strip() for line in self._errors.read().splitlines() if line.strip()][-1:]
        self.close()
        return Lacking(f"{what}: {last[0] if last else 'said nothing'}")


def _command(module: str, python: str) -> list[str]:
    if module.endswith(".escript"):
        return ["escript", str(_PEERS / module)]
    name, *arguments = module.split()
    return [python, "-m", f"benchmarks._peers.{name}", *arguments]


def add_python_option(parser: argparse.ArgumentParser) -> None:
    """`--python NAME=PATH`, once for each contender whose packages do not go together with the others'."""
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        type=_python,
        metavar="NAME=PATH",
        help="run this contender with another environment's interpreter",
    )


def _python(given: str) -> tuple[str, str]:
    name, _, path = given.partition("=")
    if not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{given!r} is no NAME=PATH with the path of a Python interpreter")
    return name, path


def leave_out(name: str, why: Lacking, lacks: dict[str, str]) -> None:
    """Notes why a contender is not compared.

    Raises:
        RuntimeError: it is greenroom itself, without which nothing is measured.
    """
    if name == OURS:
        raise RuntimeError(f"{OURS}: {why}") from why
    lacks[name] = str(why)


@contextmanager
def started(
    wanted: Iterable[tuple[str, str]],
    *,
    core: int,
    by_wall: Iterable[str] = (),
    pythons: Iterable[tuple[str, str]] = (),
) -> Generator[tuple[list[Contender], dict[str, str]]]:
    """Starts contenders, given by name and module; gives those that run, and why the others do not."""
    interpreters = dict(pythons)
    running: list[Contender] = []
    lacks: dict[str, str] = {}
    try:
        for name, module in wanted:
            try:
                python = interpreters.get(name, sys.executable)
                running.append(Contender(name, module, core=core, by_wall=name in by_wall, python=python))
            except Lacking as why:
                leave_out(name, why, lacks)
        yield running, lacks
    finally:
        for contender in running:
            contender.close()


def in_turns(
    contenders: list[Contender],
    parts: Mapping[str, Callable[[Contender], int]],
    *,
    rounds: int,
    lacks: dict[str, str],
    warm_up: bool = False,
) -> dict[str, Rounds]:
    """Every contender, one after the other, in every part, round after round. One that dies is left out.

    Args:
        contenders: who; those that die are taken out.
        parts: what is measured, and how many operations of it by whom.
        rounds: how often.
        lacks: takes why somebody was left out.
        warm_up: whether to go once more before, and forget it.
    """
    figures: dict[str, Rounds] = {part: {} for part in parts}
    for turn in range(-1 if warm_up else 0, rounds):
        for part, count in parts.items():
            for one in tuple(contenders):
                try:
                    told = one.measure(part, count(one))
                except Lacking as why:
                    leave_out(one.name, why, lacks)
                    contenders.remove(one)
                    for found in figures.values():
                        found.pop(one.name, None)
                    continue
                if turn >= 0:
                    figures[part].setdefault(one.name, []).append(told)
    return figures


def interleaved(
    contenders: list[Contender],
    measure: str,
    *,
    rounds: int,
    seconds: float,
    lacks: dict[str, str],
    step: int = _STEP,
) -> Rounds:
    """Every contender that has this measure, one after the other, round after round. One that dies is left out."""
    counts: dict[str, int] = {}
    able: list[Contender] = []
    for one in [one for one in contenders if measure in one.measures]:
        try:
            counts[one.name] = one.count_for(measure, seconds, step)
            able.append(one)
        except Lacking as why:
            leave_out(one.name, why, lacks)
    figures = in_turns(able, {measure: lambda one: counts[one.name]}, rounds=rounds, lacks=lacks)
    contenders[:] = [one for one in contenders if one.name not in lacks]
    return figures[measure]


def column(rounds: list[Figures], key: str) -> list[float]:
    """One figure of every round."""
    return [figures[key] for figures in rounds]


def medians(rounds: Rounds, key: str, *, only: Iterable[str] | None = None) -> Figures:
    """Each contender's median; of those that have this figure, or of some."""
    names = rounds if only is None else [name for name in only if name in rounds]
    return {name: statistics.median(column(rounds[name], key)) for name in names if key in rounds[name][0]}
