"""The breaker: closed, open, half open with one probe, closed; what counts and what does not; and it, against a model."""

from collections.abc import Callable
from typing import get_args

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from greenroom.actors.events import BreakerChanged, ErrorKind, Event
from greenroom.actors.kernel import FakeClock
from greenroom.actors.pool.breaker import FAILURES, Breaker
from greenroom.actors.settings import BreakerSettings

POLICY = BreakerSettings(failures=3, cool_down_s=5.0, cool_down_max_s=20.0)
SILENT = {"cancelled", "budget_exceeded", "internal", "circuit_open", "protocol"}


class Bench:
    """A breaker, time, and what it told."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.events: list[Event] = []
        self.breaker = Breaker("acme", POLICY, lambda: self.now_s, self.events.append)

    def call(self, outcome: str, *, counts: bool = True) -> None:
        assert self.breaker.wait_s() == 0.0
        self.breaker.ended(self.breaker.lease(), outcome, counts=counts)

    def trip(self) -> None:
        for _ in range(POLICY.failures):
            self.call("server")
        assert self.state == "open"

    @property
    def state(self) -> str:
        return self.breaker.state

    @property
    def states(self) -> list[str]:
        return [event.state for event in self.events if isinstance(event, BreakerChanged)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize("kind", sorted(FAILURES))
def test_failures_in_a_row_open_it(bench: Bench, kind: str) -> None:
    for _ in range(2):
        bench.call(kind)
    assert bench.state == "closed"
    bench.call(kind)
    assert bench.breaker.wait_s() == 5.0
    assert bench.events == [
        BreakerChanged(provider="acme", state="open", because=kind, failures=3, open_s=5.0)
    ]


@pytest.mark.parametrize("kind", sorted({"ok", *get_args(ErrorKind)} - FAILURES - SILENT))
def test_an_answer_of_any_kind_begins_the_row_anew(bench: Bench, kind: str) -> None:
    for outcome in ("server", "server", kind, "server", "server"):
        bench.call(outcome)
    assert bench.state == "closed"
    bench.call("server")
    assert bench.state == "open"


@pytest.mark.parametrize("kind", sorted(SILENT))
def test_what_says_nothing_of_the_provider_changes_nothing(bench: Bench, kind: str) -> None:
    for outcome in ("server", "server", kind):
        bench.call(outcome)
    assert (bench.state, bench.breaker.failures) == ("closed", 2)
    bench.call("server")
    assert bench.state == "open"


def test_a_failure_that_is_not_one_of_health_changes_nothing(bench: Bench) -> None:
    for _ in range(20):
        bench.call("rate_limited", counts=False)
    assert (bench.state, bench.breaker.failures) == ("closed", 0)


def test_a_burst_whose_failures_come_before_its_answers_leaves_it_closed(bench: Bench) -> None:
    burst = [bench.breaker.lease() for _ in range(40)]
    for lease in burst[:19]:
        bench.breaker.ended(lease, "server", counts=True)
    assert bench.state == "closed", "21 may yet be answered"
    bench.breaker.ended(burst[19], "ok", counts=True)
    assert bench.breaker.failures == 0
    for lease in burst[20:29]:
        bench.breaker.ended(lease, "server", counts=True)
    assert bench.state == "closed"
    bench.breaker.ended(burst[29], "server", counts=True)
    assert bench.state == "open", "as many failed as may yet be answered"


def test_calls_from_before_it_opened_do_not_hold_it_closed_after(bench: Bench) -> None:
    for _ in range(3):
        bench.breaker.lease()  # never to end
    bench.trip()
    bench.now_s += 5.0
    bench.call("ok")
    bench.trip()


def test_the_probe_closes_it(bench: Bench) -> None:
    bench.trip()
    bench.now_s += 4.0
    assert bench.breaker.wait_s() == 1.0
    bench.now_s += 1.0
    bench.call("ok")
    assert bench.states == ["open", "half_open", "closed"]
    bench.call("server")
    assert bench.state == "closed", "the row begins anew"


def test_a_probe_that_is_refused_for_the_callers_own_mistake_closes_it(bench: Bench) -> None:
    bench.trip()
    bench.now_s += 5.0
    bench.call("invalid_request")
    assert bench.state == "closed"


def test_each_probe_that_fails_doubles_the_wait_up_to_the_most(bench: Bench) -> None:
    bench.trip()
    for wait_s in (5.0, 10.0, 20.0, 20.0):
        assert bench.breaker.wait_s() == wait_s
        bench.now_s += wait_s
        bench.call("timeout")
    bench.now_s += 20.0
    bench.call("ok")
    bench.trip()
    assert bench.breaker.wait_s() == 5.0, "once it closed, the wait is short again"


def test_a_probe_that_says_nothing_makes_room_for_another(bench: Bench) -> None:
    bench.trip()
    bench.now_s += 5.0
    probe = bench.breaker.lease()
    assert bench.breaker.wait_s() == 1.0
    bench.breaker.ended(probe, "cancelled", counts=True)
    bench.call("ok")
    assert bench.state == "closed"


def test_what_was_sent_before_it_opened_is_not_heard_after(bench: Bench) -> None:
    early = bench.breaker.lease()
    bench.trip()
    bench.breaker.ended(early, "ok", counts=True)
    assert bench.state == "open"
    bench.now_s += 5.0
    probe = bench.breaker.lease()
    bench.breaker.ended(early, "server", counts=True)
    assert bench.breaker.wait_s() == 1.0, "only the probe decides"
    bench.breaker.ended(probe, "ok", counts=True)
    for _ in range(5):
        bench.breaker.ended(early, "server", counts=True)
    assert bench.state == "closed"


class Against(RuleBasedStateMachine):
    """The breaker beside a model of it that keeps every lease and every outcome, and derives the rest."""

    clock: FakeClock
    breaker: Breaker

    @initialize()
    def make(self) -> None:
        self.now_s = 0.0
        self.breaker = Breaker("acme", POLICY, lambda: self.now_s, self.note)
        self.told: list[str] = []
        self.row: list[str] = []
        self.waits = 0
        self.opened_at_s: float | None = None
        self.probe: int | None = None
        self.since = 0
        self.living: dict[int, tuple[int, int]] = {}
        self.number = 0

    def note(self, event: Event) -> None:
        assert isinstance(event, BreakerChanged)
        self.told.append(event.state)

    def cool_down_s(self) -> float:
        return min(POLICY.cool_down_max_s, POLICY.cool_down_s * 2.0 ** (self.waits - 1))

    def expected(self) -> str:
        if self.opened_at_s is None:
            return "closed"
        return "probing" if self.probe is not None else "open"

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds

    @rule()
    def ask(self) -> None:
        due = self.opened_at_s is None or (
            self.probe is None and self.now_s >= self.opened_at_s + self.cool_down_s()
        )
        assert (self.breaker.wait_s() == 0.0) is due
        if not due:
            return
        self.number += 1
        self.living[self.number] = (self.breaker.lease(), self.since)
        if self.opened_at_s is not None:
            self.probe = self.number
            self.opened_at_s = (
                self.now_s - self.cool_down_s()
            )  # half open: a further probe may follow at once

    @precondition(lambda self: self.living)
    @rule(outcome=st.sampled_from(["ok", "not_found", "server", "timeout", "cancelled"]), data=st.data())
    def answer(self, outcome: str, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.living)))
        epoch, since = self.living.pop(number)
        self.breaker.ended(epoch, outcome, counts=True)
        if self.opened_at_s is not None:
            if number == self.probe:
                self.probe_ended(outcome)
        elif since == self.since and outcome != "cancelled":
            self.row = [*self.row, outcome] if outcome in FAILURES else []
            in_flight = sum(since == self.since for _, since in self.living.values())
            if len(self.row) >= max(POLICY.failures, in_flight):
                self.open()

    def probe_ended(self, outcome: str) -> None:
        self.probe = None
        if outcome in FAILURES:
            self.open()
        elif outcome != "cancelled":
            self.opened_at_s, self.row, self.waits = None, [], 0
            self.since += 1

    def open(self) -> None:
        self.waits += 1
        self.opened_at_s = self.now_s
        self.since += 1

    @invariant()
    def agrees(self) -> None:
        state = self.breaker.state
        assert (state == "closed") is (self.expected() == "closed")
        if self.expected() == "probing":
            assert state == "half_open"
        legal = {"closed": {"open"}, "open": {"half_open"}, "half_open": {"open", "closed"}}
        for before, after in zip(["closed", *self.told], self.told, strict=False):
            assert after in legal[before]


TestAgainstAModel: Callable[[], object] = Against.TestCase
Against.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
