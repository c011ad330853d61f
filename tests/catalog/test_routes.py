"""A model's name leads to a provider, a wire name and a price, or to an error that says what to write."""

import pytest

from greenroom.actors.catalog import Catalog, Records, Resolve, UnknownModel, Unpriced, find_route
from greenroom.actors.kernel import ActorSystem
from greenroom.actors.kernel.contract.clock import FakeClock
from greenroom.actors.prices import FREE, PriceTable
from greenroom.actors.settings import PriceSettings, ProviderSettings

OPENAI = ProviderSettings(base_url="http://127.0.0.1:9/v1", api_key_env="OPENAI_API_KEY")
LOCAL = ProviderSettings(base_url="http://127.0.0.1:9/v1", free=True)
OWN = ProviderSettings(base_url="http://127.0.0.1:9/v1", prices={"*": PriceSettings(input="1", output="2")})


@pytest.fixture(scope="module")
def table() -> PriceTable:
    return PriceTable.load()


@pytest.mark.parametrize(
    ("name", "providers", "provider", "model"),
    [
        ("openai/gpt-4o", {"openai": OPENAI, "local": LOCAL}, "openai", "gpt-4o"),
        ("local/org/model", {"openai": OPENAI, "local": LOCAL}, "local", "org/model"),
        ("llama", {"local": LOCAL}, "local", "llama"),
        ("org/model", {"local": LOCAL}, "local", "org/model"),
    ],
)
def test_a_name_is_a_provider_and_its_model(
    table: PriceTable, name: str, providers: dict[str, ProviderSettings], provider: str, model: str
) -> None:
    route = find_route(name, providers, table)
    assert (route.provider, route.model, route.settings) == (provider, model, providers[provider])


@pytest.mark.parametrize(
    ("name", "providers", "text"),
    [
        (
            "llama",
            {"openai": OPENAI, "local": LOCAL},
            "write provider/model; providers in use: local, openai",
        ),
        ("local/", {"local": LOCAL}, "'local/' names no model: write local/MODEL"),
        ("openai/", {"openai": OPENAI, "local": LOCAL}, "'openai/' names no model: write openai/MODEL"),
        ("groq/", {"local": LOCAL}, "set GROQ_API_KEY"),
        ("groq/llama", {"local": LOCAL}, "set GROQ_API_KEY; providers in use now: local"),
        ("x/y", {}, "providers in use: none"),
    ],
)
def test_an_unknown_name_is_refused_with_what_would_be_right(
    table: PriceTable, name: str, providers: dict[str, ProviderSettings], text: str
) -> None:
    with pytest.raises(UnknownModel, match=text):
        find_route(name, providers, table)


def test_a_model_is_priced_free_or_refused(table: PriceTable) -> None:
    assert find_route("local/any", {"local": LOCAL}, table).price is FREE
    assert find_route("own/any", {"own": OWN}, table).price.bound_pusd(1, 1) == 3_000_000
    with pytest.raises(Unpriced, match=r'did you mean gpt-4o-mini.*\[providers.openai.prices."gpt-4o-mni"\]'):
        find_route("openai/gpt-4o-mni", {"openai": OPENAI}, table)


async def test_the_catalogue_finds_a_route_once_and_refuses_at_the_caller() -> None:
    async with ActorSystem() as system:
        catalog = await system.start(Catalog, {"openai": OPENAI, "local": LOCAL}, Records())
        route = await catalog.call(Resolve("openai/gpt-4o"))
        assert await catalog.call(Resolve("openai/gpt-4o")) is route
        with pytest.raises(UnknownModel):
            await catalog.call(Resolve("nowhere/gpt-4o"))
        assert catalog.alive


async def test_a_price_that_depends_on_the_hour_is_found_anew() -> None:
    """DeepSeek's chat model is cheaper by night, UTC."""
    night, day = (
        1_772_323_200.0 - 6 * 3600,
        1_772_323_200.0 + 12 * 3600,
    )  # 2026-03-01 00:00 UTC, less and more
    clock = FakeClock(epoch_s=night)
    deepseek = ProviderSettings(base_url="http://127.0.0.1:9/v1")
    async with ActorSystem(clock=clock) as system:
        catalog = await system.start(Catalog, {"deepseek": deepseek}, Records())
        cheap = (await catalog.call(Resolve("deepseek/deepseek-chat"))).price
        await clock.advance(59.0)
        assert (await catalog.call(Resolve("deepseek/deepseek-chat"))).price is cheap
        await clock.advance(day - night)
        dear = (await catalog.call(Resolve("deepseek/deepseek-chat"))).price
    assert dear.bound_pusd(1_000_000, 1_000_000) == 1_370_000_000_000
    assert cheap.bound_pusd(1_000_000, 1_000_000) < dear.bound_pusd(1_000_000, 1_000_000)
