"""Charges are exact, rounded up once, and never above the bound that was set aside for them."""

from decimal import Decimal
from fractions import Fraction
from math import ceil

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.actors.events import Usage
from greenroom.actors.prices import PICO, Price, Rates, dollars, pico_usd, rates, usd

COUNTED = Usage.__struct_fields__[:-1]
SEARCHES = ("web_searches", "file_searches")
TOKENS = tuple(name for name in COUNTED if name not in SEARCHES)
counts = st.integers(0, 3_000_000)
usages = st.builds(
    Usage, *[counts for _ in TOKENS], *[st.integers(0, 50) for _ in SEARCHES], st.sampled_from(["", "fast"])
)
some_rates = st.builds(Rates, *[st.integers(0, 10**15) for _ in COUNTED])
some_tiers = st.lists(st.tuples(counts, some_rates), max_size=3, unique_by=lambda tier: tier[0]).map(
    lambda found: tuple(sorted(found, key=lambda tier: tier[0]))
)
standard_prices = st.builds(Price, some_rates, some_tiers, st.integers(0, PICO))
prices = st.builds(
    Price,
    some_rates,
    some_tiers,
    st.integers(0, PICO),
    st.fixed_dictionaries({}, optional={"fast": standard_prices}),
)


def exact(price: Price, usage: Usage) -> int:
    """The same another way: by fractions, class by class."""
    price = price.served.get(usage.service_tier, price)
    applying = price.base
    for start, dearer in price.tiers:
        if usage.total_input_tokens > start:
            applying = dearer
    fields = zip(Rates.__struct_fields__, COUNTED, strict=True)
    total = sum(Fraction(getattr(applying, r) * getattr(usage, u), 10**6) for r, u in fields)
    return ceil(total) + price.request_pusd


@given(price=prices, usage=usages)
def test_a_charge_is_the_exact_sum_rounded_up_once(price: Price, usage: Usage) -> None:
    assert price.cost_pusd(usage) == exact(price, usage)


@given(price=standard_prices, usage=usages, more_in=counts, more_out=counts)
def test_no_usage_within_the_bound_is_charged_more(
    price: Price, usage: Usage, more_in: int, more_out: int
) -> None:
    held = price.asked(searches=usage.web_searches + usage.file_searches)
    bound_pusd = held.bound_pusd(usage.total_input_tokens + more_in, usage.total_output_tokens + more_out)
    assert price.cost_pusd(usage) <= bound_pusd


@given(price=prices, usage=usages)
def test_whichever_tier_serves_is_within_the_bound(price: Price, usage: Usage) -> None:
    """Of those that a request may be served by: the one that it asks for, and the standard one."""
    held = price.asked("fast", usage.web_searches + usage.file_searches)
    bound_pusd = held.bound_pusd(usage.total_input_tokens, usage.total_output_tokens)
    assert price.cost_pusd(usage) <= bound_pusd


@pytest.mark.parametrize("place", range(len(TOKENS)))
def test_the_bound_covers_every_class_of_token(place: int) -> None:
    price = Price(Rates(*[10**6 * (1 + 8 * (n == place)) for n in range(len(COUNTED))]))
    usage = msgspec.convert({TOKENS[place]: 5}, Usage)
    assert price.cost_pusd(usage) == 45
    assert price.bound_pusd(usage.total_input_tokens, usage.total_output_tokens) == 45


def test_the_bound_of_many_covers_them_each_rounded_up() -> None:
    cheap, dear = rates(1, 3), rates(2, 6)
    price = Price(cheap, ((100, dear),), request_pusd=7)
    requests = [(10, 5), (99, 0), (101, 1)]
    one_by_one = sum(price.bound_pusd(*request) for request in requests)
    tokens_in, tokens_out = (sum(column) for column in zip(*requests, strict=True))
    assert price.bound_of_many_pusd(3, tokens_in, tokens_out, largest_input=101) >= one_by_one
    assert price.bound_of_many_pusd(3, 30, 0, largest_input=10) <= one_by_one
    assert price == Price(cheap, ((100, dear),), request_pusd=7)


def test_a_tier_begins_above_its_start() -> None:
    price = Price(rates(10**6, 10**6), ((100, rates(10**7, 10**7)),))
    assert price.cost_pusd(Usage(input_tokens=60, cached_tokens=40)) == 100
    assert price.cost_pusd(Usage(input_tokens=60, cached_tokens=41)) == 1010


def test_a_class_without_a_rate_costs_what_the_class_costs_that_it_belongs_to() -> None:
    plain = rates(7, 11)
    assert {plain.cached, plain.cache_write_1h, plain.audio_input, plain.image_input, plain.video_input} == {
        7
    }
    assert {plain.reasoning, plain.audio_output, plain.image_output, plain.citation} == {11}
    assert (plain.web_search, plain.file_search) == (0, 0)
    assert rates(7, 11, cached=2).cached_audio == 2
    assert rates(7, 11, cached=2, audio_input=30).cached_audio == 30
    assert rates(7, 11, cache_write=9).cache_write_1h == 9


def test_a_service_tier_has_its_own_price_and_an_unknown_one_the_standard() -> None:
    fast = Price(rates(3 * 10**6, 3 * 10**6))
    price = Price(rates(10**6, 10**6), served={"fast": fast})
    assert price.cost_pusd(Usage(10, service_tier="fast")) == 30
    assert price.cost_pusd(Usage(10, service_tier="ultra")) == 10
    assert price.asked("fast").bound_pusd(10, 0) == 30
    assert price.asked("ultra").bound_pusd(10, 0) == 10


def test_a_cheaper_tier_is_held_at_the_standard_price() -> None:
    """A provider may serve what asked for it by the standard tier all the same."""
    price = Price(rates(10**6, 10**6), served={"flex": Price(rates(5 * 10**5, 10**6))})
    assert price.asked("flex").bound_pusd(10, 0) == 10


def test_a_dearer_tier_that_falls_back_is_held_all_the_same() -> None:
    """Some tiers end where a larger input begins, and the standard one goes on, dearer than they."""
    large = ((100, rates(9 * 10**6, 9 * 10**6)),)
    price = Price(rates(10**6, 10**6), large, served={"priority": Price(rates(2 * 10**6, 2 * 10**6))})
    held = price.asked("priority")
    assert held.bound_pusd(100, 0) == 200
    assert held.bound_pusd(101, 0) == price.cost_pusd(Usage(101)) == 909


def test_fees_of_searches_are_held_where_there_are_any() -> None:
    price = Price(rates(0, 0, web_search=3 * 10**18 + 1), request_pusd=5)
    assert price.cost_pusd(Usage(web_searches=2)) == 6 * 10**12 + 1 + 5
    assert price.asked(searches=2).bound_pusd(0, 0) == 6 * 10**12 + 1 + 5
    assert price.asked().bound_pusd(0, 0) == 5


@pytest.mark.parametrize(
    ("said", "pusd"),
    [
        ("0.50", 5 * 10**11),
        (5, 5 * PICO),
        (0.1, 10**11),
        (Decimal("0.0000000000019"), 1),
        ("1000000", 10**18),
    ],
)
def test_a_sum_is_what_was_written(said: Decimal | str | float, pusd: int) -> None:
    assert pico_usd(said) == pusd
    assert Decimal(dollars(pusd)[1:]) == usd(pusd)


@pytest.mark.parametrize("said", ["", "x", "-1", "nan", "inf", "1000001", "1e7"])
def test_what_is_no_sum_is_refused(said: str) -> None:
    with pytest.raises(ValueError, match="is no sum of dollars"):
        pico_usd(said)
