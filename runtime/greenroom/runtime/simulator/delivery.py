"""How an answer's bytes are put on the wire: whole, streamed with pace, or the way a fault wants it."""

import asyncio
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence

from aiohttp import web

from greenroom.actors.kernel import Clock
from greenroom.runtime.simulator.engine import Dice
from greenroom.runtime.simulator.exchange import Exchange
from greenroom.runtime.simulator.traffic.faults import Fault
from greenroom.runtime.simulator.traffic.pace import Pace
from greenroom.runtime.simulator.wires.wire import JSON

# A stream without pace is written in pieces of about this size, as a provider in a hurry does.
BURST_BYTES = 16 * 1024
# A stalled answer is given up by the client long before; should nobody do so, the simulator ends it.
STALL_S = 3_600.0
DRIP_S = 0.1
KEEPALIVE_S = 1.0
MAX_ENDLESS_BYTES = 1 << 30
ENDLESS_BLOCK_BYTES = 8 * 1024
_NO_LINGER = struct.pack("ii", 1, 0)
_GARBAGE = (
    ("text/html", b"<!doctype html><html><body><h1>It works!</h1></body></html>"),
    (JSON, b"[]"),
    (JSON, b'{"choices": "none today"}'),
    (JSON, b'{"id": "chatcmpl-1", "choices": [{"index": 0, "message": {"role": "assist'),
    (JSON, b"\x00\xff\xfe{}\x80"),
    (JSON, b""),
)
# Without a kind of its own it calls itself what the wire's streams do.
_STREAM_GARBAGE: tuple[tuple[str | None, bytes], ...] = (
    _GARBAGE[0],
    (None, b"data: no json at all\n\n"),
    (None, b'data: {"choices": 7}\n\ndata: [DONE]\n\n'),
    (None, b"\x00\xff\xfe\n\n"),
    (None, b""),
)


class Delivery:
    """Sends answers on one clock."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    async def stream(
        self, exchange: Exchange, events: Iterable[tuple[bytes, int]], pace: Pace
    ) -> web.StreamResponse:
        """Sends a stream's events; where tokens take time, each burst of them is followed by its time."""
        response = await self._open(exchange, exchange.wire.stream_type)
        waiting = bytearray()
        chunks = tokens = 0
        for event, event_tokens in events:
            waiting += event
            chunks += event_tokens > 0
            tokens += event_tokens
            if chunks >= pace.burst_chunks if pace.per_token_s else len(waiting) >= BURST_BYTES:
                await response.write(bytes(waiting))
                waiting.clear()
                if pace.per_token_s:
                    await self._clock.sleep(pace.per_token_s * tokens)
                chunks = tokens = 0
        if waiting:
            await response.write(bytes(waiting))
        await response.write_eof()
        return response

    async def broken(
        self, exchange: Exchange, fault: Fault, parts: Sequence[bytes], dice: Dice, *, streamed: bool
    ) -> web.StreamResponse:
        """Sends an answer the way `fault` wants it.

        Args:
            exchange: The request.
            fault: What happens to it.
            parts: The whole answer; of a stream, all its events.
            dice: Decides where the answer breaks where the fault does not say it, and what the garbage is.
            streamed: Whether it is a stream of events.
        """
        kind = exchange.wire.stream_type if streamed else JSON
        body = b"".join(parts)
        cut = dice.between(1, max(1, len(body) - 1)) if fault.at_byte is None else fault.at_byte
        match fault.kind:
            case "drop":
                return hang_up(exchange, reset=True)
            case "hang":
                await self._clock.sleep(STALL_S)
                return hang_up(exchange, reset=True)
            case "garbage":
                garbage_kind, garbage = dice.pick(_STREAM_GARBAGE if streamed else _GARBAGE)
                return _whole(exchange, garbage_kind or kind, garbage)
            case "end_early" if not streamed:
                return _whole(exchange, kind, body[:cut])
            case "no_done":
                return await self._trickle(exchange, kind, parts[:-1], pause_s=0)
            case "endless":
                filler = exchange.wire.filler if streamed else b" "
                block = filler * (ENDLESS_BLOCK_BYTES // len(filler))
                return await self._trickle(exchange, kind, _endlessly(block), pause_s=0)
            case "keepalive":
                filler = exchange.wire.filler if streamed else b" "
                return await self._trickle(exchange, kind, _endlessly(filler), pause_s=KEEPALIVE_S)
            case "drip":
                single = (body[at : at + 1] for at in range(len(body)))
                return await self._trickle(exchange, kind, single, pause_s=DRIP_S)
            case _:
                return await self._cut(exchange, fault, body, cut, streamed=streamed)

    async def _cut(
        self, exchange: Exchange, fault: Fault, body: bytes, cut: int, *, streamed: bool
    ) -> web.StreamResponse:
        """Sends `cut` bytes; then the end of the stream, silence, or the end of the connection."""
        kind = exchange.wire.stream_type if streamed else JSON
        response = await self._open(exchange, kind, None if streamed else len(body))
        if cut:
            await response.write(body[:cut])
        if fault.kind == "end_early":
            await response.write_eof()
            return response
        if fault.kind == "stall":
            await self._clock.sleep(STALL_S)
        return hang_up(exchange, reset=False)

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


def json_response(
    exchange: Exchange, status: int, body: bytes, headers: Mapping[str, str] | None = None
) -> web.Response:
    """A JSON answer with the headers that belong to the exchange."""
    merged = {**exchange.headers, "Content-Type": JSON}
    if headers:
        merged.update(headers)
    return web.Response(status=status, body=body, headers=merged)


def hang_up(exchange: Exchange, *, reset: bool) -> web.Response:
    """Closes the connection: after what was written has left, or with a reset that forgets it.

    Returns:
        A response for aiohttp to fail with: it takes that for a client's disconnection and is silent, where it would log
        an exception from a handler.
    """
    transport = exchange.request.transport
    if transport is not None:
        if reset and (sock := transport.get_extra_info("socket")) is not None:
            # Closed without lingering, a TCP connection ends with RST and not with FIN.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        (transport.abort if reset else transport.close)()
    return web.Response()


def _whole(exchange: Exchange, kind: str, body: bytes) -> web.Response:
    return web.Response(body=body, headers={**exchange.headers, "Content-Type": kind})


def _endlessly(block: bytes) -> Iterator[bytes]:
    for _ in range(MAX_ENDLESS_BYTES // len(block)):
        yield block
