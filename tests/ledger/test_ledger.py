"""Budgets as the ledger keeps them: who is granted, who waits, who is refused, and what outlives a restart."""

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from anyio import to_thread
from tests.ledger.house import NOON_MS, House, capped, house

from greenroom.actors.kernel import FakeClock
from greenroom.actors.ledger import Account, Budget, BudgetExceeded, Budgets, Held, accounts
from greenroom.actors.settings import BudgetSettings, Caps
from greenroom.actors.storage import StorageFailed

pytestmark = pytest.mark.anyio
DAY_MS = 86_400_000


async def refused(one: House, bound_pusd: int, account: Account, *, wait: bool = False) -> BudgetExceeded:
    with pytest.raises(BudgetExceeded) as caught:
        await one.hold(bound_pusd, account, wait=wait)
    return caught.value


class TestRoom:
    async def test_up_to_the_cap_and_no_further(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            account = capped(100)
            for _ in range(4):
                await one.hold(25, account)
            error = await refused(one, 1, account)
            assert (error.settled_pusd, error.held_pusd, error.asked_pusd) == (0, 100, 1)
            assert (error.budget, error.whose) == (Budget("job", 100), "j")

    async def test_a_bound_beyond_the_cap_is_refused_at_once_also_to_one_who_would_wait(
        self, tmp_path: Path
    ) -> None:
        async with house(tmp_path) as one:
            await one.hold(60, capped(100))
            assert (await refused(one, 101, capped(100), wait=True)).held_pusd == 60

    async def test_what_costs_nothing_needs_no_room(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            await one.hold(100, capped(100))
            await one.hold(0, capped(100))

    async def test_the_message_says_which_budget_and_what_would_do(self, tmp_path: Path) -> None:
        budgets = Budgets(BudgetSettings(day_usd="0.000000000100"))
        async with house(tmp_path, budgets) as one:
            one.settle(await one.hold(40), 30)
            await one.hold(20)
            text = str(await refused(one, 60, Account()))
        assert "the budget for today (UTC) of $0.0000000001 has no room" in text
        assert "$0.00000000003 settled" in text
        assert "$0.00000000002 held" in text
        assert "raise budgets.day_usd to $0.00000000011" in text

    async def test_several_budgets_bind_at_once(self, tmp_path: Path) -> None:
        settings = BudgetSettings(total_usd="0.000000001000", tags={"red": Caps(total_usd="0.0000000001")})
        async with house(tmp_path, Budgets(settings)) as one:
            red = Account(tag="red")
            await one.hold(100, red)
            assert (await refused(one, 1, red)).budget.scope == "tag"
            await one.hold(900, Account(tag="blue"))
            assert (await refused(one, 1, Account())).budget.scope == "all"

    async def test_what_was_held_and_settled_without_a_budget_counts_once_there_is_one(
        self, tmp_path: Path
    ) -> None:
        async with house(tmp_path) as one:
            free = Account(job_id="j", tag="t")
            one.settle(await one.hold(40, free), 10)
            await one.all_saved()
            second = await one.hold(60, free)
            one.settle(await one.hold(30, free), 20)
            error = await refused(one, 71, capped(100))
            assert error.settled_pusd + error.held_pusd == 10 + 20 + 60
            one.settle(second, 5)
            await one.hold(65, capped(100))
            assert (await refused(one, 1, capped(100))).settled_pusd == 35
            # Others' slices and holds are not the job's.
            await one.hold(100, capped(100, job_id="i"))

    async def test_many_accounts_come_and_go(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(accounts, "_MAX_KEPT", 20)
        async with house(tmp_path, Budgets(BudgetSettings(total_usd="0.000000100000"))) as one:
            for _ in range(3):
                for number in range(40):
                    one.settle(await one.hold(10, capped(30, job_id=f"j{number}")), 10)
            await one.all_saved()
            for number in (0, 17, 39):
                assert (await refused(one, 1, capped(30, job_id=f"j{number}"))).settled_pusd == 30
            one.settle(await one.hold(100_000 - 1200), 0)

    async def test_the_budget_that_is_most_in_the_way_is_named(self, tmp_path: Path) -> None:
        settings = BudgetSettings(total_usd="0.000000001000", day_usd="0.000000000500")
        async with house(tmp_path, Budgets(settings)) as one:
            one.settle(await one.hold(300), 300)
            await one.hold(190)
            # The job has least left, but only the day can never have room for it.
            error = await refused(one, 250, capped(250))
            assert error.budget.period == "day"
            assert (await refused(one, 100, capped(90))).budget.scope == "job"

    async def test_money_left_over_is_free_again_at_once(self, tmp_path: Path) -> None:
        """The settlement may not be on disk yet: who needs its money waits for that, and is not refused."""
        async with house(tmp_path) as one:
            for _ in range(99):
                one.settle(await one.hold(100, capped(100 + 98)), 1)
            one.settle(await one.hold(99, capped(100 + 98)), 0)

    async def test_a_charge_beyond_the_bound_counts(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            one.settle(await one.hold(10, capped(100)), 95)
            assert (await refused(one, 6, capped(100))).settled_pusd == 95
            await one.hold(5, capped(100))


class TestWaiting:
    async def test_who_waits_gets_what_others_leave_over(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            first = await one.hold(80, capped(100))
            waiting = asyncio.create_task(one.hold(50, capped(100), wait=True))
            await one.until(lambda spend: spend.waiting)
            one.settle(first, 50)
            await waiting

    async def test_who_waits_is_refused_when_nothing_is_open_any_more(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            first = await one.hold(80, capped(100))
            waiting = asyncio.create_task(one.hold(50, capped(100), wait=True))
            await one.until(lambda spend: spend.waiting)
            one.settle(first, 51)
            with pytest.raises(BudgetExceeded):
                await waiting

    async def test_in_order_of_arrival_the_small_do_not_overtake(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            done: list[int] = []

            async def ask(bound_pusd: int) -> None:
                hold = await one.hold(bound_pusd, capped(100), wait=True)
                done.append(bound_pusd)
                one.settle(hold, 0)

            first = await one.hold(60, capped(100))
            tasks: list[asyncio.Task[None]] = []
            for bound_pusd in (90, 10, 20, 80):
                tasks.append(asyncio.create_task(ask(bound_pusd)))
                await one.until(lambda spend: spend.waiting == len(tasks))
            one.settle(first, 0)
            await asyncio.gather(*tasks)
            assert done == [90, 10, 20, 80]

    async def test_who_gives_up_waiting_keeps_nobody_waiting(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            first = await one.hold(60, capped(100))
            large = one.a_hold(90, capped(100), wait=True)
            giving_up = asyncio.create_task(one.ask(large))
            await one.until(lambda spend: spend.waiting == 1)
            small = asyncio.create_task(one.hold(40, capped(100), wait=True))
            await one.until(lambda spend: spend.waiting == 2)
            giving_up.cancel()
            one.settle(large, 0, "cancelled")
            await small
            one.settle(first, 0)
            later = await one.hold(60, capped(100), wait=True)
            assert (await one.spend()).waiting == 0
            assert later.ticket > large.ticket

    async def test_one_job_does_not_wait_for_another(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            await one.hold(100, capped(100, job_id="a"))
            stuck = asyncio.create_task(one.hold(50, capped(100, job_id="a"), wait=True))
            await one.until(lambda spend: spend.waiting)
            await one.hold(50, capped(100, job_id="b"), wait=True)
            stuck.cancel()


class TestRestarts:
    async def test_a_new_ledger_knows_what_was_spent_and_held(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            one.settle(await one.hold(40, capped(100)), 30)
            await one.hold(20, capped(100))
            before = await one.all_saved()
            one.kill()
            after = await one.spend()
            assert (after.settled_pusd, after.held_pusd, after.open_holds) == (30, 20, 1)
            assert before.settled_pusd == 30
            error = await refused(one, 51, capped(100))
            assert (error.settled_pusd, error.held_pusd) == (30, 20)
            await one.hold(50, capped(100))

    async def test_settled_while_it_was_dead(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            holds = [await one.hold(10, capped(100)) for _ in range(10)]
            one.kill()
            for hold in holds:
                one.settle(hold, 3)
            await one.hold(70, capped(100))
            assert (await refused(one, 1, capped(100))).settled_pusd == 30

    async def test_killed_with_rows_on_their_way_nothing_counts_twice(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            for _ in range(20):
                one.settle(await one.hold(10, capped(1000)), 7)
                one.kill()
            await one.all_saved()
            assert (await refused(one, 861, capped(1000))).settled_pusd == 140
            assert (await one.spend()).settled_pusd == 140

    async def test_who_waited_at_the_old_waits_at_the_new(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            first = await one.hold(80, capped(100))
            waiting = asyncio.create_task(one.hold(50, capped(100), wait=True))
            await one.until(lambda spend: spend.waiting)
            one.kill()
            await one.until(lambda spend: spend.waiting)
            one.settle(first, 10)
            await waiting

    async def test_the_next_runtime_counts_what_this_one_spent(self, tmp_path: Path) -> None:
        budgets = Budgets(BudgetSettings(month_usd="0.0000000001"))
        async with house(tmp_path, budgets) as one:
            one.settle(await one.hold(60, Account(tag="t")), 55)
        async with house(tmp_path, budgets) as one:
            assert (await refused(one, 46, Account())).settled_pusd == 55
            await one.hold(45, Account())

    async def test_left_in_peace_a_runtime_leaves_no_slice(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            one.settle(await one.hold(60), 55)
            assert (await one.all_saved()).reserved_pusd > 0
        async with house(tmp_path) as one:
            assert await one.after_a_crash() == 55


class TestADiskThatFails:
    async def test_rows_refused_again_and_again_count_once(self, tmp_path: Path) -> None:
        clock = FakeClock()
        async with house(tmp_path, clock=clock) as one:
            await one.hold(1000, capped(10**9))
            await one.all_saved()
            await to_thread.run_sync(rename, one.path, "attempts", "elsewhere")
            lazy = await one.hold(500, capped(10**9))
            await failed_saves(one, 1)
            one.settle(lazy, 400)
            one.settle(one.a_hold(70, capped(10**9)), 0, "cancelled")
            for _ in range(3):
                before = len(one.failed_saves)
                await clock.advance(1.0)
                await failed_saves(one, before + 1)
            with pytest.raises(StorageFailed):
                await one.hold(500, capped(10**9))
            await to_thread.run_sync(rename, one.path, "elsewhere", "attempts")
            await clock.advance(1.0)
            spend = await one.all_saved()
            assert (spend.settled_pusd, spend.held_pusd, spend.open_holds) == (400, 1000, 1)
            error = await refused(one, 10**9 - 1399, capped(10**9))
            assert (error.settled_pusd, error.held_pusd) == (400, 1000)
            await one.hold(10**9 - 1400, capped(10**9))

    async def test_a_refused_hold_that_is_settled_before_it_is_written_again(self, tmp_path: Path) -> None:
        clock = FakeClock()
        async with house(tmp_path, clock=clock) as one:
            await one.hold(1000, capped(10**9))
            await one.all_saved()
            await to_thread.run_sync(rename, one.path, "attempts", "elsewhere")
            lazy = await one.hold(500, capped(10**9))
            await failed_saves(one, 1)
            await to_thread.run_sync(rename, one.path, "elsewhere", "attempts")
            one.settle(lazy, 400)
            await one.outbox.wait_empty()
            await clock.advance(1.0)
            await one.all_saved()
            assert (await refused(one, 10**9 - 1399, capped(10**9))).settled_pusd == 400
            await one.hold(10**9 - 1400, capped(10**9))
            await refused(one, 1, capped(10**9))

    async def test_what_was_spent_before_and_cannot_be_read_grants_nothing(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            await to_thread.run_sync(rename, one.path, "attempts", "elsewhere")
            with pytest.raises(StorageFailed):
                await one.hold(500, capped(1000))
            await to_thread.run_sync(rename, one.path, "elsewhere", "attempts")
            await one.hold(1000, capped(1000))


async def failed_saves(one: House, count: int) -> None:
    while len(one.failed_saves) < count:  # noqa: ASYNC110 - the ledger has no event for it
        await asyncio.sleep(0)


def rename(path: Path, before: str, after: str) -> None:
    """Make every write of a table fail, or mend it: the table goes by another name."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"ALTER TABLE {before} RENAME TO {after}")


class TestPeriods:
    async def test_a_new_day_has_its_own_budget(self, tmp_path: Path) -> None:
        budgets = Budgets(BudgetSettings(day_usd="0.0000000001", month_usd="0.00000000015"))
        async with house(tmp_path, budgets) as one:
            one.settle(await one.hold(100), 100)
            assert (await refused(one, 1, Account())).budget.period == "day"
            one.now_ms = NOON_MS + DAY_MS
            one.settle(await one.hold(50), 50)
            assert (await refused(one, 1, Account())).budget.period == "month"
            one.now_ms = NOON_MS + 30 * DAY_MS
            await one.hold(100)

    async def test_an_attempt_belongs_to_the_day_in_which_it_began(self, tmp_path: Path) -> None:
        budgets = Budgets(BudgetSettings(day_usd="0.0000000001"))
        async with house(tmp_path, budgets) as one:
            late = await one.hold(100)
            one.now_ms += DAY_MS
            one.settle(late, 90)
            await one.hold(100)
            one.now_ms -= DAY_MS
            assert (await refused(one, 11, Account())).settled_pusd == 90


class TestSlices:
    async def test_a_hold_on_the_slice_is_granted_before_its_row_is_on_disk(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            await one.hold(1000)
            await one.all_saved()
            hold = one.a_hold(500, Account())
            granted = one.ledger.call(hold)
            with pytest.raises(StopIteration) as answer:  # at its first step, without once giving up the loop
                granted.send(None)
            assert answer.value.value == Held(hold.ticket)
            assert await one.after_a_crash() >= 1500

    async def test_a_slice_is_a_hundredth_of_what_remains(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            account = capped(12_500)
            reserved: list[int] = []
            for number in range(40):
                hold = await one.hold(100, account)
                reserved.append((await one.all_saved()).reserved_pusd)
                assert reserved[-1] <= (12_500 - 100 * number) // 100
                one.settle(hold, 100)
                await one.all_saved()
            assert reserved[0] >= 100
            assert reserved[-1] < 100

    async def test_the_last_pico_dollar_can_be_held(self, tmp_path: Path) -> None:
        async with house(tmp_path) as one:
            account = capped(100_000)
            for _ in range(10):
                await one.hold(100, account)
            assert (await one.spend()).reserved_pusd > 0
            await one.hold(99_000, account)
            assert (await one.spend()).held_pusd == 100_000
            assert await one.after_a_crash() == 100_000
