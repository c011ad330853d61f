"""How many requests may be in flight at once: a number, or found out."""

from greenroom.actors.events import Usage
from greenroom.actors.settings import Limits


class Slots:
    """A fixed number.

    Args:
        limit: how many.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit

    def ended(self, began_s: float, now_s: float, usage: Usage | None, outcome: str) -> None:
        """A request that began at a moment has ended."""


def slots_of(limits: Limits) -> Slots:
    """What is configured."""
    return Slots(limits.most_in_flight)
