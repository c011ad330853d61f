"""One owner of retries, on every wire: advice is obeyed in every form, and nobody is asked oftener than configured."""

from collections.abc import Callable
from email.utils import formatdate
from typing import get_args

import pytest
from tests.matrix.asking import ask

from greenroom.actors.events import ErrorKind, ProviderError
from greenroom.actors.settings import Retries
from greenroom.runtime import ProviderFailed, Runtime
from greenroom.runtime.testing import Breaks, Fails, HastyClock, Raw, Step, WireName, runtime_with

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("wire", get_args(WireName))]
BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
JITTER_S = Retries().backoff_base_s
ADVICE: dict[str, tuple[str, Callable[[float], str]]] = {
    "seconds": ("Retry-After", lambda _: "30"),
    "fraction": ("Retry-After", lambda _: "30.25"),
    "date": ("Retry-After", lambda now_s: formatdate(now_s + 30, usegmt=True)),
    "milliseconds": ("Retry-After-Ms", lambda _: "30000"),
}
"""Ways to say "in 30 seconds", or a little later."""
RETRY_INFO = (
    b'{"error":{"code":429,"message":"m","status":"RESOURCE_EXHAUSTED","details":['
    b'{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"30s"}]}}'
)


async def failed(rt: Runtime, *, streamed: bool, timeout_s: float | None = None) -> ProviderError:
    with pytest.raises(ProviderFailed) as failure:
        await ask(rt, None, streamed=streamed, timeout_s=timeout_s)
    return failure.value.error


@BOTH
async def test_r9_advice_is_obeyed_in_every_form(wire: WireName, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    clock = HastyClock()
    async with runtime_with(wire=wire, clock=clock) as (rt, provider):
        for form, (name, advice) in ADVICE.items():
            clock.slept_s.clear()
            provider.say(Fails(429, headers={name: advice(clock.time())}), "There.")
            assert (await ask(rt, None, streamed=streamed)).attempts == 2
            (slept_s,) = clock.slept_s
            # A date has no fractions of a second, and some time has gone by since it was said.
            assert (25 if form == "date" else 30) <= slept_s <= 30.25 + JITTER_S, form


@BOTH
async def test_r9_the_providers_own_form_of_advice_is_obeyed_on_every_attempt(
    wire: WireName,
    streamed: bool,  # noqa: FBT001  # a parameter
) -> None:
    clock = HastyClock()
    script = (Fails(429, retry_after_s=30), Fails(503, retry_after_s=20), "There.")
    async with runtime_with(*script, wire=wire, clock=clock) as (rt, _):
        assert (await ask(rt, None, streamed=streamed)).attempts == 3
    first_s, second_s = clock.slept_s
    assert 30 <= first_s <= 30 + JITTER_S
    assert 20 <= second_s <= 20 + JITTER_S


async def test_r9_retry_info_is_read_where_google_says_so_and_nowhere_else(wire: WireName) -> None:
    clock = HastyClock()
    async with runtime_with(Raw(RETRY_INFO, 429), "There.", wire=wire, clock=clock) as (rt, _):
        assert (await ask(rt, None, streamed=False)).attempts == 2
    (slept_s,) = clock.slept_s
    assert (slept_s >= 30) == (wire == "gemini")


FAILING: dict[ErrorKind, Step] = {
    "rate_limited": Fails(429),
    "server": Fails(500),
    "overloaded": Fails(503),
    "connection": Breaks("drop"),
}


@BOTH
async def test_r9_nobody_is_asked_oftener_than_configured(wire: WireName, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    retries = Retries(attempts=3)
    async with runtime_with(wire=wire, retries=retries) as (rt, provider):
        for kind, step in FAILING.items():
            received = len(provider.received)
            provider.say(step, step, step)
            error = await failed(rt, streamed=streamed)
            assert (error.kind, error.attempts, len(provider.received) - received) == (kind, 3, 3)
            provider.say("There.")
            assert (await ask(rt, None, streamed=streamed)).attempts == 1


@BOTH
async def test_r9_what_no_retry_mends_is_asked_once(wire: WireName, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    async with runtime_with(wire=wire) as (rt, provider):
        for number, status in enumerate((400, 401, 403, 404, 413, 422), 1):
            provider.say(Fails(status))
            assert (await failed(rt, streamed=streamed)).attempts == 1
            assert len(provider.received) == number


@BOTH
async def test_r9_advice_beyond_the_deadline_is_not_waited_for(wire: WireName, streamed: bool) -> None:  # noqa: FBT001  # a parameter
    clock = HastyClock()
    script = (Fails(429, retry_after_s=120), "There.")
    async with runtime_with(*script, wire=wire, clock=clock) as (rt, provider):
        error = await failed(rt, streamed=streamed, timeout_s=60)
        assert (error.kind, error.retry_after_s, len(provider.received)) == ("rate_limited", 120, 1)
    assert clock.slept_s == []
