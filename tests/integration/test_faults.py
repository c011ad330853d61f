"""A job against a provider that has a bad day: everything is answered, nobody is asked more often or sooner than allowed."""

from collections import Counter, defaultdict
from itertools import pairwise

import pytest
from tests.integration.commands import Greenroom, SimulatorProcess, results
from tests.integration.evidence import AttemptRow, ledger

from greenroom.runtime.simulator import JournalEntry

LINES = 1_000
ATTEMPTS = 6
FAULTS = "429:0.05,500:0.02,drop:0.02,truncate:0.02,stall:0.01"
# Stalls are given up soon and backoff is short, so that the test is; what is waited for is compared, not timed.
STALLS = "stalls = {gap_s = 0.2}"
RETRIES = f"[retries]\nattempts = {ATTEMPTS}\nbackoff_base_s = 0.02\nmax_retry_after_s = 60"
# A wall clock that is being corrected runs up to 500 parts in a million slower than the clock that waits (ntpd's
# limit), and the journal rounds to microseconds.
CLOCKS_APART_S = 0.002
OUTCOMES = {
    "429": "rate_limited",
    "500": "server",
    "drop": "connection",
    "truncate": "connection",
    "stall": "stalled",
    None: "ok",
}


def by_prompt(journal: list[JournalEntry]) -> list[list[JournalEntry]]:
    """The attempts of each line, in order."""
    found: dict[str, list[JournalEntry]] = defaultdict(list)
    for entry in journal:
        found[str(entry.prompt_sha256)].append(entry)
    return list(found.values())


def too_soon(journal: list[JournalEntry]) -> list[tuple[JournalEntry, JournalEntry]]:
    """Answers that told a line to wait, with the attempt of the same line that did not."""
    return [
        (told, following)
        for attempts in by_prompt(journal)
        for told, following in pairwise(attempts)
        if told.retry_after_s is not None
        and following.arrived_s
        < told.arrived_s + told.duration_s + told.retry_after_s * (1 - 5e-4) - CLOCKS_APART_S
    ]


def run_against(
    greenroom: Greenroom, faults: str, *options: object, lines: int, code: int, concurrency: int = 64
) -> SimulatorProcess:
    """Runs a job of so many lines against a simulator with those faults; it must end with that exit code."""
    simulator = greenroom.simulate("--seed", 11, "--faults", faults, *options)
    greenroom.configure(simulator.base_url, more=STALLS, before=RETRIES)
    greenroom.prompts(lines)
    done = greenroom.run("run", "in.jsonl", "--concurrency", concurrency)
    assert done.code == code, done.err
    return simulator


def charged(row: AttemptRow) -> bool:
    return row.cost_pusd > 0


def test_a_bad_day_loses_nothing_and_asks_nobody_too_often_or_too_soon(greenroom: Greenroom) -> None:
    simulator = run_against(greenroom, FAULTS, "--fault-retry-after", 0.15, lines=LINES, code=0)
    journal = simulator.journal
    struck = Counter(entry.fault for entry in journal)
    assert set(struck) == set(OUTCOMES)
    assert struck[None] == LINES

    answered = results(greenroom.folder / "in.results.jsonl")
    assert set(answered) == {f"q-{number}" for number in range(1, LINES + 1)}
    assert all(line["error"] is None and line["response"]["status_code"] == 200 for line in answered.values())

    lines = by_prompt(journal)
    assert len(lines) == LINES
    for attempts in lines:
        assert [entry.attempt for entry in attempts] == list(range(1, len(attempts) + 1))
        assert len(attempts) <= ATTEMPTS
        assert [entry.fault is None for entry in attempts] == [False] * (len(attempts) - 1) + [True]
    assert too_soon(journal) == []
    assert sum(entry.retry_after_s is not None for entry in journal) == struck["429"]

    rows = ledger(greenroom.database)
    assert Counter(row.outcome for row in rows) == sum(
        (Counter({OUTCOMES[fault]: count}) for fault, count in struck.items()), Counter[str | None]()
    )
    assert {row.state for row in rows} == {"settled"}
    # What a provider refused is free; what it may have served is charged at its bound, and says that it is a guess.
    assert {row.outcome for row in rows if not charged(row)} == {"rate_limited", "server"}
    assert {row.outcome for row in rows if row.estimated} == {"connection", "stalled"}


@pytest.mark.parametrize(
    ("form", "wait_s", "faults", "statuses"),
    [
        ("ms", 0.2, "429@1,503@2", [429, 503, 200]),
        ("seconds", 1, "503@1", [503, 200]),
        # A date has no fractions: whoever is told 0.2 seconds waits for the next whole one after them.
        ("date", 0.2, "429@1", [429, 200]),
    ],
)
def test_retry_after_is_obeyed_in_every_form(
    greenroom: Greenroom, form: str, wait_s: float, faults: str, statuses: list[int]
) -> None:
    options = ("--fault-retry-after", wait_s, "--retry-after-form", form)
    journal = run_against(greenroom, faults, *options, lines=5, code=0).journal
    assert [[entry.status for entry in attempts] for attempts in by_prompt(journal)] == [statuses] * 5
    assert all((entry.retry_after_s is None) == (entry.status == 200) for entry in journal)
    assert too_soon(journal) == []


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_an_absurd_retry_after_halts_the_job_which_can_be_gone_on_with(
    greenroom: Greenroom, form: str
) -> None:
    options = ("--fault-retry-after", 86_400, "--retry-after-form", form)
    simulator = run_against(greenroom, "429@1", *options, lines=200, code=2, concurrency=5)
    # Those in flight were asked, the others never; nobody was asked twice.
    assert [entry.status for entry in simulator.journal] == [429] * len(simulator.journal)
    assert {len(attempts) for attempts in by_prompt(simulator.journal)} == {1}
    assert len(simulator.journal) <= 10
    greenroom.configure(greenroom.simulate().base_url)
    again = greenroom.run("run", "in.jsonl")
    assert again.code == 0, again.err
    assert len(results(greenroom.folder / "in.results.jsonl")) == 200


# What no further line would survive halts the job (2), what concerns the line fails the line (1).
@pytest.mark.parametrize(("status", "code"), [(400, 1), (401, 2), (403, 2), (404, 2), (413, 1), (422, 1)])
def test_what_no_retry_mends_is_asked_once(greenroom: Greenroom, status: int, code: int) -> None:
    simulator = run_against(greenroom, f"{status}@1", lines=3, code=code)
    asked = {tuple(entry.status for entry in attempts) for attempts in by_prompt(simulator.journal)}
    assert asked == {(status,)}
    assert {row.cost_pusd for row in ledger(greenroom.database)} == {0}


@pytest.mark.parametrize(("fault", "code"), [("500", 1), ("drop", 2), ("truncate", 2), ("stall", 1)])
def test_attempts_end_where_they_are_configured_to(greenroom: Greenroom, fault: str, code: int) -> None:
    simulator = run_against(greenroom, f"{fault}:1", lines=1, code=code)
    assert [entry.fault for entry in simulator.journal] == [fault] * ATTEMPTS
    assert [row.number for row in ledger(greenroom.database)] == list(range(1, ATTEMPTS + 1))
