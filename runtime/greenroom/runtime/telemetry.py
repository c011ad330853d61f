"""What the runtime tells, rendered: counters for everyone, structlog for operators.

Prompts and answers are never logged; keys cannot be (they travel as `Secret`).
"""

import logging
import sys
from collections import Counter
from typing import TextIO

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

_log = Log("greenroom")


class Telemetry:
    """The one receiver of events. `counters` are since the start, by event and outcome."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()

    def tell(self, event: Event) -> None:
        """Count an event, and log it unless it is one of thousands. Never blocks, never raises."""
        match event:
            case CallDone():
                self.counters["calls.ok"] += 1
                self.counters["attempts"] += event.attempts
            case AttemptFailed():
                self.counters[f"attempts.{event.error.kind}"] += 1
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
