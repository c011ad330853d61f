"""What a limiter's decision costs: a slot, a request and its tokens admitted together, with and without others that wait.

Medians of CPU time over the rounds, in microseconds, one core, all contenders in one process and in turn.

- decision: whether one request may go, by slots, configured and learned limits of requests and tokens; nobody waits.
- permit: all that a call pays for it: asking the actor, the grant, reading the answer's headers, giving back with the usage.
  Beside it what people write: a semaphore and two of aiolimiter's buckets; a semaphore alone.
- in a queue: one more takes a place among so many of 100 tenants, and the next one goes.

    python -m benchmarks limiter [--rounds 5] [--json]
"""

import argparse
import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import cast

from aiolimiter import AsyncLimiter
from multidict import CIMultiDict, CIMultiDictProxy

from benchmarks._harness import Result, pin, report, two_cores, versions
from greenroom.actors.events import Usage
from greenroom.actors.kernel import ActorSystem, ReplyTo
from greenroom.actors.limiter import Admit, Allowance, Limiter, Permit
from greenroom.actors.limiter.queue import Entry, FairQueue
from greenroom.actors.settings import Limits

_REPEATS = 20_000
_PLENTY = 1_000_000_000
_FEW, _MANY = 100, 100_000
_TENANTS = 100
_DECISION_US = 2.0
_OBSERVE_US = 3.0
_GROWTH = 3.0
"""100 000 wait instead of 100: logarithms grow 2.5 times, and caches miss."""
_STATED = Limits(requests_per_min=_PLENTY, tokens_per_min=_PLENTY * 1_000)
_USAGE = Usage(input_tokens=120, output_tokens=80)
_SILENT = CIMultiDictProxy(
    CIMultiDict({"Content-Type": "application/json", "Date": "now", "x-request-id": "r"})
)
_TELLING = CIMultiDictProxy(
    CIMultiDict(
        {
            **_SILENT,
            "x-ratelimit-limit-requests": str(_PLENTY),
            "x-ratelimit-remaining-requests": str(_PLENTY - 1),
            "x-ratelimit-reset-requests": "1ms",
            "x-ratelimit-limit-tokens": str(_PLENTY * 1_000),
            "x-ratelimit-remaining-tokens": str(_PLENTY * 1_000 - 500),
            "x-ratelimit-reset-tokens": "1ms",
        }
    )
)


def admit(ticket: int, tenant: str = "") -> Admit:
    return Admit(ticket, 120, 400, "gpt-5-mini", tenant)


def each_us(do: Callable[[int], object]) -> float:
    begun_s = time.process_time()
    for number in range(_REPEATS):
        do(number)
    return (time.process_time() - begun_s) / _REPEATS * 1e6


async def each_awaited_us(do: Callable[[int], Awaitable[object]]) -> float:
    begun_s = time.process_time()
    for number in range(1, _REPEATS + 1):
        await do(number)
    return (time.process_time() - begun_s) / _REPEATS * 1e6


def learned() -> Allowance:
    """An allowance with both limits configured, and both learned from an answer."""
    allowance = Allowance(_STATED, time.monotonic())
    granted(allowance, -1)
    allowance.observe(-1, _TELLING, time.monotonic())
    allowance.give_back(-1, time.monotonic(), _USAGE, "ok")
    return allowance


def granted(allowance: Allowance, ticket: int) -> None:
    now_s = time.monotonic()
    asked = admit(ticket)
    lane = allowance.lane(asked.model, now_s)
    allowance.grant(asked, lane, lane.amounts(asked), now_s)


def decision_us() -> float:
    allowance, asked = learned(), admit(1)

    def decide(number: int) -> bool:
        now_s = time.monotonic()
        lane = allowance.lane(asked.model, now_s)
        amounts = lane.amounts(asked)
        return not allowance.own_s(lane, amounts, now_s) and not allowance.shared_s(amounts, now_s)

    return each_us(decide)


def observe_us(*, telling: bool) -> float:
    headers = _TELLING if telling else _SILENT
    allowance = learned() if telling else Allowance(Limits(), time.monotonic())
    granted(allowance, 1)

    def observe(number: int) -> None:
        allowance.observe(1, headers, time.monotonic())

    return each_us(observe)


async def permit_us() -> float:
    allowance = learned()

    async with ActorSystem() as system:
        limiter = await system.start(Limiter, "bench", allowance)

        async def call(number: int) -> None:
            await limiter.call(admit(number))
            allowance.observe(number, _TELLING, time.monotonic())
            allowance.give_back(number, time.monotonic(), _USAGE, "ok")

        return await each_awaited_us(call)


async def buckets_us() -> float:
    slots, requests = asyncio.Semaphore(256), AsyncLimiter(_PLENTY, 60)
    tokens = AsyncLimiter(_PLENTY * 1_000, 60)

    async def call(number: int) -> None:
        async with slots:
            await requests.acquire()
            await tokens.acquire(520)

    return await each_awaited_us(call)


async def semaphore_us() -> float:
    slots = asyncio.Semaphore(256)

    async def call(number: int) -> None:
        async with slots:
            pass

    return await each_awaited_us(call)


def queued_us(waiting: int) -> float:
    queue, allowance = FairQueue({}), learned()
    lane = allowance.lane("gpt-5-mini", 0.0)
    nobody = cast("ReplyTo[Permit]", None)  # nobody is answered here

    def push(number: int) -> None:
        asked = admit(number, f"tenant {number % _TENANTS}")
        queue.push(Entry(asked, nobody, lane, lane.amounts(asked)), 0.0)

    def next_one(number: int) -> None:
        push(waiting + number)
        queue.serve(next(queue.heads(0.0)), 0.0)

    for number in range(waiting):
        push(number)
    return each_us(next_one)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks limiter", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    pin({two_cores()[0]})
    figures: dict[str, list[float]] = {}
    for _ in range(options.rounds):
        for name, measure in _MEASURES.items():
            figures.setdefault(name, []).append(measure())
    return report("limiter", results(figures), versions("greenroom", "aiolimiter"), as_json=options.json)


_MEASURES: dict[str, Callable[[], float]] = {
    "decision": decision_us,
    "observe nothing": lambda: observe_us(telling=False),
    "observe": lambda: observe_us(telling=True),
    "permit": lambda: asyncio.run(permit_us()),
    "buckets": lambda: asyncio.run(buckets_us()),
    "semaphore": lambda: asyncio.run(semaphore_us()),
    "few": lambda: queued_us(_FEW),
    "many": lambda: queued_us(_MANY),
}


def results(figures: dict[str, list[float]]) -> list[Result]:
    def microseconds(what: str, name: str, target: float | None = None, **against: str) -> Result:
        beside = {label.replace("_", " "): min(figures[other]) for label, other in against.items()}
        return Result.of("", what, figures[name], "us", target=target, better="lower", against=beside)

    growth = [many / few for many, few in zip(figures["many"], figures["few"], strict=True)]
    return [
        microseconds("decision, four limits", "decision", _DECISION_US),
        microseconds(
            "reading the limits of an answer's headers", "observe", _OBSERVE_US, none_told="observe nothing"
        ),
        microseconds(
            "permit, from asking to giving back",
            "permit",
            semaphore_and_two_of_aiolimiter="buckets",
            semaphore="semaphore",
        ),
        microseconds(f"one comes and the next goes, {_MANY} waiting", "many", among_100="few"),
        Result.of("", f"the same, {_MANY} against {_FEW}", growth, "x", target=_GROWTH, better="lower"),
    ]
