"""Framing of Amazon's event streams: `application/vnd.amazon.eventstream`.

Shapes: Amazon's "Event stream encoding". A message is its length, the length of its headers and a CRC-32 of these two;
the headers; the payload; and a CRC-32 of everything before. Numbers are big-endian. A header is its name, a type and
a value, whose length the type says or the value begins with.
"""

import struct
from binascii import crc32
from collections.abc import Iterator

from msgspec import Struct

from greenroom.actors.providers.sse import MAX_FRAME_BYTES
from greenroom.actors.providers.wire import RejectedAnswer

_PRELUDE = struct.Struct(">III")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")
_LEAST_BYTES = _PRELUDE.size + _CRC.size
_STRING, _BYTES = 7, 6
_FIXED_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of the values of types whose length never changes: booleans, integers, a timestamp, a UUID."""


class EventMessage(Struct, frozen=True, gc=False):
    """One message: its headers that are text, and its payload."""

    headers: dict[str, str]
    payload: bytes


class EventStreamSplitter:
    """Splits the body of an event stream into its messages, and checks both sums of each.

    Args:
        max_bytes: the largest message, and so all that is ever kept.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()

    def receive(self, data: bytes) -> Iterator[EventMessage]:
        """Take the next bytes, give the messages that they complete, those before a wrong one included.

        Raises:
            RejectedAnswer: a sum is wrong, a length cannot be, or a message is larger than `max_bytes`. Receive
                nothing after it.
        """
        rest = self._rest
        rest += data
        while len(rest) >= _PRELUDE.size:
            total, headers, crc = _PRELUDE.unpack_from(rest)
            if crc32(rest[:8]) != crc:
                raise RejectedAnswer("the lengths of a message do not have the sum that it says")
            if total > self._max_bytes:
                raise RejectedAnswer(f"a message of {total} bytes, more than {self._max_bytes}")
            if total < _LEAST_BYTES + headers:
                raise RejectedAnswer(f"a message of {total} bytes with headers of {headers}")
            if len(rest) < total:
                return
            message = bytes(rest[:total])
            del rest[:total]
            yield _message(message, headers)

    @property
    def cut(self) -> bool:
        """Whether the bytes so far end in the middle of a message."""
        return bool(self._rest)


def _message(data: bytes, headers_bytes: int) -> EventMessage:
    (crc,) = _CRC.unpack_from(data, len(data) - _CRC.size)
    if crc32(data[: -_CRC.size]) != crc:
        raise RejectedAnswer("a message does not have the sum that it says")
    begin = _PRELUDE.size + headers_bytes
    try:
        headers = _headers(data[_PRELUDE.size : begin])
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise RejectedAnswer(f"the headers of a message are none: {error}") from None
    return EventMessage(headers, data[begin : -_CRC.size])


def _headers(data: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    at = 0
    while at < len(data):
        name_end = at + 1 + data[at]
        name, kind = data[at + 1 : name_end].decode(), data[name_end]
        at = name_end + 1
        if kind in {_STRING, _BYTES}:
            (length,) = _LENGTH.unpack_from(data, at)
            at += _LENGTH.size
        else:
            length = _FIXED_SIZES.get(kind, -1)
        if length < 0 or at + length > len(data):
            raise RejectedAnswer(f"header {name!r} has a value of type {kind} that is none")
        if kind == _STRING:
            headers[name] = data[at : at + length].decode()
        at += length
    return headers
