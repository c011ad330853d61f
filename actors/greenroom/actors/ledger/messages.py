"""What is said to the ledger, and what it says."""

from typing import Literal

from msgspec import Struct

from greenroom.actors.events import Usage
from greenroom.actors.kernel import Call, Cast, Refused
from greenroom.actors.prices import dollars

Scope = Literal["all", "key", "tag", "session", "job", "call"]
"""What a budget binds: everything, or what an account names."""

Period = Literal["ever", "day", "month"]
"""For how long it binds. Days and months are UTC, and an attempt belongs to the one in which it was started."""

_SETTINGS: dict[tuple[Scope, Period], str] = {
    ("all", "ever"): "budgets.total_usd",
    ("all", "day"): "budgets.day_usd",
    ("all", "month"): "budgets.month_usd",
}


class Budget(Struct, frozen=True):
    """A hard cap: what is settled and what is held of a scope never exceed it together."""

    scope: Scope
    cap_pusd: int
    period: Period = "ever"


class Account(Struct, frozen=True, cache_hash=True):
    """Whom a call is charged to, and which budgets bind it besides the configured ones.

    A budget here is of the job, session, key or tag that stands beside it. It counts all that was ever charged there,
    by earlier processes too.

    Raises:
        ValueError: a budget is of a scope that the account does not name.
    """

    job_id: str | None = None
    session_id: str | None = None
    key_id: str | None = None
    tag: str | None = None
    budgets: tuple[Budget, ...] = ()

    def __post_init__(self) -> None:
        for budget in self.budgets:
            if budget.scope != "all" and self.of(budget.scope) is None:
                raise ValueError(f"a budget of a {budget.scope}, for an account that names none")

    def of(self, scope: Scope) -> str | None:
        """Whom it names in this scope."""
        match scope:
            case "job":
                return self.job_id
            case "session":
                return self.session_id
            case "key":
                return self.key_id
            case "tag":
                return self.tag
            case _:
                return None


class Held(Struct, frozen=True, gc=False):
    """The answer to a `Hold`: whatever becomes of this process, the attempt is accounted for."""

    ticket: int


class Hold(Call[Held], frozen=True, kw_only=True, resend=True, gc=False):
    """Set aside the upper bound of one attempt before it is made.

    `ticket` is made by the caller and unique for ever; asking twice with one ticket holds once. `wait`: where a budget
    leaves no room but others' holds are open, wait for what they leave over, in order of arrival; without it such a
    hold is refused. Who gives up waiting sends a `Settle`, as for every hold.

    Raises, at the caller:
        BudgetExceeded: a budget has no room for it; nothing is held.
        StorageFailed: the row could not be written; nothing is held, and nothing may be sent.
        BoundTooLarge: see there.
    """

    ticket: int
    call_id: int
    number: int
    provider: str
    model: str
    bound_pusd: int
    account: Account
    started_at_ms: int
    wait: bool = False


class Settle(Cast, frozen=True, kw_only=True, gc=False):
    """What an attempt came to: its outcome (`ok` or an error kind), what it used and what it is charged.

    `estimated` marks a charge that the provider did not state: a cancelled call, a lost answer.
    """

    hold: Hold
    outcome: str
    cost_pusd: int
    usage: Usage
    estimated: bool
    settled_at_ms: int
    request_id: str | None = None


class Adopt(Cast, frozen=True):
    """What living calls offer a new ledger: the holds they were granted, and the settlements nobody has acknowledged."""

    holds: tuple[Hold, ...]
    settlements: tuple[Settle, ...]


class Spend(Struct, frozen=True, kw_only=True):
    """The ledger's accounts, in pico-dollars: what this runtime has settled and holds.

    `reserved_pusd` is what its slices set aside besides; `unsaved` counts rows on their way to the disk, `waiting`
    holds that wait for room in a budget.
    """

    settled_pusd: int
    held_pusd: int
    open_holds: int
    unsaved: int
    reserved_pusd: int = 0
    waiting: int = 0


class GetSpend(Call[Spend], frozen=True, resend=True):
    """Ask for the accounts."""


class BudgetExceeded(Refused):
    """A budget has no room for a call; nothing was sent for it.

    Attributes:
        budget: which one.
        whose: the job, session, key or tag it is of; None: the call's, or that of everything.
        settled_pusd: what was charged within its scope and period.
        held_pusd: what calls in flight may be charged yet.
        asked_pusd: the upper bound of the call that was refused.
    """

    def __init__(
        self, budget: Budget, whose: str | None, *, settled_pusd: int, held_pusd: int, asked_pusd: int
    ) -> None:
        self.budget = budget
        self.whose = whose
        self.settled_pusd = settled_pusd
        self.held_pusd = held_pusd
        self.asked_pusd = asked_pusd
        needed_pusd = settled_pusd + held_pusd + asked_pusd
        setting = _SETTINGS.get((budget.scope, budget.period), "it")
        super().__init__(
            f"{self._name()} of {dollars(budget.cap_pusd)} has no room: {dollars(settled_pusd)} settled, "
            f"{dollars(held_pusd)} held by calls in flight, and this call may cost up to {dollars(asked_pusd)}; "
            f"raise {setting} to {dollars(needed_pusd)} or more, or bound the answer with a lower max_tokens"
        )

    def _name(self) -> str:
        scope, period = self.budget.scope, self.budget.period
        whose = f" {self.whose}" if self.whose else ""
        of = {"all": "the budget", "call": "the call's budget"}.get(scope, f"the budget of {scope}{whose}")
        return of + {"ever": "", "day": " for today (UTC)", "month": " for this month (UTC)"}[period]


class TooManyUnsettled(Refused):
    """Settlements wait for the disk in such number that no new call may be made until it catches up."""


class BoundTooLarge(Refused):
    """One call's upper bound is beyond a million dollars: surely a mistake in `max_tokens` or in a price."""
