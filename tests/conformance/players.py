"""The actors that the conformance tests play with: they do what a message tells them."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from greenroom.actors import (
    Actor,
    ActorExited,
    ActorRef,
    ActorSystem,
    Call,
    Cast,
    Exit,
    ExitReason,
    Refused,
    ReplyTo,
    handles,
)

T = TypeVar("T")


class Do(Call[Any], frozen=True):
    """Run `action(puppet)` in a plain handler, and reply what it returns."""

    action: Callable[["Puppet"], object]


class Await(Call[Any], frozen=True):
    """The same in an async handler."""

    action: Callable[["Puppet"], Awaitable[object]]


class Later(Call[Any], frozen=True):
    """The same with the reply left to `action(puppet, reply_to)`."""

    action: Callable[["Puppet", ReplyTo[Any]], object]


class Tell(Cast, frozen=True):
    """Run `action(puppet)` in a plain handler of a cast; it must return None."""

    action: Callable[["Puppet"], object]


class TellAwait(Cast, frozen=True):
    """The same in an async handler."""

    action: Callable[["Puppet"], Awaitable[object]]


class No(Refused):
    """What a puppet refuses with."""


class Puppet(Actor):
    """Keeps what it was sent in `seen`, and its callbacks in a journal that several may share."""

    def __init__(
        self,
        label: str = "",
        journal: list[Any] | None = None,
        *,
        traps: bool = False,
        on_init: Callable[["Puppet"], Awaitable[object]] | None = None,
        on_info: Callable[["Puppet", object], Awaitable[object]] | None = None,
        on_terminate: Callable[["Puppet", ExitReason], Awaitable[object]] | None = None,
    ) -> None:
        self.label = label
        self.journal: list[Any] = [] if journal is None else journal
        self.seen: list[Any] = []
        self.on_init = on_init
        self.on_info = on_info
        self.on_terminate = on_terminate
        self.trap_exit = traps

    async def init(self) -> None:
        if self.label:
            self.journal.append(f"init {self.label}")
        if self.on_init is not None:
            await self.on_init(self)

    @handles
    def do(self, message: Do) -> object:
        return message.action(self)

    @handles
    async def do_async(self, message: Await) -> object:
        return await message.action(self)

    @handles
    def later(self, message: Later, reply_to: ReplyTo[Any]) -> None:
        message.action(self, reply_to)

    @handles
    def tell(self, message: Tell) -> None:
        message.action(self)

    @handles
    async def tell_async(self, message: TellAwait) -> None:
        await message.action(self)

    async def handle_info(self, message: object) -> None:
        self.seen.append(message)
        if self.on_info is not None:
            await self.on_info(self, message)

    async def terminate(self, reason: ExitReason) -> None:
        if self.label:
            self.journal.append(f"terminate {self.label}")
        if self.on_terminate is not None:
            await self.on_terminate(self, reason)


class Step(Call[int], frozen=True):
    by: int = 1


class Fail(Cast, frozen=True):
    """Crash."""


class Plain(Actor):
    """No callback of its own: it starts, works and ends without a task."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    @handles
    def do(self, message: Step) -> int:
        self.value += message.by
        return self.value

    @handles
    def fail(self, message: Fail) -> None:
        raise ValueError("told to fail")


def raising(error: BaseException) -> Callable[..., Any]:
    """An action that raises."""

    def action(*_: object) -> object:
        raise error

    return action


def ignore(_: object) -> None:
    """What a cast's action may return."""


async def forever(*_: object) -> None:
    """An action that waits until it is cancelled."""
    await asyncio.Event().wait()


async def crash(ref: ActorRef, error: Exception | None = None) -> ExitReason:
    """Crash a puppet, and say why it ended."""
    try:
        await ref.call(Do(raising(error or ValueError("told to crash"))))
    except ActorExited as exited:
        return exited.reason
    raise AssertionError("it lives")


async def seen(ref: ActorRef) -> list[Any]:
    """What a puppet was sent so far."""
    found: list[Any] = await ref.call(Do(lambda puppet: list(puppet.seen)))
    return found


async def inside(ref: ActorRef, action: Callable[[Puppet], T]) -> T:
    """Run `action` in a puppet's handler."""
    result: T = await ref.call(Do(action))
    return result


async def exits_of(ref: ActorRef) -> list[tuple[ActorRef | None, ExitReason]]:
    """The exits that a trapping puppet was sent."""
    return [(message.ref, message.reason) for message in await seen(ref) if isinstance(message, Exit)]


def link(system: ActorSystem, peer: ActorRef) -> Callable[[Puppet], None]:
    """An action that links to `peer`."""
    return lambda _: system.link(peer)


def failing(*rounds: int, error: type[Exception] = ValueError) -> Callable[..., Awaitable[None]]:
    """An `on_init` that raises in the given rounds, counted from 0."""
    count = iter(range(1_000_000))

    async def on_init(_: object) -> None:
        number = next(count)
        if number in rounds:
            raise error(f"init number {number}")

    return on_init
