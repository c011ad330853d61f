"""A place to run the command in."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.commands import Greenroom


@pytest.fixture
def greenroom(tmp_path: Path) -> Iterator[Greenroom]:
    with Greenroom(tmp_path) as made:
        yield made
