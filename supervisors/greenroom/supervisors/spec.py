"""What a supervisor is told of a child, and what it tells of its children: data, and the messages that carry it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Literal, get_args

import msgspec

from greenroom.actors.kernel import Actor, ActorRef, Call, Name, Refused, Via
from greenroom.supervisors.engine.checks import check, check_number, check_seconds, check_text, is_a

Restart = Literal["permanent", "transient", "temporary"]
Shutdown = float | Literal["brutal_kill", "infinity"] | None
ChildState = Literal["running", "starting", "restarting", "stopping", "stopped"]

WORKER_SHUTDOWN_S = 5.0


class Backoff(msgspec.Struct, frozen=True):
    """How long restarts wait, beyond OTP: the first comes at once, the next waits ``first_s``, each further one longer.

    Attributes:
        first_s: seconds before the second restart in a row.
        factor: by how much each wait exceeds the one before.
        max_s: the longest wait, in seconds.
        jitter: each wait is drawn from this share below it to itself, so that children do not restart in step.
        reset_after_s: a child that ran so many seconds starts over with a restart at once.
    """

    first_s: float = 0.2
    factor: float = 2.0
    max_s: float = 30.0
    jitter: float = 0.2
    reset_after_s: float = 60.0

    def __post_init__(self) -> None:
        check_seconds(self.first_s, "backoff.first_s")
        check_number(self.factor, "backoff.factor", "a number >= 1", least=1)
        check_number(self.max_s, "backoff.max_s", "seconds >= first_s", least=self.first_s)
        check_number(self.jitter, "backoff.jitter", "a share between 0 and 1", least=0, most=1)
        check_number(self.reset_after_s, "backoff.reset_after_s", "seconds >= 0", least=0)

    def delay_s(self, restart: int, chance: float) -> float:
        """Seconds before restart number ``restart`` (1 for the first) in a row, with ``chance`` drawn from [0, 1)."""
        if restart <= 1:
            return 0.0
        exponent = min(restart - 2, 64)  # further on it is max_s anyway, and floats end somewhere
        return min(self.first_s * self.factor**exponent, self.max_s) * (1 - self.jitter * chance)


class ChildSpec(msgspec.Struct, frozen=True):
    """How a child is started, restarted and stopped. Checked when it is made.

    Attributes:
        id: what the supervisor calls it; unique there.
        actor: its class, or a function that makes it.
        args: handed to ``actor``.
        kwargs: handed to ``actor``.
        name: the name it is registered under in the system, if any.
        restart: "permanent" is always restarted, "transient" after an exit that was not clean, "temporary" never.
        shutdown: seconds it may take to stop before it is killed, "infinity", or "brutal_kill" for at once. None: 5 s for a
            worker, infinity for a supervisor.
        significant: whether its end may end the supervisor, see ``auto_shutdown``.
        backoff: how long restarts wait; None: not at all, as in OTP.
    """

    id: str
    actor: Callable[..., Actor]
    args: tuple[object, ...] = ()
    kwargs: Mapping[str, object] = {}
    name: Name | None = None
    restart: Restart = "permanent"
    shutdown: Shutdown = None
    significant: bool = False
    backoff: Backoff | None = None

    def __post_init__(self) -> None:
        check_text(self.id, "child: id")
        where = f"child {self.id!r}: "
        check(
            _is_maker(self.actor),
            f"{where}actor",
            self.actor,
            "an Actor class, or a function that makes an actor",
        )
        check(is_a(self.args, tuple), f"{where}args", self.args, "a tuple")
        check(is_a(self.kwargs, Mapping), f"{where}kwargs", self.kwargs, "a mapping of names to values")
        if self.name is not None and not is_a(self.name, Via):
            check_text(self.name, f"{where}name")
        check(
            self.restart in get_args(Restart), f"{where}restart", self.restart, " or ".join(get_args(Restart))
        )
        check(
            _is_shutdown(self.shutdown),
            f"{where}shutdown",
            self.shutdown,
            "seconds >= 0, brutal_kill, infinity or None",
        )
        check(is_a(self.significant, bool), f"{where}significant", self.significant, "True or False")
        if self.significant:
            check(
                self.restart != "permanent",
                f"{where}restart",
                self.restart,
                "temporary or transient for a significant child",
            )
        check(
            self.backoff is None or is_a(self.backoff, Backoff),
            f"{where}backoff",
            self.backoff,
            "a Backoff or None",
        )


def _is_maker(actor: object) -> bool:
    return issubclass(actor, Actor) if isinstance(actor, type) else callable(actor)


def _is_shutdown(shutdown: object) -> bool:
    if isinstance(shutdown, bool):
        return False
    if isinstance(shutdown, (int, float)):
        return shutdown >= 0
    return shutdown in {None, "brutal_kill", "infinity"}


def check_specs(specs: Iterable[ChildSpec]) -> list[ChildSpec]:
    """The specs, if each is one and neither an id nor a name comes twice.

    Raises:
        BadSpec: otherwise.
    """
    checked = list(specs)
    ids: set[str] = set()
    names: set[Name] = set()
    for spec in checked:
        check(is_a(spec, ChildSpec), "a child's spec", spec, "a ChildSpec")
        check(spec.id not in ids, "id", spec.id, "unique under its supervisor")
        check(spec.name not in names, f"child {spec.id!r}: name", spec.name, "held by one child alone")
        ids.add(spec.id)
        if spec.name is not None:
            names.add(spec.name)
    return checked


class ChildInfo(msgspec.Struct, frozen=True):
    """What a supervisor tells of one child.

    Attributes:
        id: as in its spec.
        ref: this incarnation; None unless it runs.
        state: what it is doing.
        restarts: how often it was restarted since its spec was added.
        type: "worker" or "supervisor".
        restart: as in its spec.
        significant: as in its spec.
    """

    id: str
    ref: ActorRef | None
    state: ChildState
    restarts: int
    type: Literal["worker", "supervisor"]
    restart: Restart
    significant: bool


class ChildCounts(msgspec.Struct, frozen=True):
    """How many children a supervisor has.

    Attributes:
        specs: all, running or not.
        active: those that run.
        supervisors: those that are supervisors.
        workers: the others.
    """

    specs: int
    active: int
    supervisors: int
    workers: int


def _check_child(child: object, *kinds: type) -> None:
    check(isinstance(child, kinds), "child", child, "its id" if len(kinds) == 1 else "its id or its ref")


class StartChild(Call[ActorRef], frozen=True):
    """Adds a child and starts it. Answered when its ``init`` has returned; other messages are answered meanwhile.

    Refused with ``ChildExists``, ``TooManyChildren``, ``StartFailed`` or ``NameTaken`` (nothing is kept then), ``Ignored``.
    """

    spec: ChildSpec

    def __post_init__(self) -> None:
        check(is_a(self.spec, ChildSpec), "spec", self.spec, "a ChildSpec")


class TerminateChild(Call[None], frozen=True):
    """Stops a child, also one that is restarting. Its spec stays, unless it is temporary or the supervisor dynamic.

    Answered when it is gone. Refused with ``NoSuchChild``.
    """

    child: str | ActorRef

    def __post_init__(self) -> None:
        _check_child(self.child, str, ActorRef)


class RestartChild(Call[ActorRef], frozen=True):
    """Starts a child that is stopped. By hand, so it does not count against the intensity.

    Refused with ``NoSuchChild``, ``ChildRunning``, ``ChildRestarting``, or what its start raised; the spec stays.
    """

    child: str

    def __post_init__(self) -> None:
        _check_child(self.child, str)


class DeleteChild(Call[None], frozen=True):
    """Forgets a child that is stopped. Refused with ``NoSuchChild``, ``ChildRunning`` or ``ChildRestarting``."""

    child: str

    def __post_init__(self) -> None:
        _check_child(self.child, str)


class GetChildSpec(Call[ChildSpec], frozen=True, resend=True):
    """A child's spec. Refused with ``NoSuchChild``."""

    child: str | ActorRef

    def __post_init__(self) -> None:
        _check_child(self.child, str, ActorRef)


class WhichChildren(Call[tuple[ChildInfo, ...]], frozen=True, resend=True):
    """All children, newest first."""


class CountChildren(Call[ChildCounts], frozen=True, resend=True):
    """How many children there are, by kind."""


class ChildExists(Refused):
    """The id is in use. ``ref`` is the child that runs, or None if its spec is there and it does not."""

    def __init__(self, child: str, ref: ActorRef | None) -> None:
        super().__init__(child, ref)
        self.child = child
        self.ref = ref

    def __str__(self) -> str:
        return (
            f"child {self.child!r} is already {'present' if self.ref is None else f'started: {self.ref!r}'}"
        )


class NoSuchChild(Refused):
    """The supervisor has no such child."""


class ChildRunning(Refused):
    """The child runs; stop it first."""


class ChildRestarting(Refused):
    """The child is being restarted."""


class TooManyChildren(Refused):
    """The supervisor has as many children as it may."""


class Unsupported(Refused):
    """A dynamic supervisor keeps no spec of a child that does not run, so there is nothing to restart or delete."""
