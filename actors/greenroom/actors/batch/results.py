"""The file that a job's results are appended to.

The database is the truth and the file follows it: a result is appended once its row is committed, by the writer thread,
so the file's n-th record is the n-th row in the order of completion. After a crash the file is cut back to its last
whole record and the rows it lacks are appended; a file that is not a beginning of the rows is somebody else's, and is
left alone. A record is a line, or, below a header, a row of CSV, which may hold line ends in its quotes.

Everything here blocks: it runs in the writer thread or in `to_thread`.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

_BLOCK_BYTES = 1 << 20


class OutputTaken(Exception):
    """The output file holds something that the job did not write; it is left alone. Move it, or choose another."""

    @classmethod
    def of(cls, path: Path) -> "OutputTaken":
        return cls(
            f"{path} is not what the job wrote (edited, or another program's): move it away and run again, "
            f"and it is written anew from the database"
        )


class ResultFile:
    """The output file of one job.

    Args:
        path: where; None: the rows in the database are all the output there is.
        header: of a CSV file, its first row; None: the file is lines.
    """

    def __init__(self, path: Path | None, header: bytes | None = None) -> None:
        self.path = path
        self._header = b"" if header is None else header + b"\n"
        self._file: int | None = None
        self._failure: OSError | None = None

    def whole_records(self) -> tuple[int, int]:
        """Cut an unfinished last record off; return how many stand, and in how many bytes, the header not counted.

        Raises:
            OutputTaken: it begins with another header. It is left as it is.
            OSError: it cannot be read or cut.
        """
        if self.path is None or not self.path.exists():
            return 0, 0
        with self.path.open("rb+") as file:
            begins = file.read(len(self._header))
            if not self._header.startswith(begins):
                raise OutputTaken.of(self.path)
            if begins != self._header:
                file.truncate(0)
                return 0, 0
            count, size, whole = _count_records(file, is_csv=bool(self._header))
            if size != whole:
                file.truncate(len(self._header) + whole)
        return count, whole

    def ends_with(self, record: bytes, size: int) -> bool:
        """Whether the record that ends `size` bytes behind the header is this one."""
        assert self.path is not None
        start = len(self._header) + size - len(record) - 1
        if start < 0:
            return False
        with self.path.open("rb") as file:
            file.seek(start)
            return file.read(len(record) + 1) == record + b"\n"

    def open(self) -> None:
        """Open for appending, making the file where there is none, and its header where it is empty.

        Raises:
            OSError: it cannot be written.
        """
        if self.path is not None and self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            if self._header and not os.fstat(self._file).st_size:
                self._write(self._header)

    def append(self, records: Iterable[bytes]) -> None:
        """Append whole records in one write.

        Raises:
            OSError: the disk is full, say. So does every later call until the file is opened anew: records behind a
                torn one would be nobody's. What did reach the file is cut back when the job goes on.
        """
        if self._file is not None:
            self._write(b"".join(b"%s\n" % record for record in records))

    def replacement(self) -> "ResultFile":
        """A new, empty file beside this one, opened, for `take`. Without a path: another one without a path."""
        if self.path is None:
            return ResultFile(None)
        beside = self.path.with_name(f".{self.path.name}.new")
        beside.unlink(missing_ok=True)
        fresh = ResultFile(beside, self._header.removesuffix(b"\n") or None)
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
        file, self._file, self._failure = self._file, None, None
        if file is not None:
            os.close(file)

    def _write(self, data: bytes) -> None:
        assert self._file is not None
        if self._failure is not None:
            raise OSError(*self._failure.args)
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._file, rest) :]
        except OSError as error:
            self._failure = error
            raise


def _count_records(file: BinaryIO, *, is_csv: bool) -> tuple[int, int, int]:
    """From where `file` stands: whole records, bytes in all, and bytes of whole records."""
    count = size = whole = 0
    is_open = False
    while block := file.read(_BLOCK_BYTES):
        # We double every quote within quotes, so an odd number of them before a line end means it is the record's own.
        pieces = block.split(b'"') if is_csv else [block]
        for piece in pieces:
            if not is_open and (ends := piece.count(b"\n")):
                count += ends
                whole = size + piece.rindex(b"\n") + 1
            size += len(piece) + is_csv
            is_open ^= is_csv
        if is_csv:
            # The last piece ends with the block, not with a quote.
            size -= 1
            is_open = not is_open
    return count, size, whole
