"""A job rehearsed the way `greenroom simulate --help` teaches it: does it fit the limits and the budget?"""

from decimal import Decimal

import pytest
from tests.integration.commands import Greenroom, SimulatorProcess, results
from tests.integration.evidence import ledger

LINES = 30
ANY_KEY = {"OPENAI_API_KEY": "any"}
LIST_PRICE = """
[providers.openai]
base_url = "{base_url}"
price_provider = "openai"
"""


@pytest.fixture
def stand_in(greenroom: Greenroom) -> SimulatorProcess:
    """A simulator in the place of the provider, and the configuration that says so."""
    simulator = greenroom.simulate(
        "--also-serve", "gpt-5.4-mini", "--requests-per-min", 20, "--limit-window", 6
    )
    greenroom.write("greenroom.toml", LIST_PRICE.format(base_url=simulator.base_url))
    greenroom.prompts(LINES)
    return simulator


def test_it_costs_what_it_would_cost_there(greenroom: Greenroom, stand_in: SimulatorProcess) -> None:
    done = greenroom.run(
        "run", "in.jsonl", "--model", "openai/gpt-5.4-mini", "--limit", 2, "--json", env=ANY_KEY
    )
    assert done.code == 0, done.err
    assert len(results(greenroom.folder / "in.results.jsonl")) == 2
    used = [(entry.prompt_tokens, entry.completion_tokens) for entry in stand_in.journal]
    # The list price of gpt-5.4-mini: 0.75 and 4.50 dollars a million tokens.
    expected = sum(Decimal("0.75") * sent + Decimal("4.50") * received for sent, received in used) / 1_000_000
    assert Decimal(done.json["cost_usd"]) == expected > 0
    assert sum(row.cost_pusd for row in ledger(greenroom.database)) == expected * 10**12


def test_a_budget_that_is_too_small_shows(greenroom: Greenroom, stand_in: SimulatorProcess) -> None:
    done = greenroom.run(
        "run", "in.jsonl", "--model", "openai/gpt-5.4-mini", "--budget", "0.00001", env=ANY_KEY
    )
    assert done.code == 3, done.err
    assert stand_in.journal == []
