"""Ctrl-C and SIGTERM: the first lets what is in flight finish, the second drops it; the job goes on later."""

import asyncio
import fcntl
import os
import signal
import termios
from collections.abc import Iterator

import pytest
from aiohttp import web
from tests.integration.commands import Greenroom, results
from tests.integration.evidence import exact_pusd, ledger, query
from tests.integration.upstream import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Asked,
    UpstreamThread,
    good,
)

LINES, IN_FLIGHT = 20, 4


class Gate:
    """A provider that answers the first few requests, and the others only once the gate is open."""

    def __init__(self, free: int) -> None:
        self.free = free
        self._open: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __call__(self, asked: Asked) -> web.StreamResponse:
        if self._open is None:
            self._open, self._loop = asyncio.Event(), asyncio.get_running_loop()
        if asked.number > self.free:
            await self._open.wait()
        return good()

    def open(self) -> None:
        assert self._loop is not None
        assert self._open is not None
        self._loop.call_soon_threadsafe(self._open.set)


@pytest.fixture
def gate() -> Gate:
    return Gate(free=6)


@pytest.fixture
def upstream(greenroom: Greenroom, gate: Gate) -> Iterator[UpstreamThread]:
    thread = UpstreamThread(gate)
    with thread as upstream:
        greenroom.configure(upstream.base_url)
        greenroom.prompts(LINES)
        yield thread


BOTH = pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])


@BOTH
def test_the_first_signal_lets_what_is_in_flight_finish(
    greenroom: Greenroom, upstream: UpstreamThread, gate: Gate, number: signal.Signals
) -> None:
    running = greenroom.start("run", "in.jsonl", "--concurrency", IN_FLIGHT, "--json")
    upstream.wait_asked(gate.free + IN_FLIGHT)
    running.send(number)
    running.until_it_says("stopping: what is in flight finishes")
    gate.open()
    done = running.wait()
    assert done.code == 130
    finished = gate.free + IN_FLIGHT
    assert (done.json["state"], done.json["ok"], done.json["failed"]) == ("stopped", finished, 0)
    assert f"stopped with {LINES - finished} lines to go; the same command goes on" in done.err
    assert len(results(greenroom.folder / "in.results.jsonl")) == finished == len(upstream.upstream.asked)
    rows = ledger(greenroom.database)
    assert [(row.state, row.outcome, row.estimated) for row in rows] == [("settled", "ok", False)] * finished

    again = greenroom.run("run", "in.jsonl", "--json")
    assert again.code == 0, again.err
    assert (again.json["ok"], again.json["resumed"]) == (LINES, finished)
    prompts = [asked.prompt for asked in upstream.upstream.asked]
    assert len(set(prompts)) == len(prompts) == LINES


@BOTH
def test_the_second_signal_drops_it_at_once_and_charges_it(
    greenroom: Greenroom, upstream: UpstreamThread, gate: Gate, number: signal.Signals
) -> None:
    running = greenroom.start("run", "in.jsonl", "--concurrency", IN_FLIGHT)
    upstream.wait_asked(gate.free + IN_FLIGHT)
    running.send(number)
    running.until_it_says("stopping: what is in flight finishes")
    running.send(number)
    done = running.wait()
    assert done.code == 130
    assert "Traceback" not in done.err
    assert len(results(greenroom.folder / "in.results.jsonl")) == gate.free
    rows = ledger(greenroom.database)
    answered = [row for row in rows if row.outcome == "ok"]
    dropped = [row for row in rows if row.outcome == "cancelled"]
    assert (len(answered), len(dropped), len(rows)) == (gate.free, IN_FLIGHT, gate.free + IN_FLIGHT)
    assert all(row.cost_pusd == exact_pusd(PROMPT_TOKENS, COMPLETION_TOKENS) for row in answered)
    # The provider may well have served them: charged at the bound, and marked as an estimate.
    assert all(row.estimated and row.cost_pusd == row.held_pusd > 0 for row in dropped)
    # It ended in order: the runtime's end is noted, the lock given up.
    assert query(greenroom.database, "SELECT COUNT(*) FROM runtimes WHERE ended_at_ms IS NULL") == [(0,)]

    gate.open()
    again = greenroom.run("run", "in.jsonl", "--json")
    assert again.code == 0, again.err
    assert (again.json["ok"], again.json["resumed"]) == (LINES, gate.free)
    asked = [asked.prompt for asked in upstream.upstream.asked]
    assert len(asked) == LINES + IN_FLIGHT
    assert len(set(asked)) == LINES


def test_the_second_signal_does_not_wait_for_another_attempt(greenroom: Greenroom) -> None:
    """A provider that says to come back in minutes is not waited for, and what it refused costs nothing."""

    async def answer(asked: Asked) -> web.StreamResponse:
        return web.Response(status=429, headers={"Retry-After": "200"})

    thread = UpstreamThread(answer)
    with thread as upstream:
        greenroom.configure(upstream.base_url)
        greenroom.prompts(2)
        running = greenroom.start("run", "in.jsonl", "--verbose")
        thread.wait_asked(2)
        running.until_it_says("trying again")
        running.send(signal.SIGINT)
        running.until_it_says("stopping")
        running.send(signal.SIGINT)
        assert running.wait().code == 130
    rows = ledger(greenroom.database)
    assert [(row.state, row.outcome, row.cost_pusd) for row in rows] == [("settled", "rate_limited", 0)] * 2


def test_a_signal_while_standard_input_is_read(greenroom: Greenroom) -> None:
    greenroom.configure("http://127.0.0.1:9/v1")
    fifo = greenroom.folder / "fifo"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    try:
        running = greenroom.start("run", "-", "--out", "out.jsonl", stdin=fifo)
        os.write(writer, b'{"prompt": "one"}\n')
        while fcntl.ioctl(writer, termios.FIONREAD, b"1234") != b"\0\0\0\0":
            os.sched_yield()
        running.send(signal.SIGINT)
        done = running.wait()
    finally:
        os.close(writer)
    assert done.code == 130
    assert "Traceback" not in done.err
    assert not (greenroom.folder / "out.jsonl").exists()
