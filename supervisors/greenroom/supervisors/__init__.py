"""What restarts whom: supervisors with OTP's semantics and names."""

from greenroom.supervisors.dynamic import DynamicSupervisor
from greenroom.supervisors.engine.checks import BadSpec
from greenroom.supervisors.partition import (
    CountPartitions,
    NoPartitions,
    Partitions,
    PartitionSupervisor,
    ResizePartitions,
)
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
from greenroom.supervisors.tasks import Task, Tasks, TaskSupervisor

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
    "CountPartitions",
    "DeleteChild",
    "DynamicSupervisor",
    "GetChildSpec",
    "NoPartitions",
    "NoSuchChild",
    "PartitionSupervisor",
    "Partitions",
    "ResizePartitions",
    "RestartChild",
    "StartChild",
    "Supervisor",
    "Task",
    "TaskSupervisor",
    "Tasks",
    "TerminateChild",
    "TooManyChildren",
    "Unsupported",
    "WhichChildren",
]
