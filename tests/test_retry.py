"""Which errors are tried again, how often, and how long is waited for each."""

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.events import ErrorKind, ProviderError
from greenroom.actors.retry import RETRYABLE, retry_delay_s
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
