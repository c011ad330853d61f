"""What every supervisor does with a child: start it, hear of its end, decide, restart it, stop it.

A supervisor never waits inside a handler. A child whose class has no ``init`` runs as soon as it is made; one that has is
awaited by a task of the supervisor, and so is one that is being stopped. So a supervisor answers whatever its children do.
"""

import random
from typing import cast

import msgspec

from greenroom.actors.kernel import (
    Actor,
    ActorRef,
    Exit,
    ExitReason,
    Ignored,
    Killed,
    NameTaken,
    Piped,
    ReplyTo,
    Report,
    Shutdown,
    StartFailed,
    handles,
)
from greenroom.actors.kernel.contract.reasons import crashed
from greenroom.actors.kernel.engine.core import log
from greenroom.actors.kernel.engine.process import Process
from greenroom.actors.kernel.engine.reports import publish
from greenroom.supervisors.engine.checks import check_count, check_seconds
from greenroom.supervisors.engine.child import Child
from greenroom.supervisors.engine.window import RestartWindow
from greenroom.supervisors.spec import (
    ChildCounts,
    ChildInfo,
    ChildSpec,
    CountChildren,
    GetChildSpec,
    NoSuchChild,
    TerminateChild,
    WhichChildren,
)


class Again(msgspec.Struct, frozen=True, eq=False):
    """A restart is due: it failed before, or its backoff is over."""

    child: Child
    restarts: int
    counted: bool = False


class Begun(msgspec.Struct, frozen=True, eq=False):
    """Tags the task that waits for a child's ``init``."""

    child: Child
    process: Process
    reply_to: ReplyTo[ActorRef] | None


class Ended(msgspec.Struct, frozen=True, eq=False):
    """Tags the task that waits for a child's end."""

    child: Child
    reply_to: ReplyTo[None]


class Keeper(Actor):
    """The part that ``Supervisor`` and ``DynamicSupervisor`` share."""

    __supervises__ = True
    terminate_timeout_s = None

    def __init__(self, intensity: int, period: float, *, whole_seconds: bool = False) -> None:
        check_count(intensity, "intensity")
        check_seconds(period, "period")
        self.children: dict[str, Child] = {}
        self._by_ref: dict[ActorRef, Child] = {}
        self._window = RestartWindow(intensity, period, whole_seconds=whole_seconds)
        self.trap_exit = True

    # --- questions --------------------------------------------------------------------------------------------------

    @handles
    def which_children(self, message: WhichChildren) -> tuple[ChildInfo, ...]:
        return tuple(child.info() for child in reversed(self.children.values()))

    @handles
    def count_children(self, message: CountChildren) -> ChildCounts:
        children = self.children.values()
        supervisors = sum(child.is_supervisor for child in children)
        active = sum(child.state == "running" for child in children)
        return ChildCounts(len(children), active, supervisors, len(children) - supervisors)

    @handles
    def get_child_spec(self, message: GetChildSpec) -> ChildSpec:
        return self._find(message.child).spec

    def _find(self, key: str | ActorRef) -> Child:
        child = self.children.get(key) if isinstance(key, str) else self._by_ref.get(key)
        if child is None:
            raise NoSuchChild(f"no child {key!r}; there are: {', '.join(list(self.children)[:20]) or 'none'}")
        return child

    # --- starting ---------------------------------------------------------------------------------------------------

    @property
    def _me(self) -> Process:
        return cast("Process", self.ref)

    @property
    def _called(self) -> str:
        me = self._me
        return str(me.name or me.table.owner)

    def _arguments(self, spec: ChildSpec) -> tuple[object, ...]:
        return spec.args

    def _spawn(self, child: Child) -> Process:
        """Makes the child. It runs when this returns, unless its state is "starting".

        Raises:
            StartFailed: its constructor failed.
            NameTaken: its name is somebody else's.
        """
        spec = child.spec
        process = self.system.spawn(
            spec.actor, self._arguments(spec), dict(spec.kwargs), name=spec.name, parent=self._me
        )
        child.process = process
        self._by_ref[process] = child
        if process.state == "starting":
            child.state = "starting"
        else:
            self._runs(child)
        return process

    def _runs(self, child: Child) -> None:
        child.state = "running"
        if child.spec.restart == "temporary":  # it will not be started again, and arguments may be large
            child.spec = msgspec.structs.replace(child.spec, args=(), kwargs={})
        child.since_s = self.system.clock.monotonic()

    def _forget(self, child: Child) -> None:
        """Its incarnation is gone."""
        if child.process is not None:
            self._by_ref.pop(child.process, None)
            child.process = None

    async def _start(self, child: Child) -> Process:
        """Makes the child and waits until it runs. Raises as ``_spawn``, or ``Ignored``; nothing is left then."""
        process = self._spawn(child)
        try:
            if child.state == "starting":
                await self.system.started(process)
        except BaseException:
            if child.process is process:
                self._forget(child)
            raise
        if child.process is process and child.state == "starting":
            self._runs(child)
        return process

    def _begin(self, child: Child, reply_to: ReplyTo[ActorRef] | None) -> None:
        """Starts the child without waiting; ``_begun`` or ``_failed`` is told."""
        try:
            process = self._spawn(child)
        except (StartFailed, NameTaken) as error:
            self._failed(child, error, reply_to)
            return
        if child.state == "running":
            if reply_to is not None:
                reply_to.reply(process)
            return
        self.pipe_to_self(self.system.started(process), tag=Begun(child, process, reply_to))

    def _begun(self, tag: Begun, error: BaseException | None) -> None:
        child = tag.child
        if child.process is tag.process and child.state == "starting":
            if error is None:
                self._runs(child)
            else:
                self._forget(child)
                self._failed(child, error, tag.reply_to)
                return
        if tag.reply_to is None:
            return
        if error is None:
            tag.reply_to.reply(tag.process)
        else:
            tag.reply_to.refuse(as_start_error(error, child.spec.id))

    def _failed(self, child: Child, error: BaseException, reply_to: ReplyTo[ActorRef] | None) -> None:
        """A start by hand failed, if there is a ``reply_to``; else a restart, which is tried again, behind what waits."""
        if reply_to is not None:
            child.state = "stopped"
            self._start_refused(child)
            reply_to.refuse(as_start_error(error, child.spec.id))
        elif isinstance(error, Ignored):
            child.state = "stopped"
            self._unneeded(child)
        else:
            child.state = "restarting"
            self._report("did not restart", child, reason_of(error))
            self._try_again(child)

    def _start_refused(self, child: Child) -> None:
        """A start by hand failed."""

    def _unneeded(self, child: Child) -> None:
        """The child has ended and is not restarted, or has declined to start."""

    # --- ends and restarts ------------------------------------------------------------------------------------------

    @handles
    def exited(self, message: Exit) -> None:
        child = None if message.ref is None else self._by_ref.get(message.ref)
        if child is None or child.state == "stopping":
            return  # a stranger's, or one that is being stopped, whose end a task waits for
        self._forget(child)
        backoff = child.spec.backoff
        ran_s = self.system.clock.monotonic() - child.since_s
        if backoff is not None and ran_s >= backoff.reset_after_s:
            child.streak = 0
        if child.spec.restart == "permanent" or (
            child.spec.restart == "transient" and not message.reason.clean
        ):
            self._again(child, message.reason)
            return
        child.state = "stopped"
        self._unneeded(child)
        if child.spec.significant:
            self._significant_ended()

    def _significant_ended(self) -> None:
        """A significant child has ended and stays so."""

    @handles
    def again(self, message: Again) -> None:
        child = message.child
        overtaken = child.restarts != message.restarts or self.children.get(child.spec.id) is not child
        if child.state != "restarting" or overtaken:
            return  # stopped by hand meanwhile, or restarted with others
        if message.counted:
            child.timer = None
            self._restart(child)
        else:
            self._again(child, None)

    def _again(self, child: Child, reason: ExitReason | None) -> None:
        child.state = "restarting"
        if not self._window.add(self.system.clock.monotonic()):
            self._report("reached its restart intensity", child, reason or Shutdown())
            self.stop(Shutdown())
            return
        child.restarts += 1
        child.streak += 1
        self._me.core.restarts += 1
        why = reason or "its start failed"
        log.warning("%s restarts %r, restart %d: %s", self._called, child.spec.id, child.restarts, why)
        delay_s = 0.0
        if child.spec.backoff is not None:
            delay_s = child.spec.backoff.delay_s(child.streak, random.random())  # noqa: S311  # jitter is no secret
        if delay_s > 0:
            child.timer = self.send_after(delay_s, Again(child, child.restarts, counted=True))
        else:
            self._restart(child)

    def _try_again(self, child: Child) -> None:
        """The restart failed; the next attempt queues behind what waits, so that a request to stop can overtake it."""
        self._me.post(Again(child, child.restarts))

    def _restart(self, child: Child) -> None:
        """Starts the child again, now."""
        self._begin(child, None)

    # --- stopping ---------------------------------------------------------------------------------------------------

    @handles
    def terminate_child(self, message: TerminateChild, reply_to: ReplyTo[None]) -> None:
        child = self._find(message.child)
        if child.process is None:
            self._stopped(child)
            self._stopped_by_hand(child)
            reply_to.reply(None)
        else:
            self._mark_stopping(child)
            self.pipe_to_self(self._stop(child), tag=Ended(child, reply_to))

    def _stopped_by_hand(self, child: Child) -> None:
        """Somebody asked for it."""

    def _mark_stopping(self, child: Child) -> None:
        """No longer takes its end for a failure. One that is not to be asked is killed."""
        if child.process is not None:
            starting = child.state == "starting"
            child.state = "stopping"
            if starting or child.spec.shutdown == "brutal_kill":
                self.system.kill(child.process)

    async def _stop(self, child: Child) -> None:
        """Stops the child and waits until it is gone: in its own time, or killed when that is over."""
        process = child.process
        if process is not None:
            self._mark_stopping(child)
            await self.system.stop(process, timeout=child.shutdown_s)
            self._gone(child, process)
        self._stopped(child)

    def _gone(self, child: Child, process: Process) -> None:
        """It was stopped, and has ended."""
        reason = process.reason
        killed = child.spec.shutdown == "brutal_kill" and isinstance(reason, Killed)
        if reason is not None and not reason.clean and not killed:
            self._report("did not stop well", child, reason)
        if child.process is process:
            self._forget(child)

    def _stopped(self, child: Child) -> None:
        if child.timer is not None:
            child.timer.cancel()
            child.timer = None
        if child.process is None:
            child.state = "stopped"

    @handles
    def piped(self, message: Piped) -> None:
        tag = message.tag
        if isinstance(tag, Begun):
            self._begun(tag, message.error)
            return
        if message.error is not None:
            raise message.error
        if isinstance(tag, Ended):
            self._stopped_by_hand(tag.child)
            tag.reply_to.reply(None)

    # --- telling ----------------------------------------------------------------------------------------------------

    def _report(self, context: str, child: Child, reason: ExitReason) -> None:
        made = child.spec.actor
        me = self._me
        publish(
            me,
            Report(
                context=context,
                actor=getattr(made, "__name__", repr(made)),
                name=child.spec.id,
                number=0 if child.process is None else child.process.id,
                reason=reason,
                supervisor=self._called,
            ),
        )


def reason_of(error: BaseException) -> ExitReason:
    """Why a start failed, as an exit reason."""
    return error.reason if isinstance(error, StartFailed) else crashed(error)


def as_start_error(error: BaseException, child: str) -> Exception:
    """What the caller of a start by hand gets."""
    if isinstance(error, (StartFailed, NameTaken, Ignored)):
        return error
    return StartFailed(reason_of(error), child)
