"""From a question to the ways that it can go: which model, how to reach it, and the request in its wire's words."""

from collections.abc import Awaitable, Callable

from msgspec import Struct, structs

from greenroom.actors.bounds import ASSUMED_OUTPUT_TOKENS, held_price, input_tokens_bound, output_tokens_bound
from greenroom.actors.call import CallState, Line, Terms, Way, unavailable
from greenroom.actors.catalog import Resolve, Route
from greenroom.actors.events import ProviderError, ProviderFailed
from greenroom.actors.failover import Fallback, passed_over
from greenroom.actors.fitting import encoded, fitted, may_drop
from greenroom.actors.kernel import ActorExited, ActorRef, Refused
from greenroom.actors.ledger import Budgets
from greenroom.actors.providers import ChatRequest


class Question(Struct, frozen=True, gc=False):
    """What a call asks, whichever model it comes to."""

    request: ChatRequest
    terms: Terms
    stream: bool


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
            route = await self._catalog.call(Resolve(model))
            line = self._lines.get(route.provider)
            if line is None:
                line = self._lines[route.provider] = await self._ensure(route.provider)
        except (TimeoutError, ActorExited) as error:
            raise unavailable(f"the way to {model}", error) from error
        return route, line

    async def first(self, question: Question) -> tuple[Way, tuple[Fallback, ...]]:
        """The model that is asked for, and those to go on to. Those that nobody has are refused now, not when needed.

        Raises:
            Refused, ProviderFailed: as `reach`, and where the wire has no words for the request.
        """
        route, line = await self.reach(question.request.model)
        named = question.terms.fallbacks
        for model in named:
            await self.reach(model)
        return self._way(question, route, line), tuple(map(Fallback, named))

    async def next(self, call: CallState, question: Question, error: ProviderError | None) -> Way | None:
        """The next model that may be asked after a failure, or beside an attempt; None: there is none."""
        while call.fallbacks:
            fallback, *rest = call.fallbacks
            call.fallbacks = tuple(rest)
            try:
                route, line = await self.reach(fallback.model)
                why = passed_over(error, call.first, fallback, route)
                if why is None:
                    return self._way(question, route, line)
            except (Refused, ProviderFailed) as refusal:
                why = str(refusal)
            call.passed_over += (f"{fallback.model} was passed over: {why}",)
        return None

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
        bounds = input_tokens_bound(request, len(wire.body), route.model), output_tokens_bound(request)
        return Way(route, line, wire, *bounds, held_price(request, route.price), max_tokens_set, dropped)

    def _is_capped(self, terms: Terms) -> bool:
        account = terms.account
        return terms.budget_pusd is not None or bool(account.budgets or self._budgets.bind(account))
