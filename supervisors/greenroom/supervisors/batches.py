"""The `batches` branch: one actor a running job, begun again when it crashes, gone when it is done."""

from collections.abc import Callable

from greenroom.actors.batch import Batch, OpenJob
from greenroom.actors.flow import Flow
from greenroom.actors.kernel import ActorRef, ActorSystem
from greenroom.supervisors.spec import ChildSpec, StartChild

NAME = "batches"


async def start_batch(system: ActorSystem, job: OpenJob, flow: Flow, now_ms: Callable[[], int]) -> ActorRef:
    """Start the actor of an opened job and return its ref, by name: it follows the actor across restarts.

    Raises:
        StartFailed: its `init` failed; the cause says why (`OutputTaken`, `StorageFailed`, an `OSError`...).
    """
    name = f"batch:{job.id}"
    spec = ChildSpec(
        job.id, Batch, args=(job, flow, system.named("store"), now_ms), name=name, restart="transient"
    )
    await system.named(NAME).call(StartChild(spec), timeout=None)
    return system.named(name)
