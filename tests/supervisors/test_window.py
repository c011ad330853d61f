"""Intensity and period, without a clock."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.supervisors.engine.window import RestartWindow


def lives(window: RestartWindow, *at_s: float) -> list[bool]:
    return [window.add(moment) for moment in at_s]


def test_a_restart_exactly_one_period_ago_still_counts() -> None:
    assert lives(RestartWindow(1, 5.0), 0.0, 5.0) == [True, False]
    assert lives(RestartWindow(1, 5.0), 0.0, 5.001) == [True, True]


def test_no_restart_is_borne_at_intensity_zero() -> None:
    assert lives(RestartWindow(0, 5.0), 0.0) == [False]


@pytest.mark.parametrize(("at_s", "expected"), [((7.05, 8.85), [True, False]), ((7.85, 9.05), [True, True])])
def test_whole_seconds_count_as_otp_does(at_s: tuple[float, ...], expected: list[bool]) -> None:
    assert lives(RestartWindow(1, 1, whole_seconds=True), *at_s) == expected


@given(st.lists(st.floats(0, 10), max_size=40), st.integers(0, 5), st.floats(0.1, 5))
def test_it_gives_up_exactly_when_a_window_holds_too_many(
    gaps: list[float], intensity: int, period_s: float
) -> None:
    window, now_s, earlier = RestartWindow(intensity, period_s), 0.0, list[float]()
    for gap in gaps:
        now_s += gap
        earlier.append(now_s)
        expected = sum(moment >= now_s - period_s for moment in earlier) <= intensity
        if window.add(now_s) != expected:
            raise AssertionError((gaps, intensity, period_s))
        if not expected:
            return  # the supervisor is gone
