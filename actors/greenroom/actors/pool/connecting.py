"""How connections to a provider are made: sockets that notice a dead peer, proxies, certificates."""

import ipaddress
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass

import aiohttp
from yarl import URL

from greenroom.actors.kernel import Refused
from greenroom.actors.settings import ProviderSettings

_KEEP_ALIVE_S = 60.0
_DNS_TTL_S = 300
_PROBE_AFTER_S = 60
"""A model may think for ten minutes, and gateways forget silent connections after less: the system asks each minute."""
_PROBE_EVERY_S = 30
_PROBES = 4


class CertificatesUnusable(Refused):
    """A file of certificates cannot be read, or holds none; nothing is sent."""


def make_connector(
    settings: ProviderSettings, trusted: ssl.SSLContext | None, opened: Callable[[], None] | None = None
) -> aiohttp.TCPConnector:
    """The connector of a provider. The limiter bounds what is in flight; the limit here is never met unless it fails.

    Args:
        settings: the provider's.
        trusted: the certificates to trust; None: the system's.
        opened: called for each connection that is begun.
    """

    def make_socket(address: aiohttp.AddrInfoType) -> socket.socket:  # pyright: ignore[reportUnknownParameterType] - their type
        if opened is not None:
            opened()
        made = socket.socket(*address[:3])
        made.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        # aiohttp sets TCP_NODELAY itself. Not every system has the rest.
        for name, value in (
            ("TCP_KEEPIDLE", _PROBE_AFTER_S),
            ("TCP_KEEPINTVL", _PROBE_EVERY_S),
            ("TCP_KEEPCNT", _PROBES),
        ):
            if (option := getattr(socket, name, None)) is not None:
                made.setsockopt(socket.IPPROTO_TCP, option, value)
        return made

    return aiohttp.TCPConnector(
        limit=settings.limits.most_in_flight,
        keepalive_timeout=_KEEP_ALIVE_S,
        ttl_dns_cache=_DNS_TTL_S,
        ssl=trusted or True,
        socket_factory=make_socket,
    )


def trusting(ca_file: str) -> ssl.SSLContext:
    """What trusts the system's certificates and those of a file besides. Blocks.

    Raises:
        CertificatesUnusable: see there.
    """
    trusted = ssl.create_default_context()
    try:
        trusted.load_verify_locations(Path(ca_file).expanduser())
    except (OSError, ssl.SSLError, RuntimeError) as error:
        raise CertificatesUnusable(f"ca_file {ca_file}: {error}; it must hold certificates in PEM") from None
    return trusted


def proxy_for(settings: ProviderSettings) -> URL | None:
    """The proxy to a provider: the configured one, or that of the environment, which is never one to this machine."""
    if settings.proxy is not None:
        return URL(settings.proxy)
    if not settings.trust_env or is_local(settings.base_url):
        return None
    parts = urlsplit(settings.base_url)
    proxies = getproxies_environment()
    found = proxies.get(parts.scheme) or proxies.get("all")
    if not found or proxy_bypass(parts.netloc, proxies):
        return None
    return URL(found if "://" in found else f"http://{found}")


def is_local(base_url: str) -> bool:
    """Whether a URL leads to this machine; models there cost nothing."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
