"""The supervisor of children that are started on demand."""

from collections.abc import Iterable

from greenroom.actors.kernel import ActorRef, ExitReason, ReplyTo, TimerHandle, handles
from greenroom.supervisors.engine.checks import check_count
from greenroom.supervisors.engine.child import Child
from greenroom.supervisors.engine.keeper import Keeper
from greenroom.supervisors.spec import (
    ChildExists,
    ChildSpec,
    DeleteChild,
    RestartChild,
    StartChild,
    TooManyChildren,
    Unsupported,
)


class DynamicSupervisor(Keeper):
    """Starts with no child. Each is restarted alone; one that has ended for good is forgotten. They stop all at once.

    Args:
        intensity: as in ``Supervisor``.
        period: as in ``Supervisor``.
        max_children: how many there may be at a time, restarting ones included; None for any number.
        extra_args: put before each child's own arguments, on restart too.
        whole_seconds: as in ``Supervisor``.
    """

    def __init__(
        self,
        *,
        intensity: int = 3,
        period: float = 5.0,
        max_children: int | None = None,
        extra_args: Iterable[object] = (),
        whole_seconds: bool = False,
    ) -> None:
        super().__init__(intensity, period, whole_seconds=whole_seconds)
        if max_children is not None:
            check_count(max_children, "max_children")
        self._max_children = max_children
        self._extra_args = tuple(extra_args)

    async def terminate(self, reason: ExitReason) -> None:
        timers = self._ask_all()
        try:
            for child in tuple(self.children.values()):
                process = child.process
                if process is not None:
                    await self.system.wait_down(process)
                    self._gone(child, process)
                self._stopped(child)
        finally:
            for timer in timers:
                timer.cancel()

    def _ask_all(self) -> list[TimerHandle]:
        """Asks every child to end. One timer a grace period kills those that have not when it is over."""
        groups: dict[float | None, list[Child]] = {}
        for child in self.children.values():
            self._mark_stopping(child)
            if child.process is not None:
                self.system.request_stop(child.process)
                groups.setdefault(child.shutdown_s, []).append(child)
        call_later = self.system.clock.call_later
        return [
            call_later(limit_s, self._kill, group) for limit_s, group in groups.items() if limit_s is not None
        ]

    def _kill(self, children: list[Child]) -> None:
        for child in children:
            if child.process is not None:
                self.system.kill(child.process)

    @handles
    def start_child(self, message: StartChild, reply_to: ReplyTo[ActorRef]) -> None:
        spec = message.spec
        if spec.significant:
            raise Unsupported("a dynamic supervisor has no significant children")
        present = self.children.get(spec.id)
        if present is not None:
            raise ChildExists(spec.id, present.process)
        if self._max_children is not None and len(self.children) >= self._max_children:
            raise TooManyChildren(f"there are {len(self.children)} children already, the most there may be")
        self.children[spec.id] = child = Child(spec)
        self._begin(child, reply_to)

    @handles
    def restart_child(self, message: RestartChild) -> ActorRef:
        raise Unsupported(
            "a dynamic supervisor forgets a child that is stopped; start it again with StartChild"
        )

    @handles
    def delete_child(self, message: DeleteChild) -> None:
        raise Unsupported("a dynamic supervisor forgets a child that is stopped; there is nothing to delete")

    def _arguments(self, spec: ChildSpec) -> tuple[object, ...]:
        return self._extra_args + spec.args

    def _start_refused(self, child: Child) -> None:
        self.children.pop(child.spec.id, None)

    _unneeded = _stopped_by_hand = _start_refused
