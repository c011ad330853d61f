"""One request while it is being served, and the simulator's counters."""

from collections import Counter

import msgspec
from aiohttp import web

from greenroom.runtime.simulator.journal import JournalEntry

# The status of an entry to which no status was sent: the connection ended before the answer.
NOTHING_SENT = 0


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulator has done since it started.

    `by_status` counts journal entries by HTTP status ("0": the connection ended before an answer) and `faults` those that a fault
    struck by its name; `abandoned` counts clients that went away in the middle of an answer; tokens are those of answers sent with status 200.
    """

    uptime_s: float
    requests: int
    in_flight: int
    peak_in_flight: int
    by_status: dict[str, int]
    faults: dict[str, int]
    abandoned: int
    prompt_tokens: int
    completion_tokens: int
    journal_entries: int
    journal_dropped: int


class Counters:
    """Running totals behind `Statistics`."""

    def __init__(self) -> None:
        self.requests = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.by_status: Counter[int] = Counter()
        self.faults: Counter[str] = Counter()
        self.abandoned = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0

    def opened(self) -> None:
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def closed(self) -> None:
        self.in_flight -= 1

    def recorded(self, entry: JournalEntry) -> None:
        self.by_status[entry.status] += 1
        if entry.fault is not None:
            self.faults[entry.fault] += 1
        if entry.status == 200:
            self.prompt_tokens += entry.prompt_tokens
            self.completion_tokens += entry.completion_tokens


class Exchange:
    """What becomes known about a request on its way to the journal."""

    __slots__ = (
        "arrived_s",
        "attempt",
        "completion_tokens",
        "custom_id",
        "error_code",
        "fault",
        "finish_reason",
        "headers",
        "in_flight",
        "model",
        "prompt_sha256",
        "prompt_tokens",
        "recorded",
        "request",
        "request_id",
        "started_s",
        "stream",
    )

    def __init__(
        self, request: web.BaseRequest, request_id: str, *, arrived_s: float, started_s: float, in_flight: int
    ) -> None:
        self.request = request
        self.request_id = request_id
        self.arrived_s = arrived_s
        self.started_s = started_s
        self.in_flight = in_flight
        self.recorded = False
        # What every answer to this request carries, error or not.
        self.headers = {"x-request-id": request_id}
        self.model: str | None = None
        self.stream = False
        self.custom_id: str | None = None
        self.prompt_sha256: str | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.finish_reason: str | None = None
        self.error_code: str | None = None
        self.attempt = 1
        self.fault: str | None = None

    def entry(self, sequence: int, status: int, now_s: float) -> JournalEntry:
        """The journal's entry for this request, answered with `status` at the monotonic time `now_s`."""
        headers = self.request.headers
        return JournalEntry(
            sequence=sequence,
            arrived_s=self.arrived_s,
            duration_s=round(now_s - self.started_s, 6),
            method=self.request.method,
            path=self.request.raw_path,
            status=status,
            request_id=self.request_id,
            in_flight=self.in_flight,
            model=self.model,
            stream=self.stream,
            client_request_id=headers.get("X-Client-Request-Id"),
            idempotency_key=headers.get("Idempotency-Key"),
            custom_id=self.custom_id or headers.get("X-Custom-Id"),
            prompt_sha256=self.prompt_sha256,
            prompt_tokens=self.prompt_tokens,
            completion_tokens=self.completion_tokens,
            finish_reason=self.finish_reason,
            error_code=self.error_code,
            attempt=self.attempt,
            fault=self.fault,
        )
