"""A supervised actor that crashes, is restarted, and goes on under its name."""

import asyncio

from greenroom.actors import Actor, ActorExited, ActorSystem, Call, handles
from greenroom.supervisors import ChildSpec, Supervisor


class Divide(Call[int], frozen=True):
    by: int


class GetCount(Call[int], frozen=True, resend=True):
    """How often it has divided; it may be asked twice, so it waits out a restart."""


class Divider(Actor):
    def __init__(self) -> None:
        self.count = 0

    @handles
    def divide(self, message: Divide) -> int:
        self.count += 1
        return 1000 // message.by

    @handles
    def get_count(self, message: GetCount) -> int:
        return self.count


async def main() -> None:
    async with ActorSystem() as system:
        await system.start(Supervisor, [ChildSpec("divider", Divider, name="divider")])
        divider = system.named("divider")
        print(await divider.call(Divide(10)), await divider.call(GetCount()))
        try:
            await divider.call(Divide(0))
        except ActorExited as exited:
            print(f"it crashed: {exited.reason}")
        print(await divider.call(GetCount()))


asyncio.run(main())
