"""What calls show of a model: counted as it happens, forgotten as it ages, bounded."""

import pytest

from greenroom.actors.catalog import Records, RouteRecord
from greenroom.actors.catalog.records import NOTHING_MEASURED


def answered(record: RouteRecord, *durations_s: float, output_tokens: int = 10) -> None:
    for duration_s in durations_s:
        record.began()
        record.ended(0.0, ok=True, duration_s=duration_s, output_tokens=output_tokens)


def failed(record: RouteRecord, now_s: float, times: int = 1) -> None:
    for _ in range(times):
        record.began()
        record.ended(now_s, ok=False)


def test_nothing_is_known_of_a_model_that_was_not_asked() -> None:
    assert RouteRecord().measured(0.0) == NOTHING_MEASURED


def test_latency_is_the_median_and_any_other_quantile_of_late_answers() -> None:
    record = RouteRecord()
    answered(record, *[float(n) for n in range(1, 101)])
    # The last 64: 37 to 100.
    assert record.latency_s(0.0) == 37.0
    assert record.latency_s() == 69.0
    assert record.latency_s(0.95) == 97.0
    assert record.latency_s(1.0) == 100.0
    answered(record, *[0.5] * 64)
    assert record.latency_s(1.0) == 0.5


def test_failures_make_no_latency_and_are_forgotten_by_the_minute() -> None:
    record = RouteRecord()
    failed(record, 100.0, times=20)
    share = record.failure_share(100.0)
    assert share > 0.95
    assert record.latency_s() is None
    assert record.failure_share(160.0) == pytest.approx(share / 2)
    assert record.failure_share(100.0 + 3600) < 1e-15


def test_answers_bring_the_share_of_failures_down() -> None:
    record = RouteRecord()
    failed(record, 0.0)
    shares = [record.failure_share(0.0)]
    for _ in range(10):
        answered(record, 1.0)
        shares.append(record.failure_share(0.0))
    assert shares == sorted(shares, reverse=True)
    assert shares[-1] < shares[0] / 8


def test_what_says_nothing_of_the_model_only_ends() -> None:
    record = RouteRecord()
    record.began()
    assert record.in_flight == 1
    record.ended(0.0, ok=None, duration_s=99.0, output_tokens=99)
    assert record.measured(0.0) == NOTHING_MEASURED


def test_output_and_first_content_follow_what_is_late() -> None:
    record = RouteRecord()
    answered(record, 1.0, output_tokens=100)
    record.content_came(2.0)
    assert (record.measured(0.0).output_tokens, record.measured(0.0).first_content_s) == (100.0, 2.0)
    for _ in range(30):
        answered(record, 1.0, output_tokens=1000)
        record.content_came(0.5)
    found = record.measured(0.0)
    assert found.output_tokens == pytest.approx(1000, rel=0.01)
    assert found.first_content_s == pytest.approx(0.5, rel=0.01)


def test_records_are_one_a_model_and_bounded() -> None:
    records = Records()
    busy = records.of("acme", "busy")
    busy.began()
    assert records.of("acme", "busy") is busy
    for number in range(10_100):
        records.of("acme", f"m{number}")
    assert sum(records.known("acme", f"m{number}") is not None for number in range(10_100)) == 9_999
    assert records.known("acme", "busy") is busy
    assert records.known("acme", "m0") is None
    assert records.in_flight() == {"acme": 1}


def test_turns_are_taken_in_order() -> None:
    records = Records()
    first, second = records.of("a", "m"), records.of("b", "m")
    records.take_turn(first)
    records.take_turn(second)
    records.take_turn(first)
    assert first.turn > second.turn > 0
