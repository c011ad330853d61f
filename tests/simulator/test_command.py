"""`greenroom simulate` as a process: what it prints, how it stops, and what it says to bad options."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path

import aiohttp
import msgspec
import pytest
import typer
from typer.testing import CliRunner

from greenroom.runtime.cli.simulate import simulate
from greenroom.runtime.simulator import Simulator, read_journal

pytestmark = pytest.mark.anyio
COMMAND_HERE = typer.Typer()
COMMAND_HERE.command()(simulate)
COMMAND = "import typer; from greenroom.runtime.cli.simulate import simulate; typer.run(simulate)"
Run = Callable[..., Coroutine[None, None, Process]]


@pytest.fixture
async def run() -> AsyncIterator[Run]:
    started: list[Process] = []

    async def start(*options: str) -> Process:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            COMMAND,
            *options,
            stdout=PIPE,
            stderr=PIPE,
            env={**os.environ, "COLUMNS": "200"},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def first_line(process: Process) -> bytes:
    assert process.stdout is not None
    return await process.stdout.readline()


async def test_json_tells_the_address_and_nothing_else(run: Run, tmp_path: Path) -> None:
    journal = tmp_path / "journal.jsonl"
    process = await run(
        "--port", "0", "--json", "--seed", "3", "--also-serve", "gpt-5.4-mini", "--journal", str(journal)
    )
    ready = msgspec.json.decode(await first_line(process))
    assert ready["url"].startswith("http://127.0.0.1:")
    assert ready["openai_base_url"] == ready["url"] + "/v1"
    assert ready["seed"] == 3
    assert "gpt-5.4-mini" in ready["models"]
    async with aiohttp.ClientSession() as session:
        body = {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "hello"}]}
        async with session.post(ready["openai_base_url"] + "/chat/completions", json=body) as response:
            assert response.status == 200
    process.terminate()
    rest, complaints = await process.communicate()
    assert (process.returncode, rest, complaints) == (0, b"", b"")
    (entry,) = await asyncio.to_thread(read_journal, journal)
    assert entry.model == "gpt-5.4-mini"


async def test_ctrl_c_ends_with_a_summary(run: Run) -> None:
    process = await run("--port", "0", "--api-key", "canary-key")
    greeting = [await first_line(process)]
    while greeting[-1] and not greeting[-1].startswith(b"Ctrl-C"):
        greeting.append(await first_line(process))
    url = greeting[0].split()[3].decode()
    assert any(f"OPENAI_BASE_URL={url}/v1".encode() in line for line in greeting)
    assert not any(b"canary-key" in line for line in greeting)
    async with aiohttp.ClientSession() as session, session.get(f"{url}/v1/models") as response:
        assert response.status == 401
    process.send_signal(signal.SIGINT)
    summary, complaints = await process.communicate()
    assert (process.returncode, complaints) == (0, b"")
    assert b"1 requests" in summary
    assert b"1 x 401" in summary


async def test_the_summary_of_a_rehearsal_tells_what_was_refused_and_what_broke(run: Run) -> None:
    options = [
        "--requests-per-min",
        "4",
        "--limit-kind",
        "sliding",
        "--faults",
        "503@1",
        "--fault-retry-after",
        "0",
    ]
    process = await run("--port", "0", *options, "--tokens-counted", "end", "--retry-after-form", "seconds")
    greeting = [await first_line(process)]
    while greeting[-1] and not greeting[-1].startswith(b"Ctrl-C"):
        greeting.append(await first_line(process))
    url = greeting[0].split()[3].decode()
    assert b"Faults: 503@1\n" in greeting
    assert any(line.startswith(b"Limits: 4 requests a minute (sliding") for line in greeting)
    body = {"model": "echo", "messages": [{"role": "user", "content": "12345678"}]}
    async with aiohttp.ClientSession() as session:
        statuses: list[int] = []
        for _ in range(6):
            async with session.post(f"{url}/v1/chat/completions", json=body) as response:
                statuses.append(response.status)
        assert statuses == [503, 200, 200, 200, 429, 429]
    process.send_signal(signal.SIGINT)
    summary, complaints = await process.communicate()
    assert (process.returncode, complaints) == (0, b"")
    assert b"3 x 200, 2 x 429, 1 x 503" in summary
    assert b"Busiest minute: 6 requests, 30 tokens." in summary
    assert b"2 x requests." in summary
    assert b"Faults: 1 x 503." in summary


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--latency", "soon"], ["latency", "soon", "50ms"]),
        (["--host", "0.0.0.0"], ["api_key"]),  # noqa: S104  # the point of the test
        (["--port", "99999"], ["65535"]),
        (["--faults", "429:2.0"], ["429:2.0", "0.05", "at most 1"]),
        (["--faults", "truncatd"], ["truncatd", "Did you mean truncate?"]),
        (["--limit-kind", "leaky"], ["leaky", "bucket"]),
        (["--requests-per-min", "0"], ["requests_per_min"]),
        (["--chunk-tokens", "all"], ["chunk_tokens", "1-8"]),
        (["--journal", "/nonexistent/journal.jsonl"], ["/nonexistent/journal.jsonl", "No such file"]),
        (["--wizard"], ["--wizard"]),
    ],
)
def test_bad_options_say_what_is_wrong_and_exit_2(options: list[str], words: list[str]) -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(COMMAND_HERE, ["--port", "0", *options])
    assert done.exit_code == 2
    assert done.stdout == ""
    for word in words:
        assert word in done.stderr
    assert "Traceback" not in done.stderr


async def test_a_taken_port_is_named_and_exits_2(run: Run) -> None:
    async with Simulator() as simulator:
        port = simulator.url.rpartition(":")[2]
        process = await run("--port", port)
        _, complaints = await process.communicate()
    assert process.returncode == 2
    assert port in complaints.decode()
    assert "--port 0" in complaints.decode()


async def test_a_reader_that_goes_away_is_not_taken_for_a_bad_address(run: Run) -> None:
    process = await run("--port", "0", "--latency", "0")
    assert process.stdout is not None
    await first_line(process)
    process.stdout._transport.close()  # type: ignore[attr-defined]  # asyncio has no public way to close a reader
    process.terminate()
    await process.wait()
    assert process.stderr is not None
    assert b"cannot listen" not in await process.stderr.read()


async def test_help_teaches_by_example(run: Run) -> None:
    process = await run("--help")
    output, _ = await process.communicate()
    text = output.decode()
    for word in (
        "Examples",
        "lognormal(p50=0.4,p95=1.2)",
        "--also-serve",
        "/sim/stats",
        "Rehearse",
        "truncate=120",
        "budget",
        "price_provider",
        "never a byte",
    ):
        assert word in text
