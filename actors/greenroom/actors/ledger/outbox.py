"""What outlives every ledger: the holds of living calls, and settlements that are not on disk yet."""

import asyncio
from collections.abc import Callable, Iterable

from greenroom.actors.ledger.messages import Adopt, Hold, Settle, TooManyUnsettled


class Outbox:
    """Granted holds, and settlements not yet acknowledged. Plain memory, owned by the tree.

    The ledger enters a hold in the same turn in which it sets the money aside, so a new ledger finds every hold that
    its predecessor decided on, and none that it did not.

    Args:
        capacity: unacknowledged settlements beyond which no new hold is opened.
    """

    def __init__(self, capacity: int = 20_000) -> None:
        self._capacity = capacity
        self._holds: dict[int, Hold] = {}
        self._settlements: dict[int, Settle] = {}
        self._fresh: list[Settle] = []
        self._tell: Callable[[], None] | None = None
        self._told = False
        self._settled: asyncio.Event | None = None

    def open(self, hold: Hold) -> None:
        """See to it that what is about to be asked for can be settled.

        Raises:
            TooManyUnsettled: see there.
        """
        if len(self._settlements) >= self._capacity:
            raise TooManyUnsettled(f"{len(self._settlements)} settlements wait for the disk")

    def keep(self, hold: Hold) -> None:
        """The ledger's word that this hold has its money. Its caller may have given up and settled it already."""
        if hold.ticket not in self._settlements:
            self._holds[hold.ticket] = hold

    def drop(self, hold: Hold) -> None:
        """The ledger's word that it has not, after all: its row could not be written."""
        self._holds.pop(hold.ticket, None)

    def settle(self, settle: Settle) -> None:
        """Settle a hold, for good: kept here until the ledger says that it is on disk. Never waits, never fails."""
        self._holds.pop(settle.hold.ticket, None)
        self._settlements[settle.hold.ticket] = settle
        self._fresh.append(settle)
        if not self._told and self._tell is not None:
            # One word for many, and no message: a queued one would keep the ledger from granting holds on the caller's
            # stack.
            self._told = True
            self._tell()

    def attend(self, tell: Callable[[], None]) -> None:
        """The ledger's wish to be told when something was settled, once until it has collected. The last one is told."""
        self._tell = tell

    def collect(self) -> list[Settle]:
        """What was settled since the ledger last asked."""
        fresh, self._fresh = self._fresh, []
        self._told = False
        return fresh

    def acknowledge(self, tickets: Iterable[int]) -> None:
        """The ledger's word that these settlements are on disk."""
        for ticket in tickets:
            self._settlements.pop(ticket, None)
        if self._settled is not None and not self._settlements:
            self._settled.set()

    def offer(self) -> Adopt:
        """Everything that a new ledger has to know."""
        self.collect()
        return Adopt(tuple(self._holds.values()), tuple(self._settlements.values()))

    async def wait_empty(self) -> None:
        """Return once every settlement is on disk. Cancelling loses nothing."""
        while self._settlements:
            self._settled = asyncio.Event()
            await self._settled.wait()

    @property
    def empty(self) -> bool:
        """Nothing is held, and every settlement is on disk."""
        return not self._holds and not self._settlements
