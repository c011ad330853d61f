"""The configured budgets, and which of them bind an account."""

from collections.abc import Mapping

from greenroom.actors.ledger.messages import Account, Budget, Period, Scope
from greenroom.actors.prices import pico_usd
from greenroom.actors.settings import BudgetSettings, Caps


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
