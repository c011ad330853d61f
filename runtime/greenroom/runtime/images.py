"""Images for questions: from a file, from bytes or at a URL, looked at before anybody is asked."""

import base64
import binascii
import stat
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import anyio.to_thread

from greenroom.actors.providers import ImagePart, ImageUrl, Message, Part, TextPart
from greenroom.actors.providers.options import MAX_IMAGE_BYTES

Detail = Literal["low", "high", "auto"]

_KINDS = frozenset({"image/png", "image/jpeg", "image/webp", "image/gif"})
_TAKEN = "PNG, JPEG, WebP and GIF are taken"
_HEAD_CHARS = 24
"""As many characters of base64 hold the first bytes of any kind, and are a whole number of its groups."""


class ImageInvalid(ValueError):
    """What was to be an image is none, is too large or cannot be read; the message says which, and what would be right."""


class Image:
    """Makes images for `user_message` of what there is. What is made is an `ImagePart`, a part of a `Message`.

    The kind is told by the first bytes, never by a name. `detail` is how closely a model is to look, where it can.
    """

    @staticmethod
    async def from_file(path: str | Path, *, detail: Detail | None = None) -> ImagePart:
        """The image in a file, read in a thread.

        Raises:
            ImageInvalid: it cannot be read, is no PNG, JPEG, WebP or GIF, or is larger than 20 MiB.
        """
        return await anyio.to_thread.run_sync(_read, Path(path), detail)

    @staticmethod
    def from_bytes(data: bytes, *, detail: Detail | None = None) -> ImagePart:
        """The image that these bytes are. Encodes them at once, which takes a millisecond a megabyte.

        Raises:
            ImageInvalid: they are no PNG, JPEG, WebP or GIF, or more than 20 MiB.
        """
        return _image(data, "these bytes", detail)

    @staticmethod
    def from_url(url: str, *, detail: Detail | None = None) -> ImagePart:
        """The image at an http(s) URL, which the provider fetches, or in a data URL.

        Raises:
            ImageInvalid: it is no such URL, or the data is none that `from_bytes` takes.
        """
        check_image(url)
        return ImagePart(ImageUrl(url, detail))


def user_message(*parts: str | ImagePart) -> Message:
    """A user's message of texts and images, in this order."""
    said: tuple[Part, ...] = tuple(TextPart(part) if isinstance(part, str) else part for part in parts)
    return Message("user", said)


def check_image(url: str) -> None:
    """Look at where an image is said to be.

    Raises:
        ImageInvalid: it is neither an http(s) URL nor a data URL of an image.
    """
    if url.startswith("data:"):
        _check_data(url)
        return
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        usable = False
    if not usable:
        raise ImageInvalid(
            f"{url[:40]!r} is no image's URL: https://..., or data:image/png;base64,...; "
            "a file is read by Image.from_file"
        )


def _check_data(url: str) -> None:
    head, comma, data = url.partition(",")
    said = head.removeprefix("data:")
    if not comma or not said.endswith(";base64"):
        raise ImageInvalid(f"{url[:40]!r} is no data URL of an image: data:image/png;base64,...")
    _check_size(len(data) * 3 // 4, said)
    try:
        kind = media_type(base64.b64decode(data[:_HEAD_CHARS], validate=True))
    except binascii.Error as error:
        raise ImageInvalid(f"the data of {url[:40]!r} is no base64: {error}") from None
    named = said.partition(";")[0].lower()
    if kind != named and (kind is not None or named in _KINDS or not named.startswith("image/")):
        # Of a kind that only some providers take, nothing is known here.
        raise ImageInvalid(f"the data of {url[:40]!r} is {kind or f'no {named}'}; {_TAKEN}")


def media_type(data: bytes) -> str | None:
    """The kind of an image by its first bytes; None: none of those that providers take."""
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "image/webp"
    return None


def _read(path: Path, detail: Detail | None) -> ImagePart:
    try:
        path = path.expanduser()
        # Of a pipe that nobody writes to, the reading would not end.
        is_file = stat.S_ISREG(path.stat().st_mode)
        data = b""
        if is_file:
            with path.open("rb") as file:
                data = file.read(MAX_IMAGE_BYTES + 1)
    except (OSError, RuntimeError, ValueError) as error:
        raise ImageInvalid(f"image {path} cannot be read: {error}") from None
    if not is_file:
        raise ImageInvalid(f"image {path} is no file")
    return _image(data, f"image {path}", detail)


def _image(data: bytes, where: str, detail: Detail | None) -> ImagePart:
    _check_size(len(data), where)
    kind = media_type(data)
    if kind is None:
        begins = f"begins {data[:8]!r}" if data else "is empty"
        raise ImageInvalid(f"{where}: no image, {begins}; {_TAKEN}")
    return ImagePart(ImageUrl(f"data:{kind};base64,{base64.b64encode(data).decode()}", detail))


def _check_size(size: int, where: str) -> None:
    if size > MAX_IMAGE_BYTES:
        raise ImageInvalid(f"{where}: more than {MAX_IMAGE_BYTES} bytes, which no provider takes")
