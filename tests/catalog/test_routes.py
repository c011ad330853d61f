"""A model's name leads to a provider, a wire name and a price, or to an error that says what to write."""

import pytest
from msgspec import structs

from greenroom.actors.catalog import Catalog, Records, Resolve, UnknownModel, Unpriced, find_route
from greenroom.actors.catalog.aliases import Alias, WrongAlias, flattened
from greenroom.actors.kernel import ActorSystem
from greenroom.actors.kernel.contract.clock import FakeClock
from greenroom.actors.prices import FREE, PriceTable
from greenroom.actors.providers.listing import Listing
from greenroom.actors.settings import AliasSettings, ModelSettings, PriceSettings, ProviderSettings

OPENAI = ProviderSettings(base_url="http://127.0.0.1:9/v1", api_key_env="OPENAI_API_KEY")


async def nobody_lists(provider: str) -> Listing:
    raise AssertionError(f"{provider} was asked for its models, though a name needs none")


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


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gpt-4o", r"'gpt-4o' is a model of several providers: write acme/gpt-4o or openai/gpt-4o"),
        ("own", "did you mean acme/own\\?"),
        ("gpt-4o-mni", "did you mean openai/gpt-4o-mini"),
        ("opnai/gpt-4o", r"did you mean openai/gpt-4o\?"),
        ("swfit", r"did you mean swift\?"),
        ("zzzzzz", "no provider for model 'zzzzzz': write provider/model; providers in use: acme, openai"),
    ],
)
def test_names_that_lead_nowhere_are_answered_with_those_that_do(
    table: PriceTable, name: str, text: str
) -> None:
    acme = structs.replace(LOCAL, models={"gpt-4o": ModelSettings(), "own": ModelSettings()})
    aliases = flattened({"swift": "openai/gpt-5-mini"})
    with pytest.raises(UnknownModel, match=text):
        find_route(name, {"openai": OPENAI, "acme": acme}, table, aliases=aliases)


def test_aliases_are_flattened_in_their_order() -> None:
    found = flattened(
        {
            "small": "a/x",
            "both": AliasSettings(models=("small", "b/y")),
            "all": AliasSettings(models=("c/z", "both", "a/x"), free_to_paid=True),
        }
    )
    assert found["small"] == Alias(("a/x",))
    assert found["both"] == Alias(("a/x", "b/y"))
    assert found["all"] == Alias(("c/z", "a/x", "b/y"), free_to_paid=True)


@pytest.mark.parametrize(
    ("aliases", "text"),
    [
        ({"a": "b", "b": "c", "c": "a"}, "aliases.a leads back to itself: a -> b -> c -> a"),
        ({"a": AliasSettings(models=("x/y", "a"))}, "aliases.a leads back to itself"),
        ({"a": AliasSettings(models=())}, "aliases.a names no model"),
        ({"a": " "}, "aliases.a names no model"),
        ({"a/b": "x/y"}, "an alias is a word of its own, without a slash, and not AUTO"),
        ({"auto": "x/y"}, "not AUTO"),
        ({"": "x/y"}, "a word of its own"),
    ],
)
def test_an_alias_that_comes_to_nothing_is_refused(
    aliases: dict[str, str | AliasSettings], text: str
) -> None:
    with pytest.raises(WrongAlias, match=text):
        flattened(aliases)


def test_a_model_is_priced_free_or_refused(table: PriceTable) -> None:
    assert find_route("local/any", {"local": LOCAL}, table).price is FREE
    assert find_route("own/any", {"own": OWN}, table).price.bound_pusd(1, 1) == 3_000_000
    with pytest.raises(Unpriced, match=r'did you mean gpt-4o-mini.*\[providers.openai.prices."gpt-4o-mni"\]'):
        find_route("openai/gpt-4o-mni", {"openai": OPENAI}, table)


async def test_the_catalogue_finds_a_route_once_and_refuses_at_the_caller() -> None:
    async with ActorSystem() as system:
        catalog = await system.start(Catalog, {"openai": OPENAI, "local": LOCAL}, Records(), nobody_lists)
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
        catalog = await system.start(Catalog, {"deepseek": deepseek}, Records(), nobody_lists)
        cheap = (await catalog.call(Resolve("deepseek/deepseek-chat"))).price
        await clock.advance(59.0)
        assert (await catalog.call(Resolve("deepseek/deepseek-chat"))).price is cheap
        await clock.advance(day - night)
        dear = (await catalog.call(Resolve("deepseek/deepseek-chat"))).price
    assert dear.bound_pusd(1_000_000, 1_000_000) == 1_370_000_000_000
    assert cheap.bound_pusd(1_000_000, 1_000_000) < dear.bound_pusd(1_000_000, 1_000_000)
