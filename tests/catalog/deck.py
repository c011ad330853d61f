"""Models made up for tests."""

from decimal import Decimal
from typing import Any

from greenroom.actors.catalog.cards import ModelCard
from greenroom.actors.catalog.limits import Candidate
from greenroom.actors.catalog.records import Measured
from greenroom.actors.prices import Price, rates
from greenroom.actors.prices.price import per_mtok
from greenroom.actors.settings import Capabilities

ALL = Capabilities(chat=True, vision=True, tools=True, json_schema=True, reasoning=True)


def price(usd_in: str, usd_out: str) -> Price:
    """Dollars per million tokens."""
    return Price(rates(per_mtok(Decimal(usd_in)), per_mtok(Decimal(usd_out))))


def measured(
    *,
    latency_s: float | None = None,
    failure_share: float = 0.0,
    output_tokens: float | None = None,
    in_flight: int = 0,
) -> Measured:
    return Measured(
        attempts=0 if latency_s is None else 10,
        in_flight=in_flight,
        latency_s=latency_s,
        first_content_s=None,
        output_tokens=output_tokens,
        failure_share=failure_share,
    )


def candidate(
    name: str,
    *,
    usd: tuple[str, str] | None = ("1", "2"),
    found: Measured | None = None,
    load: float = 0.0,
    turn: int = 0,
    **known: Any,
) -> Candidate:
    """`provider/model`, which can do everything unless `known` says otherwise."""
    provider, _, model = name.partition("/")
    fields: dict[str, Any] = {"capabilities": ALL, "context_tokens": 100_000, "listed": True} | known
    card = ModelCard(
        provider=provider,
        model=model,
        price=None if usd is None else price(*usd),
        **fields,
    )
    return Candidate(card, found or measured(), load, turn)
