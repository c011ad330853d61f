"""One HTTP exchange: bytes out, bytes in, every silence bounded, the connection returned or closed.

Nothing here knows of models or money; `flow` calls it, and it calls aiohttp.
"""

import asyncio
from collections.abc import Mapping

import aiohttp
from msgspec import Struct
from yarl import URL

from greenroom.actors.events import ErrorKind
from greenroom.actors.providers import WireRequest
from greenroom.actors.settings import Stalls

_MAX_BODY_BYTES = 64 * 1024 * 1024
"""Larger than any whole answer of any provider; a body beyond it is a server gone wrong, not an answer."""


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
    loop = asyncio.get_running_loop()
    ends_s = loop.time() + left_s
    answering = False
    try:
        async with asyncio.timeout(min(stalls.first_byte_s, left_s)) as limit:
            response = await session.request(request.method, url, data=request.body, allow_redirects=False)
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
    except aiohttp.ClientConnectorError as error:
        raise ExchangeFailed("connection", str(error), sent=False) from error
    except aiohttp.ClientPayloadError as error:
        raise ExchangeFailed("connection", "the answer was cut short", sent=True) from error
    except aiohttp.ClientResponseError as error:
        raise ExchangeFailed("protocol", f"not an HTTP answer: {error.message}", sent=True) from error
    except TimeoutError as error:
        raise _timed_out(stalls, answering, left_s, loop.time() >= ends_s) from error
    except aiohttp.InvalidURL as error:
        raise ExchangeFailed("invalid_request", f"not a URL: {url}", sent=False) from error
    except (aiohttp.ClientError, OSError) as error:
        raise ExchangeFailed("connection", str(error) or "the connection was cut", sent=True) from error


async def _read(content: aiohttp.StreamReader, limit: asyncio.Timeout, gap_s: float, ends_s: float) -> bytes:
    loop = asyncio.get_running_loop()
    chunks: list[bytes] = []
    size = 0
    while not content.at_eof():
        if not content.is_eof():
            limit.reschedule(min(loop.time() + gap_s, ends_s))
        chunk = await content.readany()
        size += len(chunk)
        if size > _MAX_BODY_BYTES:
            raise ExchangeFailed("protocol", f"the answer is larger than {_MAX_BODY_BYTES} bytes", sent=True)
        chunks.append(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _timed_out(stalls: Stalls, answering: bool, left_s: float, over: bool) -> ExchangeFailed:  # noqa: FBT001 - two facts, one caller
    if over:
        return ExchangeFailed(
            "timeout", f"no whole answer within the {left_s:.0f} s left for the call", sent=True
        )
    if answering:
        return ExchangeFailed("stalled", f"silent for {stalls.gap_s:g} s in mid-answer", sent=True)
    return ExchangeFailed("timeout", f"no answer within {stalls.first_byte_s:g} s", sent=True)
