"""One unified chat call through everything (resolve, hold, admit, lease, retry owner, settle on disk), in CPU time.

Beside it, each in a process of its own on one core, asked in turn, round by round: the same exchange with aiohttp and a typed
msgspec decode and nothing else, once tuned (prepared URL, session headers, pre-encoded body, no cookie jar) and once as aiohttp
comes; the OpenAI SDK; litellm; any-llm; pydantic-ai. What is not installed is said and left out. The upstream answers from memory on another core;
its ceiling is what it could serve at the CPU that it needed for a call. CPU is the client's whole process, threads and all.

    python -m benchmarks call [--rounds 5] [--seconds 1] [--in-flight 64] [--json]

litellm holds the OpenAI SDK back; its newest release runs with `--python "openai SDK=PATH"`, the interpreter of an environment
where it is installed alone.
"""

import argparse
from collections.abc import Generator, Iterable
from contextlib import contextmanager

from benchmarks._contenders import (
    OURS,
    Contender,
    Rounds,
    add_python_option,
    column,
    interleaved,
    medians,
    started,
)
from benchmarks._harness import Result, Upstream, canned_upstream, ratios, report, two_cores

TUNED, PLAIN, OPENAI, LITELLM = "bare tuned", "bare aiohttp", "openai SDK", "litellm"
ANY_LLM, PYDANTIC_AI = "any-llm", "pydantic-ai"
_CEILING_CALLS = 8000
_STEP = 320
"""A slow client takes more than a second for so many."""
CLIENTS = (
    (OURS, "greenroom"),
    (TUNED, "tuned"),
    (PLAIN, "plain"),
    (OPENAI, "openai"),
    (LITELLM, "litellm"),
    (ANY_LLM, "any-llm"),
    (PYDANTIC_AI, "pydantic-ai"),
)


def compare(
    rates: Rounds, id_: str, what: str, *, at_most: dict[str, float], times_less: dict[str, float]
) -> list[Result]:
    """CPU of ours against others', round by round: `at_most` so many times theirs, or so many `times_less`."""
    found: list[Result] = []
    ours = column(rates[OURS], "per_cpu_s")
    for other, target in at_most.items():
        if other in rates:
            values = ratios(column(rates[other], "per_cpu_s"), ours)
            found.append(
                Result.of(id_, f"{what}, against {other}", values, "x", target=target, better="lower")
            )
    for other, target in times_less.items():
        if other in rates:
            values = ratios(ours, column(rates[other], "per_cpu_s"))
            found.append(Result.of(id_, f"{what}, times less than {other}", values, "x", target=target))
    if found:
        found[0].against = {f"{name}, us": 1e6 / rate for name, rate in medians(rates, "per_cpu_s").items()}
    return found


def options_of(name: str, about: str | None, in_flight: int) -> argparse.ArgumentParser:
    """The options that benchmarks of chat calls have in common."""
    parser = argparse.ArgumentParser(prog=f"benchmarks {name}", description=about)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--in-flight", type=int, default=in_flight)
    parser.add_argument("--json", action="store_true")
    add_python_option(parser)
    return parser


@contextmanager
def clients(
    in_flight: int, pythons: Iterable[tuple[str, str]]
) -> Generator[tuple[Upstream, list[Contender], dict[str, str]]]:
    """An upstream on one core, and on another the clients that are installed; and why the others are not there."""
    core, other = two_cores()
    with canned_upstream(other) as server:
        modules = [(name, f"chat {client} {server.base_url} {in_flight}") for name, client in CLIENTS]
        with started(modules, core=core, pythons=pythons) as (contenders, lacks):
            yield server, contenders, lacks


def main(argv: list[str]) -> int:
    parser = options_of("call", __doc__, 64)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement, about")
    options = parser.parse_args(argv)
    with clients(options.in_flight, options.python) as (server, contenders, lacks):
        compared = {one.name: one.version for one in contenders}
        rates = interleaved(
            contenders, "call", rounds=options.rounds, seconds=options.seconds, lacks=lacks, step=_STEP
        )
        ours = next(one for one in contenders if one.name == OURS)
        before = server.cpu_s()
        ours.measure("call", _CEILING_CALLS)
        ceiling = _CEILING_CALLS / (server.cpu_s() - before)
    results = compare(
        rates,
        "S6",
        f"CPU of one call through everything, {options.in_flight} in flight",
        at_most={TUNED: 1.4},
        times_less={OPENAI: 12.0, LITELLM: 25.0},
    )
    results.append(Result.of("", "what the upstream could serve", [ceiling], "calls/s"))
    return report("call", results, compared, as_json=options.json, lacks=lacks)
