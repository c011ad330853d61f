"""Callers that always have another request, a server that keeps its limits in one of the ways, and a clock that is moved.

The server is the simulator's own meters, and tells of them in OpenAI's headers.
"""

import asyncio
import random
from collections.abc import Mapping

from msgspec import Struct

from greenroom.actors.events import Usage
from greenroom.actors.kernel import ActorRef, ActorSystem, FakeClock, settle
from greenroom.actors.limiter import Admit, Allowance, Limiter, Release
from greenroom.actors.settings import Limits
from greenroom.runtime.simulator.traffic.limits import LimitKind, TokensCounted
from greenroom.runtime.simulator.traffic.limits import Limits as Meters
from greenroom.runtime.simulator.wires.openai import OpenAIWire

START_S = 1_000 * 60.0


class Job(Struct, frozen=True, kw_only=True):
    """What callers ask. `guess` is what a token of input is guessed at; answers use a tenth to a half of `max_tokens`."""

    inputs: tuple[int, ...] = (10, 1_000)
    max_tokens: int = 400
    guess: float = 1.3
    callers: int = 128
    minutes: int = 5
    latency_s: float = 0.7


class Served(Struct):
    """What came through in the server's own count, and what did not."""

    requests: int = 0
    tokens: int = 0
    refused: int = 0
    large: int = 0


class Server:
    """Limits of one kind.

    Args:
        told: whether answers tell of the limits in headers.
    """

    def __init__(
        self,
        *,
        requests_per_min: int | None,
        tokens_per_min: int | None,
        kind: LimitKind,
        counted: TokensCounted,
        window_s: float = 60.0,
        told: bool = True,
    ) -> None:
        self.counted = counted
        self.told = told
        self._meters = Meters(
            requests_per_min=requests_per_min,
            tokens_per_min=tokens_per_min,
            kind=kind,
            window_s=window_s,
            tokens_counted=counted,
        )

    def ask(self, now_s: float, bound: int) -> tuple[bool, Mapping[str, str], float | None]:
        """Whether it is served, the answer's headers, and when to come back if not."""
        exceeded = self._meters.admit(now_s, bound)
        headers = OpenAIWire().limit_headers(self._meters, now_s, now_s) if self.told else {}
        return exceeded is None, headers, exceeded.retry_after_s if exceeded is not None else None

    def end(self, now_s: float, used: int) -> None:
        self._meters.settle(now_s, used)


async def rush(limits: Limits, server: Server, job: Job = Job(), seed: int = 1) -> Served:  # noqa: B008  # frozen
    """The job through a limiter, for its minutes."""
    clock = FakeClock(start_s=START_S)
    served = Served()
    allowance = Allowance(limits, clock.monotonic())
    tickets = iter(range(1, 10**9))
    dice = random.Random(seed)
    ends_s = clock.monotonic() + job.minutes * 60

    async def ask(limiter: ActorRef, ticket: int) -> None:
        size = dice.choice(job.inputs)
        used = Usage(input_tokens=size, output_tokens=int(job.max_tokens * dice.uniform(0.1, 0.5)))
        bound, spent = size + job.max_tokens, size + used.output_tokens
        await limiter.call(Admit(ticket, int(size * job.guess), job.max_tokens), timeout=None)
        sent_s = clock.monotonic()
        taken, headers, wait_s = server.ask(sent_s, bound)
        if not taken:
            await clock.sleep(0.02)
            allowance.observe(ticket, headers, clock.monotonic())
            allowance.refused(ticket, "rate_limited", wait_s, clock.monotonic())
            allowance.give_back(ticket, clock.monotonic(), None, "rate_limited")
            served.refused += 1
            return
        await clock.sleep(job.latency_s * dice.uniform(0.5, 1.5))
        now_s = clock.monotonic()
        server.end(now_s, spent)
        allowance.observe(ticket, headers, now_s)
        allowance.give_back(ticket, now_s, used, "ok")
        if sent_s < ends_s:
            served.requests += 1
            served.large += size == max(job.inputs)
            served.tokens += bound if server.counted == "arrival" else spent

    async def caller(limiter: ActorRef) -> None:
        while clock.monotonic() < ends_s:
            ticket = next(tickets)
            await ask(limiter, ticket)
            limiter.cast(Release(ticket))

    async with ActorSystem(clock=clock) as system:
        limiter = await system.start(Limiter, "acme", allowance)
        callers = [asyncio.create_task(caller(limiter)) for _ in range(job.callers)]
        await settle()
        while (due_s := clock.next_due()) is not None and clock.monotonic() < ends_s:
            await clock.advance(due_s)
        for task in callers:
            task.cancel()
        await asyncio.gather(*callers, return_exceptions=True)
    return served
