"""Calls whose replies are waited for later, one by one or as they come."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic

import msgspec

from greenroom.actors.kernel.contract.clock import Clock, check_seconds
from greenroom.actors.kernel.contract.messages import ReplyT
from greenroom.actors.kernel.contract.ref import Envelope


class Request(Generic[ReplyT]):
    """A call that was sent. ``system.request`` makes it.

    The death of the actor, its refusal, or a full mailbox are outcomes of the request: ``wait`` raises them.
    """

    __slots__ = ("_envelope", "_future", "clock")

    def __init__(self, envelope: Envelope | None, future: "asyncio.Future[Any]", clock: Clock) -> None:
        self._envelope = envelope
        self._future = future
        self.clock = clock  # what tells its timeouts
        future.add_done_callback(self._ended)

    def _ended(self, future: "asyncio.Future[Any]") -> None:
        envelope = self._envelope
        if envelope is not None and envelope.queue is not None:
            envelope.queue.pop(envelope, None)  # its deadline concerns nobody any more
        if not future.cancelled():
            future.exception()  # looked at, so that nobody warns of one that is never waited for

    @property
    def done(self) -> bool:
        """Whether ``wait`` would return, or raise, at once."""
        return self._future.done()

    async def wait(self, timeout: float | None = None) -> ReplyT:  # noqa: ASYNC109  # told by the injected clock
        """The reply.

        Raises:
            TimeoutError: not yet, after ``timeout`` seconds. The request goes on: wait again.
            ActorExited: the actor ended, or had ended, before it answered.
            Refused: what the handler refused with.

        Cancelled, the request goes on.
        """
        check_seconds(timeout)
        future = self._future
        if not future.done():
            wake = asyncio.Event()
            callback: Callable[[asyncio.Future[Any]], None] = lambda _: wake.set()  # noqa: E731  # it is removed by identity
            future.add_done_callback(callback)
            try:
                await _wait(wake, self.clock, timeout)
            finally:
                future.remove_done_callback(callback)
            if not future.done():
                raise TimeoutError(f"no reply within {timeout:g} s")
        reply: ReplyT = future.result()
        return reply

    async def receive(self, timeout: float | None = None) -> ReplyT:  # noqa: ASYNC109  # as wait
        """As ``wait``, but after ``timeout`` seconds the request is abandoned, and its reply will be dropped."""
        try:
            return await self.wait(timeout)
        except TimeoutError:
            if not self.done:
                self.abandon()
            raise

    def abandon(self) -> None:
        """Gives it up: it is withdrawn from the mailbox, or its reply is dropped."""
        if self._envelope is not None:
            self._envelope.process.paid(self._envelope)
        self._future.cancel()

    def fail(self, error: Exception) -> None:
        """Lets its outcome be ``error``, unless it has one; the reply will be dropped."""
        if not self._future.done():
            if self._envelope is not None:
                self._envelope.process.paid(self._envelope)
            self._future.set_exception(error)

    def on_done(self, callback: "Callable[[Request[ReplyT]], object]") -> None:
        """Calls ``callback(self)`` on the loop once it is done."""
        self._future.add_done_callback(lambda _: callback(self))

    def outcome(self, label: object) -> "Outcome":
        """What came of it, under ``label``."""
        future = self._future
        if future.cancelled():
            return Outcome(label, error=asyncio.CancelledError())
        error = future.exception()
        return Outcome(label, future.result()) if error is None else Outcome(label, error=error)


class Outcome(msgspec.Struct, frozen=True):
    """What came of one request of a collection.

    Attributes:
        label: as it was added.
        value: the reply.
        error: what the call would have raised, or None.
    """

    label: object
    value: object = None
    error: BaseException | None = None


class Requests:
    """Requests with labels, whose outcomes are taken in the order in which they come."""

    def __init__(self) -> None:
        self._waiting: dict[Request[Any], object] = {}
        self._done: deque[Request[Any]] = deque()
        self._wake = asyncio.Event()
        self._clock: Clock | None = None

    def add(self, request: Request[Any], label: object) -> None:
        """Adds a request.

        Raises:
            ValueError: it is in here already.
        """
        if request in self._waiting:
            raise ValueError(f"the request labelled {self._waiting[request]!r} is in this collection already")
        self._waiting[request] = label
        self._clock = request.clock
        request.on_done(self._came)

    def _came(self, request: Request[Any]) -> None:
        if request in self._waiting:
            self._done.append(request)
            self._wake.set()

    def __len__(self) -> int:
        return len(self._waiting)

    async def wait(self, timeout: float | None = None) -> Outcome:  # noqa: ASYNC109  # told by the injected clock
        """The next outcome; it leaves the collection. Several tasks may wait: each gets another one.

        Raises:
            TimeoutError: none within ``timeout`` seconds. All stay, and may be waited for again.
            LookupError: the collection is empty.
        """
        check_seconds(timeout)
        if timeout is None or self._clock is None:
            return await self._next(None)
        limit = asyncio.Event()
        timer = self._clock.call_later(timeout, self._expire, limit)
        try:
            return await self._next(limit)
        except TimeoutError:
            raise TimeoutError(f"none of {len(self)} replies within {timeout:g} s") from None
        finally:
            timer.cancel()

    async def _next(self, limit: asyncio.Event | None) -> Outcome:
        while not self._done:
            if not self._waiting:
                raise LookupError("no request is left to wait for")
            if limit is not None and limit.is_set():
                raise TimeoutError
            self._wake.clear()
            await self._wake.wait()
        request = self._done.popleft()
        label = self._waiting.pop(request)
        if not self._waiting:
            self._wake.set()  # who else waits will not get any
        return request.outcome(label)

    def _expire(self, limit: asyncio.Event) -> None:
        limit.set()
        self._wake.set()

    async def receive(self, timeout: float | None = None) -> Outcome:  # noqa: ASYNC109  # as wait
        """As ``wait``, but after ``timeout`` seconds all that are left are abandoned."""
        try:
            return await self.wait(timeout)
        except TimeoutError:
            waiting, self._waiting = self._waiting, {}
            for request in waiting:
                request.abandon()
            self._wake.set()  # as in _next
            raise

    async def __aiter__(self) -> AsyncIterator[Outcome]:
        while self._waiting:
            yield await self.wait()


async def _wait(wake: asyncio.Event, clock: Clock, timeout: float | None) -> None:  # noqa: ASYNC109  # as Request.wait
    """Returns when ``wake`` is set, or after ``timeout`` seconds."""
    timer = None if timeout is None else clock.call_later(timeout, wake.set)
    try:
        await wake.wait()
    finally:
        if timer is not None:
            timer.cancel()
