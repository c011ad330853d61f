"""A ledger over a real store and a real file, and what a crash at this moment would be charged."""

import asyncio
import itertools
import sqlite3
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import anyio.to_thread

from greenroom.actors.events import Event, Usage
from greenroom.actors.kernel import ActorExited, ActorRef, ActorSystem, Clock, handles
from greenroom.actors.ledger import (
    Account,
    Budget,
    Budgets,
    GetSpend,
    Held,
    Hold,
    Ledger,
    Outbox,
    Scope,
    Settle,
    Spend,
)
from greenroom.actors.storage import TICKET_BITS, Database, Saved, StorageFailed, Store
from greenroom.supervisors import ChildSpec, Supervisor

NOON_MS = 1_800_014_400_000
"""2027-01-15 12:00 UTC."""


def capped(cap_pusd: int, *, job_id: str = "j", scope: Scope = "job") -> Account:
    return Account(job_id=job_id, budgets=(Budget(scope, cap_pusd),))


class WatchedLedger(Ledger):
    """Notes which saves failed, once it has taken that in."""

    def __init__(self, failed_saves: list[StorageFailed], *args: Any) -> None:
        super().__init__(*args)
        self._failed_saves = failed_saves

    @handles
    def saved(self, message: Saved) -> None:
        super().saved(message)
        if message.error is not None:
            self._failed_saves.append(message.error)


class House:
    """One runtime's ledger. Calls are played by the tests: they hold and settle as a flow does."""

    def __init__(self, system: ActorSystem, database: Database, budgets: Budgets) -> None:
        self.system = system
        self.path = database.path or Path()
        self.events: list[Event] = []
        self.failed_saves: list[StorageFailed] = []
        self.now_ms = NOON_MS
        self.outbox = Outbox()
        self._database = database
        self._budgets = budgets
        self._tickets = itertools.count(database.runtime_id << TICKET_BITS | 1)

    @property
    def ledger(self) -> ActorRef:
        return self.system.named("ledger")

    async def start(self) -> None:
        def now_ms() -> int:
            return self.now_ms

        store = self.system.named("store")
        ledger = (store, self.outbox, self._database.runtime_id, now_ms, self.events.append)
        args = (self.failed_saves, *ledger, self._budgets.bind)
        children = [
            ChildSpec("store", Store, args=(self._database,), name="store"),
            ChildSpec("ledger", WatchedLedger, args=args, name="ledger"),
        ]
        await self.system.start(Supervisor, children, intensity=1000, period=5.0, name="root")

    def a_hold(self, bound_pusd: int, account: Account, *, wait: bool = False) -> Hold:
        ticket = next(self._tickets)
        return Hold(
            ticket=ticket,
            call_id=ticket,
            number=1,
            provider="acme",
            model="fast",
            bound_pusd=bound_pusd,
            account=account,
            started_at_ms=self.now_ms,
            wait=wait,
        )

    async def hold(
        self,
        bound_pusd: int,
        account: Account = Account(),  # noqa: B008 - frozen
        *,
        wait: bool = False,
    ) -> Hold:
        """Ask for money, and have it."""
        hold = self.a_hold(bound_pusd, account, wait=wait)
        assert await self.ask(hold) == Held(hold.ticket)
        return hold

    async def ask(self, hold: Hold) -> Held:
        return await self.ledger.call(hold, timeout=30.0)

    def settle(self, hold: Hold, cost_pusd: int, outcome: str = "ok") -> None:
        self.outbox.settle(
            Settle(
                hold=hold,
                outcome=outcome,
                cost_pusd=cost_pusd,
                usage=Usage(1, 1),
                estimated=False,
                settled_at_ms=self.now_ms,
            )
        )

    async def spend(self) -> Spend:
        while True:
            try:
                return await self.ledger.call(GetSpend(), timeout=30.0)
            except ActorExited:
                await asyncio.sleep(0)

    async def until(self, happened: Callable[[Spend], object]) -> Spend:
        while not happened(now := await self.spend()):  # noqa: ASYNC110 - the ledger has no event for it
            await asyncio.sleep(0)
        return now

    async def all_saved(self) -> Spend:
        return await self.until(lambda spend: not spend.unsaved)

    def kill(self, name: str = "ledger") -> None:
        self.system.kill(self.system.named(name))

    async def after_a_crash(self) -> int:
        """What the next runtime would charge, were this process killed now."""
        return await anyio.to_thread.run_sync(charged_after_a_crash, self.path)


def charged_after_a_crash(path: Path) -> int:
    """Read with no code of ours: settled rows at their cost, held ones at their bound, slices whole."""
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")  # one snapshot for both tables
        rows = connection.execute(
            "SELECT COALESCE(SUM(CASE state WHEN 'held' THEN held_pusd ELSE cost_pusd END), 0) FROM attempts"
        ).fetchone()[0]
        slices = connection.execute("SELECT COALESCE(SUM(reserved_pusd), 0) FROM slices").fetchone()[0]
    return int(rows) + int(slices)


@asynccontextmanager
async def house(
    folder: Path,
    budgets: Budgets = Budgets(),  # noqa: B008 - never changes
    clock: Clock | None = None,
) -> AsyncGenerator[House]:
    database = Database(f"sqlite:///{folder / 'greenroom.db'}", app_version="test")
    await anyio.to_thread.run_sync(database.open)
    try:
        async with ActorSystem(clock=clock) as system:
            found = House(system, database, budgets)
            await found.start()
            yield found
            await found.outbox.wait_empty()
    finally:
        await anyio.to_thread.run_sync(database.close)
