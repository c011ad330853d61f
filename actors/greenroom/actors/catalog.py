"""Which models there are: from a name to a provider, a codec and a price."""

from collections.abc import Mapping
from datetime import UTC, datetime

import anyio.to_thread
from msgspec import Struct

from greenroom.actors.kernel import Actor, Call, Refused, handles
from greenroom.actors.prices import FREE, Price, PriceTable
from greenroom.actors.providers import Codec, codec_for
from greenroom.actors.providers.hosts import HOSTS
from greenroom.actors.settings import ProviderSettings

_MAX_ROUTES = 10_000
_PRICED_FOR_S = 60.0
"""Some providers have hours of their own prices; a route is found anew once its price is so old."""


class Route(Struct, frozen=True):
    """How to reach a model: whose it is, what it is called there, how to speak to it, what it costs."""

    provider: str
    model: str
    codec: Codec
    price: Price
    settings: ProviderSettings


class Resolve(Call[Route], frozen=True, resend=True):
    """Find a model by `provider/model`, or by its bare name where a single provider is configured.

    Raises, at the caller:
        UnknownModel: there is no such provider; the message names those there are.
        Unpriced: the provider is not free and nobody says what the model costs.
    """

    model: str


class UnknownModel(Refused):
    """No configured provider has a model of this name."""


class Unpriced(Refused):
    """Nobody says what this model costs, so no budget could hold; it is not called."""


class Catalog(Actor):
    """The catalogue.

    Args:
        providers: configured providers by name.
    """

    def __init__(self, providers: Mapping[str, ProviderSettings]) -> None:
        self._providers = providers
        self._routes: dict[str, Route] = {}
        self._priced_until_s = 0.0
        self._prices: PriceTable | None = None

    async def init(self) -> None:
        self._prices = await anyio.to_thread.run_sync(PriceTable.load)

    @handles
    def resolve(self, message: Resolve) -> Route:
        clock = self.system.clock
        if clock.monotonic() >= self._priced_until_s:
            self._routes.clear()
            self._priced_until_s = clock.monotonic() + _PRICED_FOR_S
        route = self._routes.get(message.model)
        if route is None:
            assert self._prices is not None, "init() loads the table"
            if len(self._routes) >= _MAX_ROUTES:
                self._routes.clear()
            at = datetime.fromtimestamp(clock.time(), UTC)
            route = self._routes[message.model] = find_route(message.model, self._providers, self._prices, at)
        return route


def find_route(
    name: str, providers: Mapping[str, ProviderSettings], prices: PriceTable, at: datetime | None = None
) -> Route:
    """How to reach the model `name`, at the price of a time (default: now). Raises as `Resolve` does."""
    provider, _, model = name.partition("/")
    if provider not in providers and provider not in HOSTS and len(providers) == 1:
        provider, model = next(iter(providers)), name
    settings = providers.get(provider)
    if settings is None or not model:
        raise UnknownModel(_no_such_provider(name, provider, providers))
    return Route(
        provider=provider,
        model=model,
        codec=codec_for(provider, settings),
        price=FREE if settings.free else _price(provider, model, settings, prices, at),
        settings=settings,
    )


def _no_such_provider(name: str, provider: str, providers: Mapping[str, ProviderSettings]) -> str:
    known = ", ".join(sorted(providers)) or "none"
    if provider in providers:
        return f"{name!r} names no model: write {provider}/MODEL"
    host = HOSTS.get(provider)
    if host is not None and host.api_key_env is not None:
        return f"{name} needs a key: set {host.api_key_env}; providers in use now: {known}"
    return f"no provider for model {name!r}: write provider/model; providers in use: {known}"


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
