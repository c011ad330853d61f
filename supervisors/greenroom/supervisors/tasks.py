"""Supervised tasks: a coroutine function runs in an actor of its own, whose end is the supervisor's business.

A task's failure is a value to who waits for it. Only ``async_`` ties the caller to it: then the failure ends the caller too,
unless that traps exits.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from typing import Generic, TypeVar, cast

from greenroom.actors.kernel import (
    Actor,
    ActorExited,
    ActorRef,
    ActorSystem,
    Call,
    Outcome,
    Overloaded,
    Request,
    Requests,
    handles,
)
from greenroom.supervisors.dynamic import DynamicSupervisor
from greenroom.supervisors.engine.checks import check_count
from greenroom.supervisors.spec import ChildSpec, StartChild, TerminateChild

T = TypeVar("T")
ItemT = TypeVar("ItemT")

TASKS_MAX = 10_000


class _Run(Call[object], frozen=True):
    """Runs the task's function."""


class _TaskActor(Actor):
    def __init__(self, function: Callable[..., Awaitable[object]], args: tuple[object, ...]) -> None:
        self._function = function
        self._args = args

    @handles
    async def run(self, message: _Run) -> object:
        result = await self._function(*self._args)
        self.stop()
        return result

    def format_state(self) -> object:
        return {"function": getattr(self._function, "__qualname__", repr(self._function))}


class TaskSupervisor(DynamicSupervisor):
    """Supervises tasks: temporary children, never restarted. ``Tasks`` starts them.

    Args:
        max_children: how many may run at a time.
    """

    def __init__(self, *, max_children: int = TASKS_MAX) -> None:
        super().__init__(intensity=0, max_children=max_children)


class Task(Generic[T]):
    """A running task.

    Attributes:
        ref: its actor; monitor it for a ``Down``, kill it to cancel it.
    """

    __slots__ = ("_request", "ref")

    def __init__(self, ref: ActorRef, request: Request[object]) -> None:
        self.ref = ref
        self._request = request

    async def wait(self, timeout: float | None = None) -> T:  # noqa: ASYNC109  # told by the injected clock
        """What the function returned.

        Raises:
            ActorExited: it raised (``.reason.exception`` says what), or was killed.
            TimeoutError: neither within ``timeout`` seconds. It goes on: wait again. No message comes of it later.
        """
        return cast("T", await self._request.wait(timeout))

    @property
    def done(self) -> bool:
        """Whether ``wait`` would return, or raise, at once."""
        return self._request.done

    @property
    def request(self) -> Request[object]:
        """The request behind it, to be put into ``Requests``."""
        return self._request


class Tasks:
    """Starts tasks under a ``TaskSupervisor``.

    Args:
        system: where it lives.
        supervisor: its ref.
    """

    _numbers = itertools.count(1)

    def __init__(self, system: ActorSystem, supervisor: ActorRef) -> None:
        self._system = system
        self._supervisor = supervisor

    async def async_(self, function: Callable[..., Awaitable[T]], *args: object) -> Task[T]:
        """Starts ``function(*args)`` and links it to the running actor: if either fails, the other ends too.

        Raises:
            RuntimeError: outside a handler; ``async_nolink`` there.
            TooManyChildren: the supervisor has as many tasks as it may.

        Cancelled, nothing runs.
        """
        self._system.current("async_ (outside an actor: async_nolink)")
        return await self._start(function, args, linked=True)

    async def async_nolink(self, function: Callable[..., Awaitable[T]], *args: object) -> Task[T]:
        """Starts ``function(*args)``; its failure is a value, to ``wait`` and to monitors.

        Raises:
            TooManyChildren: the supervisor has as many tasks as it may.

        Cancelled, nothing runs.
        """
        return await self._start(function, args, linked=False)

    async def _start(
        self, function: Callable[..., Awaitable[T]], args: tuple[object, ...], *, linked: bool
    ) -> Task[T]:
        name = getattr(function, "__name__", "task")
        id_ = f"{name}-{next(self._numbers)}"
        spec = ChildSpec(id_, _TaskActor, args=(function, args), restart="temporary")
        try:
            ref = await self._supervisor.call(StartChild(spec))
        except (asyncio.CancelledError, TimeoutError):
            with contextlib.suppress(Overloaded):
                # it may have been started already, and would wait for ever to be run
                self._supervisor.cast(TerminateChild(id_))
            raise
        if linked:
            self._system.link(ref)
        return Task(ref, self._system.request(ref, _Run(), timeout=None))

    async def async_stream(
        self,
        function: Callable[[ItemT], Awaitable[object]],
        items: Iterable[ItemT],
        *,
        max_concurrency: int = 8,
        ordered: bool = True,
        timeout_s: float | None = None,
    ) -> AsyncGenerator[Outcome, None]:
        """Runs ``function(item)`` for each item, at most ``max_concurrency`` at a time, and yields an ``Outcome`` for each.

        Args:
            function: what to run.
            items: taken one by one, as there is room.
            max_concurrency: how many run at a time.
            ordered: yield in the order of ``items``, else as they end. ``Outcome.label`` is the item.
            timeout_s: seconds that each may take; then it is killed, and its outcome is a ``TimeoutError``.

        Stop early with ``aclose()``, or by leaving ``contextlib.aclosing``: what still runs is killed then.
        """
        check_count(max_concurrency, "max_concurrency", least=1)
        source = iter(items)
        numbers = itertools.count()
        running: dict[object, tuple[ItemT, Task[object]]] = {}  # by number, oldest first
        ended = Requests()
        try:
            while True:
                for item in itertools.islice(source, max_concurrency - len(running)):
                    task = await self.async_nolink(function, item)
                    number = next(numbers)
                    running[number] = (item, task)
                    self._limit(task, timeout_s)
                    if not ordered:
                        ended.add(task.request, number)
                if not running:
                    return
                first: object = next(iter(running)) if ordered else (await ended.wait()).label
                yield await self._outcome(*running.pop(first))
        finally:
            for _, task in running.values():
                task.request.abandon()
                self._system.kill(task.ref)

    def _limit(self, task: Task[object], timeout_s: float | None) -> None:
        """Fails the task's request, and kills the task, when its time is over."""
        if timeout_s is not None:
            timer = self._system.clock.call_later(timeout_s, self._late, task, timeout_s)
            task.request.on_done(lambda _: timer.cancel())

    def _late(self, task: Task[object], timeout_s: float) -> None:
        task.request.fail(TimeoutError(f"the task took longer than {timeout_s:g} s"))
        self._system.kill(task.ref)

    async def _outcome(self, item: object, task: Task[object]) -> Outcome:
        try:
            return Outcome(item, await task.request.wait())
        except (ActorExited, TimeoutError) as error:
            return Outcome(item, error=error)
        except asyncio.CancelledError:
            task.request.abandon()
            self._system.kill(task.ref)
            raise
