"""A job's handle, and waiting that ends when the runtime has failed."""

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeAlias, TypeVar

from greenroom.actors.batch import GetProgress, JobProgress, OpenJob, StopJob
from greenroom.actors.call import again
from greenroom.actors.flow import Closed
from greenroom.supervisors.batches import Running

_Result = TypeVar("_Result")
Failure: TypeAlias = "asyncio.Future[Closed]"
"""Done when the root supervisor has given up or the runtime was left: nobody starts an actor again then."""


class Job:
    """A running job. It goes on by itself; dropping this handle stops nothing."""

    def __init__(self, running: Running, opened: OpenJob, failure: Failure) -> None:
        self._ref = running.ref
        self._memory = running.memory
        self._failure = failure
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


async def _first_of(*futures: "asyncio.Future[Any]") -> None:
    """Return when one of them is done. Cancelling cancels none of them."""
    await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
