"""Watching a job: a live view on a terminal, plain lines elsewhere."""

from collections import deque
from collections.abc import Callable
from decimal import Decimal
from time import monotonic
from typing import Self

from msgspec import Struct
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from greenroom.actors.batch import JobProgress
from greenroom.actors.prices import usd
from greenroom.runtime.cli.output import duration, money

_WINDOW_S = 10.0
_PLAIN_EVERY_S = 5.0


class Pace(Struct, frozen=True, kw_only=True):
    """How fast a job goes, over the last ten seconds, and what that means for the rest of it."""

    requests_per_s: float
    tokens_per_s: float
    projected_usd: Decimal
    left_s: float | None


class Meter:
    """Turns readings of a job's progress into a pace."""

    def __init__(self, now_s: Callable[[], float] = monotonic) -> None:
        self._now_s = now_s
        self._readings: deque[tuple[float, int, int]] = deque()

    def pace(self, progress: JobProgress) -> Pace:
        """Take a reading, and tell the pace that it and earlier ones amount to."""
        now_s = self._now_s()
        tokens = progress.usage_input_tokens + progress.usage_output_tokens
        self._readings.append((now_s, progress.finished, tokens))
        while now_s - self._readings[0][0] > _WINDOW_S and len(self._readings) > 2:
            self._readings.popleft()
        since_s, finished, before = self._readings[0]
        span_s = now_s - since_s
        rate = (progress.finished - finished) / span_s if span_s else 0.0
        share = progress.total / progress.finished if progress.finished else 0
        return Pace(
            requests_per_s=rate,
            tokens_per_s=(tokens - before) / span_s if span_s else 0.0,
            projected_usd=usd(progress.cost_pusd) * Decimal(share),
            left_s=(progress.total - progress.finished) / rate if rate else None,
        )


class LiveView:
    """The view: a context manager that `show` feeds with readings."""

    def __init__(self, console: Console, title: str) -> None:
        self._console = console
        self._title = title
        self._meter = Meter()
        self._live = Live(console=console, refresh_per_second=8) if console.is_terminal else None
        self._last_line_s = monotonic()

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def show(self, progress: JobProgress) -> None:
        """Show a reading: at once on a terminal, as a line every few seconds elsewhere."""
        pace = self._meter.pace(progress)
        if self._live is not None:
            self._live.update(self._render(progress, pace))
        elif monotonic() - self._last_line_s >= _PLAIN_EVERY_S:
            self._last_line_s = monotonic()
            self._console.print(_line(progress, pace))

    def _render(self, progress: JobProgress, pace: Pace) -> Group:
        figures = Table.grid(padding=(0, 3))
        figures.add_row(
            Text.assemble(("done ", "dim"), f"{progress.ok}/{progress.total}"),
            Text.assemble(("failed ", "dim"), (str(progress.failed), "red" if progress.failed else "")),
            Text.assemble(("in flight ", "dim"), str(progress.in_flight)),
            Text.assemble(f"{pace.requests_per_s:.1f}", (" requests/s", "dim")),
            Text.assemble(f"{pace.tokens_per_s:,.0f}", (" tokens/s", "dim")),
        )
        money_row = Text.assemble(
            ("cost ", "dim"),
            money(usd(progress.cost_pusd)),
            ("  projected ", "dim"),
            money(pace.projected_usd),
            ("  time left ", "dim"),
            "…" if pace.left_s is None else duration(pace.left_s),
        )
        head = Text(self._title, "bold")
        if progress.state == "stopping":
            head.append(
                f"  stopping: {progress.in_flight} in flight are finishing, Ctrl-C again drops them", "yellow"
            )
        bar = ProgressBar(total=max(1, progress.total), completed=progress.finished, width=60)
        return Group(head, bar, figures, money_row)


def _line(progress: JobProgress, pace: Pace) -> str:
    left = "" if pace.left_s is None else f", {duration(pace.left_s)} left"
    return (
        f"{progress.finished}/{progress.total} done, {progress.failed} failed, {progress.in_flight} in flight, "
        f"{pace.requests_per_s:.1f} requests/s, {pace.tokens_per_s:,.0f} tokens/s, "
        f"{money(usd(progress.cost_pusd))} so far of about {money(pace.projected_usd)}{left}"
    )
