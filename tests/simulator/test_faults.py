"""Faults to order: what is read, whom they strike, and what a client sees of each over a real socket."""

import asyncio
import errno
import math
import re
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import msgspec
import pytest
from tests.simulator.conftest import Connect, Reply

from greenroom.actors.kernel import FakeClock
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.simulator.traffic.advice import RetryAfterForm
from greenroom.runtime.simulator.traffic.faults import (
    REMEMBERED_REQUESTS,
    STATUS_FAULTS,
    Fault,
    Faults,
    parse_faults,
)

Until = Callable[[Callable[[], object]], Awaitable[None]]
PROMPT = "Why do glaciers move slowly through valleys?"


def test_an_order_is_read_item_by_item() -> None:
    assert parse_faults("") == ()
    assert parse_faults(" 429:0.05, 500:0.02,503 ,drop:0,503:0.8@1, stall:0.9@5, hang:0.5@2-3") == (
        Fault(429, 0.05),
        Fault(500, 0.02),
        Fault(503, 0.01),
        Fault("drop", 0.0),
        Fault(503, 0.8, 1, 1),
        Fault("stall", 0.9, 5, 5),
        Fault("hang", 0.5, 2, 3),
    )
    assert parse_faults("stall@2") == (Fault("stall", 1.0, 2, 2),)
    assert parse_faults("truncate=120:0.5@1,stall=0") == (
        Fault("truncate", 0.5, 1, 1, 120),
        Fault("stall", 0.01, at_byte=0),
    )


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("earthquake", "earthquake"),
        ("truncated:0.1", "Did you mean truncate?"),
        ("459", "Did you mean"),
        ("200", "200"),
        ("429:2.0", "'2.0' in '429:2.0' is no share"),
        ("429:nan", "no share"),
        ("drop:", "no share"),
        ("drop=7", "end_early, stall, truncate"),
        ("truncate=:0.1", "truncate=:0.1"),
        ("429:x", "x"),
        ("429:0.1.1", "share"),
        ("429:-1", "429:-1"),
        ("drop@0", "count from 1"),
        ("drop@3-2", "drop@3-2"),
        ("429:0.6,500:0.6", "add up to 1.2"),
        ("429@1,drop@1-2", "attempt 1"),
    ],
)
def test_what_is_no_order_is_refused_and_quoted(text: str, word: str) -> None:
    with pytest.raises(ValueError, match="faults") as refused:
        SimulatorSettings(faults=text)
    assert word in str(refused.value)


def test_shares_are_kept_and_draws_are_seeded() -> None:
    order = parse_faults("429:0.05,500:0.02,drop:0.1")
    keys = [str(number).encode() for number in range(10_000)]
    struck = [fault.name if (fault := Faults(order, seed=1).draw(key, 1)) else "" for key in keys]
    counts = Counter(struck)
    assert counts["429"] == pytest.approx(500, rel=0.15)
    assert counts["500"] == pytest.approx(200, rel=0.25)
    assert counts["drop"] == pytest.approx(1_000, rel=0.1)
    again = [fault.name if (fault := Faults(order, seed=1).draw(key, 1)) else "" for key in keys]
    assert again == struck
    retried = [fault.name if (fault := Faults(order, seed=1).draw(key, 2)) else "" for key in keys]
    both = sum(bool(first and second) for first, second in zip(struck, retried, strict=True))
    assert both == pytest.approx(10_000 * 0.17**2, rel=0.3)


def test_attempts_are_counted_for_a_bounded_number_of_requests() -> None:
    faults = Faults((), seed=0)
    assert [faults.next_attempt(b"a") for _ in range(3)] == [1, 2, 3]
    for number in range(REMEMBERED_REQUESTS - 1):
        faults.next_attempt(str(number).encode())
    assert faults.next_attempt(b"a") == 4
    for number in range(REMEMBERED_REQUESTS):
        faults.next_attempt(str(number).encode())
    assert faults.next_attempt(b"a") == 1


@pytest.mark.anyio
@pytest.mark.parametrize("status", STATUS_FAULTS)
async def test_a_status_fault_is_an_error_body_and_the_next_attempt_succeeds(
    connect: Connect, status: int
) -> None:
    async with Simulator(SimulatorSettings(faults=f"{status}@1-2", fault_retry_after_s=2.5)) as simulator:
        client = connect(simulator)
        for _ in range(2):
            reply = await client.chat(PROMPT)
            assert reply.status == status
            assert "simulated" in reply.error["message"]
            waits = (reply.headers.get("retry-after"), reply.headers.get("retry-after-ms"))
            assert waits == (("3", "2500") if status in {429, 503} else (None, None))
        assert (await client.chat(PROMPT)).status == 200
        assert (await client.chat("another question")).status == status
        told = [(entry.attempt, entry.fault, entry.status) for entry in simulator.journal]
        assert told == [
            (1, str(status), status),
            (2, str(status), status),
            (3, None, 200),
            (1, str(status), status),
        ]
        assert simulator.statistics().faults == {str(status): 3}


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("form", "headers", "told_s"),
    [
        ("ms", {"retry-after": "3", "retry-after-ms": "2250"}, 2.25),
        ("seconds", {"retry-after": "3"}, 3.0),
        ("date", {"retry-after": "Fri, 15 Jan 2027 08:00:03 GMT"}, 2.5),
    ],
)
async def test_a_client_is_told_to_wait_in_the_form_that_is_ordered(
    connect: Connect, form: RetryAfterForm, headers: dict[str, str], told_s: float
) -> None:
    clock = FakeClock(epoch_s=1_800_000_000.5)
    settings = SimulatorSettings(faults="503@1,429@2", fault_retry_after_s=2.25, retry_after_form=form)
    async with Simulator(settings, clock=clock) as simulator:
        client = connect(simulator)
        for status in (503, 429):
            reply = await client.chat(PROMPT)
            assert reply.status == status
            given = {name: value for name, value in reply.headers.items() if name.startswith("retry-")}
            assert given == headers
        assert (await client.chat(PROMPT)).status == 200
        assert [entry.retry_after_s for entry in simulator.journal] == [told_s, told_s, None]


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_advice_that_no_header_can_give_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match="fault_retry_after_s"):
        SimulatorSettings(fault_retry_after_s=seconds)


@pytest.mark.anyio
async def test_an_idempotency_key_names_a_request_among_equal_ones(connect: Connect) -> None:
    async with Simulator(SimulatorSettings(faults="500@1")) as simulator:
        client = connect(simulator)
        statuses = [
            (await client.chat(PROMPT, headers={"Idempotency-Key": key})).status
            for key in ("a", "b", "a", "b")
        ]
        assert statuses == [500, 500, 200, 200]
        assert [entry.attempt for entry in simulator.journal] == [1, 1, 2, 2]


@pytest.mark.anyio
async def test_equal_requests_that_are_told_apart_meet_fates_of_their_own(connect: Connect) -> None:
    async with Simulator(SimulatorSettings(faults="500:0.5")) as simulator:
        client = connect(simulator)
        replies = [await client.chat(PROMPT, headers={"Idempotency-Key": str(n)}) for n in range(40)]
        assert {reply.status for reply in replies} == {200, 500}


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_drop_resets_the_connection_before_any_answer(connect: Connect, stream: bool) -> None:  # noqa: FBT001  # a parameter
    async with Simulator(SimulatorSettings(faults="drop@1")) as simulator:
        client = connect(simulator)
        with pytest.raises(aiohttp.ClientOSError) as dropped:
            await client.chat(PROMPT, stream=stream)
        assert dropped.value.errno == errno.ECONNRESET
        assert (await client.chat(PROMPT, stream=stream)).status == 200
        assert [(entry.status, entry.fault) for entry in simulator.journal] == [(0, "drop"), (200, None)]


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_truncate_breaks_the_answer_off(connect: Connect, stream: bool) -> None:  # noqa: FBT001  # a parameter
    async with Simulator(SimulatorSettings(faults="truncate@1-20")) as simulator:
        client = connect(simulator)
        for _ in range(20):
            with pytest.raises(aiohttp.ClientPayloadError):
                await client.chat(PROMPT, stream=stream)
        assert (await client.chat(PROMPT, stream=stream)).status == 200
        assert simulator.statistics().by_status == {"200": 21}
        assert simulator.statistics().in_flight == 0


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("byte", [0, 1, 57, 200])
async def test_an_answer_is_cut_at_the_byte_that_is_named(
    byte: int,
    stream: bool,  # noqa: FBT001  # a parameter
) -> None:
    async with Simulator(SimulatorSettings(faults=f"truncate={byte}@1,end_early={byte}@2")) as simulator:
        truncated, early, whole = [await read_raw(simulator, stream=stream) for _ in range(3)]
    assert [len(answer.body) for answer in (truncated, early)] == [byte, byte]
    assert whole.body.startswith(early.body)
    assert [answer.is_whole for answer in (truncated, early, whole)] == [False, True, True]
    assert [entry.fault for entry in simulator.journal] == ["truncate", "end_early", None]


class RawAnswer(msgspec.Struct):
    """An answer as it came through the socket, read without an HTTP client."""

    body: bytes
    is_whole: bool


async def read_raw(simulator: Simulator, *, stream: bool) -> RawAnswer:
    body = msgspec.json.encode(
        {"model": "smart", "stream": stream, "messages": [{"role": "user", "content": PROMPT}]}
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", int(simulator.url.rpartition(":")[2]))
    writer.write(
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: sim\r\nConnection: close\r\n"
        b"Content-Length: %d\r\n\r\n%s" % (len(body), body)
    )
    head, _, rest = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    if length := re.search(rb"(?i)content-length: (\d+)", head):
        return RawAnswer(rest, len(rest) == int(length[1]))
    assert b"transfer-encoding: chunked" in head.lower()
    received = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        received += rest[: int(size, 16)]
        if size == b"0":
            return RawAnswer(received, is_whole=True)
        rest = rest[int(size, 16) + 2 :]
    return RawAnswer(received, is_whole=False)


@pytest.mark.anyio
async def test_no_done_leaves_a_streams_last_event_off_and_whole_answers_alone(connect: Connect) -> None:
    async with Simulator(SimulatorSettings(faults="no_done@1")) as simulator:
        client = connect(simulator)
        part = await client.chat(PROMPT, stream=True)
        whole = await client.chat(PROMPT, stream=True)
        assert part.body + b"data: [DONE]\n\n" == whole.body
        assert (await client.chat("another question")).status == 200
        assert [entry.fault for entry in simulator.journal] == ["no_done", None, None]


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_end_early_looks_whole_to_http(connect: Connect, stream: bool) -> None:  # noqa: FBT001  # a parameter
    async with Simulator(SimulatorSettings(faults="end_early@1")) as simulator:
        client = connect(simulator)
        part = await client.chat(PROMPT, model="smart", stream=stream)
        whole = await client.chat(PROMPT, model="smart", stream=stream)
        assert part.status == 200
        assert whole.body.startswith(part.body)
        assert 0 < len(part.body) < len(whole.body)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_garbage_is_no_answer(connect: Connect, stream: bool) -> None:  # noqa: FBT001  # a parameter
    async with Simulator(SimulatorSettings(faults="garbage@1-40")) as simulator:
        client = connect(simulator)
        replies = [await client.chat(PROMPT, stream=stream) for _ in range(40)]
        assert {reply.status for reply in replies} == {200}
        assert len({reply.body for reply in replies}) >= 4
        assert not any(is_answer(reply) for reply in replies)
        assert (await client.chat(PROMPT, stream=stream)).status == 200


def is_answer(reply: Reply) -> bool:
    if b"chat.completion.chunk" in reply.body:
        return True
    try:
        body: Any = msgspec.json.decode(reply.body)
        return isinstance(body["choices"][0]["message"]["content"], str)
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, KeyError, IndexError):
        return False


async def read_some(connect: Connect, simulator: Simulator, *, stream: bool) -> aiohttp.ClientResponse:
    body = {"model": "smart", "stream": stream, "messages": [{"role": "user", "content": PROMPT}]}
    return await connect(simulator).session.post(f"{simulator.openai_base_url}/chat/completions", json=body)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_stall_stops_in_the_middle_until_the_client_leaves(
    connect: Connect,
    until: Until,
    stream: bool,  # noqa: FBT001  # a parameter
) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(faults="stall@1"), clock=clock) as simulator:
        response = await read_some(connect, simulator, stream=stream)
        assert response.status == 200
        assert await response.content.readany()
        await until(lambda: clock.pending)
        await clock.advance(600)
        assert not response.content.at_eof()
        response.close()
        await until(lambda: simulator.statistics().abandoned)
        assert clock.pending == 0
        assert [(entry.status, entry.fault) for entry in simulator.journal] == [(200, "stall")]


@pytest.mark.anyio
async def test_hang_never_answers_and_gives_up_after_an_hour(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(faults="hang@1"), clock=clock) as simulator:
        asked = asyncio.create_task(connect(simulator).chat(PROMPT))
        await until(lambda: clock.pending)
        await clock.advance(3_599)
        assert not asked.done()
        await clock.advance(1)
        with pytest.raises(aiohttp.ClientConnectionError):
            await asked
        assert [(entry.status, entry.fault) for entry in simulator.journal] == [(0, "hang")]


@pytest.mark.anyio
async def test_drip_sends_the_whole_answer_byte_by_byte(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(faults="drip@1"), clock=clock) as simulator:
        dripped = asyncio.create_task(connect(simulator).chat("hello"))
        await until(lambda: clock.pending)
        assert clock.next_due() == pytest.approx(0.1)
        begun_s = clock.monotonic()
        while not dripped.done():
            await clock.advance(0.1)
        whole = await connect(simulator).chat("hello")
        assert (await dripped).body == whole.body
        assert clock.monotonic() - begun_s >= 0.1 * (len(whole.body) - 1)


@pytest.mark.anyio
async def test_keepalive_sends_comments_and_no_content(connect: Connect, until: Until) -> None:
    clock = FakeClock()
    async with Simulator(SimulatorSettings(faults="keepalive@1"), clock=clock) as simulator:
        response = await read_some(connect, simulator, stream=True)
        for _ in range(5):
            assert await response.content.readany() == b": keep-alive\n\n"
            await until(lambda: clock.pending)
            await clock.advance(1)
        response.close()
        await until(lambda: simulator.statistics().abandoned)


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
async def test_endless_sends_until_the_client_leaves(connect: Connect, until: Until, stream: bool) -> None:  # noqa: FBT001  # a parameter
    async with Simulator(SimulatorSettings(faults="endless@1")) as simulator:
        response = await read_some(connect, simulator, stream=stream)
        received = 0
        while received < 3_000_000:
            received += len(await response.content.readany())
        response.close()
        await until(lambda: simulator.statistics().abandoned)
        assert simulator.statistics().in_flight == 0


@pytest.mark.anyio
async def test_no_fault_is_logged_as_a_failure_of_the_server(
    connect: Connect, caplog: pytest.LogCaptureFixture
) -> None:
    async with Simulator(SimulatorSettings(faults="drop@1,truncate@2,garbage@3,end_early@4")) as simulator:
        client = connect(simulator)
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError):
                await client.chat(PROMPT)
        await client.chat(PROMPT)
        await client.chat(PROMPT)
    assert caplog.records == []


@pytest.mark.anyio
async def test_a_mixed_order_strikes_the_same_requests_again(connect: Connect) -> None:
    order = "429:0.1,500:0.1,drop:0.1,truncate:0.1"

    async def outcomes(prompts: list[str]) -> dict[str, str | None]:
        async with Simulator(SimulatorSettings(seed=5, faults=order)) as simulator:
            client = connect(simulator)
            await asyncio.gather(*[client.chat(prompt) for prompt in prompts], return_exceptions=True)
            return {str(entry.prompt_sha256): entry.fault for entry in simulator.journal}

    prompts = [f"question {number}" for number in range(60)]
    first = await outcomes(prompts)
    assert first == await outcomes(prompts[::-1])
    assert set(first.values()) == {None, "429", "500", "drop", "truncate"}
