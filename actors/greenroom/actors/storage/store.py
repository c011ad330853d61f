"""The store: the only actor that writes to the database. It owns nothing: its `Database` outlives it."""

import asyncio
from typing import TYPE_CHECKING

import anyio.to_thread

from greenroom.actors.kernel import Actor, ReplyTo, handles
from greenroom.actors.storage.errors import StorageFailed
from greenroom.actors.storage.messages import (
    Commit,
    DatabaseStatistics,
    GetStorageStatistics,
    Introduce,
    Query,
    Save,
)
from greenroom.actors.storage.shapes import MAX_WAITING, Rows

if TYPE_CHECKING:
    from greenroom.actors.storage.database import Database


class Store(Actor):
    """Takes saves, commits and queries, and hands them to the database's threads.

    Nothing is lost when it dies: what it had handed over is committed and acknowledged all the same, and senders are
    asked to send again what was still in its mailbox.

    Args:
        database: opened by the first incarnation, adopted by the next. Whoever made it closes it.
    """

    capacity = MAX_WAITING  # a sender that is asked to send again casts all it has in one turn of the loop

    def __init__(self, database: "Database") -> None:
        self._database = database
        self._book = database.book
        # Looked up once: these two run for every row that greenroom writes.
        self._admit = database.book.admit
        self._submit = database.submit

    async def init(self) -> None:
        """Open the database, or adopt it, and ask everybody known for what may have been lost.

        Raises:
            DatabaseUnusable: it cannot be opened.
            StorageFailed: the disk is full, or failed.
        """
        if not self._database.is_open:
            await anyio.to_thread.run_sync(self._database.open)
        loop = asyncio.get_running_loop()
        # One wake-up of the loop per commit, however many saves it held.
        settle = self._book.settle
        self._database.attach(lambda group, failures: loop.call_soon_threadsafe(settle, group, failures))
        self._book.ask_again()

    @handles
    def introduce(self, message: Introduce) -> None:
        self._book.introduce(message.sender)

    @handles
    def save(self, message: Save) -> None:
        try:
            self._submit(self._admit(message))
        except StorageFailed as error:
            self._book.refuse(message, error)

    @handles
    def commit(self, message: Commit, reply_to: ReplyTo[None]) -> None:
        self._database.submit(self._book.admit_commit(message, reply_to))

    @handles
    def query(self, message: Query, reply_to: ReplyTo[Rows]) -> None:
        loop = asyncio.get_running_loop()
        self._database.query(
            message.statement,
            message.parameters,
            lambda rows, error: loop.call_soon_threadsafe(_answer, reply_to, rows, error),
        )

    @handles
    def statistics(self, message: GetStorageStatistics) -> DatabaseStatistics:
        return self._database.statistics()


def _answer(reply_to: ReplyTo[Rows], rows: Rows | None, error: StorageFailed | None) -> None:
    if error is not None:
        reply_to.refuse(error)
    else:
        reply_to.reply(rows or [])
