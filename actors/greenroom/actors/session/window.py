"""What of a conversation a model is shown. Pure: entries and a size in, messages out.

The unit is the turn, with everything said in it, so that a tool call never stands without its result; turns that begin
with a tool's result belong to the one before. The newest turn is always shown.

Sizes are bytes of JSON. A token is never less than a byte, so what has no more bytes than the room has tokens fits
without a doubt; beyond that, bytes are reckoned as tokens by what the provider said of this conversation's last
request, and half a token a byte where it has said nothing yet (English takes a quarter, scripts beyond Latin up to a
half).
"""

import msgspec

from greenroom.actors.providers import ImagePart, Message
from greenroom.actors.session.state import Entry, TooLong, Window

_TOKENS_PER_BYTE = 0.5
_MARGIN = 1.1
"""What is learned from one request is taken with so much more, as the next one may hold other text."""
_LEAST_TOKENS_PER_BYTE = 0.05
_KEPT_AFTER_SUMMARY = 0.5
"""The share of the room that turns may take beside a new summary, so that not each turn needs another one."""
_MESSAGE_BYTES = 64
_IMAGE_BYTES = 6_400
"""An image costs tokens by its pixels, 1,600 of an ordinary one, however long it is as base64."""
SUMMARY_PREFIX = "Summary of the conversation so far:\n"

_encode = msgspec.json.Encoder().encode


def tokens_per_byte(entries: tuple[Entry, ...]) -> float:
    """How many tokens a byte of this conversation takes, with some to spare."""
    for entry in reversed(entries):
        if entry.sent_bytes and entry.input_tokens:
            return min(1.0, max(_LEAST_TOKENS_PER_BYTE, _MARGIN * entry.input_tokens / entry.sent_bytes))
    return _TOKENS_PER_BYTE


def room_bytes(room_tokens: int, rate: float) -> int:
    """How many bytes go into so many tokens."""
    return max(room_tokens, int(room_tokens / rate))


def size_of(messages: tuple[Message, ...]) -> int:
    """The bytes of messages as JSON, and of what a wire puts around each; an image is taken for so much text."""
    return _size(messages, len(_encode(messages)))


def _size(messages: tuple[Message, ...], encoded: int) -> int:
    size = encoded + _MESSAGE_BYTES * len(messages)
    for message in messages:
        if type(message.content) is tuple:
            for part in message.content:
                if isinstance(part, ImagePart):
                    size += _IMAGE_BYTES - len(part.image_url.url)
    return size


class Shown:
    """A conversation, cut to a room.

    Args:
        window: the session's strategy.
        system: the system message's text, or None.
        entries: what may be shown, oldest first; a summary, if there is one, is the first.
        newest: what is to be said now.
        room: bytes.

    Attributes:
        messages: what to send.
        to_summarise: entries that do not fit and are to be summarised first; then `messages` leaves them out.
    """

    def __init__(
        self,
        window: Window,
        system: str | None,
        entries: tuple[Entry, ...],
        newest: tuple[Message, ...],
        room: int,
    ) -> None:
        """Cut.

        Raises:
            TooLong: the system message and what is to be said now do not fit by themselves.
        """
        head = () if system is None else (Message("system", system),)
        summary = entries[0] if entries and entries[0].kind == "summary" else None
        if summary is not None:
            entries = entries[1:]
            head = (*head, *summary.messages)
        units = _units(entries, newest)
        always = size_of(head) + size_of(newest) + sum(map(_size_of_entry, units.bound))
        if always > room:
            raise TooLong(
                f"what is to be said takes some {always} bytes with its system message, and the model's context has "
                f"room for some {room}: say less, or choose a model or a window with more room"
            )
        if window.strategy == "keep_system_and_last":
            units.free = units.free[-window.keep_last :]
        kept = _newest_that_fit(units.free, room - always)
        if window.strategy == "summarise" and len(kept) < len(units.free):
            kept = _newest_that_fit(units.free, int((room - always) * _KEPT_AFTER_SUMMARY))
        left_out = units.free[: len(units.free) - len(kept)]
        self.to_summarise: tuple[Entry, ...] = ()
        if window.strategy == "summarise":
            self.to_summarise = tuple(entry for unit in left_out for entry in unit)
        told = tuple(m for unit in (*kept, units.bound) for entry in unit for m in entry.messages)
        self.messages: tuple[Message, ...] = (*head, *told, *newest)


class _Units:
    """Turns that stand or fall together: `free` ones, and those `bound` to what is said now."""

    def __init__(self) -> None:
        self.free: list[tuple[Entry, ...]] = []
        self.bound: tuple[Entry, ...] = ()


def _units(entries: tuple[Entry, ...], newest: tuple[Message, ...]) -> _Units:
    units = _Units()
    for entry in entries:
        if units.free and entry.messages and entry.messages[0].role == "tool":
            units.free[-1] = (*units.free[-1], entry)
        else:
            units.free.append((entry,))
    if units.free and newest and newest[0].role == "tool":
        units.bound = units.free.pop()
    return units


def _size_of_entry(entry: Entry) -> int:
    return _size(entry.messages, entry.bytes_)


def _newest_that_fit(units: list[tuple[Entry, ...]], room: int) -> list[tuple[Entry, ...]]:
    count = 0
    for unit in reversed(units):
        room -= sum(map(_size_of_entry, unit))
        if room < 0:
            break
        count += 1
    return units[len(units) - count :]
