"""One child, as its supervisor sees it."""

from greenroom.actors.kernel import Timer
from greenroom.actors.kernel.engine.process import Process
from greenroom.supervisors.spec import WORKER_SHUTDOWN_S, ChildInfo, ChildSpec, ChildState


class Child:
    """One child, as its supervisor sees it.

    Attributes:
        spec: what it was added with.
        process: its incarnation, from the moment it is made until it is known to be gone.
        state: what it is doing.
        restarts: how often it was restarted.
        streak: restarts in a row, for the backoff.
        since_s: when it last began to run.
        timer: runs while a restart waits.
        fresh: added by StartChild, and not yet begun.
    """

    __slots__ = ("fresh", "process", "restarts", "since_s", "spec", "state", "streak", "timer")

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        self.process: Process | None = None
        self.state: ChildState = "stopped"
        self.restarts = 0
        self.streak = 0
        self.since_s = 0.0
        self.timer: Timer | None = None
        self.fresh = False

    @property
    def is_supervisor(self) -> bool:
        """Whether it supervises others in turn."""
        return getattr(self.spec.actor, "__supervises__", False) is True

    @property
    def stopping(self) -> bool:
        """Whether it is asked to end, or being killed."""
        return self.state == "stopping"

    @property
    def shutdown_s(self) -> float | None:
        """Seconds it may take to stop; None for ever."""
        shutdown = self.spec.shutdown
        if shutdown is None:
            return None if self.is_supervisor else WORKER_SHUTDOWN_S
        return None if shutdown == "infinity" else 0.0 if shutdown == "brutal_kill" else shutdown

    def info(self) -> ChildInfo:
        """What others are told of it."""
        return ChildInfo(
            id=self.spec.id,
            ref=self.process if self.state == "running" else None,
            state=self.state,
            restarts=self.restarts,
            type="supervisor" if self.is_supervisor else "worker",
            restart=self.spec.restart,
            significant=self.spec.significant,
        )
