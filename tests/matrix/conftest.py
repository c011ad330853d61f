"""One runtime for a whole file of questions: what one of them left behind, the next would meet."""

import pytest


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"
