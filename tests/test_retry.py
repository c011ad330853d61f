"""Which errors are tried again, how often, and how long is waited for each."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.call.retry import RetryBudget, RetryPolicy, retry_delay_s
from greenroom.actors.events import RETRYABLE, ErrorKind, ProviderError
from greenroom.actors.kernel import FakeClock
from greenroom.actors.settings import Retries

POLICY = Retries(attempts=6, backoff_base_s=0.5, backoff_max_s=6.0, max_retry_after_s=60.0)
MENDABLE = {"rate_limited", "overloaded", "server", "timeout", "connection", "stalled"}
KINDS: tuple[ErrorKind, ...] = get_args(ErrorKind)


def failed(kind: ErrorKind = "server", retry_after_s: float | None = None) -> ProviderError:
    return ProviderError(kind=kind, message="no", retry_after_s=retry_after_s)


def highest(low: float, high: float) -> float:
    return high


def lowest(low: float, high: float) -> float:
    return low


@pytest.mark.parametrize("kind", KINDS)
def test_only_what_another_attempt_may_mend_is_tried_again(kind: ErrorKind) -> None:
    delay_s = retry_delay_s(failed(kind), 1, POLICY, 1e6, highest)
    assert (delay_s is not None) == (kind in MENDABLE)


def test_an_error_says_whether_it_is_worth_another_try() -> None:
    assert {kind for kind in KINDS if failed(kind).is_retryable} == {*MENDABLE, "circuit_open"}


def test_every_retryable_kind_is_a_kind() -> None:
    assert frozenset(KINDS) >= RETRYABLE


@pytest.mark.parametrize(
    ("attempts", "ceiling_s"), [(1, 0.5), (2, 1.0), (3, 2.0), (4, 4.0), (5, 6.0), (6, None), (7, None)]
)
def test_backoff_doubles_up_to_its_cap_and_ends_with_the_attempts(
    attempts: int, ceiling_s: float | None
) -> None:
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    assert retry_delay_s(failed(), attempts, POLICY, 1e6, uniform) == ceiling_s
    assert drawn == ([] if ceiling_s is None else [(0.0, ceiling_s)])


@pytest.mark.parametrize(
    ("retry_after_s", "lowest_s", "highest_s"),
    [
        (None, 0.0, 4.0),
        (0.0, 0.0, 4.0),  # the backoff's jitter may be the longer wait
        (3.9, 3.9, 4.4),  # one base of jitter on top of what the provider said
        (10.0, 10.0, 10.5),
        (60.0, 60.0, 60.5),  # exactly what the policy still obeys
        (60.1, None, None),
    ],
)
def test_retry_after_is_a_lower_bound_and_has_a_limit(
    retry_after_s: float | None, lowest_s: float | None, highest_s: float | None
) -> None:
    error = failed("rate_limited", retry_after_s)
    assert retry_delay_s(error, 4, POLICY, 1e6, lowest) == lowest_s
    assert retry_delay_s(error, 4, POLICY, 1e6, highest) == highest_s


@pytest.mark.parametrize(("left_s", "delay_s"), [(0.51, 0.5), (0.5, None), (0.1, None), (-1.0, None)])
def test_no_wait_reaches_the_deadline(left_s: float, delay_s: float | None) -> None:
    assert retry_delay_s(failed(), 1, POLICY, left_s, highest) == delay_s


def test_a_retry_after_beyond_the_deadline_is_not_waited_for() -> None:
    assert retry_delay_s(failed("overloaded", 20.0), 1, POLICY, 20.0, lowest) is None
    assert retry_delay_s(failed("overloaded", 20.0), 1, POLICY, 20.1, lowest) == 20.0


@given(attempts=st.integers(1, 5000), part=st.floats(0, 1), retry_after_s=st.none() | st.floats(0, 400))
def test_a_wait_is_never_negative_shorter_than_asked_or_longer_than_allowed(
    attempts: int, part: float, retry_after_s: float | None
) -> None:
    policy = Retries(attempts=10_000)

    def uniform(low: float, high: float) -> float:
        return low + part * (high - low)

    delay_s = retry_delay_s(failed("rate_limited", retry_after_s), attempts, policy, 1e6, uniform)
    asked_s = retry_after_s or 0.0
    if asked_s > policy.max_retry_after_s:
        assert delay_s is None
    else:
        assert delay_s is not None
        assert asked_s <= delay_s <= max(policy.backoff_max_s, asked_s + policy.backoff_base_s)


def failed_at(provider: str, kind: ErrorKind = "server", retry_after_s: float | None = None) -> ProviderError:
    return ProviderError(kind=kind, message="no", provider=provider, retry_after_s=retry_after_s)


class TestBudget:
    """Whatever fails, a provider gets a bounded number of retries."""

    @given(
        earned=st.lists(st.integers(0, 50), min_size=1, max_size=50),
        share=st.floats(0, 2),
        per_s=st.floats(0.1, 100),
    )
    def test_never_more_than_was_earned(self, earned: list[int], share: float, per_s: float) -> None:
        budget = RetryBudget(Retries(budget_share=share, budget_per_s=per_s), now_s=0.0)
        taken = calls = 0
        for second, begun in enumerate(earned):
            for _ in range(begun):
                budget.earn()
            calls += begun
            while budget.take(float(second)):
                taken += 1
                assert taken <= max(1.0, 20 * per_s) + second * per_s + calls * share + 1e-6

    def test_what_is_not_used_is_not_kept_for_ever(self) -> None:
        budget = RetryBudget(Retries(budget_per_s=1.0), now_s=0.0)
        assert sum(budget.take(1e6) for _ in range(100)) == 20

    def test_a_clock_that_jumps_back_gives_nothing(self) -> None:
        budget = RetryBudget(Retries(budget_per_s=1.0), now_s=100.0)
        assert sum(budget.take(100.0) for _ in range(100)) == 20
        assert not budget.take(0.0)
        assert budget.take(1.0)

    def test_who_waits_is_told_that_it_is_spent_and_a_batch_is_made_to_wait(self) -> None:
        clock = FakeClock()
        policy = RetryPolicy(Retries(budget_per_s=1.0, budget_share=0.0), clock.monotonic, lowest)

        def verdicts(*, patient: bool, provider: str = "acme") -> list[float | None]:
            error = failed_at(provider)
            return [policy.verdict(error, 1, 1e6, patient=patient).delay_s for _ in range(23)]

        assert verdicts(patient=False) == [0.0] * 20 + [None] * 3
        assert verdicts(patient=True) == [0.0] * 20 + [1.0, 2.0, 3.0]
        assert verdicts(patient=False, provider="other") == [0.0] * 20 + [None] * 3
        spent = policy.verdict(failed_at("acme"), 1, 1e6, patient=False)
        assert spent.why == (
            "not tried again, as the retry budget of acme is spent (1 a second and 0 for each call)"
        )

    def test_a_batch_does_not_wait_beyond_its_deadline(self) -> None:
        policy = RetryPolicy(Retries(budget_per_s=0.1), FakeClock().monotonic, lowest)
        verdicts = [policy.verdict(failed_at("acme"), 1, 15.0, patient=True) for _ in range(5)]
        assert [verdict.delay_s for verdict in verdicts[:3]] == [0.0, 0.0, 10.0]
        assert verdicts[3].delay_s is None
        assert "budget" in verdicts[3].why

    def test_what_is_never_retried_costs_nothing(self) -> None:
        policy = RetryPolicy(Retries(budget_per_s=0.1, budget_share=0.0), FakeClock().monotonic, lowest)
        for _ in range(100):
            assert policy.verdict(failed_at("acme", "authentication"), 1, 1e6, patient=False).delay_s is None
        assert policy.verdict(failed_at("acme"), 1, 1e6, patient=False).delay_s == 0.0

    def test_calls_earn_it(self) -> None:
        policy = RetryPolicy(Retries(budget_per_s=0.05, budget_share=0.2), FakeClock().monotonic, lowest)
        error = failed_at("acme")
        assert policy.verdict(error, 1, 1e6, patient=False).delay_s == 0.0
        assert policy.verdict(error, 1, 1e6, patient=False).delay_s is None
        for _ in range(5):
            policy.begin("acme", patient=False)
        assert policy.verdict(error, 1, 1e6, patient=False).delay_s == 0.0


class TestOpenBreaker:
    def test_who_waits_is_told_at_once(self) -> None:
        policy = RetryPolicy(POLICY, FakeClock().monotonic, lowest)
        assert policy.verdict(failed_at("acme", "circuit_open", 5.0), 1, 1e6, patient=False).delay_s is None

    def test_who_was_under_way_when_it_opened_waits_and_that_is_an_attempt(self) -> None:
        policy = RetryPolicy(POLICY, FakeClock().monotonic, highest)
        for attempts in range(2, POLICY.attempts):
            verdict = policy.verdict(failed_at("acme", "circuit_open", 5.0), attempts, 1e6, patient=False)
            assert (verdict.delay_s, verdict.counts) == (5.5, True)
        last = policy.verdict(failed_at("acme", "circuit_open", 5.0), POLICY.attempts, 1e6, patient=False)
        assert last.delay_s is None

    def test_a_batch_waits_until_it_may_close_and_that_is_no_attempt(self) -> None:
        policy = RetryPolicy(POLICY, FakeClock().monotonic, highest)
        verdict = policy.verdict(failed_at("acme", "circuit_open", 5.0), 6, 1e6, patient=True)
        assert (verdict.delay_s, verdict.counts) == (5.5, False)
        assert policy.verdict(failed_at("acme", "circuit_open", 5.0), 1, 5.0, patient=True).delay_s is None
