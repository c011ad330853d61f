"""One HTTP exchange: bytes out, bytes in, every silence bounded, the connection returned or closed.

Nothing here knows of models or money; `flow` and `streaming` call it, and it calls aiohttp.
"""

import asyncio
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self, TypeVar
from weakref import WeakKeyDictionary

import aiohttp
from msgspec import Struct
from yarl import URL

from greenroom.actors.events import ErrorKind
from greenroom.actors.kernel import Clock, DeadlineQueue, Deadlines
from greenroom.actors.providers import WireRequest
from greenroom.actors.settings import Stalls

_T_co = TypeVar("_T_co", covariant=True)

_MAX_BODY_BYTES = 64 * 1024 * 1024
"""Larger than any whole answer of any provider; a body beyond it is a server gone wrong, not an answer."""
_MAX_STREAM_BYTES = 512 * 1024 * 1024
"""As above; streamed, each token carries some hundred bytes around it, and its log probabilities some thousand."""
_WHOLE_TYPES = ("application/json", "text/html")
"""What a server answers with that does not stream: an answer after all, or an error page."""
_CLOSED_CONNECTIONS = 10
"""How many kept connections in a row may turn out to be closed before a call fails of it."""
_LAST_CHUNK_S = 0.1
"""How long the end of a body may follow the terminal event for the connection to be worth keeping."""


class Answer(Struct, frozen=True, gc=False):
    """A whole HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class ExchangeFailed(Exception):
    """No whole answer came. The server or the way to it is to blame.

    `sent` is whether the server may have seen the request, and so may charge for it.
    """

    def __init__(self, kind: ErrorKind, message: str, *, sent: bool) -> None:
        super().__init__(message)
        self.kind: ErrorKind = kind
        self.sent = sent


class Send(Protocol[_T_co]):
    """`exchange`, or `open_stream`."""

    async def __call__(
        self, session: aiohttp.ClientSession, url: URL, request: WireRequest, stalls: Stalls, left_s: float, /
    ) -> _T_co: ...


async def exchange(
    session: aiohttp.ClientSession, url: URL, request: WireRequest, stalls: Stalls, left_s: float
) -> Answer:
    """Send `request` and read the whole answer.

    Args:
        session: the provider's.
        url: where to.
        request: what.
        stalls: how long the server may be silent before the first byte and between two.
        left_s: how long all of it may take.

    Raises:
        ExchangeFailed: `timeout` (no first byte, or `left_s` over), `stalled` (silence within the body),
            `connection` (refused, cut, or cut short), `protocol` (no HTTP, or an endless body).

    Cancelling closes the connection at once.
    """
    answer = await _ask(session, url, request, stalls, left_s, streamed=False)
    assert isinstance(answer, Answer)
    return answer


async def open_stream(
    session: aiohttp.ClientSession, url: URL, request: WireRequest, stalls: Stalls, left_s: float
) -> "Answer | StreamBody":
    """Send `request` and read the head of the answer; its body is then read from the `StreamBody`.

    An answer that is no stream is read whole: one without status 200, and one whose content type says so, which
    some servers send whatever they are asked for.

    Raises:
        ExchangeFailed: as `exchange`; what the body does later is raised by `StreamBody.read`.

    Cancelling closes the connection at once.
    """
    return await _ask(session, url, request, stalls, left_s, streamed=True)


class StreamBody:
    """The body of a streamed answer, as it comes. What is not read is not fetched: a slow reader slows the server.

    Two limits hold over it, and end it whether or not somebody reads: the call's deadline, and, while somebody
    waits, `gap_s` without content. What content is, the reader says: keep-alives are none.

    `on_expire` is called with the failure when a limit ends the body, once.
    """

    def __init__(self, response: aiohttp.ClientResponse, gap_s: float, ends_s: float, left_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._response = response
        self._content = response.content
        self.headers: Mapping[str, str] = response.headers
        self._gap_s = gap_s
        self._ends_s = ends_s
        self._left_s = left_s
        self._size = 0
        self._waiting = False
        self._silent_from_s = self._loop.time()
        self._failure: ExchangeFailed | None = None
        self.on_expire: Callable[[ExchangeFailed], None] | None = None
        self._timer = self._loop.call_at(min(ends_s, self._silent_from_s + gap_s), self._check)

    async def read(self, *, heard: bool) -> bytes:
        """The next bytes, or none at the end of the body.

        Args:
            heard: whether there was content in what was read before: then the server's silence begins anew, now,
                since the reader's own pauses are not the server's silence.

        Raises:
            ExchangeFailed: `stalled`, `timeout`, `connection` (cut), `protocol` (an endless body). The connection
                is closed.

        Cancelling leaves the body as it was.
        """
        if heard:
            self._silent_from_s = self._loop.time()
        self._waiting = True
        try:
            data = await self._content.readany()
        except (aiohttp.ClientError, OSError) as error:
            self.close()
            raise self._failure or _explained(error, self._response.url) from error
        finally:
            self._waiting = False
        self._size += len(data)
        if self._size > _MAX_STREAM_BYTES:
            self.close()
            raise _endless(_MAX_STREAM_BYTES)
        return data

    def close(self) -> None:
        """Close the connection, at once. Nothing is read after it."""
        self._timer.cancel()
        self._response.close()

    async def release(self) -> None:
        """Give the connection back where the body has ended, or ends at once; else close it."""
        self._timer.cancel()
        try:
            async with asyncio.timeout(_LAST_CHUNK_S):
                while not self._content.at_eof() and self._size <= _MAX_STREAM_BYTES:
                    self._size += len(await self._content.readany())
        except (TimeoutError, aiohttp.ClientError, OSError):
            pass
        finally:
            # A body that was read to its end has given the connection back, and there is nothing left to close.
            self._response.close()

    def _check(self) -> None:
        now_s = self._loop.time()
        if now_s >= self._ends_s:
            self._expire(_over(self._left_s))
            return
        silent_until_s = self._gap_s + (self._silent_from_s if self._waiting else now_s)
        if now_s >= silent_until_s:
            self._expire(
                ExchangeFailed("stalled", f"no content for {self._gap_s:g} s in mid-answer", sent=True)
            )
            return
        self._timer = self._loop.call_at(min(self._ends_s, silent_until_s), self._check)

    def _expire(self, failure: ExchangeFailed) -> None:
        self._failure = failure
        self.close()
        if self.on_expire is not None:
            self.on_expire(failure)


_deadlines: WeakKeyDictionary[asyncio.AbstractEventLoop, Deadlines] = WeakKeyDictionary()


class _Limit:
    """`asyncio.timeout` for one task and no more than is needed here, at a fraction of its cost: every call pays it.

    Raises `TimeoutError` out of the block that it cancelled; a cancellation from elsewhere goes through.

    Args:
        loop: the task's.
        common_s: a limit that many exchanges have; they share one timer.
        left_s: the limit, in seconds, where that is shorter; it takes a timer of its own.
    """

    __slots__ = ("_before", "_task", "_timer", "_up", "loop", "queue")

    def __init__(self, loop: asyncio.AbstractEventLoop, common_s: float, left_s: float) -> None:
        task = asyncio.current_task(loop)
        assert task is not None
        self.loop = loop
        self._task = task
        self._before = task.cancelling()
        self._up = False
        self._timer: asyncio.TimerHandle | None = None
        self.queue: DeadlineQueue | None = None
        if left_s < common_s:
            self._timer = loop.call_later(left_s, self._end)
            return
        deadlines = _deadlines.get(loop)
        if deadlines is None:
            deadlines = _deadlines[loop] = Deadlines(Clock())
        deadlines.add(self, common_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()
        if self._up and self._task.uncancel() <= self._before and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def reschedule(self, ends_s: float) -> None:
        self._forget()
        self._timer = self.loop.call_at(ends_s, self._end)

    def expire(self, limit_s: float) -> None:
        self._end()

    def _forget(self) -> None:
        if self.queue is not None:
            self.queue.pop(self, None)
            self.queue = None
        elif self._timer is not None:
            self._timer.cancel()

    def _end(self) -> None:
        self._up = True
        self._task.cancel()


async def _ask(
    session: aiohttp.ClientSession,
    url: URL,
    request: WireRequest,
    stalls: Stalls,
    left_s: float,
    *,
    streamed: bool,
) -> Answer | StreamBody:
    loop = asyncio.get_running_loop()
    now_s = loop.time()
    ends_s = now_s + left_s
    first_byte_s = stalls.first_byte_streamed_s if streamed else stalls.first_byte_s
    answering = False
    try:
        with _Limit(loop, first_byte_s, left_s) as limit:
            response = await _send(session, url, request)
            if streamed and _is_stream(response):
                return StreamBody(response, stalls.gap_s, ends_s, left_s)
            answering = True
            try:
                body = await _read(response.content, limit, stalls.gap_s, ends_s)
            except BaseException:
                # Closed, not returned: what else may still come on this connection belongs to nobody.
                response.close()
                raise
            response.release()
            return Answer(response.status, response.headers, body)
    except aiohttp.ConnectionTimeoutError as error:
        raise ExchangeFailed(
            "connection", f"no connection within {stalls.connect_s:g} s", sent=False
        ) from error
    except TimeoutError as error:
        if loop.time() >= ends_s:
            raise _over(left_s) from error
        if answering:
            raise ExchangeFailed(
                "stalled", f"silent for {stalls.gap_s:g} s in mid-answer", sent=True
            ) from error
        raise ExchangeFailed("timeout", f"no answer within {first_byte_s:g} s", sent=True) from error
    except (aiohttp.ClientError, OSError) as error:
        raise _explained(error, url) from error


async def _send(session: aiohttp.ClientSession, url: URL, request: WireRequest) -> aiohttp.ClientResponse:
    """Send `request`, and again at once where a kept connection turns out to be closed before anything was written.

    Some servers close after each answer and do not say so (llama.cpp's, after each stream). Such a request reached
    nobody: it is neither an attempt nor a reason to wait.
    """
    for left in reversed(range(_CLOSED_CONNECTIONS)):
        try:
            return await session.request(
                request.method,
                url,
                data=request.body,
                headers=request.headers or None,
                allow_redirects=False,
            )
        except aiohttp.ClientOSError as error:
            if not left or not _is_unwritten(error):
                raise
    raise AssertionError("the last one returns or raises")


def _is_unwritten(error: BaseException) -> bool:
    """Whether aiohttp refused to write, since the connection was closed already; head and body are one write."""
    cause = error.__cause__
    return isinstance(cause, aiohttp.ClientConnectionResetError) and "closing transport" in str(cause)


def _is_stream(response: aiohttp.ClientResponse) -> bool:
    return response.status == 200 and not response.headers.get("Content-Type", "").startswith(_WHOLE_TYPES)


async def _read(content: aiohttp.StreamReader, limit: _Limit, gap_s: float, ends_s: float) -> bytes:
    chunks: list[bytes] = []
    size = 0
    while not content.at_eof():
        if not content.is_eof():
            limit.reschedule(min(limit.loop.time() + gap_s, ends_s))
        chunk = await content.readany()
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            raise _endless(_MAX_BODY_BYTES)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _explained(error: aiohttp.ClientError | OSError, url: URL) -> ExchangeFailed:
    if isinstance(error, aiohttp.ClientConnectorError):
        why = str(error)
        if not isinstance(error, aiohttp.ClientSSLError):
            why = f"nobody answers at {error.host}:{error.port}: {error.os_error.strerror or error.os_error}"
        return ExchangeFailed("connection", why, sent=False)
    if isinstance(error, aiohttp.ClientPayloadError):
        return ExchangeFailed("connection", "the answer was cut short", sent=True)
    if isinstance(error, aiohttp.ClientResponseError):
        return ExchangeFailed("protocol", f"not an HTTP answer: {error.message}", sent=True)
    if _is_unwritten(error):
        return ExchangeFailed("connection", "every kept connection had been closed", sent=False)
    if isinstance(error, aiohttp.InvalidURL):
        return ExchangeFailed("invalid_request", f"not a URL: {url}", sent=False)
    return ExchangeFailed("connection", str(error) or "the connection was cut", sent=True)


def _over(left_s: float) -> ExchangeFailed:
    return ExchangeFailed(
        "timeout", f"no whole answer within the {left_s:.3g} s left for the call", sent=True
    )


def _endless(limit: int) -> ExchangeFailed:
    return ExchangeFailed("protocol", f"the answer is larger than {limit} bytes", sent=True)
