"""Streams over real sockets: told as they come, never spliced, never hung, everything given back."""

import asyncio
import json
import random
from pathlib import Path

import anyio.to_thread
import pytest
from tests.inside import NOTHING, database, given_back, granted, hear, named, settings, system, tree, until
from tests.integration.evidence import AttemptRow, exact_pusd, ledger
from tests.rawserver import (
    CHUNKED_EVENTS,
    DONE,
    EVENTS,
    LAST_CHUNK,
    OK,
    STOP,
    HangUp,
    Script,
    Turn,
    chunked,
    delta,
    raw_server,
    repeats,
    resets,
    says,
    says_then_waits,
    story,
    usage,
)

from greenroom.actors.call import exchange as exchange_module
from greenroom.actors.events import AttemptFailed, CallDone, Event, OutOfOrder
from greenroom.actors.flow import Closed
from greenroom.actors.providers import ChatRequest, Message
from greenroom.actors.providers.openai.stream import ChatStreamDecoder
from greenroom.actors.settings import Retries, Stalls
from greenroom.runtime import (
    CallEvent,
    EventStream,
    Finished,
    ProviderError,
    ProviderFailed,
    Reply,
    Runtime,
    Started,
    TextDelta,
    Usage,
)

pytestmark = pytest.mark.anyio
MAX_TOKENS = 100
WORDS = ("Grün ", "ist ", "die ", "Hoffnung.")
GOOD = says(CHUNKED_EVENTS, *map(chunked, story(*WORDS)), LAST_CHUNK)
ONCE = Retries(attempts=1)
HASTY = Stalls(first_byte_streamed_s=10.0, gap_s=0.1)


async def rows_of(directory: Path) -> list[AttemptRow]:
    return await anyio.to_thread.run_sync(ledger, database(directory))


def ask(rt: Runtime, prompt: str = "hello", timeout_s: float | None = None) -> EventStream:
    return rt.stream("acme/fast", prompt, max_tokens=MAX_TOKENS, timeout_s=timeout_s)


async def told(stream: EventStream) -> tuple[list[CallEvent], Reply | ProviderFailed]:
    """Everything a stream tells, and what it comes to."""
    events: list[CallEvent] = []
    try:
        async with stream as listening:
            async for event in listening:
                events.append(event)  # noqa: PERF401 - what came before a failure is looked at
            return events, listening.reply
    except ProviderFailed as failure:
        return events, failure


def text_of(events: list[CallEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, TextDelta))


async def failing(
    script: Script, directory: Path, stalls: Stalls | None = None, timeout_s: float | None = None
) -> tuple[list[CallEvent], ProviderError]:
    """How a stream of one attempt fails. Its connection must be closed, and all it had given back."""
    async with (
        raw_server(script) as server,
        Runtime(settings(server.base_url, directory, stalls=stalls, retries=ONCE), environ={}) as rt,
    ):
        events, failure = await told(ask(rt, timeout_s=timeout_s))
        await asyncio.wait_for(server.closed.wait(), 10)
        await given_back(rt)
    assert isinstance(failure, ProviderFailed)
    assert events[-1] == failure.error
    assert not any(isinstance(event, Finished) for event in events)
    return events[:-1], failure.error


class TestAnswers:
    async def test_told_as_it_comes_and_put_together(self, tmp_path: Path) -> None:
        go_on = asyncio.Event()

        async def script(turn: Turn) -> None:
            first, *rest = map(chunked, story(*WORDS))
            turn.writer.write(CHUNKED_EVENTS + first)
            await go_on.wait()
            turn.writer.write(b"".join(rest) + LAST_CHUNK)

        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            heard: list[Event] = []
            hear(rt, heard.append)
            async with ask(rt) as events:
                assert await anext(events) == Started("c1", "fast", 1)
                assert await anext(events) == TextDelta(WORDS[0])
                with pytest.raises(RuntimeError, match="has not ended"):
                    _ = events.reply
                go_on.set()
                assert [event async for event in events] == [
                    *map(TextDelta, WORDS[1:]),
                    Usage(7, 4),
                    Finished("stop"),
                ]
                assert await anext(events, None) is None
                reply = events.reply
            await given_back(rt)
        (row,) = await rows_of(tmp_path)
        body = json.loads(server.turns[0].body)
        assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})
        assert (reply.text, reply.finish_reason, reply.attempts) == ("".join(WORDS), "stop", 1)
        assert reply.cost_pusd == row.cost_pusd == exact_pusd(7, 4)
        assert (row.state, row.outcome, row.estimated) == ("settled", "ok", 0)
        assert json.loads(bytes(reply.raw))["choices"][0]["message"]["content"] == reply.text
        assert [type(event) for event in heard] == [CallDone]

    async def test_streams_share_connections(self, tmp_path: Path) -> None:
        async with (
            raw_server(GOOD) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            for _ in range(5):
                async with ask(rt) as events:
                    assert (await events.finish()).text == "".join(WORDS)
            assert (server.connections, server.open_connections) == (1, 1)

    async def test_a_host_that_does_not_stream_is_told_as_a_stream(self, tmp_path: Path) -> None:
        choice = {"message": {"role": "assistant", "content": "whole"}, "finish_reason": "length"}
        tokens = {"prompt_tokens": 7, "completion_tokens": 1}
        body = json.dumps({"id": "w", "model": "m", "choices": [choice], "usage": tokens}).encode()
        head = OK + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        async with (
            raw_server(says(head + body)) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            events, reply = await told(ask(rt))
            await given_back(rt)
        assert events == [Started("w", "m"), TextDelta("whole"), Usage(7, 1), Finished("length")]
        assert isinstance(reply, Reply)
        assert reply.cost_pusd == exact_pusd(7, 1)

    async def test_without_usage_the_upper_bound_is_charged(self, tmp_path: Path) -> None:
        script = says(CHUNKED_EVENTS, *map(chunked, [delta("a"), STOP, DONE]), LAST_CHUNK)
        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            _, reply = await told(ask(rt))
            await given_back(rt)
        (row,) = await rows_of(tmp_path)
        assert isinstance(reply, Reply)
        bound = exact_pusd(len(server.turns[0].body), MAX_TOKENS)
        assert (row.cost_pusd, row.estimated) == (bound, 1) == (reply.cost_pusd, 1)

    async def test_put_together_for_a_caller_who_waits(self, tmp_path: Path) -> None:
        """Nothing was told before the end, so even a stream cut in the middle is tried again."""

        async def script(turn: Turn) -> None:
            if turn.number == 0:
                await says(CHUNKED_EVENTS, chunked(delta("lost")), then_close=True)(turn)
            await GOOD(turn)

        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            request = ChatRequest(
                model="acme/fast", messages=(Message("user", "hello"),), max_tokens=MAX_TOKENS
            )
            reply = await tree(rt).flow.chat(request, streamed=True)
            await given_back(rt)
        assert (reply.text, reply.attempts) == ("".join(WORDS), 2)
        rows = await rows_of(tmp_path)
        assert [row.outcome for row in rows] == ["connection", "ok"]
        assert reply.cost_pusd == sum(row.cost_pusd for row in rows)


class TestNeverSpliced:
    @pytest.mark.parametrize("framing", ["chunked", "until the connection closes"])
    async def test_cut_at_every_byte_offset(self, tmp_path: Path, framing: str) -> None:
        """The first answer is cut at each offset in turn; a second one, other words, waits behind it."""
        body = b"".join(story(*WORDS))
        if framing == "chunked":
            whole = CHUNKED_EVENTS + b"".join(map(chunked, story(*WORDS))) + LAST_CHUNK
        else:
            whole = EVENTS + b"Connection: close\r\n\r\n" + body
        told_all = whole.index(DONE) + len(DONE)
        asked: set[str] = set()

        async def script(turn: Turn) -> None:
            if turn.prompt in asked:
                turn.writer.write(CHUNKED_EVENTS + b"".join(map(chunked, story("Other."))) + LAST_CHUNK)
                return
            asked.add(turn.prompt)
            turn.writer.write(whole[: int(turn.prompt)])
            raise HangUp

        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            tries = asyncio.Semaphore(32)

            async def cut_at(offset: int) -> None:
                async with tries:
                    events, outcome = await told(ask(rt, str(offset)))
                text = text_of(events)
                if offset >= told_all:
                    # What is missing belongs to HTTP: the answer said itself that it is whole.
                    assert text == "".join(WORDS), offset
                    assert isinstance(outcome, Reply)
                elif text == "Other.":
                    assert isinstance(outcome, Reply)
                    assert outcome.attempts == 2
                else:
                    assert text, offset
                    assert "".join(WORDS).startswith(text), offset
                    assert isinstance(outcome, ProviderFailed), offset
                    assert (outcome.error.kind, outcome.error.attempts) == ("connection", 1), offset
                    assert events[-1] == outcome.error
                assert sum(isinstance(event, Finished | ProviderError) for event in events) == 1

            await asyncio.gather(*(cut_at(offset) for offset in range(len(whole) + 1)))
            await given_back(rt)
            # What is open is idle, for the next call: as many as asked a second time at once, no more.
            assert server.open_connections <= 32

    async def test_before_content_it_is_tried_again_and_after_it_never(self, tmp_path: Path) -> None:
        async def script(turn: Turn) -> None:
            if turn.number == 0:
                await says(CHUNKED_EVENTS, chunked(delta("")), then_close=True)(turn)
            await says(CHUNKED_EVENTS, chunked(delta("a")), then_close=True)(turn)

        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            heard: list[Event] = []
            hear(rt, heard.append)
            events, outcome = await told(ask(rt))
            await given_back(rt)
        assert len(server.turns) == 2
        assert [type(event) for event in events] == [Started, TextDelta, ProviderError]
        assert isinstance(outcome, ProviderFailed)
        assert outcome.error.attempts == 2
        assert [event.retry_in_s is None for event in heard if isinstance(event, AttemptFailed)] == [
            False,
            True,
        ]
        rows = await rows_of(tmp_path)
        assert outcome.cost_pusd == sum(row.cost_pusd for row in rows)
        input_tokens = len(server.turns[0].body)
        assert [(row.cost_pusd, row.estimated) for row in rows] == [
            (exact_pusd(input_tokens, MAX_TOKENS), 1),  # sent, and nothing known of it
            (exact_pusd(input_tokens, 1), 1),  # one byte came, which is one token at most
        ]

    async def test_a_reset_in_mid_answer(self, tmp_path: Path) -> None:
        read = asyncio.Event()

        async def script(turn: Turn) -> None:
            turn.writer.write(CHUNKED_EVENTS + chunked(delta("a")))
            await read.wait()
            await resets(turn)

        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
            ask(rt) as events,
        ):
            assert [await anext(events), await anext(events)] == [Started("c1", "fast", 1), TextDelta("a")]
            read.set()
            last = await anext(events)
            assert isinstance(last, ProviderError)
            assert last.kind == "connection"
            await given_back(rt)

    async def test_what_follows_the_end_is_not_waited_for(self, tmp_path: Path) -> None:
        """And a connection on which it may still come is not used again."""
        said = CHUNKED_EVENTS + b"".join(map(chunked, story(*WORDS)))
        async with (
            raw_server(repeats(said, chunked(delta("more")))) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            _, outcome = await told(ask(rt))
            assert isinstance(outcome, Reply)
            assert outcome.text == "".join(WORDS)
            await asyncio.wait_for(server.closed.wait(), 10)
            await given_back(rt)

    async def test_an_endless_answer_is_given_up(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(exchange_module, "_MAX_STREAM_BYTES", 10_000)
        before, error = await failing(repeats(CHUNKED_EVENTS, chunked(delta("la "))), tmp_path)
        assert (error.kind, error.message) == ("protocol", "the answer is larger than 10000 bytes")
        assert set(text_of(before).split()) == {"la"}

    async def test_a_codec_that_breaks_the_order_is_found_out_in_debug_mode(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def tell_nothing(_: ChatStreamDecoder, chunk: object) -> None:
            """A stream that never begins."""

        monkeypatch.setattr(ChatStreamDecoder, "_start", tell_nothing)
        asyncio.get_running_loop().set_debug(True)
        async with (
            raw_server(GOOD) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            with pytest.raises(OutOfOrder):
                await told(ask(rt))
            await given_back(rt)

    async def test_a_cut_stream_is_charged_what_its_provider_said_so_far(self, tmp_path: Path) -> None:
        """Where that is more than what could be seen: thoughts are charged, too."""
        said = CHUNKED_EVENTS + chunked(delta("a")) + chunked(usage(7, 5_000))
        before, error = await failing(says(said, then_close=True), tmp_path)
        (row,) = await rows_of(tmp_path)
        assert (error.kind, before[-1]) == ("connection", Usage(7, 5_000))
        assert (row.cost_pusd, row.estimated, row.output_tokens) == (exact_pusd(7, 5_000), 1, 5_000)

    async def test_an_error_told_in_the_stream(self, tmp_path: Path) -> None:
        limited = b'data: {"error":{"message":"slow down","code":"rate_limit_exceeded"}}\n\n'
        before, error = await failing(says_then_waits(CHUNKED_EVENTS, chunked(limited)), tmp_path)
        assert (before, error.kind, error.message) == ([], "rate_limited", "slow down")
        (row,) = await rows_of(tmp_path)
        assert (row.cost_pusd, row.outcome) == (0, "rate_limited")
        assert (error.provider, error.model, error.attempts) == ("acme", "fast", 1)

    async def test_an_error_told_after_content(self, tmp_path: Path) -> None:
        busy = b'data: {"error":{"message":"busy","code":503}}\n\n'
        before, error = await failing(says_then_waits(CHUNKED_EVENTS, chunked(delta("ab") + busy)), tmp_path)
        assert (text_of(before), error.kind) == ("ab", "overloaded")

    async def test_a_refusal_by_status_is_one_event_and_an_exception(self, tmp_path: Path) -> None:
        body = b'{"error":{"message":"no such model","code":"model_not_found"}}'
        script = says(b"HTTP/1.1 404 Not Found\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            events, outcome = await told(ask(rt))
            await given_back(rt)
        assert isinstance(outcome, ProviderFailed)
        assert (outcome.error.kind, outcome.error.status, outcome.cost_pusd) == ("not_found", 404, 0)
        assert events == [outcome.error]

    @pytest.mark.parametrize(
        ("said", "kind"),
        [
            (OK + b"Content-Type: text/html\r\nContent-Length: 6\r\n\r\n<html>", "protocol"),
            (OK + b"Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}", "protocol"),
            (CHUNKED_EVENTS + chunked(b"data: {]\n\n"), "protocol"),
            (CHUNKED_EVENTS + LAST_CHUNK, "connection"),
            (CHUNKED_EVENTS + chunked(DONE) + LAST_CHUNK, "connection"),
            (CHUNKED_EVENTS + chunked(b"\x00\xff" * 100) + LAST_CHUNK, "connection"),
        ],
        ids=["html", "no answer", "no json", "nothing", "only done", "rubbish"],
    )
    async def test_garbage(self, tmp_path: Path, said: bytes, kind: str) -> None:
        async with (
            raw_server(says(said)) as server,
            Runtime(settings(server.base_url, tmp_path, retries=ONCE), environ={}) as rt,
        ):
            events, outcome = await told(ask(rt))
            await given_back(rt)
        assert isinstance(outcome, ProviderFailed)
        assert outcome.error.kind == kind
        assert events == [outcome.error]


KEEP_ALIVE = chunked(b": still here\n\n")
EMPTY = chunked(delta(""))
IN_MID_TOKEN = chunked(delta("half")) + chunked(delta("way")[:-9])


class TestStalls:
    @pytest.mark.parametrize(
        ("script", "kind", "text"),
        [
            (says_then_waits(CHUNKED_EVENTS), "stalled", ""),
            (repeats(CHUNKED_EVENTS, KEEP_ALIVE), "stalled", ""),
            (repeats(CHUNKED_EVENTS, EMPTY), "stalled", ""),
            (repeats(CHUNKED_EVENTS, chunked(b"x")), "stalled", ""),
            (repeats(CHUNKED_EVENTS + chunked(delta("a")), KEEP_ALIVE), "stalled", "a"),
            (says_then_waits(CHUNKED_EVENTS + IN_MID_TOKEN), "stalled", "half"),
            (says_then_waits(CHUNKED_EVENTS + chunked(delta("all") + STOP)), "stalled", "all"),
        ],
        ids=[
            "head only",
            "keeps alive",
            "empty deltas",
            "drips",
            "keeps alive after content",
            "stops in mid-token",
            "no end",
        ],
    )
    async def test_every_silence_ends(self, tmp_path: Path, script: Script, kind: str, text: str) -> None:
        before, error = await failing(script, tmp_path, HASTY)
        assert (error.kind, text_of(before)) == (kind, text)

    @pytest.mark.parametrize("said", [b"", EVENTS], ids=["silent", "half a head"])
    async def test_an_answer_that_does_not_begin(self, tmp_path: Path, said: bytes) -> None:
        before, error = await failing(says_then_waits(said), tmp_path, Stalls(first_byte_streamed_s=0.1))
        assert (error.kind, before) == ("timeout", [])

    async def test_content_that_never_ends_ends_with_the_call(self, tmp_path: Path) -> None:
        endless = repeats(CHUNKED_EVENTS, chunked(delta("la ")))
        before, error = await failing(endless, tmp_path, timeout_s=0.3)
        assert error.kind == "timeout"
        assert set(text_of(before).split()) == {"la"}

    async def test_slow_content_outlives_the_gap(self, tmp_path: Path) -> None:
        script = repeats(
            CHUNKED_EVENTS,
            chunked(delta("x")),
            until_s=1.5,
            last=b"".join(map(chunked, story())) + LAST_CHUNK,
        )
        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path, stalls=Stalls(gap_s=1.0)), environ={}) as rt,
        ):
            events, outcome = await told(ask(rt))
        assert isinstance(outcome, Reply)
        assert set(text_of(events)) == {"x"}

    async def test_a_reader_that_pauses_longer_than_the_gap_is_no_stall(self, tmp_path: Path) -> None:
        """Only while somebody waits is the server silent."""
        script = says(CHUNKED_EVENTS, chunked(delta("a")), *map(chunked, story("b")), LAST_CHUNK)
        stalls = Stalls(first_byte_streamed_s=5.0, gap_s=0.01)
        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path, stalls=stalls), environ={}) as rt,
            ask(rt) as events,
        ):
            await anext(events)
            loop = asyncio.get_running_loop()
            paused_until_s = loop.time() + 0.05
            await until(lambda: loop.time() > paused_until_s)
            assert (await events.finish()).text == "ab"

    async def test_who_does_not_read_on_holds_nothing_beyond_the_deadline(self, tmp_path: Path) -> None:
        script = says_then_waits(CHUNKED_EVENTS, chunked(delta("a")))
        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
            ask(rt, timeout_s=1.0) as events,
        ):
            assert await anext(events) == Started("c1", "fast", 1)
            assert (await granted(rt)).in_flight == 1
            await asyncio.wait_for(server.closed.wait(), 10)
            await given_back(rt)
            rest = [await anext(events), await anext(events)]
            with pytest.raises(ProviderFailed) as failed:
                await anext(events)
            assert rest == [TextDelta("a"), failed.value.error]
            assert failed.value.error.kind == "timeout"
        (row,) = await rows_of(tmp_path)
        assert (row.outcome, row.estimated) == ("timeout", 1)
        assert row.cost_pusd == exact_pusd(len(server.turns[0].body), 1)

    async def test_a_failure_that_nobody_reads_of_is_told_all_the_same(self, tmp_path: Path) -> None:
        script = says_then_waits(CHUNKED_EVENTS, chunked(delta("a")))
        stalls = Stalls(total_s=0.3)
        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path, stalls=stalls, retries=ONCE), environ={}) as rt,
        ):
            heard: list[Event] = []
            hear(rt, heard.append)
            async with ask(rt) as events:
                await asyncio.wait_for(server.closed.wait(), 10)
            with pytest.raises(ProviderFailed, match="timeout"):
                _ = events.reply
            await given_back(rt)
        assert [event.error.kind for event in heard if isinstance(event, AttemptFailed)] == ["timeout"]

    async def test_a_slow_reader_slows_the_server_down(self, tmp_path: Path) -> None:
        piece = chunked(delta("x" * 1000) * 60)
        written = 0

        async def script(turn: Turn) -> None:
            nonlocal written
            turn.writer.write(CHUNKED_EVENTS)
            for _ in range(800):
                turn.writer.write(piece)
                await turn.writer.drain()
                written += len(piece)
            turn.writer.write(b"".join(map(chunked, story())) + LAST_CHUNK)

        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
            ask(rt) as events,
        ):
            await anext(events)
            calm = before = 0
            while calm < 300:  # turns of the loop in which nothing more was taken
                await asyncio.sleep(0)
                calm, before = (calm + 1 if written == before else 0), written
            assert 0 < written < 20 * 1024 * 1024  # what the kernel's own buffers take, at most
            reply = await events.finish()
            assert len(reply.text) == 800 * 60 * 1000


class TestDeaths:
    @pytest.mark.parametrize("name", ["pool:acme", "limiter:acme", "ledger", "store", "catalog"])
    async def test_no_stream_dies_of_an_actors_death(self, tmp_path: Path, name: str) -> None:
        """Its connection outlives the pool, its permit the limiter, its hold the ledger."""

        async def script(turn: Turn) -> None:
            turn.writer.write(CHUNKED_EVENTS)
            for event in story(*WORDS):
                system(rt).kill(named(rt, name))
                turn.writer.write(chunked(event))
                await asyncio.sleep(0)
            turn.writer.write(LAST_CHUNK)

        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            async with ask(rt) as events:
                reply = await events.finish()
            await given_back(rt)
        assert (reply.text, reply.cost_pusd, reply.attempts) == ("".join(WORDS), exact_pusd(7, 4), 1)
        (row,) = await rows_of(tmp_path)
        assert (row.state, row.outcome, row.cost_pusd) == ("settled", "ok", exact_pusd(7, 4))


class TestLeaving:
    async def test_leaving_early_closes_the_connection_and_settles_what_came(self, tmp_path: Path) -> None:
        script = says_then_waits(CHUNKED_EVENTS, chunked(delta("grün")))
        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            async with ask(rt) as events:
                await anext(events)
                await anext(events)
            await asyncio.wait_for(server.closed.wait(), 10)
            await given_back(rt)
        (row,) = await rows_of(tmp_path)
        assert (row.outcome, row.estimated) == ("cancelled", 1)
        assert row.cost_pusd == exact_pusd(len(server.turns[0].body), len("grün".encode()))

    async def test_a_cancelled_wait_can_be_gone_on_with(self, tmp_path: Path) -> None:
        go_on = asyncio.Event()

        async def script(turn: Turn) -> None:
            turn.writer.write(CHUNKED_EVENTS + chunked(delta("a")))
            await go_on.wait()
            turn.writer.write(b"".join(map(chunked, story("b"))) + LAST_CHUNK)

        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
            ask(rt) as events,
        ):
            assert [await anext(events), await anext(events)] == [Started("c1", "fast", 1), TextDelta("a")]
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            go_on.set()
            assert (await events.finish()).text == "ab"

    async def test_cancelled_before_the_first_content(self, tmp_path: Path) -> None:
        async with (
            raw_server(says_then_waits(CHUNKED_EVENTS)) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            task = asyncio.create_task(told(ask(rt)))
            await server.asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(server.closed.wait(), 10)
            await given_back(rt)
        (row,) = await rows_of(tmp_path)
        assert (row.outcome, row.estimated) == ("cancelled", 1)
        assert row.cost_pusd == exact_pusd(len(server.turns[0].body), MAX_TOKENS)

    async def test_cancelled_at_random_moments(self, tmp_path: Path) -> None:
        dice = random.Random(4)

        async def script(turn: Turn) -> None:
            turn.writer.write(CHUNKED_EVENTS)
            for event in story(*WORDS * 3):
                turn.writer.write(chunked(event))
                await asyncio.sleep(0)
            turn.writer.write(LAST_CHUNK)

        async def cancelled_after_turns(rt: Runtime) -> None:
            task = asyncio.create_task(told(ask(rt)))
            for _ in range(dice.randrange(60)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])

        async def cancelled_after_events(rt: Runtime) -> None:
            async def listen() -> None:
                left = dice.randrange(14)
                async with ask(rt) as events:
                    async for _ in events:
                        left -= 1
                        if left == 0:
                            task.cancel()

            task = asyncio.create_task(listen())
            await asyncio.wait([task])

        async with (
            raw_server(script) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            for _ in range(40):
                ways = dice.choices((cancelled_after_turns, cancelled_after_events), k=25)
                await asyncio.gather(*(way(rt) for way in ways))
            await given_back(rt)
            assert await granted(rt) == NOTHING
            _, outcome = await told(ask(rt))
            assert isinstance(outcome, Reply)
        rows = await rows_of(tmp_path)
        assert {row.state for row in rows} == {"settled"}
        assert {"ok", "cancelled"} <= {row.outcome for row in rows}
        assert len({row.cost_pusd for row in rows}) > 3, "they were cancelled at quite different moments"

    async def test_a_runtime_that_is_left_gives_streams_up(self, tmp_path: Path) -> None:
        async with raw_server(says_then_waits(CHUNKED_EVENTS, chunked(delta("a")))) as server:
            async with Runtime(settings(server.base_url, tmp_path), environ={}) as rt:
                reading = ask(rt, "reading")
                idle = ask(rt, "idle")
                await reading.__aenter__()
                await idle.__aenter__()
                reader = asyncio.create_task(reading.finish())
                await until(lambda: len(server.turns) == 2)
            with pytest.raises(Closed):
                await reader
            assert await anext(idle) == Started("c1", "fast", 1)
            assert await anext(idle) == TextDelta("a")
            with pytest.raises(Closed):
                await anext(idle)
            await reading.__aexit__(None, None, None)
            await idle.__aexit__(None, None, None)
            await until(lambda: server.open_connections == 0)
        assert [row.outcome for row in await rows_of(tmp_path)] == ["cancelled", "cancelled"]

    async def test_a_runtime_that_is_left_gives_up_streams_that_have_no_content_yet(
        self, tmp_path: Path
    ) -> None:
        async with raw_server(says_then_waits(CHUNKED_EVENTS, chunked(delta("")))) as server:
            async with Runtime(settings(server.base_url, tmp_path), environ={}) as rt:
                entering = asyncio.create_task(told(ask(rt)))
                await server.asked.wait()
            with pytest.raises(Closed):
                await entering
            with pytest.raises(RuntimeError, match="not running"):
                ask(rt)
            await asyncio.wait_for(server.closed.wait(), 10)
        (row,) = await rows_of(tmp_path)
        assert (row.outcome, row.estimated) == ("cancelled", 1)

    async def test_refusals_are_raised_on_entering(self, tmp_path: Path) -> None:
        async with (
            raw_server(GOOD) as server,
            Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
        ):
            with pytest.raises(Exception, match="openai/x needs a key"):
                async with rt.stream("openai/x", "hello"):
                    pass
            stream = ask(rt)
            with pytest.raises(RuntimeError, match="async with"):
                await anext(stream)
            async with stream:
                pass
            with pytest.raises(RuntimeError, match="entered before"):
                await stream.__aenter__()
        assert len(server.turns) == 1


async def test_a_thousand_streams_at_once(tmp_path: Path) -> None:
    async with (
        raw_server(GOOD) as server,
        Runtime(settings(server.base_url, tmp_path), environ={}) as rt,
    ):
        outcomes = await asyncio.gather(*(told(ask(rt)) for _ in range(1000)))
        await given_back(rt)
    assert {text_of(events) for events, _ in outcomes} == {"".join(WORDS)}
    rows = await rows_of(tmp_path)
    assert sum(row.cost_pusd for row in rows) == 1000 * exact_pusd(7, 4)
