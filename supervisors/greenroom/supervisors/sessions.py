"""The `sessions` branch: one actor an awake session, begun when it is spoken to, gone when nobody has spoken for long.

`Sessions` owns what outlives the branch: the specs from which a new one begins the awake sessions again, each with its
`Memory`.
"""

import asyncio
from collections.abc import Callable

from msgspec import Struct

from greenroom.actors.kernel import ActorRef, ActorSystem
from greenroom.actors.session import Awake, Memory, Session, Sleep
from greenroom.actors.settings import SessionLimits, Supervision
from greenroom.supervisors.branch import Branch, Keep
from greenroom.supervisors.spec import ChildSpec

NAME = "sessions"
_FREED = 64
"""Sessions that are asked to sleep at once where too many are awake."""


class _Known(Struct, frozen=True):
    spec: ChildSpec
    awake: Awake


class Sessions:
    """The sessions that are awake.

    Args:
        system: the actor system.
        settings: how long they stay awake, and how many.
        supervision: how many restarts are borne.
        now_ms: unix milliseconds.
    """

    def __init__(
        self,
        system: ActorSystem,
        settings: SessionLimits,
        supervision: Supervision,
        now_ms: Callable[[], int],
    ) -> None:
        self._system = system
        self._settings = settings
        self._supervision = supervision
        self._now_ms = now_ms
        self._kept: dict[str, ChildSpec] = {}
        self._known: dict[str, _Known] = {}
        self._starting: dict[str, asyncio.Task[ActorRef]] = {}

    def branch(self) -> ChildSpec:
        """The branch itself, to be started under the root."""
        options = {"intensity": self._supervision.intensity, "period": self._supervision.period_s}
        return ChildSpec(NAME, Branch, args=(self._kept,), kwargs=options, name=NAME)

    def __len__(self) -> int:
        """How many are awake, or were until lately."""
        return len(self._known)

    async def wake(self, session_id: str) -> Awake:
        """Have a session's actor awake.

        Raises:
            StartFailed: it could not be read; the cause says why.
        """
        # The latest spoken to is the last of the table.
        known = self._known.pop(session_id, None)
        if known is None:
            self._make_room()
            known = self._make(session_id)
        self._known[session_id] = known
        starting = self._starting.get(session_id)
        if starting is None and not known.awake.ref.alive:
            starting = self._start(session_id, known)
        if starting is not None:
            await asyncio.shield(starting)
        return known.awake

    def _start(self, session_id: str, known: _Known) -> "asyncio.Task[ActorRef]":
        """Have it started, once for all who wait: where it cannot be read, each of them is told so."""
        known.awake.memory.users += 1  # it may not be forgotten meanwhile

        def started(starting: "asyncio.Task[ActorRef]") -> None:
            del self._starting[session_id]
            known.awake.memory.users -= 1
            if not starting.cancelled():
                starting.exception()  # those who have waited are told, if there is one left

        starting = asyncio.ensure_future(self._system.named(NAME).call(Keep(known.spec), timeout=None))
        self._starting[session_id] = starting
        starting.add_done_callback(started)
        return starting

    def rest(self) -> None:
        """Have those asleep that nobody speaks to: they read anew what was changed in the database."""
        for known in self._known.values():
            if known.awake.ref.alive and _is_free(known.awake.memory):
                known.awake.ref.cast(Sleep())

    def _make(self, session_id: str) -> _Known:
        name = f"session:{session_id}"
        memory = Memory()
        store: ActorRef = self._system.named("store")
        args = (session_id, store, self._now_ms, memory, self._settings.idle_s)
        spec = ChildSpec(session_id, Session, args=args, name=name, restart="transient")
        return _Known(spec, Awake(self._system.named(name), memory))

    def _make_room(self) -> None:
        """Forget those asleep; where all are awake, send those to sleep that nobody has spoken to for longest."""
        if len(self._known) < self._settings.max_awake:
            return
        asleep = [
            name
            for name, known in self._known.items()
            if not known.awake.ref.alive and _is_free(known.awake.memory)
        ]
        for name in asleep:
            del self._known[name]
        free = (known.awake for known in self._known.values() if _is_free(known.awake.memory))
        for awake, _ in zip(free, range(_FREED), strict=False):
            awake.ref.cast(Sleep())


def _is_free(memory: Memory) -> bool:
    return memory.users == 0 and memory.speaker is None
