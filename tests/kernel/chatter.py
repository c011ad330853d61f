# pyright: reportUnknownMemberType=false
# (start takes what its actor takes, so what is handed to it has no declared type)
"""Senders that send everything to everybody, at random but the same for the same seed, and actors that answer in every way."""

import asyncio
import random
from typing import Any

from greenroom.actors import (
    Actor,
    ActorExited,
    ActorRef,
    ActorSystem,
    Call,
    Cast,
    ExitReason,
    FakeClock,
    Overloaded,
    Refused,
    ReplyTo,
    handles,
)


class Asked(Call[tuple[int, int]], frozen=True):
    sender: int
    number: int


class AskedSlowly(Asked, frozen=True):
    pass


class AskedForLater(Asked, frozen=True):
    pass


class AskedSlowlyForLater(Asked, frozen=True):
    pass


class Told(Cast, frozen=True):
    sender: int
    number: int


class ToldSlowly(Told, frozen=True):
    pass


KINDS: tuple[type[Asked | Told], ...] = (
    Asked,
    Asked,
    AskedSlowly,
    AskedSlowly,
    AskedForLater,
    AskedSlowlyForLater,
    Told,
    ToldSlowly,
)


class No(Refused):
    pass


class Scene:
    """What all share: the dice, the clock, and what was handled by whom."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.clock = FakeClock()
        self.handled: list[tuple[ActorRef, int, int]] = []


class Talker(Actor):
    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self.at_work = False
        self.kept: list[tuple[ReplyTo[tuple[int, int]], Asked]] = []

    def note(self, message: Asked | Told) -> None:
        assert not self.at_work, "two handlers overlap"
        self.scene.handled.append((self.ref, message.sender, message.number))

    def whim(self) -> None:
        """Refuse, fail, wait for silence, come first, or stop."""
        chance = self.scene.dice.random()
        if chance < 0.03:
            raise No("on a whim")
        if chance < 0.035:
            raise ValueError("on a whim")
        if chance < 0.05:
            self.set_timeout(self.scene.dice.random())
        elif chance < 0.06:
            self.continue_with("first")
        elif chance < 0.065:
            self.stop()

    async def work(self) -> None:
        self.at_work = True
        try:
            if self.scene.dice.random() < 0.5:
                await asyncio.sleep(0)
            if self.scene.dice.random() < 0.1:
                await self.scene.clock.sleep(self.scene.dice.random())
        finally:
            self.at_work = False

    @handles
    def asked(self, message: Asked) -> tuple[int, int]:
        self.note(message)
        self.whim()
        return message.sender, message.number

    @handles
    async def asked_slowly(self, message: AskedSlowly) -> tuple[int, int]:
        self.note(message)
        await self.work()
        self.whim()
        return message.sender, message.number

    @handles
    def asked_for_later(self, message: AskedForLater, reply_to: ReplyTo[tuple[int, int]]) -> None:
        self.note(message)
        self.whim()
        match self.scene.dice.randrange(4):
            case 0:
                reply_to.reply((message.sender, message.number))
            case 1:
                reply_to.refuse(No("later"))
            case 2:
                self.kept.append((reply_to, message))
            case _:
                pass  # never answered

    @handles
    async def asked_slowly_for_later(
        self, message: AskedSlowlyForLater, reply_to: ReplyTo[tuple[int, int]]
    ) -> None:
        self.note(message)
        await self.work()
        self.kept.append((reply_to, message))

    @handles
    def told(self, message: Told) -> None:
        self.note(message)
        while self.kept:
            reply_to, asked = self.kept.pop()
            reply_to.reply((asked.sender, asked.number))
        self.whim()

    @handles
    async def told_slowly(self, message: ToldSlowly) -> None:
        self.note(message)
        await self.work()
        self.whim()

    async def handle_info(self, message: object) -> None:
        assert not self.at_work, "two handlers overlap"


class Farewell(Talker):
    async def terminate(self, reason: ExitReason) -> None:
        await asyncio.sleep(0)


class Forgetful(Talker):
    capacity = 5
    overflow = "drop_oldest"


async def start_talker(system: ActorSystem, scene: Scene) -> ActorRef:
    kind = scene.dice.choice([Talker, Farewell, Forgetful])
    return await system.start(kind, scene, capacity=scene.dice.choice([3, 50, None]))


async def send(system: ActorSystem, scene: Scene, refs: list[ActorRef], sender: int, count: int) -> None:
    """Send `count` messages of whatever kind to whomever. Each reply must be the one to its message."""
    dice = scene.dice
    for number in range(count):
        ref, message = dice.choice(refs), dice.choice(KINDS)(sender, number)
        try:
            if isinstance(message, Told):
                if dice.random() < 0.3:
                    await ref.send(message)
                else:
                    ref.cast(message)
            else:
                assert await _ask(system, dice, ref, message) in {None, (sender, number)}
        except (No, Overloaded, ActorExited, TimeoutError):
            pass
        if dice.random() < 0.3:
            await asyncio.sleep(0)


async def _ask(system: ActorSystem, dice: random.Random, ref: ActorRef, message: Asked) -> Any:
    """The reply; None if it was given up."""
    if dice.random() < 0.2:
        request = system.request(ref, message, timeout=dice.choice([None, 1.0]))
        if dice.random() < 0.5:
            request.abandon()
            return None
        return await request.wait(dice.choice([None, 0.5]))
    call = asyncio.create_task(ref.call(message, timeout=dice.choice([0, 1.0, 2.0, 5.0, None])))
    if dice.random() < 0.15:
        await asyncio.sleep(0)
        call.cancel()
    await asyncio.wait([call])
    return None if call.cancelled() else call.result()


async def disturb(system: ActorSystem, scene: Scene, refs: list[ActorRef], count: int) -> None:
    """Suspend, kill, trace and look into the actors; who has ended gets a successor."""
    for _ in range(count):
        await asyncio.sleep(0)
        index = scene.dice.randrange(len(refs))
        ref = refs[index]
        try:
            match scene.dice.randrange(12):
                case 0 | 1:
                    await system.suspend(ref)
                    await asyncio.sleep(0)
                    await system.resume(ref)
                case 2:
                    system.kill(ref)
                case 3:
                    await system.trace(ref, scene.dice.randrange(3))
                case 4:
                    await system.get_state(ref)
                case _:
                    pass
        except ActorExited:
            pass
        if not ref.alive:
            refs[index] = await start_talker(system, scene)
