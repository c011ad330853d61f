"""`kill -9` in a loop under a budget: what was spent, by the server's own journal, never exceeds it, nor do the rows."""

import random
import sqlite3
from contextlib import closing

import pytest
from tests.integration.commands import Greenroom, SimulatorProcess, results
from tests.integration.evidence import exact_pusd, ledger

PICO = 10**12
LINES = 4_000
MAX_TOKENS = 40


def served_pusd(simulator: SimulatorProcess) -> int:
    """What a provider would charge for all that reached it, answered or not."""
    return sum(exact_pusd(entry.prompt_tokens, entry.completion_tokens) for entry in simulator.journal)


def charged_pusd(greenroom: Greenroom) -> int:
    """What the next runtime will charge at the least, before it has begun: rows as they are, and slices."""
    with closing(sqlite3.connect(f"file:{greenroom.database}?mode=ro", uri=True)) as connection:
        connection.execute("BEGIN")
        (rows,) = connection.execute(
            "SELECT COALESCE(SUM(CASE state WHEN 'held' THEN held_pusd ELSE cost_pusd END), 0) FROM attempts"
        ).fetchone()
        (slices,) = connection.execute("SELECT COALESCE(SUM(reserved_pusd), 0) FROM slices").fetchone()
    return int(rows) + int(slices)


def kill_under_a_budget(
    greenroom: Greenroom, *, kills: int, between: int, budget_usd: float, seed: int
) -> None:
    dice = random.Random(seed)
    budget_pusd = int(budget_usd * PICO)
    greenroom.prompts(LINES)
    simulator = greenroom.simulate("--latency", "lognormal(p50=0.01,p95=0.03)", "--seed", seed)
    greenroom.configure(simulator.base_url)
    command = ("run", "in.jsonl", "--max-tokens", MAX_TOKENS, "--budget", f"{budget_usd:f}", "--json")
    for _ in range(kills):
        before = len(simulator.journal)
        running = greenroom.start(*command)
        simulator.wait_requests(before + dice.randint(1, between))
        assert running.kill().code == -9
        # Even what the server has not been asked yet by the time of the kill is set aside already.
        assert served_pusd(simulator) <= charged_pusd(greenroom) <= budget_pusd
    done = greenroom.run(*command)
    rows = ledger(greenroom.database)
    assert {row.state for row in rows} == {"settled"}
    assert served_pusd(simulator) <= sum(row.cost_pusd for row in rows) <= budget_pusd
    lost = [row for row in rows if row.outcome in {"interrupted", "unconfirmed"}]
    assert all(row.estimated for row in lost)
    # Within the budget, each kill cost what was in flight, and at most a hundredth of what was left.
    assert all(row.cost_pusd <= budget_pusd // 100 for row in lost if row.outcome == "unconfirmed")
    assert len(results(greenroom.folder / "in.results.jsonl")) == done.json["ok"] > 0
    assert done.code == (0 if done.json["ok"] == LINES else 3), done.err


def test_ten_kills_never_overspend(greenroom: Greenroom) -> None:
    kill_under_a_budget(greenroom, kills=10, between=250, budget_usd=0.15, seed=3)


def test_kills_near_the_end_of_a_budget(greenroom: Greenroom) -> None:
    kill_under_a_budget(greenroom, kills=4, between=50, budget_usd=0.02, seed=4)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_two_hundred_kills_never_overspend(greenroom: Greenroom) -> None:
    kill_under_a_budget(greenroom, kills=200, between=20, budget_usd=2.5, seed=5)
