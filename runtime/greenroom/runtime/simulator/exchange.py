"""One request while it is being served, and the simulator's counters."""

from collections import Counter

import msgspec
from aiohttp import web

from greenroom.runtime.simulator.journal import JournalEntry
from greenroom.runtime.simulator.traffic.limits import LimitedBy
from greenroom.runtime.simulator.wires import OPENAI, Asked, Wire
from greenroom.runtime.simulator.wires.reading import Head

# The status of an entry to which no status was sent: the connection ended before the answer.
NOTHING_SENT = 0


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulator has done since it started.

    `by_status` counts journal entries by HTTP status ("0": the connection ended before an answer) and `faults` those that a fault
    struck by its name; `limited` those that a limit refused, by what was used up; `abandoned` counts clients that went
    away in the middle of an answer; tokens are those of answers sent with status 200. The busiest minute is the one,
    counted from the start, with the most requests, or with the most tokens.
    """

    uptime_s: float
    requests: int
    in_flight: int
    peak_in_flight: int
    by_status: dict[str, int]
    faults: dict[str, int]
    limited: dict[str, int]
    abandoned: int
    prompt_tokens: int
    completion_tokens: int
    busiest_minute_requests: int
    busiest_minute_tokens: int
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
        self.limited: Counter[str] = Counter()
        self.abandoned = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.busiest_minute_requests = 0
        self.busiest_minute_tokens = 0
        self._minute = 0
        self._minute_requests = 0
        self._minute_tokens = 0

    def opened(self) -> None:
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def closed(self) -> None:
        self.in_flight -= 1

    def recorded(self, entry: JournalEntry, since_start_s: float) -> None:
        tokens = entry.prompt_tokens + entry.completion_tokens if entry.status == 200 else 0
        self._count_minute(int(since_start_s // 60), tokens)
        if entry.limited_by is not None:
            self.limited[entry.limited_by] += 1
        self.by_status[entry.status] += 1
        if entry.fault is not None:
            self.faults[entry.fault] += 1
        if entry.status == 200:
            self.prompt_tokens += entry.prompt_tokens
            self.completion_tokens += entry.completion_tokens

    def _count_minute(self, minute: int, tokens: int) -> None:
        if minute != self._minute:
            self._minute = minute
            self._minute_requests = self._minute_tokens = 0
        self._minute_requests += 1
        self._minute_tokens += tokens
        self.busiest_minute_requests = max(self.busiest_minute_requests, self._minute_requests)
        self.busiest_minute_tokens = max(self.busiest_minute_tokens, self._minute_tokens)


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
        "limited_by",
        "model",
        "prompt_sha256",
        "prompt_tokens",
        "recorded",
        "request",
        "request_id",
        "retry_after_s",
        "started_s",
        "stream",
        "wire",
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
        self.speak(OPENAI)
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
        self.limited_by: LimitedBy | None = None
        self.retry_after_s: float | None = None

    @property
    def head(self) -> Head:
        """What a wire may look at beside the body."""
        request = self.request
        return Head(request.path, request.query, request.headers)

    def speak(self, wire: Wire) -> None:
        """Sets the wire; its headers are what every answer to this request carries, error or not."""
        self.wire = wire
        self.headers = wire.headers(self.request_id)

    def asked(self, asked: Asked) -> None:
        """Notes what was asked."""
        self.prompt_sha256 = asked.prompt_sha256
        self.custom_id = asked.custom_id
        self.stream = asked.stream
        self.model = asked.question.model

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
            limited_by=self.limited_by,
            retry_after_s=self.retry_after_s,
        )
