"""Several asks that are one call to their caller: they share its budget and its deadline, and add up."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol

from msgspec import structs

from greenroom.actors.call import Reply, Terms
from greenroom.actors.catalog import Choice
from greenroom.actors.events import ProviderError, ProviderFailed, Tried, Usage
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.kernel import Clock
from greenroom.actors.ledger import Budget, BudgetExceeded
from greenroom.actors.providers import ChatRequest

_SOON_S = 0.001
"""What is left where the last of it passes between looking and asking; none at all would mean no deadline."""


class Asker(Protocol):
    """Who asks a model: `Flow`, or what stands before it. For arguments and what is raised see `Flow`."""

    async def chat(self, request: ChatRequest, terms: Terms) -> Reply:
        """Ask, and wait for the whole answer."""
        ...

    def stream(self, request: ChatRequest, terms: Terms) -> EventStream:
        """Ask, and be told the answer as it comes."""
        ...


class Asks:
    """What the asks of one call came to so far, and what is left for further ones.

    Args:
        clock: time.
        terms: the caller's. Their `timeout_s` is for all asks together (None: each may take what its provider allows),
            and their `budget_pusd` the most that all of them may be charged.
    """

    def __init__(self, clock: Clock, terms: Terms) -> None:
        self._clock = clock
        self._terms = terms
        self._ends_s = None if terms.timeout_s is None else clock.monotonic() + terms.timeout_s
        self.cost_pusd = 0
        self.usage = Usage()
        self.attempts = 0
        self.tried: tuple[Tried, ...] = ()
        self._choice: Choice | None = None
        self._last: Reply | None = None

    @property
    def left_s(self) -> float | None:
        """Seconds until the deadline, none below 0; None: there is none."""
        return None if self._ends_s is None else max(0.0, self._ends_s - self._clock.monotonic())

    @contextmanager
    def one(self) -> Generator[Terms]:
        """One ask: gives the terms that are left for it. What it fails with tells of all asks together.

        Raises:
            ProviderFailed: of kind `timeout`: no time is left.
        """
        self.check_time()
        try:
            yield self._left()
        except BudgetExceeded as refusal:
            raise self._refusal(refusal) from None
        except ProviderFailed as failure:
            self.fail(failure)
            raise

    def check_time(self) -> None:
        """Make sure that the deadline is not over.

        Raises:
            ProviderFailed: it is.
        """
        if self.left_s == 0:
            error = ProviderError(
                kind="timeout",
                message=f"the {self._terms.timeout_s:g} s of the call were over before it could be asked again",
                provider=self._last.provider if self._last else "",
                model=self._last.model if self._last else "",
                attempts=self.attempts,
            )
            raise ProviderFailed(error, cost_pusd=self.cost_pusd, tried=self.tried)

    def add(self, reply: Reply) -> None:
        """Count an answer."""
        self._last = reply
        self.cost_pusd += reply.cost_pusd
        self.usage += reply.usage
        self.attempts += reply.attempts
        self.tried += reply.tried
        self._choice = reply.choice or self._choice

    def fail(self, failure: ProviderFailed) -> None:
        """Count a failure, and have it tell of all asks."""
        self.cost_pusd += failure.cost_pusd
        self.attempts += failure.error.attempts
        self.tried += failure.tried
        failure.cost_pusd, failure.tried = self.cost_pusd, self.tried
        failure.error = structs.replace(failure.error, attempts=self.attempts)

    def pinned(self, request: ChatRequest) -> ChatRequest:
        """The next ask, of the model that was chosen for the first, if one was: a call's model is chosen once."""
        return request if self._choice is None else structs.replace(request, model=self._choice.model)

    def summed(self, reply: Reply) -> Reply:
        """The last answer, with what all asks used and cost."""
        return structs.replace(
            reply,
            usage=self.usage,
            cost_pusd=self.cost_pusd,
            attempts=self.attempts,
            tried=self.tried,
            choice=self._choice,
        )

    def _left(self) -> Terms:
        cap_pusd, left_s = self._terms.budget_pusd, self.left_s
        return structs.replace(
            self._terms,
            timeout_s=None if left_s is None else max(left_s, _SOON_S),
            budget_pusd=None if cap_pusd is None else cap_pusd - self.cost_pusd,
        )

    def _refusal(self, refusal: BudgetExceeded) -> BudgetExceeded:
        cap_pusd = self._terms.budget_pusd
        if cap_pusd is None or refusal.budget.scope != "call":
            return refusal
        return BudgetExceeded(
            Budget("call", cap_pusd),
            None,
            settled_pusd=self.cost_pusd + refusal.settled_pusd,
            held_pusd=0,
            asked_pusd=refusal.asked_pusd,
        )
