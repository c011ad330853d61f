"""The output brought level with the rows: whatever became of the file, and however far it had come."""

from pathlib import Path

import anyio.to_thread
import pytest
from tests.storage.rows import item, job

from greenroom.actors import ActorRef
from greenroom.actors.batch.records import must_rewrite
from greenroom.actors.batch.restore import restore_output
from greenroom.actors.batch.results import OutputTaken, ResultFile
from greenroom.actors.storage import INSERT_ITEM, INSERT_JOB, PAGE, Commit, Write

pytestmark = pytest.mark.anyio
HEADER = b"line,answer"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


def line(number: int) -> bytes:
    return b'{"custom_id":"line-%d"}' % number


def lines(count: int) -> bytes:
    return b"".join(line(number) + b"\n" for number in range(count))


async def fill(store: ActorRef, count: int, *, rewrite: bool = False) -> None:
    """Rows whose order of completion is not that of the input."""
    rows = tuple(item("j", count - 1 - seq, seq=seq, result=line(seq)) for seq in range(count))
    await store.call(Commit((Write(INSERT_JOB, (job("j", rewrite=rewrite),)), Write(INSERT_ITEM, rows))))


async def restore(store: ActorRef, output: ResultFile) -> None:
    try:
        await restore_output(store, "j", output)
    finally:
        await anyio.to_thread.run_sync(output.close)


async def put(path: Path, data: bytes) -> None:
    await anyio.to_thread.run_sync(path.write_bytes, data)


async def read(path: Path) -> bytes:
    return await anyio.to_thread.run_sync(path.read_bytes)


@pytest.mark.parametrize("count", [0, 1, PAGE, PAGE + 1])
async def test_a_missing_file_is_written(store: ActorRef, out: Path, count: int) -> None:
    await fill(store, count)
    await restore(store, ResultFile(out))
    assert await read(out) == lines(count)


@pytest.mark.parametrize("stand", [0, 2, 5])
@pytest.mark.parametrize("torn", [b"", b"{", line(9)[:-1]])
async def test_what_is_missing_is_appended_and_what_is_torn_cut_off(
    store: ActorRef, out: Path, stand: int, torn: bytes
) -> None:
    await fill(store, 5)
    await put(out, lines(stand) + torn)
    await restore(store, ResultFile(out))
    assert await read(out) == lines(5)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lines(6), id="a line more than there are rows"),
        pytest.param(lines(5).replace(line(4), line(9)), id="another last line"),
        pytest.param(lines(5).replace(line(1), line(1) + b" "), id="a longer line in the middle"),
        pytest.param(b"\n" + lines(5), id="an empty line"),
        pytest.param(b"hello\n", id="something else"),
    ],
)
async def test_another_content_is_refused_and_left_alone(store: ActorRef, out: Path, content: bytes) -> None:
    await fill(store, 5)
    await put(out, content)
    with pytest.raises(OutputTaken, match=r"out\.jsonl"):
        await restore(store, ResultFile(out))
    assert await read(out) == content


async def test_an_edit_that_keeps_size_and_last_line_stands(store: ActorRef, out: Path) -> None:
    """The limit that the docstring states: the file is not read against the rows line by line."""
    await fill(store, 5)
    edited = lines(5).replace(line(1), line(1).upper())
    await put(out, edited[: len(lines(4))])
    await restore(store, ResultFile(out))
    assert await read(out) == edited


async def test_after_rows_were_taken_back_it_is_written_anew(store: ActorRef, out: Path) -> None:
    await fill(store, 5, rewrite=True)
    beside = out.with_name(f".{out.name}.new")
    await put(out, lines(9))
    await put(beside, b"left behind by a process that died")
    await restore(store, ResultFile(out))
    assert await read(out) == lines(5)
    assert not await anyio.to_thread.run_sync(beside.exists)
    assert not await must_rewrite(store, "j")


async def test_a_header_stands_once(store: ActorRef, out: Path) -> None:
    await fill(store, 5)
    for stands in (b"", HEADER[:4], HEADER + b"\n", HEADER + b"\n" + lines(2)):
        await put(out, stands)
        await restore(store, ResultFile(out, HEADER))
        assert await read(out) == HEADER + b"\n" + lines(5)


async def test_without_a_file_the_rows_are_all_there_is(store: ActorRef, tmp_path: Path) -> None:
    await fill(store, 5)
    await restore(store, ResultFile(None))
    found = await anyio.to_thread.run_sync(lambda: [path.name for path in tmp_path.iterdir()])
    assert all(name.startswith("greenroom.db") for name in found)
