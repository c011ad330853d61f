"""The life of an embedded tree: its start, the watch over it, and an end at which everything is written."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from importlib.metadata import version
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from greenroom.actors import log
from greenroom.actors.call import again
from greenroom.actors.events import Event
from greenroom.actors.flow import Closed, RuntimeFailed
from greenroom.actors.kernel import ActorSystem, Clock
from greenroom.actors.ledger import Budgets
from greenroom.actors.settings import Settings
from greenroom.actors.storage import WriterStatistics
from greenroom.runtime.config import CONFIG_FILE, aliases_of, database_url, prices_folder
from greenroom.runtime.discovery import Chosen, Lister
from greenroom.runtime.job import Failure
from greenroom.supervisors.tree import Tree, start_tree

if TYPE_CHECKING:
    from greenroom.actors.storage import Database

_SETTLE_TIMEOUT_S = 5.0
# Looked up when imported: metadata lies in files, and the loop must not read any.
_VERSION = version("greenroom")


class Life:
    """What `Runtime` starts and ends; `system` and `failure` are there once it was started."""

    system: ActorSystem
    failure: Failure

    def __init__(self) -> None:
        self._tree: Tree | None = None

    async def start(
        self,
        stack: AsyncExitStack,
        settings: Settings,
        chosen: Chosen,
        *,
        clock: Clock | None,
        tell: Callable[[Event], None],
    ) -> None:
        """Start the tree, and have `stack` end it: calls first, then the actors, then what they wrote to.

        Raises:
            DatabaseUnusable: the database is another's, damaged, or cannot be made.
        """
        database = await anyio.to_thread.run_sync(_open_database, settings)
        stack.push_async_callback(_in_thread, database.close)
        self._database = database
        stack.push_async_callback(self._close_lines)
        self.system = await stack.enter_async_context(ActorSystem(clock=clock))
        stack.push_async_callback(self._give_up_calls)
        self.failure = asyncio.get_running_loop().create_future()
        self._tree = await start_tree(
            self.system,
            database=database,
            providers_in_use=chosen.providers,
            keys=chosen.keys,
            ask_models=Lister(chosen),
            aliases=aliases_of(settings, CONFIG_FILE),
            price_table=settings.prices,
            prices_folder=await anyio.to_thread.run_sync(prices_folder),
            retries=settings.retries,
            supervision=settings.supervision,
            session_limits=settings.sessions,
            budgets=Budgets(settings.budgets),
            tell=tell,
        )
        self._watching = asyncio.create_task(self._watch(self._tree))

    def running(self) -> Tree:
        """The tree.

        Raises:
            RuntimeError: it was not started yet, or has ended.
            RuntimeFailed: its root supervisor gave up.
        """
        if self._tree is None:
            raise RuntimeError("the runtime is not running: use it within `async with Runtime() as rt:`")
        if self.failure.done():
            raise again(self.failure.result())
        return self._tree

    def written(self) -> WriterStatistics | None:
        """What the database's writer has done; None once the database is closed. From any thread."""
        return self._database.statistics().writer

    def now_ms(self) -> int:
        return int(self.system.clock.time() * 1000)

    async def _watch(self, tree: Tree) -> None:
        """Tell everybody who waits when the tree is gone: no actor by name will answer any more."""
        down = await self.system.wait_down(tree.root)
        failure = RuntimeFailed(
            f"greenroom's actors failed more often than is borne ([supervision] in greenroom.toml), and its root "
            f"supervisor gave up ({down.reason}); the log tells what failed. What is stored is safe"
        )
        self.failure.set_result(failure)
        await tree.flow.aclose(failure)

    async def _give_up_calls(self) -> None:
        """End calls in flight, and see every settlement to the disk, within reason."""
        if self._tree is None:
            return
        self._watching.cancel()
        with anyio.move_on_after(_SETTLE_TIMEOUT_S, shield=True):
            await self._tree.flow.aclose()
            if not self.failure.done():
                await self._tree.outbox.wait_empty()

    async def _close_lines(self) -> None:
        tree, self._tree = self._tree, None
        if tree is not None:
            if not self.failure.done():
                self.failure.set_result(Closed("the runtime was left"))
            await tree.lines.aclose()


def _open_database(settings: Settings) -> "Database":
    from greenroom.actors.storage import Database

    log.prepare()
    database = Database(database_url(settings), app_version=_VERSION)
    database.open()
    return database


async def _in_thread(blocking: Callable[[], None]) -> None:
    await anyio.to_thread.run_sync(blocking)
