"""Reports are data with fixed keys: one shape for every failure, one formatter, one log record each."""

from typing import TYPE_CHECKING

import msgspec

from greenroom.actors.kernel.contract.reasons import Crashed, ExitReason
from greenroom.actors.kernel.engine.core import log

if TYPE_CHECKING:
    from greenroom.actors.kernel.engine.process import Process


class Report(msgspec.Struct, frozen=True):
    """What an operator is told of an actor that ended badly.

    Attributes:
        context: what was going on: "crashed", or what a supervisor was doing.
        actor: the class of the actor concerned.
        name: its name or child id, if it has one.
        number: its number, which no other incarnation shares.
        reason: why it ended.
        message: the class of the message that was being handled.
        supervisor: the name of who started it, or its class.
        state: what its ``format_state`` showed, cut to size and without secrets; None for a supervisor's report.
    """

    context: str
    actor: str
    name: str | None
    number: int
    reason: ExitReason
    message: str | None = None
    supervisor: str | None = None
    state: object = None


def crashed(process: "Process", reason: ExitReason, message: object) -> None:
    """Reports that an actor ended badly."""
    parent = process.parent
    publish(
        process,
        Report(
            context="crashed",
            actor=process.table.owner,
            name=None if process.name is None else str(process.name),
            number=process.id,
            reason=reason,
            message=None if message is None else type(message).__qualname__,
            supervisor=None if parent is None else str(parent.name or parent.table.owner),
            state=_state(process),
        ),
    )


def _state(process: "Process") -> object:
    try:
        return process.actor.format_state()
    except Exception as error:
        return f"<format_state raised {type(error).__name__}>"


def publish(process: "Process", report: Report) -> None:
    """Logs ``report``, and hands it to the system's hook."""
    error = report.reason.exception if isinstance(report.reason, Crashed) else None
    log.error("%s", format_report(report), exc_info=error, extra={"report": report})
    hook = process.core.on_report
    if hook is not None:
        try:
            hook(report)
        except Exception:
            log.exception("the report hook failed")


def format_report(report: Report) -> str:
    """One line for a person."""
    who = (
        f"{report.actor} #{report.number}"
        if report.name is None
        else f"{report.actor} {report.name!r} #{report.number}"
    )
    under = "" if report.supervisor is None else f" under {report.supervisor}"
    during = "" if report.message is None else f" handling {report.message}"
    return f"{who}{under} {report.context}{during}: {_reason(report.reason)}"


def _reason(reason: ExitReason) -> str:
    if isinstance(reason, Crashed):
        return f"{type(reason.exception).__qualname__}: {reason.exception}"
    return repr(reason)
