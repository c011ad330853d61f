"""`greenroom run --budget`, and what the configuration's budgets and the dry run say, by real processes."""

import json
import os
import pty
import select
import sqlite3
import subprocess
import sys
from contextlib import closing
from decimal import Decimal

import pytest
from tests.integration.commands import Greenroom, SimulatorProcess, results
from tests.integration.evidence import exact_pusd, ledger
from tests.integration.upstream import Upstream

PICO = 10**12


def charged(greenroom: Greenroom) -> int:
    return sum(row.cost_pusd for row in ledger(greenroom.database))


class TestBudget:
    def test_a_dearer_job_stops_in_time_and_goes_on_with_more(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(400)
        command = ("run", "in.jsonl", "--max-tokens", 40, "--json")
        done = greenroom.run(*command, "--budget", "0.004")
        assert done.code == 3
        assert 0 < charged(greenroom) <= 0.004 * PICO
        assert done.json["state"] == "halted"
        assert "the budget of job" in done.json["because"]
        assert "of $0.004 has no room" in done.json["because"]
        assert "with a larger budget the same command goes on (at the cost so far" in done.err
        kept = results(greenroom.folder / "in.results.jsonl")
        # Waiting for what others leave over, it goes on to where one more bound does not fit.
        assert 0.004 * PICO - charged(greenroom) < max(row.held_pusd for row in ledger(greenroom.database))
        assert 0 < done.json["ok"] == len(kept) < 400

        again = greenroom.run(*command, "--budget", "5")
        assert (again.code, again.json["ok"], again.json["resumed"]) == (0, 400, len(kept))
        assert len(simulator.journal) == 400
        assert again.json["cost_usd"] == f"{Decimal(charged(greenroom)) / PICO:f}"

    def test_a_budget_that_is_spent_sends_nothing_more(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(400)
        command = ("run", "in.jsonl", "--max-tokens", 40, "--budget", "0.003")
        assert greenroom.run(*command).code == 3
        asked = len(simulator.journal)
        done = greenroom.run(*command)
        assert done.code == 3
        assert "has no room" in done.err
        assert len(simulator.journal) == asked

    def test_below_one_call_it_is_refused_before_anything(
        self, greenroom: Greenroom, upstream: Upstream
    ) -> None:
        greenroom.prompts(5)
        done = greenroom.run("run", "in.jsonl", "--max-tokens", 1000, "--budget", "0.0005")
        assert done.code == 3
        assert "--budget $0.0005 is below one call: the cheapest line may cost up to $0.0006" in done.err
        assert "all 5 lines at most $0.003" in done.err
        assert not greenroom.database.exists()
        assert upstream.asked == []

    @pytest.mark.parametrize("text", ["five", "-1", "NaN", "1e12", ""])
    def test_no_sum_of_dollars(self, greenroom: Greenroom, text: str) -> None:
        greenroom.prompts(1)
        done = greenroom.run("run", "in.jsonl", f"--budget={text}")
        assert done.code == 2
        assert f"--budget: {text!r} is no sum of dollars" in done.err

    def test_answers_without_a_bound_get_one_and_it_is_said(
        self, greenroom: Greenroom, upstream: Upstream
    ) -> None:
        greenroom.prompts(2)
        done = greenroom.run("run", "in.jsonl", "--budget", "1")
        assert done.code == 0, done.err
        assert [asked.body["max_tokens"] for asked in upstream.asked] == [4096, 4096]
        assert "answers without a bound of their own get max_tokens 4096" in done.err

    def test_without_a_budget_they_get_none(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.prompts(1)
        done = greenroom.run("run", "in.jsonl")
        assert done.code == 0
        assert "max_tokens" not in upstream.asked[0].body
        assert "budget" not in done.err

    def test_configured_budgets_bind_all_jobs_together(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.configure(simulator.base_url, before='[budgets]\nday_usd = 1\ntotal_usd = "0.004"\n')
        greenroom.prompts(100, name="first.jsonl")
        greenroom.prompts(400, name="second.jsonl")
        assert greenroom.run("run", "first.jsonl", "--max-tokens", 40).code == 0
        done = greenroom.run("run", "second.jsonl", "--max-tokens", 40)
        assert done.code == 3
        assert "the budget of $0.004 has no room" in done.err
        assert "raise budgets.total_usd to" in done.err
        assert charged(greenroom) <= 0.004 * PICO

    def test_a_budget_that_cannot_be_read(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.configure(simulator.base_url, before="[budgets]\ntotal_usd = -1\n")
        greenroom.prompts(1)
        done = greenroom.run("run", "in.jsonl")
        assert done.code == 2
        assert "budgets.total_usd" in done.err


class TestBeforeTheJob:
    def test_at_most_is_a_bound(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        lines = [
            {"prompt": 'quotes " and \\ back\nslashes ' * 20},
            {"prompt": "你好" * 50},
            {"messages": [{"role": "user", "content": "short"}]},
        ]
        greenroom.write("in.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        dry = greenroom.run("run", "in.jsonl", "--max-tokens", 50, "--dry-run", "--json")
        assert dry.code == 0, dry.err
        (model,) = dry.json["models"]
        assert greenroom.run("run", "in.jsonl", "--max-tokens", 50).code == 0
        held = sum(row.held_pusd for row in ledger(greenroom.database))
        at_most = Decimal(model["at_most_usd"]) * PICO
        assert charged(greenroom) < held <= at_most < 2 * held

    def test_it_says_what_it_reckons_with(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(3)
        dry = greenroom.run("run", "in.jsonl", "--dry-run")
        assert "no bound: set --max-tokens" in dry.out
        assert "likely: about 4 bytes a token" in dry.err
        assert "at most: a token a byte" in dry.err
        dry = greenroom.run("run", "in.jsonl", "--dry-run", "--budget", "1", "--json")
        assert Decimal(dry.json["models"][0]["at_most_usd"]) * PICO > 3 * exact_pusd(1, 4096)
        assert simulator.journal == []

    @pytest.mark.parametrize(
        ("answer", "more", "code"),
        [
            ("n\n", (), 3),
            ("\n", (), 3),
            ("\x04", (), 3),  # end of input
            ("\x03", (), 130),  # Ctrl-C
            ("y\n", (), 0),
            (None, ("--yes",), 0),
            (None, ("--budget", "0.0001"), 3),
        ],
    )
    def test_a_dear_job_is_confirmed_on_a_terminal(
        self, greenroom: Greenroom, upstream: Upstream, answer: str | None, more: tuple[str, ...], code: int
    ) -> None:
        greenroom.configure(upstream.base_url, before="[budgets]\nconfirm_above_usd = 0.0002\n")
        greenroom.prompts(2)
        said, exit_code = on_a_terminal(greenroom, "run", "in.jsonl", *more, answer=answer)
        assert exit_code == code, said
        assert ("is likely to cost about $0.00" in said) == (answer is not None)
        assert bool(upstream.asked) == (code == 0)

    def test_a_cheap_one_is_not(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.prompts(2)
        said, code = on_a_terminal(greenroom, "run", "in.jsonl", answer=None)
        assert (code, "Go on?" in said) == (0, False)


_TAKE_TERMINAL = "import os, sys; os.open(sys.argv[1], os.O_RDWR); os.execv(sys.argv[2], sys.argv[2:])"


def on_a_terminal(greenroom: Greenroom, *args: str, answer: str | None) -> tuple[str, int]:
    """Run a command on a terminal of its own, and answer it once it asks."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "greenroom.runtime.cli", *args]
    environment = greenroom.env | {"TERM": "xterm"}
    said = typed = b""
    # A session of its own, whose terminal this becomes with its first open: Ctrl-C is the terminal's to send.
    name = os.ttyname(theirs)
    command = [sys.executable, "-c", _TAKE_TERMINAL, name, *command]
    with subprocess.Popen(
        command,
        cwd=greenroom.folder,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    ) as process:
        os.close(theirs)
        try:
            while piece := _read(ours, again=typed):
                said += piece
                if answer is not None and b"(y/N)" in said:
                    typed, answer = answer.encode(), None
                    os.write(ours, typed)
        finally:
            os.close(ours)
    return said.decode(), process.returncode


def _read(terminal: int, *, again: bytes) -> bytes:
    """What is said next. While nothing comes of a Ctrl-C, Return is pressed: one that comes just before Python begins to
    read is a flag that it does not look at until the next key. A second Ctrl-C would kill a command that is just ending.
    """
    while again == b"\x03" and not select.select([terminal], [], [], 1.0)[0]:
        os.write(terminal, b"\n")
    try:
        return os.read(terminal, 4096)
    except OSError:  # Linux's way to say that nobody has the other end open any more
        return b""


def test_slices_are_gone_when_the_command_ends(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    greenroom.prompts(200)
    assert greenroom.run("run", "in.jsonl", "--max-tokens", 40).code == 0
    with closing(sqlite3.connect(greenroom.database)) as connection:
        assert connection.execute("SELECT COUNT(*) FROM slices").fetchone() == (0,)
    assert {row.outcome for row in ledger(greenroom.database)} == {"ok"}
