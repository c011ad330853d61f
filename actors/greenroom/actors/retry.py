"""When to try again: one policy, pure, asked by `flow` and by nobody else."""

from collections.abc import Callable

from greenroom.actors.events import ErrorKind, ProviderError
from greenroom.actors.settings import Retries

RETRYABLE: frozenset[ErrorKind] = frozenset(
    {"rate_limited", "overloaded", "server", "timeout", "connection", "stalled"}
)
"""What another attempt may mend. Everything else is the caller's or the key's to mend."""


def retry_delay_s(
    error: ProviderError,
    attempts: int,
    policy: Retries,
    left_s: float,
    uniform: Callable[[float, float], float],
) -> float | None:
    """Seconds to wait before the next attempt, or None to give up.

    Exponential backoff with full jitter: uniform between nothing and base * 2 ** (attempts - 1), capped. The
    provider's own Retry-After is a lower bound, with up to one base of jitter on top, so that those who were told
    the same moment do not all come at it.

    Args:
        error: what the last attempt came to.
        attempts: made so far.
        policy: how many there may be, and how the waits grow.
        left_s: until the call's deadline; a wait beyond it is not begun.
        uniform: a random number between two.
    """
    if error.kind not in RETRYABLE or attempts >= policy.attempts:
        return None
    doublings = min(attempts - 1, 64)  # past any cap; unbounded, the product leaves the range of floats
    ceiling_s = min(policy.backoff_max_s, policy.backoff_base_s * 2**doublings)
    delay_s = uniform(0.0, ceiling_s)
    if error.retry_after_s is not None:
        if error.retry_after_s > policy.max_retry_after_s:
            return None
        delay_s = max(delay_s, error.retry_after_s + uniform(0.0, policy.backoff_base_s))
    return delay_s if delay_s < left_s else None
