"""The actor that keeps the price table young, where the configuration asks for it."""

from pathlib import Path

import anyio.to_thread
from msgspec import Struct

from greenroom.actors.kernel import Actor, ActorRef, Cast, Piped
from greenroom.actors.log import Log
from greenroom.actors.prices.refresh import DAY_S, refresh_prices, refreshed_s_ago
from greenroom.actors.prices.table import PriceTable

_AGAIN_S = 3600.0
"""When to try again after a refresh that failed."""

_log = Log(__name__)


class UsePrices(Cast, frozen=True):
    """From now on, these are the published prices. Calls under way are charged as they were held."""

    table: PriceTable


class _Look(Struct, frozen=True):
    """Time to see how old the table is."""


class PriceKeeper(Actor):
    """Fetches the price table when the kept one is a day old, and hands it to the catalogue.

    Nothing waits for it: a refresh that fails is logged and tried again in an hour, and the table in use stays.

    Args:
        catalog: the catalogue, by name.
        folder: where the table is kept.
        url: where it is published; None: where genai-prices does.
    """

    def __init__(self, catalog: ActorRef, folder: Path, url: str | None = None) -> None:
        self._catalog = catalog
        self._folder = folder
        self._url = url

    async def init(self) -> None:
        self.send_after(0.0, _Look())

    async def handle_info(self, message: object) -> None:
        if isinstance(message, _Look):
            self.pipe_to_self(self._look())
        elif isinstance(message, Piped):
            next_s = _AGAIN_S
            if message.error is not None:
                _log.warning("prices are not refreshed, those in use stay", why=str(message.error))
            elif isinstance(message.value, PriceTable):
                self._catalog.cast(UsePrices(message.value))
                next_s = DAY_S
            elif isinstance(message.value, float):
                next_s = message.value
            self.send_after(next_s, _Look())

    async def _look(self) -> PriceTable | float:
        """The new table, or in how many seconds it will be time for one."""
        age_s = await anyio.to_thread.run_sync(refreshed_s_ago, self._folder)
        if age_s is not None and age_s < DAY_S:
            return DAY_S - age_s
        await refresh_prices(self._folder, self._url)
        return await anyio.to_thread.run_sync(PriceTable.load, self._folder)
