"""An upstream that costs next to nothing: chat completions from memory, on a bare asyncio protocol.

Paths end in `/chat/completions`. A request with `"stream":true` is answered with server-sent events: below `/burst` all of them
in one write, below `/paced` one write every 10 ms. Below `/slow` a whole answer takes 50 ms. The first line out is the port.
"""

import asyncio
import json
import random

_TEXT = "The sky is blue because air scatters short waves of sunlight more than long ones. "
_BURST_CHUNKS = 1000
_PACED_CHUNKS = 100
_PACE_S = 0.01
_LATENCY_S = 0.05
_BACKLOG = 16_384


def _answer() -> bytes:
    message = {"role": "assistant", "content": (_TEXT * 9)[:600], "refusal": None}
    body = json.dumps(
        {
            "id": "chatcmpl-0123456789abcdef",
            "object": "chat.completion",
            "created": 1_795_000_000,
            "model": "fast",
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {"prompt_tokens": 30, "completion_tokens": 120, "total_tokens": 150},
        }
    ).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _events(count: int) -> list[bytes]:
    """So many chunks of text; the first with the role, one more with the reason to finish, one with the usage, and the end."""
    words = [f"{word} " for word in _TEXT.split()]
    choices: list[object] = [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    ]
    choices += [
        {"index": 0, "delta": {"content": words[number % len(words)]}, "finish_reason": None}
        for number in range(count)
    ]
    choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
    common: dict[str, object] = {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_795_000_000,
        "model": "fast",
        "system_fingerprint": "fp_0123456789",
    }
    usage = {"prompt_tokens": 30, "completion_tokens": count, "total_tokens": 30 + count}
    chunks: list[dict[str, object]] = [common | {"choices": [choice], "usage": None} for choice in choices]
    none: list[object] = []
    chunks.append(common | {"choices": none, "usage": usage})
    return [f"data: {json.dumps(chunk, separators=(',', ':'))}\n\n".encode() for chunk in chunks] + [
        b"data: [DONE]\n\n"
    ]


def _chunked(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


_WHOLE = _answer()
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"
_BURST = _STREAM_HEAD + b"".join(_chunked(event) for event in _events(_BURST_CHUNKS)) + _END
_PACED = [_chunked(event) for event in _events(_PACED_CHUNKS)]


class Canned(asyncio.Protocol):
    """One connection: requests one after the other, bodies with a length."""

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, gap, rest = self._received.partition(b"\r\n\r\n")
        if not gap:
            return
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if len(rest) < length:
            return
        self._received = rest[length:]
        body = rest[:length]
        path = head.split(b"\r\n", 1)[0]
        loop = asyncio.get_running_loop()
        if b"/slow/" in path:
            loop.call_later(_LATENCY_S, self._transport.write, _WHOLE)
        elif b'"stream":true' not in body and b'"stream": true' not in body:
            self._transport.write(_WHOLE)
        elif b"/paced/" in path:
            self._transport.write(_STREAM_HEAD)
            loop.call_later(random.random() * _PACE_S, self._next, 0)
        else:
            self._transport.write(_BURST)

    def _next(self, number: int) -> None:
        if self._transport.is_closing():
            return
        if number == len(_PACED) - 1:
            self._transport.write(_PACED[number] + _END)
            return
        self._transport.write(_PACED[number])
        asyncio.get_running_loop().call_later(_PACE_S, self._next, number + 1)


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Canned, "127.0.0.1", 0, backlog=_BACKLOG)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
