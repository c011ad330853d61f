"""Budgets and what they count: balances of scopes within periods, and whether a bound still fits. No I/O.

An attempt's money goes through three stages, and a balance keeps a sum for each:

    open       held, in flight: counted at its bound
    settling   its charge is known but not on disk: still counted at its bound (a crash now would charge that much),
               or at the charge where that is larger
    settled    on disk: counted at its charge

With the slices of its scope (`reserved`; see `slices`) added, the sum never exceeds the cap. So money that a cheap
answer leaves over is free again once its settlement is on disk, milliseconds later: a hold that needs it waits for
that and is not refused.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import IntEnum
from typing import Literal

from msgspec import Struct

from greenroom.actors.kernel import ReplyTo
from greenroom.actors.ledger.messages import (
    Account,
    Budget,
    BudgetExceeded,
    Held,
    Hold,
    Period,
    Scope,
    Settle,
)
from greenroom.actors.ledger.slices import Slice
from greenroom.actors.prices import pico_usd
from greenroom.actors.settings import BudgetSettings, Caps

DAY_MS = 86_400_000

Column = Literal["job_id", "session_id", "key_id", "tag"]
_COLUMNS: dict[Scope, Column] = {
    "job": "job_id",
    "session": "session_id",
    "key": "key_id",
    "tag": "tag",
}


class Budgets:
    """What `[budgets]` of the configuration says, as budgets."""

    def __init__(self, settings: BudgetSettings = BudgetSettings()) -> None:  # noqa: B008 - frozen
        self.overall = _budgets("all", settings)
        self.by_key = _each("key", settings.keys)
        self.by_tag = _each("tag", settings.tags)

    def bind(self, account: Account) -> tuple[Budget, ...]:
        """The configured budgets that bind an account; its own come on top."""
        found = self.overall
        if account.key_id is not None:
            found += self.by_key.get(account.key_id, ())
        if account.tag is not None:
            found += self.by_tag.get(account.tag, ())
        return found


def _each(scope: Scope, caps: Mapping[str, Caps]) -> dict[str, tuple[Budget, ...]]:
    return {name: _budgets(scope, cap) for name, cap in caps.items()}


def _budgets(scope: Scope, caps: Caps) -> tuple[Budget, ...]:
    named: tuple[tuple[Period, str | float | None], ...] = (
        ("ever", caps.total_usd),
        ("day", caps.day_usd),
        ("month", caps.month_usd),
    )
    return tuple(Budget(scope, pico_usd(cap), period) for period, cap in named if cap is not None)


class Key(Struct, frozen=True):
    """Which attempts a balance counts: of whom, and started when (unix milliseconds; None: at any time)."""

    scope: Scope
    whose: str | None = None
    since_ms: int | None = None
    until_ms: int | None = None

    def covers(self, account: Account, at_ms: int) -> bool:
        """Whether an attempt of `account` that was started at this time is counted."""
        if self.scope != "all" and account.of(self.scope) != self.whose:
            return False
        return self.since_ms is None or self.until_ms is None or self.since_ms <= at_ms < self.until_ms

    @property
    def column(self) -> tuple[Column, str] | None:
        """The column of the ledger's rows that names the scope, and its value there."""
        column = _COLUMNS.get(self.scope)
        return None if column is None or self.whose is None else (column, self.whose)


def span_of(period: Period, at_ms: int) -> tuple[int | None, int | None]:
    """The beginning and the end of the UTC period that a moment lies in, in unix milliseconds."""
    if period == "ever":
        return None, None
    if period == "day":
        start = at_ms - at_ms % DAY_MS
        return start, start + DAY_MS
    at = datetime.fromtimestamp(at_ms // 1000, UTC)
    first = datetime(at.year, at.month, 1, tzinfo=UTC)
    following = datetime(at.year + at.month // 12, at.month % 12 + 1, 1, tzinfo=UTC)
    return int(first.timestamp()) * 1000, int(following.timestamp()) * 1000


class Room(IntEnum):
    """Whether a bound fits, the more hopeless the larger."""

    FITS = 0
    SOON = 1
    """Once what is known already has reached the disk."""
    LATER = 2
    """If calls in flight leave enough over."""
    NEVER = 3


class Balance:
    """What the attempts of one scope and period come to, in pico-dollars. See the module."""

    __slots__ = (
        "due_pusd",
        "key",
        "loaded",
        "open_pusd",
        "reserved_pusd",
        "settled_pusd",
        "settling_pusd",
    )

    def __init__(self, key: Key) -> None:
        self.key = key
        self.loaded = False
        self.settled_pusd = self.settling_pusd = self.due_pusd = self.open_pusd = self.reserved_pusd = 0

    @property
    def known_pusd(self) -> int:
        """What is charged for certain."""
        return self.settled_pusd + self.due_pusd

    def left_pusd(self, cap_pusd: int) -> int:
        """What nobody has set aside; negative where a provider charged more than its bound."""
        return cap_pusd - self.settled_pusd - self.settling_pusd - self.open_pusd - self.reserved_pusd

    def room(self, cap_pusd: int, bound_pusd: int) -> Room:
        """Whether `bound_pusd` more may be held under this cap."""
        if bound_pusd <= self.left_pusd(cap_pusd):
            return Room.FITS
        known_pusd = self.known_pusd + bound_pusd
        if known_pusd > cap_pusd:
            return Room.NEVER
        return Room.SOON if known_pusd + self.open_pusd <= cap_pusd else Room.LATER


class Purse:
    """An account on one day: what binds it, what counts it, and its slice."""

    __slots__ = ("_loaded", "account", "at_ms", "balances", "bound_by", "limits", "slice")

    def __init__(
        self,
        account: Account,
        at_ms: int,
        limits: tuple[tuple[Budget, Balance], ...],
        balances: tuple[Balance, ...],
        slice_id: int,
    ) -> None:
        self.account = account
        self.at_ms = at_ms
        self.limits = limits
        self.bound_by = tuple(balance for _, balance in limits)
        self.balances = balances
        self._loaded = not limits
        self.slice = Slice(slice_id)

    @property
    def loaded(self) -> bool:
        """Whether what its budgets had spent before is known."""
        # Once known, it stays so.
        self._loaded = self._loaded or all(balance.loaded for balance in self.bound_by)
        return self._loaded

    def room(self, bound_pusd: int) -> Room:
        """Whether all its budgets have room. What costs nothing always fits."""
        if not bound_pusd:
            return Room.FITS
        return max(
            (balance.room(budget.cap_pusd, bound_pusd) for budget, balance in self.limits), default=Room.FITS
        )

    def tight(self, bound_pusd: int) -> list[Balance]:
        """The balances that have no room now."""
        return [bal for budget, bal in self.limits if bal.room(budget.cap_pusd, bound_pusd) is not Room.FITS]

    def refusal(self, bound_pusd: int) -> BudgetExceeded:
        """What to say of the budget that is most in the way."""

        def in_the_way(limit: tuple[Budget, Balance]) -> tuple[Room, int]:
            budget, balance = limit
            cap_pusd = budget.cap_pusd
            return balance.room(cap_pusd, bound_pusd), -balance.left_pusd(cap_pusd)

        budget, balance = max(self.limits, key=in_the_way)
        return BudgetExceeded(
            budget,
            balance.key.whose,
            settled_pusd=balance.known_pusd,
            held_pusd=balance.open_pusd,
            asked_pusd=bound_pusd,
        )

    def left_pusd(self) -> int | None:
        """What remains of the budget that has least; None where none binds."""
        return min((balance.left_pusd(budget.cap_pusd) for budget, balance in self.limits), default=None)

    def count_slice(self, before_pusd: int) -> None:
        """Tell the balances that the slice may now be of another size on disk."""
        for balance in self.balances:
            balance.reserved_pusd += self.slice.top_pusd - before_pusd


class Entry:
    """One hold that the ledger has decided on, until its settlement is on disk.

    `lazy`: granted on the slice, its row not on disk. `granted`: its caller may send, or has long sent.

    Args:
        hold: the hold.
        purse: what it is taken from.
        held: whether it was ever granted, or is about to be; else it never holds anything, and has only a settlement.
    """

    __slots__ = ("_held_pusd", "balances", "granted", "hold", "lazy", "purse", "settle", "waiting")

    def __init__(self, hold: Hold, purse: Purse, *, held: bool) -> None:
        self.hold = hold
        self.purse = purse
        self.balances: tuple[Balance, ...] = ()
        self.settle: Settle | None = None
        self.lazy = False
        self.granted = False
        self.waiting: list[ReplyTo[Held]] = []
        self._held_pusd = hold.bound_pusd if held else 0
        for balance in purse.balances:
            self.count_in(balance)

    def count_in(self, balance: Balance) -> None:
        """Let a balance count it, at the stage where it is."""
        if balance in self.balances:
            return
        self.balances += (balance,)
        if self.settle is None:
            balance.open_pusd += self._held_pusd
        else:
            balance.settling_pusd += max(self._held_pusd, self.settle.cost_pusd)
            balance.due_pusd += self.settle.cost_pusd

    def begin_settling(self, settle: Settle) -> None:
        """Its charge is known."""
        self.settle = settle
        for balance in self.balances:
            balance.open_pusd -= self._held_pusd
            balance.settling_pusd += max(self._held_pusd, settle.cost_pusd)
            balance.due_pusd += settle.cost_pusd

    def close(self) -> None:
        """Its settlement is on disk; or, if it has none, its hold was not granted after all."""
        if self.settle is None:
            for balance in self.balances:
                balance.open_pusd -= self._held_pusd
            return
        cost_pusd = self.settle.cost_pusd
        for balance in self.balances:
            balance.settling_pusd -= max(self._held_pusd, cost_pusd)
            balance.due_pusd -= cost_pusd
            balance.settled_pusd += cost_pusd


class Waiting:
    """A hold that is not decided on, and who waits for it."""

    __slots__ = ("hold", "purse", "replies")

    def __init__(self, hold: Hold, purse: Purse, replies: list[ReplyTo[Held]]) -> None:
        self.hold = hold
        self.purse = purse
        self.replies = replies
