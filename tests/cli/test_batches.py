"""`greenroom batches`: what people and programs see of jobs, whoever runs them."""

import asyncio
import json
import os
import subprocess
import sys
import threading

import msgspec
import pytest
from aiohttp import web
from tests.integration.commands import Greenroom, results
from tests.integration.upstream import Asked, UpstreamThread, good, refusal


async def answer(asked: Asked) -> web.StreamResponse:
    if asked.number == 2:
        return refusal(400)
    return refusal(403, "content_policy_violation") if asked.number == 3 else good()


@pytest.fixture
def ran(greenroom: Greenroom) -> Greenroom:
    """A database with a job of four lines, of which some failed."""
    with UpstreamThread(answer) as upstream:
        greenroom.configure(upstream.base_url)
        greenroom.prompts(4)
        assert greenroom.run("run", "in.jsonl", "--concurrency", 1).code == 1
    return greenroom


def listed(greenroom: Greenroom) -> list[dict[str, object]]:
    done = greenroom.run("batches", "list", "--json")
    assert done.code == 0, done.err
    return [msgspec.json.decode(line, type=dict[str, object]) for line in done.out.splitlines()]


def test_lists_them_with_what_they_came_to(ran: Greenroom) -> None:
    (job,) = listed(ran)
    assert (job["state"], job["lines"], job["ok"], job["failed"]) == ("done", 4, 2, 2)
    assert str(job["output"]).endswith("in.results.jsonl")
    table = ran.run("batches", "list").out
    assert str(job["id"]) in table
    assert "done" in table


def test_shows_what_failed_by_class_with_an_example(ran: Greenroom) -> None:
    (job,) = listed(ran)
    told = ran.run("batches", "show", str(job["id"])[:6], "--json").json
    assert told["job"] == job
    assert [(one["lines"], one["first_line"]) for one in told["errors"]] == [(1, 2), (1, 3)]
    assert [one["error_class"] for one in told["errors"]] == ["invalid_request", "content_filter"]
    assert all("no: 40" in one["example"] for one in told["errors"])
    shown = ran.run("batches", "show", str(job["id"]))
    assert "line 2" in shown.out
    assert "--retry-failed" in shown.err


def test_prints_results_as_the_output_has_them(ran: Greenroom) -> None:
    (job,) = listed(ran)
    done = ran.run("batches", "results", str(job["id"]))
    assert done.out == (ran.folder / "in.results.jsonl").read_text()
    failed = ran.run("batches", "results", str(job["id"]), "--failed").out.splitlines()
    assert [json.loads(line)["custom_id"] for line in failed] == ["q-2", "q-3"]


def test_a_reader_who_has_seen_enough_is_no_error(ran: Greenroom) -> None:
    (job,) = listed(ran)
    command = [sys.executable, "-m", "greenroom.runtime.cli", "batches", "results", str(job["id"])]
    env = ran.env | {"PYTHONUNBUFFERED": "1"}
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as nobody:
        done = subprocess.run(
            command, cwd=ran.folder, env=env, stdout=nobody, stderr=subprocess.PIPE, check=False
        )
    assert (done.returncode, done.stderr) == (0, b"")


def test_watches_one_that_another_process_runs(greenroom: Greenroom) -> None:
    go_on = threading.Event()

    async def slow(asked: Asked) -> web.StreamResponse:
        if asked.number > 2:
            await asyncio.to_thread(go_on.wait)
        return good()

    thread = UpstreamThread(slow)
    try:
        with thread as upstream:
            greenroom.configure(upstream.base_url)
            greenroom.prompts(4)
            running = greenroom.start("run", "in.jsonl", "--concurrency", 1)
            thread.wait_asked(3)
            job = ""
            while not job:  # its row is on disk before it asks, and so is what it asks for soon after
                job = next((str(one["id"]) for one in listed(greenroom) if one["state"] == "unfinished"), "")
            watching = greenroom.start("batches", "watch", job)
            go_on.set()
            assert running.wait().code == 0
            told = watching.wait()
    finally:
        go_on.set()
    assert told.code == 0
    assert told.err.splitlines()[-2:] == ["4 of 4, 0 failed, $0.00003060", "done"]
    assert len(results(greenroom.folder / "in.results.jsonl")) == 4


@pytest.mark.parametrize("command", ["show", "watch", "results"])
@pytest.mark.parametrize("job", ["nosuch", "%", "_"])
def test_a_job_that_is_not_there_is_said(ran: Greenroom, command: str, job: str) -> None:
    done = ran.run("batches", command, job)
    assert done.code == 2
    assert f"there is no job '{job}'; greenroom batches list shows" in done.err


def test_there_are_none_before_the_first(greenroom: Greenroom) -> None:
    done = greenroom.run("batches", "list")
    assert (done.code, done.out) == (0, "")
    assert "no jobs yet" in done.err
