"""The answers of every wire, byte by byte: cut anywhere, silent anywhere, told once or not at all."""

import asyncio
import binascii
import re
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from pathlib import Path
from typing import TypeAlias, get_args

import aiohttp
import pytest
from msgspec import Struct, structs
from tests.inside import given_back, settings
from tests.matrix.providers import BELOW, NEVER_LEFT_ALONE
from tests.providers.streams import answer_of, events_of
from tests.providers.test_every_wire import STREAMS
from tests.rawserver import OK, HangUp, Script, Turn, raw_server, repeats, says_then_waits

from greenroom.actors.events import ErrorKind
from greenroom.actors.providers import ChatRequest, Codec, Message, codec_for
from greenroom.actors.settings import ProviderSettings, Retries, Settings, Stalls
from greenroom.runtime import CallEvent, Finished, ProviderError, ProviderFailed, Runtime, TextDelta
from greenroom.runtime.simulator import Simulator, SimulatorSettings
from greenroom.runtime.simulator.wires import ANTHROPIC, BEDROCK, GEMINI, OLLAMA, OPENAI, RESPONSES, Wire
from greenroom.runtime.testing import HastyClock, WireName

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("wire", get_args(WireName))]
WIRES: dict[WireName, Wire] = {
    "openai-chat": OPENAI,
    "openai-responses": RESPONSES,
    "anthropic-messages": ANTHROPIC,
    "gemini": GEMINI,
    "ollama": OLLAMA,
    "bedrock-converse": BEDROCK,
}
PROMPT = "Why do glaciers move?"
MAX_TOKENS = 16
TRAILING_BYTES = 2
"""What may be missing of a body that said all: the end of its last line."""
Told: TypeAlias = tuple[list[CallEvent], str | ProviderError]
"""What a caller is told, and the answer's text, or how it failed."""
GAP = Stalls(first_byte_s=30.0, first_byte_streamed_s=30.0, gap_s=0.1)


class Recorded(Struct, frozen=True):
    """An answer, byte by byte."""

    body: bytes
    content_type: str
    text: str

    @property
    def head(self) -> bytes:
        """It gives no hint of where the body ends: each ends as one does whose server has said all."""
        return OK + f"Content-Type: {self.content_type}\r\nConnection: close\r\n\r\n".encode()


def codec_of(wire: WireName) -> Codec:
    return codec_for("acme", structs.replace(ProviderSettings(base_url="http://unused"), wire=wire))


def configured(
    wire: WireName, base_url: str, directory: Path, *, attempts: int = 1, stalls: Stalls | None = None
) -> Settings:
    """One provider that speaks `wire`."""
    retries = Retries(attempts=attempts)
    made = settings(base_url, directory, retries=retries, stalls=stalls)
    provider = structs.replace(made.providers["acme"], wire=wire, breaker=NEVER_LEFT_ALONE)
    return structs.replace(made, providers={"acme": provider})


def text_of(events: Sequence[CallEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(SimulatorSettings(seed=7)) as simulator:
        yield simulator


async def record(wire: WireName, simulator: Simulator) -> Recorded:
    """A whole answer of the simulator."""
    codec = codec_of(wire)
    request = ChatRequest(model="fast", messages=(Message("user", PROMPT),), max_tokens=MAX_TOKENS)
    sent = codec.encode(request, "fast")
    async with (
        aiohttp.ClientSession(headers=codec.session_headers(None)) as session,
        session.post(simulator.url + BELOW[wire] + sent.path, data=sent.body, headers=sent.headers) as answer,
    ):
        body = await answer.read()
        assert answer.status == 200, body
        content_type = answer.headers["Content-Type"]
    return Recorded(body, content_type, codec.decode(body).text)


def written_down(wire: WireName) -> Recorded:
    """A streamed answer as the vendor's reference has it."""
    body, *_ = STREAMS[wire]
    return Recorded(body, WIRES[wire].stream_type, answer_of(codec_of(wire), body).text)


async def told(rt: Runtime, prompt: str, *, streamed: bool, timeout_s: float | None = None) -> Told:
    """Everything that is told, and the answer, or how it failed."""
    events: list[CallEvent] = []
    try:
        if not streamed:
            reply = await rt.chat("acme/fast", prompt, max_tokens=MAX_TOKENS, timeout_s=timeout_s)
            return events, reply.text
        async with rt.stream("acme/fast", prompt, max_tokens=MAX_TOKENS, timeout_s=timeout_s) as listening:
            async for event in listening:
                events.append(event)  # noqa: PERF401 - what came before a failure is looked at
            return events, listening.reply.text
    except ProviderFailed as failure:
        return events, failure.error


def number_in(body: bytes) -> int:
    found = re.search(rb"case (\d+)", body)
    assert found is not None
    return int(found[1])


async def test_streamed_is_whole(wire: WireName, simulator: Simulator, tmp_path: Path) -> None:
    async with Runtime(configured(wire, simulator.url + BELOW[wire], tmp_path), environ={}) as rt:
        whole = await rt.chat("acme/fast", PROMPT, max_tokens=MAX_TOKENS)
        async with rt.stream("acme/fast", PROMPT, max_tokens=MAX_TOKENS) as events:
            streamed = await events.finish()
        await given_back(rt)
    assert whole.text
    assert (streamed.text, streamed.finish_reason, streamed.usage, streamed.cost_pusd) == (
        whole.text,
        whole.finish_reason,
        whole.usage,
        whole.cost_pusd,
    )


class Cutting:
    """A server that cuts its first answer to each question at the byte that the question names."""

    def __init__(self, recorded: Recorded) -> None:
        self.recorded = recorded
        self.asked: Counter[int] = Counter()

    async def __call__(self, turn: Turn) -> None:
        offset, body = number_in(turn.body), self.recorded.body
        self.asked[offset] += 1
        turn.writer.write(self.recorded.head + (body[:offset] if self.asked[offset] == 1 else body))
        raise HangUp

    async def ask(self, rt: Runtime, offsets: Iterable[int], *, streamed: bool) -> list[tuple[int, Told]]:
        """What is told of each question, some of them at once."""
        some = asyncio.Semaphore(32)

        async def ask(offset: int) -> tuple[int, Told]:
            async with some:
                return offset, await told(rt, f"case {offset}", streamed=streamed)

        return await asyncio.gather(*map(ask, offsets))


async def test_every_stream_that_a_reference_has_is_told_whole(wire: WireName, tmp_path: Path) -> None:
    """What the decoder makes of it is looked at elsewhere; nothing of that is lost on the way to the caller."""
    streams = [Recorded(body, WIRES[wire].stream_type, "") for body in STREAMS[wire]]

    async def script(turn: Turn) -> None:
        recorded = streams[number_in(turn.body)]
        turn.writer.write(recorded.head + recorded.body)
        raise HangUp

    async with (
        raw_server(script) as server,
        Runtime(configured(wire, server.base_url, tmp_path), environ={}) as rt,
    ):
        for number, recorded in enumerate(streams):
            answer = answer_of(codec_of(wire), recorded.body)
            async with rt.stream("acme/fast", f"case {number}", max_tokens=MAX_TOKENS) as events:
                reply = await events.finish()
            for name in ("text", "reasoning", "refusal", "tool_calls", "logprobs", "finish_reason", "usage"):
                assert getattr(reply, name) == getattr(answer, name), name
            state, expected = reply.reasoning_state, answer.reasoning_state
            assert (state and bytes(state.items)) == (expected and bytes(expected.items))
        await given_back(rt)


async def test_r4_cut_at_every_byte_a_stream_is_an_error_after_what_came(
    wire: WireName, tmp_path: Path
) -> None:
    recorded = written_down(wire)
    cutting = Cutting(recorded)
    async with (
        raw_server(cutting) as server,
        Runtime(configured(wire, server.base_url, tmp_path), environ={}) as rt,
    ):
        outcomes = await cutting.ask(rt, range(len(recorded.body) + 1), streamed=True)
        await given_back(rt)
        assert server.open_connections == 0
    assert set(cutting.asked.values()) == {1}
    for offset, (events, outcome) in outcomes:
        *before, last = events
        assert isinstance(last, Finished | ProviderError)
        assert not any(isinstance(event, Finished | ProviderError) for event in before)
        text = text_of(events)
        if isinstance(outcome, str):
            assert offset >= len(recorded.body) - TRAILING_BYTES
            assert outcome == text == recorded.text
        else:
            assert outcome.kind == "connection", (offset, outcome)
            assert recorded.text.startswith(text)
    assert outcomes[-1][1][1] == recorded.text


async def test_r4_a_stream_is_tried_again_before_content_and_never_after(
    wire: WireName, tmp_path: Path
) -> None:
    recorded = written_down(wire)
    cutting = Cutting(recorded)
    async with (
        raw_server(cutting) as server,
        Runtime(
            configured(wire, server.base_url, tmp_path, attempts=2), environ={}, clock=HastyClock()
        ) as rt,
    ):
        outcomes = await cutting.ask(rt, range(0, len(recorded.body) - 9, 17), streamed=True)
        await given_back(rt)
    for offset, (events, outcome) in outcomes:
        if isinstance(outcome, str):
            assert (outcome, text_of(events), cutting.asked[offset]) == (recorded.text, recorded.text, 2)
        else:
            assert text_of(events)
            assert (outcome.attempts, cutting.asked[offset]) == (1, 1)
    assert set(cutting.asked.values()) == {1, 2}


async def test_r4_cut_at_every_third_byte_a_whole_answer_is_an_error(
    wire: WireName, simulator: Simulator, tmp_path: Path
) -> None:
    """The others are tried on the decoders alone, at a hundredth of the time."""
    recorded = await record(wire, simulator)
    cutting = Cutting(recorded)
    async with (
        raw_server(cutting) as server,
        Runtime(configured(wire, server.base_url, tmp_path), environ={}) as rt,
    ):
        size = len(recorded.body)
        offsets = sorted({*range(0, size, 3), size - 1, size})
        outcomes = await cutting.ask(rt, offsets, streamed=False)
        await given_back(rt)
        assert server.open_connections == 0
    *cut, (_, (_, whole)) = outcomes
    assert whole == recorded.text
    for _, (_, outcome) in cut:
        assert isinstance(outcome, ProviderError)
        assert outcome.kind == "protocol"


async def test_r3_every_silence_of_a_stream_ends(wire: WireName, tmp_path: Path) -> None:
    recorded = written_down(wire)
    head, body = recorded.head, recorded.body
    first, second = ends_of_pieces(wire, recorded)
    told_by_then = text_of(events_of(codec_of(wire).stream_decoder(), [body[:first]]))
    cases: list[tuple[Script, str]] = [
        (says_then_waits(head), ""),
        (says_then_waits(head + body[: first - 1]), ""),
        (says_then_waits(head + body[: (first + second) // 2]), told_by_then),
        (repeats(head, WIRES[wire].filler), ""),
        (repeats(head + body[:first], WIRES[wire].filler), told_by_then),
        (repeats(head + body[:first] + opening(wire), b"a"), told_by_then),
    ]

    async def script(turn: Turn) -> None:
        await cases[number_in(turn.body)][0](turn)

    async with (
        raw_server(script) as server,
        Runtime(configured(wire, server.base_url, tmp_path, stalls=GAP), environ={}) as rt,
    ):
        outcomes = await asyncio.gather(
            *(told(rt, f"case {number}", streamed=True) for number in range(len(cases)))
        )
        await given_back(rt)
        while server.open_connections:  # noqa: ASYNC110 - a count has no event to offer
            await asyncio.sleep(0)
    for (events, outcome), (_, text) in zip(outcomes, cases, strict=True):
        assert isinstance(outcome, ProviderError)
        assert (outcome.kind, text_of(events)) == ("stalled", text)


async def test_r3_every_silence_of_a_whole_answer_ends(
    wire: WireName, simulator: Simulator, tmp_path: Path
) -> None:
    recorded = await record(wire, simulator)
    head, body = recorded.head, recorded.body
    half = head + body[: len(body) // 2]
    cases: list[tuple[Script, float | None, ErrorKind]] = [
        (says_then_waits(head), None, "stalled"),
        (says_then_waits(half), None, "stalled"),
        # What drips is not silent, but the call as a whole has an end.
        (repeats(half, b" "), 0.5, "timeout"),
    ]

    async def script(turn: Turn) -> None:
        await cases[number_in(turn.body)][0](turn)

    async with (
        raw_server(script) as server,
        Runtime(configured(wire, server.base_url, tmp_path, stalls=GAP), environ={}) as rt,
    ):
        outcomes = await asyncio.gather(
            *(
                told(rt, f"case {number}", streamed=False, timeout_s=timeout_s)
                for number, (_, timeout_s, _) in enumerate(cases)
            )
        )
        await given_back(rt)
        while server.open_connections:  # noqa: ASYNC110 - a count has no event to offer
            await asyncio.sleep(0)
    for (_, outcome), (_, _, kind) in zip(outcomes, cases, strict=True):
        assert isinstance(outcome, ProviderError)
        assert outcome.kind == kind


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_r3_whoever_accepts_and_says_nothing_is_left(
    wire: WireName,
    tmp_path: Path,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    stalls = Stalls(first_byte_s=0.1, first_byte_streamed_s=0.1)
    async with (
        raw_server(says_then_waits()) as server,
        Runtime(configured(wire, server.base_url, tmp_path, stalls=stalls), environ={}) as rt,
    ):
        events, outcome = await told(rt, PROMPT, streamed=streamed)
        await given_back(rt)
        await asyncio.wait_for(server.closed.wait(), 10)
    assert isinstance(outcome, ProviderError)
    assert (outcome.kind, events) == ("timeout", [outcome] if streamed else [])


async def test_r4_who_begins_to_talk_rubbish_is_left(wire: WireName, tmp_path: Path) -> None:
    recorded = written_down(wire)
    first, _ = ends_of_pieces(wire, recorded)
    text = text_of(events_of(codec_of(wire).stream_decoder(), [recorded.body[:first]]))
    rubbish = recorded.head + recorded.body[:first] + b"data: <html>\n\n<html>\n"
    async with (
        raw_server(says_then_waits(rubbish)) as server,
        Runtime(configured(wire, server.base_url, tmp_path), environ={}) as rt,
    ):
        events, outcome = await told(rt, PROMPT, streamed=True)
        # Nobody else closes the connection: it is ours to.
        await asyncio.wait_for(server.closed.wait(), 10)
        await given_back(rt)
    assert isinstance(outcome, ProviderError)
    assert (outcome.kind, text_of(events), events[-1]) == ("protocol", text, outcome)


async def test_r5_who_leaves_in_mid_stream_takes_everything_along(wire: WireName, tmp_path: Path) -> None:
    recorded = written_down(wire)
    first, _ = ends_of_pieces(wire, recorded)
    async with (
        raw_server(says_then_waits(recorded.head + recorded.body[:first])) as server,
        Runtime(configured(wire, server.base_url, tmp_path), environ={}) as rt,
    ):
        async with rt.stream("acme/fast", PROMPT, max_tokens=MAX_TOKENS) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    break
        await asyncio.wait_for(server.closed.wait(), 10)
        await given_back(rt)
        assert server.open_connections == 0


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_r5_who_is_cancelled_takes_everything_along(
    wire: WireName,
    tmp_path: Path,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    async with (
        raw_server(says_then_waits()) as server,
        Runtime(configured(wire, server.base_url, tmp_path), environ={}) as rt,
    ):
        asking = asyncio.create_task(told(rt, PROMPT, streamed=streamed))
        await asyncio.wait_for(server.asked.wait(), 10)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(server.closed.wait(), 10)
        await given_back(rt)
        assert server.open_connections == 0


def ends_of_pieces(wire: WireName, recorded: Recorded) -> tuple[int, int]:
    """After how many bytes of a stream its first two pieces of text have been told."""
    ends: list[int] = []
    told = ""
    for at in range(len(recorded.body)):
        text = text_of(events_of(codec_of(wire).stream_decoder(), [recorded.body[:at]]))
        if text != told:
            told = text
            ends.append(at)
    first, second, *_ = ends
    return first, second


def opening(wire: WireName) -> bytes:
    """The beginning of an event that has room for any number of bytes."""
    if wire != "bedrock-converse":
        return b"data: "
    lengths = struct.pack(">II", 1 << 20, 0)
    return lengths + struct.pack(">I", binascii.crc32(lengths))
