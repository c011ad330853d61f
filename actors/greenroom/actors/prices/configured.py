"""Prices that the configuration states, in dollars per million tokens."""

from decimal import ROUND_CEILING, Decimal

from msgspec import structs

from greenroom.actors.prices.price import BATCH, Price, Rates, each, fee_pusd, per_mtok, rates
from greenroom.actors.settings import PriceSettings, RateSettings

_FEES = frozenset({"web_search", "file_search"})


def configured_price(settings: PriceSettings) -> Price:
    """A price from the configuration's dollars.

    A class of tokens that has no rate there costs what the class costs that it belongs to, never nothing; within a
    tier likewise, by the tier's own rates.
    """
    search, lookup = _each(settings.web_search_usd), _each(settings.file_search_usd)
    standard = Price(
        base=_rates(settings, search, lookup),
        tiers=tuple(
            (tier.above_tokens, _rates(tier, search, lookup))
            for tier in sorted(settings.tiers, key=lambda tier: tier.above_tokens)
        ),
        request_pusd=fee_pusd(Decimal(settings.request_usd)) if settings.request_usd is not None else 0,
    )
    factors = dict(settings.service_tiers)
    if settings.batch_multiplier is not None:
        factors[BATCH] = settings.batch_multiplier
    return structs.replace(
        standard, served={name: _times(standard, Decimal(factor)) for name, factor in factors.items()}
    )


def _rates(settings: RateSettings, web_search: int, file_search: int) -> Rates:
    def rate(usd: str | None) -> int | None:
        return None if usd is None else per_mtok(Decimal(usd))

    return rates(
        per_mtok(Decimal(settings.input)),
        per_mtok(Decimal(settings.output)),
        cached=rate(settings.cached),
        cache_write=rate(settings.cache_write),
        cache_write_1h=rate(settings.cache_write_1h),
        reasoning=rate(settings.reasoning),
        audio_input=rate(settings.audio_input),
        audio_output=rate(settings.audio_output),
        image_input=rate(settings.image_input),
        image_output=rate(settings.image_output),
        web_search=web_search,
        file_search=file_search,
    )


def _each(usd: str | None) -> int:
    return 0 if usd is None else each(Decimal(usd))


def _times(price: Price, factor: Decimal) -> Price:
    """A price with every rate times a factor. Fees are the same in every service tier."""

    def times(base: Rates) -> Rates:
        changed = {
            name: int((rate * factor).to_integral_value(ROUND_CEILING))
            for name, rate in structs.asdict(base).items()
            if name not in _FEES
        }
        return structs.replace(base, **changed)

    return structs.replace(
        price, base=times(price.base), tiers=tuple((start, times(dearer)) for start, dearer in price.tiers)
    )
