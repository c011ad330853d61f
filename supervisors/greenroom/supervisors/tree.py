"""greenroom's own tree: whom it starts, in what order, and what outlives them.

root                 one_for_one: refs are by name, writes are idempotent, so nobody restarts for another's sake
  store              the only writer of the database
  catalog            models and prices
  ledger             the cost tracker
  providers          dynamic: a supervisor a provider, with its limiter and its pool
  batches            dynamic, transient: an actor a job
"""

import itertools
from collections.abc import Callable, Mapping

from msgspec import Struct

from greenroom.actors.catalog import Catalog
from greenroom.actors.events import Event
from greenroom.actors.flow import Flow
from greenroom.actors.kernel import ActorRef, ActorSystem
from greenroom.actors.ledger import Ledger, Outbox
from greenroom.actors.settings import ProviderSettings, Retries, Secret
from greenroom.actors.storage import TICKET_BITS, Database, Store
from greenroom.supervisors import batches, providers
from greenroom.supervisors.dynamic import DynamicSupervisor
from greenroom.supervisors.providers import Lines
from greenroom.supervisors.spec import ChildSpec
from greenroom.supervisors.supervisor import Supervisor

_INTENSITY = 10
_PERIOD_S = 5.0


class Tree(Struct, frozen=True):
    """The running tree, and what of it others use."""

    root: ActorRef
    store: ActorRef
    ledger: ActorRef
    flow: Flow
    outbox: Outbox
    lines: Lines


async def start_tree(
    system: ActorSystem,
    *,
    database: Database,
    providers_in_use: Mapping[str, ProviderSettings],
    keys: Mapping[str, Secret],
    retries: Retries,
    tell: Callable[[Event], None],
) -> Tree:
    """Start everything but the gateway, in order; each actor's `init` has returned when this does.

    Args:
        system: an open actor system; leaving it stops the tree in reverse order.
        database: opened already, which blocks and so belongs in a thread.
        providers_in_use: by name; their actors start when they are first spoken to.
        keys: the providers' keys.
        retries: the retry policy.
        tell: where events go; called on the loop, must not block.

    Raises:
        StartFailed: naming the child that did not start.
    """
    clock = system.clock
    store, ledger = system.named("store"), system.named("ledger")
    outbox = Outbox(ledger)
    lines = Lines(system, providers_in_use, keys)

    def now_ms() -> int:
        return int(clock.time() * 1000)

    dynamic = {"intensity": _INTENSITY, "period": _PERIOD_S}
    children = [
        ChildSpec("store", Store, args=(database,), name="store"),
        ChildSpec("catalog", Catalog, args=(providers_in_use,), name="catalog"),
        ChildSpec("ledger", Ledger, args=(store, outbox, database.runtime_id, now_ms, tell), name="ledger"),
        ChildSpec(providers.NAME, DynamicSupervisor, kwargs=dynamic, name=providers.NAME),
        ChildSpec(batches.NAME, DynamicSupervisor, kwargs=dynamic, name=batches.NAME),
    ]
    root = await system.start(Supervisor, children, intensity=_INTENSITY, period=_PERIOD_S, name="root")
    flow = Flow(
        catalog=system.named("catalog"),
        ledger=ledger,
        outbox=outbox,
        ensure=lines.ensure,
        next_ticket=itertools.count(database.runtime_id << TICKET_BITS | 1).__next__,
        clock=clock,
        retries=retries,
        tell=tell,
    )
    return Tree(root=root, store=store, ledger=ledger, flow=flow, outbox=outbox, lines=lines)
