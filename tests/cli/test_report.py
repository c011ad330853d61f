"""What `greenroom run` says at the end: the exit code is the job's end, and people and programs read the same figures."""

import json
from pathlib import Path
from typing import Literal

import msgspec
import pytest
from msgspec import structs

from greenroom.actors.batch import Defaults, JobProgress, JobRequest, OpenJob, Scan
from greenroom.actors.events import ErrorKind
from greenroom.runtime.cli.inputs import Options
from greenroom.runtime.cli.report import already_complete, ended

OPENED = OpenJob(
    id="j1",
    request=JobRequest(
        path=Path("in.jsonl"), source="in.jsonl", out=Path("[b]out.jsonl"), defaults=Defaults()
    ),
    scan=Scan(lines=10, span=10, bad=(), bad_count=0, digest="", models={}),
    finished=10,
    failed=2,
)
State = Literal["running", "stopping", "done", "stopped", "halted"]


def options(*, as_json: bool = False, out: str | None = None) -> Options:
    unset = {field.name: False if field.type is bool else None for field in structs.fields(Options)}
    given = {
        "input": "in.jsonl",
        "params": (),
        "fallbacks": (),
        "concurrency": 1,
        "as_json": as_json,
        "out": out,
    }
    return msgspec.convert(unset | given, Options)


def progress(
    state: State, *, failed: int = 0, because: str | None = None, kind: ErrorKind | None = None
) -> JobProgress:
    return JobProgress(
        job_id="j1",
        state=state,
        total=10,
        ok=7,
        failed=failed,
        resumed=3,
        in_flight=0,
        usage_input_tokens=1200,
        usage_output_tokens=34,
        cost_pusd=1_500_000_000,
        errors={"server": failed} if failed else {},
        because=because,
        because_kind=kind,
    )


@pytest.mark.parametrize(
    ("last", "code", "said"),
    [
        (progress("done"), 0, ""),
        (progress("done", failed=2), 1, "2 lines failed; ask them again with --retry-failed"),
        (progress("halted", because="no [key]"), 2, "halted: no [key]"),
        (progress("halted", because="spent", kind="budget_exceeded"), 3, "halted: spent"),
        (progress("stopped"), 130, "stopped with 3 lines to go; the same command goes on"),
    ],
)
def test_an_end_is_an_exit_code_and_a_word(
    capsys: pytest.CaptureFixture[str], last: JobProgress, code: int, said: str
) -> None:
    assert ended(last, OPENED, 2.0, options()) == code
    out, err = capsys.readouterr()
    assert said in err
    for figure in (
        f"{last.finished} of 10 lines",
        "1,200",
        "$0.0015",
        "2.0 s (",
        "[b]out.jsonl",
        "from earlier runs",
    ):
        assert figure in out


def test_for_programs_the_same_in_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(progress("done", failed=2), OPENED, 2.0, options(as_json=True)) == 1
    told = json.loads(capsys.readouterr().out)
    assert float(told.pop("cost_usd")) == 0.0015
    assert told == {
        "job_id": "j1",
        "state": "done",
        "lines": 10,
        "ok": 7,
        "failed": 2,
        "resumed": 3,
        "input_tokens": 1200,
        "output_tokens": 34,
        "seconds": 2.0,
        "out": "[b]out.jsonl",
        "errors": {"server": 2},
        "because": None,
    }


def test_standard_output_is_left_to_the_results(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(progress("done"), OPENED, 2.0, options(out="-")) == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert "standard output" in err
    assert "[b]out.jsonl" not in err


@pytest.mark.parametrize(("failed", "code"), [(2, 1), (0, 0)])
def test_a_complete_job_says_so(capsys: pytest.CaptureFixture[str], failed: int, code: int) -> None:
    assert already_complete(structs.replace(OPENED, failed=failed), options(as_json=True)) == code
    out, err = capsys.readouterr()
    assert "complete: all 10 lines have their results in [b]out.jsonl" in err
    assert json.loads(out)["failed"] == failed
