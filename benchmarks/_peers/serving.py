"""A contender's side of the line protocol: it waits, silent, until it is told to measure something.

The first line out is `ready VERSION MEASURE,MEASURE...` or `missing WHY`. Each line in is `MEASURE N`; the answer is a line of
`name=value` pairs. No JSON, so that an Erlang program can speak it too. The real standard output belongs to the protocol;
what libraries print goes to standard error.
"""

import asyncio
import gc
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import AsyncExitStack, contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TextIO

Figures = dict[str, float]
Measure = Callable[[int], Awaitable[Figures]]


@contextmanager
def timed(count: int) -> Generator[Figures]:
    """How many of `count` operations go into a second of this process's CPU time (all threads), and of wall time."""
    figures: Figures = {}
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    yield figures
    figures["per_cpu_s"] = count / (time.process_time() - cpu)
    figures["per_s"] = count / (time.perf_counter() - wall)


@contextmanager
def populated(count: int) -> Generator[Figures]:
    """Bytes of resident memory, CPU and wall seconds for each of `count` things made, and the pause of a full collection."""
    figures: Figures = {}
    gc.collect()
    before = resident_bytes()
    wall, cpu = time.perf_counter(), time.process_time()
    yield figures
    figures["start_cpu_s"] = time.process_time() - cpu
    figures["start_s"] = time.perf_counter() - wall
    gc.collect()
    figures["bytes"] = (resident_bytes() - before) / count
    cpu = time.process_time()
    gc.collect()
    figures["gc_pause_s"] = time.process_time() - cpu


def settle_memory(in_flight: int = 0) -> None:
    """As `greenroom run` does once it has started, for every contender: what lives on is not searched for garbage again, and the
    objects of one burst of calls are not searched while they live."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(max(20_000, 100 * in_flight))


def resident_bytes() -> int:
    statm = Path("/proc/self/statm")
    if not statm.exists():  # the peak will do where the present value is not told
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return int(statm.read_text().split()[1]) * resource.getpagesize()


def serve(
    prepare: Callable[[], Mapping[str, Measure]],
    package: str | None = None,
    *,
    closing: AsyncExitStack | None = None,
) -> None:
    """Runs a contender until its standard input ends.

    Args:
        prepare: imports what is compared and returns what can be measured; its `ImportError` is told as `missing`.
        package: the distribution whose version is told; Python's own where there is none.
        closing: closed at the end, on the loop.
    """
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    try:
        run = loop_of_choice()
        measures = prepare()
        told = version(package) if package else sys.version.split()[0]
    except ImportError as error:
        print(f"missing {error}", file=answers)
        return
    print(f"ready {told} {','.join(measures)}", file=answers)
    run(_answer(measures, answers, closing or AsyncExitStack()))


def loop_of_choice() -> Callable[[Awaitable[None]], None]:
    """`asyncio.run`, or uvloop's where the command line asks for it."""
    if "uvloop" in sys.argv[1:]:
        import importlib

        run: Callable[[Awaitable[None]], None] = importlib.import_module("uvloop").run
        return run
    return asyncio.run  # type: ignore[return-value]  # it takes coroutines, which is what it gets


async def _answer(measures: Mapping[str, Measure], answers: TextIO, closing: AsyncExitStack) -> None:
    gc.collect()
    gc.freeze()
    async with closing:
        for line in sys.stdin:  # blocks the loop on purpose: nothing may run while others are measured
            name, count = line.split()
            figures = await measures[name](int(count))
            print(" ".join(f"{key}={value!r}" for key, value in figures.items()), file=answers)
