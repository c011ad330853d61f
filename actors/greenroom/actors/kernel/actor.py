"""The base class of actors."""

from collections.abc import Coroutine
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, ClassVar, Literal
from typing import cast as typed

from greenroom.actors.kernel.contract.messages import Timeout
from greenroom.actors.kernel.contract.reasons import ExitReason, Normal
from greenroom.actors.kernel.contract.ref import ActorRef
from greenroom.actors.kernel.dispatch import Entry, Table, collect
from greenroom.actors.kernel.engine import exits
from greenroom.actors.kernel.engine.ties import CAREFUL, DEAD, LEAVING, Leaving
from greenroom.actors.kernel.engine.timers import IdleTimer, Pipe, Timer
from greenroom.actors.kernel.state import attributes, presentable

if TYPE_CHECKING:
    from greenroom.actors.kernel.engine.process import Process
    from greenroom.actors.kernel.system import ActorSystem

Overflow = Literal["refuse", "drop_oldest"]


class Actor:
    """State that only its own handlers touch, one message at a time.

    A subclass marks its handlers with ``@handles``. ``init``, ``handle_info`` and ``terminate`` run in the actor's own task
    and context; a plain handler may run on the stack of whoever calls, and sees the actor's context variables all the same.

    Attributes:
        capacity: how many messages may wait; 10 000 unless the class or ``start`` says otherwise.
        overflow: what a full mailbox does: "refuse" raises ``Overloaded`` to the sender, "drop_oldest" drops what has waited
            longest, as suits telemetry.
        skip_abandoned: whether a call is skipped whose caller has gone before its turn came.
        terminate_timeout_s: how long ``terminate`` may take after a crash or ``self.stop()``; then the actor is killed. Who
            stops it from outside gives a time of their own. None: for ever.
        ref: the actor's own address; there from before ``__init__``.
    """

    __slots__ = ("ref",)
    __table__: ClassVar[Table]

    capacity: ClassVar[int] = 10_000
    overflow: ClassVar[Overflow] = "refuse"
    skip_abandoned: ClassVar[bool] = True
    terminate_timeout_s: ClassVar[float | None] = 5.0

    ref: ActorRef

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        inherited: dict[type[Any], Entry] = {}
        for base in reversed(cls.__mro__[1:]):
            if isinstance(table := base.__dict__.get("__table__"), Table):
                inherited |= table.entries
        table = Table(cls, collect(cls, inherited))
        for callback in (cls.init, cls.handle_info, cls.terminate):
            if not iscoroutinefunction(callback):
                raise TypeError(
                    f"{cls.__qualname__}.{getattr(callback, '__name__', callback)} must be an async def"
                )
        table.initialises = cls.init is not Actor.init
        table.terminates = cls.terminate is not Actor.terminate
        table.informed = cls.handle_info is not Actor.handle_info
        if cls.overflow not in {"refuse", "drop_oldest"}:
            raise TypeError(
                f'{cls.__qualname__}.overflow must be "refuse" or "drop_oldest", not {cls.overflow!r}'
            )
        check_capacity(cls.capacity, cls.__qualname__)
        table.drops_oldest = cls.overflow == "drop_oldest"
        table.skips_abandoned = cls.skip_abandoned
        table.shutdown_s = cls.terminate_timeout_s
        cls.__table__ = table

    # --- callbacks --------------------------------------------------------------------------------------------------

    async def init(self) -> None:
        """Runs before ``start`` returns. Raise to fail the start, ``Ignored`` to decline it."""

    async def handle_info(self, message: object) -> None:
        """Gets what is no Call, no Cast and has no handler: ``Down``, ``Exit``, ``Timeout``, ``Piped``, timers' messages, any object."""

    async def terminate(self, reason: ExitReason) -> None:
        """Runs last, when the actor was stopped, has crashed, or its parent ended while it traps exits. Not when killed.

        What it raises replaces ``reason``. Callers still waiting are told when it is over.
        """

    # --- what handlers may do ---------------------------------------------------------------------------------------

    @property
    def system(self) -> "ActorSystem":
        """The system that the actor lives in."""
        return self._process.core.system

    @property
    def name(self) -> str | None:
        """The name it was started under."""
        name = self._process.name
        return None if name is None else str(name)

    @property
    def trap_exit(self) -> bool:
        """Whether the exit of a linked actor arrives as an ``Exit`` message instead of ending this one too."""
        ties = self._process.ties
        return ties is not None and ties.traps

    @trap_exit.setter
    def trap_exit(self, traps: bool) -> None:
        self._process.tie().traps = traps

    def send_after(self, delay_s: float, message: object) -> Timer:
        """Sends ``message`` to this actor in ``delay_s`` seconds, or at once if that is past; the timer dies with the actor.

        Raises:
            ValueError: ``delay_s`` is not a number.
        """
        return Timer(self._process, delay_s, message)

    def pipe_to_self(self, coroutine: Coroutine[Any, Any, object], *, tag: object = None) -> Pipe:
        """Runs ``coroutine`` as a task of this actor, without keeping other messages waiting.

        Its result, or what it raised, comes back as ``Piped(tag, value, error)``. When the actor ends, the task is cancelled
        and awaited before ``terminate`` runs.

        Args:
            coroutine: the slow work; it must not touch the actor's state.
            tag: whatever lets the handler tell this task from others.
        """
        return Pipe(self._process, coroutine, tag)

    def set_timeout(
        self, delay_s: float | None, message: object = None, *, at_s: float | None = None
    ) -> None:
        """Sends ``message`` to this actor if nothing else comes for ``delay_s`` seconds. Any message ends it, a system message does not.

        Args:
            delay_s: how long; 0 handles ``message`` next, before anything that waits; None ends a timeout that was set.
            message: what to send; ``Timeout()`` unless given.
            at_s: instead of ``delay_s``, the moment, by the clock's ``monotonic``.
        """
        process = self._process
        ties = process.tie()
        if ties.idle is not None:
            ties.idle.cancel()
            ties.idle = None
        message = Timeout() if message is None else message
        if at_s is not None:
            delay_s = max(at_s - process.core.clock.monotonic(), 0.0)
        if delay_s is None or process.busy & (LEAVING | DEAD):
            return
        if delay_s <= 0:
            self.continue_with(message)
            return
        ties.idle = IdleTimer(process, delay_s, message)
        process.busy |= CAREFUL

    def format_state(self) -> object:
        """What ``get_state`` and crash reports show: the attributes, without secrets, cut to size. Override it to say more, or less; what it returns then is shown as it is."""
        return presentable(attributes(self))

    def continue_with(self, message: object) -> None:
        """Handles ``message`` next, before anything that waits in the mailbox."""
        if not self._process.busy & (LEAVING | DEAD):
            self._process.push_front(message)

    def stop(self, reason: ExitReason | None = None) -> None:
        """Ends this actor after the current handler: ``terminate``, then the handler's reply, then links and monitors.

        Args:
            reason: ``Normal()`` unless given.
        """
        process = self._process
        if process.busy & (LEAVING | DEAD):
            return
        reason = Normal() if reason is None else reason
        process.tie().leaving = Leaving(reason, process.table.terminates)
        process.busy |= LEAVING
        process.push_front(exits.StopSignal(reason, limited=True))

    @property
    def _process(self) -> "Process":
        return typed("Process", self.ref)


def check_capacity(capacity: object, where: str) -> int:
    """The capacity, if it is one.

    Raises:
        TypeError: it is no whole number above zero.
    """
    if not isinstance(capacity, int) or isinstance(capacity, bool) or capacity < 1:
        raise TypeError(f"{where}: the capacity of a mailbox is a whole number >= 1, not {capacity!r}")
    return capacity
