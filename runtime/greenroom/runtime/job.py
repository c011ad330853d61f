"""A job's handle, and waiting that ends when the runtime has failed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias, TypeVar

from msgspec import structs

from greenroom.actors.batch import (
    CancelJob,
    GetProgress,
    JobProgress,
    JobRequest,
    JobResult,
    OpenJob,
    StopJob,
    results_of,
)
from greenroom.actors.call import again
from greenroom.actors.flow import Closed
from greenroom.actors.kernel import ActorRef
from greenroom.supervisors.batches import Running

_Result = TypeVar("_Result")
Failure: TypeAlias = "asyncio.Future[Closed]"
"""Done when the root supervisor has given up or the runtime was left: nobody starts an actor again then."""
Again: TypeAlias = "Callable[[JobRequest], Awaitable[Job]]"
"""Opens a job once more, and has it go on."""


class Job:
    """A running job. It goes on by itself; dropping this handle stops nothing."""

    def __init__(
        self, running: Running, opened: OpenJob, store: ActorRef, failure: Failure, again: Again
    ) -> None:
        self._ref = running.ref
        self._memory = running.memory
        self._store = store
        self._failure = failure
        self._again = again
        self.opened = opened

    @property
    def id(self) -> str:
        return self.opened.id

    async def progress(self) -> JobProgress:
        """Where the job stands now.

        Raises:
            RuntimeFailed, Closed: as `wait`.
        """
        ended = self._memory.ended
        reading = asyncio.ensure_future(self._ref.call(GetProgress(), timeout=None))
        try:
            await _first_of(reading, ended, self._failure)
            told = reading.done() and reading.exception() is None and not ended.done()
            return reading.result() if told else await self.wait()
        finally:
            reading.cancel()

    async def wait(self) -> JobProgress:
        """Wait for its end: `done`, `stopped` or `halted`. Cancelling stops the waiting, not the job.

        Raises:
            RuntimeFailed: nothing is left that could go on with it; another runtime can, where it stands.
            Closed: the runtime was left before the job's end; likewise.
        """
        ended = self._memory.ended
        await _first_of(ended, self._failure)
        if not ended.done():
            raise again(self._failure.result())
        return ended.result()

    async def events(self) -> AsyncIterator[JobProgress]:
        """Where the job stands, now and whenever more results are on disk; the last one is its end. Raises as `wait`.

        Who reads slowly is told less often, never late.
        """
        while True:
            changed = self._memory.changed
            progress = await self.progress()
            yield progress
            if self._memory.ended.done():
                if progress.state in {"running", "stopping"}:
                    yield await self.wait()
                return
            await _unless_ended(changed, self._memory.ended, self._failure)

    async def results(self, *, after_seq: int = -1) -> AsyncIterator[JobResult]:
        """Every finished line in the order of completion, those of earlier runs first, each as soon as it is on disk.

        Args:
            after_seq: the `JobResult.seq` after which to begin, for who has seen some already.

        Ends with the job. `custom_id` and `position` tell which line of the input it was. Raises as `wait`, and
        `StorageFailed`.
        """
        while True:
            changed, over = self._memory.changed, self._memory.ended.done()
            page = await unless_failed(results_of(self._store, self.id, after_seq), self._failure)
            for result in page:
                after_seq = result.seq
                yield result
            if page:
                continue
            if over:
                return
            await _unless_ended(changed, self._memory.ended, self._failure)

    async def retry_failed(self) -> "Job":
        """Ask the lines again that failed; the handle of the job that goes on. It waits for this one's end first.

        Raises:
            ChangedInput, JobRefused, RuntimeFailed, Closed: as `Runtime.batch`.
            ValueError: the job has no output by which it could be gone on with.
        """
        if self.opened.request.out is None:
            raise ValueError(
                "a job is gone on with by its output, and this one has none: give out=... to batch()"
            )
        await self.wait()
        return await self._again(structs.replace(self.opened.request, retry_failed=True))

    def cancel(self) -> None:
        """Ask no further line, and give up those in flight, which are charged as estimated. What is finished stays.

        The same job can be gone on with later.
        """
        self._memory.stop_asked = self._memory.cancel_asked = True
        self._ref.cast(CancelJob())

    def stop(self) -> None:
        """Ask no further line; those in flight finish. The same job can be gone on with later."""
        self._memory.stop_asked = True
        self._ref.cast(StopJob())


async def unless_failed(waiting: Awaitable[_Result], failure: Failure) -> _Result:
    """What `waiting` comes to.

    Raises:
        RuntimeFailed: as soon as the runtime has failed; `waiting` is cancelled then.
    """
    task = asyncio.ensure_future(waiting)
    try:
        await _first_of(task, failure)
        if not task.done():
            raise again(failure.result())
        return task.result()
    finally:
        task.cancel()


async def _unless_ended(changed: asyncio.Event, *ends: "asyncio.Future[Any]") -> None:
    """Return when something has changed, or one of the ends has come."""
    waiting = asyncio.ensure_future(changed.wait())
    try:
        await _first_of(waiting, *ends)
    finally:
        waiting.cancel()


async def _first_of(*futures: "asyncio.Future[Any]") -> None:
    """Return when one of them is done. Cancelling cancels none of them."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
