"""How actors end, and how others hear of it.

``leave`` begins the end and finishes it at once where nothing has to be awaited. Else the actor's task runs ``depart``:
its own tasks are cancelled and awaited, ``terminate`` runs, then ``die`` does the rest, which cannot fail and cannot wait:
the name is free, callers have their answer, and only then monitors and links are told, each once.
"""

import asyncio
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from greenroom.actors.kernel.contract.errors import ActorExited, BadReturn, Ignored, StartFailed, Stop
from greenroom.actors.kernel.contract.messages import Down, Exit, Piped, Timeout
from greenroom.actors.kernel.contract.reasons import ExitReason, Killed, NoProcess, Normal, crashed
from greenroom.actors.kernel.contract.ref import ANSWERED, Envelope
from greenroom.actors.kernel.engine import reports
from greenroom.actors.kernel.engine.core import log
from greenroom.actors.kernel.engine.ties import (
    CAREFUL,
    DEAD,
    LEAVING,
    RUNNING,
    STARTING,
    Leaving,
    Monitor,
    Signal,
    Ties,
    TraceEvent,
)

if TYPE_CHECKING:
    from greenroom.actors.kernel.contract.ref import ActorRef
    from greenroom.actors.kernel.engine.process import Process

KILLED = Killed()
KILL_RETRY_S = 0.5
KILLS_MAX = 4


class StopSignal(Signal):
    """Asks an actor to end, in its turn."""

    __slots__ = ("limited", "reason", "terminate")

    def __init__(self, reason: ExitReason, *, terminate: bool = True, limited: bool = False) -> None:
        self.reason = reason
        self.terminate = terminate
        self.limited = limited

    def apply(self, process: "Process") -> None:
        leave(process, self.reason, terminate=self.terminate, limited=self.limited)

    def abandon(self, process: "Process") -> None:
        """Who asked keeps the time no longer; the class's own limit holds."""
        self.limited = True
        ties = process.ties
        if ties is not None and ties.leaving is not None:
            _limit(process, ties)


class ExitSignal(Signal):
    """A linked actor has ended, or somebody says so."""

    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason

    def apply(self, process: "Process") -> None:
        traps = process.ties is not None and process.ties.traps
        leave(process, self.reason, terminate=traps, quiet=True)


async def initialise(process: "Process") -> None:
    """Runs ``init`` in the actor's task; on failure the actor is dead when this returns."""
    ties = process.tie()
    try:
        result: object = await process.actor.init()  # type: ignore[func-returns-value]  # a rubbish return is looked for
        if result is not None:
            raise BadReturn(f"{process.table.owner}.init must return None, not {type(result).__qualname__}")  # noqa: TRY301
    except asyncio.CancelledError as error:
        task = process.task
        reason = KILLED if ties.killing or (task is not None and task.cancelling()) else crashed(error)
        leave(process, reason, terminate=False)
    except (KeyboardInterrupt, SystemExit) as error:
        leave(process, KILLED, terminate=False)
        process.core.interrupt(error)
    except Ignored as error:
        if ties.started is not None and not ties.started.done():
            ties.started.set_exception(error)
        leave(process, Normal(), terminate=False)
    except BaseException as error:
        leave(process, error.reason if isinstance(error, Stop) else crashed(error), terminate=False)
    else:
        if not process.busy & DEAD:
            process.busy &= ~STARTING
            if ties.started is not None and not ties.started.done():
                ties.started.set_result(None)
            ties.started = None


def leave(
    process: "Process",
    reason: ExitReason,
    *,
    terminate: bool,
    message: object = None,
    limited: bool = True,
    quiet: bool = False,
) -> None:
    """Ends ``process``: at once if nothing has to be awaited, else in its task."""
    if process.busy & DEAD:
        return
    ties = process.ties
    runs_terminate = terminate and process.table.terminates and not process.busy & STARTING
    if not runs_terminate and not (ties is not None and ties.pipes):
        die(process, reason, message, quiet=quiet)
        return
    process.tie().leaving = Leaving(reason, runs_terminate, message, limited, quiet)
    process.busy |= LEAVING | RUNNING
    process.start_task(None)


async def depart(process: "Process") -> None:
    """Ends ``process`` in its own task: its tasks first, then ``terminate``."""
    ties = process.tie()
    leaving = ties.leaving or Leaving(KILLED, terminate=False)
    if leaving.limited or (process.parent is not None and not process.parent.alive):
        _limit(process, ties)
    reason = leaving.reason
    try:
        if ties.pipes:
            for pipe in ties.pipes:
                pipe.cancel()
            await asyncio.wait(set(ties.pipes))
        if leaving.terminate and not ties.killing:
            result: object = await process.actor.terminate(reason)  # type: ignore[func-returns-value]  # as in initialise
            if result is not None:
                raise BadReturn(f"{process.table.owner}.terminate must return None")  # noqa: TRY301
    except asyncio.CancelledError:
        reason = KILLED
    except (KeyboardInterrupt, SystemExit) as error:
        process.core.interrupt(error)
    except BaseException as error:
        reason = error.reason if isinstance(error, Stop) else crashed(error)
    finally:
        quiet = leaving.quiet and reason is leaving.reason
        die(process, KILLED if ties.killing else reason, leaving.message, quiet=quiet)


def _limit(process: "Process", ties: Ties) -> None:
    """Gives ``terminate`` the time that the class says."""
    limit_s = process.table.shutdown_s
    if limit_s is not None and ties.watchdog is None:
        ties.watchdog = process.core.clock.call_later(limit_s, kill, process)


def kill(process: "Process") -> None:
    """Ends ``process`` without asking: ``terminate`` does not run, and a running handler is cancelled.

    A handler that swallows its cancellation is cancelled again, ``KILLS_MAX`` times in all, ``KILL_RETRY_S`` apart. Then the
    actor counts as dead, and its task as a zombie.
    """
    if process.busy & DEAD:
        return
    ties = process.tie()
    if ties.killing:
        return
    core = process.core
    active = process.task is not None and process.parked is None
    if not active and core.running is not process and not ties.pipes:
        die(process, KILLED)
        return
    ties.killing = 1
    if ties.watchdog is not None:
        ties.watchdog.cancel()
    ties.leaving = Leaving(KILLED, terminate=False)
    process.busy |= LEAVING | RUNNING
    if core.running is process:  # its own plain handler, which cannot be interrupted
        process.push_front(StopSignal(KILLED, terminate=False))
        return
    if active and process.task is not None:
        process.task.cancel()
    else:
        process.start_task(None)
    ties.watchdog = core.clock.call_later(KILL_RETRY_S, _kill_again, process)


def _kill_again(process: "Process") -> None:
    ties, task, core = process.ties, process.task, process.core
    if process.busy & DEAD or ties is None or task is None:
        return
    if ties.killing < KILLS_MAX:
        ties.killing += 1
        task.cancel()
        for pipe in ties.pipes or ():
            pipe.cancel()
        ties.watchdog = core.clock.call_later(KILL_RETRY_S, _kill_again, process)
        return
    for zombie in (task, *(ties.pipes or ())):
        if not zombie.done():
            core.zombies[zombie] = process
            core.zombies_seen += 1
            zombie.add_done_callback(lambda task: core.zombies.pop(task, None))
    log.error("%r swallows its cancellation; its task is left behind as a zombie", process)
    die(process, KILLED)


def die(process: "Process", reason: ExitReason, message: object = None, *, quiet: bool = False) -> None:
    """The end itself."""
    if process.busy & DEAD:
        return
    core, ties, inbox, current = process.core, process.ties, process.inbox, process.current
    starting = process.busy & STARTING
    if not (reason.clean or starting or quiet or isinstance(reason, Killed)):
        reports.crashed(process, reason, message)
    process.busy = DEAD | RUNNING
    process.reason = reason
    process.inbox = process.current = None
    process.actor = cast("Any", None)  # its state may be large, and refs are kept long
    if process in core.processes:  # else its constructor failed
        del core.processes[process]
        core.exited += 1
    if process.name is not None:
        core.unregister(process.name, process)
    if current is not None:
        _fail(process, current, reason)
    if inbox is not None:
        _abandon(process, inbox, reason)
    process.release()
    if ties is not None:
        process.ties = None
        _untie(process, ties, reason, starting=bool(starting))


def _fail(process: "Process", envelope: Envelope, reason: ExitReason) -> None:
    envelope.stage = ANSWERED
    if not envelope.future.done():
        envelope.future.set_exception(ActorExited(reason, process))


def _abandon(process: "Process", inbox: Iterable[object], reason: ExitReason) -> None:
    for item in inbox:
        if isinstance(item, Envelope) and not item.stage:
            _fail(process, item, reason)
        elif isinstance(item, Signal):
            item.lost(process, reason)
        elif not isinstance(item, (Down, Exit, Piped, Timeout)):  # these concern nobody but the dead
            process.core.dead_letter(process, item, "left in the mailbox")


def _untie(  # noqa: PLR0912  # one tie after the other, each in a line or two
    process: "Process", ties: Ties, reason: ExitReason, *, starting: bool
) -> None:
    for envelope, value in ties.answers or ():
        envelope.stage = ANSWERED
        if not envelope.future.done():
            envelope.future.set_result(value)
    for envelope in ties.owed:
        _fail(process, envelope, reason)
    for timer in ties.timers or ():
        timer.drop()
    for pipe in ties.pipes or ():
        pipe.cancel()
    for waiter in ties.room or ():
        if not waiter.done():
            waiter.set_result(None)
    if ties.watchdog is not None:
        ties.watchdog.cancel()
    if ties.started is not None and not ties.started.done():
        ties.started.set_exception(StartFailed(reason, process.table.kind))
    for registry in ties.registries or ():
        registry.forget(process)
    for monitor in ties.watches.values():
        if monitor.target.ties is not None:
            monitor.target.ties.monitors.pop(monitor.number, None)
    for monitor in ties.monitors.values():
        notify(monitor, reason)
    for peer in ties.links:
        if peer.ties is not None:
            peer.ties.links.pop(process, None)
            if not (starting and peer is process.parent):  # the starter hears of it from start itself
                send_exit(peer, process, reason)


def notify(monitor: Monitor, reason: ExitReason) -> None:
    """Tells a watcher, once."""
    watcher = monitor.watcher
    if isinstance(watcher, asyncio.Future):
        if not watcher.done():
            watcher.set_result(reason)
        return
    if watcher.ties is not None:
        watcher.ties.watches.pop(monitor.number, None)
    watcher.post(Down(monitor.ref, reason, monitor.number))


def send_exit(process: "Process", sender: "ActorRef | None", reason: ExitReason) -> None:
    """The exit of ``sender`` reaches ``process``, which was linked to it."""
    ties = process.ties
    traps = ties is not None and ties.traps
    from_parent = sender is not None and sender is process.parent
    if from_parent and ties is not None and ties.leaving is not None:
        _limit(process, ties)  # who asked it to end may have kept the time, and is gone
    elif traps and not from_parent:
        process.post(Exit(sender, reason))
    elif traps or not isinstance(reason, Normal):
        process.post(ExitSignal(reason))


def take_note(process: "Process", item: object) -> None:
    """A message is about to be handled by an actor that is traced, or waits for silence."""
    ties = process.tie()
    if ties.idle is not None:
        ties.idle.cancel()
        ties.idle = None
    if ties.trace is None:
        process.busy &= ~CAREFUL
        return
    is_call = isinstance(item, Envelope) and not item.stage
    message = item.message if isinstance(item, Envelope) else item
    kind = "call" if is_call else "cast" if type(message) in process.table.entries else "info"
    ties.trace.append(TraceEvent(process.core.clock.monotonic(), kind, type(message).__qualname__))


def link(process: "Process", peer: "Process") -> None:
    """Ties two fates. Linking twice is linking once; linking to the dead is hearing of its death."""
    if process is peer:
        return
    if peer.busy & DEAD:
        send_exit(process, peer, NoProcess())
        return
    process.tie().links[peer] = None
    peer.tie().links[process] = None


def unlink(process: "Process", peer: "Process") -> None:
    """Unties them; an exit that waits in the mailbox of ``process`` is taken out."""
    if process.ties is not None:
        process.ties.links.pop(peer, None)
    if peer.ties is not None:
        peer.ties.links.pop(process, None)
    for item in tuple(process.inbox or ()):
        if process.inbox is not None and isinstance(item, Exit) and item.ref is peer:
            process.inbox.remove(item)


def monitor(
    watcher: "Process | asyncio.Future[ExitReason]", ref: "ActorRef", target: "Process | None", number: int
) -> None:
    """Lets ``watcher`` hear of the end of ``target``, at once if it is dead or None."""
    if target is None or target.busy & DEAD:
        nobody = NoProcess()
        if isinstance(watcher, asyncio.Future):
            watcher.set_result(nobody)
        else:
            watcher.post(Down(ref, nobody, number))
        return
    made = Monitor(number, ref, target, watcher)
    target.tie().monitors[number] = made
    if not isinstance(watcher, asyncio.Future):
        watcher.tie().watches[number] = made


def demonitor(watcher: "Process", number: int) -> None:
    """Ends a monitor; a Down that waits in the mailbox is taken out."""
    made = watcher.ties.watches.pop(number, None) if watcher.ties is not None else None
    if made is not None:
        if made.target.ties is not None:
            made.target.ties.monitors.pop(number, None)
        return
    for item in tuple(watcher.inbox or ()):
        if watcher.inbox is not None and isinstance(item, Down) and item.monitor == number:
            watcher.inbox.remove(item)
