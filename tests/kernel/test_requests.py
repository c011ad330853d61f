# pyright: reportUnknownLambdaType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Requests beyond the conformance table: several who wait, and what they refuse."""

import asyncio
from typing import Any

import pytest
from tests.conformance.players import Later, Plain, Puppet, Step

from greenroom.actors import ActorSystem, FakeClock, ReplyTo, Requests, settle

pytestmark = pytest.mark.anyio


async def test_several_may_wait_each_gets_another_outcome_and_the_last_is_told(
    system: ActorSystem, clock: FakeClock
) -> None:
    puppet = await system.start(Puppet)
    kept: list[ReplyTo[Any]] = []
    requests = Requests()
    for label in "ab":
        requests.add(system.request(puppet, Later(lambda _, reply_to: kept.append(reply_to))), label)
    patient = [asyncio.create_task(requests.wait()) for _ in range(3)]
    hasty = asyncio.create_task(requests.wait(1.0))
    await clock.advance(1.0)
    with pytest.raises(TimeoutError, match="none of 2 replies within 1 s"):
        await hasty
    assert not any(task.done() for task in patient)
    kept[1].reply("second")
    await settle()
    kept[0].reply("first")
    outcomes = await asyncio.gather(*patient, return_exceptions=True)
    assert [type(outcome).__name__ for outcome in outcomes] == ["Outcome", "Outcome", "LookupError"]
    assert {task.result().label for task in patient[:2]} == {"a", "b"}


async def test_an_empty_collection_and_a_bad_timeout_are_errors(system: ActorSystem) -> None:
    requests = Requests()
    with pytest.raises(LookupError):
        await requests.wait()
    with pytest.raises(LookupError):
        await requests.wait(1.0)
    request = system.request(await system.start(Plain), Step())
    for waiting in (request.wait(-1.0), requests.wait(float("nan")), requests.receive(-1.0)):
        with pytest.raises(ValueError, match="timeout"):
            await waiting
