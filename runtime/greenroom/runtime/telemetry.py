"""What the runtime tells, rendered: counters for everyone, structlog for operators, OpenTelemetry where it is asked for.

Prompts and answers are never logged; keys cannot be (they travel as `Secret`).
"""

import logging
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, TextIO

import anyio
import anyio.to_thread
from msgspec import Struct, structs

from greenroom.actors.events import (
    AttemptFailed,
    BreakerChanged,
    CallDone,
    Event,
    FailedOver,
    HedgeMade,
    HoldsReclaimed,
    OptionsDropped,
    OverCharged,
)
from greenroom.actors.log import Log
from greenroom.actors.prices import usd
from greenroom.actors.settings import TelemetrySettings
from greenroom.runtime.config import ConfigError

if TYPE_CHECKING:
    from greenroom.runtime.telemetry_otel import OpenTelemetry

_CLOSE_S = 5.0
_log = Log("greenroom")


class Telemetry:
    """The one receiver of events. `counters` are since the start, by event and outcome."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._otel: OpenTelemetry | None = None

    async def start(self, settings: TelemetrySettings, stack: AsyncExitStack) -> None:
        """Begin with what is asked for; the stack ends it, and sends what is left within some seconds.

        Raises:
            ConfigError: what it takes is not installed.
        """
        if not settings.otel:
            return
        self._otel = await anyio.to_thread.run_sync(_open_otel, settings, self.counters)
        stack.push_async_callback(self._end)

    def watch(self, of: str, statistics: Callable[[], Struct | None]) -> None:
        """Tell the numbers of a record on as metrics, where there are any; it is read in another thread."""
        if self._otel is not None:
            self._otel.watch(of, statistics)

    async def _end(self) -> None:
        otel, self._otel = self._otel, None
        if otel is not None:
            # A collector that does not answer keeps nobody: its thread is a daemon.
            with anyio.move_on_after(_CLOSE_S, shield=True):
                await anyio.to_thread.run_sync(otel.close, abandon_on_cancel=True)

    def tell(self, event: Event) -> None:
        """Count an event, and log it unless it is one of thousands. Never blocks, never raises."""
        if self._otel is not None:
            try:
                self._otel.tell(event)
            except Exception as error:
                self.counters["otel.failed"] += 1
                if self.counters["otel.failed"] == 1:
                    _log.error("OpenTelemetry failed; calls go on without", error=repr(error))
        match event:
            case CallDone():
                self.counters["calls.ok"] += 1
                self.counters["attempts"] += event.attempts
            case AttemptFailed():
                self.counters[f"attempts.{event.error.kind}"] += 1
                if event.retry_in_s is None:
                    self.counters["calls.failed"] += 1
                self._attempt_failed(event)
            case FailedOver():
                self.counters["failovers"] += 1
                _log.info(
                    "going on to the next model",
                    model=event.from_model,
                    next_model=event.to_model,
                    because=event.error.kind,
                    cost_usd=str(usd(event.cost_pusd)),
                    passed_over=event.passed_over,
                )
            case HedgeMade():
                self.counters["hedges"] += 1
            case OptionsDropped():
                self.counters["options dropped"] += len(event.options)
                _log.info("options that the model cannot take are left out", **_fields(event))
            case OverCharged():
                self.counters["overcharged"] += 1
                _log.warning("provider charged more than the upper bound", **_fields(event))
            case BreakerChanged():
                self.counters[f"breaker.{event.state}"] += 1
                log = _log.warning if event.state == "open" else _log.info
                log("breaker changed", **_fields(event))
            case HoldsReclaimed():
                self.counters["reclaimed"] += event.count
                _log.warning(
                    "calls that an earlier process left in flight are charged, estimated",
                    count=event.count,
                    cost_usd=str(usd(event.cost_pusd)),
                )

    def _attempt_failed(self, event: AttemptFailed) -> None:
        error = event.error
        _log.info(
            "attempt failed" if event.retry_in_s is None else "attempt failed, trying again",
            provider=error.provider,
            model=error.model,
            kind=error.kind,
            status=error.status,
            attempt=error.attempts,
            retry_in_s=None if event.retry_in_s is None else round(event.retry_in_s, 2),
            message=error.message,
        )


def _open_otel(settings: TelemetrySettings, counters: Counter[str]) -> "OpenTelemetry":
    try:
        from greenroom.runtime.telemetry_otel import open_otel

        return open_otel(settings, counters)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"telemetry.otel needs OpenTelemetry ({error}): pip install 'greenroom[otel]'"
        ) from None


def _fields(event: Struct) -> dict[str, object]:
    return structs.asdict(event)


class _ToStructlog(logging.Handler):
    """Takes what the actors' own log says (crashes, restarts, dead letters) to where everything else is said."""

    def emit(self, record: logging.LogRecord) -> None:
        _log.log(record.levelno, record.getMessage())


def log_to(stream: TextIO = sys.stderr, *, level: str = "warning", as_json: bool = False) -> None:
    """Send logs of `level` and above to `stream`, for people or (`as_json`) for programs.

    That of the actors too, which is Python's own `logging` under the name `greenroom.actors`: crashes, restarts, dead
    letters. A program that embeds greenroom and never calls this finds it there.
    """
    import structlog

    actors = logging.getLogger("greenroom.actors")
    actors.handlers = [_ToStructlog()]
    actors.propagate = False
    actors.setLevel(level.upper())
    renderer = (
        structlog.processors.JSONRenderer()
        if as_json
        else structlog.dev.ConsoleRenderer(colors=stream.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
