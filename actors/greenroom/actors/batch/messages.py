"""What is said to a batch actor, and what it says of itself."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from greenroom.actors.events import ErrorKind
from greenroom.actors.kernel import Call, Cast
from greenroom.actors.prices import usd

JobStanding = Literal["running", "stopping", "done", "stopped", "halted"]


class JobProgress(Struct, frozen=True, kw_only=True):
    """Where a job stands. Counts and sums are of the whole job, earlier processes included.

    `state`: `running`; `stopping` (no new lines, those in flight finish); and at the end `done` (every line has its
    result), `stopped` (as asked) or `halted` (`because` says why no further line could succeed). `resumed` counts the
    lines that had their result before this process began.
    """

    job_id: str
    state: JobStanding
    total: int
    ok: int
    failed: int
    resumed: int
    in_flight: int
    usage_input_tokens: int
    usage_output_tokens: int
    cost_pusd: int
    errors: dict[str, int]
    because: str | None = None
    because_kind: ErrorKind | None = None

    @property
    def finished(self) -> int:
        return self.ok + self.failed

    @property
    def cost_usd(self) -> Decimal:
        """What its calls were charged, exact."""
        return usd(self.cost_pusd)


class GetProgress(Call[JobProgress], frozen=True, resend=True):
    """Ask where the job stands."""


class JobResult(Struct, frozen=True, kw_only=True):
    """A finished line: what the output has of it, and what it came to.

    `seq` is its place in the order of completion, `position` its 0-based line of the input. `line` is its line of the
    output: OpenAI's batch output as JSON, or a row of CSV. `error_class` None: it was answered.
    """

    seq: int
    position: int
    custom_id: str
    error_class: str | None
    line: bytes
    cost_pusd: int
    input_tokens: int
    output_tokens: int

    @property
    def ok(self) -> bool:
        """Whether it was answered."""
        return self.error_class is None

    @property
    def cost_usd(self) -> Decimal:
        """What its calls were charged, exact."""
        return usd(self.cost_pusd)


class CancelJob(Cast, frozen=True):
    """Ask no further line, and give up those in flight. What is finished stays; the job can be gone on with later."""


class StopJob(Cast, frozen=True):
    """Ask no further line; let those in flight finish. The job can be gone on with later."""
