"""The arithmetic of one rate, by property."""

from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.limiter.gcra import Gcra

MINUTE_S = 60.0


@given(
    limit=st.integers(1, 10_000_000),
    steps=st.lists(st.tuples(st.floats(0, 40), st.integers(1, 4)), min_size=1, max_size=60),
)
def test_no_minute_grants_more_requests_than_the_limit(limit: int, steps: list[tuple[float, int]]) -> None:
    gcra = Gcra(limit, 1, 0.0)
    assert most_in_a_minute(grants(gcra, [(gap_s, 1.0) for gap_s, _ in steps])) <= limit


@given(
    limit=st.integers(60, 10_000_000),
    steps=st.lists(st.tuples(st.floats(0, 5), st.floats(0.001, 1.0)), min_size=1, max_size=60),
)
def test_no_minute_grants_more_tokens_than_the_limit_in_requests_of_up_to_a_second(
    limit: int, steps: list[tuple[float, float]]
) -> None:
    burst = limit * 0.98 / 60
    taken = grants(Gcra(limit, burst, 0.0), [(gap_s, share * burst) for gap_s, share in steps])
    assert most_in_a_minute(taken) <= limit * (1 + 1e-9)


@given(
    limit=st.integers(60, 10_000_000),
    steps=st.lists(st.tuples(st.floats(0, 90), st.floats(0.001, 2.0)), min_size=1, max_size=40),
)
def test_larger_requests_exceed_a_minute_by_no_more_than_the_last_of_them(
    limit: int, steps: list[tuple[float, float]]
) -> None:
    taken = grants(Gcra(limit, limit * 0.98 / 60, 0.0), [(gap_s, share * limit) for gap_s, share in steps])
    largest = max(units for _, units in taken)
    assert most_in_a_minute(taken) <= (limit + largest) * (1 + 1e-9)


@given(limit=st.integers(1, 10_000_000), units=st.floats(0.001, 1e7), now_s=st.floats(0, 1e6))
def test_after_the_stated_wait_the_units_conform(limit: int, units: float, now_s: float) -> None:
    gcra = Gcra(limit, 1, now_s)
    gcra.take(units, now_s)
    wait_s = gcra.wait_s(units, now_s)
    assert gcra.wait_s(units, now_s + wait_s) <= max(1e-9, (now_s + wait_s) * 1e-15)


def grants(gcra: Gcra, steps: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Each asks so long after the one before was granted, and goes as soon as it may: (moment, units)."""
    now_s, taken = 0.0, list[tuple[float, float]]()
    for gap_s, units in steps:
        now_s += gap_s
        now_s += gcra.wait_s(units, now_s)
        gcra.take(units, now_s)
        taken.append((now_s, units))
    return taken


def most_in_a_minute(taken: list[tuple[float, float]]) -> float:
    return max(
        sum(units for at_s, units in taken if start_s <= at_s <= start_s + MINUTE_S) for start_s, _ in taken
    )
