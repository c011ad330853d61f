"""The hard limits of a choice: each a check that says why a model is rejected, or None where it is not."""

from collections.abc import Callable, Iterator
from datetime import date
from fnmatch import fnmatchcase
from functools import partial

from msgspec import Struct

from greenroom.actors.catalog.cards import ModelCard
from greenroom.actors.catalog.records import Measured
from greenroom.actors.catalog.requirements import Choose, Requirements
from greenroom.actors.prices import Price, Rates, dollars, pico_usd

_CAPABILITIES = {
    "vision": "takes no images",
    "tools": "calls no functions",
    "json_schema": "holds its answers to no JSON Schema",
    "reasoning": "does not think before it answers",
}


class Candidate(Struct, frozen=True, gc=False):
    """A model that could be chosen: what is known of it, what calls have shown, and how busy its provider is.

    `load` is the share of the provider's concurrency that is in flight; `turn` grows with each time it was chosen;
    `is_broken` is whether the provider's breaker is open.
    """

    card: ModelCard
    measured: Measured
    load: float = 0.0
    turn: int = 0
    is_broken: bool = False


Limit = tuple[str, Callable[[Candidate], str | None]]
"""The requirement's name, and its check. What no requirement can change has no name."""


def limits(asked: Choose, today: date) -> list[Limit]:
    """The checks that a call needs, in the order in which they are made."""
    needs = asked.requirements
    checks: list[Limit] = [
        *_of_names(needs),
        ("", lambda c: c.card.unreachable),
        ("", partial(_retired, today=today)),
        ("", _speechless),
        ("", _unpriced),
    ]
    checks += [(name, partial(_lacks, name=name)) for name in _CAPABILITIES if getattr(needs, name)]
    checks += _of_size(asked)
    checks += _of_price(asked)
    if (most_s := needs.max_latency_s) is not None:
        checks.append(("max_latency_s", partial(_slow, most_s=most_s)))
    return checks


def _of_names(needs: Requirements) -> Iterator[Limit]:
    if needs.providers:
        yield (
            "providers",
            lambda c: None if c.card.provider in needs.providers else "not of a provider that is allowed",
        )
    if needs.models:
        yield (
            "models",
            lambda c: None if _fits(c.card, needs.models) else "not among the models that are allowed",
        )
    if needs.exclude:
        yield "exclude", lambda c: "excluded" if _fits(c.card, needs.exclude) else None


def _fits(card: ModelCard, patterns: tuple[str, ...]) -> bool:
    """Whether a model is meant by one of the names or patterns, with its provider or without."""
    return any(fnmatchcase(card.name, pattern) or fnmatchcase(card.model, pattern) for pattern in patterns)


def _retired(candidate: Candidate, today: date) -> str | None:
    retires = candidate.card.retires
    return f"retired on {retires}" if retires is not None and retires <= today else None


def _speechless(candidate: Candidate) -> str | None:
    return "is no model that chats" if candidate.card.capabilities.chat is False else None


def _unpriced(candidate: Candidate) -> str | None:
    return "no price is known" if candidate.card.price is None else None


def _lacks(candidate: Candidate, name: str) -> str | None:
    known = getattr(candidate.card.capabilities, name)
    if known:
        return None
    return _CAPABILITIES[name] if known is False else f"{name}: not known whether it can"


def _of_size(asked: Choose) -> Iterator[Limit]:
    needs = asked.requirements
    least = needs.context_tokens
    if least is not None:
        yield "context_tokens", lambda c: _too_small(c.card.context_tokens, least, "a context window")
    longest = needs.max_output_tokens
    if longest is not None:
        yield "max_output_tokens", lambda c: _too_small(c.card.max_output_tokens, longest, "an output")
    # The bound counts a token for each byte, and would keep long texts from windows that hold them four times over.
    size = (asked.input_tokens or asked.input_bound) + asked.output_tokens
    if size:
        # What is not known of a call's own size, its provider tells at no cost.
        yield "", lambda c: _too_small(c.card.context_tokens or size, size, "a context window")


def _too_small(known: int | None, least: int, what: str) -> str | None:
    if known is None:
        return f"{what} of {least:,} tokens: not known whether it has it"
    return None if known >= least else f"{what} of {known:,} tokens, not {least:,}"


def _of_price(asked: Choose) -> Iterator[Limit]:
    needs = asked.requirements
    if needs.free_only:
        yield "free_only", lambda c: None if c.card.is_free else "is not free"
    tokens_in, tokens_out = asked.most_input_tokens, asked.output_tokens
    if needs.max_input_usd_per_mtok is not None:
        most_in = pico_usd(needs.max_input_usd_per_mtok)
        yield (
            "max_input_usd_per_mtok",
            lambda c: _dear(max(r.input for r in rates_of(c.card.price, tokens_in)), most_in, "in"),
        )
    if needs.max_output_usd_per_mtok is not None:
        most_out = pico_usd(needs.max_output_usd_per_mtok)
        yield (
            "max_output_usd_per_mtok",
            lambda c: _dear(
                max(max(r.output, r.reasoning) for r in rates_of(c.card.price, tokens_in)), most_out, "out"
            ),
        )
    if needs.max_usd is not None:
        most = pico_usd(needs.max_usd)
        yield "max_usd", lambda c: _over(c.card.price, tokens_in, tokens_out, most)


def rates_of(price: Price | None, input_tokens: int) -> list[Rates]:
    """The rates that a request of up to so many tokens may be charged at."""
    assert price is not None, "what has no price was rejected before"
    return [price.base, *(rates for start, rates in price.tiers if input_tokens > start)]


def _dear(rate: int, most: int, way: str) -> str | None:
    # A rate counts 1e-18 dollars a token, which is a pico-dollar per million.
    return None if rate <= most else f"{dollars(rate)} per million tokens {way}, more than {dollars(most)}"


def _over(price: Price | None, tokens_in: int, tokens_out: int, most: int) -> str | None:
    assert price is not None, "what has no price was rejected before"
    bound = price.bound_pusd(tokens_in, tokens_out)
    return None if bound <= most else f"up to {dollars(bound)} for this call, more than {dollars(most)}"


def _slow(candidate: Candidate, most_s: float) -> str | None:
    latency_s = candidate.measured.latency_s
    if latency_s is None or latency_s <= most_s:
        return None
    return f"{latency_s:.2g} s at the median, more than {most_s:g} s"
