"""When a failed attempt is made again: one policy, asked by `flow` and by nobody else."""

import random
from collections.abc import Callable

from msgspec import Struct

from greenroom.actors.events import RETRYABLE, ProviderError
from greenroom.actors.settings import Retries

_BUDGET_KEPT_S = 20.0
"""So long unused, a retry budget grows no further."""


class Verdict(Struct, frozen=True, gc=False):
    """What becomes of a call whose attempt failed: `delay_s` until the next one, or None and, maybe, `why` there is none.

    `counts`: whether the attempt is one of those that the policy allows. One that was refused unsent is not.
    """

    delay_s: float | None
    why: str = ""
    counts: bool = True


class RetryBudget:
    """How many retries one provider bears, so that its failures are never answered by a storm.

    Each first attempt earns a share of a retry, and each second some; what is not used is kept for twenty seconds.

    Args:
        policy: how much is earned.
        now_s: by the clock's `monotonic`.
    """

    __slots__ = ("_at_s", "_left", "_most", "_per_s", "_share")

    def __init__(self, policy: Retries, now_s: float) -> None:
        self._share = policy.budget_share
        self._per_s = policy.budget_per_s
        self._most = max(1.0, _BUDGET_KEPT_S * self._per_s)
        self._left = self._most
        self._at_s = now_s

    def earn(self) -> None:
        """A call makes its first attempt here."""
        self._left = min(self._most, self._left + self._share)

    def take(self, now_s: float) -> bool:
        """Take one retry, if there is one."""
        self._refill(now_s)
        if self._left < 1.0:
            return False
        self._left -= 1.0
        return True

    def borrow_s(self, now_s: float) -> float:
        """Take one retry that may not be earned yet; seconds until it is."""
        self._refill(now_s)
        self._left -= 1.0
        return max(0.0, -self._left / self._per_s)

    def _refill(self, now_s: float) -> None:
        self._left = min(self._most, self._left + max(0.0, now_s - self._at_s) * self._per_s)
        self._at_s = now_s


class RetryPolicy:
    """The one retry policy, and what it has allowed of late.

    People who wait for an answer are told at once when a provider's retry budget is spent; a batch, which is patient,
    waits until it is earned, and for a breaker to close. Each has a budget of its own at each provider.

    Args:
        retries: how many attempts there may be, how the waits grow, and what may be retried in all.
        now_s: the clock's `monotonic`.
        uniform: a random number between two.
    """

    def __init__(
        self,
        retries: Retries,
        now_s: Callable[[], float],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._retries = retries
        self._now_s = now_s
        self._uniform = uniform
        self._budgets: dict[tuple[str, bool], RetryBudget] = {}

    def begin(self, provider: str, *, patient: bool) -> None:
        """A call makes its first attempt at a provider."""
        budget = self._budgets.get((provider, patient))
        if budget is not None:  # one that nobody drew on is full
            budget.earn()

    def verdict(self, error: ProviderError, attempts: int, left_s: float, *, patient: bool) -> Verdict:
        """What to do about a failure.

        Args:
            error: what the last attempt came to.
            attempts: made so far at this model.
            left_s: until the call's deadline.
            patient: nobody waits for the answer, so the call may wait long.
        """
        if error.kind == "circuit_open":
            if patient:
                return self._until_closed(error, left_s, counts=False)
            # Who asks a provider that is down is told at once; a call that was under way when it went down may outlast it.
            under_way = 1 < attempts < self._retries.attempts
            return self._until_closed(error, left_s, counts=True) if under_way else Verdict(None)
        delay_s = retry_delay_s(error, attempts, self._retries, left_s, self._uniform)
        if delay_s is None:
            return Verdict(None)
        budget = self._budget(error.provider, patient=patient)
        if patient:
            delay_s = max(delay_s, budget.borrow_s(self._now_s()))
            if delay_s >= left_s:
                return Verdict(None, self._spent(error.provider))
        elif not budget.take(self._now_s()):
            return Verdict(None, self._spent(error.provider))
        return Verdict(delay_s)

    def is_short(self, delay_s: float | None) -> bool:
        """Whether a wait is one that is borne though another model is at hand: no longer than the longest backoff."""
        return delay_s is not None and delay_s <= self._retries.backoff_max_s

    def may_hedge(self, provider: str, *, patient: bool) -> bool:
        """Whether a provider bears a second attempt beside the first; it is taken from the budget of retries."""
        return self._budget(provider, patient=patient).take(self._now_s())

    def _until_closed(self, error: ProviderError, left_s: float, *, counts: bool) -> Verdict:
        wait_s = error.retry_after_s or 0.0
        delay_s = wait_s + self._uniform(0.0, self._retries.backoff_base_s)
        return Verdict(delay_s if delay_s < left_s else None, counts=counts)

    def _budget(self, provider: str, *, patient: bool) -> RetryBudget:
        budget = self._budgets.get((provider, patient))
        if budget is None:
            budget = self._budgets[provider, patient] = RetryBudget(self._retries, self._now_s())
        return budget

    def _spent(self, provider: str) -> str:
        return (
            f"not tried again, as the retry budget of {provider} is spent ({self._retries.budget_per_s:g} a second "
            f"and {self._retries.budget_share:g} for each call)"
        )


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
