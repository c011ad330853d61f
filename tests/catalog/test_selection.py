"""The choice among models: no strategy breaks a hard limit, and the explanation leaves nobody out."""

from datetime import date
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import json, structs
from tests.catalog.deck import ALL, candidate, measured, price

from greenroom.actors.catalog import Choice, Choose, NothingEligible, Requirements, Strategy
from greenroom.actors.catalog.limits import Candidate
from greenroom.actors.catalog.selection import choose
from greenroom.actors.prices import pico_usd, rates
from greenroom.actors.settings import Capabilities

TODAY = date(2026, 11, 23)
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)


def pick(*candidates: Candidate, strategy: Strategy = "cheapest", **asked: Any) -> Choice:
    sizes = {
        name: asked.pop(name) for name in ("input_tokens", "input_bound", "output_tokens") if name in asked
    }
    needs = Requirements(**asked)
    return choose(candidates, Choose(requirements=needs, strategy=strategy, **sizes), TODAY)


@pytest.mark.parametrize(
    ("asked", "known", "why"),
    [
        ({"vision": True}, {"capabilities": structs.replace(ALL, vision=False)}, "takes no images"),
        (
            {"vision": True},
            {"capabilities": structs.replace(ALL, vision=None)},
            "vision: not known whether it can",
        ),
        ({"tools": True}, {"capabilities": structs.replace(ALL, tools=False)}, "calls no functions"),
        (
            {"json_schema": True},
            {"capabilities": structs.replace(ALL, json_schema=False)},
            "holds its answers to no JSON Schema",
        ),
        ({"reasoning": True}, {"capabilities": structs.replace(ALL, reasoning=False)}, "does not think"),
        ({}, {"capabilities": Capabilities(chat=False)}, "is no model that chats"),
        ({}, {"usd": None}, "no price is known"),
        ({}, {"unreachable": "nobody answers at http://127.0.0.1:1"}, "nobody answers"),
        ({}, {"retires": date(2026, 11, 23)}, "retired on 2026-11-23"),
        ({"context_tokens": 100_000}, {"context_tokens": 99_999}, "window of 99,999 tokens, not 100,000"),
        ({"context_tokens": 1}, {"context_tokens": None}, "not known whether it has it"),
        ({"input_tokens": 99_000, "output_tokens": 1_001}, {"context_tokens": 100_000}, "not 100,001"),
        ({"input_bound": 100_001}, {"context_tokens": 100_000}, "not 100,001"),
        ({"max_output_tokens": 5}, {"max_output_tokens": 4}, "an output of 4 tokens, not 5"),
        ({"max_output_tokens": 5}, {"max_output_tokens": None}, "not known whether it has it"),
        ({"free_only": True}, {"usd": ("0", "0.000001")}, "is not free"),
        ({"max_input_usd_per_mtok": "0.5"}, {"usd": ("0.500001", "0")}, "per million tokens in, more than"),
        ({"max_output_usd_per_mtok": 0.5}, {"usd": ("0", "0.51")}, "per million tokens out, more than $0.5"),
        (
            {"max_usd": "0.01", "input_bound": 10_000, "output_tokens": 1},
            {"usd": ("1", "2")},
            "up to $0.010002 for this call, more than $0.01",
        ),
        ({"max_latency_s": 1.0}, {"found": measured(latency_s=1.5)}, "1.5 s at the median, more than 1 s"),
        ({"exclude": ("a/m",)}, {}, "excluded"),
        ({"exclude": ("a/*",)}, {}, "excluded"),
        ({"exclude": ("m",)}, {}, "excluded"),
        ({"providers": ("zz", "b")}, {}, "not of a provider that is allowed"),
        ({"models": ("*good", "b/*")}, {}, "not among the models that are allowed"),
    ],
)
def test_what_breaks_a_hard_limit_is_chosen_by_no_strategy(
    asked: dict[str, Any], known: dict[str, Any], why: str
) -> None:
    tempting: dict[str, Any] = {"usd": ("0", "0"), "quality": 100.0}
    broken = candidate("a/m", **tempting | known)
    if asked.keys() & {"free_only", "max_input_usd_per_mtok", "max_output_usd_per_mtok", "max_usd"}:
        with pytest.raises(NothingEligible) as refused:
            pick(broken, **asked)
        assert why in refused.value.rejected[0].why
    else:
        size = {"context_tokens": 1_000_000, "max_output_tokens": 1_000_000}
        assert why in why_not_with(broken, size, asked)


def why_not_with(broken: Candidate, size: dict[str, int], asked: dict[str, Any]) -> str:
    good = candidate("zz/good", usd=("50", "50"), found=measured(latency_s=0.1), **size)
    found = [pick(broken, good, strategy=one, **dict(asked)) for one in STRATEGIES]
    assert {choice.model for choice in found} == {"zz/good"}
    (why,) = {one.why for choice in found for one in choice.rejected}
    with pytest.raises(NothingEligible):
        pick(broken, **dict(asked))
    return why


def test_a_size_that_is_not_known_stands_in_the_way_of_no_call() -> None:
    assert pick(candidate("a/m", context_tokens=None), input_tokens=10**6).model == "a/m"


def test_a_model_that_was_not_measured_breaks_no_limit_of_latency() -> None:
    assert pick(candidate("a/m"), max_latency_s=0.001).model == "a/m"


def test_what_is_just_within_its_limits_is_eligible() -> None:
    just = candidate("a/m", usd=("1", "2"), found=measured(latency_s=1.5), max_output_tokens=7)
    found = pick(
        just,
        max_input_usd_per_mtok="1",
        max_output_usd_per_mtok="2",
        max_usd="0.00012",
        max_latency_s=1.5,
        context_tokens=100_000,
        max_output_tokens=7,
        input_tokens=100,
        output_tokens=10,
    )
    assert found.model == "a/m"


def test_limits_of_price_hold_in_the_tier_and_for_the_thoughts_of_a_call() -> None:
    made = candidate("a/m")
    dear = rates(3 * 10**12, 4 * 10**12, reasoning=9 * 10**12)
    tiered = structs.replace(price("1", "2"), tiers=((1000, dear),))
    tall = structs.replace(made, card=structs.replace(made.card, price=tiered))
    tight: list[dict[str, Any]] = [{"max_input_usd_per_mtok": 2}, {"max_output_usd_per_mtok": 8}]
    for limits in tight:
        assert pick(tall, input_tokens=1000, **limits).model == "a/m"
        with pytest.raises(NothingEligible, match=r"\$(3|9) per million tokens"):
            pick(tall, input_tokens=1, input_bound=1001, **limits)
    assert pick(tall, input_tokens=1001, max_input_usd_per_mtok=3, max_output_usd_per_mtok=9).model == "a/m"


def test_cheapest_reckons_with_how_much_a_model_writes() -> None:
    terse = candidate("a/terse", usd=("1", "10"), found=measured(latency_s=1, output_tokens=100))
    wordy = candidate("a/wordy", usd=("1", "2"), found=measured(latency_s=1, output_tokens=2000))
    unseen = candidate("a/unseen", usd=("1", "1.9"))
    found = pick(wordy, terse, unseen, input_tokens=100)
    assert [found.model, *(one.model for one in found.runners_up)] == ["a/terse", "a/unseen", "a/wordy"]
    assert found.winner.why == "$0.0011 for an answer of some 100 tokens"
    assert found.winner.score == pytest.approx(0.0011)
    # The bound of the answer bounds what any of them is taken to write.
    assert pick(wordy, terse, input_tokens=100, output_tokens=100).model == "a/wordy"


def test_fastest_goes_by_what_was_measured_once_a_few_were() -> None:
    known = [candidate(f"a/m{n}", found=measured(latency_s=n)) for n in range(1, 6)]
    unknown = candidate("a/new", usd=("0", "0"))
    found = pick(*reversed(known), unknown, strategy="fastest")
    names = [one.model for one in (found.winner, *found.runners_up)]
    assert names == ["a/m1", "a/m2", "a/m3", "a/m4", "a/m5", "a/new"]
    # With fewer measured, one is that was not.
    assert pick(*known[:4], unknown, strategy="fastest").model == "a/new"
    assert pick(candidate("a/dear"), unknown, strategy="fastest").model == "a/new"


def test_failures_make_a_model_slow_and_many_of_them_put_it_last() -> None:
    steady = candidate("a/steady", found=measured(latency_s=1.9))
    shaky = candidate("a/shaky", found=measured(latency_s=1.0, failure_share=0.5))
    others = [candidate(f"z/{n}", found=measured(latency_s=9)) for n in range(3)]
    assert pick(steady, shaky, *others, strategy="fastest").model == "a/steady"
    broken = candidate(
        "a/broken", usd=("0", "0"), quality=100.0, found=measured(latency_s=0.1, failure_share=0.6)
    )
    for strategy in STRATEGIES:
        found = pick(broken, steady, *others, strategy=strategy)
        assert found.runners_up[-1].model == "a/broken"
        assert found.runners_up[-1].why.endswith("; most of its late attempts failed")
        # It is still better than nothing.
        assert pick(broken, strategy=strategy).model == "a/broken"


def test_best_is_what_is_configured_and_else_the_dearest_output() -> None:
    plain, dear = candidate("a/plain", usd=("1", "2")), candidate("a/dear", usd=("1", "30"))
    praised = candidate("a/praised", usd=("0", "0"), quality=51.0)
    poor = candidate("a/poor", usd=("99", "99"), quality=49.0)
    found = pick(poor, plain, praised, dear, strategy="best")
    names = [one.model for one in (found.winner, *found.runners_up)]
    assert names == ["a/praised", "a/dear", "a/plain", "a/poor"]


def test_balanced_takes_no_extreme() -> None:
    cheap = candidate("a/cheap", usd=("0.1", "0.1"), found=measured(latency_s=9))
    middle = candidate("a/middle", usd=("1", "1"), found=measured(latency_s=2), quality=90.0)
    dear = candidate("a/dear", usd=("9", "9"), found=measured(latency_s=3), quality=91.0)
    found = pick(cheap, middle, dear, strategy="balanced")
    assert found.model == "a/middle"
    assert found.winner.why == "place by cost 0.50, by speed 0.00, by quality 0.50"
    assert found.winner.score == pytest.approx(1 / 3)
    assert "(not measured yet)" in pick(candidate("a/m"), strategy="balanced").winner.why


def test_round_robin_takes_whose_turn_is_longest_ago() -> None:
    turns = [candidate("a/m", turn=3), candidate("b/m", turn=1), candidate("c/m", turn=2)]
    assert pick(*turns, strategy="round_robin").model == "b/m"
    assert pick(*turns, candidate("d/m"), strategy="round_robin").model == "d/m"


def test_least_busy_looks_at_the_provider_then_at_the_model() -> None:
    busy = candidate("a/m", load=0.5)
    calm = candidate("b/m", load=0.1, found=measured(in_flight=3))
    calmer = candidate("b/n", load=0.1, found=measured(in_flight=2))
    assert pick(busy, calm, calmer, strategy="least_busy").model == "b/n"


def test_the_reason_is_told_in_words() -> None:
    found = pick(candidate("a/m", usd=("1", "1")), candidate("b/m"), candidate("c/m", usd=None))
    assert found.reason == (
        "a/m is cheapest: $0.0015 for an answer of some 500 tokens, before b/m ($0.002 for an answer of some 500 "
        "tokens); 1 rejected"
    )
    assert "the only one eligible" in pick(candidate("a/m")).reason


def test_nothing_eligible_says_why_and_what_would_help() -> None:
    text = candidate("a/text", capabilities=structs.replace(ALL, vision=False))
    dear = candidate("b/dear", usd=("5", "5"))
    worst = candidate("c/worst", usd=("5", "5"), capabilities=structs.replace(ALL, vision=False))
    unpriced = candidate("d/unpriced", usd=None)
    with pytest.raises(NothingEligible) as refused:
        pick(text, dear, worst, unpriced, vision=True, max_output_usd_per_mtok=3)
    said = str(refused.value)
    assert "takes no images (2 models)" in said
    assert "no price is known (1 model)" in said
    assert said.endswith("What would help: without vision: a/text; without max_output_usd_per_mtok: b/dear")
    with pytest.raises(NothingEligible, match="no provider has any"):
        pick()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"context_tokens": 0}, "context_tokens=0: a number of tokens"),
        ({"max_output_tokens": 1.5}, "max_output_tokens=1.5"),
        ({"max_usd": "-1"}, "max_usd: '-1' is no sum"),
        ({"max_usd": "x"}, "max_usd: 'x' is no sum"),
        ({"max_input_usd_per_mtok": float("nan")}, "max_input_usd_per_mtok: nan is no sum"),
        ({"max_latency_s": 0}, "max_latency_s=0"),
        ({"max_latency_s": float("nan")}, "max_latency_s=nan"),
        ({"providers": "openai"}, r"providers='openai': several names, such as \('openai',\)"),
        ({"exclude": "x"}, "exclude='x'"),
    ],
)
def test_requirements_that_make_no_sense_are_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Requirements(**wrong)


def test_requirements_are_read_out_of_json_and_unknown_ones_refused() -> None:
    assert json.decode(b'{"vision":true,"exclude":["a"]}', type=Requirements) == Requirements(
        vision=True, exclude=("a",)
    )
    with pytest.raises(ValueError, match="visoin"):
        json.decode(b'{"visoin":true}', type=Requirements)
    with pytest.raises(ValueError, match="max_usd"):
        json.decode(b'{"max_usd":"2e9"}', type=Requirements)


def numbered(number: int, **known: Any) -> Candidate:
    return candidate(f"p{number % 3}/m{number}", **known)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"strategy": "dearest"}, "strategy='dearest': there is no such one; there are: cheapest, fastest"),
        ({"input_tokens": -1}, "input_tokens=-1: a number of tokens"),
        ({"output_tokens": 1.5}, "output_tokens=1.5"),
        ({"input_bound": None}, "input_bound=None"),
    ],
)
def test_a_choice_that_makes_no_sense_is_refused_by_name(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Choose(**wrong)


maybe = st.sampled_from([True, False, None])
usd = st.sampled_from(["0", "0.1", "1", "7.5", "30"])
candidates = st.lists(
    st.builds(
        numbered,
        st.integers(0, 10**6),
        usd=st.none() | st.tuples(usd, usd),
        capabilities=st.builds(
            Capabilities, chat=maybe, vision=maybe, tools=maybe, json_schema=maybe, reasoning=maybe
        ),
        context_tokens=st.none() | st.sampled_from([1000, 8000, 10**6]),
        max_output_tokens=st.none() | st.sampled_from([100, 4000]),
        retires=st.none() | st.sampled_from([date(2026, 1, 1), date(2027, 1, 1)]),
        unreachable=st.none() | st.just("away"),
        quality=st.sampled_from([0.0, 50.0, 99.0]),
        found=st.builds(
            measured,
            latency_s=st.none() | st.floats(0.01, 100),
            failure_share=st.floats(0, 1),
            output_tokens=st.none() | st.floats(0, 10_000),
            in_flight=st.integers(0, 50),
        ),
        load=st.floats(0, 2),
        turn=st.integers(0, 9),
    ),
    max_size=12,
    unique_by=lambda made: made.card.name,
)
requirements = st.builds(
    Requirements,
    context_tokens=st.none() | st.sampled_from([1000, 5000]),
    max_output_tokens=st.none() | st.just(1000),
    vision=st.booleans(),
    tools=st.booleans(),
    json_schema=st.booleans(),
    reasoning=st.booleans(),
    max_input_usd_per_mtok=st.none() | usd,
    max_output_usd_per_mtok=st.none() | usd,
    max_usd=st.none() | st.sampled_from(["0", "0.001", "1"]),
    max_latency_s=st.none() | st.sampled_from([0.5, 10.0]),
    free_only=st.booleans(),
    providers=st.sampled_from([(), ("p0",), ("p1", "p2")]),
    models=st.sampled_from([(), ("*1*",), ("p0/*", "m2*")]),
    exclude=st.sampled_from([(), ("p2/*",), ("*3",)]),
)
asked = st.builds(
    Choose,
    requirements=requirements | st.just(Requirements()),
    strategy=st.sampled_from(STRATEGIES),
    input_tokens=st.sampled_from([0, 10, 3000]),
    input_bound=st.sampled_from([0, 9000]),
    output_tokens=st.sampled_from([0, 200]),
)


def meets(one: Candidate, asked: Choose) -> bool:
    """The limits once more, as their words say."""
    needs, card = asked.requirements, one.card
    price, number = card.price, card.model.removeprefix("m")
    if price is None:
        return False
    size = asked.input_tokens or asked.input_bound
    most_in_tokens = max(asked.input_tokens, asked.input_bound)
    charged = (most_in_tokens * price.base.input + asked.output_tokens * price.base.output) / 10**6
    most_in, most_out, most, latency_s = (
        float("inf") if limit is None else pico_usd(limit)
        for limit in (
            needs.max_input_usd_per_mtok,
            needs.max_output_usd_per_mtok,
            needs.max_usd,
            needs.max_latency_s,
        )
    )
    return all(
        (
            card.unreachable is None,
            card.capabilities.chat is not False,
            card.retires is None or card.retires > TODAY,
            card.capabilities.vision is True or not needs.vision,
            card.capabilities.tools is True or not needs.tools,
            card.capabilities.json_schema is True or not needs.json_schema,
            card.capabilities.reasoning is True or not needs.reasoning,
            (card.context_tokens or 0) >= (needs.context_tokens or 0),
            (card.context_tokens or 10**9) >= size + asked.output_tokens,
            (card.max_output_tokens or 0) >= (needs.max_output_tokens or 0),
            not needs.free_only or price.base.input + price.base.output == 0,
            price.base.input <= most_in,
            price.base.output <= most_out,
            charged <= most,
            (one.measured.latency_s or 0) * 10**12 <= latency_s,
            not needs.providers or card.provider in needs.providers,
            needs.models != ("*1*",) or "1" in card.name,
            needs.models != ("p0/*", "m2*") or card.provider == "p0" or number.startswith("2"),
            needs.exclude != ("p2/*",) or card.provider != "p2",
            needs.exclude != ("*3",) or not number.endswith("3"),
        )
    )


@given(candidates, asked)
def test_no_strategy_breaks_a_limit_and_nobody_is_left_out(deck: list[Candidate], asked: Choose) -> None:
    fit = {one.card.name for one in deck if meets(one, asked)}
    everybody = sorted(one.card.name for one in deck)
    if not fit:
        with pytest.raises(NothingEligible) as refused:
            choose(deck, asked, TODAY)
        assert sorted(one.model for one in refused.value.rejected) == everybody
        return
    found = choose(deck, asked, TODAY)
    eligible = [one.model for one in (found.winner, *found.runners_up)]
    assert set(eligible) == fit
    assert found.model == found.winner.model
    assert sorted([*eligible, *(one.model for one in found.rejected)]) == everybody
    assert all([one.why for one in found.rejected] + [one.why for one in (found.winner, *found.runners_up)])
    assert json.decode(json.encode(found), type=Choice) == found
