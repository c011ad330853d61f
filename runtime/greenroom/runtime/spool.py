"""What a program hands a job as an iterable, written to a file: a job looks at its input whole before it asks any of it."""

import tempfile
from collections.abc import AsyncIterable, Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import IO

import anyio
import anyio.to_thread
import msgspec

Item = str | Mapping[str, object]
"""A line of a job: the text of a prompt, or what a line of JSON would hold."""
Source = str | Path | Iterable[Item] | AsyncIterable[Item]
"""A file by its path, or the lines themselves."""

_AT_ONCE = 1_000
_encode = msgspec.json.Encoder().encode


async def spool(source: Iterable[Item] | AsyncIterable[Item]) -> Path:
    """The lines as a temporary file, which is the caller's to remove. Memory is flat, however many there are.

    An iterable is iterated in a thread. Cancelling leaves no file behind, nor does what is raised.

    Raises:
        ValueError: a line is no text and nothing that JSON can hold.
        OSError: it cannot be written.
    """
    file = await anyio.to_thread.run_sync(_file)
    try:
        if isinstance(source, AsyncIterable):
            await _drain(source, file)
        else:
            await anyio.to_thread.run_sync(_write, file, source, 0)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(_discard, file)
        raise
    await anyio.to_thread.run_sync(file.close)
    return Path(file.name)


def _file() -> "IO[bytes]":
    return tempfile.NamedTemporaryFile(prefix="greenroom-", delete=False)


def _discard(file: "IO[bytes]") -> None:
    Path(file.name).unlink()
    file.close()


async def _drain(source: AsyncIterable[Item], file: "IO[bytes]") -> None:
    lines: list[Item] = []
    count = 0
    async for line in source:
        lines.append(line)
        if len(lines) == _AT_ONCE:
            await anyio.to_thread.run_sync(_write, file, lines, count)
            count += len(lines)
            lines.clear()
    await anyio.to_thread.run_sync(_write, file, lines, count)


def _write(file: "IO[bytes]", source: Iterable[Item], count: int) -> None:
    lines = iter(source)
    while some := list(islice(lines, _AT_ONCE)):
        file.write(b"".join(_line(line, count + number) for number, line in enumerate(some, 1)))
        count += len(some)
    file.flush()


def _line(line: Item, number: int) -> bytes:
    fields: object = {"prompt": line} if isinstance(line, str) else line
    if not isinstance(fields, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - callers need not be typed
        raise ValueError(f"line {number}: {line!r:.80}; it must be text, or a dict")  # noqa: TRY004 - one kind for all
    try:
        return _encode(fields) + b"\n"
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"line {number}: {error}") from None
