"""Everything the ledger has in memory about money: entries, purses and balances by what they count, open slices."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from collections.abc import Set as AbstractSet
from typing import get_args

from greenroom.actors.ledger.balances import DAY_MS, Balance, Entry, Key, Purse, Waiting, span_of
from greenroom.actors.ledger.messages import Account, Budget, Hold, Scope

_Name = tuple[Scope, str | None]
_SCOPES: tuple[Scope, ...] = get_args(Scope)

_MAX_KEPT = 10_000
"""Purses, and balances, kept in memory before those that nothing is known of but what the rows say are forgotten."""


class Accounts:
    """Entries, purses and balances. `entries` are the holds decided on, `waiting` those not yet, in order of arrival.

    Args:
        bind: the configured budgets that bind an account.
        next_slice_id: an id for a slice, unused in this database.
    """

    def __init__(
        self, bind: Callable[[Account], tuple[Budget, ...]], next_slice_id: Callable[[], int]
    ) -> None:
        self._bind = bind
        self._next_slice_id = next_slice_id
        self.entries: dict[int, Entry] = {}
        self.waiting: dict[int, Waiting] = {}
        self._purses: dict[tuple[Account, int], Purse] = {}
        self._balances: dict[Key, Balance] = {}
        # By what they name, since with many sessions looking at all for each new one would take too long.
        self._purses_of: defaultdict[_Name, list[Purse]] = defaultdict(list)
        self._balances_of: defaultdict[_Name, list[Balance]] = defaultdict(list)
        self._prune_at = _MAX_KEPT

    def purse(self, hold: Hold) -> Purse:
        """The purse that a hold is taken from. New balances have yet to be loaded."""
        day = hold.started_at_ms // DAY_MS
        purse = self._purses.get((hold.account, day))
        return purse or self._open(hold.account, day)

    def enter(self, hold: Hold, purse: Purse | None = None, *, held: bool = True) -> Entry:
        """Count a hold that is decided on; `held` as in `Entry`."""
        entry = self.entries[hold.ticket] = Entry(hold, purse or self.purse(hold), held=held)
        return entry

    def begin_loading(self, balance: Balance) -> list[int]:
        """The tickets that a balance counts from memory, and must not count from the rows as well."""
        # What is closed already is on disk, and so among the rows.
        balance.settled_pusd = 0
        if not balance.open_pusd and not balance.settling_pusd:
            return []
        return [entry.hold.ticket for entry in self.entries.values() if balance in entry.balances]

    def _open(self, account: Account, day: int) -> Purse:
        if len(self._purses) + len(self._balances) >= self._prune_at:
            self._prune()
        at_ms = day * DAY_MS
        budgets = (*self._bind(account), *account.budgets)
        limits = tuple((budget, self._balance(budget, account, at_ms)) for budget in budgets)
        names = _names(account)
        balances = tuple(
            balance
            for name in names
            for balance in self._balances_of.get(name, ())
            if balance.key.covers(account, at_ms)
        )
        purse = self._purses[account, day] = Purse(account, at_ms, limits, balances, self._next_slice_id())
        for name in names:
            self._purses_of[name].append(purse)
        return purse

    def _balance(self, budget: Budget, account: Account, at_ms: int) -> Balance:
        key = Key(budget.scope, account.of(budget.scope), *span_of(budget.period, at_ms))
        balance = self._balances.get(key)
        if balance is None:
            balance = self._balances[key] = Balance(key)
            self._balances_of[key.scope, key.whose].append(balance)
            self._count_from_now_on(balance)
        return balance

    def _count_from_now_on(self, balance: Balance) -> None:
        """Let a new balance count the holds and slices that nobody had to count in its scope before."""
        key = balance.key
        purses = self._purses_of.get((key.scope, key.whose), ())
        counted = {purse for purse in purses if key.covers(purse.account, purse.at_ms)}
        for purse in counted:
            purse.balances += (balance,)
            balance.reserved_pusd += purse.slice.top_pusd
        for entry in self.entries.values() if counted else ():
            if entry.purse in counted:
                entry.count_in(balance)

    def _prune(self) -> None:
        """Forget what can be read from the rows again."""
        used = {id(entry.purse) for entry in self.entries.values()}
        used |= {id(waiting.purse) for waiting in self.waiting.values()}
        self._purses = {
            key: purse
            for key, purse in self._purses.items()
            if purse.slice.top_pusd or purse.slice.pending_pusd is not None or id(purse) in used
        }
        bound = {id(balance) for purse in self._purses.values() for balance in purse.balances}
        self._balances = {
            key: balance
            for key, balance in self._balances.items()
            if id(balance) in bound or not balance.loaded
        }
        self._purses_of.clear()
        for purse in self._purses.values():
            for name in _names(purse.account):
                self._purses_of[name].append(purse)
        self._balances_of.clear()
        for balance in self._balances.values():
            self._balances_of[balance.key.scope, balance.key.whose].append(balance)
        self._prune_at = max(_MAX_KEPT, 2 * (len(self._purses) + len(self._balances)))


def _names(account: Account) -> list[_Name]:
    """The scopes that an account is in, and by what name."""
    names: list[_Name] = [("all", None)]
    for scope in _SCOPES:
        whose = account.of(scope)
        if whose is not None:
            names.append((scope, whose))
    return names


class OpenSlices:
    """The purses whose slice may stand on disk. `slices` says what their sizes must keep to."""

    def __init__(self) -> None:
        self._purses: set[Purse] = set()
        self._anybody_rests = False

    @property
    def reserved_pusd(self) -> int:
        """What they set aside together."""
        return sum(purse.slice.top_pusd for purse in self._purses)

    @property
    def used_pusd(self) -> int:
        """What is granted on them and not on disk."""
        return sum(purse.slice.used_pusd for purse in self._purses)

    def resize(self, fresh: Iterable[Entry], blocked: AbstractSet[Balance]) -> list[Purse]:
        """Change sizes as what goes to the disk now demands.

        Args:
            fresh: what goes there in the same save.
            blocked: the balances for which somebody waits.

        Returns:
            The purses whose slice changes, and has to be in that save.
        """
        asked: dict[Purse, list[int]] = {}
        confirming: dict[Purse, int] = {}
        for entry in fresh:
            bound_pusd = entry.hold.bound_pusd
            if entry.lazy:
                confirming[entry.purse] = confirming.get(entry.purse, 0) + bound_pusd
            elif entry.settle is None and not entry.granted:
                asked.setdefault(entry.purse, []).append(bound_pusd)
        changing: list[Purse] = []
        # Those that nothing goes to the disk for change only when they rest, or when somebody waits for their money.
        others = self._purses if blocked or self._anybody_rests else ()
        self._anybody_rests = False
        for purse in {*asked, *confirming, *others}:
            size = _size(purse, asked.get(purse, []), confirming.get(purse, 0), blocked)
            if size is not None and size != purse.slice.confirmed_pusd:
                before_pusd = purse.slice.top_pusd
                purse.slice.change(size)
                purse.count_slice(before_pusd)
                self._purses.add(purse)
                changing.append(purse)
        return changing

    def changed(self, purses: Iterable[Purse], *, on_disk: bool) -> None:
        """What became of changes."""
        for purse in purses:
            before_pusd = purse.slice.top_pusd
            purse.slice.changed(on_disk=on_disk)
            purse.count_slice(before_pusd)
            if not purse.slice.top_pusd:
                self._purses.discard(purse)

    def tick(self) -> bool:
        """Look who rests; true if somebody does, and should be resized."""
        for purse in self._purses:
            purse.slice.quiet_ticks += 1
        self._anybody_rests = any(purse.slice.resting for purse in self._purses)
        return self._anybody_rests

    @staticmethod
    def confirm(entry: Entry) -> None:
        """A row of this entry is on disk, so it stands on no slice any more."""
        if entry.lazy:
            entry.lazy = False
            entry.purse.slice.give_back(entry.hold.bound_pusd)


def _size(purse: Purse, asked: list[int], confirming_pusd: int, blocked: AbstractSet[Balance]) -> int | None:
    """What a slice should be, if a change is due: no less than what rows in other saves need of it."""
    slice_ = purse.slice
    if slice_.pending_pusd is not None or not purse.loaded:
        return None
    least_pusd = slice_.used_pusd - confirming_pusd
    if slice_.resting or not blocked.isdisjoint(purse.balances):
        # Nobody needs it, or somebody waits for what it sets aside.
        return min(least_pusd, slice_.confirmed_pusd)
    size = slice_.size_for(sum(asked), max(asked, default=0), purse.left_pusd())
    return None if size is None else max(size, least_pusd)
