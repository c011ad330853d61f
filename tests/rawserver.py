"""A server below HTTP: it reads whole requests and answers each with whatever bytes, silences and cuts a test wants."""

import asyncio
import json
import socket
import struct
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio.lowlevel
from msgspec import Struct, field

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EVENTS = OK + b"Content-Type: text/event-stream\r\n"
CHUNKED_EVENTS = EVENTS + b"Transfer-Encoding: chunked\r\n\r\n"


class Turn(Struct):
    """One request, and the connection to answer it on."""

    number: int
    body: bytes
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @property
    def prompt(self) -> str:
        body: dict[str, Any] = json.loads(self.body)
        return str(body["messages"][-1]["content"])

    async def wait_closed_by_client(self) -> None:
        """Say no more; what ends the wait is the client, closing its end."""
        await self.reader.readexactly(1)


Script = Callable[[Turn], Awaitable[None]]


class HangUp(Exception):
    """A script raises it to close the connection."""


class RawServer(Struct):
    """What has happened to a server so far."""

    script: Script
    base_url: str = ""
    connections: int = 0
    open_connections: int = 0
    turns: list[Turn] = field(default_factory=list[Turn])
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open_connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                _, _, after = head.lower().partition(b"content-length:")
                length = int(after.split(b"\r\n")[0] or 0)
                turn = Turn(len(self.turns), await reader.readexactly(length), reader, writer)
                self.turns.append(turn)
                self.asked.set()
                await self.script(turn)
        except (asyncio.IncompleteReadError, ConnectionError, HangUp):
            self.closed.set()
        finally:
            self.open_connections -= 1
            writer.close()


@asynccontextmanager
async def raw_server(script: Script) -> AsyncGenerator[RawServer]:
    serving = RawServer(script)
    server = await asyncio.start_server(serving.serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()
    serving.base_url = f"http://{host}:{port}/v1"
    try:
        yield serving
    finally:
        server.close()
        await server.wait_closed()


def says(*pieces: bytes, then_close: bool = False) -> Script:
    async def script(turn: Turn) -> None:
        for piece in pieces:
            turn.writer.write(piece)
            await turn.writer.drain()
            await anyio.lowlevel.checkpoint()
        if then_close:
            raise HangUp

    return script


def says_then_waits(*pieces: bytes) -> Script:
    """Say so much and no more."""
    speak = says(*pieces)

    async def script(turn: Turn) -> None:
        await speak(turn)
        await turn.wait_closed_by_client()

    return script


def repeats(head: bytes, piece: bytes, until_s: float = float("inf"), last: bytes = b"") -> Script:
    """Never silent: the same piece every turn of the loop, for `until_s` seconds."""

    async def script(turn: Turn) -> None:
        loop = asyncio.get_running_loop()
        ends_s = loop.time() + until_s
        turn.writer.write(head)
        while loop.time() < ends_s:
            turn.writer.write(piece)
            await turn.writer.drain()
            await anyio.lowlevel.checkpoint()
        turn.writer.write(last)

    return script


async def resets(turn: Turn) -> None:
    raw: socket.socket = turn.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    turn.writer.transport.abort()
    raise HangUp


def chunked(body: bytes) -> bytes:
    """One chunk of HTTP's chunked coding."""
    return b"%x\r\n%s\r\n" % (len(body), body)


LAST_CHUNK = b"0\r\n\r\n"


def delta(content: str | None = None, **choice: object) -> bytes:
    """One `chat.completion.chunk` as a server-sent event."""
    body = {
        "id": "c1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "fast",
        "choices": [{"index": 0, "delta": {} if content is None else {"content": content}, **choice}],
    }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


STOP = delta(finish_reason="stop")
DONE = b"data: [DONE]\n\n"


def usage(prompt_tokens: int, completion_tokens: int) -> bytes:
    """The chunk that states what a stream used."""
    tokens = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
    body: dict[str, Any] = {"id": "c1", "created": 1, "model": "fast", "choices": [], "usage": tokens}
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def story(*words: str) -> list[bytes]:
    """The events of a whole answer, with 7 tokens in and one out for each word."""
    return [*(delta(word) for word in words), STOP, usage(7, len(words)), DONE]
