"""A store over a database in a folder of its own."""

from collections.abc import AsyncIterator
from pathlib import Path

import anyio.to_thread
import pytest

from greenroom.actors import ActorRef, ActorSystem
from greenroom.actors.storage import Database, Store


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ActorRef]:
    database = Database(f"sqlite:///{tmp_path / 'greenroom.db'}", app_version="1")
    async with ActorSystem() as system:
        yield await system.start(Store, database)
    await anyio.to_thread.run_sync(database.close)
