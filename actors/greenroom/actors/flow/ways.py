"""From a question to the ways that it can go: which model, how to reach it, and the request in its wire's words."""

import uuid
import zlib
from collections.abc import Awaitable, Callable

from msgspec import Struct, structs

from greenroom.actors.call import CallState, Line, Terms, Way, unavailable
from greenroom.actors.call.bounds import (
    ASSUMED_OUTPUT_TOKENS,
    held_price,
    input_tokens_bound,
    output_tokens_bound,
)
from greenroom.actors.call.choosing import runners_up, wanted
from greenroom.actors.call.failover import Fallback, passed_over
from greenroom.actors.call.fitting import encoded, fitted, may_drop
from greenroom.actors.catalog import AUTO, Choice, Near, Resolve, Route, is_auto
from greenroom.actors.events import ProviderError, ProviderFailed
from greenroom.actors.kernel import ActorExited, ActorRef, Refused
from greenroom.actors.ledger import Budgets
from greenroom.actors.providers import ChatRequest, WireRequest

_CHOICE_S = 60.0


class Question(Struct, frozen=True, gc=False):
    """What a call asks, whichever model it comes to."""

    request: ChatRequest
    terms: Terms
    stream: bool


class Start(Struct, frozen=True, gc=False):
    """Where a call begins: the first way, who is asked when it fails, and why it was chosen, if it was."""

    way: Way
    fallbacks: tuple[Fallback, ...]
    choice: Choice | None


class Ways:
    """Finds the way to a model, and the next one when that fails.

    Args:
        catalog: the catalogue, by name.
        ensure: starts a provider's actors where they do not run yet.
        budgets: the configured budgets.
    """

    def __init__(
        self,
        catalog: ActorRef,
        ensure: Callable[[str], Awaitable[Line]],
        budgets: Budgets,
    ) -> None:
        self._catalog = catalog
        self._ensure = ensure
        self._budgets = budgets
        self._lines: dict[str, Line] = {}

    async def reach(self, model: str) -> tuple[Route, Line]:
        """The way to a model.

        Raises:
            Refused: `UnknownModel`, `Unpriced`.
            ProviderFailed: our own actors did not answer in time.
        """
        try:
            resolve = Resolve(model)
            route = self._catalog.call_now(resolve)
            if route is None:
                route = await self._catalog.call(resolve)
            line = self._lines.get(route.provider)
            if line is None:
                line = self._lines[route.provider] = await self._ensure(route.provider)
        except (TimeoutError, ActorExited) as error:
            raise unavailable(f"the way to {model}", error) from error
        return route, line

    async def near(self, route: Route) -> str:
        """Models that look like one that its provider does not have, for the failure's message."""
        try:
            found = await self._catalog.call(Near(f"{route.provider}/{route.model}"))
        except (TimeoutError, ActorExited, Refused):
            return ""
        return f"did you mean {' or '.join(found)}?" if found else ""

    async def first(self, question: Question) -> Start:
        """The model that is asked for, and those to go on to. Those that nobody has are refused now, not when needed.

        Raises:
            Refused, ProviderFailed: as `reach`, and where the wire has no words for the request; `NothingEligible`.
            ValueError: there are requirements, and a model was named.
        """
        terms, model = question.terms, question.request.model
        choice: Choice | None = None
        if is_auto(model):
            choice = await self._choose(question)
            model = choice.model
        elif terms.requirements is not None:
            raise ValueError(f"requirements are for model={AUTO!r}; {model} was asked for by its name")
        route, line = await self.reach(model)
        fallbacks = _named_with(route)
        for named in terms.fallbacks:
            other, _ = await self.reach(named)
            fallbacks += (Fallback(named), *_named_with(other))
        if choice is not None:
            fallbacks += runners_up(choice)
        return Start(self._way(question, route, line), fallbacks, choice)

    async def _choose(self, question: Question) -> Choice:
        terms = question.terms
        asked = wanted(question.request, terms.requirements, terms.strategy, terms.budget_pusd)
        try:
            # The hosts may have to be asked first what models they have.
            return await self._catalog.call(asked, timeout=terms.timeout_s or _CHOICE_S)
        except (TimeoutError, ActorExited) as error:
            raise unavailable("the choice of a model", error) from error

    async def next(self, call: CallState, question: Question, error: ProviderError | None) -> Way | None:
        """The next model that may be asked after a failure, or beside an attempt; None: there is none."""
        while call.fallbacks:
            fallback, *rest = call.fallbacks
            call.fallbacks = tuple(rest)
            try:
                route, line = await self.reach(fallback.model)
                why = passed_over(error, call.first, call.way.route, fallback, route)
                if why is None:
                    return self._way(question, route, line)
            except (Refused, ProviderFailed) as refusal:
                why = str(refusal)
            call.passed_over += (f"{fallback.model} was passed over: {why}",)
        return None

    def beside(self, way: Way) -> Way:
        """The same way for a second attempt at once, which is to be answered by itself."""
        header = way.route.settings.idempotency_header
        return way if header is None else structs.replace(way, wire=_keyed(way.wire, header, None))

    def dropping(self, way: Way, question: Question, error: ProviderError) -> Way | None:
        """The same way without the option that the provider refused, where it may be left out."""
        param = error.param
        if (
            error.kind != "unsupported_capability"
            or (error.provider, error.model) != (way.route.provider, way.route.model)
            or question.terms.unsupported != "drop"
            or param is None
            or param in way.dropped
            or not may_drop(question.request, param)
        ):
            return None
        return self._way(question, way.route, way.line, but=(*way.dropped, param))

    def _way(self, question: Question, route: Route, line: Line, but: tuple[str, ...] = ()) -> Way:
        request, max_tokens_set = question.request, None
        if request.max_tokens is None and self._is_capped(question.terms):
            # An answer without a bound has no price that could be held.
            max_tokens_set = ASSUMED_OUTPUT_TOKENS
            request = structs.replace(request, max_tokens=max_tokens_set)
        if question.terms.unsupported == "drop":
            request, dropped, wire = fitted(request, route, stream=question.stream, but=but)
        else:
            dropped, wire = (), encoded(request, route, stream=question.stream)
        if (header := route.settings.idempotency_header) is not None:
            wire = _keyed(wire, header, question.terms.idempotency_key)
        bounds = input_tokens_bound(request, len(wire.body), route.model), output_tokens_bound(request)
        return Way(route, line, wire, *bounds, held_price(request, route.price), max_tokens_set, dropped)

    def _is_capped(self, terms: Terms) -> bool:
        account = terms.account
        return terms.budget_pusd is not None or bool(account.budgets or self._budgets.bind(account))


def _named_with(route: Route) -> tuple[Fallback, ...]:
    """The other models of the alias that a route was found by."""
    if not route.fallbacks:
        return ()
    return tuple(Fallback(model, asked=route.free_to_paid) for model in route.fallbacks)


def _keyed(wire: WireRequest, header: str, key: str | None) -> WireRequest:
    """The request with a key to know it by: that of the call, and of these very bytes."""
    named = f"{key or uuid.uuid4().hex}-{zlib.crc32(wire.body):08x}"
    return structs.replace(wire, headers={**wire.headers, header: named})
