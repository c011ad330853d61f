"""A dynamic supervisor that begins its children again when it is itself begun again.

OTP's forgets them: what was started on demand is gone with its supervisor, and whoever waits for such a child waits for
ever. Here the specs of the running children stand in a table that outlives the supervisor, because the tree owns it.
"""

from greenroom.actors.kernel import ActorRef, Call, ReplyTo, handles
from greenroom.supervisors.dynamic import DynamicSupervisor
from greenroom.supervisors.engine.child import Child
from greenroom.supervisors.spec import ChildExists, ChildSpec


class Keep(Call[ActorRef], frozen=True, resend=True):
    """Have a child: start it, or know that it is there. Waits out a restart of the branch.

    The spec must have a name, by which the child is found again after restarts. Answered when its `init` has returned;
    at once where the branch has the child already, in whatever state.

    Refused with `StartFailed` or `NameTaken`, where nothing is kept, or with `ChildExists` where another spec's child has
    the id.
    """

    spec: ChildSpec


class Branch(DynamicSupervisor):
    """Keeps children over its own restarts. A child that ends for good, or is stopped by hand, is forgotten.

    Args:
        kept: the specs of the children that run, by id; filled and read here, owned by whoever outlives this.
        intensity: as in `Supervisor`.
        period: as in `Supervisor`.
    """

    def __init__(self, kept: dict[str, ChildSpec], *, intensity: int, period: float) -> None:
        super().__init__(intensity=intensity, period=period)
        self._kept = kept

    async def init(self) -> None:
        """Begin again what ran under the last incarnation, once its orphans are gone and their names free."""
        for spec in tuple(self._kept.values()):
            orphan = None if spec.name is None else self.system.whereis(spec.name)
            if orphan is not None:
                await self.system.wait_down(orphan)
            self.children[spec.id] = child = Child(spec)
            self._begin(child, None)

    @handles
    def keep(self, message: Keep, reply_to: ReplyTo[ActorRef]) -> None:
        spec = message.spec
        assert spec.name is not None, f"child {spec.id!r} has no name to be found by"
        present = self.children.get(spec.id)
        if present is None:
            self.children[spec.id] = child = Child(spec)
            self._begin(child, reply_to)
        elif present.spec is spec:
            reply_to.reply(self.system.named(spec.name))
        else:
            raise ChildExists(spec.id, present.process)

    def _runs(self, child: Child) -> None:
        self._kept[child.spec.id] = child.spec
        super()._runs(child)

    def _start_refused(self, child: Child) -> None:
        super()._start_refused(child)
        self._kept.pop(child.spec.id, None)

    _unneeded = _stopped_by_hand = _start_refused
