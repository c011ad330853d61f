"""System messages that ask: answered in their turn, also while the actor is suspended."""

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenroom.actors.kernel.contract.errors import ActorExited
from greenroom.actors.kernel.engine.ties import CAREFUL, RUNNING, SUSPENDED, Signal
from greenroom.actors.kernel.state import attributes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from greenroom.actors.kernel.contract.reasons import ExitReason
    from greenroom.actors.kernel.engine.process import Process


class Asking(Signal):
    """A signal whose sender waits for ``answer``."""

    __slots__ = ("answer",)

    def __init__(self, process: "Process") -> None:
        self.answer: asyncio.Future[Any] = process.core.loop.create_future()

    def apply(self, process: "Process") -> None:
        try:
            result = self.ask(process)
        except Exception as error:
            if not self.answer.done():
                self.answer.set_exception(error)
        else:
            if not self.answer.done():
                self.answer.set_result(result)

    def lost(self, process: "Process", reason: "ExitReason") -> None:
        if not self.answer.done():
            self.answer.set_exception(ActorExited(reason, process))

    def ask(self, process: "Process") -> object:
        """What the sender gets. What it raises is the sender's too, and leaves the actor as it was."""
        raise NotImplementedError


class Suspend(Asking):
    """From now on messages wait, system messages do not."""

    __slots__ = ()

    def ask(self, process: "Process") -> None:
        process.busy |= SUSPENDED | RUNNING
        inbox = process.inbox
        if inbox is not None:  # signals behind this one must not wait with the messages
            signals = [item for item in inbox if isinstance(item, Signal)]
            messages = [item for item in inbox if not isinstance(item, Signal)]
            inbox.clear()
            inbox.extend(messages)
            for signal in signals:
                process.post(signal)


class Resume(Asking):
    """Messages are handled again, in the order in which they came."""

    __slots__ = ()

    def ask(self, process: "Process") -> None:
        if process.busy & SUSPENDED:
            process.busy &= ~SUSPENDED
            process.proceed()
            if process.ties is not None and process.ties.idle is not None:
                process.ties.idle.resumed()


class GetState(Asking):
    """The actor's state as it may be shown."""

    __slots__ = ()

    def ask(self, process: "Process") -> object:
        return process.actor.format_state()


class ReplaceState(Asking):
    """Puts another state in the place of the present one."""

    __slots__ = ("function",)

    def __init__(
        self, process: "Process", function: "Callable[[dict[str, object]], Mapping[str, object]]"
    ) -> None:
        super().__init__(process)
        self.function = function

    def ask(self, process: "Process") -> object:
        actor = process.actor
        before = attributes(actor)
        after = dict(self.function(dict(before)))
        try:
            for name, value in after.items():
                setattr(actor, name, value)
        except Exception:
            for name, value in before.items():
                setattr(actor, name, value)
            raise
        for name in before.keys() - after.keys():
            delattr(actor, name)
        return actor.format_state()


class Trace(Asking):
    """Keeps the last events of an actor, or stops to."""

    __slots__ = ("events_max",)

    def __init__(self, process: "Process", events_max: int) -> None:
        super().__init__(process)
        self.events_max = events_max

    def ask(self, process: "Process") -> None:
        ties = process.tie()
        if self.events_max:
            ties.start_trace(self.events_max)
            process.busy |= CAREFUL
        else:
            ties.trace = None
            if ties.idle is None:
                process.busy &= ~CAREFUL
