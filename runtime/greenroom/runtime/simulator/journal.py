"""The journal: one entry for each request that reached the simulator, in memory and, if wanted, in a file.

An entry is complete before the answer's first byte is sent, so whoever has an answer finds its request in the journal,
and a client that dies in the middle leaves its entry behind. Prompts are not kept, only their digests.
"""

import asyncio
import queue
import threading
from collections import deque
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import TypeAlias

import msgspec

# What a file's writer may have before it; a request beyond that is answered 500 instead of waiting without end.
MAX_UNWRITTEN = 100_000


_Item: TypeAlias = tuple[bytes, asyncio.Future[None]]


class JournalEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request.

    `sequence` numbers the entries in the order in which they were recorded. `status` is the HTTP status that was sent,
    or 0 where the connection ended before any. Times are in seconds: `arrived_s` since the Unix epoch, `duration_s` from arrival to the answer's first byte. `in_flight` counts
    the requests that were open on arrival, this one included. `prompt_sha256` is the SHA-256 of the messages as compact
    JSON in UTF-8 with sorted keys. `attempt` counts equal requests, or those with the same Idempotency-Key, from 1;
    `fault` is the one that struck it, `limited_by` the limit that refused it; `retry_after_s` is how long the client was
    told to wait, in seconds from the answer.
    """

    sequence: int
    arrived_s: float
    duration_s: float
    method: str
    path: str
    status: int
    request_id: str
    in_flight: int
    model: str | None = None
    stream: bool = False
    client_request_id: str | None = None
    idempotency_key: str | None = None
    custom_id: str | None = None
    prompt_sha256: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    finish_reason: str | None = None
    error_code: str | None = None
    attempt: int = 1
    fault: str | None = None
    limited_by: str | None = None
    retry_after_s: float | None = None


class Journal:
    """The newest entries in memory, all of them in a file when there is one.

    Args:
        capacity: How many entries are kept in memory; older ones are dropped and counted.
        path: A file that entries are appended to, one JSON object a line; None for no file.
    """

    def __init__(self, *, capacity: int, path: Path | None) -> None:
        self._entries: deque[JournalEntry] = deque(maxlen=capacity)
        self._recorded = 0
        self.path = path
        self._writer: _Writer | None = None

    def __repr__(self) -> str:
        return f"<Journal {len(self._entries)} entries, {self.dropped} dropped, file {self.path}>"

    async def open(self) -> None:
        """Opens the file, if there is one.

        Raises:
            OSError: It cannot be opened for appending.
        """
        if self.path is not None:
            loop = asyncio.get_running_loop()
            # Unbuffered: a failed write must leave nothing behind that a later one would repeat.
            file = await loop.run_in_executor(None, FileIO, self.path, "ab")
            self._writer = _Writer(file, loop)

    async def aclose(self) -> None:
        """Writes what is still waiting and closes the file. What is in memory stays readable."""
        if self._writer is not None:
            writer, self._writer = self._writer, None
            await writer.aclose()

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """The entries in memory, oldest first."""
        return tuple(self._entries)

    @property
    def recorded(self) -> int:
        """How many entries there have been; the newest one's sequence number."""
        return self._recorded

    @property
    def dropped(self) -> int:
        """How many entries are no longer in memory."""
        return self._recorded - len(self._entries)

    def after(self, sequence: int, limit: int) -> list[JournalEntry]:
        """At most `limit` entries with a higher sequence number, oldest first."""
        found: list[JournalEntry] = []
        for entry in self._entries:
            if entry.sequence > sequence:
                found.append(entry)
                if len(found) == limit:
                    break
        return found

    def record_nowait(self, entry: JournalEntry) -> asyncio.Future[None] | None:
        """Keeps an entry and hands it to the file's writer.

        Returns:
            A future that is done once the entry is in the file, or fails with OSError where it does not get there;
            None without a file. Whoever waits shields it: the entry is written whether or not anybody waits.
        """
        self._entries.append(entry)
        self._recorded += 1
        return None if self._writer is None else self._writer.append(msgspec.json.encode(entry) + b"\n")

    def replace(self, entry: JournalEntry) -> None:
        """Puts another entry in the place of the one with the same sequence number, in memory only."""
        for at, kept in enumerate(self._entries):
            if kept.sequence == entry.sequence:
                self._entries[at] = entry
                return


def read_journal(path: Path) -> list[JournalEntry]:
    """The entries of a journal's file, without a last line that is not whole yet.

    Raises:
        OSError: The file cannot be read.
        msgspec.DecodeError: A line is no entry.
    """
    lines = path.read_bytes().split(b"\n")
    return [msgspec.json.decode(line, type=JournalEntry) for line in lines[:-1]]


class _Writer:
    """A thread that appends whatever waits in one write, so that the loop never waits for a disk."""

    def __init__(self, file: FileIO, loop: asyncio.AbstractEventLoop) -> None:
        self._file = file
        self._loop = loop
        self._waiting: queue.SimpleQueue[_Item | None] = queue.SimpleQueue()
        self._unwritten = 0
        self._ended = loop.create_future()
        threading.Thread(target=self._run, name="simulator-journal", daemon=True).start()

    def append(self, line: bytes) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self._loop.create_future()
        if self._unwritten >= MAX_UNWRITTEN:
            future.set_exception(OSError(f"{MAX_UNWRITTEN} journal entries wait for the disk"))
            future.exception()
        else:
            self._unwritten += 1
            self._waiting.put((line, future))
        return future

    async def aclose(self) -> None:
        self._waiting.put(None)
        await asyncio.shield(self._ended)

    def _run(self) -> None:
        try:
            with self._file:
                while batch := self._next_batch():
                    self._loop.call_soon_threadsafe(self._written, batch, self._write(batch))
            self._loop.call_soon_threadsafe(self._ended.set_result, None)
        except RuntimeError:
            # The loop closed without aclose; the lines are in the file and nobody is left to be told.
            return

    def _next_batch(self) -> list[_Item]:
        """What waits now, at least one item; an empty list once closing has been asked for."""
        batch: list[_Item] = []
        item = self._waiting.get()
        while item is not None:
            batch.append(item)
            try:
                item = self._waiting.get_nowait()
            except queue.Empty:
                return batch
        if batch:
            self._waiting.put(None)
        return batch

    def _write(self, batch: Iterable[_Item]) -> OSError | None:
        left = memoryview(b"".join([line for line, _ in batch]))
        try:
            while left:
                left = left[self._file.write(left) :]
        except OSError as error:
            return error
        return None

    def _written(self, batch: Iterable[_Item], error: OSError | None) -> None:
        for _, future in batch:
            self._unwritten -= 1
            if future.cancelled():
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)
                # Nobody may be left to ask: a client that went away does not wait for its entry.
                future.exception()
