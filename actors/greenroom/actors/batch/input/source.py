"""The input of a running job: lines that are still to be asked, read ahead in a thread, in order."""

import asyncio
from collections import deque
from collections.abc import Collection, Iterator
from pathlib import Path

import anyio.to_thread

from greenroom.actors.batch.input.reading import InputForm, records

_AHEAD_LINES = 1024
_AHEAD_BYTES = 1 << 20


class LineSource:
    """A lazy iterator that many pullers share: memory is a read-ahead, whatever the size of the input.

    Args:
        path: the input.
        form: JSON lines, or CSV, whose first row is passed over.
        span: the number of the last line that belongs to the job.
        done: one byte a line; lines whose byte is set are passed over.
        skip: numbers (from 1) of lines to pass over.
    """

    def __init__(
        self, path: Path, form: InputForm, span: int, done: bytearray, skip: Collection[int]
    ) -> None:
        self._path = path
        self._form: InputForm = form
        self._done = done
        self._skip = skip
        self._span = span
        self._lines = self._read()
        self._ahead: deque[tuple[int, bytes]] = deque()
        self._ended = False
        self._filling: asyncio.Future[None] | None = None
        self.taken = 0

    async def next(self) -> tuple[int, bytes] | None:
        """The position (from 0) and the bytes of the next line to ask; None when there is none left.

        Cancelling loses no line that was not returned.
        """
        while not self._ahead:
            if self._ended:
                return None
            if self._filling is None or self._filling.done():
                self._filling = asyncio.ensure_future(anyio.to_thread.run_sync(self._fill))
            # Shared by all who wait: one who is cancelled meanwhile neither stops it nor takes anything with him.
            await asyncio.shield(self._filling)
        self.taken += 1
        return self._ahead.popleft()

    def _fill(self) -> None:
        size = 0
        for position, raw in self._lines:
            self._ahead.append((position, raw))
            size += len(raw)
            if size >= _AHEAD_BYTES or len(self._ahead) >= _AHEAD_LINES:
                return
        self._ended = True

    def _read(self) -> Iterator[tuple[int, bytes]]:
        with self._path.open("rb") as file:
            for number, raw in records(file, self._form):
                if number > self._span:
                    return
                if number == 1 and self._form == "csv":
                    continue
                if raw and not self._done[number - 1] and number not in self._skip:
                    yield number - 1, raw
