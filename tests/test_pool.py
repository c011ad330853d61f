"""A pool keeps its connections and leases through its own restarts, counts what came of its calls, and minds the breaker."""

import asyncio
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from tests.rawserver import OK, raw_server, says, says_then_waits

from greenroom.actors.events import Event
from greenroom.actors.kernel import ActorRef, ActorSystem, FakeClock
from greenroom.actors.pool import CircuitOpen, GetPoolStatus, Lease, Outcome, Pool, PoolStatus, Sockets, Warm
from greenroom.actors.pool.breaker import Breaker
from greenroom.actors.settings import ProviderSettings, Secret, Stalls

SETTINGS = ProviderSettings(base_url="http://127.0.0.1:9/v1/")
ANSWER = OK + b"Content-Length: 2\r\n\r\n{}"


class House:
    """A pool over a clock of its own, and what outlives it."""

    def __init__(self, settings: ProviderSettings = SETTINGS, key: Secret | None = None) -> None:
        self.clock = FakeClock()
        self.events: list[Event] = []
        breaker = Breaker("acme", settings.breaker, self.clock.monotonic, self.events.append)
        self.sockets = Sockets(settings, key, breaker)


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House(key=Secret("sk-test"))
    yield made
    await made.sockets.aclose()


@pytest.fixture
async def system(house: House) -> AsyncIterator[ActorSystem]:
    async with ActorSystem(clock=house.clock) as opened:
        yield opened


async def status(pool: ActorRef) -> PoolStatus:
    return await pool.call(GetPoolStatus())


async def test_leases_share_one_session_and_outlive_the_pool(system: ActorSystem, house: House) -> None:
    first = await system.start(Pool, "acme", house.sockets)
    one, two = await first.call(Lease(1)), await first.call(Lease(2))
    assert one.session is two.session
    system.kill(first)
    second = await system.start(Pool, "acme", house.sockets)
    assert not one.session.closed
    assert (await second.call(Lease(1))).session is one.session
    assert (await status(second)).leases == 2
    second.cast(Outcome(1, "ok", 1.0))
    assert (await status(second)).leases == 1


async def test_outcomes_are_counted_and_only_good_answers_make_the_latency(
    system: ActorSystem, house: House
) -> None:
    pool = await system.start(Pool, "acme", house.sockets)
    for ticket, (outcome, duration_s) in enumerate([("ok", 2.0), ("server", 90.0), ("ok", 3.0)]):
        await pool.call(Lease(ticket))
        pool.cast(Outcome(ticket, outcome, duration_s))
    told = await status(pool)
    assert (told.provider, told.outcomes) == ("acme", {"ok": 2, "server": 1})
    assert told.latency_s == pytest.approx(2.1)


async def test_what_was_given_back_counts_once(system: ActorSystem, house: House) -> None:
    pool = await system.start(Pool, "acme", house.sockets)
    await pool.call(Lease(1))
    house.sockets.give_back(1, "server", 1.0)
    pool.cast(Outcome(1, "server", 1.0))
    assert (await status(pool)).outcomes == {"server": 1}
    assert (await status(pool)).failures == 1


async def test_a_session_carries_the_key_and_is_closed_with_its_sockets(house: House) -> None:
    session = house.sockets.open()
    assert session.headers["Authorization"] == "Bearer sk-test"
    assert str(house.sockets.url("/chat/completions")) == "http://127.0.0.1:9/v1/chat/completions"
    await house.sockets.aclose()
    assert session.closed
    assert house.sockets.open() is not session


async def test_an_open_breaker_refuses_at_once_and_lets_one_probe_through(
    system: ActorSystem, house: House
) -> None:
    pool = await system.start(Pool, "acme", house.sockets)
    for ticket in range(10):
        await pool.call(Lease(ticket))
        house.sockets.give_back(ticket, "server", 1.0)
    with pytest.raises(CircuitOpen) as refused:
        await pool.call(Lease(10))
    assert refused.value.retry_after_s == 5.0
    assert (await status(pool)).breaker == "open"
    await house.clock.advance(5.0)
    await pool.call(Lease(11))
    with pytest.raises(CircuitOpen, match=r"acme is left alone for 1\.0 s"):
        await pool.call(Lease(12))
    assert (await pool.call(Lease(11))).session is house.sockets.open(), "asked twice, it is one probe"
    house.sockets.give_back(11, "ok", 1.0)
    await pool.call(Lease(13))
    assert (await status(pool)).breaker == "closed"
    assert (await status(pool)).leases == 1


async def test_a_breaker_outlives_its_pool(system: ActorSystem, house: House) -> None:
    pool = await system.start(Pool, "acme", house.sockets)
    for ticket in range(10):
        await pool.call(Lease(ticket))
        house.sockets.give_back(ticket, "server", 1.0)
    system.kill(pool)
    pool = await system.start(Pool, "acme", house.sockets)
    with pytest.raises(CircuitOpen):
        await pool.call(Lease(10))


async def test_connections_are_tuned_for_long_silences() -> None:
    async with raw_server(says_then_waits(OK + b"Content-Length: 2\r\n\r\n")) as server:
        sockets = House(ProviderSettings(base_url=server.base_url)).sockets
        try:
            async with sockets.open().post(sockets.url("/x"), data=b"{}") as response:
                assert response.connection is not None
                assert response.connection.transport is not None
                made: socket.socket = response.connection.transport.get_extra_info("socket")
                assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
        finally:
            await sockets.aclose()


async def test_a_connection_serves_one_call_after_another() -> None:
    async with raw_server(says(ANSWER)) as server:
        sockets = House(ProviderSettings(base_url=server.base_url)).sockets
        try:
            for _ in range(3):
                async with sockets.open().post(sockets.url("/x"), data=b"{}") as response:
                    await response.read()
            assert sockets.connections == server.connections == 1
        finally:
            await sockets.aclose()


async def test_warm_connections_are_open_before_the_first_call(system: ActorSystem) -> None:
    async with raw_server(says(ANSWER)) as server:
        house = House(ProviderSettings(base_url=server.base_url, warm_connections=3))
        try:
            await house.sockets.warm()
            assert house.sockets.connections == 3
            assert not server.turns, "nothing was asked"

            async def ask() -> None:
                async with house.sockets.open().post(house.sockets.url("/x"), data=b"{}") as response:
                    await response.read()

            await asyncio.gather(*(ask() for _ in range(3)))
            assert house.sockets.connections == server.connections == 3
        finally:
            await house.sockets.aclose()


async def test_a_pool_warms_its_connections_and_leases_though_nobody_answers(system: ActorSystem) -> None:
    async with raw_server(says(ANSWER)) as server:
        there = House(ProviderSettings(base_url=server.base_url, warm_connections=2))
        pool = await system.start(Pool, "acme", there.sockets)
        pool.cast(Warm())
        await pool.call(Lease(1))
        while server.connections < 2:  # noqa: ASYNC110 - the server has no event for it
            await asyncio.sleep(0)
        await there.sockets.aclose()
    nobody = House(ProviderSettings(base_url=server.base_url, warm_connections=2))
    pool = await system.start(Pool, "acme", nobody.sockets)
    await nobody.sockets.warm()
    await pool.call(Lease(1))
    assert (await status(pool)).failures == 0, "what was not asked has not failed"
    await nobody.sockets.aclose()


async def test_a_name_that_nobody_resolves_ends_with_the_time_to_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    sockets = House(
        ProviderSettings(base_url="http://slow.example/v1", stalls=Stalls(connect_s=0.01), trust_env=False)
    ).sockets
    try:
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await sockets.open().get(sockets.url("/models"))
    finally:
        await sockets.aclose()
