"""`greenroom costs`: every figure against a sum over what the server says that it served."""

import asyncio
import json
import threading
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from aiohttp import web
from tests.integration.commands import Done, Greenroom, SimulatorProcess
from tests.integration.evidence import INPUT_USD_PER_MTOK, OUTPUT_USD_PER_MTOK, exact_pusd, ledger
from tests.integration.upstream import Answering, Asked, UpstreamThread, good, refusal

from greenroom.runtime.simulator import JournalEntry


def groups(done: Done) -> list[dict[str, Any]]:
    assert done.code == 0, done.err
    return [msgspec.json.decode(line, type=dict[str, Any]) for line in done.out.splitlines()]


def served_usd(entries: Iterable[JournalEntry]) -> Decimal:
    """What the served tokens cost at the configured prices, which are exact in decimals."""
    return sum(
        (
            (INPUT_USD_PER_MTOK * entry.prompt_tokens + OUTPUT_USD_PER_MTOK * entry.completion_tokens) / 10**6
            for entry in entries
        ),
        Decimal(0),
    )


class Spent:
    """Two jobs with two models each, on one simulator that is configured under two names."""

    def __init__(self, greenroom: Greenroom) -> None:
        self.simulator: SimulatorProcess = greenroom.simulate()
        url = self.simulator.base_url
        prices = '.prices."*"]\ninput = "0.15"\noutput = "0.60"\n'
        greenroom.write(
            "greenroom.toml",
            "".join(
                f'[providers.{name}]\nbase_url = "{url}"\n[providers.{name}{prices}'
                for name in ("acme", "zeta")
            ),
        )
        self.jobs: dict[str, list[JournalEntry]] = {}
        self.first_day = datetime.now(UTC).date()
        for name, models in (("one", ("acme/fast", "zeta/smart")), ("two", ("acme/smart", "zeta/smart"))):
            before = len(self.simulator.journal)
            lines = [
                {"body": {"model": model, "messages": [{"role": "user", "content": f"{name} {number}"}]}}
                for number in range(15)
                for model in models
            ]
            greenroom.write(f"{name}.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
            done = greenroom.run("run", f"{name}.jsonl", "--json")
            assert done.code == 0, done.err
            self.jobs[str(done.json["job_id"])] = self.simulator.journal[before:]

    @property
    def all(self) -> list[JournalEntry]:
        return [entry for entries in self.jobs.values() for entry in entries]


@pytest.fixture
def spent(greenroom: Greenroom) -> Spent:
    return Spent(greenroom)


def by(told: list[dict[str, Any]], *names: str) -> dict[tuple[str, ...], Decimal]:
    return {tuple(group["group"][name] for name in names): Decimal(group["cost_usd"]) for group in told}


class TestFigures:
    def test_by_job(self, greenroom: Greenroom, spent: Spent) -> None:
        told = groups(greenroom.run("costs", "--by", "job", "--json"))
        assert by(told, "job") == {(job,): served_usd(entries) for job, entries in spent.jobs.items()}
        for group in told:
            entries = spent.jobs[group["group"]["job"]]
            assert (group["calls"], group["attempts"]) == (30, 30)
            assert group["input_tokens"] == sum(entry.prompt_tokens for entry in entries)
            assert group["output_tokens"] == sum(entry.completion_tokens for entry in entries)
            assert Decimal(group["estimated_usd"]) == Decimal(group["held_usd"]) == 0

    def test_by_model(self, greenroom: Greenroom, spent: Spent) -> None:
        expected: dict[tuple[str, ...], Decimal] = defaultdict(Decimal)
        for entry in spent.all:
            expected[str(entry.model),] += served_usd([entry])
        told = groups(greenroom.run("costs", "--by", "model", "--json"))
        assert by(told, "model") == expected

    def test_by_provider_and_model(self, greenroom: Greenroom, spent: Spent) -> None:
        told = by(
            groups(greenroom.run("costs", "--by", "provider", "--by", "model", "--json")), "provider", "model"
        )
        assert set(told) == {("acme", "fast"), ("acme", "smart"), ("zeta", "smart")}
        fast = [entry for entry in spent.all if entry.model == "fast"]
        assert told["acme", "fast"] == served_usd(fast)
        assert sum(told.values()) == served_usd(spent.all)

    def test_by_day(self, greenroom: Greenroom, spent: Spent) -> None:
        told = groups(greenroom.run("costs", "--by", "day", "--json"))
        days = {group["group"]["day"] for group in told}
        assert days <= {spent.first_day.isoformat(), datetime.now(UTC).date().isoformat()}
        assert sum(by(told, "day").values()) == served_usd(spent.all)

    def test_of_one_job(self, greenroom: Greenroom, spent: Spent) -> None:
        (job, entries), _ = spent.jobs.items()
        told = groups(greenroom.run("costs", "--job", job, "--json"))
        assert {group["group"]["job"] for group in told} == {job}
        assert sum(Decimal(group["cost_usd"]) for group in told) == served_usd(entries)

    def test_the_run_itself_said_the_same(self, greenroom: Greenroom, spent: Spent) -> None:
        rows = ledger(greenroom.database)
        assert sum(row.cost_pusd for row in rows) == served_usd(spent.all) * 10**12

    def test_a_table_for_people(self, greenroom: Greenroom, spent: Spent) -> None:
        done = greenroom.run("costs", "--by", "model")
        assert done.code == 0
        for words in ("fast", "smart", "15", "45", "all", "60", "estimated"):
            assert words in done.out

    @pytest.mark.parametrize("columns", ["80", "60"])
    def test_a_narrow_terminal_cuts_no_figure_and_no_id(
        self, greenroom: Greenroom, spent: Spent, columns: str
    ) -> None:
        out = greenroom.run("costs", env={"COLUMNS": columns}).out
        assert "…" not in out
        for job in spent.jobs:
            assert job in out


class TestEstimates:
    def answered_or_not(self) -> Answering:
        async def answer(asked: Asked) -> web.StreamResponse:
            number = int(asked.prompt.split()[-1].rstrip("."))
            if number % 3 == 0:
                return web.Response(text="<html>")
            return refusal(400) if number % 3 == 1 else good()

        return answer

    def test_what_no_provider_stated_stands_apart(self, greenroom: Greenroom) -> None:
        with UpstreamThread(self.answered_or_not()) as upstream:
            greenroom.configure(upstream.base_url)
            greenroom.prompts(9)
            done = greenroom.run("run", "in.jsonl", "--json")
            assert done.code == 1
        (group,) = groups(greenroom.run("costs", "--by", "provider", "--json"))
        rows = ledger(greenroom.database)
        estimated = [row for row in rows if row.estimated]
        assert len(estimated) == 3
        assert Decimal(group["estimated_usd"]) * 10**12 == sum(row.cost_pusd for row in estimated) > 0
        assert Decimal(group["cost_usd"]) * 10**12 == sum(row.cost_pusd for row in rows)
        # The job's own sum is the ledger's, failed lines included.
        assert Decimal(done.json["cost_usd"]) == Decimal(group["cost_usd"])


class TestWithoutFigures:
    def test_nothing_was_spent_yet(self, greenroom: Greenroom) -> None:
        done = greenroom.run("costs")
        assert (done.code, done.out) == (0, "")
        assert "nothing was spent yet" in done.err
        assert not greenroom.database.exists()

    def test_in_json_nothing_is_no_line(self, greenroom: Greenroom) -> None:
        assert greenroom.run("costs", "--json").out == ""

    def test_of_a_job_that_is_not_there(self, greenroom: Greenroom, spent: Spent) -> None:
        done = greenroom.run("costs", "--job", "nope")
        assert (done.code, done.out) == (0, "")

    def test_by_what_it_does_not_know(self, greenroom: Greenroom) -> None:
        done = greenroom.run("costs", "--by", "colour")
        assert done.code == 2
        assert "provider" in done.err


def test_while_a_job_runs(greenroom: Greenroom) -> None:
    """Read beside the writer: what is settled and what is held, without waiting for the job's end."""

    async def answer(asked: Asked) -> web.StreamResponse:
        if asked.number > 2:
            await asyncio.Event().wait()
        return good()

    thread = UpstreamThread(answer)
    with thread as upstream:
        greenroom.configure(upstream.base_url)
        greenroom.prompts(5)
        running = greenroom.start("run", "in.jsonl", "--concurrency", 1)
        thread.wait_asked(3)
        # What is held within a slice is on disk soon after it was asked, not before.
        group: dict[str, Any] = {"attempts": 0}
        while group["attempts"] < 3:
            (group,) = groups(greenroom.run("costs", "--by", "provider", "--json")) or (group,)
        assert group["attempts"] == 3
        assert Decimal(group["held_usd"]) > 0
        # With one line in flight a line is asked once the one before it is settled, if not yet on disk.
        assert Decimal(group["cost_usd"]) * 10**12 in {exact_pusd(7, 11), 2 * exact_pusd(7, 11)}
        running.kill()


class TestBudgets:
    def test_what_is_left_of_each(self, greenroom: Greenroom) -> None:
        simulator = greenroom.simulate()
        budgets = '[budgets]\ntotal_usd = 5\nday_usd = "0.02"\n[budgets.tags.red]\nmonth_usd = 1\n'
        greenroom.configure(simulator.base_url, before=budgets)
        greenroom.prompts(20)
        assert greenroom.run("run", "in.jsonl", "--max-tokens", 30).code == 0
        spent = served_usd(simulator.journal)
        left = [line for line in groups(greenroom.run("costs", "--json")) if "budget" in line]
        assert [(one["budget"], one["name"], one["period"], one["cap_usd"]) for one in left] == [
            ("all", None, "ever", "5"),
            ("all", None, "day", "0.02"),
            ("tag", "red", "month", "1"),
        ]
        assert [Decimal(one["settled_usd"]) for one in left] == [spent, spent, 0]
        assert [Decimal(one["left_usd"]) for one in left] == [5 - spent, Decimal("0.02") - spent, 1]
        assert {one["held_usd"] for one in left} == {"0"}
        shown = greenroom.run("costs")
        assert "Budgets" in shown.out
        assert "today" in shown.out
        assert "red" in shown.out

    def test_what_calls_in_flight_hold_is_not_left(self, greenroom: Greenroom) -> None:
        asked = threading.Semaphore(0)

        async def never(question: Asked) -> web.StreamResponse:
            asked.release()
            await asyncio.Event().wait()
            raise AssertionError

        with UpstreamThread(never) as upstream:
            greenroom.configure(upstream.base_url, before="[budgets]\ntotal_usd = 1\n")
            greenroom.prompts(20)
            running = greenroom.start("run", "in.jsonl", "--max-tokens", 30)
            assert all(asked.acquire(timeout=40) for _ in range(20))
            (left,) = (line for line in groups(greenroom.run("costs", "--json")) if "budget" in line)
            running.kill()
        assert Decimal(left["held_usd"]) >= 20 * Decimal("0.6e-6") * 30
        assert Decimal(left["left_usd"]) == 1 - Decimal(left["held_usd"])

    def test_none_are_shown_where_none_are_configured(self, greenroom: Greenroom) -> None:
        done = greenroom.run("costs")
        assert (done.code, done.out) == (0, "")
        assert "nothing was spent yet" in done.err
