"""The catalogue: from a name to a route, from requirements to a choice, and what there is to choose from."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date
from difflib import get_close_matches
from functools import partial

import anyio.to_thread
from msgspec import Struct, structs

from greenroom.actors.catalog.aliases import Alias
from greenroom.actors.catalog.cards import ModelCard, retirement
from greenroom.actors.catalog.limits import Candidate
from greenroom.actors.catalog.records import NOTHING_MEASURED, Records
from greenroom.actors.catalog.requirements import Choice, Choose, NothingEligible, RejectedModel
from greenroom.actors.catalog.routes import Route, UnknownModel, Unpriced, find_route
from greenroom.actors.catalog.selection import choose
from greenroom.actors.catalog.shelf import Ask, Shelf, utc
from greenroom.actors.kernel import Actor, Call, Piped, Refused, ReplyTo, handles
from greenroom.actors.log import Log
from greenroom.actors.prices import Price, PriceTable
from greenroom.actors.prices.keeper import UsePrices
from greenroom.actors.providers.capabilities import missing
from greenroom.actors.settings import ProviderSettings

_log = Log(__name__)
_MAX_ROUTES = 10_000
_MAX_NEAR = 1_000
_PRICED_FOR_S = 60.0
"""Some providers have hours of their own prices; a route is found anew once its price is so old."""


class Resolve(Call[Route], frozen=True, resend=True, gc=False):
    """Find a model by `provider/model`, by an alias, or by its bare name where a single provider is configured.

    Raises, at the caller:
        UnknownModel: there is no such provider; the message names those there are, and models that look alike.
        Unpriced: the provider is not free and nobody says what the model costs.
    """

    model: str


class ProviderModels(Struct, frozen=True, kw_only=True):
    """A provider's models, and since when they are known.

    `unreachable` says why it cannot be asked now, where it cannot; its models are then those that were known before,
    or that the configuration names. `age_s` is how long ago it was asked.
    """

    provider: str
    models: tuple[ModelCard, ...]
    unreachable: str | None
    age_s: float


class ListModels(Call[tuple[ProviderModels, ...]], frozen=True, resend=True):
    """What models there are, of every provider in use, or of some.

    Args:
        providers: which; empty: all in use.
        refresh: whether to ask the hosts anew, whatever is known already.

    Raises, at the caller:
        UnknownModel: one of the providers is not in use.
    """

    providers: tuple[str, ...] = ()
    refresh: bool = False


class Near(Call[tuple[str, ...]], frozen=True, resend=True):
    """Models that are called much like one that its provider does not have: aliases, what the provider is known to list,
    and else what the price table knows of it. Nobody is asked.
    """

    model: str


class _AnswerNext(Struct, frozen=True):
    """Our own word: somebody waits whose list has come. One at a time, since a choice may take milliseconds."""


class TooManyChoices(Refused):
    """So many calls wait until hosts have listed their models that another one is not taken on."""


class Catalog(Actor):
    """The catalogue.

    Args:
        providers: configured providers by name.
        records: what calls have shown of the models; it outlives this incarnation.
        ask: asks a provider for its models.
        aliases: names of the user's own for models.
        is_broken: whether a provider's breaker is open.
        load_prices: gives the published prices; called in a thread. `UsePrices` brings others later.
    """

    def __init__(
        self,
        providers: Mapping[str, ProviderSettings],
        records: Records,
        ask: Ask,
        aliases: Mapping[str, Alias] = {},
        *,
        is_broken: Callable[[str], bool] = lambda _: False,
        load_prices: Callable[[], PriceTable] = PriceTable.load,
    ) -> None:
        self._providers = providers
        self._records = records
        self._ask = ask
        self._aliases = aliases
        self._is_broken = is_broken
        self._load_prices = load_prices
        self._routes: dict[str, Route] = {}
        self._priced_until_s = 0.0
        self._prices: PriceTable | None = None
        self._near: dict[str, tuple[str, ...]] = {}
        self._warned: set[str] = set()

    async def init(self) -> None:
        self._shelf = Shelf(self._providers, self._ask, self.system.clock)
        self._prices = await anyio.to_thread.run_sync(self._load_prices)

    @handles
    def use_prices(self, message: UsePrices) -> None:
        self._prices = message.table
        self._routes.clear()
        self._shelf.outdate()

    @handles
    def resolve(self, message: Resolve) -> Route:
        clock = self.system.clock
        if clock.monotonic() >= self._priced_until_s:
            self._routes.clear()
            self._priced_until_s = clock.monotonic() + _PRICED_FOR_S
        return self._routes.get(message.model) or self._found(message.model)

    @handles
    def choose(self, message: Choose, reply_to: ReplyTo[Choice]) -> None:
        wanted = self._wanted(message.requirements.providers)
        self._ask_for(self._shelf.old(wanted))
        unknown = [name for name in wanted if name not in self._shelf.known]
        self._when_known(unknown, partial(self._choose, wanted, message, reply_to), reply_to)

    @handles
    def models(self, message: ListModels, reply_to: ReplyTo[tuple[ProviderModels, ...]]) -> None:
        for name in message.providers:
            if name not in self._providers:
                known = ", ".join(sorted(self._providers)) or "none"
                raise UnknownModel(f"no provider {name!r}; providers in use: {known}")
        wanted = self._wanted(message.providers)
        self._ask_for(wanted if message.refresh else self._shelf.old(wanted))
        asked = self._shelf.being_asked(wanted)
        self._when_known(asked, partial(self._tell, wanted, reply_to), reply_to)

    @handles
    def near(self, message: Near) -> tuple[str, ...]:
        name = message.model
        found = self._near.get(name)
        if found is None:
            if len(self._near) >= _MAX_NEAR:
                self._near.clear()
            found = self._near[name] = tuple(self._looks_like(name))
        return found

    async def handle_info(self, message: object) -> None:
        if isinstance(message, Piped) and isinstance(message.tag, str):
            self._shelf.learn(message.tag, message)
            self._near.clear()
            self._answer_next()
        elif isinstance(message, _AnswerNext):
            self._answer_next()

    def _answer_next(self) -> None:
        if self._shelf.answer_next():
            self.send_after(0.0, _AnswerNext())

    def _wanted(self, names: Iterable[str]) -> list[str]:
        return [name for name in self._providers if name in names] if names else list(self._providers)

    def _ask_for(self, providers: Iterable[str]) -> None:
        for name in providers:
            question = self._shelf.question(name, self._table())
            if question is not None:
                self.pipe_to_self(question, tag=name)

    def _when_known(
        self,
        providers: list[str],
        answer: Callable[[], object],
        reply_to: ReplyTo[Choice] | ReplyTo[tuple[ProviderModels, ...]],
    ) -> None:
        if not self._shelf.wait(providers, answer, lambda: reply_to.abandoned):
            reply_to.refuse(TooManyChoices("too many calls wait until hosts have listed their models"))

    def _tell(self, wanted: list[str], reply_to: ReplyTo[tuple[ProviderModels, ...]]) -> None:
        now_s = self.system.clock.monotonic()
        reply_to.reply(
            tuple(
                ProviderModels(
                    provider=name,
                    models=self._shelf.known[name].cards,
                    unreachable=self._shelf.known[name].listing.unreachable,
                    age_s=now_s - self._shelf.known[name].at_s,
                )
                for name in wanted
            )
        )

    def _choose(self, wanted: list[str], message: Choose, reply_to: ReplyTo[Choice]) -> None:
        try:
            choice = self._chosen(wanted, message)
        except NothingEligible as refusal:
            reply_to.refuse(refusal)
            return
        reply_to.reply(choice)

    def _chosen(self, wanted: list[str], message: Choose) -> Choice:
        """The choice. The winner's price is looked up anew, since some depend on the hour, and counted if it differs."""
        candidates = self._candidates(wanted)
        unreachable = tuple(
            RejectedModel(name, known.listing.unreachable)
            for name in wanted
            if (known := self._shelf.known[name]).listing.unreachable is not None
        )
        today = utc(self.system.clock).date()
        while True:
            choice = choose(list(candidates.values()), message, today, unreachable)
            winner = candidates[choice.model]
            price = self._price_now(winner.card)
            if price == winner.card.price:
                self._records.take_turn(self._records.of(winner.card.provider, winner.card.model))
                return choice
            candidates[choice.model] = structs.replace(winner, card=structs.replace(winner.card, price=price))

    def _candidates(self, wanted: list[str]) -> dict[str, Candidate]:
        now_s = self.system.clock.monotonic()
        in_flight = self._records.in_flight()
        found: dict[str, Candidate] = {}
        for name in wanted:
            load = in_flight.get(name, 0) / self._providers[name].limits.most_in_flight
            is_broken = self._is_broken(name)
            for card in self._shelf.known[name].cards:
                record = self._records.known(name, card.model)
                found[card.name] = Candidate(
                    card,
                    NOTHING_MEASURED if record is None else record.measured(now_s),
                    load,
                    0 if record is None else record.turn,
                    is_broken,
                )
        return found

    def _price_now(self, card: ModelCard) -> Price | None:
        try:
            return self.resolve(Resolve(card.name)).price
        except Unpriced:
            return None

    def _found(self, name: str) -> Route:
        """A route that is not known yet."""
        if len(self._routes) >= _MAX_ROUTES:
            self._routes.clear()
        route = find_route(
            name,
            self._providers,
            self._table(),
            utc(self.system.clock),
            records=self._records,
            aliases=self._aliases,
        )
        known = self._shelf.known.get(route.provider)
        cards = known.cards if known is not None else ()
        card = next((card for card in cards if card.model == route.model), None)
        if card is None:
            retires = retirement(route.provider, route.model, route.settings)
        else:
            # What its host lists of it is known of the card alone.
            retires = card.retires
            route = structs.replace(
                route,
                capabilities=card.capabilities,
                lacks=missing(card.capabilities),
                context_tokens=card.context_tokens,
            )
        self._warn_if_retired(f"{route.provider}/{route.model}", retires)
        self._routes[name] = route
        return route

    def _warn_if_retired(self, name: str, retires: date | None) -> None:
        """Say once of a model that its date has come; whether it still answers, its provider knows."""
        if retires is not None and retires <= utc(self.system.clock).date() and name not in self._warned:
            if len(self._warned) < _MAX_ROUTES:
                self._warned.add(name)
            _log.warning("model retired", model=name, retired=retires.isoformat())

    def _looks_like(self, name: str) -> Iterator[str]:
        yield from get_close_matches(name, self._aliases)
        provider, _, model = name.partition("/")
        settings = self._providers.get(provider)
        if settings is None:
            return
        known = self._shelf.known.get(provider)
        if known is not None and known.listing.models is not None:
            near = get_close_matches(model, [listed.id for listed in known.listing.models])
        else:
            near = self._table().near(settings.price_provider or provider, model)
        yield from (f"{provider}/{one}" for one in near if one != model)

    def _table(self) -> PriceTable:
        assert self._prices is not None, "init() loads the table"
        return self._prices
