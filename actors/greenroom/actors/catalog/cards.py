"""What is known of each model: by the configuration, by its host's list, by the price table."""

from collections.abc import Iterable
from datetime import date, datetime
from decimal import Decimal
from fnmatch import fnmatchcase

from msgspec import Struct

from greenroom.actors.prices import FREE, Price, PriceTable
from greenroom.actors.providers.capabilities import UNKNOWN, capabilities_of, configured_model
from greenroom.actors.providers.listing import ListedModel, Listing
from greenroom.actors.settings import Capabilities, ModelSettings, ProviderSettings

USUAL_QUALITY = 50.0
"""Of a model whose quality is not configured, on a scale from 0 to 100."""

_ALL_OTHERS = "*"

_SHUT_DOWN: tuple[tuple[str, str, str], ...] = (
    ("openai", "gpt-3.5*", "2026-10-23"),
    ("openai", "gpt-4", "2026-10-23"),
    ("openai", "gpt-4-*", "2026-10-23"),
    ("openai", "gpt-4o-2024-05-13", "2026-10-23"),
    ("openai", "gpt-4.1-nano*", "2026-10-23"),
    ("openai", "o1*", "2026-10-23"),
    ("openai", "o3-mini*", "2026-10-23"),
    ("openai", "o4-mini*", "2026-10-23"),
    ("openai", "o3", "2026-12-11"),
    ("openai", "o3-2*", "2026-12-11"),
    ("openai", "o3-pro*", "2026-12-11"),
    ("openai", "gpt-5", "2026-12-11"),
    ("openai", "gpt-5-[2mnp]*", "2026-12-11"),
    ("openai", "gpt-4o", "2027-01-14"),
    ("openai", "gpt-4o-2024-[01]*", "2027-01-14"),
    ("openai", "gpt-4o-mini", "2027-01-14"),
    ("openai", "gpt-4o-mini-2*", "2027-01-14"),
    ("openai", "gpt-4.1", "2027-01-14"),
    ("openai", "gpt-4.1-[2m]*", "2027-01-14"),
)
"""Dates on which models cease, as announced by November 2026: https://developers.openai.com/api/docs/deprecations.

A host's own list says it anew, and wins. Anthropic's, Mistral's, OpenAI's and OpenRouter's do.
"""


class ModelCard(Struct, frozen=True, kw_only=True):
    """A model, and all that is known of it. None: not known.

    `price` None: nobody says what it costs, so it is not called. `listed` is whether its host lists it now; a model
    that is not may be reachable all the same, if the configuration names it. `unreachable` says why it cannot be
    asked now, where it cannot.
    """

    provider: str
    model: str
    price: Price | None
    listed: bool
    unreachable: str | None = None
    context_tokens: int | None = None
    max_output_tokens: int | None = None
    retires: date | None = None
    capabilities: Capabilities = UNKNOWN
    quality: float = USUAL_QUALITY

    @property
    def name(self) -> str:
        """`provider/model`."""
        return f"{self.provider}/{self.model}"

    @property
    def input_usd_per_mtok(self) -> Decimal | None:
        """Dollars per million tokens in, where these are few; None: nobody says."""
        return None if self.price is None else _usd_per_mtok(self.price.base.input)

    @property
    def output_usd_per_mtok(self) -> Decimal | None:
        """Dollars per million tokens out, where few go in; None: nobody says."""
        return None if self.price is None else _usd_per_mtok(self.price.base.output)

    @property
    def is_free(self) -> bool:
        """Whether nothing is charged for it, whatever is asked."""
        return self.price is not None and is_free(self.price)


def is_free(price: Price) -> bool:
    """Whether a price is nothing at all."""
    return price is FREE or (price.base == FREE.base and not price.tiers and not price.request_pusd)


def retirement(
    provider: str, model: str, settings: ProviderSettings, listed: str | None = None
) -> date | None:
    """When a model ceases: as the configuration says, else its host's list (in ISO's form), else what was announced."""
    own = configured_model(settings.models, model)
    if own is not None and own.retires is not None:
        return own.retires
    if listed is not None:
        return date.fromisoformat(listed)
    for host, pattern, said in _SHUT_DOWN:
        if provider == host and fnmatchcase(model, pattern):
            return date.fromisoformat(said)
    return None


def cards_of(
    provider: str, settings: ProviderSettings, listing: Listing, prices: PriceTable, at: datetime
) -> tuple[ModelCard, ...]:
    """The models of a provider: those that it lists, and those that the configuration names. Blocks: some 0.1 ms a model.

    Args:
        provider: its name.
        settings: its settings.
        listing: what it said.
        prices: published prices.
        at: the time whose prices count.
    """
    listed = {model.id: model for model in listing.models or ()}
    at_table = settings.price_provider or provider

    def card(model: str) -> ModelCard:
        own = configured_model(settings.models, model) or ModelSettings()
        said = listed.get(model) or ListedModel(model)
        window = None if settings.free else prices.context_window(at_table, model)
        return ModelCard(
            provider=provider,
            model=model,
            price=FREE if settings.free else prices.price(at_table, model, settings.prices, at),
            listed=model in listed,
            unreachable=listing.unreachable,
            context_tokens=own.context_tokens or said.context_tokens or window,
            max_output_tokens=own.max_output_tokens or said.max_output_tokens,
            retires=retirement(provider, model, settings, said.retires),
            capabilities=capabilities_of(provider, model, settings, said.capabilities),
            quality=USUAL_QUALITY if own.quality is None else own.quality,
        )

    return tuple(card(name) for name in dict.fromkeys((*listed, *_named(settings, listing))))


def _named(settings: ProviderSettings, listing: Listing) -> Iterable[str]:
    """Models that the configuration names; the host's usual one where it keeps no list."""
    run_here = settings.serve.models if settings.serve is not None else ()
    named: dict[str, None] = dict.fromkeys((*settings.models, *settings.prices, *run_here))
    if listing.models is None and settings.default_model is not None:
        named[settings.default_model] = None
    return (name for name in named if name != _ALL_OTHERS)


def _usd_per_mtok(rate: int) -> Decimal:
    """A rate of `Price`, 1e-18 dollars a token, as dollars per million tokens."""
    return Decimal(f"{Decimal(rate).scaleb(-12).normalize():f}")
