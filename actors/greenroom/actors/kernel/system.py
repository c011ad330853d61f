"""The actor system: starts actors, knows their names, and ends them all in order."""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio

from greenroom.actors.kernel.actor import Actor, check_capacity
from greenroom.actors.kernel.contract.clock import Clock, check_seconds
from greenroom.actors.kernel.contract.errors import CallingSelf, NameTaken, StartFailed, Stop, SystemClosed
from greenroom.actors.kernel.contract.reasons import ExitReason, NoProcess, Shutdown, crashed
from greenroom.actors.kernel.contract.ref import ActorRef
from greenroom.actors.kernel.engine import exits
from greenroom.actors.kernel.engine.calls import Incarnation
from greenroom.actors.kernel.engine.core import Core, DeadLetter, log
from greenroom.actors.kernel.engine.named import Name, is_name
from greenroom.actors.kernel.engine.process import Process
from greenroom.actors.kernel.engine.ties import DEAD, RUNNING, STARTING
from greenroom.actors.kernel.inspection import Inspecting
from greenroom.actors.kernel.watchdog import LoopWatch, Stall

if TYPE_CHECKING:
    from greenroom.actors.kernel.engine.reports import Report

STOP_TIMEOUT_S = 5.0
_STOPS_PER_TURN = 500


class ActorSystem(Inspecting):
    """Where actors live. ``async with ActorSystem() as system`` opens it on the running loop.

    Leaving stops every actor that no other one started, newest first, one after the other, each with the time that its class
    or ``stop_timeout_s`` allows, then it is killed. Afterwards no task, timer or name is left; a zombie, whose handler swallows
    its cancellation, is logged. This holds also when the block is left by an exception or a cancellation, which then goes on.

    A ``KeyboardInterrupt`` or ``SystemExit`` that leaves a handler cancels the block, and leaving raises it when all have stopped.

    Args:
        clock: what tells the time; the machine's unless given.
        stop_timeout_s: how long each actor may take to stop when the system is left; None for ever.
        dead_letters_kept: how many messages that reached nobody are kept for ``dead_letters``.
        on_dead_letter: called with each of them, on the loop.
        on_report: called with the report of each actor that ended badly, on the loop.
        stop_on_signals: POSIX signals, such as ``signal.SIGTERM``, on which the block is cancelled and the system left in order;
            leaving raises ``SystemExit(128 + number)`` then.
        stall_s: seconds after which a blocked loop is reported with the actor that blocks it; None: nobody watches.
        on_stall: called with each such report, **on the watching thread**.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        stop_timeout_s: float | None = STOP_TIMEOUT_S,
        dead_letters_kept: int = 64,
        on_dead_letter: Callable[[DeadLetter], object] | None = None,
        on_report: "Callable[[Report], object] | None" = None,
        stop_on_signals: Sequence[int] = (),
        stall_s: float | None = None,
        on_stall: Callable[[Stall], object] | None = None,
    ) -> None:
        super().__init__(clock or Clock())
        self._stop_timeout_s = check_seconds(stop_timeout_s)
        self._dead_letters_kept = dead_letters_kept
        self._on_dead_letter = on_dead_letter
        self._on_report = on_report
        self._stop_on_signals = tuple(stop_on_signals)
        if stall_s is not None and not stall_s > 0:
            raise ValueError(f"stall_s is a number of seconds > 0 or None, not {stall_s!r}")
        self._stall_s = stall_s
        self._on_stall = on_stall
        self._watch_loop: LoopWatch | None = None

    # --- starting ---------------------------------------------------------------------------------------------------

    async def start(
        self,
        actor: Callable[..., Actor],
        *args: object,
        name: Name | None = None,
        capacity: int | None = None,
        init_timeout: float | None = None,
        **kwargs: object,
    ) -> ActorRef:
        """Starts ``actor(*args, **kwargs)`` and returns when its ``init`` has.

        Args:
            actor: the class, or a function that makes the actor.
            *args: handed to it.
            name: a name that no living actor has.
            capacity: how many messages may wait, if not what the class says.
            init_timeout: seconds that ``init`` may take; None for ever.
            **kwargs: handed to it.

        Returns:
            A ref to this incarnation; ``named`` gives one that outlives it.

        Raises:
            NameTaken: another living actor has the name.
            StartFailed: the constructor or ``init`` raised, or ``init`` took too long.
            Ignored: ``init`` declined.
            SystemClosed: the system is not open, or is being left.
            TypeError: ``name`` is no name, or ``capacity`` no capacity.

        Cancelled while ``init`` runs, the actor is killed: nothing was started.
        """
        process = self.spawn(actor, args, kwargs, name=name, capacity=capacity)
        if process.busy & STARTING:
            await self.started(process, init_timeout)
        return process

    async def start_link(
        self,
        actor: Callable[..., Actor],
        *args: object,
        name: Name | None = None,
        init_timeout: float | None = None,
        **kwargs: object,
    ) -> ActorRef:
        """As ``start``, from within an actor, which becomes the new one's parent and is linked to it."""
        process = self.spawn(actor, args, kwargs, name=name, parent=self.current("start_link"))
        if process.busy & STARTING:
            await self.started(process, init_timeout)
        return process

    def spawn(
        self,
        actor: Callable[..., Actor],
        args: tuple[object, ...] = (),
        kwargs: "dict[str, object] | None" = None,
        *,
        name: Name | None = None,
        parent: Process | None = None,
        capacity: int | None = None,
    ) -> Process:
        """The part of ``start`` that does not wait. For supervisors: wait with ``started`` if the process is STARTING."""
        core = self.core
        if core.closed or (core.closing and parent is None):
            raise SystemClosed("the actor system is being left; it starts nothing any more")
        if name is not None and not is_name(name):
            raise TypeError(f"a name is a text that is not empty, or registry.via(key), not {name!r}")
        if name is not None and (holder := core.holder(name)) is not None:
            raise NameTaken(name, holder)
        if capacity is not None:
            check_capacity(capacity, f"start of {getattr(actor, '__name__', actor)}")
        process = self._make(actor, args, kwargs or {}, name, parent)
        process.capacity = capacity or process.capacity
        core.processes[process] = None
        core.started += 1
        if name is not None:
            core.register(name, process)
        if parent is not None:
            exits.link(process, parent)
        if process.table.initialises:
            process.busy = STARTING | RUNNING
            future: asyncio.Future[None] = core.loop.create_future()
            future.add_done_callback(_look)
            process.tie().started = future
            process.start_task(None)
        return process

    def _make(
        self,
        actor: Callable[..., Actor],
        args: tuple[object, ...],
        kwargs: dict[str, object],
        name: Name | None,
        parent: Process | None,
    ) -> Incarnation:
        kind = actor if isinstance(actor, type) else None
        process: Incarnation | None = None
        try:
            if kind is not None and issubclass(kind, Actor):
                made = kind.__new__(kind)
                process = Incarnation(self.core, made, name=name, parent=parent, capacity=made.capacity)
                made.ref = process
                made.__init__(*args, **kwargs)  # type: ignore[misc]  # bound first, so that __init__ may use self.ref
            else:
                made = actor(*args, **kwargs)
                if not isinstance(made, Actor):
                    raise TypeError(f"{actor!r} made {made!r}, which is no Actor")  # noqa: TRY301  # told as any failed start
                process = Incarnation(self.core, made, name=name, parent=parent, capacity=made.capacity)
                made.ref = process
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:
            reason = error.reason if isinstance(error, Stop) else crashed(error)
            if process is not None:  # its constructor may have set timers, begun tasks, registered it
                exits.die(process, reason, quiet=True)
            raise StartFailed(reason, actor) from error
        return process

    def started(self, process: Process, init_timeout: float | None = None) -> Coroutine[object, object, None]:
        """Waits for the ``init`` of a process that ``spawn`` has just returned.

        Raises:
            StartFailed: it raised, or took longer than ``init_timeout`` seconds; the process is gone.
            Ignored: it declined; likewise.
        """
        return self._started(process, process.tie().started, init_timeout)

    async def _started(
        self, process: Process, future: "asyncio.Future[None] | None", limit_s: float | None
    ) -> None:
        if future is None:
            return
        late = None if limit_s is None else self.clock.call_later(limit_s, exits.kill, process)
        began_s = self.clock.monotonic()
        try:
            await asyncio.shield(future)
        except asyncio.CancelledError:
            exits.kill(process)
            raise
        except StartFailed as failed:
            in_time = limit_s is None or self.clock.monotonic() < began_s + limit_s
            if in_time or failed.reason != exits.KILLED:
                raise
            error = TimeoutError(f"init of {process.table.owner} took longer than {limit_s:g} s")
            raise StartFailed(crashed(error), process.table.kind) from error
        finally:
            if late is not None:
                late.cancel()

    # --- ending -----------------------------------------------------------------------------------------------------

    async def stop(
        self,
        ref: ActorRef,
        reason: ExitReason | None = None,
        timeout: float | None = STOP_TIMEOUT_S,  # noqa: ASYNC109  # when it is over the actor is killed
    ) -> ExitReason:
        """Asks an actor to end, in its turn, and waits until it is gone.

        Args:
            ref: whom.
            reason: ``Shutdown()`` unless given.
            timeout: seconds until it is killed instead; None waits for ever.

        Returns:
            Why it ended: ``reason``, ``Killed()`` if it took too long, what ``terminate`` raised, or ``NoProcess()`` if it
            had ended before.

        Raises:
            CallingSelf: from a handler of that actor; use ``self.stop()`` there.

        Cancelled, the actor goes on ending, in the time that its class gives ``terminate``.
        """
        check_seconds(timeout)
        process = self.resolve(ref)
        if process is None or process.busy & DEAD:
            return NoProcess()
        if self.core.current() is process:
            raise CallingSelf(ref)
        gone, number = self._watch(process, ref)
        signal = exits.StopSignal(Shutdown() if reason is None else reason)
        process.post(signal)
        late = None if timeout is None else self.clock.call_later(timeout, exits.kill, process)
        try:
            return await gone
        except asyncio.CancelledError:
            signal.abandon(process)
            raise
        finally:
            if late is not None:
                late.cancel()
            if process.ties is not None:
                process.ties.monitors.pop(number, None)

    def request_stop(self, ref: ActorRef, reason: ExitReason | None = None) -> None:
        """As ``stop``, without waiting, and without a limit to the time it takes."""
        process = self.resolve(ref)
        if process is not None:
            process.post(exits.StopSignal(Shutdown() if reason is None else reason))

    def kill(self, ref: ActorRef) -> None:
        """Ends an actor without asking: a running handler is cancelled, ``terminate`` does not run. Trapping does not help.

        Returns at once. An actor that waits is dead then; one whose handler is running dies when that has ended.
        """
        process = self.resolve(ref)
        if process is not None:
            exits.kill(process)

    # --- opening and leaving ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._open_core is not None:
            raise SystemClosed("an actor system is entered once; make a new one")
        core = self._open_core = Core(self, self.clock, self._dead_letters_kept)
        core.on_dead_letter = self._on_dead_letter
        core.on_report = self._on_report
        for number in self._stop_on_signals:
            core.loop.add_signal_handler(number, core.interrupt, SystemExit(128 + number))
        if self._stall_s is not None:
            self._watch_loop = LoopWatch(core, self._stall_s, self._on_stall)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        core = self.core
        core.closing = True
        closing = core.loop.create_task(self._close())
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):
            while not closing.done():
                try:
                    await asyncio.shield(closing)
                except asyncio.CancelledError as again:
                    if closing.cancelled():
                        break
                    cancelled = again  # asked for already: what it asks for is being done
        if self._watch_loop is not None:
            self._watch_loop.close()
        for number in self._stop_on_signals:
            core.loop.remove_signal_handler(number)
        if core.interrupted is not None:
            raise core.interrupted
        if cancelled is not None and not isinstance(error, asyncio.CancelledError):
            raise cancelled
        closing.result()

    async def _close(self) -> None:
        core = self.core
        while roots := [
            one for one in reversed(core.processes) if one.parent is None or not one.parent.alive
        ]:
            for index, process in enumerate(roots):
                if not index % _STOPS_PER_TURN:
                    await asyncio.sleep(0)
                await self._stop_one(process)
        core.close()
        leftover = {task for task in core.owners if not task.done() and task not in core.zombies}
        if leftover:
            await asyncio.wait(leftover)
        for process in core.zombies.values():
            log.error("left behind: a task of %r, which swallows its cancellation", process)

    async def _stop_one(self, process: Process) -> None:
        if process.busy & DEAD:
            return
        if not process.busy and not process.table.terminates and not (process.ties and process.ties.pipes):
            exits.leave(process, Shutdown(), terminate=False)
            return
        unbounded = process.table.shutdown_s is None  # a supervisor, which bounds each of its children
        await self.stop(process, Shutdown(), None if unbounded else self._stop_timeout_s)


def _look(future: "asyncio.Future[None]") -> None:
    if not future.cancelled():
        future.exception()  # looked at, so that nobody warns of one that is no longer waited for
