"""The kernel's promises (S1 to S5): calls, casts, memory and restarts, beside what else there is.

Each contender is a process of its own, all on one core, asked in turn, round by round (`_contenders.py`): `asyncio.Queue` and
a Future as people write it, anyio's streams, pykka, Thespian, xoscar, Ray, and Erlang/OTP's gen_server with one scheduler.
What is not installed is said and left out. Rates are operations per second of CPU time of the whole process, Ray's per second
of wall time. One message, made beforehand, is sent again and again. In S5 nobody logs: the report of each crash is made, and
goes nowhere.

Beside the promises, steadiness at scale. V48: what a child costs to start and to stop, 100 000 against 1 000 (on demand
10 000); G46: what a call costs an actor with 500 000 messages waiting for it; P11: the most CPU time between two moments of a
1 ms timer beside a tight caller, and beside a backlog (of which at most 1 ms may be a task's); P13: a full garbage collection
with all the idle actors alive.

    python -m benchmarks actors [--rounds 5] [--seconds 0.2] [--idle 100000] [--json]
"""

import argparse
import contextlib
import statistics
from importlib.metadata import version

from benchmarks._contenders import (
    OURS,
    Contender,
    Lacking,
    Rounds,
    column,
    interleaved,
    leave_out,
    medians,
    started,
)
from benchmarks._harness import Result, ratios, report, two_cores

_NAIVE = "asyncio.Queue + Future"
_ERLANG = "Erlang/OTP gen_server"
_UVLOOP = " on uvloop"
_PEERS = (
    (OURS, "greenroom_kernel"),
    (_NAIVE, "asyncio_queue"),
    (_ERLANG, "genserver.escript"),
    ("anyio streams", "anyio_streams"),
    ("pykka", "libraries pykka"),
    ("Thespian, in process", "libraries thespian"),
    ("xoscar, in process", "libraries xoscar"),
    ("Ray, wall", "libraries ray"),
    (OURS + _UVLOOP, "greenroom_kernel uvloop"),
    (_NAIVE + _UVLOOP, "asyncio_queue uvloop"),
)
_BY_WALL = ("Ray, wall",)
_RATES = ("call", "call_100", "call_async", "cast", "restart")
_IDLE_ROUNDS = 3
_ONCE = ("anyio streams",)
"""Whose 100 000 take so long to start that one round must do."""


class Measured:
    """What all the rounds gave, by measure and contender."""

    def __init__(self, rates: dict[str, Rounds], idle: Rounds, scale: Rounds) -> None:
        self.rates = rates
        self.idle = idle
        self.scale = scale

    def results(self, idle: int) -> list[Result]:
        naive, erlang = "a Queue and a Future", "Erlang's gen_server:call"
        on_uvloop = ", both on uvloop"
        return [
            *self._rate(
                "S1", f"calls of an idle actor, plain handler, against {naive}", "call", _NAIVE, target=8.0
            ),
            *self._rate(
                "S1", f"calls of an idle actor, plain handler, against {erlang}", "call", _ERLANG, target=2.5
            ),
            *self._rate("S2", "casts in bursts of 64 against asyncio.Queue", "cast", _NAIVE, target=1.8),
            *self._rate(
                "S3", f"calls, async handler, timeout on, against {naive}", "call_async", _NAIVE, target=0.9
            ),
            *self._idle(idle),
            *self._restart("S5", OURS, _NAIVE, 1.7),
            *self._rate("", "calls of 100 clients, against a Queue and Futures", "call_100", _NAIVE),
            *self._rate("", f"calls{on_uvloop}", "call", _NAIVE, loop=_UVLOOP),
            *self._rate("", f"casts{on_uvloop}", "cast", _NAIVE, loop=_UVLOOP),
            *self._rate("", f"calls, async handler{on_uvloop}", "call_async", _NAIVE, loop=_UVLOOP),
            *self._restart("", OURS + _UVLOOP, _NAIVE + _UVLOOP, None),
            *self._scale(),
        ]

    def _rate(
        self, id_: str, what: str, measure: str, to: str, *, target: float | None = None, loop: str = ""
    ) -> list[Result]:
        """How many times as many operations a second as another; nothing if either was not measured."""
        ours = self.rates[measure].get(OURS + loop)
        theirs = self.rates["call" if measure == "call_async" else measure].get(to + loop)
        if not ours or not theirs:
            return []
        shown = medians({OURS + loop: ours, to + loop: theirs}, "per_cpu_s")
        if to == _NAIVE and not loop:
            shown |= medians(self.rates[measure], "per_cpu_s") | medians(
                self.rates[measure], "per_s", only=_BY_WALL
            )
        return [
            Result.of(
                id_,
                what,
                ratios(column(ours, "per_cpu_s"), column(theirs, "per_cpu_s")),
                "x",
                target=target,
                against={f"{name}, per s": value for name, value in shown.items() if name.endswith(loop)},
            )
        ]

    def _restart(self, id_: str, ours: str, bare: str, target: float | None) -> list[Result]:
        rates = self.rates["restart"]
        if not rates.get(ours) or not rates.get(bare):
            return []
        shown = medians(rates, "per_cpu_s", only=(ours, bare, _ERLANG))
        return [
            Result.of(
                id_,
                f"from crash to restarted and answering: {ours} against {bare} and a create_task loop",
                ratios(column(rates[bare], "per_cpu_s"), column(rates[ours], "per_cpu_s")),
                "x",
                target=target,
                better="lower",
                against={f"{name}, us": 1e6 / rate for name, rate in shown.items()},
            )
        ]

    def _idle(self, count: int) -> list[Result]:
        def bounded(id_: str, what: str, key: str, unit: str, target: float | None) -> Result:
            values = column(self.idle[OURS], key)
            beside = {name: value for name, value in medians(self.idle, key).items() if name != OURS}
            return Result.of(id_, what, values, unit, target=target, better="lower", against=beside)

        pauses, naive = (column(self.idle[name], "gc_pause_s") for name in (OURS, _NAIVE))
        return [
            bounded("S4", f"memory of an idle actor, of {count}", "bytes", "bytes", 600.0),
            bounded("S4", f"CPU to start {count}", "start_cpu_s", "s", 0.5),
            bounded("", f"CPU to stop {count} when the system is left", "stop_cpu_s", "s", None),
            Result.of(
                "P13",
                f"full collection with {count} idle, against tasks with queues",
                ratios(pauses, naive),
                "x",
                target=1 / 3,
                better="lower",
                against={f"{name}, s": pause for name, pause in medians(self.idle, "gc_pause_s").items()},
            ),
        ]

    def _scale(self) -> list[Result]:
        def grown(
            id_: str, what: str, many: tuple[str, str], few: tuple[str, str], target: float = 10.0
        ) -> Result:
            ours, base = (column(self.scale[measure], key) for measure, key in (many, few))
            against = {"us": statistics.median(ours), "us, against": statistics.median(base)}
            values = ratios(ours, base)
            return Result.of(id_, what, values, "x", target=target, better="lower", against=against)

        def waited(what: str, key: str) -> Result:
            values = column(self.scale["turns"], key)
            return Result.of("P11", what, values, "ms", target=2.0, better="lower")

        sizes = "of 100000, against of 1000"
        return [
            grown("V48", f"CPU to start a child {sizes}", ("many", "start_us"), ("few", "start_us")),
            grown("V48", f"CPU to stop a child {sizes}", ("many", "stop_us"), ("few", "stop_us")),
            *(
                grown(
                    "V48",
                    f"CPU to {verb} a child of 10000 on demand, against of 1000",
                    ("many demanded", f"{verb}_us"),
                    ("few demanded", f"{verb}_us"),
                    target=5.0,
                )
                for verb in ("start", "stop")
            ),
            grown(
                "G46",
                "CPU of a call by an actor with 500000 messages waiting, against none",
                ("mailbox", "many_us"),
                ("mailbox", "none_us"),
            ),
            waited("longest time between a 1 ms timer's moments beside 100000 calls in a row", "call_ms"),
            waited("longest time between a 1 ms timer's moments beside a mailbox of 300000", "backlog_ms"),
        ]


def measure_idle(modules: dict[str, str], count: int, core: int, lacks: dict[str, str]) -> Rounds:
    """Each in a fresh process, so that no memory is used again."""
    figures: Rounds = {}
    for turn in range(_IDLE_ROUNDS):
        for name, module in modules.items():
            if name in lacks or (turn and name in _ONCE):
                continue
            try:
                with contextlib.closing(Contender(name, module, core=core)) as contender:
                    figures.setdefault(name, []).append(contender.measure("idle", count))
            except Lacking as why:
                leave_out(name, why, lacks)
                figures.pop(name, None)
    return figures


def measure_scale(ours: Contender, rounds: int) -> Rounds:
    figures: Rounds = {}
    for _ in range(rounds):
        for key, name, count in (
            ("few", "children", 1_000),
            ("many", "children", 100_000),
            ("few demanded", "demanded", 1_000),
            ("many demanded", "demanded", 10_000),
            ("mailbox", "mailbox", 500_000),
            ("turns", "turns", 100_000),
        ):
            figures.setdefault(key, []).append(ours.measure(name, count))
    return figures


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks actors", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.2, help="of each measurement, about")
    parser.add_argument("--idle", type=int, default=100_000, help="idle actors")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    core, _ = two_cores()
    with started(_PEERS, core=core, by_wall=_BY_WALL) as (contenders, lacks):
        compared = {one.name: one.version for one in contenders}
        rates = {
            name: interleaved(contenders, name, rounds=options.rounds, seconds=options.seconds, lacks=lacks)
            for name in _RATES
        }
        scale = measure_scale(next(one for one in contenders if one.name == OURS), options.rounds)
        idle = {
            one.name: dict(_PEERS)[one.name]
            for one in contenders
            if "idle" in one.measures and _UVLOOP not in one.name
        }
    populations = measure_idle(idle, options.idle, core, lacks)
    return report(
        "actors",
        Measured(rates, populations, scale).results(options.idle),
        compared | {"greenroom": version("greenroom")},
        as_json=options.json,
        lacks=lacks,
    )
