"""Framing of streamed bodies: server-sent events and JSON lines. Bytes in, whole frames out.

Server-sent events: the WHATWG HTML standard, "Interpreting an event stream". A line ends with CR, LF or CRLF; an
empty line dispatches what was gathered; a line that begins with a colon is a comment, which servers send to keep a
connection alive. Everything here works on bytes and cuts only at line ends, so a character in several bytes may be
spread over as many chunks as it likes.
"""

from msgspec import Struct

from greenroom.actors.providers.wire import RejectedAnswer

MAX_FRAME_BYTES = 16 * 1024 * 1024
"""Room for an inline image in one event; a frame beyond it is a server gone wrong."""

_BOM = b"\xef\xbb\xbf"


class ServerSentEvent(Struct, frozen=True, gc=False):
    """One event: its data, lines joined by LF, and its name (`event:`), empty where it has none."""

    data: bytes
    name: bytes = b""


class SseSplitter:
    """Splits the body of a `text/event-stream` into its events.

    Args:
        max_bytes: the largest event, and so the longest line, and so all that is ever kept.

    `keep_alives` counts what was sent without saying anything: comments and events without data.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._after_cr = False
        self._begun = False
        self.keep_alives = 0

    def receive(self, data: bytes) -> list[ServerSentEvent]:
        """Take the next bytes, return the events that they complete.

        Raises:
            RejectedAnswer: an event is larger than `max_bytes`. Receive nothing after it.
        """
        rest = self._rest
        if self._after_cr or b"\r" in data:
            data = self._with_lf(data)
        elif not rest and self._begun and self._is_one_event(data):
            return [ServerSentEvent(data[6:-2])]
        if rest:
            # Only what is new is searched, so that a server that drips costs no more than one that does not.
            end = data.find(b"\n", 0, 1) if rest.endswith(b"\n") else -1
            end = data.rfind(b"\n\n") + 1 or end
            if end < 0:
                self._keep(data)
                return []
            rest += data[: end + 1]
            blocks, tail = bytes(rest), data[end + 1 :]
            rest.clear()
        else:
            end = data.rfind(b"\n\n") + 2
            if end < 2:
                self._keep(data)
                return []
            blocks, tail = data[:end], data[end:]
        if tail:
            self._keep(tail)
        return self._events(blocks)

    @property
    def cut(self) -> bool:
        """Whether the bytes so far end in the middle of an event."""
        return bool(self._rest.strip(b"\n"))

    def _is_one_event(self, data: bytes) -> bool:
        """What a paced stream is made of: one event a read, of one line of data."""
        return (
            data.startswith(b"data: ")
            and data.find(b"\n") == len(data) - 2
            and data.endswith(b"\n\n")
            and len(data) <= self._max_bytes
        )

    def _with_lf(self, data: bytes) -> bytes:
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
            self._after_cr = False
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, data: bytes) -> None:
        if len(self._rest) + len(data) > self._max_bytes:
            raise _too_large("an event", self._max_bytes)
        self._rest += data

    def _events(self, blocks: bytes) -> list[ServerSentEvent]:
        if not self._begun:
            self._begun = True
            blocks = blocks.removeprefix(_BOM)
        events: list[ServerSentEvent] = []
        for block in blocks.split(b"\n\n"):
            if len(block) > self._max_bytes:
                raise _too_large("an event", self._max_bytes)
            if block.startswith(b"data: ") and b"\n" not in block:
                events.append(ServerSentEvent(block[6:]))
            elif block and (event := self._event(block)):
                events.append(event)
        return events

    def _event(self, block: bytes) -> ServerSentEvent | None:
        """One block by the letter of the standard. Fields other than data and event (`id`, `retry`) say nothing."""
        data: list[bytes] = []
        name = b""
        lines = block.strip(b"\n").split(b"\n")
        for line in lines:
            field, _, value = line.partition(b":")
            value = value.removeprefix(b" ")
            if field == b"data":
                data.append(value)
            elif field == b"event":
                name = value
        if data:
            return ServerSentEvent(b"\n".join(data), name)
        self.keep_alives += lines != [b""]
        return None


class JsonLinesSplitter:
    """Splits a body of JSON lines (`application/x-ndjson`) into its lines, empty ones left out.

    Args:
        max_bytes: the longest line, and so all that is ever kept.
    """

    def __init__(self, max_bytes: int = MAX_FRAME_BYTES) -> None:
        self._max_bytes = max_bytes
        self._rest = bytearray()
        self._begun = False

    def receive(self, data: bytes) -> list[bytes]:
        """Take the next bytes, return the lines that they complete, without their ends.

        Raises:
            RejectedAnswer: a line is longer than `max_bytes`. Receive nothing after it.
        """
        end = data.rfind(b"\n")
        if end < 0:
            self._keep(data)
            return []
        whole, tail = bytes(self._rest) + data[:end], data[end + 1 :]
        self._rest.clear()
        if not self._begun:
            self._begun = True
            whole = whole.removeprefix(_BOM)
        lines = [line for part in whole.split(b"\n") if (line := part.strip(b"\r \t"))]
        if any(len(line) > self._max_bytes for line in lines):
            raise _too_large("a line", self._max_bytes)
        if tail:
            self._keep(tail)
        return lines

    @property
    def cut(self) -> bool:
        """Whether the bytes so far end in the middle of a line."""
        return bool(self._rest.strip())

    def _keep(self, data: bytes) -> None:
        if len(self._rest) + len(data) > self._max_bytes:
            raise _too_large("a line", self._max_bytes)
        self._rest += data


def _too_large(what: str, limit: int) -> RejectedAnswer:
    return RejectedAnswer(f"{what} of the stream is larger than {limit} bytes")
