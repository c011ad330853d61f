from collections.abc import AsyncIterator

import pytest
from tests.prices.host import Host


@pytest.fixture
async def host() -> AsyncIterator[Host]:
    found = Host()
    await found.server.start_server()
    yield found
    await found.server.close()
