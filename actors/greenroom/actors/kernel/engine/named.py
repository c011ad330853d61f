"""Refs by name: whoever holds the name when a message is sent."""

import asyncio
from typing import TYPE_CHECKING, Any, Protocol

from greenroom.actors.kernel.contract.errors import ActorExited
from greenroom.actors.kernel.contract.messages import Call, ReplyT
from greenroom.actors.kernel.contract.reasons import NoProcess
from greenroom.actors.kernel.contract.ref import DEFAULT_TIMEOUT_S, ActorRef

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from greenroom.actors.kernel.engine.core import Core
    from greenroom.actors.kernel.engine.process import Process


class Book(Protocol):
    """A registry, as far as names are concerned."""

    def register(self, key: object, value: object = None, *, ref: ActorRef | None = None) -> None:
        """Registers ``ref``."""

    def holder(self, key: object) -> "Process | None":
        """Who has ``key``."""


class Via:
    """A key of a registry, used as a name: of an actor that is started under it, or registers itself."""

    __slots__ = ("key", "registry")

    def __init__(self, registry: Book, key: object) -> None:
        self.registry = registry
        self.key = key

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Via) and self.registry is other.registry and self.key == other.key

    def __hash__(self) -> int:
        return hash((id(self.registry), self.key))

    def __repr__(self) -> str:
        return f"via {self.key!r}"


Name = str | Via


def is_name(value: object) -> bool:
    """Whether an actor can be called so."""
    return isinstance(value, Via) or (isinstance(value, str) and value != "")


class NamedRef(ActorRef):
    """The address of a name. Usable before anybody holds it; follows it across restarts.

    It equals another ref to the same name, and the incarnation that holds the name now.
    """

    __slots__ = ("core", "name")

    def __init__(self, core: "Core", name: object) -> None:
        self.core = core
        self.name = name

    def resolve(self) -> "Process | None":
        """Who holds the name now."""
        return self.core.holder(self.name)

    def call(
        self, message: Call[ReplyT], *, timeout: float | None = DEFAULT_TIMEOUT_S
    ) -> "Coroutine[Any, Any, ReplyT]":
        """As ``ActorRef.call``; a message class with ``resend=True`` waits out a restart, within ``timeout``.

        Raises:
            ActorExited: as for any call; for a message that may be resent only when the system is closed.
            TimeoutError: no reply in time, also because nobody took the name in time.
        """
        process = self.core.holder(self.name)
        if type(message).__resend__:
            return self._call_resending(message, timeout)
        if process is None:
            return self._call_nobody()
        return process.call(message, timeout=timeout)

    def call_now(self, message: Call[ReplyT]) -> ReplyT | None:
        process = self.core.names.get(self.name) or self.core.holder(self.name)
        return None if process is None else process.call_now(message)

    async def _call_nobody(self) -> Any:
        raise ActorExited(NoProcess(), self)

    async def _call_resending(
        self,
        message: Call[ReplyT],
        timeout: float | None,  # noqa: ASYNC109  # a call imposes its own limit, as GenServer's does
    ) -> ReplyT:
        clock = self.core.clock
        until = None if timeout is None else clock.monotonic() + timeout
        left = timeout
        while True:
            process = self.core.holder(self.name)
            if process is not None:
                try:
                    return await process.call(message, timeout=left)
                except ActorExited:
                    if self.core.closed:
                        raise
            elif self.core.closed:
                raise ActorExited(NoProcess(), self)
            left = None if until is None else until - clock.monotonic()
            if self.core.holder(self.name) in {None, process}:
                await self._wait_successor(message, left, timeout)
                left = None if until is None else max(until - clock.monotonic(), 0.0)

    async def _wait_successor(self, message: object, left_s: float | None, limit_s: float | None) -> None:
        waiter = self.core.wait_name(self.name)
        handle = None
        if left_s is not None:
            handle = self.core.clock.call_later(max(left_s, 0.0), _late, waiter)
        try:
            await waiter
        except TimeoutError:
            what = type(message).__qualname__
            raise TimeoutError(f"nobody named {self.name!r} answered {what} within {limit_s:g} s") from None
        finally:
            self.core.stop_waiting(self.name, waiter)
            if handle is not None:
                handle.cancel()

    def cast(self, message: object) -> None:
        process = self.core.holder(self.name)
        if process is None:
            self.core.dead_letter(self, message, "unknown name")
        else:
            process.cast(message)

    def cast_from_loop(self, message: object) -> None:
        process = self.core.holder(self.name)
        if process is None:
            self.core.dead_letter(self, message, "unknown name")
        else:
            process.cast_from_loop(message)

    async def send(self, message: object) -> None:
        process = self.core.holder(self.name)
        if process is None:
            self.core.dead_letter(self, message, "unknown name")
        else:
            await process.send(message)

    @property
    def alive(self) -> bool:
        process = self.core.holder(self.name)
        return process is not None and process.alive

    def __eq__(self, other: object) -> bool:
        if isinstance(other, NamedRef):
            return self.core is other.core and self.name == other.name
        if isinstance(other, ActorRef):
            return self.resolve() is other
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        process = self.resolve()
        return f"<ActorRef by name {self.name!r}{'' if process is None else f' -> #{process.id} {process.state}'}>"


def _late(waiter: "asyncio.Future[None]") -> None:
    if not waiter.done():
        waiter.set_exception(TimeoutError())
