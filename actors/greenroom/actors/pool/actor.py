"""Connections to one provider: leases on one `aiohttp.ClientSession`, what came of them, and whether it is worth asking.

The session, the leases on it, what came of them and the breaker are `Sockets`, owned by the tree: a pool that dies takes
no stream with it, and its next incarnation goes on with the same connections and the same count. No cookie jar, no total
timeout and no automatic headers, each of which costs on every call.
"""

import asyncio
import ssl
from collections import Counter
from contextlib import suppress

import aiohttp
from msgspec import Struct, structs
from yarl import URL

from greenroom.actors.kernel import Actor, Call, Cast, Refused, handles
from greenroom.actors.pool.breaker import Breaker, State
from greenroom.actors.pool.connecting import make_connector, proxy_for, trusting
from greenroom.actors.pool.signing import AwsSigner
from greenroom.actors.providers import WireRequest, codec_for, url_of
from greenroom.actors.settings import ProviderSettings, Secret

_SMOOTHING = 0.1
_MAX_URLS = 1_000
"""Some wires name the model in the path, and a caller may name any."""


class CircuitOpen(Refused):
    """The provider failed too often in a row, and nothing is sent to it for `retry_after_s` seconds."""

    def __init__(self, provider: str, retry_after_s: float) -> None:
        super().__init__(
            f"{provider} is left alone for {retry_after_s:.1f} s, after too many failures in a row"
        )
        self.retry_after_s = retry_after_s


class Sockets:
    """One provider's session, the leases on it, and its breaker. Opened and closed within one event loop.

    Args:
        settings: the provider's.
        key: its API key, sent as its wire says; None where it takes none.
        breaker: whether it is worth asking.

    Attributes:
        leases: the living ones, by ticket, each with the breaker's epoch.
        outcomes: what came of all of them so far.
        latency_s: moving average of whole answers, from request to end.
        connections: how many were begun.
        warm_connections: how many `warm` opens.
    """

    def __init__(self, settings: ProviderSettings, key: Secret | None, breaker: Breaker) -> None:
        self._settings = settings
        self.warm_connections = settings.warm_connections
        self._key = key
        self._urls: dict[str, URL] = {}
        self._session: aiohttp.ClientSession | None = None
        self._trusted: ssl.SSLContext | None = None
        self.breaker = breaker
        self.signer = AwsSigner(settings.base_url) if settings.sign == "aws" else None
        self.leases: dict[int, int] = {}
        self.outcomes: Counter[str] = Counter()
        self.latency_s = 0.0
        self.connections = 0

    async def prepare(self) -> None:
        """Read what `open` needs of the disk.

        Raises:
            CertificatesUnusable: see there.
        """
        if self._settings.ca_file is not None and self._trusted is None:
            self._trusted = await asyncio.to_thread(trusting, self._settings.ca_file)

    def open(self) -> aiohttp.ClientSession:
        """The session; the same one at every call until `aclose`."""
        if self._session is None:
            headers = {"Content-Type": "application/json", "Accept": "application/json"}
            headers |= codec_for("", self._settings).session_headers(self._key)
            self._session = aiohttp.ClientSession(
                connector=make_connector(self._settings, self._trusted, self._count_connection),
                cookie_jar=aiohttp.DummyCookieJar(),
                # `connect`, not `sock_connect`: looking the name up is part of it.
                timeout=aiohttp.ClientTimeout(total=None, connect=self._settings.stalls.connect_s),
                headers=headers,
                skip_auto_headers=("User-Agent", "Accept-Encoding"),
                auto_decompress=False,
                proxy=proxy_for(self._settings),
            )
        return self._session

    async def warm(self) -> None:
        """Open `warm_connections` at once, and keep them for the calls to come. One that cannot be opened is not missed:
        the call that needs it will say why.
        """
        await asyncio.gather(*(self._warm_one() for _ in range(self.warm_connections)))

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

    def give_back(self, ticket: int, outcome: str, duration_s: float, *, counts: bool = True) -> None:
        """End a lease, and count what came of it; nothing happens where there is none.

        Args:
            ticket: the lease's.
            outcome: `ok` or an error kind.
            duration_s: from request to answer.
            counts: whether a failure tells of the provider's health, see `breaker`.
        """
        epoch = self.leases.pop(ticket, None)
        if epoch is None:
            return
        self.outcomes[outcome] += 1
        if outcome == "ok":
            weight = _SMOOTHING if self.latency_s else 1.0
            self.latency_s += weight * (duration_s - self.latency_s)
        self.breaker.ended(epoch, outcome, counts=counts)

    async def aclose(self) -> None:
        """Close every connection; what is still in flight on them fails."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _warm_one(self) -> None:
        session = self.open()
        connector = session.connector
        assert connector is not None, "it is not closed"
        url = self.url("/")
        request = aiohttp.ClientRequest(
            "HEAD", url, loop=asyncio.get_running_loop(), proxy=proxy_for(self._settings), session=session
        )
        with suppress(aiohttp.ClientError, OSError, TimeoutError):
            (await connector.connect(request, [], session.timeout)).release()

    def _count_connection(self) -> None:
        self.connections += 1


class Leased(Struct, frozen=True, gc=False):
    """The answer to `Lease`: the session to send with."""

    session: aiohttp.ClientSession


class Lease(Call[Leased], frozen=True, resend=True, gc=False):
    """Ask for a connection. The caller gives its ticket back to the `Sockets`; with `Outcome` if it gave up waiting.

    Refused with `CircuitOpen` where the provider is not worth asking now.
    """

    ticket: int


class Outcome(Cast, frozen=True):
    """As `Sockets.give_back`, for a `Lease` that may have waited in the mailbox until after its caller did that."""

    ticket: int
    outcome: str
    duration_s: float


class Warm(Cast, frozen=True):
    """Open the `warm_connections`, without keeping anybody waiting."""


class PoolStatus(Struct, frozen=True, kw_only=True):
    """A provider's living leases and what its calls came to since the runtime was entered.

    `failures` are in a row; `connections` is how many were begun.
    """

    provider: str
    leases: int
    outcomes: dict[str, int]
    latency_s: float
    breaker: State
    failures: int
    connections: int


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
    def warm(self, message: Warm) -> None:
        self.pipe_to_self(self._sockets.warm())

    async def handle_info(self, message: object) -> None:
        """The warm connections are open; there is nothing to do about it."""

    @handles
    def lease(self, message: Lease) -> Leased:
        sockets = self._sockets
        if message.ticket not in sockets.leases:
            if wait_s := sockets.breaker.wait_s():
                raise CircuitOpen(self._provider, wait_s)
            sockets.leases[message.ticket] = sockets.breaker.lease()
        return Leased(sockets.open())

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
            breaker=self._sockets.breaker.state,
            failures=self._sockets.breaker.failures,
            connections=self._sockets.connections,
        )
