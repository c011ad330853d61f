"""When the ledger hands over what has gathered, and when it looks for slices that nobody uses.

By the event loop's own clock, not the injected one: this paces the disk, and nothing that a user sees waits for it.
"""

import asyncio
from collections.abc import Sized

from greenroom.actors.kernel import ActorRef, Cast, Overloaded

_GATHER_S = 0.03
_REST_S = 1.0


class Flush(Cast, frozen=True):
    """The ledger's own word to itself: hand over what has gathered, as one save."""


class Tidy(Cast, frozen=True):
    """The ledger's own timer: give up slices that nobody uses."""


class Pacer:
    """Sends an actor `Flush` and `Tidy`, each at most once until it is heard.

    Args:
        ref: the actor.
        waiting: who waits for what a settlement leaves over.
    """

    def __init__(self, ref: ActorRef, waiting: Sized) -> None:
        self._ref = ref
        self._waiting = waiting
        self._flushing = False
        self._gathering: asyncio.TimerHandle | None = None
        self._tidying: asyncio.TimerHandle | None = None

    def flush_at_once(self) -> None:
        """`Flush` after the messages of this turn: one save for all costs a third of one each."""
        if not self._flushing:
            self._flushing = True
            self._say(Flush())

    def settled(self) -> None:
        """Something was settled: `Flush` soon, or at once where somebody waits for what it leaves over."""
        if self._waiting:
            self.flush_at_once()
        else:
            self.flush_soon()

    def flush_soon(self) -> None:
        """`Flush` in some milliseconds, so that rows gather."""
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().call_later(_GATHER_S, self._say, Flush())

    def flushed(self) -> None:
        """`Flush` was heard."""
        self._flushing = False
        if self._gathering is not None:
            self._gathering.cancel()
            self._gathering = None

    def tidy_soon(self) -> None:
        """`Tidy` in a second."""
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(_REST_S, self._say, Tidy())

    def tidied(self) -> None:
        """`Tidy` was heard."""
        self._tidying = None

    def stop(self) -> None:
        """Send nothing more."""
        for timer in (self._gathering, self._tidying):
            if timer is not None:
                timer.cancel()

    def _say(self, message: Flush | Tidy) -> None:
        if self._ref.alive:
            try:
                self._ref.cast_from_loop(message)
            except Overloaded:
                # Until there is room for it.
                asyncio.get_running_loop().call_later(_GATHER_S, self._say, message)
