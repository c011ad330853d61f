"""`kill -9` at any moment: no stored answer is asked again, nothing is lost, every attempt is charged once."""

import json
import random
import time
from pathlib import Path

import pytest
from tests.integration.commands import Greenroom, SimulatorProcess, bodies
from tests.integration.evidence import AttemptRow, exact_pusd, ledger, stored_ids

LATENCY = "lognormal(p50=0.02,p95=0.06)"


class Kill:
    """When it was, and whose answers were on disk then."""

    def __init__(self, database: Path) -> None:
        self.at_s = time.time()
        self.stored = stored_ids(database)


def lines_with_ids(count: int) -> str:
    """OpenAI batch lines that carry their id in the metadata, which the simulator's journal notes."""
    return "".join(
        json.dumps(
            {
                "custom_id": f"q-{number}",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {
                    "messages": [{"role": "user", "content": f"Tell me about the number {number}."}],
                    "metadata": {"custom_id": f"q-{number}"},
                },
            }
        )
        + "\n"
        for number in range(1, count + 1)
    )


def run_killed(
    greenroom: Greenroom, simulator: SimulatorProcess, at_requests: list[int], *options: object
) -> list[Kill]:
    """Run the job, kill it when the journal has so many more requests, and go on; the last run ends by itself."""
    kills: list[Kill] = []
    for count in at_requests:
        before = len(simulator.journal)
        running = greenroom.start("run", "in.jsonl", "--json", *options, fresh=True)
        simulator.wait_requests(before + count)
        done = running.kill()
        assert done.code == -9, done.err
        kills.append(Kill(greenroom.database))
    return kills


def check_ledger(rows: list[AttemptRow], simulator: SimulatorProcess, since_s: float, kills: int) -> None:
    """Each answer at its exact cost, each interrupted attempt once at its bound, each kill's slice once; estimated.

    What was served and has no row of its own was granted on a slice: its money is in that slice's row.
    """
    assert {row.state for row in rows} == {"settled"}
    assert {row.outcome for row in rows} <= {"ok", "interrupted", "unconfirmed"}
    answered = [row for row in rows if row.outcome == "ok"]
    lost = [row for row in rows if row.outcome != "ok"]
    assert all(row.cost_pusd == exact_pusd(row.input_tokens, row.output_tokens) for row in answered)
    assert not any(row.estimated for row in answered)
    assert all(row.estimated and row.cost_pusd == row.held_pusd > 0 for row in lost)
    slices = [row for row in lost if row.outcome == "unconfirmed"]
    assert len(slices) <= kills
    known = {row.request_id for row in answered}
    assert len(known) == len(answered)
    served = {entry.request_id: entry for entry in simulator.journal if entry.arrived_s > since_s}
    assert known <= served.keys()
    unknown = [entry for request_id, entry in served.items() if request_id not in known]
    if not slices:
        assert len(unknown) <= len(lost)
    charged = sum(row.cost_pusd for row in lost)
    assert sum(exact_pusd(entry.prompt_tokens, entry.completion_tokens) for entry in unknown) <= charged


def kill_and_resume(greenroom: Greenroom, lines: int, kills: int, seed: int) -> None:
    dice = random.Random(seed)
    greenroom.write("in.jsonl", lines_with_ids(lines))
    simulator = greenroom.simulate("--latency", LATENCY, "--seed", seed)
    greenroom.configure(simulator.base_url)
    undisturbed = greenroom.run(
        "run", "in.jsonl", "--out", "undisturbed.jsonl", env={"XDG_DATA_HOME": str(greenroom.folder)}
    )
    assert undisturbed.code == 0, undisturbed.err
    started_s = time.time()
    # Each kill leaves enough for those after it, whatever is lost at it.
    moments = [dice.randint(1, lines // (kills + 1)) for _ in range(kills)]
    done_kills = run_killed(greenroom, simulator, moments)
    last = greenroom.run("run", "in.jsonl", "--json")
    assert last.code == 0, last.err
    assert (last.json["ok"], last.json["failed"], last.json["state"]) == (lines, 0, "done")

    output = bodies(greenroom.folder / "in.results.jsonl")
    assert set(output) == {f"q-{number}" for number in range(1, lines + 1)}
    assert output == bodies(greenroom.folder / "undisturbed.jsonl")
    for kill in done_kills:
        asked_later = {entry.custom_id for entry in simulator.journal if entry.arrived_s > kill.at_s}
        assert not kill.stored & asked_later
    assert any(kill.stored for kill in done_kills)
    rows = ledger(greenroom.database)
    check_ledger(rows, simulator, started_s, kills)
    besides = "besides the results' cost"
    assert besides not in undisturbed.err
    assert (besides in last.err) == any(row.outcome == "interrupted" for row in rows)


def test_a_job_killed_three_times(greenroom: Greenroom) -> None:
    kill_and_resume(greenroom, lines=300, kills=3, seed=11)


def test_a_job_of_2_000_lines_killed_at_five_random_moments(greenroom: Greenroom) -> None:
    kill_and_resume(greenroom, lines=2_000, kills=5, seed=5)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(10))
def test_a_job_of_20_000_lines_killed_thirty_times(greenroom: Greenroom, seed: int) -> None:
    kill_and_resume(greenroom, lines=20_000, kills=30, seed=seed)
