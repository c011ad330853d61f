"""Published prices: of the time of the call, of the tier that served it, and as genai-prices itself reckons them."""

from datetime import UTC, date, datetime, time
from decimal import Decimal
from fractions import Fraction
from math import ceil

import msgspec
import pytest
from genai_prices import Usage as TheirUsage
from genai_prices.data_snapshot import DataSnapshot, get_snapshot
from genai_prices.types import (
    ClauseEquals,
    ConditionalPrice,
    ModelInfo,
    ModelPrice,
    PriceVariant,
    Provider,
    StartDateConstraint,
    Tier,
    TieredPrices,
    TimeOfDateConstraint,
)
from msgspec import structs

from greenroom.actors.events import Usage
from greenroom.actors.prices import PICO, PriceTable, usd

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
MILLION = Usage(input_tokens=10**6, output_tokens=10**6)


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return PriceTable.load()


def table_of(*models: ModelInfo) -> PriceTable:
    return PriceTable(
        DataSnapshot([Provider("acme", "Acme", "", models=list(models))], from_auto_update=False)
    )


def model(
    prices: ModelPrice | list[ConditionalPrice], variants: list[PriceVariant] | None = None
) -> ModelInfo:
    return ModelInfo("m", ClauseEquals("m"), prices=prices, price_variants=variants)


def cost_usd(table: PriceTable, usage: Usage, at: datetime = NOW, *, batch: bool = False) -> Decimal:
    price = table.price("acme", "m", {}, at, batch=batch)
    assert price is not None
    return usd(price.cost_pusd(usage))


def mtok(input_usd: str, output_usd: str) -> ModelPrice:
    return ModelPrice(input_mtok=Decimal(input_usd), output_mtok=Decimal(output_usd))


def test_a_call_costs_what_was_asked_at_its_time() -> None:
    changed = table_of(
        model(
            [
                ConditionalPrice(prices=mtok("1", "2")),
                ConditionalPrice(StartDateConstraint(date(2026, 3, 16)), prices=mtok("3", "4")),
            ]
        )
    )
    assert cost_usd(changed, MILLION, datetime(2026, 3, 15, 23, 59, 59, tzinfo=UTC)) == 3
    assert cost_usd(changed, MILLION, datetime(2026, 3, 16, tzinfo=UTC)) == 7


def test_a_price_that_changed_in_the_published_table(table: PriceTable) -> None:
    """Mistral Small: $0.10 and $0.30 before 16 March 2026, $0.15 and $0.60 since."""
    before = table.price("mistral", "mistral-small-latest", {}, datetime(2026, 3, 1, tzinfo=UTC))
    after = table.price("mistral", "mistral-small-latest", {}, datetime(2026, 4, 1, tzinfo=UTC))
    assert before is not None
    assert after is not None
    assert usd(before.cost_pusd(MILLION)) == Decimal("0.40")
    assert usd(after.cost_pusd(MILLION)) == Decimal("0.75")


def test_hours_of_the_day_have_their_own_price() -> None:
    night = TimeOfDateConstraint(time(22, tzinfo=UTC), time(6, tzinfo=UTC))
    by_hour = table_of(
        model(
            [ConditionalPrice(prices=mtok("2", "2")), ConditionalPrice(night, prices=mtok("1", "1"))],
        )
    )
    assert cost_usd(by_hour, MILLION, datetime(2026, 1, 1, 21, 59, tzinfo=UTC)) == 4
    assert cost_usd(by_hour, MILLION, datetime(2026, 1, 1, 22, 0, tzinfo=UTC)) == 2
    assert cost_usd(by_hour, MILLION, datetime(2026, 1, 1, 6, 0, tzinfo=UTC)) == 4


def test_service_tiers_and_batches_have_theirs_from_their_day_on() -> None:
    since = StartDateConstraint(date(2026, 10, 14))
    tiered = table_of(
        model(
            mtok("2", "4"),
            [
                PriceVariant({"service_tier": "priority"}, mtok("4", "8")),
                PriceVariant({"processing": "batch"}, mtok("1", "2"), since),
                PriceVariant({"speed": "fast"}, ModelPrice(output_mtok=Decimal(40))),
                PriceVariant({"route": "elsewhere"}, mtok("9", "9")),
            ],
        )
    )
    assert cost_usd(tiered, MILLION) == 6
    for tier, dollars in (("priority", 12), ("batch", 3), ("fast", 42), ("elsewhere", 6)):
        usage = Usage(input_tokens=10**6, output_tokens=10**6, service_tier=tier)
        assert cost_usd(tiered, usage) == dollars, tier
    assert cost_usd(tiered, MILLION, batch=True) == 3
    # Once, however often it is said.
    assert cost_usd(tiered, Usage(10**6, 10**6, service_tier="batch"), batch=True) == 3
    assert cost_usd(tiered, MILLION, datetime(2026, 10, 13, tzinfo=UTC), batch=True) == 6


def test_a_tier_of_one_rate_is_a_tier_of_all() -> None:
    price = ModelPrice(
        input_mtok=TieredPrices(Decimal(1), [Tier(100, Decimal(2)), Tier(1000, Decimal(3))]),
        output_mtok=Decimal(10),
    )
    by_size = table_of(model(price))
    for tokens, dollars in ((100, "0.0001"), (101, "0.000202"), (1000, "0.002"), (1001, "0.003003")):
        assert cost_usd(by_size, Usage(tokens)) == Decimal(dollars)


def test_fees_are_for_each_request_and_each_search() -> None:
    fees = ModelPrice(
        input_mtok=Decimal(0),
        requests_kcount=Decimal(12),
        web_searches_kcount=Decimal(10),
        storage_searches_kcount=Decimal("2.5"),
    )
    assert cost_usd(table_of(model(fees)), Usage(web_searches=3, file_searches=2)) == Decimal("0.047")


def test_what_nobody_prices_has_no_price(table: PriceTable) -> None:
    assert table.price("openai", "no-such-model", {}) is None
    assert table.price("openai", "no-such-model", {}, batch=True) is None
    assert table.price("no-such-provider", "gpt-4o", {}) is None
    assert table_of(model(ModelPrice(requests_kcount=Decimal(1)))).price("acme", "m", {}) is None
    assert table.near("openai", "gpt-4o-mni")[0] == "gpt-4o-mini"
    assert table.near("no-such-provider", "gpt-4o") == []


@pytest.mark.parametrize("provider", ["notopenai", "openai2", "my-anthropic", "OpenAI", ""])
def test_a_provider_that_is_named_like_a_published_one_has_not_its_prices(
    table: PriceTable, provider: str
) -> None:
    for name in ("gpt-4o", "claude-sonnet-4-5"):
        assert table.price(provider, name, {}) is None
        assert table.context_window(provider, name) is None


def test_hugging_faces_router_charges_what_the_host_charges_that_the_model_names(table: PriceTable) -> None:
    name = "meta-llama/Llama-3.3-70B-Instruct"
    groq, together = (table.price("huggingface", f"{name}:{host}", {}) for host in ("groq", "together"))
    assert groq is not None
    assert together is not None
    assert groq.cost_pusd(MILLION) != together.cost_pusd(MILLION)
    assert table.price("huggingface", name, {}) is None
    assert table.price("huggingface", f"{name}:cheapest", {}) is None
    assert any(near.startswith(f"{name}:") for near in table.near("huggingface", name))


KNOWN = {"openai", "anthropic", "google", "mistral", "x-ai", "groq", "perplexity", "aws", "deepseek"}


def priced() -> list[tuple[Provider, ModelInfo]]:
    return [(p, m) for p in get_snapshot().providers if p.id in KNOWN for m in p.models]


OURS = msgspec.convert(
    dict(zip(Usage.__struct_fields__, [*range(10_007, 10_021), 3, 2], strict=False)), Usage
)
"""Another number of each class."""
THEIRS = TheirUsage(
    input_tokens=OURS.total_input_tokens,
    output_tokens=OURS.total_output_tokens,
    cache_read_tokens=OURS.cached_tokens + OURS.cached_audio_tokens,
    cache_write_tokens=OURS.cache_write_5m_tokens + OURS.cache_write_1h_tokens,
    cache_write_5m_tokens=OURS.cache_write_5m_tokens,
    cache_write_1h_tokens=OURS.cache_write_1h_tokens,
    cache_audio_read_tokens=OURS.cached_audio_tokens,
    cache_image_read_tokens=0,
    cache_video_read_tokens=0,
    input_audio_tokens=OURS.audio_input_tokens + OURS.cached_audio_tokens,
    output_audio_tokens=OURS.audio_output_tokens,
    input_image_tokens=OURS.image_input_tokens,
    output_image_tokens=OURS.image_output_tokens,
    input_video_tokens=OURS.video_input_tokens,
    output_video_tokens=OURS.video_output_tokens,
    output_reasoning_tokens=OURS.reasoning_tokens,
    output_citation_tokens=OURS.citation_tokens,
    web_searches=OURS.web_searches,
    storage_searches=OURS.file_searches,
)
CONTEXTS = {
    "": {},
    "priority": {"service_tier": "priority"},
    "flex": {"service_tier": "flex"},
    "batch": {"processing": "batch"},
    "fast": {"speed": "fast", "service_tier": "fast"},
}


def test_every_model_costs_what_the_tables_own_code_reckons(table: PriceTable) -> None:
    compared = 0
    for provider, info in priced():
        price = table.price(provider.id, info.id, {}, NOW)
        if price is None:
            continue
        _, found = get_snapshot().find_provider_model(info.id, provider, None, None)
        for tier, context in CONTEXTS.items():
            if tier and tier not in price.served:
                continue
            theirs = found.calc_price(THEIRS, provider, genai_request_timestamp=NOW, price_context=context)
            ours = price.cost_pusd(structs.replace(OURS, service_tier=tier))
            assert ours == ceil(Fraction(theirs.total_price) * PICO), (provider.id, info.id, tier)
            compared += 1
    assert compared > 400
