"""A runtime against an upstream, seen from inside: what is held, permitted, leased and not yet on disk."""

import asyncio
from collections.abc import Callable
from pathlib import Path

from msgspec import Struct

from greenroom.actors.events import Event
from greenroom.actors.kernel import ActorRef, ActorSystem
from greenroom.actors.ledger import GetSpend
from greenroom.actors.limiter import GetLimiterStatus
from greenroom.actors.pool import GetPoolStatus
from greenroom.actors.settings import (
    Limits,
    PriceSettings,
    ProviderSettings,
    Retries,
    Settings,
    Stalls,
    StorageSettings,
)
from greenroom.runtime import Runtime
from greenroom.supervisors.tree import Tree

PRICES = {"*": PriceSettings(input="0.15", output="0.60")}
"""Those that `tests.integration.evidence.exact_pusd` reckons with."""


class Granted(Struct, frozen=True, kw_only=True):
    """What calls have been given and have not given back."""

    in_flight: int = 0
    waiting: int = 0
    permits: int = 0
    leases: int = 0
    open_holds: int = 0
    held_pusd: int = 0
    unsaved: int = 0
    outbox_empty: bool = True


NOTHING = Granted()


def settings(
    base_url: str,
    directory: Path,
    *,
    limits: Limits | None = None,
    stalls: Stalls | None = None,
    retries: Retries | None = None,
) -> Settings:
    """Settings with one priced provider, `acme`, and a database of its own."""
    return Settings(
        providers={
            "acme": ProviderSettings(
                base_url=base_url,
                default_model="fast",
                prices=PRICES,
                limits=limits or Limits(),
                stalls=stalls or Stalls(),
            )
        },
        storage=StorageSettings(url=f"sqlite:///{database(directory)}"),
        retries=retries or Retries(attempts=3, backoff_base_s=0.001),
    )


def database(directory: Path) -> Path:
    return directory / "greenroom.db"


def tree(rt: Runtime) -> Tree:
    return rt._running()  # pyright: ignore[reportPrivateUsage] - what an embedding program cannot see


def system(rt: Runtime) -> ActorSystem:
    return rt._life.system  # pyright: ignore[reportPrivateUsage] - as above


def hear(rt: Runtime, tell: Callable[[Event], None]) -> Callable[[Event], None]:
    """Have what calls tell told to `tell`, and be given who was told so far."""
    flow = tree(rt).flow
    before = flow._tell  # pyright: ignore[reportPrivateUsage] - telemetry only counts
    flow._tell = flow._pursuit._tell = tell  # pyright: ignore[reportPrivateUsage] - as above
    return before


def named(rt: Runtime, name: str) -> ActorRef:
    return system(rt).named(name)


async def granted(rt: Runtime, provider: str = "acme") -> Granted:
    """What calls to that provider have and have not given back."""
    running = tree(rt)
    spend = await running.ledger.call(GetSpend())
    line = await running.lines.ensure(provider)
    limiter = await line.limiter.call(GetLimiterStatus())
    pool = await line.pool.call(GetPoolStatus())
    return Granted(
        in_flight=limiter.in_flight,
        waiting=limiter.waiting,
        permits=len(line.allowance.permits),
        leases=pool.leases,
        open_holds=spend.open_holds,
        held_pusd=spend.held_pusd,
        unsaved=spend.unsaved,
        outbox_empty=running.outbox.empty,
    )


async def given_back(rt: Runtime, provider: str = "acme") -> None:
    """Wait until nothing is granted any more and everything is on disk."""
    while await granted(rt, provider) != NOTHING:  # noqa: ASYNC110 - as `until`
        await asyncio.sleep(0)


async def until(happened: Callable[[], object]) -> None:
    """Wait for what has no event to offer."""
    while not happened():  # noqa: ASYNC110 - see above
        await asyncio.sleep(0)
