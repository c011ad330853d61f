"""R10: limits are used and hardly ever overstepped, whichever way the server keeps and counts them, stated or learned."""

import pytest
from tests.limiter.rush import Job, Server, rush

from greenroom.actors.settings import Limits
from greenroom.runtime.simulator.traffic.limits import LimitKind, TokensCounted

pytestmark = pytest.mark.anyio
REQUESTS_PER_MIN = 600
TOKENS_PER_MIN = 300_000
PLENTY = 1_000
JOB = Job(callers=64, minutes=3)
"""Prompts of 10 and of 1 000 tokens, guessed at a third too high; answers of a tenth to a half of what they may be."""


def server(
    binds: str, kind: LimitKind, counted: TokensCounted, *, told: bool, window_s: float = 60.0
) -> Server:
    return Server(
        requests_per_min=REQUESTS_PER_MIN * (1 if binds == "requests" else PLENTY),
        tokens_per_min=TOKENS_PER_MIN * (1 if binds == "tokens" else PLENTY),
        kind=kind,
        counted=counted,
        window_s=window_s,
        told=told,
    )


def stated(binds: str, counted: TokensCounted) -> Limits:
    return Limits(
        requests_per_min=REQUESTS_PER_MIN * (1 if binds == "requests" else PLENTY),
        tokens_per_min=TOKENS_PER_MIN * (1 if binds == "tokens" else PLENTY),
        tokens_counted=counted,
    )


class TestR10:
    @pytest.mark.parametrize("known", ["stated", "learned"])
    @pytest.mark.parametrize("counted", ["arrival", "end"])
    @pytest.mark.parametrize("kind", ["bucket", "fixed", "sliding"])
    @pytest.mark.parametrize("binds", ["requests", "tokens"])
    async def test_limits_are_used_and_not_overstepped(
        self, binds: str, kind: LimitKind, counted: TokensCounted, known: str
    ) -> None:
        limits = stated(binds, counted) if known == "stated" else Limits()
        served = await rush(limits, server(binds, kind, counted, told=known == "learned"), JOB)
        used, allowed = (
            (served.requests, REQUESTS_PER_MIN) if binds == "requests" else (served.tokens, TOKENS_PER_MIN)
        )
        assert used / allowed / JOB.minutes >= 0.97
        assert served.large == pytest.approx(served.requests / 2, rel=0.1)  # as many as were asked
        assert served.refused < 0.005 * served.requests

    @pytest.mark.parametrize("known", ["stated", "learned"])
    async def test_requests_under_a_sliding_second(self, known: str) -> None:
        limits = stated("requests", "arrival") if known == "stated" else Limits()
        told = known == "learned"
        served = await rush(limits, server("requests", "sliding", "arrival", told=told, window_s=1.0), JOB)
        assert served.requests / REQUESTS_PER_MIN / JOB.minutes >= 0.97
        assert served.refused < 0.005 * served.requests
