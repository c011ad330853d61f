"""The lines of a running job: each once, in order, whoever pulls and whoever gives up."""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread
import pytest

from greenroom.actors.batch.input import source
from greenroom.actors.batch.input.reading import InputForm, records
from greenroom.actors.batch.input.source import LineSource


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"a\n\nb\nc\nd\ne\n")
    return path


async def drain(lines: LineSource) -> list[tuple[int, bytes]]:
    taken: list[tuple[int, bytes]] = []
    while (line := await lines.next()) is not None:
        taken.append(line)
    return taken


async def test_what_is_left_to_ask(path: Path) -> None:
    lines = LineSource(path, "jsonl", 5, bytearray([0, 0, 1, 0, 0]), {4})
    assert await drain(lines) == [(0, b"a"), (4, b"d")]
    assert lines.taken == 2
    assert await lines.next() is None


async def test_rows_without_their_header(path: Path) -> None:
    await anyio.Path(path).write_bytes(b'h,i\n"1\n2",x\n3,y\n,\n4,z\n')
    assert await drain(LineSource(path, "csv", 4, bytearray(4), ())) == [(1, b'"1\n2",x'), (3, b"3,y")]


async def test_read_ahead_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_AHEAD_LINES", 2)
    read: list[int] = []

    def counted(file: BinaryIO, form: InputForm) -> Iterator[tuple[int, bytes]]:
        for number, raw in records(file, form):
            read.append(number)
            yield number, raw

    monkeypatch.setattr(source, "records", counted)
    lines = LineSource(path, "jsonl", 6, bytearray(6), ())
    assert await lines.next() == (0, b"a")
    assert read == [1, 2, 3]  # two lines to ask, and a blank one
    assert [raw for _, raw in await drain(lines)] == [b"b", b"c", b"d", b"e"]


async def test_many_pullers_take_each_line_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_AHEAD_LINES", 7)
    await anyio.Path(path).write_bytes(b"".join(b"%d\n" % number for number in range(1000)))
    lines = LineSource(path, "jsonl", 1000, bytearray(1000), ())
    taken: list[tuple[int, bytes]] = []

    async def pull() -> None:
        taken.extend(await drain(lines))

    async with anyio.create_task_group() as pullers:
        for _ in range(50):
            pullers.start_soon(pull)
    assert sorted(taken) == [(number, b"%d" % number) for number in range(1000)]


async def test_one_who_is_cancelled_takes_nothing_with_him(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, go_on = threading.Event(), threading.Event()

    def slowly(file: BinaryIO, form: InputForm) -> Iterator[tuple[int, bytes]]:
        reading.set()
        assert go_on.wait(10)
        yield from records(file, form)

    monkeypatch.setattr(source, "records", slowly)
    lines = LineSource(path, "jsonl", 6, bytearray(6), ())
    given_up, waiting = asyncio.ensure_future(lines.next()), asyncio.ensure_future(lines.next())
    await anyio.to_thread.run_sync(reading.wait)
    given_up.cancel()
    await asyncio.wait({given_up})
    assert not waiting.done()
    go_on.set()
    assert await waiting == (0, b"a")
    assert given_up.cancelled()
    assert [raw for _, raw in await drain(lines)] == [b"b", b"c", b"d", b"e"]


async def test_a_file_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await LineSource(tmp_path / "none", "jsonl", 1, bytearray(1), ()).next()
