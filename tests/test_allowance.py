"""The limiter against servers that keep their allowance in every way: it is used, and hardly ever overstepped.

Minutes pass on a clock that is moved; the servers are the simulator's own meters.
"""

import asyncio
import random

import pytest
from msgspec import Struct

from greenroom.actors.kernel import ActorRef, ActorSystem, FakeClock, settle
from greenroom.actors.limiter import Admit, Granted, Limiter, Release
from greenroom.actors.settings import Limits
from greenroom.runtime.simulator.traffic.limits import LimitKind, TokensCounted
from greenroom.runtime.simulator.traffic.limits import Limits as Server

pytestmark = pytest.mark.anyio
MINUTES = 5
CALLERS = 128
LATENCY_S = 0.7
REQUESTS_PER_MIN = 600


class Served(Struct):
    """What came through, and what did not."""

    requests: int = 0
    tokens: int = 0
    refused: int = 0


async def rush(limits: Limits, server: Server, sizes: tuple[int, int]) -> Served:
    """Callers that always have another request, for some minutes; sizes in tokens, small ones as often as large."""
    clock = FakeClock(start_s=1_000 * 60.0)
    served = Served()
    tickets = iter(range(1, 10**9))
    dice = random.Random(1)
    async with ActorSystem(clock=clock) as system:
        limiter = await system.start(Limiter, "acme", limits, Granted(limits, clock.monotonic()))
        ends_s = clock.monotonic() + MINUTES * 60

        async def caller(limiter: ActorRef) -> None:
            while clock.monotonic() < ends_s:
                tokens = dice.choice(sizes)
                ticket = next(tickets)
                await limiter.call(Admit(ticket, tokens), timeout=None)
                now_s = clock.monotonic()
                if server.admit(now_s, tokens) is None:
                    await clock.sleep(LATENCY_S * dice.uniform(0.5, 1.5))
                    server.settle(clock.monotonic(), tokens)
                    if now_s < ends_s:
                        served.requests += 1
                        served.tokens += tokens
                else:
                    served.refused += 1
                limiter.cast(Release(ticket))

        callers = [asyncio.create_task(caller(limiter)) for _ in range(CALLERS)]
        await settle()
        while (due_s := clock.next_due()) is not None and clock.monotonic() < ends_s:
            await clock.advance(due_s)
        for task in callers:
            task.cancel()
    return served


@pytest.mark.parametrize("counted", ["arrival", "end"])
@pytest.mark.parametrize("kind", ["bucket", "fixed", "sliding"])
@pytest.mark.parametrize(("tokens_per_min", "binds"), [(60_000_000, "requests"), (60_000, "tokens")])
async def test_an_allowance_is_used_and_not_overstepped(
    kind: LimitKind, counted: TokensCounted, tokens_per_min: int, binds: str
) -> None:
    server = Server(
        requests_per_min=REQUESTS_PER_MIN,
        tokens_per_min=tokens_per_min,
        kind=kind,
        window_s=60,
        tokens_counted=counted,
    )
    limits = Limits(requests_per_min=REQUESTS_PER_MIN, tokens_per_min=tokens_per_min)
    served = await rush(limits, server, (10, 1_000))
    used = served.requests / REQUESTS_PER_MIN if binds == "requests" else served.tokens / tokens_per_min
    assert used / MINUTES >= 0.97
    assert served.refused <= 0.005 * served.requests
