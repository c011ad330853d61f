"""The `batches` branch: one actor a running job, begun again when it crashes, gone when it is done.

`Jobs` owns what outlives it: the specs from which a new branch begins the running jobs again, each with its `Memory`.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from msgspec import Struct

from greenroom.actors.batch import Batch, JobRefused, JobRequest, Memory, OpenJob, memory_of
from greenroom.actors.flow import Flow
from greenroom.actors.kernel import ActorRef, ActorSystem
from greenroom.actors.settings import Supervision
from greenroom.supervisors.branch import Branch, Keep
from greenroom.supervisors.spec import ChildSpec

NAME = "batches"


class Running(Struct, frozen=True):
    """A job that was started: its actor by name, across restarts, and what outlives the actor."""

    job: OpenJob
    ref: ActorRef
    memory: Memory
    starting: "asyncio.Task[ActorRef]"


class Jobs:
    """The jobs that run.

    Args:
        system: the actor system.
        supervision: how many restarts are borne.
    """

    def __init__(self, system: ActorSystem, supervision: Supervision) -> None:
        self._system = system
        self._supervision = supervision
        self._kept: dict[str, ChildSpec] = {}
        self._running: dict[str, Running] = {}

    def branch(self) -> ChildSpec:
        """The branch itself, to be started under the root."""
        options = {"intensity": self._supervision.intensity, "period": self._supervision.period_s}
        return ChildSpec(NAME, Branch, args=(self._kept,), kwargs=options, name=NAME)

    def find(self, request: JobRequest) -> OpenJob | None:
        """The running job that the same request began, if there is one. Opening it anew would change rows under it.

        Raises:
            JobRefused: another request's job runs and writes the same output.
        """
        for running in self._running.values():
            job = running.job
            if job.request == request and request.out is not None:
                return job
            if job.request.out == request.out and request.out is not None:
                raise JobRefused(
                    f"job {job.id} runs, writes {request.out}, and was begun with other options: wait for its end"
                )
        return None

    async def start(self, job: OpenJob, flow: Flow, now_ms: Callable[[], int]) -> Running:
        """Start the actor of an opened job; return when it has begun to ask. A job that runs is not begun again.

        Raises:
            StartFailed: its `init` failed; the cause says why (`OutputTaken`, `StorageFailed`, an `OSError`...).

        Cancelling leaves the job running; the same call finds it.
        """
        running = self._running.get(job.id)
        if running is None or running.memory.ended.done():
            running = self._running[job.id] = self._begin(job, flow, now_ms)
        await asyncio.shield(running.starting)
        return running

    def _begin(self, job: OpenJob, flow: Flow, now_ms: Callable[[], int]) -> Running:
        name = f"batch:{job.id}"
        memory = memory_of(job)
        args = (job, flow, self._system.named("store"), now_ms, memory)
        spec = ChildSpec(job.id, Batch, args=args, name=name, restart="transient")
        starting = asyncio.ensure_future(self._system.named(NAME).call(Keep(spec), timeout=None))
        running = Running(job, self._system.named(name), memory, starting)
        starting.add_done_callback(partial(self._started, running))
        memory.ended.add_done_callback(lambda _: self._forget(running))
        return running

    def _started(self, running: Running, starting: "asyncio.Task[ActorRef]") -> None:
        if starting.cancelled() or starting.exception() is not None:
            self._forget(running)

    def _forget(self, running: Running) -> None:
        if self._running.get(running.job.id) is running:
            del self._running[running.job.id]
