"""Results on standard output: copied from the file that the job writes, as it grows.

The job never writes to standard output itself. Whoever reads it may be slow, or a pager that waits for a key; the
database's writer, which every call depends on, would wait with it.
"""

import asyncio
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from greenroom.runtime.cli.output import EXIT_USAGE, note

_STANDARD_OUTPUT = 1
_LOOK_EVERY_S = 0.05
_BLOCK_BYTES = 1 << 16


class Copier:
    """Copies whole lines in a thread of its own, from entering on; a path of None copies nothing.

    Args:
        path: a file that only grows, in whole lines once its writer is done.
        unread: called when nothing more can be written: nobody reads any more, or a disk is full.

    Made within a running loop. Leaving does not wait for a reader; `finish` does.
    """

    def __init__(self, path: Path | None, unread: Callable[[], None]) -> None:
        self._path = path
        self._unread = unread
        self._loop = asyncio.get_running_loop()
        self._ended = threading.Event()
        self._copied = asyncio.Event()
        self._problem: str | None = None
        # A daemon, since no signal reaches a thread that waits for a reader.
        self._thread = threading.Thread(target=self._run, name="stdout", daemon=True)

    def __enter__(self) -> Self:
        if self._path is not None:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()

    async def finish(self) -> None:
        """Wait until everything in the file is written out, or nobody reads it. Cancelling stops the waiting."""
        self._ended.set()
        if self._path is not None:
            # Not joined from another thread: that one would hold up the end of a process that is told to end.
            await self._copied.wait()

    def verdict(self, code: int) -> int:
        """The command's exit code: not 0 where results did not arrive, which is said."""
        if self._problem is None:
            return code
        note(self._problem)
        return code or EXIT_USAGE

    def _run(self) -> None:
        try:
            self._copy()
        except OSError as error:
            self._problem = f"standard output cannot be written any more: {error.strerror}"
            self._tell(self._unread)
        finally:
            self._tell(self._copied.set)

    def _tell(self, callback: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and nobody waits
            self._loop.call_soon_threadsafe(callback)

    def _copy(self) -> None:
        assert self._path is not None
        with self._path.open("rb") as file:
            pending = b""
            while True:
                ended = self._ended.is_set()
                while block := file.read(_BLOCK_BYTES):
                    lines, newline, rest = (pending + block).rpartition(b"\n")
                    _write(lines + newline)
                    pending = rest
                if ended:
                    return
                self._ended.wait(_LOOK_EVERY_S)


def _write(data: bytes) -> None:
    """Past Python's own buffer, whose lock a daemon thread must not hold when the interpreter ends."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(_STANDARD_OUTPUT, rest) :]
