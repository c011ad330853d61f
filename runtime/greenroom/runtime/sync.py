"""`Runtime` for programs that have no event loop: the same calls, blocking, from any thread.

A loop runs in a thread of its own, reached through anyio's blocking portal.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar, Unpack, overload

from anyio.from_thread import BlockingPortal, start_blocking_portal

from greenroom.actors.asks.structured import ParsedReply
from greenroom.actors.events import CallEvent
from greenroom.actors.flow import Reply
from greenroom.actors.flow.embedding import Embeddings
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.session import SessionStream
from greenroom.actors.settings import Settings
from greenroom.runtime.discovery import Chosen
from greenroom.runtime.options import Messages, Options, TermsOptions
from greenroom.runtime.runtime import Runtime

_T = TypeVar("_T")


class SyncRuntime:
    """A runtime within `with`, to be used from any thread, by many at once.

        with SyncRuntime() as rt:
            print(rt.chat(None, "Why is the sky blue?").text)

    Args:
        config: as of `Runtime`, like all that follow.
        environ: where keys are looked up.
        chosen: providers decided on already.
        simulate_models: further model names that the simulator shall answer to.

    Leaving ends what is in flight in other threads, and then as `Runtime`. Ctrl-C in a call cancels that call.
    """

    def __init__(
        self,
        config: Settings | Path | str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        chosen: Chosen | None = None,
        simulate_models: Sequence[str] = (),
    ) -> None:
        self._make = partial(Runtime, config, environ=environ, chosen=chosen, simulate_models=simulate_models)
        self._stack = ExitStack()
        self._started: tuple[BlockingPortal, Runtime] | None = None

    def __enter__(self) -> Self:
        """Start the loop and the tree. Raises as `Runtime.__aenter__`, and RuntimeError on a thread that runs a loop."""
        _refuse_a_loops_thread()
        with ExitStack() as stack:
            portal = stack.enter_context(start_blocking_portal())
            made = portal.call(self._make)
            self._started = portal, stack.enter_context(portal.wrap_async_context_manager(made))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._started = None
        self._stack.close()

    @property
    def runtime(self) -> Runtime:
        """What does the work, for `call`: `rt.call(rt.runtime.batch, "reviews.jsonl")`.

        Raises:
            RuntimeError: it was not entered yet, or was left.
        """
        return self._running()[1]

    def call(self, function: Callable[..., Awaitable[_T]], *args: object, **kwargs: object) -> _T:
        """Call an `async def` on the runtime's loop, and wait for what it returns or raises.

        Interrupted, it is cancelled there.
        """
        _refuse_a_loops_thread()
        future = self._running()[0].start_task_soon(partial(_awaited, partial(function, *args, **kwargs)))
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    @overload
    def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: None = None,
        reasks: int = ...,
        **options: Unpack[Options],
    ) -> Reply: ...

    @overload
    def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: type[_T],
        reasks: int = ...,
        **options: Unpack[Options],
    ) -> ParsedReply[_T]: ...

    @overload
    def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: Mapping[str, object],
        reasks: int = ...,
        **options: Unpack[Options],
    ) -> ParsedReply[object]: ...

    def chat(
        self,
        model: str | None,
        messages: Messages,
        *,
        response_type: type[_T] | Mapping[str, object] | None = None,
        reasks: int = 2,
        **options: Unpack[Options],
    ) -> Reply | ParsedReply[_T] | ParsedReply[object]:
        """See `Runtime.chat`."""
        ask = partial(self.runtime.chat, model, messages, reasks=reasks, **options)
        if response_type is None:
            return self.call(ask)
        if isinstance(response_type, Mapping):
            return self.call(ask, response_type=response_type)
        return self.call(partial(ask, response_type=response_type))

    def stream(self, model: str | None, messages: Messages, **options: Unpack[Options]) -> "SyncEventStream":
        """See `Runtime.stream`; `with rt.stream(...) as events`, then `for event in events`."""
        return self.iterate(self.runtime.stream(model, messages, **options))

    def iterate(self, events: EventStream | SessionStream) -> "SyncEventStream":
        """The events of a stream, blocking: `with rt.iterate(session.stream("Hello")) as events`."""
        return SyncEventStream(self, events)

    def embed(
        self,
        model: str,
        texts: str | Sequence[str],
        *,
        dimensions: int | None = None,
        **options: Unpack[TermsOptions],
    ) -> Embeddings:
        """See `Runtime.embed`."""
        return self.call(partial(self.runtime.embed, model, texts, dimensions=dimensions, **options))

    def _running(self) -> tuple[BlockingPortal, Runtime]:
        if self._started is None:
            raise RuntimeError("the runtime is not running: use it within `with SyncRuntime() as rt:`")
        return self._started


class SyncEventStream:
    """As `EventStream`, blocking."""

    def __init__(self, rt: SyncRuntime, events: EventStream | SessionStream) -> None:
        self._rt = rt
        self._events = events

    def __enter__(self) -> Self:
        """See `EventStream.__aenter__`."""
        self._rt.call(self._events.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rt.call(self._events.__aexit__, kind, error, trace)

    def __iter__(self) -> Iterator[CallEvent]:
        """The events, each as it comes. Raises as `EventStream.__anext__`."""
        while (event := self._rt.call(_next_of, self._events)) is not None:
            yield event

    @property
    def reply(self) -> Reply:
        """See `EventStream.reply`."""
        return self._events.reply

    def finish(self) -> Reply:
        """See `EventStream.finish`."""
        return self._rt.call(self._events.finish)


async def _awaited(call: Callable[[], Awaitable[_T]]) -> _T:
    return await call()


async def _next_of(events: EventStream | SessionStream) -> CallEvent | None:
    try:
        return await anext(events)
    except StopAsyncIteration:
        return None


def _refuse_a_loops_thread() -> None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return
    raise RuntimeError("this thread runs an event loop, which SyncRuntime would block: use Runtime")
