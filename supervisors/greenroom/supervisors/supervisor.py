"""The supervisor of children that are known beforehand."""

from collections.abc import Iterable
from typing import Literal, get_args

from greenroom.actors.kernel import ActorRef, ExitReason, Ignored, NameTaken, ReplyTo, StartFailed, handles
from greenroom.supervisors.checks import check
from greenroom.supervisors.keeper import Child, Keeper, as_start_error, reason_of
from greenroom.supervisors.spec import (
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
    WhichChildren,
    check_specs,
)

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]


class Supervisor(Keeper):
    """Starts its children in order, restarts those that fail, stops them in reverse.

    Args:
        children: their specs.
        strategy: whom a failure restarts: "one_for_one" the child alone.
        intensity: how many restarts within ``period`` are borne; one more, and the supervisor ends with ``Shutdown()``.
        period: seconds.
        whole_seconds: count the period as OTP does, in whole seconds.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 1,
        period: float = 5.0,
        whole_seconds: bool = False,
    ) -> None:
        super().__init__(intensity, period, whole_seconds=whole_seconds)
        check(strategy in get_args(Strategy), "strategy", strategy, " or ".join(get_args(Strategy)))
        self._strategy = strategy
        self.children = {spec.id: Child(spec) for spec in check_specs(children)}

    async def init(self) -> None:
        for child in tuple(self.children.values()):
            try:
                await self._start(child)
            except Ignored:
                self._unneeded(child)
            except (StartFailed, NameTaken) as error:
                self._report("did not start", child, reason_of(error))
                await self._stop_all()
                raise StartFailed(reason_of(error), child.spec.id) from error

    async def terminate(self, reason: ExitReason) -> None:
        await self._stop_all()

    async def _stop_all(self) -> None:
        for child in reversed(self.children.values()):
            await self._stop(child)

    # --- by hand ----------------------------------------------------------------------------------------------------

    @handles
    def start_child(self, message: StartChild, reply_to: ReplyTo[ActorRef]) -> None:
        spec = message.spec
        present = self.children.get(spec.id)
        if present is not None:
            raise ChildExists(spec.id, present.process)
        self.children[spec.id] = child = Child(spec)
        self._begin(child, reply_to)

    @handles
    def restart_child(self, message: RestartChild, reply_to: ReplyTo[ActorRef]) -> None:
        child = self._find_stopped(message.child)
        self._begin(child, reply_to)

    @handles
    def delete_child(self, message: DeleteChild) -> None:
        child = self._find_stopped(message.child)
        del self.children[child.spec.id]

    def _find_stopped(self, key: str) -> Child:
        child = self._find(key)
        if child.state == "restarting":
            raise ChildRestarting(f"child {key!r} is being restarted")
        if child.state != "stopped":
            raise ChildRunning(f"child {key!r} is {child.state}")
        return child

    # --- what becomes of specs --------------------------------------------------------------------------------------

    def _start_refused(self, child: Child) -> None:
        if child.restarts == 0 and child.since_s == 0.0:
            self.children.pop(child.spec.id, None)

    def _unneeded(self, child: Child) -> None:
        if child.spec.restart == "temporary":
            self.children.pop(child.spec.id, None)

    def _stopped_by_hand(self, child: Child) -> None:
        self._unneeded(child)


__all__ = [
    "ChildCounts",
    "ChildInfo",
    "CountChildren",
    "DeleteChild",
    "GetChildSpec",
    "NoSuchChild",
    "RestartChild",
    "StartChild",
    "Supervisor",
    "TerminateChild",
    "WhichChildren",
    "as_start_error",
]
