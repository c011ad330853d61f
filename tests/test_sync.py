"""The runtime without an event loop of one's own: from threads, by many at once, interrupted and left."""

import asyncio
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from msgspec import Struct
from tests.blocking import runtime

from greenroom.actors.flow import Closed
from greenroom.runtime import (
    Finished,
    OptionInvalid,
    ProviderError,
    ProviderFailed,
    Started,
    SyncRuntime,
    TextDelta,
    Usage,
)
from greenroom.runtime.testing import Fails, Received


class Place(Struct):
    city: str


def test_answers_whole_typed_streamed_and_embedded(tmp_path: Path) -> None:
    with runtime(tmp_path, "Blue.", '{"city": "Rome"}', '{"city": "Oslo"}', "One two.", then="x") as (rt, _):
        assert rt.chat(None, "Why?").text == "Blue."
        assert rt.chat(None, "Where?", response_type=Place).parsed == Place("Rome")
        schema = {"type": "object", "properties": {"city": {"type": "string"}}}
        assert rt.chat(None, "Where?", response_type=schema).parsed == {"city": "Oslo"}
        with rt.stream(None, "Count.") as events:
            told = list(events)
            assert [type(event) for event in told if not isinstance(event, TextDelta)] == [
                Started,
                Usage,
                Finished,
            ]
            assert (
                events.reply.text == "".join(e.text for e in told if isinstance(e, TextDelta)) == "One two."
            )
            assert list(events) == []
        with rt.stream(None, "Count.") as events:
            assert events.finish().text == "x"
        assert len(rt.embed("scripted/any", ["a", "b"])) == 2
        assert [found.provider for found in rt.call(rt.runtime.models)] == ["scripted"]


def test_tools_run_and_failures_are_raised(tmp_path: Path) -> None:
    with runtime(tmp_path, Fails(401), Fails(401)) as (rt, _):
        with pytest.raises(OptionInvalid, match="did you mean max_tokens"):
            rt.chat(None, "x", max_token=5)  # type: ignore[call-overload]
        with pytest.raises(ProviderFailed, match="authentication"):
            rt.chat(None, "x")
        with rt.stream(None, "x") as events:
            told = iter(events)
            assert isinstance(next(told), ProviderError)
            with pytest.raises(ProviderFailed, match="authentication"):
                next(told)


def test_by_many_threads_at_once(tmp_path: Path) -> None:
    def echo(asked: Received) -> str:
        return f"re: {asked.prompt}"

    def ask(n: int) -> str:
        return rt.chat(None, f"number {n}").text

    with runtime(tmp_path, then=echo) as (rt, provider), ThreadPoolExecutor(20) as pool:
        texts = list(pool.map(ask, range(200)))
        assert len(provider.received) == 200
    assert texts == [f"re: number {n}" for n in range(200)]


def test_leaving_ends_what_other_threads_ask(tmp_path: Path) -> None:
    asked = threading.Event()
    failures: list[BaseException] = []

    async def never(received: Received) -> str:
        asked.set()
        await asyncio.Event().wait()
        return ""

    def ask(rt: SyncRuntime) -> None:
        try:
            rt.chat(None, "x")
        except BaseException as error:
            failures.append(error)

    with runtime(tmp_path, then=never) as (rt, _):
        thread = threading.Thread(target=ask, args=(rt,))
        thread.start()
        asked.wait()
    thread.join()
    assert [type(error) for error in failures] == [Closed]


def test_an_interrupt_cancels_the_call(tmp_path: Path) -> None:
    async def interrupting(received: Received) -> str:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)  # as Ctrl-C does
        await asyncio.Event().wait()
        return ""

    with runtime(tmp_path, interrupting, "Well.") as (rt, provider):
        with pytest.raises(KeyboardInterrupt):
            rt.chat(None, "x")
        assert rt.chat(None, "x").text == "Well."
        assert len(provider.received) == 2


def test_out_of_its_block(tmp_path: Path) -> None:
    rt = SyncRuntime(environ={})
    with pytest.raises(RuntimeError, match="with SyncRuntime"):
        rt.chat(None, "x")
    with runtime(tmp_path) as (left, _):
        pass
    with pytest.raises(RuntimeError, match="with SyncRuntime"):
        left.chat(None, "x")


@pytest.mark.anyio
async def test_on_a_loops_own_thread() -> None:
    with pytest.raises(RuntimeError, match="use Runtime"):
        SyncRuntime().__enter__()
