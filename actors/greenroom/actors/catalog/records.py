"""What calls have shown of each model so far: how long it takes, how often it fails, how busy it is.

Flows write here on their own stack, with no message: a call pays well under a microsecond for it. The catalogue reads.
Records are owned by the tree, so they outlive the catalogue.
"""

from array import array

from msgspec import Struct

_KEPT = 64
_WEIGHT = 0.2
"""Of the newest attempt in what is averaged: ten attempts later, a tenth of what was before is left."""
_HALF_LIFE_S = 60.0
"""A model that failed and is therefore not asked forgets its failures, and is asked again."""
_MAX_RECORDS = 10_000


class Measured(Struct, frozen=True, gc=False):
    """What is known of a model by its calls; None where nothing is. Seconds, tokens, and a share from 0 to 1."""

    attempts: int
    in_flight: int
    latency_s: float | None
    first_content_s: float | None
    output_tokens: float | None
    failure_share: float


NOTHING_MEASURED = Measured(0, 0, None, None, None, 0.0)


class RouteRecord:
    """The record of one model at one provider."""

    __slots__ = (
        "_answers",
        "_durations_s",
        "_failure_share",
        "_first_content_s",
        "_output_tokens",
        "_share_at_s",
        "attempts",
        "in_flight",
        "turn",
    )

    def __init__(self) -> None:
        self.attempts = 0
        self.in_flight = 0
        self.turn = 0
        self._answers = 0
        self._durations_s: array[float] = array("d")
        self._first_content_s: float | None = None
        self._output_tokens: float | None = None
        self._failure_share = 0.0
        self._share_at_s = 0.0

    def began(self) -> None:
        """An attempt was sent; `ended` must follow, whatever becomes of it."""
        self.in_flight += 1

    def content_came(self, wait_s: float) -> None:
        """The first content of a stream, seconds after its request was sent."""
        known_s = self._first_content_s
        self._first_content_s = wait_s if known_s is None else known_s + _WEIGHT * (wait_s - known_s)

    def ended(
        self, now_s: float, *, ok: bool | None, duration_s: float = 0.0, output_tokens: int = 0
    ) -> None:
        """An attempt is over.

        Args:
            now_s: by the clock's `monotonic`.
            ok: whether it was answered; None says nothing of the model: it was cancelled, or the caller's own fault.
            duration_s: from sending to the whole answer.
            output_tokens: of the answer, reasoning included.
        """
        self.in_flight -= 1
        if ok is None:
            return
        self.attempts += 1
        if ok:
            self._answered(duration_s, output_tokens)
            if self._failure_share:
                self._failure_share = self.failure_share(now_s) * (1 - _WEIGHT)
        else:
            share = self.failure_share(now_s)
            self._failure_share = share + _WEIGHT * (1 - share)
        self._share_at_s = now_s

    def failure_share(self, now_s: float) -> float:
        """The share of late attempts that failed; it halves with every minute that passes."""
        if not self._failure_share:
            return 0.0
        halvings = (now_s - self._share_at_s) / _HALF_LIFE_S
        return float(self._failure_share * 0.5**halvings)

    def latency_s(self, quantile: float = 0.5) -> float | None:
        """How long so large a share of the last 64 answers took at most, from sending to the whole answer."""
        if not self._durations_s:
            return None
        ordered = sorted(self._durations_s)
        return ordered[min(len(ordered) - 1, int(quantile * len(ordered)))]

    def measured(self, now_s: float) -> Measured:
        """All of it, at a time."""
        return Measured(
            attempts=self.attempts,
            in_flight=self.in_flight,
            latency_s=self.latency_s(),
            first_content_s=self._first_content_s,
            output_tokens=self._output_tokens,
            failure_share=self.failure_share(now_s),
        )

    def _answered(self, duration_s: float, output_tokens: int) -> None:
        if self._answers < _KEPT:
            self._durations_s.append(duration_s)
        else:
            self._durations_s[self._answers % _KEPT] = duration_s
        self._answers += 1
        known = self._output_tokens
        self._output_tokens = (
            float(output_tokens) if known is None else known + _WEIGHT * (output_tokens - known)
        )


class Records:
    """The records by provider and model. There are at most 10 000: beyond, the oldest idle one gives way."""

    def __init__(self) -> None:
        self._records: dict[tuple[str, str], RouteRecord] = {}
        self._turns = 0

    def of(self, provider: str, model: str) -> RouteRecord:
        """The record of a model, begun where there is none."""
        record = self._records.get((provider, model))
        if record is None:
            if len(self._records) >= _MAX_RECORDS:
                self._make_room()
            record = self._records[provider, model] = RouteRecord()
        return record

    def known(self, provider: str, model: str) -> RouteRecord | None:
        """The record of a model, where there is one."""
        return self._records.get((provider, model))

    def in_flight(self) -> dict[str, int]:
        """Attempts in flight by provider, over all of its models; nobody where there are none."""
        busy: dict[str, int] = {}
        for (provider, _), record in self._records.items():
            if record.in_flight:
                busy[provider] = busy.get(provider, 0) + record.in_flight
        return busy

    def take_turn(self, record: RouteRecord) -> None:
        """Note that a model was chosen, after all that were before."""
        self._turns += 1
        record.turn = self._turns

    def _make_room(self) -> None:
        idle = next((key for key, record in self._records.items() if not record.in_flight), None)
        if idle is not None:
            del self._records[idle]
