"""The ledger: money set aside before a call, settled after it, and bound by budgets that hold over a `kill -9`."""

from greenroom.actors.ledger.actor import Ledger
from greenroom.actors.ledger.balances import Budgets, Key, span_of
from greenroom.actors.ledger.messages import (
    Account,
    Adopt,
    BoundTooLarge,
    Budget,
    BudgetExceeded,
    GetSpend,
    Held,
    Hold,
    Period,
    Scope,
    Settle,
    Spend,
    TooManyUnsettled,
)
from greenroom.actors.ledger.outbox import Outbox

__all__ = (
    "Account",
    "Adopt",
    "BoundTooLarge",
    "Budget",
    "BudgetExceeded",
    "Budgets",
    "GetSpend",
    "Held",
    "Hold",
    "Key",
    "Ledger",
    "Outbox",
    "Period",
    "Scope",
    "Settle",
    "Spend",
    "TooManyUnsettled",
    "span_of",
)
