"""Which models there are: from a name to a provider, a codec and a price."""

from collections.abc import Mapping
from datetime import UTC, datetime

import anyio.to_thread

from greenroom.actors.catalog.records import Records
from greenroom.actors.catalog.routes import Route, find_route
from greenroom.actors.kernel import Actor, Call, handles
from greenroom.actors.prices import PriceTable
from greenroom.actors.settings import ProviderSettings

_MAX_ROUTES = 10_000
_PRICED_FOR_S = 60.0
"""Some providers have hours of their own prices; a route is found anew once its price is so old."""


class Resolve(Call[Route], frozen=True, resend=True):
    """Find a model by `provider/model`, or by its bare name where a single provider is configured.

    Raises, at the caller:
        UnknownModel: there is no such provider; the message names those there are.
        Unpriced: the provider is not free and nobody says what the model costs.
    """

    model: str


class Catalog(Actor):
    """The catalogue.

    Args:
        providers: configured providers by name.
        records: what calls have shown of the models; it outlives this incarnation.
    """

    def __init__(self, providers: Mapping[str, ProviderSettings], records: Records) -> None:
        self._providers = providers
        self._records = records
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
            route = find_route(message.model, self._providers, self._prices, at, self._records)
            self._routes[message.model] = route
        return route
