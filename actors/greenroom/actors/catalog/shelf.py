"""What is known of each provider's models: asked for once, kept for an hour, and who waits for it.

A failure is kept for a minute. Callers who need the same list wait for the same task. A list that has aged is used on
while it is asked for anew, so that a choice waits for a host only once.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Mapping
from datetime import UTC, datetime

import anyio.to_thread
from msgspec import Struct, structs

from greenroom.actors.catalog.cards import ModelCard, cards_of
from greenroom.actors.kernel import Clock, Piped
from greenroom.actors.log import Log
from greenroom.actors.prices import PriceTable
from greenroom.actors.providers.listing import Listing
from greenroom.actors.settings import ProviderSettings

_log = Log(__name__)
_LISTED_FOR_S = 3600.0
_FAILED_FOR_S = 60.0
_MAX_WAITING = 10_000
_MAX_MODELS = 2_000
"""Of one provider, besides those that the configuration names: twice the longest list there is. Every choice looks
at all of them, at some 4 us each.
"""

Ask = Callable[[str], Awaitable[Listing]]
"""Asks a provider for its models. Raises nothing: what went wrong is in the answer."""


class Known(Struct, frozen=True):
    """What a provider said when it was asked, the cards of its models, and when that was.

    `outdated`: prices have changed since.
    """

    listing: Listing
    cards: tuple[ModelCard, ...]
    at_s: float
    outdated: bool = False


class _Waiting(Struct):
    """Somebody who waits until what `providers` list is known, unless he has given up."""

    providers: set[str]
    answer: Callable[[], object]
    has_gone: Callable[[], bool]


class Shelf:
    """The catalogue's knowledge of lists. It does not ask by itself: the catalogue runs the tasks that it gives.

    Args:
        providers: configured providers by name.
        ask: asks one of them.
        clock: time.

    Attributes:
        known: what is known, by provider.
    """

    def __init__(self, providers: Mapping[str, ProviderSettings], ask: Ask, clock: Clock) -> None:
        self._providers = providers
        self._ask = ask
        self._clock = clock
        self._asking: set[str] = set()
        self._outdated: set[str] = set()
        self._waiting: list[_Waiting] = []
        self._ready: deque[_Waiting] = deque()
        self.known: dict[str, Known] = {}

    def old(self, names: Iterable[str]) -> list[str]:
        """Those of whom nothing is known, or nothing of late."""
        return [name for name in names if name not in self.known or self._is_old(self.known[name])]

    def being_asked(self, names: Iterable[str]) -> list[str]:
        """Those that are being asked now."""
        return [name for name in names if name in self._asking]

    def outdate(self) -> None:
        """Have everybody asked anew when their models are next needed; what is known is used until then."""
        self.known = {name: structs.replace(known, outdated=True) for name, known in self.known.items()}
        self._outdated = set(self._asking)

    def question(self, name: str, prices: PriceTable) -> Coroutine[None, None, Known] | None:
        """A task that asks a provider, whose end `learn` is told; None: one is asking it already."""
        if name in self._asking:
            return None
        self._asking.add(name)
        before = self.known.get(name)
        listing = before.listing if before is not None else Listing()
        return _asked(
            name, self._providers[name], ask=self._ask, before=listing, prices=prices, clock=self._clock
        )

    def learn(self, name: str, piped: Piped) -> None:
        """Take what a task came to. Who waited for nothing else is answered next."""
        self._asking.discard(name)
        if isinstance(piped.value, Known):
            self.known[name] = structs.replace(piped.value, outdated=name in self._outdated)
        else:
            _log.error("listing models failed", provider=name, error=repr(piped.error))
            failed = Listing(unreachable=f"its models could not be listed: {piped.error!r}")
            self.known[name] = Known(failed, (), self._clock.monotonic())
        self._outdated.discard(name)
        for one in self._waiting:
            one.providers.discard(name)
        self._ready.extend(one for one in self._waiting if not one.providers)
        self._waiting = [one for one in self._waiting if one.providers]

    def answer_next(self) -> bool:
        """Answer one of those who wait for nothing any more. False: there is none."""
        while self._ready:
            one = self._ready.popleft()
            if not one.has_gone():
                one.answer()
                return True
        return False

    def wait(
        self, names: Collection[str], answer: Callable[[], object], has_gone: Callable[[], bool]
    ) -> bool:
        """Have `answer` called once all of them have told; at once where there are none.

        Returns whether there was room: not more than 10 000 may wait.
        """
        if not names:
            answer()
            return True
        if len(self._waiting) >= _MAX_WAITING:
            self._waiting = [one for one in self._waiting if not one.has_gone()]
        if len(self._waiting) >= _MAX_WAITING:
            return False
        self._waiting.append(_Waiting(set(names), answer, has_gone))
        return True

    def _is_old(self, known: Known) -> bool:
        lasts_s = _LISTED_FOR_S if known.listing.unreachable is None else _FAILED_FOR_S
        return known.outdated or self._clock.monotonic() - known.at_s >= lasts_s


def utc(clock: Clock) -> datetime:
    """The clock's time of day."""
    return datetime.fromtimestamp(clock.time(), UTC)


async def _asked(
    name: str, settings: ProviderSettings, *, ask: Ask, before: Listing, prices: PriceTable, clock: Clock
) -> Known:
    """What a provider lists now, and the cards of its models; where it cannot be asked, of those it had before."""
    listing = await ask(name)
    if listing.unreachable is not None:
        listing = structs.replace(listing, models=before.models)
    if listing.models is not None and len(listing.models) > _MAX_MODELS:
        _log.warning("too many models listed", provider=name, listed=len(listing.models), kept=_MAX_MODELS)
        listing = structs.replace(listing, models=listing.models[:_MAX_MODELS])
    # Looking up a thousand prices takes longer than the loop may be held.
    cards = await anyio.to_thread.run_sync(cards_of, name, settings, listing, prices, utc(clock))
    return Known(listing, cards, clock.monotonic())
