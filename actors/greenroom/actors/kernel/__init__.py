"""The actor kernel."""

from greenroom.actors.kernel.actor import Actor
from greenroom.actors.kernel.contract.clock import Clock, FakeClock, settle
from greenroom.actors.kernel.engine.core import DeadLetter
from greenroom.actors.kernel.dispatch import handles
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
from greenroom.actors.kernel.engine.reports import Report
from greenroom.actors.kernel.system import ActorSystem
from greenroom.actors.kernel.engine.timers import Pipe, Timer

__all__ = [
    "Actor",
    "ActorError",
    "ActorExited",
    "ActorRef",
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
    "NameTaken",
    "NoProcess",
    "Normal",
    "Overloaded",
    "Pipe",
    "Piped",
    "Refused",
    "ReplyTo",
    "Report",
    "Shutdown",
    "StartFailed",
    "Stop",
    "SystemClosed",
    "Timeout",
    "Timer",
    "UndefinedHandler",
    "handles",
    "settle",
]
