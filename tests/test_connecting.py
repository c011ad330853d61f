"""Connections through proxies, and to servers that a certificate authority of one's own vouches for. Real sockets.

`certificates/` holds an authority made for these tests, valid until 2126, and a server's certificate for `models.test`
with its key; the authority's own key was thrown away.
"""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from msgspec import Struct, field
from tests.inside import tree, until
from tests.rawserver import OK, RawServer, raw_server, says
from yarl import URL

from greenroom.actors.events import ProviderFailed
from greenroom.actors.pool.connecting import CertificatesUnusable, proxy_for, trusting
from greenroom.actors.settings import ProviderSettings, Retries, Settings, StorageSettings
from greenroom.runtime import Runtime
from greenroom.runtime.config import ConfigError, load_settings
from greenroom.runtime.discovery import probe

CERTIFICATES = Path(__file__).parent / "certificates"
CA = str(CERTIFICATES / "ca.pem")
BODY = (
    b'{"id":"c1","object":"chat.completion","created":1,"model":"fast","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)
ANSWER = OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY


class Proxy(Struct):
    """A proxy that leads everybody to one server, whatever host they name."""

    to_port: int
    heads: list[bytes] = field(default_factory=list[bytes])
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        there, to_there = await asyncio.open_connection("127.0.0.1", self.to_port)
        if head.startswith(b"CONNECT "):
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            to_there.write(head)
        await asyncio.wait(
            [asyncio.create_task(copy(reader, to_there)), asyncio.create_task(copy(there, writer))]
        )


async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def proxy(base_url: str) -> AsyncGenerator[Proxy]:
    made = Proxy(int(urlsplit(base_url).port or 0))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def tls_server() -> AsyncGenerator[RawServer]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    made = RawServer(says(ANSWER))
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0, ssl=context)
    made.base_url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1"
    try:
        yield made
    finally:
        server.close()
        await server.wait_closed()


@asynccontextmanager
async def runtime(tmp_path: Path, **provider: object) -> AsyncGenerator[Runtime]:
    settings = Settings(
        providers={"acme": ProviderSettings(free=True, **provider)},  # type: ignore[arg-type]
        storage=StorageSettings(url=f"sqlite:///{tmp_path / 'greenroom.db'}"),
        retries=Retries(attempts=1),
    )
    async with Runtime(settings, environ={}) as rt:
        yield rt


async def test_a_server_that_an_own_authority_vouches_for(tmp_path: Path) -> None:
    async with tls_server() as server, runtime(tmp_path, base_url=server.base_url, ca_file=CA) as rt:
        assert (await rt.chat("acme/fast", "hi")).text == "hi"


async def test_without_the_authority_it_is_not_trusted(tmp_path: Path) -> None:
    async with tls_server() as server, runtime(tmp_path, base_url=server.base_url) as rt:
        with pytest.raises(ProviderFailed, match="certificate verify failed") as caught:
            await rt.chat("acme/fast", "hi")
    assert caught.value.error.kind == "connection"
    assert not server.turns


async def test_a_proxy_is_gone_through_and_cannot_look_inside(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(tls_server())
        through = await stack.enter_async_context(proxy(server.base_url))
        rt = await stack.enter_async_context(
            runtime(tmp_path, base_url="https://models.test/v1", ca_file=CA, proxy=through.url)
        )
        for _ in range(3):
            assert (await rt.chat("acme/fast", "hi")).text == "hi"
        assert [head.split(b"\r\n")[0] for head in through.heads] == [b"CONNECT models.test:443 HTTP/1.1"]


async def test_a_plain_request_is_handed_to_the_proxy(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(raw_server(says(ANSWER)))
        through = await stack.enter_async_context(proxy(server.base_url))
        rt = await stack.enter_async_context(
            runtime(tmp_path, base_url="http://models.test/v1", proxy=through.url)
        )
        assert (await rt.chat("acme/fast", "hi")).text == "hi"
        assert through.heads[0].startswith(b"POST http://models.test/v1/chat/completions HTTP/1.1\r\n")


async def test_a_proxy_of_the_environment_may_need_a_password(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(tls_server())
        through = await stack.enter_async_context(proxy(server.base_url))
        monkeypatch.setenv("HTTPS_PROXY", through.url.replace("://", "://someone:secret@"))
        rt = await stack.enter_async_context(runtime(tmp_path, base_url="https://models.test/v1", ca_file=CA))
        assert (await rt.chat("acme/fast", "hi")).text == "hi"
        assert b"\r\nProxy-Authorization: Basic c29tZW9uZTpzZWNyZXQ=\r\n" in through.heads[0]


async def test_connections_are_opened_when_a_provider_is_first_spoken_to(tmp_path: Path) -> None:
    async with (
        raw_server(says(ANSWER)) as server,
        runtime(tmp_path, base_url=server.base_url, warm_connections=3) as rt,
    ):
        await tree(rt).lines.ensure("acme")
        await until(lambda: server.connections == 3)
        assert not server.turns
        assert (await rt.chat("acme/fast", "hi")).text == "hi"


async def test_models_are_listed_by_the_same_way() -> None:
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(tls_server())
        through = await stack.enter_async_context(proxy(server.base_url))
        host = ProviderSettings(base_url="https://models.test/v1", ca_file=CA, proxy=through.url)
        assert (await probe(host, None, timeout_s=30.0)).status == 200
        assert through.heads[0].startswith(b"CONNECT models.test:443")


@pytest.mark.parametrize(
    ("environ", "base_url", "found"),
    [
        ({"HTTPS_PROXY": "http://p:1"}, "https://api.example/v1", "http://p:1"),
        ({"https_proxy": "p:1"}, "https://api.example/v1", "http://p:1"),
        ({"ALL_PROXY": "http://p:1"}, "https://api.example/v1", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "https://api.example/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://api.example/v1", "http://p:1"),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "example"}, "https://api.example/v1", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "*"}, "https://api.example/v1", None),
        ({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "other"}, "https://api.example/v1", "http://p:1"),
        ({"HTTP_PROXY": "http://p:1"}, "http://127.0.0.1:8000/v1", None),
        ({"HTTP_PROXY": "http://p:1"}, "http://localhost:8000/v1", None),
        ({}, "https://api.example/v1", None),
    ],
)
def test_the_proxy_of_the_environment(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], base_url: str, found: str | None
) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert proxy_for(ProviderSettings(base_url=base_url)) == (URL(found) if found else None)
    assert proxy_for(ProviderSettings(base_url=base_url, trust_env=False)) is None
    own = ProviderSettings(base_url=base_url, proxy="http://own:2")
    assert proxy_for(own) == URL("http://own:2"), "what is configured is over the environment"


@pytest.mark.parametrize(
    ("line", "because"),
    [
        ('proxy = "proxy:3128"', r"providers\.acme\.proxy is 'proxy:3128'; it must be like http://"),
        ('proxy = "http://a:b@proxy:1"', r"providers\.acme\.proxy: .* a password goes in HTTPS_PROXY"),
        ('ca_file = "nowhere.pem"', r"providers\.acme\.ca_file nowhere\.pem: .*No such file"),
        ('ca_file = "greenroom.toml"', r"ca_file greenroom\.toml: .* must hold certificates in PEM"),
        ("warm_connections = -1", "warm_connections"),
        ("breaker = { failures = 0 }", "failures"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, because: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "greenroom.toml").write_text(f'[providers.acme]\nbase_url = "http://x/v1"\n{line}\n')
    with pytest.raises(ConfigError, match=because):
        load_settings()


async def test_certificates_that_are_gone_when_they_are_needed_are_told(tmp_path: Path) -> None:
    lost = tmp_path / "lost.pem"
    async with runtime(tmp_path, base_url="https://models.test/v1", ca_file=str(lost)) as rt:
        with pytest.raises(CertificatesUnusable, match=r"lost\.pem"):
            await rt.chat("acme/fast", "hi")


def test_the_systems_certificates_are_trusted_besides() -> None:
    assert len(trusting(CA).get_ca_certs()) == len(ssl.create_default_context().get_ca_certs()) + 1
