"""A place to run the command in, and whom it may ask."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.integration.commands import Greenroom, SimulatorProcess
from tests.integration.upstream import Upstream, UpstreamThread, answer_well


@pytest.fixture
def greenroom(tmp_path: Path) -> Iterator[Greenroom]:
    with Greenroom(tmp_path) as made:
        yield made


@pytest.fixture
def simulator(greenroom: Greenroom) -> SimulatorProcess:
    simulator = greenroom.simulate()
    greenroom.configure(simulator.base_url)
    return simulator


@pytest.fixture
def upstream(greenroom: Greenroom) -> Iterator[Upstream]:
    """A server that keeps what it was asked."""
    with UpstreamThread(answer_well) as upstream:
        greenroom.configure(upstream.base_url)
        yield upstream
