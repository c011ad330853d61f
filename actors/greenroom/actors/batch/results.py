"""The output of a job: OpenAI's batch output lines, and the file they are appended to.

The database is the truth and the file follows it: a line is appended once its row is committed, by the writer thread,
so the file's n-th line is the n-th row in the order of completion. After a crash the file is cut back to its last
whole line and the rows it lacks are appended; a file that is not a beginning of the rows is somebody else's, and is
left alone.

Everything here blocks: it runs in the writer thread or in `to_thread`.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from greenroom.actors.events import ProviderError
from greenroom.actors.flow import Reply

_BLOCK_BYTES = 1 << 20


class OutputTaken(Exception):
    """The output file holds something that the job did not write; it is left alone. Move it, or choose another."""


class _Response(Struct):
    status_code: int
    request_id: str | None
    body: Raw


class _Error(Struct):
    code: str
    message: str
    param: str | None = None


class _Result(Struct):
    id: str
    custom_id: str
    response: _Response | None
    error: _Error | None


_encode = msgspec.json.Encoder().encode


def answered(result_id: str, custom_id: str, reply: Reply) -> bytes:
    """The output line of an answered item, without its newline."""
    return _encode(_Result(result_id, custom_id, _Response(200, reply.request_id, reply.raw), None))


def failed(result_id: str, custom_id: str, error: ProviderError) -> bytes:
    """The output line of an item that failed for good."""
    return _encode(_Result(result_id, custom_id, None, _Error(error.kind, error.message, error.param)))


class ResultFile:
    """The output file of one job. `path` None: the rows are all the output there is."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self._file: int | None = None

    def whole_lines(self) -> tuple[int, int]:
        """Cut an unfinished last line off; return how many lines stand, and in how many bytes. No file: 0, 0."""
        if self.path is None or not self.path.exists():
            return 0, 0
        lines = end = position = 0
        with self.path.open("rb+") as file:
            while block := file.read(_BLOCK_BYTES):
                if (last := block.rfind(b"\n")) >= 0:
                    lines += block.count(b"\n")
                    end = position + last + 1
                position += len(block)
            if end != position:
                file.truncate(end)
        return lines, end

    def last_line(self, end: int) -> bytes:
        """The line that ends at byte `end`, without its newline."""
        assert self.path is not None
        with self.path.open("rb") as file:
            tail = b""
            start = end
            while start > 0 and tail.count(b"\n") < 2:
                start = max(0, start - _BLOCK_BYTES)
                file.seek(start)
                tail = file.read(end - start)
        return tail[:-1].rpartition(b"\n")[2]

    def open(self) -> None:
        """Open for appending, making the file where there is none.

        Raises:
            OSError: it cannot be written.
        """
        if self.path is not None and self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def append(self, lines: Iterable[bytes]) -> None:
        """Append whole lines in one write.

        Raises:
            OSError: the disk is full, say; what did reach the file is cut back when the job goes on.
        """
        if self._file is None:
            return
        rest = memoryview(b"".join(b"%s\n" % line for line in lines))
        while rest:
            rest = rest[os.write(self._file, rest) :]

    def replacement(self) -> "ResultFile":
        """A new, empty file beside this one, opened, for `take`. Without a path: another one without a path."""
        if self.path is None:
            return ResultFile(None)
        beside = self.path.with_name(f".{self.path.name}.new")
        beside.unlink(missing_ok=True)
        fresh = ResultFile(beside)
        fresh.open()
        return fresh

    def take(self, fresh: "ResultFile") -> None:
        """Put `fresh` in this file's place, safe against a power cut, and open it for appending."""
        fresh.sync()
        fresh.close()
        self.close()
        if self.path is not None and fresh.path is not None:
            fresh.path.replace(self.path)
        self.open()

    def sync(self) -> None:
        """Make what was appended safe against a power cut."""
        if self._file is not None:
            os.fsync(self._file)

    def close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            os.close(file)
