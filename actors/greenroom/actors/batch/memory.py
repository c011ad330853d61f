"""What outlives the actor of a running job."""

import asyncio

from msgspec import Struct

from greenroom.actors.batch.messages import JobProgress
from greenroom.actors.batch.results import ResultFile
from greenroom.actors.events import ErrorKind, Usage


class Tally(Struct):
    """What a job's finished lines come to."""

    ok: int = 0
    failed: int = 0
    cost_pusd: int = 0
    usage: Usage = Usage()
    errors: dict[str, int] = {}

    @property
    def finished(self) -> int:
        return self.ok + self.failed

    def count(self, line: "Finished") -> None:
        """One more line has its result on disk."""
        if line.error_kind is None:
            self.ok += 1
        else:
            self.failed += 1
            self.errors[line.error_kind] = self.errors.get(line.error_kind, 0) + 1
        self.cost_pusd += line.cost_pusd
        self.usage += line.usage


class Finished(Struct, frozen=True):
    """A line that has its result: `result` is what the output gets."""

    position: int
    custom_id: str
    line_digest: bytes
    result: bytes
    cost_pusd: int
    usage: Usage
    error_kind: ErrorKind | None
    finished_at_ms: int

    def row(self, job_id: str, seq: int) -> dict[str, object]:
        """The parameters of `INSERT_ITEM`. `seq` is its place in the order of completion."""
        return {
            "job_id": job_id,
            "position": self.position,
            "seq": seq,
            "custom_id": self.custom_id,
            "digest": self.line_digest,
            "ok": self.error_kind is None,
            "error_class": self.error_kind,
            "result": self.result,
            "cost_pusd": self.cost_pusd,
            "input_tokens": self.usage.total_input_tokens,
            "output_tokens": self.usage.total_output_tokens,
            "finished_at_ms": self.finished_at_ms,
        }


class Memory:
    """What a new incarnation of a job's actor must know of those before it and finds in no row. Owned by the tree.

    Args:
        output: the output, so that a new incarnation closes what a killed one left open.

    Attributes:
        unsaved: results that the store has not acknowledged, in the order of completion.
        tally: the last known sums, also while the rows cannot be read.
        resumed: lines finished before the first incarnation; None: none has begun yet.
        stop_asked: somebody wants the job stopped, and the actor may have died before it heard of it.
        cancel_asked: the same, and what is in flight given up.
        changed: set once more results are on disk; then it is another one.
        ended: where the job stood at its end (done, stopped or halted); not done before that.
    """

    def __init__(self, output: ResultFile) -> None:
        self.output = output
        self.unsaved: list[Finished] = []
        self.tally = Tally()
        self.resumed: int | None = None
        self.stop_asked = False
        self.cancel_asked = False
        self.changed = asyncio.Event()
        self.ended: asyncio.Future[JobProgress] = asyncio.get_running_loop().create_future()

    def tell(self) -> None:
        """More results are on disk: wake whoever waits for them."""
        before, self.changed = self.changed, asyncio.Event()
        before.set()
