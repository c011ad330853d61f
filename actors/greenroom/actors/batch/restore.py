"""Bringing an output file level with the rows: after a crash, a power cut, a retry, or somebody's `rm`."""

from functools import partial

import anyio.to_thread

from greenroom.actors.batch.records import (
    must_rewrite,
    nth_result,
    prefix_bytes,
    results_after,
    rewritten,
)
from greenroom.actors.batch.results import OutputTaken, ResultFile
from greenroom.actors.kernel import ActorRef
from greenroom.actors.storage import Commit


async def restore_output(store: ActorRef, job_id: str, output: ResultFile) -> None:
    """Open the output of a job for appending, holding every row's line once, in order of completion.

    The file is taken for the job's by its number of lines, their size in all, and the last of them. An edit that keeps
    all three stands: reading it against the rows would double the time that a large job takes to go on, and the rows
    are the truth. Removed, the file is written anew from them.

    Raises:
        OutputTaken: the file is not a beginning of the job's lines. It is left as it is.
        OSError: it cannot be read or written.
    """
    if await must_rewrite(store, job_id):
        await _rewrite(store, job_id, output)
        await store.call(Commit((rewritten(job_id),)))
        return
    lines, size = await anyio.to_thread.run_sync(output.whole_records)
    if lines:
        await _refuse_strange(store, job_id, output, lines, size)
    await anyio.to_thread.run_sync(output.open)
    await _append_rows(store, job_id, output, lines)


async def _refuse_strange(store: ActorRef, job_id: str, output: ResultFile, lines: int, size: int) -> None:
    expected = await nth_result(store, job_id, lines)
    same_size = await prefix_bytes(store, job_id, lines) == size
    if expected and same_size and await anyio.to_thread.run_sync(output.ends_with, expected, size):
        return
    assert output.path is not None, "without a file there are no records"
    raise OutputTaken.of(output.path)


async def _rewrite(store: ActorRef, job_id: str, output: ResultFile) -> None:
    fresh = await anyio.to_thread.run_sync(output.replacement)
    await _append_rows(store, job_id, fresh, 0)
    await anyio.to_thread.run_sync(output.take, fresh)


async def _append_rows(store: ActorRef, job_id: str, output: ResultFile, skip: int) -> None:
    async for page in results_after(store, job_id, skip):
        await anyio.to_thread.run_sync(partial(output.append, page))
