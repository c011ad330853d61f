"""What a call costs when very many are in flight (S13): CPU of one at 10 000 in flight, against one at 100.

Both are greenroom, each in a process of its own on one core, asked in turn, round by round. The upstream answers from memory on
another core, over as many connections as calls are in flight, so the limit of open files is raised as far as the system lets it.

    python -m benchmarks scale [--rounds 5] [--calls 30000] [--many 10000] [--few 100] [--json]
"""

import argparse

from benchmarks._contenders import OURS, Contender, column, in_turns, started
from benchmarks._harness import Result, canned_upstream, raise_open_files, ratios, report, two_cores

_SPARE_FILES = 200


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks scale", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--calls", type=int, default=30_000, help="in a round")
    parser.add_argument("--many", type=int, default=10_000, help="in flight")
    parser.add_argument("--few", type=int, default=100, help="in flight")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    many, few, calls = int(options.many), int(options.few), int(options.calls)
    files = raise_open_files(many + _SPARE_FILES)
    if files < many + _SPARE_FILES:
        told = f"this system lets a process open {files} files, which is too few for --many {many}"
        return report("scale", [], {}, as_json=options.json, lacks={OURS: told})
    core, other = two_cores()
    lacks: dict[str, str] = {}
    with canned_upstream(other) as server:
        modules = [(f"{OURS}, {n}", f"chat greenroom {server.base_url} {n}") for n in (few, many)]
        with started(modules, core=core) as (contenders, lacks):
            compared = {OURS: contenders[0].version} if contenders else {}

            def count(one: Contender) -> int:
                return max(calls, 2 * many)

            figures = in_turns(contenders, {"call": count}, rounds=options.rounds, lacks=lacks, warm_up=True)
    found: list[Result] = []
    if not lacks:
        rates = [column(figures["call"][name], "per_cpu_s") for name, _ in modules]
        found.append(
            Result.of(
                "S13",
                f"CPU of a call at {many} in flight, against at {few}",
                ratios(*rates),
                "x",
                target=1.5,
                better="lower",
                against={
                    f"at {n}, us": 1e6 / Result.of("", "", rate, "").value
                    for n, rate in zip((few, many), rates, strict=True)
                },
            )
        )
    return report("scale", found, compared, as_json=options.json, lacks=lacks)
