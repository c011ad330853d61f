"""One exchange against real sockets whose other end does whatever a server can do wrong."""

import asyncio
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import anyio.lowlevel
import pytest
from tests.rawserver import (
    CHUNKED,
    OK,
    RawServer,
    Script,
    chunked,
    raw_server,
    repeats,
    resets,
    says,
    says_then_waits,
)
from yarl import URL

from greenroom.actors.call import exchange as exchange_module
from greenroom.actors.call.exchange import Answer, ExchangeFailed, exchange
from greenroom.actors.providers import WireRequest
from greenroom.actors.settings import Stalls

REQUEST = WireRequest("/chat/completions", b'{"model":"m"}')
PATIENT = Stalls(first_byte_s=20.0, gap_s=20.0)
LEFT_S = 30.0
DRIP = chunked(b"x")


@asynccontextmanager
async def upstream(script: Script) -> AsyncGenerator[tuple[RawServer, aiohttp.ClientSession]]:
    async with (
        raw_server(script) as server,
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=None)) as session,
    ):
        yield server, session


def url(server: RawServer) -> URL:
    return URL(server.base_url + REQUEST.path)


async def failure(script: Script, stalls: Stalls = PATIENT, left_s: float = LEFT_S) -> ExchangeFailed:
    """How the exchange failed. A connection that served a failure must be closed, never used again."""
    async with upstream(script) as (server, session):
        with pytest.raises(ExchangeFailed) as failed:
            await exchange(session, url(server), REQUEST, stalls, left_s)
        await asyncio.wait_for(server.closed.wait(), 10)
    return failed.value


@pytest.mark.parametrize(
    ("script", "status", "body"),
    [
        (says(OK + b"Content-Length: 5\r\n\r\nhello"), 200, b"hello"),
        (says(OK + b"Content-Length: 5\r\n\r\n", b"he", b"llo"), 200, b"hello"),
        (says(OK + b"Content-Length: 0\r\n\r\n"), 200, b""),
        (says(CHUNKED, b"2\r\nhe\r\n", b"3\r\nllo\r\n", b"0\r\n\r\n"), 200, b"hello"),
        (says(OK + b"\r\n", b"hel", b"lo", then_close=True), 200, b"hello"),
        (says(b"HTTP/1.1 204 No Content\r\n\r\n"), 204, b""),
        (says(b"HTTP/1.1 503 Busy\r\nContent-Length: 2\r\n\r\nno"), 503, b"no"),
        (says(b"HTTP/1.1 302 Found\r\nLocation: /login\r\nContent-Length: 0\r\n\r\n"), 302, b""),
        (says(b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"Content-Length: 2\r\n\r\nok"), 200, b"ok"),
    ],
    ids=[
        "whole",
        "in pieces",
        "empty",
        "chunked",
        "until EOF",
        "204",
        "503",
        "302 not followed",
        "100 first",
    ],
)
async def test_whole_answers(script: Script, status: int, body: bytes) -> None:
    async with upstream(script) as (server, session):
        answer = await exchange(session, url(server), REQUEST, PATIENT, LEFT_S)
    assert (answer.status, answer.body) == (status, body)
    assert [turn.body for turn in server.turns] == [REQUEST.body]


async def test_headers_are_found_in_any_case() -> None:
    async with upstream(says(OK + b"x-REQUEST-id: r1\r\nContent-Length: 0\r\n\r\n")) as (server, session):
        answer = await exchange(session, url(server), REQUEST, PATIENT, LEFT_S)
    assert answer.headers.get("X-Request-Id") == "r1"


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (says(b"", then_close=True), "connection"),
        (resets, "connection"),
        (says(OK + b"Content-Length: 9\r\n\r\nhello", then_close=True), "connection"),
        (says(CHUNKED + b"5\r\nhel", then_close=True), "connection"),
        (says(CHUNKED + b"5\r\nhello\r\n", then_close=True), "connection"),
        (says_then_waits(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), "protocol"),
        (says_then_waits(b"HTTP/1.1 two hundred\r\n\r\n"), "protocol"),
        (says_then_waits(OK + b"Content-Length: 9\r\nContent-Length: 5\r\n\r\nhello"), "protocol"),
    ],
    ids=["closes", "resets", "cut", "chunk cut", "no last chunk", "no HTTP", "bad status", "two lengths"],
)
async def test_answers_that_are_none(script: Script, kind: str) -> None:
    failed = await failure(script)
    assert (failed.kind, failed.sent) == (kind, True)
    assert str(failed)


@pytest.mark.parametrize(
    ("script", "stalls", "left_s", "kind", "message"),
    [
        (says_then_waits(b""), Stalls(first_byte_s=0.05), LEFT_S, "timeout", "within 0.05 s"),
        (says_then_waits(b"HTTP/1.1 2"), Stalls(first_byte_s=0.05), LEFT_S, "timeout", "within 0.05 s"),
        (says_then_waits(CHUNKED, b"1\r\nx\r\n"), Stalls(gap_s=0.05), LEFT_S, "stalled", "0.05 s in mid"),
        (says_then_waits(CHUNKED), Stalls(gap_s=0.05), LEFT_S, "stalled", "0.05 s in mid"),
        (says_then_waits(b""), PATIENT, 0.05, "timeout", "left for the call"),
        (says_then_waits(CHUNKED, b"1\r\nx\r\n"), PATIENT, 0.05, "timeout", "left for the call"),
        (repeats(CHUNKED, DRIP), PATIENT, 0.05, "timeout", "left for the call"),
    ],
    ids=["silent", "half a head", "mid-body", "after the head", "call over", "over in mid-body", "drips"],
)
async def test_every_silence_is_bounded(
    script: Script, stalls: Stalls, left_s: float, kind: str, message: str
) -> None:
    failed = await failure(script, stalls, left_s)
    assert (failed.kind, failed.sent) == (kind, True)
    assert message in str(failed)


async def test_a_slow_body_that_keeps_coming_outlives_the_gap() -> None:
    async with upstream(repeats(CHUNKED, DRIP, until_s=1.5, last=b"0\r\n\r\n")) as (server, session):
        answer = await exchange(session, url(server), REQUEST, Stalls(first_byte_s=1.0, gap_s=1.0), LEFT_S)
    assert answer.status == 200
    assert set(answer.body) == {ord("x")}


async def test_an_endless_body_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange_module, "_MAX_BODY_BYTES", 1000)
    failed = await failure(repeats(CHUNKED, DRIP))
    assert failed.kind == "protocol"
    assert "larger than 1000 bytes" in str(failed)


async def test_nobody_listens_so_nothing_was_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with aiohttp.ClientSession() as session:
        with pytest.raises(ExchangeFailed) as failed:
            await exchange(session, URL(f"http://127.0.0.1:{port}/v1"), REQUEST, PATIENT, LEFT_S)
    assert (failed.value.kind, failed.value.sent) == ("connection", False)
    assert str(failed.value).startswith(f"nobody answers at 127.0.0.1:{port}: ")


async def test_a_good_answer_gives_its_connection_back() -> None:
    async with upstream(says(OK + b"Content-Length: 2\r\n\r\nok")) as (server, session):
        answers = [await exchange(session, url(server), REQUEST, PATIENT, LEFT_S) for _ in range(3)]
    assert [answer.body for answer in answers] == [b"ok"] * 3
    assert server.connections == 1


@pytest.mark.parametrize("said", [b"", CHUNKED + b"1\r\nx\r\n"], ids=["before the answer", "in mid-body"])
async def test_cancelling_closes_the_connection(said: bytes) -> None:
    async with upstream(says_then_waits(said)) as (server, session):
        task = asyncio.create_task(exchange(session, url(server), REQUEST, PATIENT, LEFT_S))
        await server.asked.wait()
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.wait_for(server.closed.wait(), 10)


async def test_after_a_failure_the_next_request_has_a_connection_of_its_own() -> None:
    async with upstream(says_then_waits(CHUNKED)) as (server, session):
        with pytest.raises(ExchangeFailed, match="silent"):
            await exchange(session, url(server), REQUEST, Stalls(gap_s=0.05), LEFT_S)
        server.script = says(OK + b"Content-Length: 2\r\n\r\nok")
        answer: Answer = await exchange(session, url(server), REQUEST, PATIENT, LEFT_S)
    assert answer.body == b"ok"
    assert server.connections == 2


@pytest.mark.parametrize("closed", [1, 9, 10])
async def test_a_kept_connection_that_turns_out_to_be_closed_is_no_attempt(
    monkeypatch: pytest.MonkeyPatch, closed: int
) -> None:
    """As llama.cpp's server makes them, which the tests against it meet. When nothing was sent, nothing is charged."""
    tried = 0

    async with upstream(says(OK + b"Content-Length: 2\r\n\r\nok")) as (server, session):
        real = session.request

        async def request(method: str, url: URL, **options: Any) -> aiohttp.ClientResponse:
            nonlocal tried
            tried += 1
            if tried <= closed:
                reason = aiohttp.ClientConnectionResetError("Cannot write to closing transport")
                raise aiohttp.ClientOSError(None, f"Can not write request body for {url}") from reason
            return await real(method, url, **options)

        monkeypatch.setattr(session, "request", request)
        if closed < 10:
            answer = await exchange(session, url(server), REQUEST, PATIENT, LEFT_S)
            assert (answer.body, tried) == (b"ok", closed + 1)
        else:
            with pytest.raises(ExchangeFailed) as failed:
                await exchange(session, url(server), REQUEST, PATIENT, LEFT_S)
            assert (failed.value.kind, failed.value.sent, tried) == ("connection", False, 10)


async def test_what_may_have_been_written_is_not_sent_again(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = 0

    async def request(method: str, url: URL, **options: Any) -> aiohttp.ClientResponse:
        nonlocal tried
        tried += 1
        raise aiohttp.ClientOSError(None, "no") from aiohttp.ClientConnectionResetError("Connection lost")

    async with aiohttp.ClientSession() as session:
        monkeypatch.setattr(session, "request", request)
        with pytest.raises(ExchangeFailed) as failed:
            await exchange(session, URL("http://127.0.0.1:1/"), REQUEST, PATIENT, LEFT_S)
    assert (failed.value.sent, tried) == (True, 1)
