"""How an answer's bytes are put on the wire: whole, streamed with pace, or the way a fault wants it."""

import asyncio
from collections.abc import Iterable, Mapping

from aiohttp import web

from greenroom.actors.kernel import Clock
from greenroom.runtime.simulator.engine import Dice
from greenroom.runtime.simulator.exchange import Exchange
from greenroom.runtime.simulator.traffic.faults import WireFault

# A stream without pace is written in pieces of about this size, as a provider in a hurry does.
BURST_BYTES = 16 * 1024
# A stalled answer is given up by the client long before; should nobody do so, the simulator ends it.
STALL_S = 3_600.0
DRIP_S = 0.1
KEEPALIVE_S = 1.0
MAX_ENDLESS_BYTES = 1 << 30
_JSON = "application/json"
_SSE = "text/event-stream; charset=utf-8"
_GARBAGE = (
    ("text/html", b"<!doctype html><html><body><h1>It works!</h1></body></html>"),
    (_JSON, b"[]"),
    (_JSON, b'{"choices": "none today"}'),
    (_JSON, b'{"id": "chatcmpl-1", "choices": [{"index": 0, "message": {"role": "assist'),
    (_JSON, b"\x00\xff\xfe{}\x80"),
    (_JSON, b""),
)
_STREAM_GARBAGE = (
    _GARBAGE[0],
    (_SSE, b"data: no json at all\n\n"),
    (_SSE, b'data: {"choices": 7}\n\ndata: [DONE]\n\n'),
    (_SSE, b"\x00\xff\xfe\n\n"),
    (_SSE, b""),
)


class Delivery:
    """Sends answers on one clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def stream(
        self, exchange: Exchange, events: Iterable[tuple[bytes, bool]], pace_s: float
    ) -> web.StreamResponse:
        """Sends server-sent events; after each one that carries a token it waits `pace_s` seconds."""
        response = await self._open(exchange, _SSE)
        waiting = bytearray()
        for event, is_token in events:
            waiting += event
            if (pace_s and is_token) or len(waiting) >= BURST_BYTES:
                await response.write(bytes(waiting))
                waiting.clear()
                if pace_s:
                    await self._clock.sleep(pace_s)
        if waiting:
            await response.write(bytes(waiting))
        await response.write_eof()
        return response

    async def broken(
        self, exchange: Exchange, fault: WireFault, body: bytes, dice: Dice, *, streamed: bool
    ) -> web.StreamResponse:
        """Sends `body` the way `fault` wants it.

        Args:
            exchange: The request.
            fault: What happens to it.
            body: The whole answer; of a stream, all its events.
            dice: Decides where the answer breaks, and what the garbage is.
            streamed: Whether the body is a stream of events.
        """
        kind = _SSE if streamed else _JSON
        cut = dice.between(1, max(1, len(body) - 1))
        if fault in {"drop", "hang"}:
            return await self._nothing(exchange, at_once=fault == "drop")
        if fault == "garbage":
            garbage_kind, garbage = dice.pick(_STREAM_GARBAGE if streamed else _GARBAGE)
            return web.Response(body=garbage, headers={**exchange.headers, "Content-Type": garbage_kind})
        if fault == "end_early" and not streamed:
            return web.Response(body=body[:cut], headers={**exchange.headers, "Content-Type": kind})
        if fault == "endless":
            return await self._trickle(
                exchange, kind, _endlessly(b": more\n\n" if streamed else b" " * 8), pause_s=0
            )
        if fault == "keepalive":
            filler = b": keep-alive\n\n" if streamed else b" "
            return await self._trickle(exchange, kind, _endlessly(filler, repeat=1), pause_s=KEEPALIVE_S)
        if fault == "drip":
            single = (body[at : at + 1] for at in range(len(body)))
            return await self._trickle(exchange, kind, single, pause_s=DRIP_S)
        response = await self._open(exchange, kind, None if streamed else len(body))
        await response.write(body[:cut])
        if fault == "end_early":
            await response.write_eof()
            return response
        if fault == "stall":
            await self._clock.sleep(STALL_S)
        hang_up(exchange, reset=False)
        return response

    async def _nothing(self, exchange: Exchange, *, at_once: bool) -> web.StreamResponse:
        """Sends nothing: resets the connection at once, or keeps it open until the client has enough."""
        if not at_once:
            await self._clock.sleep(STALL_S)
        return hang_up(exchange, reset=True)

    async def _trickle(
        self, exchange: Exchange, kind: str, parts: Iterable[bytes], *, pause_s: float
    ) -> web.StreamResponse:
        response = await self._open(exchange, kind)
        for part in parts:
            await response.write(part)
            # Without a pause the loop still gets its turn: a fast reader would never make write wait.
            await (self._clock.sleep(pause_s) if pause_s else asyncio.sleep(0))
        await response.write_eof()
        return response

    async def _open(self, exchange: Exchange, kind: str, length: int | None = None) -> web.StreamResponse:
        headers: Mapping[str, str] = {**exchange.headers, "Content-Type": kind, "Cache-Control": "no-cache"}
        response = web.StreamResponse(headers=headers)
        if length is None:
            response.enable_chunked_encoding()
        else:
            response.content_length = length
        await response.prepare(exchange.request)
        return response


def hang_up(exchange: Exchange, *, reset: bool) -> web.Response:
    """Closes the connection: after what was written has left, or with a reset that forgets it.

    Returns:
        A response for aiohttp to fail with: it takes that for a client's disconnection and is silent, where it would log
        an exception from a handler.
    """
    transport = exchange.request.transport
    if transport is not None:
        (transport.abort if reset else transport.close)()
    return web.Response()


def _endlessly(part: bytes, repeat: int = 1_024) -> Iterable[bytes]:
    block = part * repeat
    for _ in range(MAX_ENDLESS_BYTES // len(block)):
        yield block
