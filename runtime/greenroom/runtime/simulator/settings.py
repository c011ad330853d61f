"""How a simulator is set up."""

import ipaddress
from pathlib import Path

import msgspec

from greenroom.runtime.simulator.traffic.latency import Latency, parse_latency

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
        self.parsed_latency()

    def parsed_latency(self) -> Latency:
        """`latency` as a distribution."""
        return parse_latency(self.latency)

    def __repr__(self) -> str:
        key = "None" if self.api_key is None else "'…'"
        shown = [f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__ if name != "api_key"]
        return f"SimulatorSettings({', '.join(shown)}, api_key={key})"

    def __rich_repr__(self) -> list[tuple[str, object]]:
        return [(name, "…" if name == "api_key" else getattr(self, name)) for name in self.__struct_fields__]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
