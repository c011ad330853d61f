"""The `batches` branch: one actor a running job, begun again when it crashes, gone when it is done.

`Jobs` owns what outlives it: the specs from which a new branch begins the running jobs again, each with its `Memory`.
"""

from collections.abc import Callable

from msgspec import Struct

from greenroom.actors.batch import Batch, JobRefused, Memory, OpenJob, memory_of
from greenroom.actors.flow import Flow
from greenroom.actors.kernel import ActorRef, ActorSystem
from greenroom.actors.settings import Supervision
from greenroom.supervisors.branch import Branch, Keep
from greenroom.supervisors.spec import ChildExists, ChildSpec

NAME = "batches"


class Running(Struct, frozen=True):
    """A job that was started: its actor by name, across restarts, and what outlives the actor."""

    ref: ActorRef
    memory: Memory


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

    def branch(self) -> ChildSpec:
        """The branch itself, to be started under the root."""
        options = {"intensity": self._supervision.intensity, "period": self._supervision.period_s}
        return ChildSpec(NAME, Branch, args=(self._kept,), kwargs=options, name=NAME)

    async def start(self, job: OpenJob, flow: Flow, now_ms: Callable[[], int]) -> Running:
        """Start the actor of an opened job; return when it has begun to ask.

        Raises:
            StartFailed: its `init` failed; the cause says why (`OutputTaken`, `StorageFailed`, an `OSError`...).
            JobRefused: it runs already, in this process.
        """
        name = f"batch:{job.id}"
        memory = memory_of(job)
        args = (job, flow, self._system.named("store"), now_ms, memory)
        spec = ChildSpec(job.id, Batch, args=args, name=name, restart="transient")
        try:
            await self._system.named(NAME).call(Keep(spec), timeout=None)
        except ChildExists:
            raise JobRefused(
                f"job {job.id} runs already, and writes {job.request.out}: wait for it"
            ) from None
        return Running(self._system.named(name), memory)
