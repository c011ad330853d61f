"""One supervisor, several children alike, and a rule that finds the one for a key."""

from collections.abc import Callable, Hashable

import msgspec

from greenroom.actors.kernel import ActorRef, ActorSystem, Call, Refused, ReplyTo, handles
from greenroom.supervisors.engine.checks import check_count, check_text
from greenroom.supervisors.spec import ChildSpec
from greenroom.supervisors.supervisor import Supervisor


class ResizePartitions(Call[int], frozen=True):
    """Stops partitions, highest first, or starts them again, until ``partitions`` run; never more than there were at first.

    Answered, with how many run, when those to be stopped are gone. What a partition knows is lost with it, and keys move.
    """

    partitions: int

    def __post_init__(self) -> None:
        check_count(self.partitions, "partitions")


class CountPartitions(Call[int], frozen=True, resend=True):
    """How many partitions keys are spread over now."""


class NoPartitions(Refused):
    """Nobody can be found for a key: all partitions are stopped."""


class PartitionSupervisor(Supervisor):
    """Starts ``partitions`` children of one spec, named ``<name>:0``, ``<name>:1`` and so on.

    Args:
        name: what the partitions' names begin with.
        spec: of each of them; its ``id`` and ``name`` are replaced.
        partitions: how many.
        with_args: makes the arguments of partition number ``n``; those of ``spec`` unless given.
        intensity: as in ``Supervisor``.
        period: as in ``Supervisor``.
    """

    def __init__(
        self,
        name: str,
        spec: ChildSpec,
        partitions: int,
        *,
        with_args: Callable[[int], tuple[object, ...]] | None = None,
        intensity: int = 3,
        period: float = 5.0,
    ) -> None:
        check_text(name, "name")
        check_count(partitions, "partitions", least=1)
        self._most = self._partitions = partitions
        specs = [
            msgspec.structs.replace(
                spec,
                id=str(number),
                name=partition_name(name, number),
                args=spec.args if with_args is None else with_args(number),
            )
            for number in range(partitions)
        ]
        super().__init__(specs, intensity=intensity, period=period)

    @handles
    def count_partitions(self, message: CountPartitions) -> int:
        return self._partitions

    @handles
    def resize(self, message: ResizePartitions, reply_to: ReplyTo[int]) -> None:
        self._partitions = min(message.partitions, self._most)
        self.pipe_to_self(self._fit(reply_to))

    async def _fit(self, reply_to: ReplyTo[int]) -> None:
        """Stops who is not wanted and starts who is, also if more are wanted, or fewer, by the time it comes to them."""
        for number in reversed(range(self._most)):
            child = self.children.get(str(number))
            if child is not None and number >= self._partitions:
                await self._stop(child)
        for number in range(self._partitions):
            child = self.children.get(str(number))
            if child is not None and child.state == "stopped":
                self._begin(child, None)
        reply_to.reply(self._partitions)


def partition_name(name: str, number: int) -> str:
    """What partition ``number`` is called."""
    return f"{name}:{number}"


class Partitions:
    """Finds the partition for a key: the same one for the same key, as long as their number stays.

    Args:
        system: where they live.
        name: as given to ``PartitionSupervisor``.
        partitions: how many keys are spread over; follow a resize with ``resized``.
    """

    def __init__(self, system: ActorSystem, name: str, partitions: int) -> None:
        self._system = system
        self._name = name
        self._partitions = partitions

    def resized(self, partitions: int) -> None:
        """Spreads keys over ``partitions`` from now on."""
        self._partitions = partitions

    def ref(self, key: Hashable) -> ActorRef:
        """The partition for ``key``, by name.

        Raises:
            NoPartitions: there is none.
        """
        if self._partitions < 1:
            raise NoPartitions(f"{self._name!r} has no partitions")
        return self._system.named(partition_name(self._name, hash(key) % self._partitions))
