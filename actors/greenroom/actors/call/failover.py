"""Which failures another model may mend, and which other models a call may go on to. Pure; asked by `flow` alone."""

from typing import Literal

from msgspec import Struct

from greenroom.actors.catalog import Route, is_free
from greenroom.actors.events import ErrorKind, ProviderError

When = Literal["at once", "after retries", "never"]


class Rule(Struct, frozen=True):
    """Whether and when a failure of one kind goes on to the next model, and the reason why."""

    when: When
    because: str


FAILOVER: dict[ErrorKind, Rule] = {
    "overloaded": Rule("at once", "the provider asks for relief, and another one can give it"),
    "server": Rule("at once", "the fault is in the provider's own house"),
    "timeout": Rule("at once", "the time is the call's; what is left of it is better spent elsewhere"),
    "connection": Rule("at once", "the way to this provider is cut, not the way to all"),
    "stalled": Rule("at once", "as a timeout, within the answer"),
    "circuit_open": Rule("at once", "known to be down: nothing was sent, and nothing would be soon"),
    "protocol": Rule("at once", "what answers there does not speak the wire, and would not the next time"),
    "not_found": Rule("at once", "models are retired under running programs"),
    "rate_limited": Rule(
        "after retries", "the model works, and says when it will answer again; a long wait is not waited"
    ),
    "context_length": Rule(
        "at once", "the request is sound, and too long for this model: one with a larger window"
    ),
    "authentication": Rule("never", "the key is to be mended, and would go unnoticed"),
    "permission": Rule("never", "as authentication"),
    "invalid_request": Rule("never", "the request is the caller's to mend, and wrong everywhere"),
    "unsupported_capability": Rule(
        "never", "the caller asked a model for what it has not; `unsupported` decides"
    ),
    "content_filter": Rule("never", "a refusal is an answer; nobody shops around for a laxer one"),
    "budget_exceeded": Rule("never", "the money is gone whoever is asked"),
    "cancelled": Rule("never", "nobody waits for an answer any more"),
    "internal": Rule("never", "a fault of greenroom itself goes along to every model"),
}
"""By kind of failure. Kinds that never fail over are final, whatever fallbacks there are."""


class Fallback(Struct, frozen=True):
    """A model to go on to. `asked`: the caller named it, and so has agreed to its price."""

    model: str
    asked: bool = True


def passed_over(
    error: ProviderError | None, first: Route, failed: Route, fallback: Fallback, to: Route
) -> str | None:
    """Why a call may not go on to a model; None: it may.

    Args:
        error: how the last attempt failed; None: it goes on, and this one is made beside it.
        first: the model that the call was meant for.
        failed: the model that failed.
        fallback: the model, as it is named.
        to: the model, as it was found.
    """
    if not fallback.asked and is_free(first.price) and not is_free(to.price):
        return "it costs money, the model asked for does not, and nobody agreed to pay"
    if error is not None and error.kind == "context_length" and not _is_larger(to, failed):
        return "its context window is not known to be larger"
    return None


def _is_larger(one: Route, other: Route) -> bool:
    return one.context_tokens is not None and one.context_tokens > (other.context_tokens or 0)
