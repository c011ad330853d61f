"""What tokens cost, exactly: integers inside, dollars as `Decimal` only at the edges.

A rate is kept in micro-pico-dollars a token (1e-18 dollars), which holds any published rate per million tokens with
up to twelve decimals exactly; a charge is summed in that unit and rounded once, upwards, to pico-dollars. Where the
table has no rate of its own for a class of tokens, the class it belongs to is charged: cached, cache-write and audio
input as input, reasoning and audio output as output.

The table itself is genai-prices' bundled one, behind `PriceTable`; nothing is fetched. Importing it takes a fifth
of a second, so it is imported by `PriceTable.load()`, in a thread, and by nobody else.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal, InvalidOperation
from difflib import get_close_matches
from typing import TYPE_CHECKING

from msgspec import Struct, structs

from greenroom.actors.events import Usage
from greenroom.actors.settings import PriceSettings

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice

PICO = 10**12
_SCALE = 10**6
_ANY_MODEL = "*"
_MAX_USD = 1_000_000


def usd(pico_usd: int) -> Decimal:
    """Pico-dollars as dollars, exact."""
    return Decimal(pico_usd) / PICO


def dollars(pico_usd: int) -> str:
    """Pico-dollars as text, exact and without an exponent: `$0.0125`."""
    return f"${usd(pico_usd).normalize():f}"


def pico_usd(value: Decimal | str | float) -> int:
    """A sum of dollars as somebody wrote it (`"0.50"`, `5`, `0.25`), in pico-dollars, rounded down.

    Raises:
        ValueError: it is no number of dollars from 0 to a million.
    """
    try:
        # By way of its text, a float is what was written and not the binary fraction beside it.
        amount = Decimal(str(value))
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not 0 <= amount <= _MAX_USD:
        raise ValueError(f"{value!r} is no sum of dollars: a number from 0 to {_MAX_USD}, such as 0.50")
    return int(amount * PICO)


class Rates(Struct, frozen=True, gc=False):
    """Micro-pico-dollars per token of each class of `Usage`."""

    input: int
    output: int
    cached: int
    cache_write_5m: int
    cache_write_1h: int
    reasoning: int
    audio_input: int
    audio_output: int

    @property
    def dearest(self) -> tuple[int, int]:
        """The dearest class in, and out."""
        return (
            max(self.input, self.cached, self.cache_write_5m, self.cache_write_1h, self.audio_input),
            max(self.output, self.reasoning, self.audio_output),
        )


class Price(Struct, frozen=True, gc=False):
    """A model's price: base rates, dearer ones above a size of input, and a fee per request in pico-dollars.

    A tier applies to all tokens of a request whose input is larger than its start, as providers bill it.
    """

    base: Rates
    tiers: tuple[tuple[int, Rates], ...] = ()
    request_pusd: int = 0
    _dearest: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        # Once, as every hold reckons with it.
        structs.force_setattr(self, "_dearest", self.base.dearest)

    def cost_pusd(self, usage: Usage) -> int:
        """What `usage`, of one request, is charged: pico-dollars, rounded up once."""
        rates = self.base
        for start, dearer in self.tiers:
            if usage.total_input_tokens > start:
                rates = dearer
        total = (
            usage.input_tokens * rates.input
            + usage.output_tokens * rates.output
            + usage.cached_tokens * rates.cached
            + usage.cache_write_5m_tokens * rates.cache_write_5m
            + usage.cache_write_1h_tokens * rates.cache_write_1h
            + usage.reasoning_tokens * rates.reasoning
            + usage.audio_input_tokens * rates.audio_input
            + usage.audio_output_tokens * rates.audio_output
        )
        return -(-total // _SCALE) + self.request_pusd

    def bound_pusd(self, input_tokens: int, output_tokens: int) -> int:
        """The most that a request of up to so many tokens can be charged, whatever class and tier they fall in."""
        return self.bound_of_many_pusd(1, input_tokens, output_tokens, largest_input=input_tokens)

    def bound_of_many_pusd(
        self, requests: int, input_tokens: int, output_tokens: int, *, largest_input: int
    ) -> int:
        """The same for many requests: of so many tokens together, the largest of them of so many input tokens."""
        dearest_in, dearest_out = self._dearest
        for start, rates in self.tiers:
            if largest_input > start:
                tier_in, tier_out = rates.dearest
                dearest_in, dearest_out = max(dearest_in, tier_in), max(dearest_out, tier_out)
        tokens_pusd = -(-(input_tokens * dearest_in + output_tokens * dearest_out) // _SCALE)
        # Each charge is rounded up by itself.
        return tokens_pusd + (requests - 1) * bool(tokens_pusd) + requests * self.request_pusd


FREE = Price(Rates(0, 0, 0, 0, 0, 0, 0, 0))


def configured_price(settings: PriceSettings) -> Price:
    """A price from the configuration's dollars per million tokens."""
    rate_in, rate_out = _rate(Decimal(settings.input)), _rate(Decimal(settings.output))
    cached = _rate(Decimal(settings.cached)) if settings.cached is not None else rate_in
    return Price(Rates(rate_in, rate_out, cached, rate_in, rate_in, rate_out, rate_in, rate_out))


class PriceTable:
    """Published prices, looked up by provider and model; configured ones win over them."""

    def __init__(self, snapshot: "DataSnapshot") -> None:
        self._snapshot = snapshot

    @classmethod
    def load(cls) -> "PriceTable":
        """The bundled table. Blocks for some 0.2 s of imports: call it in a thread."""
        from genai_prices.data_snapshot import get_snapshot

        return cls(get_snapshot())

    def price(
        self, provider: str, model: str, configured: Mapping[str, PriceSettings], at: datetime | None = None
    ) -> Price | None:
        """The price of `model` at a time (default: now), or None where neither table nor configuration knows one.

        `provider` is the table's name of the provider; `configured` is by model, `*` standing for all others.
        """
        own = configured.get(model) or configured.get(_ANY_MODEL)
        if own is not None:
            return configured_price(own)
        info = self._find(provider, model)
        if info is None:
            return None
        return _published(info.get_prices(at or datetime.now(UTC)))

    def near(self, provider: str, model: str, count: int = 3) -> list[str]:
        """Known model names of the provider that look like `model`, nearest first."""
        known = [m.id for p in self._snapshot.providers if p.id == provider for m in p.models]
        return get_close_matches(model, known, n=count, cutoff=0.6)

    def context_window(self, provider: str, model: str) -> int | None:
        """Tokens that fit the model's context, where the table says so."""
        info = self._find(provider, model)
        return None if info is None else info.context_window

    def _find(self, provider: str, model: str) -> "ModelInfo | None":
        # By its exact name: the table's own search takes `notopenai` for `openai`, and would price it so.
        for known in self._snapshot.providers:
            if known.id == provider:
                try:
                    _, info = self._snapshot.find_provider_model(model, known, None, None)
                except LookupError:
                    return None
                return info
        return None


def _published(price: "ModelPrice") -> Price | None:
    if price.input_mtok is None and price.output_mtok is None:
        return None
    starts = sorted({t.start for v in price.__dict__.values() for t in getattr(v, "tiers", ())})
    fee = price.requests_kcount
    return Price(
        base=_rates(price, 0),
        tiers=tuple((start, _rates(price, start + 1)) for start in starts),
        request_pusd=int((fee * PICO / 1000).to_integral_value(ROUND_CEILING))
        if isinstance(fee, Decimal)
        else 0,
    )


def _rates(price: "ModelPrice", input_tokens: int) -> Rates:
    def rate(key: str, default: int) -> int:
        value = getattr(price, key)
        if value is None:
            return default
        if not isinstance(value, Decimal):
            applying = [tier.price for tier in value.tiers if input_tokens > tier.start]
            value = applying[-1] if applying else value.base
        return _rate(value)

    fresh, output = rate("input_mtok", 0), rate("output_mtok", 0)
    cache_write = rate("cache_write_mtok", fresh)
    return Rates(
        input=fresh,
        output=output,
        cached=rate("cache_read_mtok", fresh),
        cache_write_5m=cache_write,
        cache_write_1h=rate("cache_write_1h_mtok", cache_write),
        reasoning=rate("output_reasoning_mtok", output),
        audio_input=rate("input_audio_mtok", fresh),
        audio_output=rate("output_audio_mtok", output),
    )


def _rate(usd_per_mtok: Decimal) -> int:
    return int((usd_per_mtok * _SCALE * _SCALE).to_integral_value(ROUND_CEILING))
