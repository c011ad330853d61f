"""`greenroom run --stream`: the same results as without, over providers that do what they like."""

from typing import Any

from tests import peers
from tests.integration.commands import Greenroom, bodies, results
from tests.integration.evidence import ledger
from tests.integration.test_providers import llama

__all__ = ["llama"]  # a fixture
LINES = 40
# Stalls are given up soon and backoff is short, so that the test is.
STALLS = "stalls = {first_byte_streamed_s = 0.3, gap_s = 0.3}"
RETRIES = "[retries]\nattempts = 12\nbackoff_base_s = 0.01"


def parts(greenroom: Greenroom, name: str) -> dict[str, tuple[Any, ...]]:
    """What people read of each answer: its text, why it ended, and what it used."""
    return {
        custom_id: (
            body["choices"][0]["message"]["content"],
            body["choices"][0]["finish_reason"],
            body["usage"]["prompt_tokens"],
            body["usage"]["completion_tokens"],
        )
        for custom_id, body in bodies(greenroom.folder / name).items()
    }


def test_streamed_results_are_those_of_whole_answers(greenroom: Greenroom) -> None:
    simulator = greenroom.simulate("--seed", 3)
    greenroom.configure(simulator.base_url)
    greenroom.prompts(LINES)
    whole = greenroom.run("run", "in.jsonl", "-o", "whole.jsonl", "--json")
    streamed = greenroom.run("run", "in.jsonl", "-o", "streamed.jsonl", "--stream", "--json")
    assert (whole.code, streamed.code) == (0, 0), streamed.err
    assert parts(greenroom, "streamed.jsonl") == parts(greenroom, "whole.jsonl")
    assert streamed.json["cost_usd"] == whole.json["cost_usd"]
    assert [entry.stream for entry in simulator.journal] == [False] * LINES + [True] * LINES
    for line in results(greenroom.folder / "streamed.jsonl").values():
        assert line["response"]["body"]["object"] == "chat.completion"


def test_a_streamed_job_can_be_gone_on_with_whole(greenroom: Greenroom) -> None:
    simulator = greenroom.simulate("--seed", 3)
    greenroom.configure(simulator.base_url)
    greenroom.prompts(5)
    assert greenroom.run("run", "in.jsonl", "--stream").code == 0
    greenroom.prompts(8)
    done = greenroom.run("run", "in.jsonl", "--json")
    assert (done.code, done.json["resumed"], done.json["ok"]) == (0, 5, 8), done.err


def test_no_fault_changes_a_word(greenroom: Greenroom) -> None:
    """Dropped, cut short, ended early, silent, kept alive: each line's text is the one that an undisturbed run gets."""
    calm = greenroom.simulate("--seed", 3)
    greenroom.configure(calm.base_url)
    greenroom.prompts(LINES)
    assert greenroom.run("run", "in.jsonl", "-o", "calm.jsonl").code == 0
    faults = "drop:0.05,truncate:0.1,end_early:0.1,no_done:0.05,stall:0.05,keepalive:0.05,500:0.05"
    rough = greenroom.simulate("--seed", 3, "--faults", faults)
    greenroom.configure(rough.base_url, more=STALLS, before=RETRIES)
    done = greenroom.run("run", "in.jsonl", "-o", "rough.jsonl", "--stream", "--json")
    assert (done.code, done.json["ok"]) == (0, LINES), done.err
    assert {i: said[:2] for i, said in parts(greenroom, "rough.jsonl").items()} == {
        i: said[:2] for i, said in parts(greenroom, "calm.jsonl").items()
    }
    rows = [row for row in ledger(greenroom.database) if row.outcome != "ok"]
    assert len(rows) == len(rough.journal) - LINES > 5
    assert {row.outcome for row in rows} <= {"connection", "stalled", "server"}
    assert all(row.state == "settled" for row in rows)


@peers.needs_llama
def test_a_real_server_streamed_and_whole(greenroom: Greenroom, llama: str) -> None:
    """By the same seed a model says the same, token by token; its own count of them is what the ledger has."""
    greenroom.prompts(30)
    env = {"OPENAI_API_KEY": "right", "OPENAI_BASE_URL": llama}
    rest = ("--max-tokens", 12, "--param", "seed=5", "--concurrency", 4, "--json")
    whole = greenroom.run("run", "in.jsonl", "-o", "whole.jsonl", *rest, env=env)
    streamed = greenroom.run("run", "in.jsonl", "-o", "streamed.jsonl", "--stream", *rest, env=env)
    assert (whole.code, streamed.code) == (0, 0), streamed.err
    assert parts(greenroom, "streamed.jsonl") == parts(greenroom, "whole.jsonl")
    assert streamed.json["output_tokens"] == whole.json["output_tokens"] > 0
