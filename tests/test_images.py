"""Images of files, bytes and URLs: what reaches the provider, and what is refused before anybody is asked."""

import base64
import os
from pathlib import Path

import anyio
import pytest
from tests.providers.asking import PIXEL

from greenroom.actors.providers.options import MAX_IMAGE_BYTES
from greenroom.runtime import Image, ImageInvalid, OptionInvalid, user_message
from greenroom.runtime.testing import WireName, runtime_with

pytestmark = pytest.mark.anyio
PNG = base64.b64decode(PIXEL)
HEADS = {
    "image/png": PNG,
    "image/jpeg": b"\xff\xd8\xff\xe0more",
    "image/gif": b"GIF89amore",
    "image/webp": b"RIFF\x10\0\0\0WEBPVP8 more",
}


@pytest.mark.parametrize("kind", HEADS)
async def test_the_kind_is_told_by_the_first_bytes(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"  # whatever its name
    await anyio.Path(path).write_bytes(HEADS[kind])
    url = f"data:{kind};base64,{base64.b64encode(HEADS[kind]).decode()}"
    assert (await Image.from_file(path)).image_url.url == url
    assert (await Image.from_file(str(path), detail="low")).image_url.detail == "low"
    assert Image.from_bytes(HEADS[kind]).image_url.url == url
    assert Image.from_url(url).image_url.url == url


@pytest.mark.parametrize(
    "data", [b"", b"\x89PNG", b"%PDF-1.7", b"<svg/>", b"RIFF\0\0\0\0WAVE", b"GIF88a", b"\xff\xd8"]
)
async def test_what_is_none_is_refused_by_what_it_begins_with(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "cat.png"
    await anyio.Path(path).write_bytes(data)
    with pytest.raises(
        ImageInvalid,
        match=r"image .*cat\.png: no image, (begins|is empty).*PNG, JPEG, WebP and GIF are taken",
    ):
        await Image.from_file(path)
    with pytest.raises(ImageInvalid, match="these bytes: no image"):
        Image.from_bytes(data)
    with pytest.raises(ImageInvalid):
        Image.from_url(f"data:image/png;base64,{base64.b64encode(data).decode()}")


async def test_what_is_too_large_is_refused_before_all_of_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    async with await anyio.open_file(path, "wb") as file:
        await file.write(PNG)
        await file.truncate(2**40)  # a sparse terabyte
    with pytest.raises(ImageInvalid, match=f"more than {MAX_IMAGE_BYTES} bytes"):
        await Image.from_file(path)
    with pytest.raises(ImageInvalid, match=f"more than {MAX_IMAGE_BYTES} bytes"):
        Image.from_bytes(PNG + bytes(MAX_IMAGE_BYTES))
    with pytest.raises(ImageInvalid, match=f"more than {MAX_IMAGE_BYTES} bytes"):
        Image.from_url("data:image/png;base64," + PIXEL + "A" * (MAX_IMAGE_BYTES * 4 // 3 + 4))


async def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageInvalid, match=r"nowhere\.png cannot be read: .*No such file"):
        await Image.from_file(tmp_path / "nowhere.png")
    os.mkfifo(tmp_path / "pipe")  # to which nobody writes
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(ImageInvalid, match="is no file"):
            await Image.from_file(path)
    with pytest.raises(ImageInvalid, match="null byte"):
        await Image.from_file("a\0b")


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("cat.png", r"'cat\.png' is no image's URL: .*Image\.from_file"),
        ("file:///cat.png", "is no image's URL"),
        ("https:///cat.png", "is no image's URL"),
        ("http://[::1/cat.png", "is no image's URL"),
        ("data:image/png,abc", "is no data URL of an image"),
        ("data:image/png;base64", "is no data URL of an image"),
        ("data:image/png;base64,", r"is no image/png"),
        ("data:image/png;base64,!!!!", "is no base64"),
        ("data:text/plain;base64,aGVsbG8=", "is no text/plain; PNG, JPEG"),
        (f"data:image/jpeg;base64,{PIXEL}", "is image/png"),
        (f"data:;base64,{PIXEL}", "is image/png"),
    ],
)
async def test_a_url_of_no_image_is_refused_wherever_it_stands(url: str, why: str) -> None:
    with pytest.raises(ImageInvalid, match=why):
        Image.from_url(url)
    message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}
    async with runtime_with() as (rt, provider):
        with pytest.raises(OptionInvalid, match=rf"^messages: messages\[0\]\.content: .*{why}"):
            await rt.chat(None, [message])
    assert provider.received == ()


def test_a_kind_that_only_some_providers_take_is_theirs_to_judge() -> None:
    assert Image.from_url("data:image/heic;base64,AAAA").image_url.url == "data:image/heic;base64,AAAA"


@pytest.mark.parametrize("wire", ["openai-chat", "anthropic-messages", "bedrock-converse"])
async def test_text_and_images_in_their_order(wire: WireName) -> None:
    message = user_message("What is this?", Image.from_bytes(PNG), "And this?", Image.from_bytes(PNG))
    async with runtime_with("A pixel.", wire=wire) as (rt, provider):
        reply = await rt.chat(None, [message])
    assert reply.text == "A pixel."
    sent = str(provider.received[0].body)
    places = [sent.find("What is this?"), sent.find(PIXEL), sent.find("And this?"), sent.rfind(PIXEL)]
    assert places == sorted(places)
    assert -1 not in places
