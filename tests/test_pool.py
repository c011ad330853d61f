"""A pool keeps its connections and leases through its own restarts, and counts what came of its calls."""

import asyncio
from collections.abc import AsyncIterator

import aiohttp
import pytest

from greenroom.actors.kernel import ActorRef, ActorSystem
from greenroom.actors.pool import GetPoolStatus, Lease, Outcome, Pool, PoolStatus, Sockets
from greenroom.actors.settings import ProviderSettings, Secret, Stalls

SETTINGS = ProviderSettings(base_url="http://127.0.0.1:9/v1/")


@pytest.fixture
async def sockets() -> AsyncIterator[Sockets]:
    made = Sockets(SETTINGS, Secret("sk-test"))
    yield made
    await made.aclose()


@pytest.fixture
async def system() -> AsyncIterator[ActorSystem]:
    async with ActorSystem() as opened:
        yield opened


async def status(pool: ActorRef) -> PoolStatus:
    return await pool.call(GetPoolStatus())


async def test_leases_share_one_session_and_outlive_the_pool(system: ActorSystem, sockets: Sockets) -> None:
    first = await system.start(Pool, "acme", sockets)
    one, two = await first.call(Lease(1)), await first.call(Lease(2))
    assert one.session is two.session
    system.kill(first)
    second = await system.start(Pool, "acme", sockets)
    assert not one.session.closed
    assert (await second.call(Lease(1))).session is one.session
    assert (await status(second)).leases == 2
    second.cast(Outcome(1, "ok", 1.0))
    assert (await status(second)).leases == 1


async def test_outcomes_are_counted_and_only_good_answers_make_the_latency(
    system: ActorSystem, sockets: Sockets
) -> None:
    pool = await system.start(Pool, "acme", sockets)
    for ticket, (outcome, duration_s) in enumerate([("ok", 2.0), ("server", 90.0), ("ok", 3.0)]):
        pool.cast(Outcome(ticket, outcome, duration_s))
    told = await status(pool)
    assert (told.provider, told.outcomes) == ("acme", {"ok": 2, "server": 1})
    assert told.latency_s == pytest.approx(2.1)


async def test_a_session_carries_the_key_and_is_closed_with_its_sockets(sockets: Sockets) -> None:
    session = sockets.open()
    assert session.headers["Authorization"] == "Bearer sk-test"
    assert str(sockets.url("/chat/completions")) == "http://127.0.0.1:9/v1/chat/completions"
    await sockets.aclose()
    assert session.closed
    assert sockets.open() is not session


async def test_a_name_that_nobody_resolves_ends_with_the_time_to_connect(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", never)
    slow = ProviderSettings(base_url="http://slow.example/v1", stalls=Stalls(connect_s=0.01))
    sockets = Sockets(slow, None)
    try:
        with pytest.raises(aiohttp.ConnectionTimeoutError):
            await sockets.open().get(sockets.url("/models"))
    finally:
        await sockets.aclose()
