"""How a simulator is set up."""

import ipaddress
from pathlib import Path
from typing import get_args

import msgspec

from greenroom.runtime.simulator.traffic.advice import MAX_ADVICE_S, RetryAfterForm
from greenroom.runtime.simulator.traffic.faults import Fault, parse_faults
from greenroom.runtime.simulator.traffic.latency import Latency, parse_latency
from greenroom.runtime.simulator.traffic.limits import LimitKind, TokensCounted
from greenroom.runtime.simulator.traffic.pace import Pace, parse_sizes

# Requests with images as base64 are large; OpenAI takes 50 MB of them.
MAX_BODY_BYTES = 50 * 1024 * 1024


class SimulatorSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All settings of a `Simulator`, checked when they are made.

    Args:
        host: The address to listen on. Anything but the loopback wants an `api_key`.
        port: The port to listen on; 0 takes a free one, which `Simulator.url` then tells.
        seed: Decides answers, latencies and faults, together with each request.
        api_key: What clients must send as `Authorization: Bearer`; None lets everybody in. Never printed.
        latency: How long answers take, in the words of `traffic.latency`, such as "lognormal(p50=0.4,p95=1.2)".
        chunk_tokens: How many tokens a stream's chunk holds: "1", or "1-8" for sizes drawn for each request.
        burst_chunks: How many of a paced stream's chunks are sent together.
        faults: What goes wrong and how often, in the words of `traffic.faults`, such as "429:0.05,drop".
        fault_retry_after_s: What the faults 429 and 503 tell a client to wait, in seconds; may be absurd.
        retry_after_form: How clients are told to wait: "ms" as OpenAI does, "seconds", or as a "date"; None: as the
            wire's providers do.
        requests_per_min: Requests admitted a minute, over all models and clients; None for no limit.
        tokens_per_min: Tokens a minute, likewise.
        limit_kind: How the allowance comes back: "bucket", "fixed" or "sliding" (see `traffic.limits`).
        limit_window_s: How much of it is kept at once, as seconds of its rate; 60 as most providers do, 1 for those
            that enforce a minute's limit by the second.
        tokens_counted: "arrival": prompt and max_tokens, for good; "end": what was really used.
        also_serve: Further model ids, such as those of a job to be rehearsed; they behave as `fast` does.
        journal_path: A file that gets a line for each request; None for none.
        journal_capacity: How many requests the journal keeps in memory.
        max_body_bytes: Larger requests are refused with 413.
        shutdown_grace_s: How long a stopping simulator lets open requests go on, in seconds.

    Raises:
        ValueError: A setting is out of its range; the message names it and what would be right.
    """

    host: str = "127.0.0.1"
    port: int = 0
    seed: int = 0
    api_key: str | None = None
    latency: str = "0"
    chunk_tokens: str = "1"
    burst_chunks: int = 1
    faults: str = ""
    fault_retry_after_s: float = 1.0
    retry_after_form: RetryAfterForm | None = None
    requests_per_min: int | None = None
    tokens_per_min: int | None = None
    limit_kind: LimitKind = "bucket"
    limit_window_s: float = 60.0
    tokens_counted: TokensCounted = "arrival"
    also_serve: tuple[str, ...] = ()
    journal_path: Path | None = None
    journal_capacity: int = 10_000
    max_body_bytes: int = MAX_BODY_BYTES
    shutdown_grace_s: float = 1.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65_535:
            raise ValueError(f"port {self.port} is none: 0 (any free one) to 65535")
        if self.api_key is not None and not self.api_key.strip():
            raise ValueError("api_key is empty; leave it out to let everybody in")
        if self.api_key is None and not _is_loopback(self.host):
            raise ValueError(
                f"host {self.host!r} is open to others; that wants an api_key (or host 127.0.0.1)"
            )
        if self.journal_capacity < 1:
            raise ValueError(f"journal_capacity {self.journal_capacity} is below 1")
        if self.max_body_bytes < 1:
            raise ValueError(f"max_body_bytes {self.max_body_bytes} is below 1")
        if not 0 <= self.shutdown_grace_s <= 3_600:
            raise ValueError(f"shutdown_grace_s {self.shutdown_grace_s} is not between 0 and 3600 seconds")
        if any(not name.strip() for name in self.also_serve):
            raise ValueError("also_serve has an empty model id")
        if not 0 <= self.fault_retry_after_s <= MAX_ADVICE_S:
            raise ValueError(
                f"fault_retry_after_s {self.fault_retry_after_s} is not between 0 and {MAX_ADVICE_S:.0f} seconds"
            )
        if not 1 <= self.burst_chunks <= 10_000:
            raise ValueError(f"burst_chunks {self.burst_chunks} is not between 1 and 10000")
        if self.retry_after_form is not None:
            _check_choice("retry_after_form", self.retry_after_form, get_args(RetryAfterForm))
        self._check_limits()
        self.parsed_latency()
        self.parsed_faults()
        self.pace()

    def _check_limits(self) -> None:
        if not 0.001 <= self.limit_window_s <= 86_400:
            raise ValueError(f"limit_window_s {self.limit_window_s} is not between 0.001 and 86400 seconds")
        _check_choice("limit_kind", self.limit_kind, get_args(LimitKind))
        _check_choice("tokens_counted", self.tokens_counted, get_args(TokensCounted))
        for name in ("requests_per_min", "tokens_per_min"):
            per_min: int | None = getattr(self, name)
            if per_min is not None and per_min * self.limit_window_s < 60:
                raise ValueError(
                    f"{name} {per_min} allows not even one in a window of {self.limit_window_s:g} seconds"
                )

    def parsed_faults(self) -> tuple[Fault, ...]:
        """`faults` as an order."""
        return parse_faults(self.faults)

    def parsed_latency(self) -> Latency:
        """`latency` as a distribution."""
        return parse_latency(self.latency)

    def pace(self) -> Pace:
        """How streams come."""
        least, most = parse_sizes(self.chunk_tokens)
        return Pace(self.parsed_latency().per_token_s, least, most, self.burst_chunks)

    def __repr__(self) -> str:
        key = "None" if self.api_key is None else "'…'"
        shown = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "api_key"]
        return f"SimulatorSettings({', '.join(shown)}, api_key={key})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, "…" if name == "api_key" else getattr(self, name)) for name in self.__struct_fields__]


def _check_choice(name: str, given: str, choices: tuple[str, ...]) -> None:
    if given not in choices:
        raise ValueError(f"{name} {given!r} is none of {', '.join(choices)}")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
