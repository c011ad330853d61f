"""Supervised puppets, for the supervisor's conformance tests."""

from typing import Any, Literal

from tests.conformance.players import Puppet, inside

from greenroom.actors import ActorRef, ActorSystem, Call, ExitReason, settle
from greenroom.supervisors import ChildInfo, ChildSpec, DeleteChild, RestartChild, Supervisor, WhichChildren

Restart = Literal["permanent", "transient", "temporary"]


def puppet(id_: str, journal: list[Any] | None = None, **options: Any) -> ChildSpec:
    """A spec of a puppet labelled as its id. Options of `ChildSpec`; others go to the puppet."""
    fields = {name: options.pop(name) for name in ChildSpec.__struct_fields__ if name in options}
    return ChildSpec(id_, Puppet, args=(id_, journal), kwargs=options, **fields)


async def infos(supervisor: ActorRef) -> dict[str, ChildInfo]:
    """The children by id, oldest first."""
    children = await supervisor.call(WhichChildren())
    return {info.id: info for info in reversed(children)}


async def refs(supervisor: ActorRef) -> dict[str, ActorRef]:
    """The running children by id."""
    return {id_: info.ref for id_, info in (await infos(supervisor)).items() if info.ref is not None}


def renewed(before: dict[str, ActorRef], after: dict[str, ActorRef]) -> dict[str, str]:
    """Which children are the same incarnation as before, and which are new."""
    return {id_: "same" if ref is before[id_] else "new" for id_, ref in after.items()}


async def end(system: ActorSystem, child: ActorRef) -> None:
    """Kill a child, and wait until everybody has drawn the consequences."""
    system.kill(child)
    await settle()


async def supervise(system: ActorSystem, *specs: ChildSpec, **options: Any) -> ActorRef:
    """A supervisor that runs."""
    return await system.start(Supervisor, list(specs), **options)


async def leave(ref: ActorRef, reason: ExitReason) -> None:
    """Let a puppet end by itself."""
    await inside(ref, lambda child: child.stop(reason))
    await settle()


def by_hand(child: str) -> tuple[Call[Any], ...]:
    """What wants a child that is stopped."""
    return RestartChild(child), DeleteChild(child)
