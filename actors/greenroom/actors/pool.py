"""Connections to one provider: leases on one `aiohttp.ClientSession`, and what came of them.

The session, the leases on it and what came of them are `Sockets`, owned by the tree: a pool that dies takes no stream
with it, and its next incarnation goes on with the same connections and the same count. The limiter owns concurrency, so the connector has no limit of
its own; no cookie jar, no total timeout and no automatic headers, each of which costs on every call.
"""

from collections import Counter

import aiohttp
from msgspec import Struct, structs
from yarl import URL

from greenroom.actors.kernel import Actor, Call, Cast, handles
from greenroom.actors.providers import WireRequest, codec_for, url_of
from greenroom.actors.settings import ProviderSettings, Secret
from greenroom.actors.signing import AwsSigner

_KEEP_ALIVE_S = 60.0
_DNS_TTL_S = 300
_SMOOTHING = 0.1
_MAX_URLS = 1_000
"""Some wires name the model in the path, and a caller may name any."""


class Sockets:
    """One provider's session and the leases on it. Opened and closed within one event loop.

    Args:
        settings: the provider's.
        key: its API key, sent as its wire says; None where it takes none.
    """

    def __init__(self, settings: ProviderSettings, key: Secret | None) -> None:
        self._settings = settings
        self._key = key
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self.signer = AwsSigner(settings.base_url) if settings.sign == "aws" else None
        self.leases: set[int] = set()
        self.outcomes: Counter[str] = Counter()
        self.latency_s = 0.0

    def open(self) -> aiohttp.ClientSession:
        """The session; the same one at every call until `aclose`."""
        if self._session is None:
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            headers |= codec_for("", self._settings).session_headers(self._key)
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=0, keepalive_timeout=_KEEP_ALIVE_S, ttl_dns_cache=_DNS_TTL_S
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                # `connect`, not `sock_connect`: looking the name up is part of it.
                timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.stalls.connect_s),
                headers=headers,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                auto_decompress=False,
            )
        return self._session

    async def signed(self, wire: WireRequest) -> WireRequest:
        """The request with its signature, where there is a `signer`. Raises as `AwsSigner.headers`."""
        if self.signer is None:
            return wire
        headers = await self.signer.headers(wire.method, str(self.url(wire.path)), wire.body)
        return structs.replace(wire, headers={**wire.headers, **headers})

    def url(self, path: str) -> URL:
        """The provider's URL of a path, made once."""
        url = self._urls.get(path)
        if url is None:
            if len(self._urls) >= _MAX_URLS:
                self._urls.clear()
            url = self._urls[path] = URL(url_of(self._settings, path), encoded=True)
        return url

    def give_back(self, ticket: int, outcome: str, duration_s: float) -> None:
        """End a lease, and count what came of it: `ok` or an error kind, and the seconds from request to answer."""
        self.leases.discard(ticket)
        self.outcomes[outcome] += 1
        if outcome == "ok":
            weight = _SMOOTHING if self.latency_s else 1.0
            self.latency_s += weight * (duration_s - self.latency_s)

    async def aclose(self) -> None:
        """Close every connection; what is still in flight on them fails."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class Leased(Struct, frozen=True, gc=False):
    """The answer to `Lease`: the session to send with."""

    session: aiohttp.ClientSession


class Lease(Call[Leased], frozen=True, resend=True, gc=False):
    """Ask for a connection. The caller gives its ticket back to the `Sockets`; with `Outcome` if it gave up waiting."""

    ticket: int


class Outcome(Cast, frozen=True):
    """As `Sockets.give_back`, behind a `Lease` that may still wait in the mailbox."""

    ticket: int
    outcome: str
    duration_s: float


class PoolStatus(Struct, frozen=True, kw_only=True):
    """A provider's living leases and what its calls came to since the runtime was entered."""

    provider: str
    leases: int
    outcomes: dict[str, int]
    latency_s: float


class GetPoolStatus(Call[PoolStatus], frozen=True, resend=True):
    """Ask for leases, outcomes and the moving average of latency."""


class Pool(Actor):
    """The pool of one provider.

    Args:
        provider: its name.
        sockets: what outlives this incarnation.
    """

    def __init__(self, provider: str, sockets: Sockets) -> None:
        self._provider = provider
        self._sockets = sockets

    @handles
    def lease(self, message: Lease) -> Leased:
        self._sockets.leases.add(message.ticket)
        return Leased(self._sockets.open())

    @handles
    def outcome(self, message: Outcome) -> None:
        self._sockets.give_back(message.ticket, message.outcome, message.duration_s)

    @handles
    def status(self, message: GetPoolStatus) -> PoolStatus:
        return PoolStatus(
            provider=self._provider,
            leases=len(self._sockets.leases),
            outcomes=dict(self._sockets.outcomes),
            latency_s=self._sockets.latency_s,
        )
