"""Charges are exact, rounded up once, and never above the bound that was set aside for them."""

from decimal import Decimal
from fractions import Fraction
from math import ceil

import pytest
from genai_prices import Usage as TheirUsage
from genai_prices import calc_price
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.events import Usage
from greenroom.actors.prices import PICO, Price, PriceTable, Rates, configured_price, usd
from greenroom.actors.settings import PriceSettings

CLASSES = Usage.__struct_fields__
counts = st.integers(0, 3_000_000)
usages = st.builds(Usage, *[counts for _ in CLASSES])
rates = st.builds(Rates, *[st.integers(0, 10**15) for _ in CLASSES])
tiers = st.lists(st.tuples(counts, rates), max_size=3, unique_by=lambda tier: tier[0]).map(
    lambda found: tuple(sorted(found, key=lambda tier: tier[0]))
)
prices = st.builds(Price, rates, tiers, st.integers(0, PICO))


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return PriceTable.load()


@given(price=prices, usage=usages)
def test_a_charge_is_the_exact_sum_rounded_up_once(price: Price, usage: Usage) -> None:
    applying = [price.base, *(dearer for start, dearer in price.tiers if usage.total_input_tokens > start)][
        -1
    ]
    fields = zip(Rates.__struct_fields__, CLASSES, strict=True)
    exact = sum(Fraction(getattr(applying, r) * getattr(usage, u), 10**6) for r, u in fields)
    assert price.cost_pusd(usage) == ceil(exact) + price.request_pusd


@given(price=prices, usage=usages, more_in=counts, more_out=counts)
def test_no_usage_within_the_bound_is_charged_more(
    price: Price, usage: Usage, more_in: int, more_out: int
) -> None:
    bound = price.bound_pusd(usage.total_input_tokens + more_in, usage.total_output_tokens + more_out)
    assert price.cost_pusd(usage) <= bound


def test_configured_prices_are_dollars_per_million_and_win_over_the_table(table: PriceTable) -> None:
    own = PriceSettings(input="0.50", output="1.5", cached="0.123456789012")
    price = table.price("openai", "gpt-4o-mini", {"gpt-4o-mini": own})
    assert price is not None
    assert price == configured_price(own)
    assert usd(price.cost_pusd(Usage(input_tokens=10**6))) == Decimal("0.5")
    assert usd(price.cost_pusd(Usage(reasoning_tokens=10**6))) == Decimal("1.5")
    assert usd(price.cost_pusd(Usage(cached_tokens=10**6))) == Decimal("0.123456789012")
    assert price.cost_pusd(Usage(cached_tokens=1)) == 123_457


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"),
        ("openai", "gpt-5-mini"),
        ("anthropic", "claude-sonnet-4-5"),
        ("google", "gemini-2.5-pro"),
    ],
)
@pytest.mark.parametrize("fresh", [1, 999, 150_000, 250_000])
def test_published_prices_are_charged_to_the_last_digit(
    table: PriceTable, provider: str, model: str, fresh: int
) -> None:
    price = table.price(provider, model, {})
    assert price is not None
    theirs = calc_price(
        TheirUsage(input_tokens=fresh + 77, cache_read_tokens=77, output_tokens=31),
        model,
        provider_id=provider,
    )
    cost = price.cost_pusd(Usage(input_tokens=fresh, cached_tokens=77, output_tokens=31))
    assert cost == ceil(Fraction(theirs.total_price) * PICO)


def test_what_nobody_prices_has_no_price(table: PriceTable) -> None:
    assert table.price("openai", "no-such-model", {}) is None
    assert table.price("no-such-provider", "gpt-4o", {}) is None
    assert table.near("openai", "gpt-4o-mni")[0] == "gpt-4o-mini"
    assert table.near("no-such-provider", "gpt-4o") == []


@pytest.mark.parametrize("provider", ["notopenai", "openai2", "my-anthropic", "OpenAI", ""])
def test_a_provider_that_is_named_like_a_published_one_has_not_its_prices(
    table: PriceTable, provider: str
) -> None:
    for model in ("gpt-4o", "claude-sonnet-4-5"):
        assert table.price(provider, model, {}) is None
        assert table.context_window(provider, model) is None


def test_the_bound_of_many_covers_them_each_rounded_up() -> None:
    rates = Rates(1, 3, 1, 1, 1, 3, 1, 1)
    dear = Rates(2, 6, 2, 2, 2, 6, 2, 2)
    price = Price(rates, ((100, dear),), request_pusd=7)
    requests = [(10, 5), (99, 0), (101, 1)]
    one_by_one = sum(price.bound_pusd(*request) for request in requests)
    tokens_in, tokens_out = (sum(column) for column in zip(*requests, strict=True))
    assert price.bound_of_many_pusd(3, tokens_in, tokens_out, largest_input=101) >= one_by_one
    assert price.bound_of_many_pusd(3, 30, 0, largest_input=10) <= one_by_one
    assert price == Price(rates, ((100, dear),), request_pusd=7)


def test_a_tier_begins_above_its_start() -> None:
    cheap, dear = Rates(*[10**6] * 8), Rates(*[10**7] * 8)
    price = Price(cheap, ((100, dear),))
    assert price.cost_pusd(Usage(input_tokens=60, cached_tokens=40)) == 100
    assert price.cost_pusd(Usage(input_tokens=60, cached_tokens=41)) == 1010


@pytest.mark.parametrize("dearest", range(8))
def test_the_bound_covers_every_class(dearest: int) -> None:
    price = Price(Rates(*[10**6 * (1 + 8 * (n == dearest)) for n in range(8)]))
    usage = Usage(*[5 * (n == dearest) for n in range(8)])
    assert price.cost_pusd(usage) == 45
    assert price.bound_pusd(usage.total_input_tokens, usage.total_output_tokens) == 45
