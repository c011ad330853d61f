"""A thousand callers race for budgets, the ledger and the store die under them, and at any moment a crash is paid for."""

import asyncio
import random
from pathlib import Path

import pytest
from msgspec import Struct
from tests.ledger.house import House, house

from greenroom.actors.kernel import Refused
from greenroom.actors.ledger import Account, Budget, BudgetExceeded, Budgets
from greenroom.actors.settings import BudgetSettings

pytestmark = pytest.mark.anyio

TOTAL_PUSD = 40_000
JOB_PUSD = 12_000


class Tally(Struct):
    """What the callers know: the model that the ledger is held to."""

    open_pusd: int = 0
    settled_pusd: int = 0
    granted: int = 0
    refused: int = 0
    gave_up: int = 0

    @property
    def total_pusd(self) -> int:
        return self.open_pusd + self.settled_pusd


class Race:
    def __init__(self, one: House, seed: int) -> None:
        self.one = one
        self.dice = random.Random(seed)
        self.all = Tally()
        self.least_pusd = 0
        self.jobs = {name: Tally() for name in ("a", "b", "c", None)}

    def check(self) -> None:
        assert self.all.total_pusd <= TOTAL_PUSD
        assert all(tally.total_pusd <= JOB_PUSD for name, tally in self.jobs.items() if name)

    async def caller(self) -> None:
        dice, one = self.dice, self.one
        job = dice.choice(list(self.jobs))
        tallies = (self.all, self.jobs[job])
        account = Account(job_id=job, budgets=(Budget("job", JOB_PUSD),) if job else ())
        bound_pusd = dice.choice((0, 1, 10, 100, 400))
        hold = one.a_hold(bound_pusd, account, wait=dice.random() < 0.7)
        asking = asyncio.ensure_future(one.ask(hold))
        if dice.random() < 0.1:
            for _ in range(dice.randint(0, 20)):
                await asyncio.sleep(0)
            if not asking.done():
                asking.cancel()
        try:
            await asking
        except asyncio.CancelledError:
            one.settle(hold, 0, "cancelled")
            self.all.gave_up += 1
            return
        except BudgetExceeded:
            self.all.refused += 1
            return
        for tally in tallies:
            tally.open_pusd += bound_pusd
        self.all.granted += 1
        self.check()
        for _ in range(dice.randint(0, 30)):
            await asyncio.sleep(0)
        cost_pusd = dice.randint(0, bound_pusd)
        for tally in tallies:
            tally.open_pusd -= bound_pusd
            tally.settled_pusd += cost_pusd
        self.least_pusd = min(self.least_pusd, self.all.total_pusd)
        one.settle(hold, cost_pusd)

    async def crashes(self, over: asyncio.Event) -> int:
        """Read the file as the next runtime would after a crash now: all that was granted is there, within the cap."""
        count = 0
        while not over.is_set():
            self.least_pusd = self.all.total_pusd
            charged_pusd = await self.one.after_a_crash()
            # Of what was granted and settled while the file was read, it may hold any part.
            assert charged_pusd >= self.least_pusd
            assert charged_pusd <= TOTAL_PUSD
            count += 1
        return count

    async def deaths(self, over: asyncio.Event, victims: tuple[str, ...]) -> None:
        strikes = 0
        while victims and not over.is_set():
            for _ in range(self.dice.randint(50, 500)):
                await asyncio.sleep(0)
            self.one.kill(self.dice.choice(victims))
            strikes += 1
            if not strikes % 2:
                # Else a ledger whose disk takes longer than so many turns would never get to anything.
                await self.one.spend()


VICTIMS = [(), ("ledger",), ("store",), ("ledger", "store")]


@pytest.mark.parametrize("victims", VICTIMS)
async def test_a_thousand_racers(tmp_path: Path, victims: tuple[str, ...]) -> None:
    await race_of_a_thousand(tmp_path, 1, victims)


@pytest.mark.soak
@pytest.mark.parametrize("victims", VICTIMS)
@pytest.mark.parametrize("seed", range(2, 52))
async def test_fifty_races_of_a_thousand(tmp_path: Path, seed: int, victims: tuple[str, ...]) -> None:
    await race_of_a_thousand(tmp_path, seed, victims)


async def race_of_a_thousand(tmp_path: Path, seed: int, victims: tuple[str, ...]) -> None:
    budgets = Budgets(BudgetSettings(total_usd=f"{TOTAL_PUSD / 10**12:.12f}"))
    async with house(tmp_path, budgets) as one:
        race, over = Race(one, seed), asyncio.Event()
        crashing = asyncio.create_task(race.crashes(over))
        dying = asyncio.create_task(race.deaths(over, victims))
        await asyncio.gather(*(race.caller() for _ in range(1000)))
        over.set()
        await dying
        assert await crashing > 3
        spend = await one.all_saved()
        assert (spend.settled_pusd, spend.open_holds, spend.waiting) == (race.all.settled_pusd, 0, 0)
        assert race.all.granted > 100
        assert race.all.refused > 0
        # Nothing is open any more, so what is left can be had, to the last pico-dollar.
        left_pusd = TOTAL_PUSD - race.all.settled_pusd
        one.settle(await one.hold(left_pusd), 0)
        with pytest.raises(Refused):
            await one.hold(left_pusd + 1)
    async with house(tmp_path) as one:
        assert await one.after_a_crash() == race.all.settled_pusd
