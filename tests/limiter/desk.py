"""A living limiter on a clock that stands still, and who was admitted when."""

import asyncio

from greenroom.actors.kernel import ActorRef, ActorSystem, FakeClock, settle
from greenroom.actors.limiter import (
    INTERACTIVE,
    Admit,
    Allowance,
    GetLimiterStatus,
    Limiter,
    LimiterStatus,
    Permit,
    Release,
)
from greenroom.actors.settings import Limits


class Desk:
    """A limiter, and who was admitted when, in order."""

    def __init__(self, system: ActorSystem, clock: FakeClock, ref: ActorRef, allowance: Allowance) -> None:
        self.system = system
        self.clock = clock
        self.ref = ref
        self.allowance = allowance
        self.granted: list[int] = []
        self.granted_at_s: list[float] = []
        self.asking: dict[int, asyncio.Task[Permit]] = {}

    def ask(
        self,
        ticket: int,
        tokens: int = 1,
        priority: int = INTERACTIVE,
        tenant: str = "",
        model: str = "",
        in_s: float | None = None,
    ) -> asyncio.Task[Permit]:
        deadline_s = None if in_s is None else self.clock.monotonic() + in_s
        admit = Admit(ticket, tokens, 0, model, tenant, priority, deadline_s)

        async def admitted() -> Permit:
            permit = await self.ref.call(admit, timeout=None)
            self.granted.append(permit.ticket)
            self.granted_at_s.append(self.clock.monotonic())
            return permit

        task = self.asking[len(self.asking)] = asyncio.get_running_loop().create_task(admitted())
        return task

    async def asks(
        self, *tickets: int, tokens: int = 1, priority: int = INTERACTIVE, tenant: str = "", model: str = ""
    ) -> list[int]:
        """All of them ask, in this order; who has been admitted by then."""
        for ticket in tickets:
            self.ask(ticket, tokens, priority, tenant, model)
        await settle()
        return self.granted

    async def release(self, *tickets: int) -> list[int]:
        for ticket in tickets:
            self.ref.cast(Release(ticket))
        await settle()
        return self.granted

    async def drain(self) -> list[int]:
        """Whoever was admitted is done, until nobody is left; who was admitted, in order."""
        done = 0
        while done < len(self.granted):
            await self.release(self.granted[done])
            done += 1
        return self.granted

    def refuse(self, ticket: int, wait_s: float | None) -> None:
        """The provider answers 429, and says how long to wait."""
        self.allowance.refused(ticket, "rate_limited", wait_s, self.clock.monotonic())

    async def advance(self, seconds: float) -> list[int]:
        await self.clock.advance(seconds)
        return self.granted

    async def status(self) -> LimiterStatus:
        return await self.ref.call(GetLimiterStatus())

    async def go_home(self) -> None:
        for task in self.asking.values():
            task.cancel()
        await asyncio.gather(*self.asking.values(), return_exceptions=True)


class Hall:
    """Opens desks in one system."""

    def __init__(self, system: ActorSystem, clock: FakeClock) -> None:
        self.system = system
        self.clock = clock
        self.desks: list[Desk] = []

    async def open(self, limits: Limits, allowance: Allowance | None = None) -> Desk:
        kept = allowance or Allowance(limits, self.clock.monotonic())
        ref = await self.system.start(Limiter, "acme", kept)
        desk = Desk(self.system, self.clock, ref, kept)
        self.desks.append(desk)
        return desk
