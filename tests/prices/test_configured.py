"""Prices that somebody wrote into the configuration: they win, nothing in them is free unless it says so."""

from decimal import Decimal

import msgspec
import pytest

from greenroom.actors.events import Usage
from greenroom.actors.prices import PriceTable, configured_price, usd
from greenroom.actors.settings import PriceSettings, TierSettings

MTOK = 10**6
WHOLE = PriceSettings(
    input="1",
    output="10",
    cached="0.1",
    cache_write="1.25",
    cache_write_1h="2",
    reasoning="12",
    audio_input="40",
    audio_output="80",
    image_input="5",
    image_output="30",
    tiers=(
        TierSettings(input="4", output="40", above_tokens=9 * MTOK),
        TierSettings(input="2", output="20", above_tokens=2 * MTOK),
    ),
    request_usd="0.003",
    web_search_usd="0.01",
    file_search_usd="0.0025",
    batch_multiplier="0.5",
    service_tiers={"priority": "1.75"},
)


def cost(settings: PriceSettings, usage: Usage) -> Decimal:
    return usd(configured_price(settings).cost_pusd(usage))


def test_configured_prices_win_over_the_table() -> None:
    table = PriceTable.load()
    own = PriceSettings(input="0.50", output="1.5")
    assert table.price("openai", "gpt-4o-mini", {"gpt-4o-mini": own}) == configured_price(own)
    assert table.price("openai", "gpt-4o-mini", {"*": own}) == configured_price(own)
    assert table.price("openai", "gpt-4o-mini", {"gpt-4o": own}) != configured_price(own)


@pytest.mark.parametrize(
    ("usage", "dollars"),
    [
        (Usage(input_tokens=MTOK), "1.003"),
        (Usage(output_tokens=MTOK), "10.003"),
        (Usage(cached_tokens=MTOK), "0.103"),
        (Usage(cache_write_5m_tokens=MTOK), "1.253"),
        (Usage(cache_write_1h_tokens=MTOK), "2.003"),
        (Usage(reasoning_tokens=MTOK), "12.003"),
        (Usage(audio_input_tokens=MTOK), "40.003"),
        (Usage(audio_output_tokens=MTOK), "80.003"),
        (Usage(image_input_tokens=MTOK), "5.003"),
        (Usage(image_output_tokens=MTOK), "30.003"),
        (Usage(web_searches=2, file_searches=2), "0.028"),
        (Usage(input_tokens=2 * MTOK), "2.003"),
        (Usage(input_tokens=2 * MTOK, cached_tokens=1), "4.003002"),
        (Usage(input_tokens=10 * MTOK, output_tokens=MTOK), "80.003"),
        (Usage(input_tokens=MTOK, web_searches=1, service_tier="batch"), "0.513"),
        (Usage(input_tokens=10 * MTOK, service_tier="priority"), "70.003"),
        (Usage(), "0.003"),
    ],
    ids=str,
)
def test_each_class_costs_what_is_configured(usage: Usage, dollars: str) -> None:
    assert cost(WHOLE, usage) == Decimal(dollars)


def test_a_class_that_is_not_configured_is_never_free() -> None:
    plain = PriceSettings(input="1", output="10")
    for name in Usage.__struct_fields__[:-3]:
        assert cost(plain, msgspec.convert({name: MTOK}, Usage)) in {Decimal(1), Decimal(10)}, name


def test_the_price_of_a_batch_is_asked_for() -> None:
    table = PriceTable.load()
    price = table.price("acme", "m", {"m": WHOLE}, batch=True)
    assert price is not None
    assert usd(price.cost_pusd(Usage(input_tokens=MTOK, service_tier="batch"))) == Decimal("0.503")
    without = table.price("acme", "m", {"m": PriceSettings(input="1", output="1")}, batch=True)
    assert without is not None
    assert usd(without.cost_pusd(Usage(input_tokens=MTOK))) == 1


def test_a_rate_keeps_twelve_decimals() -> None:
    fine = PriceSettings(input="0", output="0", cached="0.123456789012")
    assert cost(fine, Usage(cached_tokens=MTOK)) == Decimal("0.123456789012")
    assert configured_price(fine).cost_pusd(Usage(cached_tokens=1)) == 123_457


@pytest.mark.parametrize(
    ("written", "wrong"),
    [
        ({"input": "1", "output": "1", "request": "1"}, "request"),
        ({"input": "-1", "output": "1"}, "input"),
        ({"input": "1", "output": 1.5}, "output"),
        ({"input": "1"}, "output"),
        ({"input": "1", "output": "1", "batch_multiplier": "half"}, "batch_multiplier"),
        ({"input": "1", "output": "1", "batch_multiplier": "10"}, "batch_multiplier"),
        ({"input": "1", "output": "1", "request_usd": "100"}, "request_usd"),
        ({"input": "1", "output": "1", "tiers": [{"input": "1", "output": "1"}]}, "above_tokens"),
        ({"input": "1", "output": "1", "tiers": [{"above_tokens": 0, "input": "1", "output": "1"}]}, "above"),
        ({"input": "1", "output": "1", "service_tiers": {"fast": "-2"}}, "service_tiers"),
    ],
)
def test_what_is_no_price_is_refused_by_its_name(written: dict[str, object], wrong: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=wrong):
        msgspec.convert(written, PriceSettings)
