"""Registries: keys of any kind, for one actor each or for many, beside the names that ``start`` gives."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, get_args

import msgspec

from greenroom.actors.kernel.contract.errors import NameTaken, Overloaded
from greenroom.actors.kernel.contract.ref import ActorRef
from greenroom.actors.kernel.engine.named import Via
from greenroom.actors.kernel.engine.process import Process

if TYPE_CHECKING:
    from greenroom.actors.kernel.system import ActorSystem

Keys = Literal["unique", "duplicate"]


class Registered(msgspec.Struct, frozen=True):
    """What a registry's listener gets: ``ref`` has registered ``key`` with ``value``."""

    key: object
    ref: ActorRef
    value: object


class Unregistered(msgspec.Struct, frozen=True):
    """What a registry's listener gets: ``ref`` has given ``key`` up, or has ended."""

    key: object
    ref: ActorRef


class Registry:
    """Who has registered what.

    An actor's entries go when it ends, before anybody hears of its end.

    Args:
        system: whose actors these are.
        keys: "unique": one actor a key; "duplicate": any number, each once.
        listeners: actors that get ``Registered`` and ``Unregistered`` as casts; with a full mailbox they miss them, and a dead
            letter says so.
    """

    def __init__(
        self, system: "ActorSystem", keys: Keys = "unique", *, listeners: tuple[ActorRef, ...] = ()
    ) -> None:
        if keys not in get_args(Keys):
            raise ValueError(f"keys is {keys!r}; it must be {' or '.join(get_args(Keys))}")
        self._system = system
        self._unique = keys == "unique"
        self._listeners = listeners
        self._entries: dict[object, dict[Process, object]] = {}
        self._keys: dict[Process, dict[object, None]] = {}

    def register(self, key: object, value: object = None, *, ref: ActorRef | None = None) -> None:
        """Registers the running actor, or ``ref``, under ``key``. Again for the same actor, it replaces ``value``.

        Raises:
            NameTaken: the registry is unique and another actor has the key; ``.ref`` says who.
            RuntimeError: without ``ref``, outside a handler.
        """
        process = self._system.current("register") if ref is None else self._system.resolve(ref)
        if process is None or not process.alive:
            return
        holders = self._entries.setdefault(key, {})
        if self._unique and holders and process not in holders:
            raise NameTaken(key, next(iter(holders)))
        holders[process] = value
        self._keys.setdefault(process, {})[key] = None
        ties = process.tie()
        if ties.registries is None:
            ties.registries = set()
        ties.registries.add(self)
        self._tell(Registered(key, process, value))
        if self._unique:
            self._system.core.wake_waiters(Via(self, key))

    def unregister(self, key: object, *, ref: ActorRef | None = None) -> None:
        """Gives ``key`` up, if the running actor, or ``ref``, has it."""
        process = self._system.current("unregister") if ref is None else self._system.resolve(ref)
        if process is not None and process in self._entries.get(key, {}):
            self._keys[process].pop(key)
            self._drop(key, process)

    def lookup(self, key: object) -> tuple[tuple[ActorRef, object], ...]:
        """Who has registered ``key``, and with what value."""
        return tuple(self._entries.get(key, {}).items())

    def whereis(self, key: object) -> ActorRef | None:
        """Who has ``key``; the first, in a duplicate registry."""
        return self.holder(key)

    def keys(self, ref: ActorRef) -> tuple[object, ...]:
        """What ``ref`` has registered."""
        process = self._system.resolve(ref)
        return () if process is None else tuple(self._keys.get(process, {}))

    def dispatch(self, key: object, function: Callable[[ActorRef, object], object]) -> int:
        """Calls ``function(ref, value)`` for each who has registered ``key``, here and now. Returns how many there were.

        What ``function`` raises goes to the caller, and the rest is not called.
        """
        entries = self.lookup(key)
        for ref, value in entries:
            function(ref, value)
        return len(entries)

    def __len__(self) -> int:
        return len(self._entries)

    def via(self, key: object) -> "Via":
        """A name for ``start``, ``named`` and child specs that stands in this registry. ``named`` also finds who registered itself.

        Raises:
            ValueError: the registry is not unique.
        """
        if not self._unique:
            raise ValueError("only a unique registry can give names")
        return Via(self, key)

    def holder(self, key: object) -> Process | None:
        """As ``whereis``, for the kernel."""
        return next(iter(self._entries.get(key, {})), None)

    def forget(self, process: Process) -> None:
        """``process`` has ended."""
        for key in self._keys.pop(process, {}):
            self._drop(key, process)

    def _drop(self, key: object, process: Process) -> None:
        holders = self._entries[key]
        del holders[process]
        if not holders:
            del self._entries[key]
        self._tell(Unregistered(key, process))

    def _tell(self, event: Registered | Unregistered) -> None:
        for listener in self._listeners:
            try:
                listener.cast(event)
            except Overloaded:  # the end of an actor may be what is told, and must not fail
                self._system.core.dead_letter(listener, event, "overflow")
