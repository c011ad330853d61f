"""Admission to one provider: a slot, a request and its tokens, asked for together and granted in one decision.

Rates are GCRA at 98 % of a limit with small bursts, for each limit that is configured or that the provider's answers
tell; every answer corrects them. Who waits is served fairly between tenants, interactive before batch, and who cannot start
before its deadline is told so at once.

    gcra         one rate; one limit, paced by us and corrected by what the server says is left
    learning     when a server counts tokens, and how large requests and answers turn out
    lane         one model's limits, learned
    concurrency  how many may be in flight
    allowance    all of it, outliving the actor: calls tell it what came of them, without a message
    queue        who goes next
    messages     what is said to the limiter
    actor        the limiter
"""

from greenroom.actors.limiter.actor import Limiter
from greenroom.actors.limiter.allowance import Allowance
from greenroom.actors.limiter.messages import (
    BATCH,
    INTERACTIVE,
    Admit,
    CannotStart,
    GetLimiterStatus,
    LimiterStatus,
    ModelLimits,
    Permit,
    Release,
    TooManyWaiting,
)

__all__ = [
    "BATCH",
    "INTERACTIVE",
    "Admit",
    "Allowance",
    "CannotStart",
    "GetLimiterStatus",
    "Limiter",
    "LimiterStatus",
    "ModelLimits",
    "Permit",
    "Release",
    "TooManyWaiting",
]
