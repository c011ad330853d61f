"""greenroom's own tree: whom it starts, in what order, and what outlives them.

root                 one_for_one: refs are by name, writes are idempotent, so nobody restarts for another's sake
  store              the only writer of the database
  catalog            models and prices
  prices             renews the published prices, where the configuration asks for it
  ledger             the cost tracker
  providers          dynamic: a supervisor a provider, with its limiter and its pool
  sessions           dynamic, transient: an actor a session that is awake
  batches            dynamic, transient: an actor a job

The three dynamic branches begin their children again when they are themselves begun again, see `branch`. When the root
gives up, nothing is left to restart anything: whoever started the tree watches for that (`system.wait_down(tree.root)`).
"""

import itertools
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from greenroom.actors.catalog import Alias, Ask, Catalog, Records
from greenroom.actors.events import Event
from greenroom.actors.flow import Flow
from greenroom.actors.kernel import ActorRef, ActorSystem
from greenroom.actors.ledger import Budgets, Ledger, Outbox
from greenroom.actors.prices import PriceTable
from greenroom.actors.prices.keeper import PriceKeeper
from greenroom.actors.settings import (
    PriceTableSettings,
    ProviderSettings,
    Retries,
    Secret,
    SessionLimits,
    Supervision,
)
from greenroom.actors.storage import TICKET_BITS, Store
from greenroom.supervisors.batches import Jobs
from greenroom.supervisors.providers import Lines
from greenroom.supervisors.sessions import Sessions
from greenroom.supervisors.spec import ChildSpec
from greenroom.supervisors.supervisor import Supervisor

if TYPE_CHECKING:
    from greenroom.actors.storage import Database


class Tree(Struct, frozen=True):
    """The running tree, and what of it others use."""

    root: ActorRef
    store: ActorRef
    ledger: ActorRef
    flow: Flow
    outbox: Outbox
    lines: Lines
    jobs: Jobs
    sessions: Sessions
    catalog: ActorRef
    next_ticket: Callable[[], int]


async def start_tree(
    system: ActorSystem,
    *,
    database: "Database",
    providers_in_use: Mapping[str, ProviderSettings],
    keys: Mapping[str, Secret],
    ask_models: Ask,
    aliases: Mapping[str, Alias],
    price_table: PriceTableSettings,
    prices_folder: Path,
    retries: Retries,
    supervision: Supervision,
    session_limits: SessionLimits,
    budgets: Budgets,
    tell: Callable[[Event], None],
) -> Tree:
    """Start everything but the gateway, in order; each actor's `init` has returned when this does.

    Args:
        system: an open actor system; leaving it stops the tree in reverse order.
        database: opened already, which blocks and so belongs in a thread.
        providers_in_use: by name; their actors start when they are first spoken to.
        keys: the providers' keys.
        ask_models: asks a provider for its models.
        aliases: names of the user's own for models.
        price_table: whether and whence published prices are renewed.
        prices_folder: where those are that were fetched.
        retries: the retry policy.
        supervision: how many restarts each supervisor bears.
        session_limits: how long sessions stay awake, and how many.
        budgets: what may be spent.
        tell: where events go; called on the loop, must not block.

    Raises:
        StartFailed: naming the child that did not start.
    """
    clock = system.clock
    store, ledger = system.named("store"), system.named("ledger")
    outbox = Outbox()
    lines = Lines(system, providers_in_use, keys, supervision, tell)
    jobs = Jobs(system, supervision)

    def now_ms() -> int:
        return int(clock.time() * 1000)

    sessions = Sessions(system, session_limits, supervision, now_ms)
    next_ticket = itertools.count(database.runtime_id << TICKET_BITS | 1).__next__
    children = [
        ChildSpec("store", Store, args=(database,), name="store"),
        ChildSpec(
            "catalog",
            Catalog,
            args=(providers_in_use, Records(), ask_models, aliases),
            kwargs={
                "is_broken": lines.is_broken,
                "load_prices": partial(PriceTable.load, prices_folder),
            },
            name="catalog",
        ),
        ChildSpec(
            "ledger",
            Ledger,
            args=(store, outbox, database.runtime_id, now_ms, tell, budgets.bind),
            name="ledger",
        ),
        lines.branch(),
        sessions.branch(),
        jobs.branch(),
    ]
    if price_table.refresh == "daily":
        keeper = (system.named("catalog"), prices_folder, price_table.url)
        children.insert(2, ChildSpec("prices", PriceKeeper, args=keeper))
    root = await system.start(
        Supervisor, children, intensity=supervision.intensity, period=supervision.period_s, name="root"
    )
    flow = Flow(
        catalog=system.named("catalog"),
        ledger=ledger,
        outbox=outbox,
        ensure=lines.ensure,
        next_ticket=next_ticket,
        clock=clock,
        retries=retries,
        tell=tell,
        budgets=budgets,
    )
    return Tree(
        root=root,
        store=store,
        ledger=ledger,
        flow=flow,
        outbox=outbox,
        lines=lines,
        jobs=jobs,
        sessions=sessions,
        catalog=system.named("catalog"),
        next_ticket=next_ticket,
    )
