"""Watching a job: paces are reckoned over a window, and what is shown fits terminals and pipes alike."""

import io
from decimal import Decimal

import pytest
from rich.console import Console

from greenroom.actors.batch import JobProgress
from greenroom.runtime.cli import live
from greenroom.runtime.cli.live import LiveView, Meter


class Hands:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def reading(
    ok: int = 0, *, failed: int = 0, tokens: int = 0, cost_usd: int = 0, state: str = "running"
) -> JobProgress:
    assert state in {"running", "stopping"}
    return JobProgress(
        job_id="j",
        state="running" if state == "running" else "stopping",
        total=100,
        ok=ok,
        failed=failed,
        resumed=0,
        in_flight=7,
        usage_input_tokens=tokens // 2,
        usage_output_tokens=tokens - tokens // 2,
        cost_pusd=cost_usd * 10**12,
        errors={},
    )


class TestMeter:
    def test_a_first_reading_has_no_pace(self) -> None:
        pace = Meter(Hands()).pace(reading(5, tokens=50, cost_usd=1))
        assert (pace.requests_per_s, pace.tokens_per_s, pace.left_s) == (0.0, 0.0, None)
        assert pace.projected_usd == Decimal(20)

    def test_nothing_finished_projects_nothing(self) -> None:
        assert Meter(Hands()).pace(reading()).projected_usd == 0

    def test_pace_and_time_left(self) -> None:
        hands = Hands()
        meter = Meter(hands)
        meter.pace(reading())
        hands.now_s += 2.0
        pace = meter.pace(reading(15, failed=5, tokens=600, cost_usd=3))
        assert (pace.requests_per_s, pace.tokens_per_s, pace.left_s) == (10.0, 300.0, 8.0)
        assert pace.projected_usd == Decimal(15)

    def test_what_is_long_ago_counts_no_more(self) -> None:
        """A slow beginning does not slow the pace down for ever."""
        hands = Hands()
        meter = Meter(hands)
        meter.pace(reading())
        hands.now_s += 60.0
        meter.pace(reading(1))
        for finished in range(2, 42):
            hands.now_s += 0.5
            meter.pace(reading(finished))
        hands.now_s += 0.5
        assert meter.pace(reading(42)).requests_per_s == pytest.approx(2.0)

    def test_memory_is_the_window(self) -> None:
        hands = Hands()
        meter = Meter(hands)
        for finished in range(10_000):
            hands.now_s += 0.25
            meter.pace(reading(min(finished, 100)))
        assert len(meter._readings) <= 10.0 / 0.25 + 2  # pyright: ignore[reportPrivateUsage] - its bound is the point


class TestLiveView:
    def test_on_a_pipe_a_line_every_few_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        hands = Hands()
        monkeypatch.setattr(live, "monotonic", hands)
        out = io.StringIO()
        with LiveView(Console(file=out, width=200), "in → out") as view:
            for finished in range(0, 81, 2):
                view.show(reading(finished, cost_usd=1))
                hands.now_s += 0.25
        lines = out.getvalue().splitlines()
        # Ten seconds pass: two lines, five seconds apart.
        assert len(lines) == 2
        assert lines[0].startswith("40/100 done, 0 failed, 7 in flight, ")
        assert "$1.00 so far of about $2.50" in lines[0]
        assert "\x1b" not in out.getvalue()

    def test_on_a_terminal_it_is_drawn_anew(self) -> None:
        out = io.StringIO()
        console = Console(file=out, width=120, force_terminal=True, color_system=None, legacy_windows=False)
        with LiveView(console, "[in] :smile: → out") as view:
            view.show(reading(5, failed=2, tokens=50, cost_usd=1))
            view.show(reading(50, failed=3, state="stopping"))
        seen = out.getvalue()
        for words in ("[in] :smile: → out", "done 50/100", "failed 3", "in flight 7", "time left"):
            assert words in seen
        assert "stopping: 7 in flight are finishing, Ctrl-C again drops them" in seen

    def test_a_terminal_is_left_as_it_was_when_the_job_raises(self) -> None:
        out = io.StringIO()
        console = Console(file=out, width=120, force_terminal=True, legacy_windows=False)

        def fail_in_mid_job() -> None:
            with LiveView(console, "t") as view:
                view.show(reading(1))
                raise RuntimeError("no more")

        with pytest.raises(RuntimeError, match="no more"):
            fail_in_mid_job()
        # The cursor, hidden while it is drawn, is there again.
        assert out.getvalue().rindex("\x1b[?25h") > out.getvalue().rindex("\x1b[?25l")
