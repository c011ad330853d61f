"""The way of a call, seen through a whole runtime: what is granted when, what fails how, what each attempt is charged."""

import asyncio
import random
import socket
from collections.abc import Callable
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from tests.inside import database, given_back, granted, hear, settings, until
from tests.integration.evidence import AttemptRow, exact_pusd, ledger
from tests.integration.upstream import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Answering,
    Asked,
    Upstream,
    completion,
    cut,
    good,
    refusal,
)

from greenroom.actors.events import AttemptFailed, ErrorKind, Event, ProviderFailed
from greenroom.actors.kernel import Clock, FakeClock
from greenroom.actors.settings import Limits, Retries, Stalls
from greenroom.runtime import Runtime
from greenroom.runtime.testing import HastyClock

pytestmark = pytest.mark.anyio
MAX_TOKENS = 100
ONE_ANSWER_PUSD = exact_pusd(PROMPT_TOKENS, COMPLETION_TOKENS)


def bound_pusd(asked: Asked) -> int:
    """The most that a request can cost: a token is at least a byte, and the answer at most `max_tokens`."""
    return exact_pusd(int(asked.headers["Content-Length"]), MAX_TOKENS)


async def rows_of(directory: Path) -> list[AttemptRow]:
    return await anyio.to_thread.run_sync(ledger, database(directory))


def listen_to(rt: Runtime) -> list[Event]:
    """What the runtime tells from now on."""
    told: list[Event] = []
    hear(rt, told.append)
    return told


async def always_good(asked: Asked) -> web.StreamResponse:
    return good()


def answering(*answers: Answering) -> Answering:
    """The first request gets the first answer, and so on; the last one goes on answering."""

    async def answer(asked: Asked) -> web.StreamResponse:
        return await answers[min(asked.number, len(answers)) - 1](asked)

    return answer


def refusing(status: int, code: str | None = None, **headers: str) -> Answering:
    async def answer(asked: Asked) -> web.StreamResponse:
        return refusal(status, code, **headers)

    return answer


def saying(body: bytes, content_type: str = "application/json", status: int = 200) -> Answering:
    async def answer(asked: Asked) -> web.StreamResponse:
        return web.Response(body=body, content_type=content_type, status=status)

    return answer


async def hang_up(asked: Asked) -> web.StreamResponse:
    cut(asked)
    return web.Response()


async def never_answer(asked: Asked) -> web.StreamResponse:
    await asyncio.Event().wait()
    return web.Response()


async def half(asked: Asked) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.content_length = len(completion())
    await response.prepare(asked.request)
    await response.write(completion()[:40])
    return response


async def half_and_hang_up(asked: Asked) -> web.StreamResponse:
    response = await half(asked)
    cut(asked)
    return response


async def half_and_silence(asked: Asked) -> web.StreamResponse:
    response = await half(asked)
    await asyncio.Event().wait()
    return response


async def no_http(asked: Asked) -> web.StreamResponse:
    assert asked.request.transport is not None
    asked.request.transport.write(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")
    return await never_answer(asked)


class TestOrder:
    async def test_hold_admit_lease_exchange_settle(self, tmp_path: Path) -> None:
        """Each step is taken only when the one before it is done, and all is given back at the end."""
        answer_now = asyncio.Event()

        async def answer(asked: Asked) -> web.StreamResponse:
            await answer_now.wait()
            return good()

        async with (
            Upstream(answer) as upstream,
            Runtime(settings(upstream.base_url, tmp_path, limits=Limits(concurrency=1)), environ={}) as rt,
        ):
            first = asyncio.create_task(rt.chat("acme/fast", "first", max_tokens=MAX_TOKENS))
            await upstream.wait_asked(1)
            (held,) = await rows_of(
                tmp_path
            )  # no slice is open yet, and so its row is on disk before it is sent
            assert (held.state, held.held_pusd) == ("held", bound_pusd(upstream.asked[0]))
            now = await granted(rt)
            assert (now.open_holds, now.in_flight, now.permits, now.leases) == (1, 1, 1, 1)
            assert now.held_pusd == held.held_pusd
            second = asyncio.create_task(rt.chat("acme/fast", "second", max_tokens=MAX_TOKENS))
            while (now := await granted(rt)).waiting == 0 or now.open_holds == 1 or now.unsaved:  # noqa: ASYNC110
                await asyncio.sleep(0)
            # Held, not admitted: so neither leased nor sent.
            assert (now.open_holds, now.in_flight, now.leases) == (2, 1, 1)
            assert [row.state for row in await rows_of(tmp_path)] == ["held", "held"]
            assert len(upstream.asked) == 1
            answer_now.set()
            replies = await asyncio.gather(first, second)
            await given_back(rt)
        assert upstream.peak == 1
        assert [reply.cost_usd for reply in replies] == [Decimal("0.00000765")] * 2
        rows = await rows_of(tmp_path)
        assert [(row.state, row.outcome, row.estimated, row.cost_pusd) for row in rows] == [
            ("settled", "ok", False, ONE_ANSWER_PUSD)
        ] * 2
        assert all(
            (row.input_tokens, row.output_tokens) == (PROMPT_TOKENS, COMPLETION_TOKENS) for row in rows
        )

    async def test_cancelled_while_it_waits_for_admission(self, tmp_path: Path) -> None:
        """Nothing was sent, so nothing is charged, and nobody behind it waits for it."""
        async with (
            Upstream(never_answer) as upstream,
            Runtime(settings(upstream.base_url, tmp_path, limits=Limits(concurrency=1)), environ={}) as rt,
        ):
            first = asyncio.create_task(rt.chat("acme/fast", "first", max_tokens=MAX_TOKENS))
            await upstream.wait_asked(1)
            second = asyncio.create_task(rt.chat("acme/fast", "second", max_tokens=MAX_TOKENS))
            while (await granted(rt)).waiting == 0:
                pass
            second.cancel()
            while (await granted(rt)).waiting:
                pass
            first.cancel()
            await asyncio.wait({first, second})
            await upstream.asked[0].closed.wait()
            await given_back(rt)
        sent, unsent = await rows_of(tmp_path)
        assert (sent.outcome, sent.estimated, sent.cost_pusd) == ("cancelled", True, sent.held_pusd)
        assert (unsent.outcome, unsent.estimated, unsent.cost_pusd) == ("cancelled", False, 0)
        assert len(upstream.asked) == 1


FINAL: dict[str, tuple[Answering, ErrorKind, bool]] = {
    "400": (refusing(400), "invalid_request", False),
    "context length": (refusing(400, "context_length_exceeded"), "context_length", False),
    "401": (refusing(401), "authentication", False),
    "403": (refusing(403), "permission", False),
    "404": (refusing(404), "not_found", False),
    "garbage": (saying(b'{"choices": [{"mess'), "protocol", True),
    "nothing": (saying(b""), "protocol", True),
    "a page": (saying(b"<html>Welcome to the hotel's network</html>", "text/html"), "protocol", True),
    "no choices": (saying(b'{"choices": []}'), "protocol", True),
    "no HTTP": (no_http, "protocol", True),
}
"""By name: how the server fails, what that is called, whether it may charge for it. Nobody tries again."""

PASSING: dict[str, tuple[Answering, ErrorKind, bool]] = {
    "429": (refusing(429), "rate_limited", False),
    "500": (refusing(500), "server", False),
    "502 as a page": (saying(b"<html>Bad gateway</html>", "text/html", 502), "server", False),
    "503": (refusing(503), "overloaded", False),
    "hangs up": (hang_up, "connection", True),
    "hangs up in mid-answer": (half_and_hang_up, "connection", True),
    "never answers": (never_answer, "timeout", True),
    "silent in mid-answer": (half_and_silence, "stalled", True),
}
"""The same, of failures that another attempt may mend."""


SILENCES = {"never answers": Stalls(first_byte_s=1.0), "silent in mid-answer": Stalls(gap_s=0.7)}
"""What is waited for where the server says nothing; elsewhere a busy machine has all the time it wants."""


class TestFailures:
    @pytest.mark.parametrize("name", [*FINAL, *PASSING])
    async def test_each_class_is_tried_so_often_and_charged_so_much(self, name: str, tmp_path: Path) -> None:
        answer, kind, charged = (FINAL | PASSING)[name]
        tries = 3 if name in PASSING else 1
        made: Callable[[str], Runtime] = lambda url: Runtime(  # noqa: E731 - used once
            settings(url, tmp_path, stalls=SILENCES.get(name)),
            environ={},
            clock=HastyClock(),
        )
        async with Upstream(answer) as upstream, made(upstream.base_url) as rt:
            told = listen_to(rt)
            with pytest.raises(ProviderFailed) as caught:
                await rt.chat("acme/fast", "x", max_tokens=MAX_TOKENS)
            await until(lambda: upstream.in_flight == 0)
            await given_back(rt)
        error = caught.value.error
        assert (error.kind, error.attempts, error.provider, error.model) == (kind, tries, "acme", "fast")
        assert len(upstream.asked) == tries
        each_pusd = bound_pusd(upstream.asked[0]) if charged else 0
        rows = await rows_of(tmp_path)
        assert [(row.number, row.state, row.outcome, row.estimated, row.cost_pusd) for row in rows] == [
            (number, "settled", kind, charged, each_pusd) for number in range(1, tries + 1)
        ]
        assert len({row.call_id for row in rows}) == 1
        assert caught.value.cost_pusd == tries * each_pusd
        failed = [event for event in told if isinstance(event, AttemptFailed)]
        assert [event.error.attempts for event in failed] == list(range(1, tries + 1))
        assert [event.retry_in_s is None for event in failed] == [False] * (tries - 1) + [True]
        assert [event.cost_pusd for event in failed] == [each_pusd] * tries

    @pytest.mark.parametrize("name", PASSING)
    async def test_another_attempt_mends_it(self, name: str, tmp_path: Path) -> None:
        failing, kind, charged = PASSING[name]
        async with (
            Upstream(answering(failing, always_good)) as upstream,
            Runtime(
                settings(upstream.base_url, tmp_path, stalls=SILENCES.get(name)),
                environ={},
                clock=HastyClock(),
            ) as rt,
        ):
            reply = await rt.chat("acme/fast", "x", max_tokens=MAX_TOKENS)
            await given_back(rt)
        lost_pusd = bound_pusd(upstream.asked[0]) if charged else 0
        assert (reply.text, reply.attempts) == ("fine", 2)
        assert reply.cost_pusd == lost_pusd + ONE_ANSWER_PUSD
        assert [
            (row.outcome, row.estimated, row.cost_pusd, row.request_id) for row in await rows_of(tmp_path)
        ] == [(kind, charged, lost_pusd, None), ("ok", False, ONE_ANSWER_PUSD, "req-1")]

    async def test_nobody_listens(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            url = f"http://127.0.0.1:{taken.getsockname()[1]}/v1"
        async with Runtime(settings(url, tmp_path), environ={}, clock=HastyClock()) as rt:
            with pytest.raises(ProviderFailed, match="acme/fast: connection after 3 attempts"):
                await rt.chat("acme/fast", "x")
            await given_back(rt)
        assert [(row.outcome, row.estimated, row.cost_pusd) for row in await rows_of(tmp_path)] == [
            ("connection", False, 0)
        ] * 3

    async def test_an_answer_that_states_no_usage(self, tmp_path: Path) -> None:
        """It is charged the bound, and marked."""

        async def answer(asked: Asked) -> web.StreamResponse:
            return good(usage=None)

        async with (
            Upstream(answer) as upstream,
            Runtime(settings(upstream.base_url, tmp_path), environ={}) as rt,
        ):
            reply = await rt.chat("acme/fast", "x", max_tokens=MAX_TOKENS)
        (row,) = await rows_of(tmp_path)
        assert (row.outcome, row.estimated, row.cost_pusd) == ("ok", True, bound_pusd(upstream.asked[0]))
        assert reply.cost_pusd == row.cost_pusd

    async def test_a_server_that_drips_forever_meets_the_end_of_the_call(self, tmp_path: Path) -> None:
        """Never silent for long, never done: only the limit of the whole call ends it, and no attempt follows."""

        async def drip(asked: Asked) -> web.StreamResponse:
            response = await half(asked)
            while True:
                await response.write(b"")
                await asyncio.sleep(0)

        async with (
            Upstream(drip) as upstream,
            Runtime(settings(upstream.base_url, tmp_path), environ={}) as rt,
        ):
            with pytest.raises(ProviderFailed, match="no whole answer within") as caught:
                await rt.chat("acme/fast", "x", timeout_s=1.0)
            await until(lambda: upstream.in_flight == 0)
            await given_back(rt)
        assert caught.value.error.kind == "timeout"
        assert len(upstream.asked) == 1


class TestTime:
    @pytest.mark.parametrize("timeout_s", [0.001, 0.0004])
    async def test_a_call_with_hardly_any_time_says_how_much_it_had(
        self, timeout_s: float, tmp_path: Path
    ) -> None:
        async with (
            Upstream(never_answer) as upstream,
            Runtime(settings(upstream.base_url, tmp_path), environ={}) as rt,
        ):
            with pytest.raises(ProviderFailed) as caught:
                await rt.chat("acme/fast", "x", timeout_s=timeout_s, max_tokens=MAX_TOKENS)
            await given_back(rt)
        error = caught.value.error
        assert (error.kind, error.provider, error.attempts) == ("timeout", "acme", 1)
        assert " 0 s" not in error.message
        assert "-" not in error.message

    async def test_time_that_is_over_before_sending_sends_nothing_and_costs_nothing(
        self, tmp_path: Path
    ) -> None:
        """It waited for another call's slot, and that took all of it."""
        clock = FakeClock()
        go = asyncio.Event()

        async def slow(asked: Asked) -> web.StreamResponse:
            await go.wait()
            return good()

        one = Limits(concurrency=1)
        async with (
            Upstream(slow) as upstream,
            Runtime(settings(upstream.base_url, tmp_path, limits=one), environ={}, clock=clock) as rt,
        ):
            first = asyncio.create_task(rt.chat("acme/fast", "first", max_tokens=MAX_TOKENS))
            await upstream.wait_asked(1)
            second = asyncio.create_task(rt.chat("acme/fast", "second", max_tokens=MAX_TOKENS, timeout_s=0.5))
            while (await granted(rt)).waiting == 0:
                pass
            await clock.advance(0.75)  # its wait for a permit is reckoned in whole seconds
            go.set()
            await first
            with pytest.raises(ProviderFailed, match=r"the 0\.5 s of the call were over") as caught:
                await second
            await given_back(rt)
        assert (caught.value.error.kind, caught.value.cost_pusd) == ("timeout", 0)
        assert len(upstream.asked) == 1


def http_date(clock: Clock) -> str:
    return formatdate(clock.time() + 8, usegmt=True)


class TestRetryAfter:
    @pytest.mark.parametrize("form", ["seconds", "fraction", "milliseconds", "date"])
    @pytest.mark.parametrize("status", [429, 503])
    async def test_is_obeyed_by_the_server_s_own_clock(self, form: str, status: int, tmp_path: Path) -> None:
        clock = HastyClock()
        headers, at_least_s = {
            "seconds": ({"Retry_After": "7"}, 7.0),
            "fraction": ({"Retry_After": "7.5"}, 7.5),
            "milliseconds": ({"retry_after_ms": "7250"}, 7.25),
            "date": ({"Retry_After": http_date(clock)}, 6.5),
        }[form]
        arrived_s: list[float] = []

        async def answer(asked: Asked) -> web.StreamResponse:
            arrived_s.append(clock.monotonic())
            return good() if asked.number > 1 else refusal(status, **headers)

        async with (
            Upstream(answer) as upstream,
            Runtime(
                settings(upstream.base_url, tmp_path, retries=Retries(attempts=3, backoff_base_s=0.01)),
                environ={},
                clock=clock,
            ) as rt,
        ):
            assert (await rt.chat("acme/fast", "x")).attempts == 2
        (slept_s,) = clock.slept_s
        assert at_least_s <= slept_s <= 8.1
        assert arrived_s[1] - arrived_s[0] >= at_least_s

    async def test_holds_back_every_other_call_to_that_provider(self, tmp_path: Path) -> None:
        clock = FakeClock()
        arrived_s: list[float] = []

        async def answer(asked: Asked) -> web.StreamResponse:
            arrived_s.append(clock.monotonic())
            return good() if asked.number > 1 else refusal(429, Retry_After="5")

        async with (
            Upstream(answer) as upstream,
            Runtime(settings(upstream.base_url, tmp_path), environ={}, clock=clock) as rt,
        ):
            told = listen_to(rt)
            told_off = asyncio.create_task(rt.chat("acme/fast", "told off"))
            await until(lambda: told)
            others = [asyncio.create_task(rt.chat("acme/fast", f"other {n}")) for n in range(5)]
            while (await granted(rt)).waiting < 5:
                pass
            assert len(upstream.asked) == 1
            await clock.advance(4.9)
            assert (await granted(rt)).waiting == 5
            await clock.advance(0.2)
            await asyncio.gather(told_off, *others)
        assert len(arrived_s) == 7
        assert min(arrived_s[1:]) >= arrived_s[0] + 5.0

    async def test_beyond_the_call_s_deadline_is_not_waited_for(self, tmp_path: Path) -> None:
        clock = HastyClock()
        async with (
            Upstream(refusing(429, Retry_After="60")) as upstream,
            Runtime(settings(upstream.base_url, tmp_path), environ={}, clock=clock) as rt,
        ):
            with pytest.raises(ProviderFailed) as caught:
                await rt.chat("acme/fast", "x", timeout_s=30)
        assert caught.value.error.retry_after_s == 60.0
        assert (len(upstream.asked), clock.slept_s) == (1, [])


class TestCancelling:
    async def test_three_hundred_times_at_random_moments(self, tmp_path: Path) -> None:
        """Whatever it interrupts, all is given back, the connection closed, and what went out is charged once."""
        rng = random.Random(20_260_712)
        disturbing = False

        async def answer(asked: Asked) -> web.StreamResponse:
            await turns(rng.randrange(300))
            if disturbing and rng.random() < 0.1:
                return refusal(500)
            return good()

        async def disturbed(rt: Runtime, number: int) -> int | None:
            call = asyncio.create_task(rt.chat("acme/fast", f"number {number}", max_tokens=MAX_TOKENS))
            await turns(rng.randrange(rng.choice((10, 200, 3000))))
            call.cancel()
            try:
                return (await call).cost_pusd
            except (asyncio.CancelledError, ProviderFailed):
                return None

        async with (
            Upstream(answer) as upstream,
            Runtime(settings(upstream.base_url, tmp_path, limits=Limits(concurrency=8)), environ={}) as rt,
        ):
            await rt.chat("acme/fast", "the first", max_tokens=MAX_TOKENS)
            disturbing = True
            ended: list[int | None] = []
            for wave in range(0, 300, 20):
                ended += await asyncio.gather(*(disturbed(rt, number) for number in range(wave, wave + 20)))
            await given_back(rt)
            await until(lambda: upstream.in_flight == 0)
            disturbing = False
            assert (await rt.chat("acme/fast", "still works")).text == "fine"
        answered = [cost_pusd for cost_pusd in ended if cost_pusd is not None]
        assert answered, "no call was fast enough: the moments tell nothing"
        assert len(answered) < 300
        rows = await rows_of(tmp_path)
        assert {row.state for row in rows} == {"settled"}
        by_outcome: dict[str | None, list[AttemptRow]] = {}
        for row in rows:
            by_outcome.setdefault(row.outcome, []).append(row)
        assert set(by_outcome) <= {"ok", "cancelled", "server"}
        assert {(row.cost_pusd, row.estimated) for row in by_outcome["ok"]} == {(ONE_ANSWER_PUSD, False)}
        assert len(by_outcome["ok"]) == len(answered) + 2
        cancelled = by_outcome["cancelled"]
        assert {row.estimated for row in cancelled} == {True, False}, "cancelled before and after sending"
        assert all(row.cost_pusd == (row.held_pusd if row.estimated else 0) for row in cancelled)
        answered_or_refused = len(by_outcome["ok"]) + len(by_outcome.get("server", []))
        gone_out = len(upstream.asked) - answered_or_refused
        assert sum(row.estimated for row in cancelled) >= gone_out > 0
        assert len({(row.call_id, row.number) for row in rows}) == len(rows)

    async def test_while_it_waits_to_try_again(self, tmp_path: Path) -> None:
        clock = FakeClock()
        async with (
            Upstream(refusing(503, Retry_After="60")) as upstream,
            Runtime(settings(upstream.base_url, tmp_path), environ={}, clock=clock) as rt,
        ):
            told = listen_to(rt)
            call = asyncio.create_task(rt.chat("acme/fast", "x"))
            await until(lambda: told)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await given_back(rt)
        (row,) = await rows_of(tmp_path)
        assert (row.outcome, row.cost_pusd, row.estimated) == ("overloaded", 0, False)
        assert len(upstream.asked) == 1


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)
