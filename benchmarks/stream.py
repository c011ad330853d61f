"""One streamed chunk of a chat completion, delivered as a typed event (S7), in CPU time.

Burst: streams of 1 000 chunks that the upstream writes at once, so many come in a read. Paced: streams of 100 chunks, 10 ms
apart, so each comes alone. Every figure has the whole stream's cost in it, request, hold and settlement too, divided by its
chunks of text. Beside it, as in `benchmarks call`: tuned aiohttp (`readany`, split, typed decode), aiohttp read line by line,
the OpenAI SDK, litellm.

    python -m benchmarks stream [--rounds 5] [--bursts 64] [--in-flight 16] [--json]
"""

import argparse

from benchmarks._contenders import (
    OURS,
    Contender,
    Lacking,
    Rounds,
    add_python_option,
    column,
    leave_out,
    started,
)
from benchmarks._harness import Result, canned_upstream, report, two_cores
from benchmarks.call import CLIENTS, LITELLM, OPENAI, TUNED, compare

_SLOW = {
    OPENAI: 4,
    LITELLM: 16,
}  # a contender that takes so many times longer gets so many times fewer bursts


def measure(
    contenders: list[Contender], rounds: int, bursts: int, paced: int, lacks: dict[str, str]
) -> dict[str, Rounds]:
    figures: dict[str, Rounds] = {"burst": {}, "paced": {}}
    for turn in range(-1, rounds):
        for part, streams in (("burst", bursts), ("paced", paced)):
            for one in tuple(contenders):
                count = max(streams // _SLOW.get(one.name, 1), 1) if part == "burst" else streams
                try:
                    told = one.measure(part, count)
                except Lacking as why:
                    leave_out(one.name, why, lacks)
                    contenders.remove(one)
                    figures[part].pop(one.name, None)
                    continue
                if turn >= 0:  # the first warms up
                    figures[part].setdefault(one.name, []).append(told)
    return figures


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks stream", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bursts", type=int, default=64, help="streams in a round")
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    add_python_option(parser)
    options = parser.parse_args(argv)
    core, other = two_cores()
    with canned_upstream(other) as server:
        modules = [(name, f"chat {client} {server.base_url} {options.in_flight}") for name, client in CLIENTS]
        with started(modules, core=core, pythons=options.python) as (contenders, lacks):
            compared = {one.name: one.version for one in contenders}
            rates = measure(contenders, options.rounds, options.bursts, options.in_flight, lacks)
    burst_us = [1e6 / rate for rate in column(rates["burst"][OURS], "per_cpu_s")]
    results = [
        Result.of(
            "S7", "CPU of a streamed chunk, many in a read", burst_us, "us", target=5.0, better="lower"
        ),
        *compare(rates["burst"], "S7", "the same", at_most={}, times_less={OPENAI: 20.0}),
        *compare(
            rates["paced"],
            "S7",
            "CPU of a streamed chunk that comes alone",
            at_most={TUNED: 1.3},
            times_less={},
        ),
    ]
    return report("stream", results, compared, as_json=options.json, lacks=lacks)
