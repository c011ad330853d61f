"""Messages sent later, and tasks whose results come back as messages. Both belong to an actor and end with it."""

from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from greenroom.actors.kernel.contract.messages import Piped
from greenroom.actors.kernel.engine.ties import SUSPENDED, Signal

if TYPE_CHECKING:
    from greenroom.actors.kernel.engine.process import Process


class Timer:
    """A message on its way. ``send_after`` makes it."""

    __slots__ = ("_handle", "_message", "_process")

    def __init__(self, process: "Process", delay_s: float, message: object) -> None:
        if delay_s != delay_s:  # noqa: PLR0124  # not a number; it would disorder the loop's timers
            raise ValueError(f"a delay is a number of seconds, not {delay_s!r}")
        self._process = process
        self._message = message
        self._handle = process.core.clock.call_later(delay_s, self._fire)
        ties = process.tie()
        if ties.timers is None:
            ties.timers = set()
        ties.timers.add(self)

    def cancel(self) -> bool:
        """Stops it. Returns False if the message was sent already; it may then still wait in the mailbox."""
        if not self._forget():
            return False
        self._handle.cancel()
        return True

    def drop(self) -> None:
        """Its actor has ended."""
        self._handle.cancel()

    def _fire(self) -> None:
        if self._forget():
            self._process.post(self._message)

    def _forget(self) -> bool:
        ties = self._process.ties
        if ties is None or ties.timers is None or self not in ties.timers:
            return False
        ties.timers.remove(self)
        return True


class IdleTimer(Timer):
    """Breaks the silence of an actor that nobody has sent anything."""

    __slots__ = ("_overdue",)

    _overdue: bool

    def __init__(self, process: "Process", delay_s: float, message: object) -> None:
        super().__init__(process, delay_s, message)
        self._overdue = False

    def resumed(self) -> None:
        """The actor was suspended and is no longer."""
        if self._overdue:
            self._fire()

    def _fire(self) -> None:
        process = self._process
        self._overdue = bool(process.busy & SUSPENDED)
        if self._overdue or not self._forget():
            return
        if all(
            isinstance(item, Signal) for item in process.inbox or ()
        ):  # else a message is about to end the wait
            process.post(self._message)


class Pipe:
    """A task owned by an actor. ``pipe_to_self`` makes it."""

    __slots__ = ("_task", "tag")

    def __init__(self, process: "Process", coroutine: Coroutine[Any, Any, object], tag: object) -> None:
        self.tag = tag
        ties = process.tie()
        if ties.pipes is None:
            ties.pipes = set()
        task = process.core.loop.create_task(_run(process, coroutine, tag), context=process.context.copy())
        self._task = task
        ties.pipes.add(task)
        task.add_done_callback(ties.pipes.discard)
        task.add_done_callback(lambda _: coroutine.close())  # cancelled before its first step, it would warn

    def cancel(self) -> None:
        """Cancels the task; its ``Piped`` will carry the ``CancelledError``."""
        self._task.cancel()

    @property
    def done(self) -> bool:
        """Whether the task has ended."""
        return self._task.done()


async def _run(process: "Process", coroutine: Coroutine[Any, Any, object], tag: object) -> None:
    try:
        value = await coroutine
    except (KeyboardInterrupt, SystemExit) as error:
        process.core.interrupt(error)
    except BaseException as error:
        process.post(Piped(tag, error=error))
    else:
        process.post(Piped(tag, value))
