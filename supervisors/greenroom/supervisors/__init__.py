"""What restarts whom: supervisors with OTP's semantics and names."""

from greenroom.supervisors.checks import BadSpec
from greenroom.supervisors.dynamic import DynamicSupervisor
from greenroom.supervisors.spec import (
    Backoff,
    ChildCounts,
    ChildExists,
    ChildInfo,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    CountChildren,
    DeleteChild,
    GetChildSpec,
    NoSuchChild,
    RestartChild,
    StartChild,
    TerminateChild,
    TooManyChildren,
    Unsupported,
    WhichChildren,
)
from greenroom.supervisors.supervisor import Supervisor

__all__ = [
    "Backoff",
    "BadSpec",
    "ChildCounts",
    "ChildExists",
    "ChildInfo",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "CountChildren",
    "DeleteChild",
    "DynamicSupervisor",
    "GetChildSpec",
    "NoSuchChild",
    "RestartChild",
    "StartChild",
    "Supervisor",
    "TerminateChild",
    "TooManyChildren",
    "Unsupported",
    "WhichChildren",
]
