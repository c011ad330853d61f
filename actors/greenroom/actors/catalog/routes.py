"""From a model's name to the way to it: a provider, a codec, a price, and what is known of the model."""

from collections.abc import Mapping
from datetime import datetime
from difflib import get_close_matches

from msgspec import Struct, structs

from greenroom.actors.catalog.aliases import Alias
from greenroom.actors.catalog.records import Records, RouteRecord
from greenroom.actors.catalog.requirements import is_auto
from greenroom.actors.kernel import Refused
from greenroom.actors.prices import FREE, Price, PriceTable
from greenroom.actors.providers import Codec, codec_for
from greenroom.actors.providers.capabilities import capabilities_of, configured_model, missing
from greenroom.actors.providers.hosts import HOSTS, RUN_HERE
from greenroom.actors.settings import Capabilities, ProviderSettings

_NO_ALIASES: Mapping[str, Alias] = {}


class Route(Struct, frozen=True):
    """How to reach a model: whose it is, what it is called there, how to speak to it, what it costs.

    `context_tokens` is its context window, where that is known. `capabilities` are all that is known of it, `lacks` the names of those that it is known not to have. `record` is
    what calls have shown of it, to be kept up by who calls. Found by an alias, `fallbacks` are the other models that it
    names, in their order; `free_to_paid` is whether one that costs may take the place of one that does not.
    """

    provider: str
    model: str
    codec: Codec
    price: Price
    settings: ProviderSettings
    capabilities: Capabilities
    lacks: tuple[str, ...]
    record: RouteRecord
    fallbacks: tuple[str, ...] = ()
    free_to_paid: bool = False
    context_tokens: int | None = None


class UnknownModel(Refused):
    """No configured provider has a model of this name."""


class Unpriced(Refused):
    """Nobody says what this model costs, so no budget could hold; it is not called."""


def find_route(
    name: str,
    providers: Mapping[str, ProviderSettings],
    prices: PriceTable,
    at: datetime | None = None,
    *,
    records: Records | None = None,
    aliases: Mapping[str, Alias] = _NO_ALIASES,
) -> Route:
    """How to reach the model `name`, at the price of a time (default: now). Raises as `Resolve` does."""
    if (alias := aliases.get(name)) is not None:
        route = find_route(alias.models[0], providers, prices, at, records=records)
        return structs.replace(route, fallbacks=alias.models[1:], free_to_paid=alias.free_to_paid)
    if is_auto(name):
        raise UnknownModel(
            f"{name} is no model: it stands for the choice among those that chat; name one here"
        )
    provider, _, model = name.partition("/")
    if (
        provider not in providers
        and provider not in HOSTS
        and provider not in RUN_HERE
        and len(providers) == 1
    ):
        provider, model = next(iter(providers)), name
    settings = providers.get(provider) or RUN_HERE.get(provider)
    if settings is None or not model:
        raise UnknownModel(_no_such_provider(name, providers, prices, aliases))
    own = configured_model(settings.models, model)
    known = capabilities_of(provider, model, settings)
    at_table = settings.price_provider or provider
    window = None if settings.free else prices.context_window(at_table, model)
    return Route(
        provider=provider,
        model=model,
        codec=codec_for(provider, settings),
        price=FREE if settings.free else _price(provider, model, settings, prices, at),
        settings=settings,
        capabilities=known,
        lacks=missing(known),
        record=RouteRecord() if records is None else records.of(provider, model),
        context_tokens=(own.context_tokens if own else None) or window,
    )


def _no_such_provider(
    name: str, providers: Mapping[str, ProviderSettings], prices: PriceTable, aliases: Mapping[str, Alias]
) -> str:
    provider = name.partition("/")[0]
    known = ", ".join(sorted(providers)) or "none"
    if provider in providers or provider in RUN_HERE:
        return f"{name!r} names no model: write {provider}/MODEL"
    host = HOSTS.get(provider)
    if host is not None and host.api_key_env is not None:
        return f"{name} needs a key: set {host.api_key_env}; providers in use now: {known}"
    owners = [f"{own}/{name}" for own, settings in providers.items() if _has(own, settings, name, prices)]
    if len(owners) > 1:
        return f"{name!r} is a model of several providers: write {' or '.join(sorted(owners))}"
    near = owners or _near(name, providers, prices, aliases)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    return f"no provider for model {name!r}: {hint}write provider/model; providers in use: {known}"


def _has(provider: str, settings: ProviderSettings, model: str, prices: PriceTable) -> bool:
    """Whether a provider is known to have a model, without asking it."""
    if model in settings.models or model in settings.prices:
        return True
    return prices.price(settings.price_provider or provider, model, {}) is not None


def _near(
    name: str, providers: Mapping[str, ProviderSettings], prices: PriceTable, aliases: Mapping[str, Alias]
) -> list[str]:
    """Names that look alike: aliases, providers, and models of the providers in use."""
    if (alias := get_close_matches(name, aliases, n=1, cutoff=0.6)) or not name:
        return alias
    provider, slash, model = name.partition("/")
    if slash and (host := get_close_matches(provider, providers, n=1, cutoff=0.6)):
        return [f"{host[0]}/{model}"] if model else []
    found = [
        f"{own}/{near}"
        for own, settings in providers.items()
        for near in (
            *get_close_matches(name, settings.models, n=1),
            *prices.near(settings.price_provider or own, name, 1),
        )
    ]
    return get_close_matches(name, found, n=3, cutoff=0.3)


def _price(
    provider: str, model: str, settings: ProviderSettings, prices: PriceTable, at: datetime | None
) -> Price:
    name = settings.price_provider or provider
    price = prices.price(name, model, settings.prices, at)
    if price is None:
        near = prices.near(name, model)
        hint = f"did you mean {' or '.join(near)}? Otherwise " if near else ""
        raise Unpriced(
            f"no price is known for {provider}/{model}: {hint}say what it costs in greenroom.toml, "
            f'[providers.{provider}.prices."{model}"] input = "0.50", output = "1.50" (dollars per million '
            f"tokens), or set free = true for the provider"
        )
    return price
