"""The supervisor of children that are known beforehand."""

from collections.abc import Coroutine, Iterable
from typing import Any, Literal, get_args

from greenroom.actors.kernel import (
    ActorRef,
    ExitReason,
    Ignored,
    NameTaken,
    Piped,
    ReplyTo,
    Shutdown,
    StartFailed,
    handles,
)
from greenroom.supervisors.engine.checks import BadSpec, check
from greenroom.supervisors.engine.child import Child
from greenroom.supervisors.engine.keeper import Keeper, reason_of
from greenroom.supervisors.spec import (
    ChildExists,
    ChildRestarting,
    ChildRunning,
    ChildSpec,
    DeleteChild,
    RestartChild,
    StartChild,
    TerminateChild,
    check_specs,
)

Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]

_REGROUPED = object()


class Supervisor(Keeper):
    """Starts its children in order, restarts those that fail, stops them in reverse.

    Args:
        children: their specs.
        strategy: whom a failure restarts: "one_for_one" the child alone, "one_for_all" every child, "rest_for_one" the child and
            those after it.
        intensity: how many restarts within ``period`` are borne; one more, and the supervisor ends with ``Shutdown()``.
        period: seconds.
        auto_shutdown: when the end of significant children ends the supervisor: "never", "any_significant", "all_significant".
        whole_seconds: count the period as OTP does, in whole seconds.
    """

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: Strategy = "one_for_one",
        intensity: int = 1,
        period: float = 5.0,
        auto_shutdown: AutoShutdown = "never",
        whole_seconds: bool = False,
    ) -> None:
        super().__init__(intensity, period, whole_seconds=whole_seconds)
        check(strategy in get_args(Strategy), "strategy", strategy, " or ".join(get_args(Strategy)))
        modes = get_args(AutoShutdown)
        check(auto_shutdown in modes, "auto_shutdown", auto_shutdown, " or ".join(modes))
        self._strategy = strategy
        self._auto_shutdown = auto_shutdown
        self._due: dict[Child, None] = {}  # children that a group restart begins with
        self._unwanted: set[Child] = set()  # stopped by hand while a group restart runs
        self._regrouping = False
        self._obstacle: Child | None = (
            None  # whose start failed, and keeps its group from being started further
        )
        specs = check_specs(children)
        for spec in specs:
            self._check_significant(spec)
        self.children = {spec.id: Child(spec) for spec in specs}

    def _check_significant(self, spec: ChildSpec) -> None:
        if spec.significant and self._auto_shutdown == "never":
            raise BadSpec(f"child {spec.id!r} is significant; that needs an auto_shutdown other than 'never'")

    async def init(self) -> None:
        for child in tuple(self.children.values()):
            try:
                await self._start(child)
            except Ignored:
                child.state = "stopped"
                self._unneeded(child)
            except (StartFailed, NameTaken) as error:
                self._report("did not start", child, reason_of(error))
                await self._stop_all()
                raise StartFailed(reason_of(error), child.spec.id) from error

    async def terminate(self, reason: ExitReason) -> None:
        await self._stop_all()

    async def _stop_all(self) -> None:
        for child in tuple(reversed(self.children.values())):
            await self._stop(child)

    # --- by hand ----------------------------------------------------------------------------------------------------

    @handles
    def start_child(self, message: StartChild, reply_to: ReplyTo[ActorRef]) -> None:
        spec = message.spec
        present = self.children.get(spec.id)
        if present is not None:
            raise ChildExists(spec.id, present.process)
        try:
            self._check_significant(spec)
        except BadSpec as error:
            reply_to.refuse(error)
            return
        self.children[spec.id] = child = Child(spec)
        child.fresh = True
        self._begin(child, reply_to)

    @handles
    def terminate_child(self, message: TerminateChild, reply_to: ReplyTo[None]) -> None:
        child = self._find(message.child)
        if self._regrouping:
            self._unwanted.add(child)
        self._due.pop(child, None)
        super().terminate_child(message, reply_to)

    @handles
    def restart_child(self, message: RestartChild, reply_to: ReplyTo[ActorRef]) -> None:
        child = self._find_stopped(message.child)
        child.fresh = False
        self._begin(child, reply_to)

    @handles
    def delete_child(self, message: DeleteChild) -> None:
        del self.children[self._find_stopped(message.child).spec.id]

    def _find_stopped(self, key: str) -> Child:
        child = self._find(key)
        if child.state == "restarting":
            raise ChildRestarting(f"child {key!r} is being restarted")
        if child.state != "stopped":
            raise ChildRunning(f"child {key!r} is {child.state}")
        return child

    # --- several at once --------------------------------------------------------------------------------------------

    def _restart(self, child: Child) -> None:
        if self._strategy == "one_for_one":
            super()._restart(child)
            return
        self._due[child] = None
        if not self._regrouping:
            self._begin_group(self._regroup())

    def _begin_group(self, work: Coroutine[Any, Any, None]) -> None:
        self._regrouping = True
        self._obstacle = None
        self._unwanted.clear()
        self.pipe_to_self(work, tag=_REGROUPED)

    async def _regroup(self) -> None:
        """Stops and starts the children that the failed ones take with them, until no further one is due."""
        while self._due:
            order = list(self.children.values())
            first = min((order.index(child) for child in self._due if child in order), default=len(order))
            group = order if self._strategy == "one_for_all" else order[first:]
            self._due.clear()
            for child in reversed(group):
                if child.process is not None:
                    await self._stop(child)
                    self._unneeded(child)  # a temporary bystander stays gone
            await self._start_group(group)

    async def _start_group(self, group: list[Child]) -> None:
        for child in group:
            if self.children.get(child.spec.id) is child and child not in self._unwanted:
                self._stopped(child)
                child.state = "restarting"
        for child in group:
            if child.state != "restarting":
                continue
            try:
                await self._start(child)
            except Ignored:
                child.state = "stopped"
                self._unneeded(child)
            except (StartFailed, NameTaken) as error:
                if child.stopping or child in self._unwanted:
                    continue  # somebody stops it by hand
                child.state = "restarting"
                self._obstacle = child
                self._report("did not restart", child, reason_of(error))
                self._try_again(child)
                return

    @handles
    def piped(self, message: Piped) -> None:
        if message.tag is not _REGROUPED:
            super().piped(message)
            return
        self._regrouping = False
        if message.error is not None:
            raise message.error
        if self._due:
            self._restart(next(iter(self._due)))

    # --- what becomes of specs --------------------------------------------------------------------------------------

    def _start_refused(self, child: Child) -> None:
        if child.fresh:  # StartChild keeps nothing of a child that did not start; RestartChild keeps the spec
            self.children.pop(child.spec.id, None)

    def _unneeded(self, child: Child) -> None:
        if child.spec.restart == "temporary":
            self.children.pop(child.spec.id, None)

    def _stopped_by_hand(self, child: Child) -> None:
        self._unneeded(child)
        if child is self._obstacle and not self._regrouping:
            children = self.children.values()
            held_up = [one for one in children if one.state == "restarting" and one.timer is None]
            self._begin_group(self._start_group(held_up))

    def _significant_ended(self) -> None:
        alive = ("running", "starting", "restarting")
        others = any(child.spec.significant and child.state in alive for child in self.children.values())
        if self._auto_shutdown == "any_significant" or not others:
            self.stop(Shutdown())
