"""The price table is renewed once a day, and a refresh that fails changes nothing."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.prices.host import TABLE, Host

from greenroom.actors.kernel import Actor, ActorSystem, FakeClock, handles
from greenroom.actors.prices import PriceTable
from greenroom.actors.prices.keeper import PriceKeeper, UsePrices
from greenroom.actors.prices.refresh import DAY_S

pytestmark = pytest.mark.anyio


class Catalogue(Actor):
    """Somebody who is handed tables."""

    def __init__(self, tables: "asyncio.Queue[PriceTable]") -> None:
        self._tables = tables

    @handles
    def use(self, message: UsePrices) -> None:
        self._tables.put_nowait(message.table)


class Stage:
    """A keeper with its catalogue, a clock that the test turns, and a table whose age the test says.

    `looked_s` is when the keeper looked how old the table is, by that clock.
    """

    def __init__(self, system: ActorSystem, clock: FakeClock, ages_s: "list[float | None]") -> None:
        self.system, self.clock = system, clock
        self.tables: asyncio.Queue[PriceTable] = asyncio.Queue()
        self.looked_s: list[float] = []
        self._ages_s = ages_s

    def age_s(self, folder: Path) -> float | None:
        self.looked_s.append(self.clock.monotonic())
        return self._ages_s[min(len(self.looked_s), len(self._ages_s)) - 1]

    async def keep(self, folder: Path, url: str) -> None:
        await self.system.start(Catalogue, self.tables, name="catalog")
        await self.system.start(PriceKeeper, self.system.named("catalog"), folder, url)

    async def turn_until(self, happened: Callable[[], bool]) -> None:
        """Turn the clock, with threads and sockets in between, until something has happened."""
        while not happened():
            await self.clock.advance(60.0)
            await asyncio.sleep(0)


@pytest.fixture
async def staged(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Callable[..., Stage]]:
    clock = FakeClock()
    async with ActorSystem(clock=clock) as system:

        def stage(*ages_s: float | None) -> Stage:
            made = Stage(system, clock, list(ages_s))
            monkeypatch.setattr("greenroom.actors.prices.keeper.refreshed_s_ago", made.age_s)
            return made

        yield stage


async def test_a_table_is_fetched_at_once_and_again_when_it_is_a_day_old(
    staged: Callable[..., Stage], host: Host, tmp_path: Path
) -> None:
    stage = staged(None, DAY_S)
    await stage.keep(tmp_path, host.url)
    await stage.turn_until(lambda: not stage.tables.empty())
    assert stage.tables.get_nowait().price("acme", "m", {}) is not None
    host.body = TABLE.replace(b'"equals": "m"', b'"equals": "o"')
    await stage.turn_until(lambda: not stage.tables.empty())
    newer = stage.tables.get_nowait()
    assert newer.price("acme", "m", {}) is None
    assert newer.price("acme", "o", {}) is not None
    first_s, second_s = stage.looked_s
    assert second_s - first_s >= DAY_S


async def test_a_young_table_is_left_until_it_is_a_day_old(
    staged: Callable[..., Stage], host: Host, tmp_path: Path
) -> None:
    stage = staged(DAY_S - 600, DAY_S)
    await stage.keep(tmp_path, host.url)
    await stage.turn_until(lambda: len(stage.looked_s) == 2)
    assert stage.looked_s[1] - stage.looked_s[0] >= 600
    await stage.turn_until(lambda: not stage.tables.empty())
    assert host.asked == 1


async def test_what_fails_is_tried_again_in_an_hour(
    staged: Callable[..., Stage], host: Host, tmp_path: Path
) -> None:
    stage = staged(None)
    host.status = 503
    await stage.keep(tmp_path, host.url)
    await stage.turn_until(lambda: host.asked == 1)
    host.status = 200
    await stage.turn_until(lambda: not stage.tables.empty())
    assert stage.looked_s[1] - stage.looked_s[0] >= 3600
    assert host.asked == len(stage.looked_s) == 2
