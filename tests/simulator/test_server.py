"""The server around the answers: keys, paths, models, life cycle, clients that go away, and the journal."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.simulator.conftest import Client, Connect

from greenroom.actors.kernel import FakeClock
from greenroom.runtime.simulator import JournalEntry, Simulator, SimulatorSettings, read_journal

pytestmark = pytest.mark.anyio
Until = Callable[[Callable[[], object]], Awaitable[None]]


async def test_models_are_listed_and_told_one_by_one(client: Client) -> None:
    listed = (await client.send("GET", "/v1/models")).json
    assert listed["object"] == "list"
    assert [row["id"] for row in listed["data"]] == ["fast", "smart", "echo", "classify", "chat"]
    for row in listed["data"]:
        assert (await client.send("GET", f"/v1/models/{row['id']}")).json == row
        assert row["object"] == "model"
    missing = await client.send("GET", "/v1/models/none")
    assert missing.status == 404
    assert (missing.error["param"], missing.error["code"]) == ("model", "model_not_found")


async def test_further_models_stand_in_for_those_of_a_job(connect: Connect) -> None:
    async with Simulator(SimulatorSettings(also_serve=("gpt-5-mini", "org/model:v1"))) as simulator:
        client = connect(simulator)
        assert (await client.chat("hello", model="gpt-5-mini")).json["model"] == "gpt-5-mini"
        assert (await client.send("GET", "/v1/models/org%2Fmodel:v1")).json["id"] == "org/model:v1"


@pytest.mark.parametrize(
    ("header", "code"),
    [(None, None), ("", None), ("Bearer wrong", "invalid_api_key"), ("secret-1", "invalid_api_key")],
)
async def test_without_the_right_key_everything_is_401(
    connect: Connect, header: str | None, code: str | None
) -> None:
    async with Simulator(SimulatorSettings(api_key="secret-1")) as simulator:
        client = connect(simulator)
        headers = {} if header is None else {"Authorization": header}
        for method, path in (
            ("POST", "/v1/chat/completions"),
            ("GET", "/v1/models"),
            ("GET", "/sim/journal"),
        ):
            reply = await client.send(method, path, headers=headers)
            assert reply.status == 401
            assert reply.error["type"] == "invalid_request_error"
            assert reply.error["code"] == code
            assert b"secret-1" not in reply.body
            assert "secret-1" not in str(reply.headers)
        right = {"Authorization": "Bearer secret-1"}
        assert (await client.chat("hello", headers=right)).status == 200


def test_the_key_is_never_shown() -> None:
    settings = SimulatorSettings(api_key="canary-key")
    assert "canary-key" not in repr(settings)
    assert "canary-key" not in repr(Simulator(settings))
    assert "canary-key" not in repr(settings.__rich_repr__())


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"port": 70_000}, "65535"),
        ({"port": -1}, "65535"),
        ({"host": "0.0.0.0"}, "api_key"),  # noqa: S104  # the point of the test
        ({"host": "example.com"}, "api_key"),
        ({"api_key": " "}, "api_key"),
        ({"journal_capacity": 0}, "journal_capacity"),
        ({"max_body_bytes": 0}, "max_body_bytes"),
        ({"shutdown_grace_s": -1.0}, "shutdown_grace_s"),
        ({"also_serve": ("",)}, "also_serve"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(options: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        SimulatorSettings(**options)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, None),
        ("POST", "/v1/completions", 404, None),
        ("GET", "/v1/chat/completions", 405, "method_not_supported"),
        ("POST", "/v1/models", 405, "method_not_supported"),
        ("DELETE", "/v1/models/fast", 405, "method_not_supported"),
    ],
)
async def test_wrong_paths_and_methods_get_an_error_body(
    client: Client, method: str, path: str, status: int, code: str | None
) -> None:
    reply = await client.send(method, path)
    assert reply.status == status
    assert (reply.error["type"], reply.error["code"]) == ("invalid_request_error", code)
    assert reply.headers.get("allow") == (
        None if status == 404 else {"/v1/chat/completions": "POST"}.get(path, "GET")
    )
    assert reply.headers["x-request-id"]


async def test_a_body_above_the_limit_is_413_and_a_query_is_ignored(connect: Connect) -> None:
    async with Simulator(SimulatorSettings(max_body_bytes=2_000)) as simulator:
        client = connect(simulator)
        reply = await client.chat("x" * 4_000)
        assert reply.status == 413
        assert "2000" in reply.error["message"]
        body = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
        assert (await client.send("POST", "/v1/chat/completions?api-version=1", json=body)).status == 200


async def test_it_starts_and_stops_and_says_where_it_is() -> None:
    simulator = Simulator()
    with pytest.raises(RuntimeError, match="not listening"):
        _ = simulator.url
    async with simulator:
        first = simulator.url
        assert first.startswith("http://127.0.0.1:")
        assert simulator.openai_base_url == f"{first}/v1"
        assert first in repr(simulator)
        with pytest.raises(RuntimeError, match="already"):
            await simulator.start()
        async with aiohttp.ClientSession() as session, session.get(f"{first}/v1/models") as response:
            assert response.status == 200
    assert "not listening" in repr(simulator)
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{first}/v1/models")
    await simulator.aclose()
    assert len(simulator.journal) == 1


async def test_a_taken_port_is_an_error_that_leaves_nothing_open(tmp_path: Path) -> None:
    async with Simulator() as first:
        port = int(first.url.rpartition(":")[2])
        second = Simulator(SimulatorSettings(port=port, journal_path=tmp_path / "journal.jsonl"))
        with pytest.raises(OSError, match="address already in use"):
            await second.start()
        with pytest.raises(RuntimeError, match="not listening"):
            _ = second.url


async def test_ipv6_loopback_has_a_usable_url(connect: Connect) -> None:
    try:
        async with Simulator(SimulatorSettings(host="::1")) as simulator:
            assert (await connect(simulator).send("GET", "/v1/models")).status == 200
    except OSError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")


async def test_stopping_lets_open_requests_finish_within_the_grace(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    simulator = Simulator(SimulatorSettings(latency="1s", shutdown_grace_s=30), clock=clock)
    await simulator.start()
    asked = asyncio.create_task(connect(simulator).chat("hello"))
    await until(lambda: clock.pending)
    stopping = asyncio.create_task(simulator.aclose())
    await until(lambda: "not listening" in repr(simulator))
    await clock.advance(1)
    assert (await asked).status == 200
    await stopping
    assert [entry.status for entry in simulator.journal] == [200]


async def test_stopping_without_grace_cuts_open_requests_and_says_so(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    simulator = Simulator(SimulatorSettings(latency="1s", shutdown_grace_s=0), clock=clock)
    await simulator.start()
    asked = asyncio.create_task(connect(simulator).chat("hello"))
    await until(lambda: clock.pending)
    await simulator.aclose()
    with pytest.raises(aiohttp.ClientError):
        await asked
    assert [(entry.status, entry.error_code) for entry in simulator.journal] == [(0, "simulator_stopped")]
    assert simulator.statistics().in_flight == 0


async def test_a_client_that_goes_away_is_noticed_at_once(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(latency="60s"), clock=clock) as simulator:
        asked = asyncio.create_task(connect(simulator).chat("hello"))
        await until(lambda: clock.pending)
        asked.cancel()
        await until(lambda: simulator.journal)
        (entry,) = simulator.journal
        assert (entry.status, entry.error_code, entry.model) == (0, "client_gone", "fast")
        assert clock.pending == 0
        assert simulator.statistics().in_flight == 0


CLIENT = """
import socket, sys
body = b'{"model":"fast","messages":[{"role":"user","content":"hello"}],"metadata":{"custom_id":"line-7"}}'
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
sock.sendall(b"POST /v1/chat/completions HTTP/1.1\\r\\nHost: x\\r\\nIdempotency-Key: key-7\\r\\n"
             b"Content-Length: %d\\r\\n\\r\\n" % len(body) + body)
sock.recv(1)
"""


async def test_a_client_killed_in_the_middle_leaves_its_entry_in_the_file(
    tmp_path: Path, until: Until
) -> None:
    clock = FakeClock()
    path = tmp_path / "journal.jsonl"
    async with Simulator(SimulatorSettings(latency="60s", journal_path=path), clock=clock) as simulator:
        port = simulator.url.rpartition(":")[2]
        process = await asyncio.create_subprocess_exec(sys.executable, "-c", CLIENT, port)
        await until(lambda: clock.pending)
        process.kill()
        await process.wait()
        await until(lambda: simulator.journal)
    (entry,) = await asyncio.to_thread(read_journal, path)
    assert (entry.status, entry.error_code) == (0, "client_gone")
    assert (entry.custom_id, entry.idempotency_key) == ("line-7", "key-7")


async def test_the_file_has_the_entry_before_the_client_has_the_answer(
    connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    async with Simulator(SimulatorSettings(journal_path=path)) as simulator:
        client = connect(simulator)
        for number in range(20):
            reply = await client.chat(f"number {number}", headers={"X-Client-Request-Id": f"call-{number}"})
            entry = (await asyncio.to_thread(read_journal, path))[-1]
            assert entry.client_request_id == f"call-{number}"
            assert entry.request_id == reply.headers["x-request-id"]
            assert entry.prompt_tokens == reply.json["usage"]["prompt_tokens"]
            assert entry.completion_tokens == reply.json["usage"]["completion_tokens"]
        entries = await asyncio.to_thread(read_journal, path)
        assert tuple(entries) == simulator.journal
        assert [entry.sequence for entry in entries] == list(range(1, 21))


async def test_the_file_is_appended_to_and_every_request_has_one_line(
    connect: Connect, tmp_path: Path
) -> None:
    path = tmp_path / "journal.jsonl"
    for _ in range(2):
        async with Simulator(SimulatorSettings(journal_path=path)) as simulator:
            client = connect(simulator)
            asked = [client.chat(f"number {number}") for number in range(100)]
            refused = [
                client.chat("x", model="none"),
                client.send("GET", "/v1/models"),
                client.send("GET", "/nowhere"),
            ]
            await asyncio.gather(*asked, *refused)
    entries = await asyncio.to_thread(read_journal, path)
    assert len(entries) == 206
    assert sorted({entry.status for entry in entries}) == [200, 404]
    assert len({entry.prompt_sha256 for entry in entries if entry.status == 200 and entry.model}) == 100
    keys = {frozenset(json.loads(line)) for line in (await asyncio.to_thread(path.read_bytes)).splitlines()}
    assert keys == {frozenset(JournalEntry.__struct_fields__)}


async def test_a_journal_that_cannot_be_written_fails_the_request_and_not_the_server(
    connect: Connect,
) -> None:
    async with Simulator(SimulatorSettings(journal_path=Path("/dev/full"))) as simulator:
        client = connect(simulator)
        for model in ("fast", "none"):
            reply = await client.chat("hello", model=model)
            assert reply.status == 500
            assert reply.error["type"] == "server_error"
            assert "journal" in reply.error["message"]
        assert [(entry.status, entry.error_code) for entry in simulator.journal] == [
            (500, "journal_failed")
        ] * 2
        assert simulator.statistics().by_status == {"500": 2}
        assert (await client.send("GET", "/sim/stats")).status == 200


async def test_a_journal_that_cannot_be_opened_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        await Simulator(SimulatorSettings(journal_path=tmp_path)).start()


def test_a_last_line_that_is_not_whole_is_left_out(tmp_path: Path) -> None:
    entry = JournalEntry(
        sequence=1,
        arrived_s=2.0,
        duration_s=0.5,
        method="GET",
        path="/",
        status=200,
        request_id="r",
        in_flight=1,
    )
    path = tmp_path / "journal.jsonl"
    line = msgspec.json.encode(entry)
    path.write_bytes(line + b"\n" + line[:40])
    assert read_journal(path) == [entry]


async def test_memory_keeps_the_newest_entries_and_counts_the_rest(connect: Connect) -> None:
    async with Simulator(SimulatorSettings(journal_capacity=3)) as simulator:
        client = connect(simulator)
        for number in range(5):
            await client.chat(f"number {number}")
        assert [entry.sequence for entry in simulator.journal] == [3, 4, 5]
        page = (await client.send("GET", "/sim/journal?after=3&limit=1")).json
        assert [entry["sequence"] for entry in page["data"]] == [4]
        assert (page["recorded"], page["dropped"]) == (5, 2)
        assert (await client.send("GET", "/sim/journal?after=soon")).status == 400


async def test_statistics_count_what_was_asked_and_answered(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(latency="1s"), clock=clock) as simulator:
        client = connect(simulator)
        asked = [asyncio.create_task(client.chat("12345678", model="echo")) for _ in range(7)]
        await until(lambda: clock.pending == 7)
        await clock.advance(1)
        await asyncio.gather(*asked)
        await client.chat("x", model="none")
        told = (await client.send("GET", "/sim/stats")).json
        assert told["peak_in_flight"] == 7
        assert told["in_flight"] == 1
        assert told["by_status"] == {"200": 7, "404": 1}
        assert (told["prompt_tokens"], told["completion_tokens"]) == (7 * 8, 7 * 2)
        assert told["uptime_s"] == 1.0
        assert {entry.in_flight for entry in simulator.journal if entry.status == 200} == set(range(1, 8))
