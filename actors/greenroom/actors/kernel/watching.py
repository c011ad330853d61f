"""Finding actors, and hearing of their ends."""

import asyncio
import itertools

from greenroom.actors.kernel.contract.clock import Clock, check_seconds
from greenroom.actors.kernel.contract.errors import CallingSelf, SystemClosed
from greenroom.actors.kernel.contract.messages import Down
from greenroom.actors.kernel.contract.reasons import ExitReason, Killed, NoProcess
from greenroom.actors.kernel.contract.ref import ActorRef
from greenroom.actors.kernel.engine import exits
from greenroom.actors.kernel.engine.core import Core
from greenroom.actors.kernel.engine.named import Name, NamedRef
from greenroom.actors.kernel.engine.process import Process
from greenroom.actors.kernel.engine.ties import DEAD


class Watching:
    """The part of ``ActorSystem`` that finds actors and watches them."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._open_core: Core | None = None
        self._monitors = itertools.count(1)

    @property
    def core(self) -> Core:
        """The kernel's own."""
        if self._open_core is None:
            raise SystemClosed("enter the system first: async with ActorSystem() as system")
        return self._open_core

    # --- finding ----------------------------------------------------------------------------------------------------

    def whereis(self, name: Name) -> ActorRef | None:
        """A ref by name, if somebody holds it now; else None."""
        return NamedRef(self.core, name) if self.core.holder(name) is not None else None

    def named(self, name: Name) -> ActorRef:
        """A ref by name, whether or not anybody holds it yet. It follows the name across restarts."""
        return NamedRef(self.core, name)

    def resolve(self, ref: ActorRef) -> Process | None:
        """The incarnation that ``ref`` means now; None if nobody holds the name.

        Raises:
            TypeError: ``ref`` is no ref of this system.
        """
        process = ref.resolve() if isinstance(ref, NamedRef) else ref
        if process is not None and (not isinstance(process, Process) or process.core is not self.core):
            raise TypeError(f"{ref!r} is no ref of this actor system")
        return process

    def current(self, what: str) -> Process:
        """The actor whose handler is running.

        Raises:
            RuntimeError: none is; ``what`` says what was tried.
        """
        process = self.core.current()
        if process is None:
            raise RuntimeError(
                f"{what} belongs into a handler, init or terminate: it concerns the actor that runs it"
            )
        return process

    # --- watching ---------------------------------------------------------------------------------------------------

    def monitor(self, ref: ActorRef) -> int:
        """From within an actor: it will get exactly one ``Down`` when ``ref`` ends, or now if it has ended.

        Returns:
            A number for ``demonitor``; the ``Down`` carries it.

        Raises:
            RuntimeError: called outside a handler; ``await wait_down(ref)`` there.
        """
        watcher = self.current("monitor (outside an actor: await system.wait_down(ref))")
        number = next(self._monitors)
        exits.monitor(watcher, ref, self.resolve(ref), number)
        return number

    def demonitor(self, monitor: int) -> None:
        """Ends a monitor of the running actor. Its ``Down`` will not come, even if it waits in the mailbox already."""
        exits.demonitor(self.current("demonitor"), monitor)

    async def wait_down(
        self,
        ref: ActorRef,
        *,
        timeout: float | None = None,  # noqa: ASYNC109  # told by the injected clock
    ) -> Down:
        """Waits until ``ref`` has ended, from anywhere.

        Raises:
            TimeoutError: it lives on after ``timeout`` seconds.
            CallingSelf: from a handler of that actor.
        """
        check_seconds(timeout)
        process = self.resolve(ref)
        if process is not None and self.core.current() is process:
            raise CallingSelf(ref)
        gone, number = self._watch(process, ref)
        late = None if timeout is None else self.clock.call_later(timeout, _expire, gone, ref, timeout)
        try:
            return Down(ref, await gone, number)
        finally:
            if late is not None:
                late.cancel()
            if process is not None and process.ties is not None:
                process.ties.monitors.pop(number, None)

    def _watch(self, process: Process | None, ref: ActorRef) -> "tuple[asyncio.Future[ExitReason], int]":
        gone: asyncio.Future[ExitReason] = self.core.loop.create_future()
        number = next(self._monitors)
        exits.monitor(gone, ref, process, number)
        return gone, number

    def link(self, ref: ActorRef) -> None:
        """Ties the running actor's fate to that of ``ref``, both ways. Linking twice is linking once."""
        process = self.current("link")
        peer = self.resolve(ref)
        if peer is None:
            exits.send_exit(process, ref, NoProcess())
        else:
            exits.link(process, peer)

    def unlink(self, ref: ActorRef) -> None:
        """Unties them. An exit that waits in the running actor's mailbox will not be seen."""
        process = self.current("unlink")
        peer = self.resolve(ref)
        if peer is not None:
            exits.unlink(process, peer)

    def exit(self, ref: ActorRef, reason: ExitReason) -> None:
        """Sends an exit signal, as if a linked actor had ended for ``reason``. ``Killed()`` kills."""
        process = self.resolve(ref)
        if process is None or process.busy & DEAD:
            return
        if isinstance(reason, Killed):
            exits.kill(process)
        else:
            exits.send_exit(process, self.core.current(), reason)


def _expire(gone: "asyncio.Future[ExitReason]", ref: ActorRef, timeout: float) -> None:
    if not gone.done():
        gone.set_exception(TimeoutError(f"{ref!r} still lives after {timeout:g} s"))
