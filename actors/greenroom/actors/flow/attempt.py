"""One attempt of a call: money, a permit and a connection, each asked for in turn, all given back whatever happens.

Actors own state, not bytes. Each actor asked here is asked by name, with a message that may be sent twice, so a
restart of any of them is a wait and not a failure. A ticket is made by who asks, so what an actor granted and could
not tell is given back too.
"""

import math
from collections.abc import Callable, Mapping
from typing import Protocol, TypeVar

import aiohttp
from msgspec import Struct, structs

from greenroom.actors.call import CallState, Way, unavailable
from greenroom.actors.call.exchange import Answer, ExchangeFailed, Send, StreamBody
from greenroom.actors.events import RETRYABLE, ErrorKind, ProviderError, ProviderFailed, Tried, Usage
from greenroom.actors.kernel import ActorExited, ActorRef, Cast, Clock, Overloaded, Refused
from greenroom.actors.ledger import Account, Budget, BudgetExceeded, Hold, Outbox, Settle
from greenroom.actors.limiter import BATCH, Admit, CannotStart, Release
from greenroom.actors.local import addressed
from greenroom.actors.log import Log
from greenroom.actors.pool import CircuitOpen, Lease, Outcome
from greenroom.actors.providers import RejectedAnswer
from greenroom.actors.providers.wire import service_tier

_log = Log(__name__)
_BYTES_PER_TOKEN = 4
"""A fair guess for admission, which needs an estimate and not a bound."""
_OK: dict[str, bool] = {"ok": True, "protocol": False} | dict.fromkeys(RETRYABLE, False)
"""Outcomes that say how well a model serves. A request that was wrong, and one that was cancelled, say nothing of it."""
_T = TypeVar("_T", bound=Answer | StreamBody)
_A = TypeVar("_A")


class Answered(Protocol):
    """What a whole answer of any kind says of its price."""

    @property
    def usage(self) -> Usage: ...
    @property
    def usage_reported(self) -> bool: ...


class Attempt(Struct, gc=False):
    """What one attempt came to so far. Unless it is said otherwise, it was cancelled.

    `most_pusd` is the most that it can be charged, by what is known. `sent_s` is set while the provider may be
    serving the request, and so may charge for it. `refused`: the ledger did not grant the hold, so there is nothing
    to settle. `granted`: permit and lease came, so nothing that was asked for still waits in a mailbox. `counts`:
    whether its failure tells of the provider's health, see `breaker`.
    """

    hold: Hold
    way: Way
    most_pusd: int
    outcome: str = "cancelled"
    sent_s: float | None = None
    cost_pusd: int = 0
    usage: Usage = Usage()
    estimated: bool = False
    refused: bool = False
    granted: bool = False
    counts: bool = True
    request_id: str | None = None
    service_tier: str = ""

    def heard(self, headers: Mapping[str, str]) -> None:
        """The head of an answer came: its id, and the tier that served it where the wire tells it there."""
        codec = self.way.route.codec
        self.request_id = headers.get(codec.request_id_header)
        if codec.service_tier_header:
            self.service_tier = service_tier(headers.get(codec.service_tier_header))

    def served(self, usage: Usage) -> Usage:
        """Usage with the tier that the head told of."""
        if not self.service_tier or usage.service_tier:
            return usage
        return structs.replace(usage, service_tier=self.service_tier)


class Attempts:
    """Begins attempts, sends them, and gives back what they were granted.

    Args:
        ledger: the ledger, by name.
        outbox: where holds and settlements outlive the ledger.
        next_ticket: a number never given before, in any process.
        clock: time.
        max_freeze_s: how long a provider may keep everybody waiting by its Retry-After. One that asks for more keeps
            nobody waiting: who asks next is told the same at once, not after a wait that cannot help.
    """

    def __init__(
        self,
        ledger: ActorRef,
        outbox: Outbox,
        next_ticket: Callable[[], int],
        clock: Clock,
        max_freeze_s: float,
    ) -> None:
        self._ledger = ledger
        self._outbox = outbox
        self._next_ticket = next_ticket
        self._clock = clock
        self._max_freeze_s = max_freeze_s

    def begin(self, call: CallState, way: Way) -> Attempt:
        """Reckon what an attempt may cost, and make sure that it can be settled. Unless it raises, `give_back` must follow.

        Raises:
            BudgetExceeded: the call's own budget has no room for it.
            TooManyUnsettled: see there.
        """
        hold = self._hold(call, way)
        cap_pusd = call.budget_pusd
        if cap_pusd is not None and call.cost_pusd + call.held_pusd + hold.bound_pusd > cap_pusd:
            raise BudgetExceeded(
                Budget("call", cap_pusd),
                None,
                settled_pusd=call.cost_pusd,
                held_pusd=call.held_pusd,
                asked_pusd=hold.bound_pusd,
            )
        self._outbox.open(hold)
        call.made = hold.number
        call.held_pusd += hold.bound_pusd
        return Attempt(hold, way, hold.bound_pusd)

    async def send(self, call: CallState, attempt: Attempt, send: Send[_T]) -> _T:
        """Be granted what an attempt needs, and send.

        Raises:
            ProviderFailed: no answer, or no grant in time.
            Refused: no grant.
        """
        session = await self._acquire(call, attempt)
        way = attempt.way
        sockets, wire = way.line.sockets, way.wire
        url = sockets.url(wire.path)
        if sockets.signer is not None:
            wire = await sockets.signed(wire)
        if (local := way.line.local) is not None:
            served = await local.use(attempt.hold.ticket, way.route.model, self._left_s(call))
            url, wire = addressed(wire, served)
        now_s = self._clock.monotonic()
        left_s = call.deadline_s - now_s
        if left_s <= 0.0:
            whole_s = call.deadline_s - call.started_s
            raise _failed("timeout", f"the {whole_s:g} s of the call were over before it could be sent")
        attempt.sent_s = now_s
        try:
            answered = await send(session, url, wire, way.route.settings.stalls, left_s)
        except ExchangeFailed as failure:
            attempt.sent_s = attempt.sent_s if failure.sent else None
            raise _failed(failure.kind, str(failure)) from failure
        way.line.allowance.observe(attempt.hold.ticket, answered.headers, self._clock.monotonic())
        return answered

    def decoded(self, attempt: Attempt, answer: Answer, decode: Callable[[bytes], _A]) -> _A:
        """What a whole answer says.

        Raises:
            ProviderFailed: it says that the provider failed, or is not what the dialect promises.
        """
        codec = attempt.way.route.codec
        attempt.heard(answer.headers)
        if not 200 <= answer.status < 300:
            # Providers do not charge for what they refuse or fail to serve.
            attempt.sent_s = None
            raise ProviderFailed(
                codec.failure(answer.status, answer.headers, answer.body, self._clock.time())
            )
        try:
            return decode(answer.body)
        except ProviderFailed:
            attempt.sent_s = None  # a failure too, whatever its status says
            raise
        except RejectedAnswer as error:
            raise ProviderFailed(
                ProviderError(kind="protocol", message=str(error), status=answer.status)
            ) from error

    def content_came(self, attempt: Attempt) -> None:
        """The first content of a streamed answer is there."""
        if attempt.sent_s is not None:
            attempt.way.route.record.content_came(self._clock.monotonic() - attempt.sent_s)

    def answered(self, call: CallState, attempt: Attempt, answer: Answered) -> None:
        """A whole answer came; one that states no usage is charged the upper bound."""
        attempt.outcome = "ok"
        attempt.usage = attempt.served(answer.usage)
        if answer.usage_reported:
            attempt.cost_pusd = attempt.way.route.price.cost_pusd(attempt.usage)
        else:
            _charge_bound_if_sent(attempt)
        call.usage = call.usage + attempt.usage if call.tried else attempt.usage
        _note(call, attempt)

    def failed(self, call: CallState, attempt: Attempt, error: ProviderError) -> ProviderFailed:
        """The attempt's failure with its whereabouts filled in; what it is charged is added to the call."""
        attempt.outcome = error.kind
        if not attempt.refused:
            _charge_bound_if_sent(attempt)
            _note(call, attempt)
        elif call.made == attempt.hold.number:
            call.made -= 1  # it was none
        now_s = self._clock.monotonic()
        wait_s = error.retry_after_s
        if wait_s is not None and wait_s > self._max_freeze_s:
            wait_s = None
        attempt.way.line.allowance.refused(attempt.hold.ticket, error.kind, wait_s, now_s)
        if error.kind == "rate_limited":
            attempt.counts = wait_s is None  # else the limiter keeps to it
        elif error.kind == "timeout":
            attempt.counts = now_s < call.deadline_s  # else the time was over that the caller gave
        elif error.kind == "connection":
            attempt.counts = attempt.sent_s is None  # else an answer was lost, and the next connection tells
        return ProviderFailed(
            structs.replace(
                error,
                provider=attempt.way.route.provider,
                model=attempt.way.route.model,
                attempts=attempt.hold.number - attempt.refused,
                request_id=error.request_id or attempt.request_id,
            ),
            cost_pusd=attempt.cost_pusd,
        )

    def give_back(self, call: CallState, attempt: Attempt) -> None:
        """Return the lease and the permit, granted or not, and settle the hold. Nothing here waits or fails."""
        line, hold = attempt.way.line, attempt.hold
        call.held_pusd -= hold.bound_pusd
        if attempt.outcome == "cancelled" and not attempt.refused:
            _charge_bound_if_sent(attempt)
            _note(call, attempt)
        now_s = self._clock.monotonic()
        duration_s = now_s - (attempt.sent_s or now_s)
        used = attempt.usage if attempt.outcome == "ok" and not attempt.estimated else None
        line.allowance.give_back(hold.ticket, now_s, used, attempt.outcome)
        if attempt.granted:
            # No word to the actors: a queued message would keep them from granting on the next caller's stack.
            line.sockets.give_back(hold.ticket, attempt.outcome, duration_s, counts=attempt.counts)
            attempt.way.route.record.ended(
                now_s,
                ok=_OK.get(attempt.outcome),
                duration_s=duration_s,
                output_tokens=attempt.usage.total_output_tokens,
            )
        else:
            line.sockets.give_back(hold.ticket, attempt.outcome, duration_s)
            _cast(line.pool, Outcome(hold.ticket, attempt.outcome, duration_s))
        if line.allowance.waiting or not attempt.granted:
            _cast(line.limiter, Release(hold.ticket))
        if line.local is not None:
            line.local.give_back(hold.ticket, now_s, attempt.outcome)
        if attempt.refused:
            return
        self._outbox.settle(
            Settle(
                hold=hold,
                outcome=attempt.outcome,
                cost_pusd=attempt.cost_pusd,
                usage=attempt.usage,
                estimated=attempt.estimated,
                settled_at_ms=int(self._clock.time() * 1000),
                request_id=attempt.request_id,
            )
        )

    async def _acquire(self, call: CallState, attempt: Attempt) -> aiohttp.ClientSession:
        """Money, then a permit, then a connection, each within what is left of the call."""
        way, hold = attempt.way, attempt.hold
        line, ticket = way.line, hold.ticket
        if wait_s := line.sockets.breaker.wait_s():
            attempt.refused = True  # before money is set aside, or a place in the queue taken
            raise _open_circuit(CircuitOpen(way.route.provider, wait_s))
        admit = Admit(
            ticket,
            len(way.wire.body) // _BYTES_PER_TOKEN,
            way.max_tokens,
            way.route.model,
            _tenant(call.account),
            call.priority,
            # A job waits however long it takes: its next line would only be refused as well, and then the next.
            None if call.priority == BATCH else call.deadline_s,
        )
        try:
            if self._ledger.call_now(hold) is None:
                await self._ledger.call(hold, timeout=self._left_s(call))
        except Overloaded:
            # The mailbox's word, not the ledger's: a ledger before this one may have granted it, so it is settled.
            raise
        except Refused:
            attempt.refused = True
            raise
        except (TimeoutError, ActorExited) as error:
            raise unavailable("the ledger", error) from error
        try:
            if line.limiter.call_now(admit) is None:
                await line.limiter.call(admit, timeout=self._left_s(call))
            lease = Lease(ticket)
            leased = line.pool.call_now(lease)
            if leased is None:
                leased = await line.pool.call(lease, timeout=self._left_s(call))
        except CircuitOpen as refused:  # it opened meanwhile
            raise _open_circuit(refused) from refused
        except CannotStart as late:
            if not call.fallbacks:
                raise
            # Another model may start in time.
            raise ProviderFailed(
                ProviderError(kind="rate_limited", message=str(late), retry_after_s=late.wait_s)
            ) from late
        except (TimeoutError, ActorExited) as error:
            raise unavailable(f"the limiter and pool of {way.route.provider}", error) from error
        attempt.granted = True
        way.route.record.began()
        return leased.session

    def _hold(self, call: CallState, way: Way) -> Hold:
        return Hold(
            ticket=self._next_ticket(),
            call_id=call.id,
            number=call.made + 1,
            provider=way.route.provider,
            model=way.route.model,
            bound_pusd=way.price.bound_pusd(way.input_bound, way.max_tokens),
            account=call.account,
            started_at_ms=int(self._clock.time() * 1000),
            wait=call.priority == BATCH,
        )

    def _left_s(self, call: CallState) -> float:
        # Whole seconds, so that the kernel's timeouts fall into a few common limits.
        return max(1, math.ceil(call.deadline_s - self._clock.monotonic()))


def _failed(kind: ErrorKind, message: str) -> ProviderFailed:
    return ProviderFailed(ProviderError(kind=kind, message=message))


def _open_circuit(refused: CircuitOpen) -> ProviderFailed:
    return ProviderFailed(
        ProviderError(kind="circuit_open", message=str(refused), retry_after_s=refused.retry_after_s)
    )


def _tenant(account: Account) -> str:
    """Between whom admission is fair: keys, where there are any; else tags, sessions or jobs."""
    return account.key_id or account.tag or account.session_id or account.job_id or ""


def _charge_bound_if_sent(attempt: Attempt) -> None:
    """What is unknown is charged at its upper bound: a hard cap holds even if the provider charged all of it."""
    if attempt.sent_s is not None:
        attempt.cost_pusd = attempt.most_pusd
        attempt.estimated = attempt.cost_pusd > 0


def _note(call: CallState, attempt: Attempt) -> None:
    """Add what an attempt came to to its call."""
    call.cost_pusd += attempt.cost_pusd
    hold = attempt.hold
    call.tried += (
        Tried(
            hold.provider,
            hold.model,
            attempt.outcome,
            attempt.cost_pusd,
            attempt.estimated,
            attempt.request_id,
        ),
    )


def _cast(ref: ActorRef, message: Cast) -> None:
    """Tell an actor what it no longer needs to keep; the dead need not know, the overloaded count it later."""
    try:
        ref.cast(message)
    except Overloaded:
        _log.warning("mailbox full, message lost", actor=str(ref), message=type(message).__name__)
