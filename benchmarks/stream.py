"""One streamed chunk of a chat completion, delivered as a typed event (S7), in CPU time.

Burst: streams of 1 000 chunks that the upstream writes at once, so many come in a read. Paced: streams of 100 chunks, 10 ms
apart, so each comes alone. Every figure has the whole stream's cost in it, request, hold and settlement too, divided by its
chunks of text. Beside it, as in `benchmarks call`: tuned aiohttp (`readany`, split, typed decode), aiohttp read line by line,
the OpenAI SDK, litellm.

    python -m benchmarks stream [--rounds 5] [--bursts 64] [--in-flight 16] [--json]
"""

from benchmarks._contenders import OURS, Contender, column, in_turns
from benchmarks._harness import Result, report
from benchmarks.call import ANY_LLM, LITELLM, OPENAI, PYDANTIC_AI, TUNED, clients, compare, options_of

_SLOW = {OPENAI: 4, ANY_LLM: 4, PYDANTIC_AI: 8, LITELLM: 16}
"""A contender that takes so many times longer gets so many times fewer bursts."""


def main(argv: list[str]) -> int:
    parser = options_of("stream", __doc__, 16)
    parser.add_argument("--bursts", type=int, default=64, help="streams in a round")
    options = parser.parse_args(argv)

    def bursts(one: Contender) -> int:
        return max(int(options.bursts) // _SLOW.get(one.name, 1), 1)

    def paced(one: Contender) -> int:
        return int(options.in_flight)

    with clients(options.in_flight, options.python) as (_, contenders, lacks):
        compared = {one.name: one.version for one in contenders}
        rates = in_turns(
            contenders, {"burst": bursts, "paced": paced}, rounds=options.rounds, lacks=lacks, warm_up=True
        )
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
