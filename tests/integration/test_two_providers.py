"""A batch over two providers of different limits and prices: both limits and the budget hold, and events explain each call."""

from collections import defaultdict
from decimal import Decimal
from pathlib import Path

import anyio.to_thread
import pytest
from aiohttp import web
from msgspec import structs
from tests.inside import database, given_back, hear, settings
from tests.integration.commands import Greenroom, results
from tests.integration.evidence import AttemptRow, ledger, stored_ids
from tests.integration.upstream import Asked, Upstream, good, refusal

from greenroom.actors.events import AttemptFailed, CallDone, Event, FailedOver
from greenroom.actors.settings import BreakerSettings, Limits, PriceSettings
from greenroom.runtime import Runtime
from greenroom.runtime.testing import HastyClock

LINES = 120
DEAR_AT_ONCE, CHEAP_AT_ONCE = 5, 2
ENOUGH_USD, TOO_LITTLE_USD = Decimal("0.05"), Decimal("0.0004")


async def moody(asked: Asked) -> web.StreamResponse:
    """Every third line finds no room here, and every seventh no sense."""
    number = int(asked.prompt.rpartition(" ")[2])
    if number % 3 == 0:
        return refusal(503)
    return refusal(400) if number % 7 == 0 else good()


async def job(folder: Path, budget_usd: Decimal) -> tuple[Upstream, Upstream, list[Event], str]:
    """Run it; the two providers, what was told, and how it ended."""
    source = folder / "in.jsonl"
    text = "".join(f'{{"custom_id": "id-{n}", "prompt": "line {n}"}}\n' for n in range(LINES))
    await anyio.to_thread.run_sync(source.write_text, text)
    told: list[Event] = []

    async def dearly(asked: Asked) -> web.StreamResponse:
        if budget_usd == ENOUGH_USD:
            await dear.wait_asked(DEAR_AT_ONCE)  # as many at once as there may be
        return await moody(asked)

    async def cheaply(asked: Asked) -> web.StreamResponse:
        if budget_usd == ENOUGH_USD:
            await cheap.wait_asked(CHEAP_AT_ONCE)
        return good()

    async with Upstream(dearly) as dear, Upstream(cheaply) as cheap:
        made = settings(dear.base_url, folder, limits=Limits(concurrency=DEAR_AT_ONCE))
        # A breaker would be right to open now and then; here every call is to be seen.
        acme = structs.replace(made.providers["acme"], breaker=BreakerSettings(failures=1000))
        other = structs.replace(
            acme,
            base_url=cheap.base_url,
            prices={"*": PriceSettings(input="0.01", output="0.02")},
            limits=Limits(concurrency=CHEAP_AT_ONCE),
        )
        made = structs.replace(made, providers={"acme": acme, "other": other})
        async with Runtime(made, environ={}, clock=HastyClock()) as rt:
            hear(rt, told.append)
            running = await rt.batch(
                source,
                out=folder / "out.jsonl",
                model="acme/fast",
                max_tokens=50,
                budget_usd=budget_usd,
                fallbacks=("other/spare",),
            )
            last = await running.wait()
            for provider in ("acme", "other"):
                await given_back(rt, provider)
    return dear, cheap, told, last.state


def explain(rows: list[AttemptRow], told: list[Event]) -> None:
    """Each call that came to an end, from its events alone: which model was asked how often, why it moved, what it cost."""
    attempts: dict[int, list[AttemptRow]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: (row.call_id, row.number)):
        attempts[row.call_id].append(row)
    failures: dict[int, list[AttemptFailed]] = defaultdict(list)
    moves: dict[int, list[FailedOver]] = defaultdict(list)
    done: dict[int, CallDone] = {}
    for event in told:
        match event:
            case AttemptFailed():
                failures[event.call_id].append(event)
            case FailedOver():
                moves[event.call_id].append(event)
            case CallDone():
                done[event.call_id] = event
            case _:
                raise AssertionError(event)
    for call_id, made in attempts.items():
        failed = failures[call_id]
        assert [
            (one.error.provider, one.error.kind, one.error.attempts, one.cost_pusd) for one in failed
        ] == [(row.provider, row.outcome, row.number, row.cost_pusd) for row in made if row.outcome != "ok"]
        answered = done.get(call_id)
        if answered is None:
            assert failed[-1].retry_in_s is None
        else:
            assert (answered.provider, answered.attempts) == (made[-1].provider, len(made))
            assert answered.cost_pusd == sum(row.cost_pusd for row in made)
        went = [(one.from_model, one.to_model) for one in moves[call_id]]
        assert went == [("acme/fast", "other/spare")] * any(row.provider == "other" for row in made)


@pytest.mark.anyio
async def test_limits_and_budget_hold_and_events_explain_every_call(tmp_path: Path) -> None:
    dear, cheap, told, state = await job(tmp_path, ENOUGH_USD)
    assert state == "done"
    assert (dear.peak, cheap.peak) == (DEAR_AT_ONCE, CHEAP_AT_ONCE)
    assert (len(dear.asked), len(cheap.asked)) == (LINES, LINES // 3)
    rows = await anyio.to_thread.run_sync(ledger, database(tmp_path))
    assert len(rows) == LINES + LINES // 3
    assert sum(row.cost_pusd for row in rows) <= int(ENOUGH_USD * 10**12)
    explain(rows, told)
    assert await anyio.to_thread.run_sync(stored_ids, database(tmp_path)) == {f"id-{n}" for n in range(LINES)}


@pytest.mark.anyio
async def test_a_budget_that_is_too_small_is_never_overrun(tmp_path: Path) -> None:
    dear, cheap, told, state = await job(tmp_path, TOO_LITTLE_USD)
    assert state == "halted"
    assert 0 < len(dear.asked) < LINES
    assert dear.peak <= DEAR_AT_ONCE
    assert cheap.peak <= CHEAP_AT_ONCE
    rows = await anyio.to_thread.run_sync(ledger, database(tmp_path))
    assert {row.state for row in rows} == {"settled"}
    assert 0 < sum(row.cost_pusd for row in rows) <= int(TOO_LITTLE_USD * 10**12)
    assert {event.call_id for event in told if isinstance(event, CallDone)} <= {row.call_id for row in rows}


def test_the_command_takes_fallbacks_and_refuses_those_that_nobody_has(greenroom: Greenroom) -> None:
    simulator = greenroom.simulate()
    greenroom.configure(
        "http://127.0.0.1:9/v1", more=f'[providers.spare]\nbase_url = "{simulator.base_url}"\nfree = true'
    )
    greenroom.prompts(3)
    wrong = greenroom.run("run", "in.jsonl", "--fallback", "nobody/fast")
    assert wrong.code == 2
    assert "nobody/fast" in wrong.err
    done = greenroom.run("run", "in.jsonl", "--fallback", "spare/fast", "--json")
    assert (done.code, done.json["ok"]) == (0, 3), done.err
    assert len(results(greenroom.folder / "in.results.jsonl")) == 3
