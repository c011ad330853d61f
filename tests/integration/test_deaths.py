"""Actors that die under a call, and a database that fails under it: what is accounted for all the same."""

import asyncio
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from tests.inside import database, given_back, granted, hear, named, settings, system, tree
from tests.integration.commands import Greenroom, results
from tests.integration.evidence import AttemptRow, exact_pusd, ledger
from tests.integration.upstream import COMPLETION_TOKENS, PROMPT_TOKENS, Asked, Upstream, answer_well, good

from greenroom.actors.events import CallDone, Event, Usage
from greenroom.actors.flow import Reply
from greenroom.actors.kernel import ActorExited, FakeClock
from greenroom.actors.ledger import Account, Adopt, BoundTooLarge, GetSpend, Held, Hold, Settle, Spend
from greenroom.actors.providers import ChatRequest, Message
from greenroom.actors.storage import StorageFailed
from greenroom.runtime import Runtime

pytestmark = pytest.mark.anyio
EXACT_PUSD = exact_pusd(PROMPT_TOKENS, COMPLETION_TOKENS)


def start(upstream: Upstream, folder: Path, clock: FakeClock | None = None) -> Runtime:
    return Runtime(settings(upstream.base_url, folder), environ={}, clock=clock)


async def ask(rt: Runtime, number: int, max_tokens: int = 100) -> Reply:
    return await rt.chat("acme/fast", f"number {number}", max_tokens=max_tokens)


async def rows_of(folder: Path) -> list[AttemptRow]:
    return await anyio.to_thread.run_sync(ledger, database(folder))


def kill(rt: Runtime, name: str) -> None:
    system(rt).kill(named(rt, name))


async def spend(rt: Runtime) -> Spend:
    """What the ledger says, once there is one again."""
    while True:
        try:
            return await tree(rt).ledger.call(GetSpend())
        except ActorExited:
            await asyncio.sleep(0)


class TestUnderACall:
    @pytest.mark.parametrize(
        "victim", ["ledger", "store", "limiter:acme", "pool:acme", "catalog", "provider:acme"]
    )
    async def test_while_the_provider_answers(self, tmp_path: Path, victim: str) -> None:
        async def answer(asked: Asked) -> web.StreamResponse:
            kill(rt, victim)
            return good()

        async with Upstream(answer) as upstream, start(upstream, tmp_path) as rt:
            replies = await asyncio.gather(*(ask(rt, number) for number in range(3)))
            assert [(reply.cost_pusd, reply.attempts) for reply in replies] == [(EXACT_PUSD, 1)] * 3
            await given_back(rt)
            assert len(upstream.asked) == 3
        rows = await rows_of(tmp_path)
        assert [(row.state, row.outcome, row.cost_pusd, row.estimated) for row in rows] == [
            ("settled", "ok", EXACT_PUSD, False)
        ] * 3

    @pytest.mark.parametrize("victim", ["ledger", "store", "limiter:acme", "pool:acme"])
    async def test_between_exchange_and_settlement(self, tmp_path: Path, victim: str) -> None:
        """That a call is done is told after its exchange and before anything is given back, in the same turn."""

        def tell(event: Event) -> None:
            if isinstance(event, CallDone):
                kill(rt, victim)

        async with Upstream(answer_well) as upstream, start(upstream, tmp_path) as rt:
            hear(rt, tell)
            for number in range(3):
                assert (await ask(rt, number)).cost_pusd == EXACT_PUSD
                await spend(rt)
                await given_back(rt)
        assert [(row.state, row.cost_pusd) for row in await rows_of(tmp_path)] == [
            ("settled", EXACT_PUSD)
        ] * 3

    async def test_a_new_ledger_knows_what_the_living_hold(self, tmp_path: Path) -> None:
        gate = asyncio.Event()

        async def answer(asked: Asked) -> web.StreamResponse:
            await gate.wait()
            return good()

        async with Upstream(answer) as upstream, start(upstream, tmp_path) as rt:
            calls = [asyncio.create_task(ask(rt, number)) for number in range(5)]
            await upstream.wait_asked(5)
            before = await tree(rt).ledger.call(GetSpend())
            assert before.open_holds == 5
            kill(rt, "ledger")
            after = await spend(rt)
            assert (after.open_holds, after.held_pusd) == (before.open_holds, before.held_pusd)
            gate.set()
            await asyncio.gather(*calls)
            await given_back(rt)
        assert [(row.state, row.cost_pusd) for row in await rows_of(tmp_path)] == [
            ("settled", EXACT_PUSD)
        ] * 5

    async def test_a_ledger_killed_while_holds_are_asked_for(self, tmp_path: Path) -> None:
        async with Upstream(answer_well) as upstream, start(upstream, tmp_path) as rt:
            calls = [asyncio.create_task(ask(rt, number)) for number in range(50)]
            for _ in range(5):
                await asyncio.sleep(0)
                kill(rt, "ledger")
            await asyncio.gather(*calls)
            await given_back(rt)
            assert len(upstream.asked) == 50
        rows = await rows_of(tmp_path)
        assert len(rows) == 50
        assert {(row.state, row.outcome) for row in rows} == {("settled", "ok")}

    async def test_connections_outlive_the_pool(self, tmp_path: Path) -> None:
        gate = asyncio.Event()

        async def answer(asked: Asked) -> web.StreamResponse:
            await gate.wait()
            return good()

        async with Upstream(answer) as upstream, start(upstream, tmp_path) as rt:
            call = asyncio.create_task(ask(rt, 1))
            await upstream.wait_asked(1)
            kill(rt, "pool:acme")
            gate.set()
            assert (await call).attempts == 1
            assert len(upstream.asked) == 1


def a_hold(number: int, bound_pusd: int = 1000) -> Hold:
    ticket = (1 << 60) + number
    return Hold(
        ticket=ticket,
        call_id=ticket,
        number=1,
        provider="acme",
        model="fast",
        bound_pusd=bound_pusd,
        account=Account(job_id="j"),
        started_at_ms=1_800_000_000_000,
    )


def settled(hold: Hold, cost_pusd: int) -> Settle:
    return Settle(
        hold=hold,
        outcome="ok",
        cost_pusd=cost_pusd,
        usage=Usage(3, 4),
        estimated=False,
        settled_at_ms=1_800_000_001_000,
    )


class TestTheLedgersWord:
    """Its messages sent twice, in the wrong order, or by somebody who was not granted anything."""

    async def test_one_ticket_asked_for_twice_is_held_once(self, tmp_path: Path) -> None:
        async with Upstream(answer_well) as upstream, start(upstream, tmp_path) as rt:
            ref, hold = tree(rt).ledger, a_hold(1)
            together = await asyncio.gather(ref.call(hold), ref.call(hold))
            assert [*together, await ref.call(hold)] == [Held(hold.ticket)] * 3
            told = await ref.call(GetSpend())
            assert (told.open_holds, told.held_pusd) == (1, 1000)
            assert [row.state for row in await rows_of(tmp_path)] == ["held"]

    async def test_adopted_twice_it_is_held_once(self, tmp_path: Path) -> None:
        async with Upstream(answer_well) as upstream, start(upstream, tmp_path) as rt:
            ref, hold = tree(rt).ledger, a_hold(1)
            await ref.call(hold)
            for _ in range(2):
                ref.cast(Adopt((hold, a_hold(2)), ()))
            await ref.call(a_hold(2))
            told = await ref.call(GetSpend())
            assert (told.open_holds, told.held_pusd) == (2, 2000)
            assert [row.state for row in await rows_of(tmp_path)] == ["held"] * 2

    async def test_settled_twice_it_is_charged_once(self, tmp_path: Path) -> None:
        async with Upstream(answer_well) as upstream, start(upstream, tmp_path) as rt:
            ref, hold = tree(rt).ledger, a_hold(1)
            await ref.call(hold)
            for cost_pusd in (700, 700, 800):
                ref.cast(settled(hold, cost_pusd))
            while (await ref.call(GetSpend())).unsaved:  # noqa: ASYNC110
                await asyncio.sleep(0)
            told = await ref.call(GetSpend())
            assert (told.open_holds, told.held_pusd, told.settled_pusd) == (0, 0, 700)
            assert [(row.state, row.cost_pusd) for row in await rows_of(tmp_path)] == [("settled", 700)]

    async def test_settled_without_a_hold_it_has_its_row(self, tmp_path: Path) -> None:
        async with Upstream(answer_well) as upstream, start(upstream, tmp_path) as rt:
            ref = tree(rt).ledger
            ref.cast(settled(a_hold(1), 700))
            while (await ref.call(GetSpend())).unsaved:  # noqa: ASYNC110
                await asyncio.sleep(0)
            (row,) = await rows_of(tmp_path)
            assert (row.state, row.cost_pusd, row.input_tokens, row.output_tokens) == ("settled", 700, 3, 4)

    async def test_more_than_the_bound_is_recorded_and_told(self, tmp_path: Path) -> None:
        async with Upstream(answer_well) as upstream, start(upstream, tmp_path) as rt:
            ref, hold = tree(rt).ledger, a_hold(1)
            await ref.call(hold)
            ref.cast(settled(hold, 1001))
            while (await ref.call(GetSpend())).unsaved:  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert rt.telemetry.counters["overcharged"] == 1
            assert [row.cost_pusd for row in await rows_of(tmp_path)] == [1001]

    async def test_a_runtime_that_died_is_charged_for_what_it_held(self, tmp_path: Path) -> None:
        async with Upstream(answer_well) as upstream:
            async with start(upstream, tmp_path) as rt:
                await tree(rt).ledger.call(a_hold(1, bound_pusd=1234))
            async with start(upstream, tmp_path) as rt:
                (row,) = await rows_of(tmp_path)
                assert (row.state, row.outcome, row.estimated, row.cost_pusd) == (
                    "settled",
                    "interrupted",
                    True,
                    1234,
                )
                assert (await tree(rt).ledger.call(GetSpend())).open_holds == 0


def rename(path: Path, before: str, after: str) -> None:
    """Make every write of a table fail, or mend it: the table goes by another name."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"ALTER TABLE {before} RENAME TO {after}")


class TestADatabaseThatFails:
    async def test_a_hold_that_cannot_be_written_is_refused_and_nothing_is_sent(self, tmp_path: Path) -> None:
        path = database(tmp_path)
        async with Upstream(answer_well) as upstream, start(upstream, tmp_path) as rt:
            await anyio.to_thread.run_sync(rename, path, "attempts", "elsewhere")
            with pytest.raises(StorageFailed):
                await ask(rt, 1)
            assert len(upstream.asked) == 0
            await given_back(rt)
            await anyio.to_thread.run_sync(rename, path, "elsewhere", "attempts")
            await ask(rt, 2)
            await given_back(rt)
            assert len(upstream.asked) == 1
        # What was refused was never an attempt, and has no row.
        assert [row.outcome for row in await rows_of(tmp_path)] == ["ok"]

    async def test_what_a_slice_covers_goes_on_until_the_disk_is_known_to_fail(self, tmp_path: Path) -> None:
        clock, path = FakeClock(), database(tmp_path)
        async with Upstream(answer_well) as upstream, start(upstream, tmp_path, clock) as rt:
            await ask(rt, 1)
            await given_back(rt)
            assert (await spend(rt)).reserved_pusd > 0
            await anyio.to_thread.run_sync(rename, path, "attempts", "elsewhere")
            await ask(rt, 2)
            while not rt_waits_to_settle(clock):  # noqa: ASYNC110
                await asyncio.sleep(0)
            with pytest.raises(StorageFailed):
                await ask(rt, 3)
            assert len(upstream.asked) == 2
            await anyio.to_thread.run_sync(rename, path, "elsewhere", "attempts")
            await clock.advance(1.0)
            await given_back(rt)
            await ask(rt, 4)
            await given_back(rt)
        rows = await rows_of(tmp_path)
        assert [(row.outcome, row.cost_pusd) for row in rows] == [("ok", EXACT_PUSD)] * 3

    async def test_a_settlement_that_cannot_be_written_is_written_later(self, tmp_path: Path) -> None:
        clock, path = FakeClock(), database(tmp_path)

        async def answer(asked: Asked) -> web.StreamResponse:
            await anyio.to_thread.run_sync(rename, path, "attempts", "elsewhere")
            return good()

        async with Upstream(answer) as upstream, start(upstream, tmp_path, clock) as rt:
            reply = await ask(rt, 1)
            while not rt_waits_to_settle(clock):  # noqa: ASYNC110
                await asyncio.sleep(0)
            assert not (await granted(rt)).outbox_empty
            await anyio.to_thread.run_sync(rename, path, "elsewhere", "attempts")
            await clock.advance(1.0)
            await given_back(rt)
        (row,) = await rows_of(tmp_path)
        assert (row.state, row.cost_pusd) == ("settled", reply.cost_pusd)

    async def test_a_bound_beyond_reason_is_refused_and_harms_nobody_else(self, tmp_path: Path) -> None:
        """Its row would not fit the database, and the rows of one turn are written as one."""
        async with Upstream(answer_well) as upstream, start(upstream, tmp_path) as rt:
            # Past what the runtime itself takes for an option.
            request = ChatRequest(model="acme/fast", messages=(Message("user", "much"),), max_tokens=10**18)
            absurd = [asyncio.create_task(tree(rt).flow.chat(request)) for _ in range(3)]
            sane = [asyncio.create_task(ask(rt, number)) for number in range(3)]
            refusals = await asyncio.gather(*absurd, return_exceptions=True)
            replies = await asyncio.gather(*sane)
            await given_back(rt)
            assert [type(refused) for refused in refusals] == [BoundTooLarge] * 3
            assert [reply.attempts for reply in replies] == [1] * 3
            assert len(upstream.asked) == 3
        assert [(row.outcome, row.state) for row in await rows_of(tmp_path)] == [("ok", "settled")] * 3


def rt_waits_to_settle(clock: FakeClock) -> bool:
    due = clock.next_due()
    return due is not None and due <= 1.0


KILLS_AN_ACTOR = """
import sys
from greenroom.runtime import runtime
from greenroom.runtime.cli import main

victim, *sys.argv[1:] = sys.argv[1:]
start_job = runtime.Runtime.start_job

async def start_and_kill(self, opened):
    job = await start_job(self, opened)
    self._life.system.kill(self._life.system.named(victim))
    return job

runtime.Runtime.start_job = start_and_kill
main()
"""


class TestTheCommand:
    @pytest.fixture(autouse=True)
    def simulator(self, greenroom: Greenroom) -> None:
        greenroom.configure(greenroom.simulate().base_url)
        greenroom.prompts(30)

    def run(self, greenroom: Greenroom, victim: str, *options: str) -> "subprocess.CompletedProcess[str]":
        """Run the job; as soon as it has begun, an actor is killed."""
        command = [sys.executable, "-c", KILLS_AN_ACTOR, victim, "run", "in.jsonl", *options]
        folder, env = greenroom.folder, greenroom.env
        return subprocess.run(
            command, cwd=folder, env=env, capture_output=True, text=True, timeout=30, check=False
        )

    def test_says_that_its_actors_failed_and_goes_on_the_next_time(self, greenroom: Greenroom) -> None:
        lost = self.run(greenroom, "root")
        assert lost.returncode == 1, lost.stderr
        assert "root supervisor gave up (Killed())" in lost.stderr
        assert "the same command goes on where it was" in lost.stderr
        assert "Traceback" not in lost.stderr
        again = greenroom.run("run", "in.jsonl", "--json")
        assert (again.code, again.json["ok"]) == (0, 30)
        assert len(results(greenroom.folder / "in.results.jsonl")) == 30

    def test_shows_restarts_to_who_wants_to_see_them(self, greenroom: Greenroom) -> None:
        done = self.run(greenroom, "store", "-v")
        assert done.returncode == 0, done.stderr
        assert "root restarts 'store', restart 1: Killed()" in done.stderr

    def test_and_to_nobody_else(self, greenroom: Greenroom) -> None:
        done = self.run(greenroom, "ledger")
        assert done.returncode == 0, done.stderr
        assert "restart" not in done.stderr
        assert len(results(greenroom.folder / "in.results.jsonl")) == 30
