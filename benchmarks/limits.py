"""Limits (R10): how much of an allowance is used, and how many 429s that costs, beside what else there is.

128 callers always have another request for a server with a limit, which binds its requests (600 a minute) or its tokens
(300 000 a minute; prompts of 10 and of 1 000 tokens, answers of 40 to 200 where `max_tokens` is 400). It keeps the limit as a
bucket of a minute, a fixed minute, a sliding minute or a sliding second, and counts tokens when a request arrives (prompt
and `max_tokens`) or when it ends (what was used); it is the simulator's own meter. Each cell is the share of the allowance
that was served, in percent of `--minutes`, and the answers 429 for each 100 served. Time is simulated, so that all of it takes
seconds: the loop's clock jumps to the next timer.

greenroom learns the limit from the answers' headers, or has it configured; the others are told it. "SDK backoff" has no limit but
waits as OpenAI's client does, Retry-After up to a minute, else 0.5 to 8 s, doubled each time, and never gives up.
A sliding second holds 5 000 tokens, and one of these requests takes up to 1 400: those two columns are reported and not promised.

    python -m benchmarks limits [--minutes 5] [--json]
"""

import argparse
import asyncio
import random
import selectors
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from aiolimiter import AsyncLimiter
from msgspec import Struct

from benchmarks._harness import Result, report, versions
from greenroom.actors.events import Usage
from greenroom.actors.kernel import ActorRef, ActorSystem, Clock
from greenroom.actors.limiter import Admit, Allowance, Limiter, Release
from greenroom.actors.settings import Limits
from greenroom.runtime.simulator.traffic.limits import LimitKind, TokensCounted
from greenroom.runtime.simulator.traffic.limits import Limits as Meters
from greenroom.runtime.simulator.wires.openai import OpenAIWire

CALLERS = 128
REQUESTS_PER_MIN = 600
TOKENS_PER_MIN = 300_000
PLENTY = 1_000
PROMPTS = (10, 1_000)
MOST = 400
LATENCY_S = 0.7
REFUSAL_S = 0.02
_TURN_S = 1e-6
"""Each turn of the loop takes a little, or a timer that is due in less than floating-point numbers show would never come."""
LEAST_USED = 0.97
MOST_REFUSED = 0.5

KINDS: dict[str, tuple[LimitKind, float]] = {
    "bucket": ("bucket", 60.0),
    "fixed minute": ("fixed", 60.0),
    "sliding minute": ("sliding", 60.0),
    "sliding second": ("sliding", 1.0),
}
BINDING: tuple[tuple[str, TokensCounted], ...] = (
    ("requests", "arrival"),
    ("tokens", "arrival"),
    ("tokens", "end"),
)


class Case(Struct, frozen=True):
    """A server: what binds, when it counts tokens, and how it keeps its limit."""

    binds: str
    counted: TokensCounted
    kind: str

    @property
    def requests_per_min(self) -> int:
        return REQUESTS_PER_MIN * (1 if self.binds == "requests" else PLENTY)

    @property
    def tokens_per_min(self) -> int:
        return TOKENS_PER_MIN * (1 if self.binds == "tokens" else PLENTY)

    @property
    def is_promised(self) -> bool:
        return self.binds == "requests" or self.kind != "sliding second"

    def meters(self) -> Meters:
        kind, window_s = KINDS[self.kind]
        return Meters(
            requests_per_min=self.requests_per_min,
            tokens_per_min=self.tokens_per_min,
            kind=kind,
            window_s=window_s,
            tokens_counted=self.counted,
        )


class Cell(Struct):
    """What came of a case: the share used, and 429s for each 100 served."""

    used: float
    refused: float


class Asked(Struct, frozen=True):
    """One request, and what its answer will use. `guess` is what its prompt is taken for before."""

    number: int
    prompt: int
    answer: int

    @property
    def guess(self) -> int:
        return self.prompt * 5 // 4

    @property
    def bound(self) -> int:
        return self.prompt + MOST


class Client(Protocol):
    """How a contender keeps to limits."""

    async def begin(self, asked: Asked) -> None:
        """Wait until the request may be sent."""

    async def refused(
        self, asked: Asked, headers: Mapping[str, str], wait_s: float | None, times: int
    ) -> None:
        """It was answered 429, so many times by now; wait until it may be tried again."""

    def end(self, asked: Asked, headers: Mapping[str, str] | None) -> None:
        """It was served, with these headers; None: it was refused."""


class Greenroom:
    def __init__(self, limiter: ActorRef, allowance: Allowance) -> None:
        self._limiter = limiter
        self._allowance = allowance

    async def begin(self, asked: Asked) -> None:
        await self._limiter.call(Admit(asked.number, asked.guess, MOST), timeout=None)

    async def refused(
        self, asked: Asked, headers: Mapping[str, str], wait_s: float | None, times: int
    ) -> None:
        now_s = asyncio.get_running_loop().time()
        self._allowance.observe(asked.number, headers, now_s)
        self._allowance.refused(asked.number, "rate_limited", wait_s, now_s)

    def end(self, asked: Asked, headers: Mapping[str, str] | None) -> None:
        now_s = asyncio.get_running_loop().time()
        if headers is None:
            self._allowance.give_back(asked.number, now_s, None, "rate_limited")
        else:
            self._allowance.observe(asked.number, headers, now_s)
            self._allowance.give_back(asked.number, now_s, Usage(asked.prompt, asked.answer), "ok")
        self._limiter.cast(Release(asked.number))


class Backoff:
    """OpenAI's client: no limit, and a wait after each refusal."""

    def __init__(self, case: Case) -> None:
        self._dice = random.Random(3)

    async def begin(self, asked: Asked) -> None:
        return

    async def refused(
        self, asked: Asked, headers: Mapping[str, str], wait_s: float | None, times: int
    ) -> None:
        backoff_s = min(0.5 * 2 ** (times - 1), 8.0) * (1 - 0.25 * self._dice.random())
        await asyncio.sleep(wait_s if wait_s is not None and 0 < wait_s <= 60 else backoff_s)

    def end(self, asked: Asked, headers: Mapping[str, str] | None) -> None:
        return


class Buckets(Backoff):
    """aiolimiter, one bucket for requests and one for tokens."""

    def __init__(self, case: Case, period_s: float) -> None:
        super().__init__(case)
        self._requests = AsyncLimiter(case.requests_per_min * period_s / 60, period_s)
        self._tokens = AsyncLimiter(case.tokens_per_min * period_s / 60, period_s)

    async def begin(self, asked: Asked) -> None:
        await self._requests.acquire()
        await self._tokens.acquire(asked.bound)


class Semaphore(Backoff):
    """As many at once as take the limit up at the usual latency."""

    def __init__(self, case: Case) -> None:
        super().__init__(case)
        per_min = min(case.requests_per_min, case.tokens_per_min / (sum(PROMPTS) / len(PROMPTS) + MOST))
        self._slots = asyncio.Semaphore(max(1, round(per_min / 60 * LATENCY_S)))

    async def begin(self, asked: Asked) -> None:
        await self._slots.acquire()

    def end(self, asked: Asked, headers: Mapping[str, str] | None) -> None:
        self._slots.release()


class _Jump(selectors.DefaultSelector):
    """Waits for no timer: the clock is set to when it is due."""

    now_s = 60_000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.now_s += max(timeout or 0.0, _TURN_S)
        return super().select(0)


class _JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now_s


class _LoopClock(Clock):
    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()


class Rush:
    """Callers that always have another request, for some minutes."""

    def __init__(self, case: Case, minutes: float) -> None:
        self._case = case
        self._minutes = minutes
        self._meters = case.meters()
        self._wire = OpenAIWire()
        self._dice = random.Random(1)
        self._numbers = 0
        self._ends_s = asyncio.get_running_loop().time() + minutes * 60
        self._requests = self._tokens = self._refused = 0

    async def run(self, client: Client) -> Cell:
        callers = [asyncio.create_task(self._call(client)) for _ in range(CALLERS)]
        await asyncio.sleep(self._minutes * 60)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
        used = (
            self._requests / REQUESTS_PER_MIN
            if self._case.binds == "requests"
            else self._tokens / TOKENS_PER_MIN
        )
        return Cell(used / self._minutes, 100 * self._refused / max(1, self._requests))

    async def _call(self, client: Client) -> None:
        times = 0
        asked: Asked | None = None
        while asyncio.get_running_loop().time() < self._ends_s:
            asked = asked or self._next()
            await client.begin(asked)
            if await self._served(client, asked, times + 1):
                asked, times = None, 0
            else:
                times += 1

    def _next(self) -> Asked:
        self._numbers += 1
        dice = self._dice
        return Asked(self._numbers, dice.choice(PROMPTS), int(MOST * dice.uniform(0.1, 0.5)))

    async def _served(self, client: Client, asked: Asked, times: int) -> bool:
        loop = asyncio.get_running_loop()
        headers: Mapping[str, str] | None = None
        try:
            sent_s = loop.time()
            exceeded = self._meters.admit(sent_s, asked.bound)
            told = self._wire.limit_headers(self._meters, sent_s, sent_s)
            if exceeded is not None:
                self._refused += 1
                await asyncio.sleep(REFUSAL_S)
                await client.refused(asked, told, exceeded.retry_after_s, times)
                return False
            await asyncio.sleep(LATENCY_S * self._dice.uniform(0.5, 1.5))
            self._meters.settle(loop.time(), asked.prompt + asked.answer)
            headers = told
            self._requests += 1
            self._tokens += asked.bound if self._case.counted == "arrival" else asked.prompt + asked.answer
            return True
        finally:
            client.end(asked, headers)


async def _greenroom(case: Case, minutes: float, *, stated: bool) -> Cell:
    limits = (
        Limits(
            requests_per_min=case.requests_per_min,
            tokens_per_min=case.tokens_per_min,
            tokens_counted=case.counted,
        )
        if stated
        else Limits()
    )
    async with ActorSystem(clock=_LoopClock()) as system:
        allowance = Allowance(limits, asyncio.get_running_loop().time())
        limiter = await system.start(Limiter, "bench", allowance)
        return await Rush(case, minutes).run(Greenroom(limiter, allowance))


async def _with(make: Callable[[Case], Client], case: Case, minutes: float) -> Cell:
    return await Rush(case, minutes).run(make(case))


def _run(contender: str, case: Case, minutes: float) -> Cell:
    with asyncio.Runner(loop_factory=_JumpingLoop) as runner:
        if contender.startswith("greenroom"):
            return runner.run(_greenroom(case, minutes, stated=contender.endswith("stated")))
        return runner.run(_with(_PEERS[contender], case, minutes))


_PEERS: dict[str, Callable[[Case], Client]] = {
    "aiolimiter, a minute": partial(Buckets, period_s=60.0),
    "aiolimiter, a second": partial(Buckets, period_s=1.0),
    "semaphore": Semaphore,
    "SDK backoff": Backoff,
}
_OURS = ("greenroom, learned", "greenroom, stated")


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks limits", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    begun_s = time.perf_counter()
    cases = [Case(binds, counted, kind) for binds, counted in BINDING for kind in KINDS]
    table = {
        (contender, case): _run(contender, case, options.minutes)
        for contender in (*_OURS, *_PEERS)
        for case in cases
    }
    if not options.json:
        _print(table, cases)
    code = report("limits", results(table, cases), versions("greenroom", "aiolimiter"), as_json=options.json)
    if not options.json:
        print(
            f"  {options.minutes:g} minutes for each cell, simulated in {time.perf_counter() - begun_s:.0f} s"
        )
    return code


def results(table: Mapping[tuple[str, Case], Cell], cases: list[Case]) -> list[Result]:
    """The worst of the promised cells, and the peers' worst beside it."""
    promised = [case for case in cases if case.is_promised]
    used = [100 * table[ours, case].used for ours in _OURS for case in promised]
    refused = [table[ours, case].refused for ours in _OURS for case in promised]
    least = {peer: 100 * min(table[peer, case].used for case in promised) for peer in _PEERS}
    most = {peer: max(table[peer, case].refused for case in promised) for peer in _PEERS}
    worst = Result.of(
        "R10", "of an allowance used, the worst of all windows", used, "%", target=100 * LEAST_USED
    )
    refusals = Result.of(
        "R10", "429s for each 100 served, the worst", refused, "", target=MOST_REFUSED, better="lower"
    )
    worst.value, worst.against = min(used), least
    refusals.value, refusals.against = max(refused), most
    return [worst, refusals]


def _print(table: Mapping[tuple[str, Case], Cell], cases: list[Case]) -> None:
    for binds, counted in BINDING:
        when = (
            ""
            if binds == "requests"
            else f", counted {'on arrival' if counted == 'arrival' else 'at the end'}"
        )
        print(f"{binds} bind{when}: % of the allowance used / 429s for each 100 served")
        chosen = [case for case in cases if (case.binds, case.counted) == (binds, counted)]
        print(" " * 24 + "".join(f"{case.kind:>18}" for case in chosen))
        for contender in (*_OURS, *_PEERS):
            cells = [table[contender, case] for case in chosen]
            print(f"  {contender:22}" + "".join(f"{100 * c.used:>10.1f} /{c.refused:>6.1f}" for c in cells))
