"""`kill -9` in a loop under a budget: what was spent, by the server's own journal, never exceeds it, nor do the rows."""

import random
import sqlite3
from contextlib import closing

import pytest
from msgspec import Struct
from tests.integration.commands import Greenroom, SimulatorProcess, results
from tests.integration.evidence import exact_pusd, ledger

PICO = 10**12
MAX_TOKENS = 40


def served_pusd(simulator: SimulatorProcess) -> int:
    """What a provider would charge for all that reached it, answered or not."""
    return sum(exact_pusd(entry.prompt_tokens, entry.completion_tokens) for entry in simulator.journal)


class Charge(Struct, frozen=True):
    """What the next runtime will charge at the least, before it has begun: rows as they are, and slices."""

    attempts: int
    least_bound_pusd: int
    rows_pusd: int
    slices_pusd: int

    @property
    def total_pusd(self) -> int:
        return self.rows_pusd + self.slices_pusd


def charge(greenroom: Greenroom) -> Charge:
    with closing(sqlite3.connect(f"file:{greenroom.database}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")  # one snapshot for all tables
        rows = connection.execute(
            "SELECT COUNT(*), MIN(held_pusd), SUM(CASE state WHEN 'held' THEN held_pusd ELSE cost_pusd END)"
            " FROM attempts WHERE number > 0"
        ).fetchone()
        (slices,) = connection.execute("SELECT COALESCE(SUM(reserved_pusd), 0) FROM slices").fetchone()
        (lost,) = connection.execute(
            "SELECT COALESCE(SUM(cost_pusd), 0) FROM attempts WHERE number = 0"
        ).fetchone()
    return Charge(rows[0], rows[1], rows[2], slices + lost)


def kill_under_a_budget(
    greenroom: Greenroom, *, lines: int, kills: int, between: int, budget_usd: float, seed: int
) -> None:
    dice = random.Random(seed)
    budget_pusd = int(budget_usd * PICO)
    greenroom.prompts(lines)
    simulator = greenroom.simulate("--latency", "lognormal(p50=0.01,p95=0.03)", "--seed", seed)
    greenroom.configure(simulator.base_url)
    command = ("run", "in.jsonl", "--max-tokens", MAX_TOKENS, "--budget", f"{budget_usd:f}", "--json")
    for _ in range(kills):
        before = len(simulator.journal)
        running = greenroom.start(*command)
        simulator.wait_requests(before + dice.randint(1, between))
        assert running.kill().code == -9
        found, served = charge(greenroom), simulator.journal
        assert served_pusd(simulator) <= found.total_pusd <= budget_pusd
        # What was asked without a row of its own was granted on a slice, at its bound; all bounds are about the same.
        assert (len(served) - found.attempts) * found.least_bound_pusd <= found.slices_pusd
    done = greenroom.run(*command)
    rows = ledger(greenroom.database)
    assert {row.state for row in rows} == {"settled"}
    assert served_pusd(simulator) <= sum(row.cost_pusd for row in rows) <= budget_pusd
    lost = [row for row in rows if row.outcome in {"interrupted", "unconfirmed"}]
    assert all(row.estimated for row in lost)
    # Within the budget, each kill cost what was in flight, and at most a hundredth of what was left.
    assert all(row.cost_pusd <= budget_pusd // 100 for row in lost if row.outcome == "unconfirmed")
    assert len(results(greenroom.folder / "in.results.jsonl")) == done.json["ok"] > 0
    assert done.code == (0 if done.json["ok"] == lines else 3), done.err


def test_ten_kills_never_overspend(greenroom: Greenroom) -> None:
    kill_under_a_budget(greenroom, lines=4_000, kills=10, between=250, budget_usd=0.15, seed=3)


def test_kills_near_the_end_of_a_budget(greenroom: Greenroom) -> None:
    kill_under_a_budget(greenroom, lines=4_000, kills=4, between=50, budget_usd=0.02, seed=4)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_hundred_kills_never_overspend(greenroom: Greenroom) -> None:
    kill_under_a_budget(greenroom, lines=20_000, kills=200, between=20, budget_usd=2.5, seed=5)
