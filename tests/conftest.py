"""What every test shares: one backend, and a guard that fails a test whose code blocks the loop."""

from collections.abc import Iterator

import pytest
from blockbuster import BlockBuster


@pytest.fixture
def anyio_backend() -> str:
    """The runtime is asyncio's (aiohttp needs it); anyio works inside handlers and at the edges."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_blocking_calls() -> Iterator[None]:
    """Fail any blocking call (file, socket, sleep, lock) that greenroom's own code makes on the loop."""
    guard = BlockBuster("greenroom")
    guard.activate()
    yield
    guard.deactivate()
