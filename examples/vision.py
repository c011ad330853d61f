"""A question about an image. Give a file's name, or it asks about a red square."""

import asyncio
import struct
import sys
import zlib

from greenroom.runtime import Image, Runtime, user_message


def red_square(side: int = 16) -> bytes:
    """A PNG (https://www.w3.org/TR/png-3/): header, pixels, end."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    pixels = zlib.compress((b"\0" + b"\xff\0\0" * side) * side)
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


async def main() -> None:
    async with Runtime() as rt:
        picture = await Image.from_file(sys.argv[1]) if sys.argv[1:] else Image.from_bytes(red_square())
        reply = await rt.chat(None, [user_message("What is on this picture?", picture)], max_tokens=100)
        print(reply.text)


asyncio.run(main())
