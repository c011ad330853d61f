"""Published prices, by provider, model and time: genai-prices' table behind our own interface.

The table comes with the package; a newer one may lie beside it, see `refresh`. Importing it takes a fifth of a second,
so it is imported by `PriceTable.load()`, in a thread, and by nobody else.
"""

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import structs

from greenroom.actors.prices.configured import configured_price
from greenroom.actors.prices.price import BATCH, Price, Rates, each, fee_pusd, per_mtok, rates
from greenroom.actors.prices.refresh import read_table
from greenroom.actors.settings import PriceSettings

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo, ModelPrice, Provider

_ANY_MODEL = "*"
_THOUSAND = 1000
_IN_USE = {"processing": {"batch": BATCH}, "speed": {"fast": "fast"}}
"""What the table distinguishes besides service tiers, and by which name answers tell it."""


class PriceTable:
    """Published prices, looked up by provider and model; configured ones win over them."""

    def __init__(self, snapshot: "DataSnapshot") -> None:
        self._snapshot = snapshot

    @classmethod
    def load(cls, refreshed: Path | None = None) -> "PriceTable":
        """The table. Blocks for some 0.2 s of imports: call it in a thread.

        Args:
            refreshed: the folder where `refresh` keeps a newer table; None, or where there is none that can be read:
                the one that came with the package.
        """
        from genai_prices.data_snapshot import get_snapshot

        found = read_table(refreshed) if refreshed is not None else None
        return cls(found or get_snapshot())

    def price(
        self,
        provider: str,
        model: str,
        configured: Mapping[str, PriceSettings],
        at: datetime | None = None,
        *,
        batch: bool = False,
    ) -> Price | None:
        """The price of `model`, or None where neither table nor configuration knows one.

        Args:
            provider: the table's name of the provider.
            model: as the provider calls it.
            configured: what the configuration says, by model, `*` standing for all others.
            at: the time of the call, whose price it is; None: now.
            batch: whether it is for the provider's own batches. Where nobody says that these cost less, they do not.
        """
        own = configured.get(model) or configured.get(_ANY_MODEL)
        if own is not None:
            price: Price | None = configured_price(own)
        else:
            info = self._find(provider, model)
            price = None if info is None else _published(info, at or datetime.now(UTC))
        return price.served.get(BATCH, price) if price is not None and batch else price

    def near(self, provider: str, model: str, count: int = 3) -> list[str]:
        """Known model names of the provider that look like `model`, nearest first."""
        known = [m.id for p in self._snapshot.providers if p.id == provider for m in p.models]
        known += [
            f"{m.id}:{p.id.removeprefix(f'{provider}_')}"
            for p in self._snapshot.providers
            if p.id.startswith(f"{provider}_")
            for m in p.models
        ]
        return get_close_matches(model, known, n=count, cutoff=0.6)

    def context_window(self, provider: str, model: str) -> int | None:
        """Tokens that fit the model's context, where the table says so."""
        info = self._find(provider, model)
        return None if info is None else info.context_window

    def _find(self, provider: str, model: str) -> "ModelInfo | None":
        known = self._provider(provider)
        if known is None:
            # Hugging Face's router names the host that serves in the model, and the table has each as a provider.
            model, _, host = model.rpartition(":")
            known = self._provider(f"{provider}_{host}") if model else None
        if known is None:
            return None
        try:
            _, info = self._snapshot.find_provider_model(model, known, None, None)
        except LookupError:
            return None
        return info

    def _provider(self, name: str) -> "Provider | None":
        # By its exact name: the table's own search takes `notopenai` for `openai`, and would price it so.
        return next((known for known in self._snapshot.providers if known.id == name), None)


def _published(info: "ModelInfo", at: datetime) -> Price | None:
    standard = _price(info.get_prices(at))
    if standard is None:
        return None
    served = {
        name: price
        for name, context in _tiers(info)
        if (price := _price(info.get_prices(at, context))) is not None and price != standard
    }
    return structs.replace(standard, served=served) if served else standard


def _tiers(info: "ModelInfo") -> Iterator[tuple[str, dict[str, str]]]:
    """The service tiers that a model has prices for: our name of each, and the table's."""
    for variant in info.price_variants or ():
        for key, said in variant.when.items():
            name = said if key == "service_tier" else _IN_USE.get(key, {}).get(said)
            if name is not None:
                yield name, {key: said}


def _price(price: "ModelPrice") -> Price | None:
    if price.input_mtok is None and price.output_mtok is None:
        return None
    starts = sorted({t.start for v in price.__dict__.values() for t in getattr(v, "tiers", ())})
    fee = price.requests_kcount
    return Price(
        base=_rates(price, 0),
        tiers=tuple((start, _rates(price, start + 1)) for start in starts),
        request_pusd=fee_pusd(fee / _THOUSAND) if isinstance(fee, Decimal) else 0,
    )


def _rates(price: "ModelPrice", input_tokens: int) -> Rates:
    def rate(key: str) -> Decimal | None:
        value = getattr(price, key, None)
        if value is None or isinstance(value, Decimal):
            return value
        applying = [tier.price for tier in value.tiers if input_tokens > tier.start]
        chosen: Decimal = applying[-1] if applying else value.base
        return chosen

    def mtok(key: str) -> int | None:
        return None if (usd := rate(key)) is None else per_mtok(usd)

    def kcount(key: str) -> int | None:
        return None if (usd := rate(key)) is None else each(usd / _THOUSAND)

    return rates(
        mtok("input_mtok") or 0,
        mtok("output_mtok") or 0,
        cached=mtok("cache_read_mtok"),
        cache_write=mtok("cache_write_5m_mtok") if rate("cache_write_5m_mtok") else mtok("cache_write_mtok"),
        cache_write_1h=mtok("cache_write_1h_mtok"),
        reasoning=mtok("output_reasoning_mtok"),
        audio_input=mtok("input_audio_mtok"),
        audio_output=mtok("output_audio_mtok"),
        cached_audio=mtok("cache_audio_read_mtok"),
        image_input=mtok("input_image_mtok"),
        image_output=mtok("output_image_mtok"),
        video_input=mtok("input_video_mtok"),
        video_output=mtok("output_video_mtok"),
        citation=mtok("output_citation_mtok"),
        web_search=kcount("web_searches_kcount"),
        file_search=kcount("storage_searches_kcount"),
    )
