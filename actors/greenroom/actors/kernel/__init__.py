"""The actor kernel."""

from greenroom.actors.kernel.actor import Actor
from greenroom.actors.kernel.contract.clock import Clock, FakeClock, settle
from greenroom.actors.kernel.contract.errors import (
    ActorError,
    ActorExited,
    BadReturn,
    CallingSelf,
    Ignored,
    NameTaken,
    Overloaded,
    Refused,
    StartFailed,
    Stop,
    SystemClosed,
    UndefinedHandler,
)
from greenroom.actors.kernel.contract.messages import Call, Cast, Down, Exit, Piped, Timeout
from greenroom.actors.kernel.contract.reasons import Crashed, ExitReason, Killed, NoProcess, Normal, Shutdown
from greenroom.actors.kernel.contract.ref import ActorRef, ReplyTo
from greenroom.actors.kernel.dispatch import handles
from greenroom.actors.kernel.engine.core import DeadLetter
from greenroom.actors.kernel.engine.named import Name, Via
from greenroom.actors.kernel.engine.reports import Report
from greenroom.actors.kernel.engine.ties import TraceEvent
from greenroom.actors.kernel.engine.timers import Pipe, Timer
from greenroom.actors.kernel.inspection import (
    ActorSnapshot,
    ActorStatistics,
    SystemSnapshot,
    SystemStatistics,
    format_tree,
)
from greenroom.actors.kernel.registry import Registered, Registry, Unregistered
from greenroom.actors.kernel.requests import Outcome, Request, Requests
from greenroom.actors.kernel.state import presentable
from greenroom.actors.kernel.system import ActorSystem
from greenroom.actors.kernel.watchdog import Stall

__all__ = [
    "Actor",
    "ActorError",
    "ActorExited",
    "ActorRef",
    "ActorSnapshot",
    "ActorStatistics",
    "ActorSystem",
    "BadReturn",
    "Call",
    "CallingSelf",
    "Cast",
    "Clock",
    "Crashed",
    "DeadLetter",
    "Down",
    "Exit",
    "ExitReason",
    "FakeClock",
    "Ignored",
    "Killed",
    "Name",
    "NameTaken",
    "NoProcess",
    "Normal",
    "Outcome",
    "Overloaded",
    "Pipe",
    "Piped",
    "Refused",
    "Registered",
    "Registry",
    "ReplyTo",
    "Report",
    "Request",
    "Requests",
    "Shutdown",
    "Stall",
    "StartFailed",
    "Stop",
    "SystemClosed",
    "SystemSnapshot",
    "SystemStatistics",
    "Timeout",
    "Timer",
    "TraceEvent",
    "UndefinedHandler",
    "Unregistered",
    "Via",
    "format_tree",
    "handles",
    "presentable",
    "settle",
]
