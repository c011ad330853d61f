"""The head of a GGUF file: enough to know that it is one, and what it holds.

Source: `ggml/include/gguf.h` of llama.cpp, November 2026. All numbers are little-endian; a string is its length and its
bytes. What a file claims is believed no further than it is long.
"""

import os
import struct
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of each type of number."""
_INTEGERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 10: "<Q", 11: "<q"}
_STRING, _ARRAY = 8, 9
_MAX_KEYS = 100_000
_MAX_TEXT_BYTES = 64 * 1024


class NotGguf(ValueError):
    """The file is no GGUF, or is cut short within its head."""


class GgufHead(Struct, frozen=True):
    """What a GGUF file says of its model. `embeds`: it makes vectors and not text."""

    architecture: str
    context_tokens: int | None
    embeds: bool


def read_gguf(path: Path) -> GgufHead:
    """The head of a file. Blocks.

    Raises:
        NotGguf: see there.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        begins = file.read(4)
        if begins != _MAGIC:
            raise NotGguf(f"it begins with {begins!r}, not with {_MAGIC!r}")
        try:
            return _Head(file).read()
        except struct.error:
            raise NotGguf("it is cut short") from None


class _Head:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def read(self) -> GgufHead:
        version = self._number("<I")
        if version not in _VERSIONS:
            raise NotGguf(f"its version is {version}; versions 2 and 3 are read")
        self._number("<Q")  # how many tensors
        found: dict[str, int | str | None] = {}
        for _ in range(self._count(_MAX_KEYS, "keys")):
            key = self._text()
            if key.startswith("tokenizer.") and "general.architecture" in found:
                break  # the vocabulary comes last, and takes the longest
            found[key] = self._value(self._number("<I"))
        architecture = found.get("general.architecture")
        if not isinstance(architecture, str):
            raise NotGguf("it names no architecture, so it holds no model")
        context = found.get(f"{architecture}.context_length")
        return GgufHead(
            architecture=architecture,
            context_tokens=context if isinstance(context, int) and context > 0 else None,
            embeds=found.get(f"{architecture}.pooling_type") not in {None, 0},
        )

    def _value(self, kind: int) -> int | str | None:
        """The value, where it is an integer or a string; all else is passed over."""
        if kind == _STRING:
            return self._text(limit=self._size)
        if kind in _INTEGERS:
            return self._number(_INTEGERS[kind])
        if kind == _ARRAY:
            self._skip_array(self._number("<I"))
        else:
            self._skip(self._size_of(kind))
        return None

    def _skip_array(self, kind: int) -> None:
        count = self._count(self._size, "values in one array")
        if kind == _STRING:
            for _ in range(count):
                self._skip(self._number("<Q"))
        else:
            self._skip(count * self._size_of(kind))

    def _size_of(self, kind: int) -> int:
        size = _SIZES.get(kind)
        if size is None:
            raise NotGguf(f"it has a value of type {kind}, which there is not")
        return size

    def _text(self, limit: int = _MAX_TEXT_BYTES) -> str:
        length = self._count(limit, "bytes in one text")
        if length > _MAX_TEXT_BYTES:
            self._skip(length)
            return ""
        return self._exactly(length).decode(errors="replace")

    def _count(self, limit: int, of_what: str) -> int:
        count = self._number("<Q")
        if count > limit:
            raise NotGguf(f"it claims {count} {of_what}")
        return count

    def _number(self, form: str) -> int:
        (number,) = struct.unpack(form, self._file.read(struct.calcsize(form)))
        return int(number)

    def _exactly(self, length: int) -> bytes:
        data = self._file.read(length)
        if len(data) < length:
            raise NotGguf("it is cut short")
        return data

    def _skip(self, length: int) -> None:
        if length > self._size - self._file.tell():
            raise NotGguf("it is cut short")
        self._file.seek(length, os.SEEK_CUR)
