"""Specs: what is wrong with one is said, field by field, before anything starts."""

import math
from typing import Any

import pytest
from tests.conformance.players import Plain

from greenroom.actors import ActorSystem, StartFailed
from greenroom.supervisors import (
    Backoff,
    BadSpec,
    ChildSpec,
    DeleteChild,
    GetChildSpec,
    ResizePartitions,
    RestartChild,
    StartChild,
    Supervisor,
    TerminateChild,
)


@pytest.mark.parametrize("field", ["first_s", "factor", "max_s", "jitter", "reset_after_s"])
@pytest.mark.parametrize("value", ["1", None, True, math.nan, -1])
def test_each_bad_field_of_a_backoff_has_its_own_error(field: str, value: object) -> None:
    make: Any = Backoff
    with pytest.raises(BadSpec, match=f"backoff.{field} is "):
        make(**{field: value})


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (StartChild, "spec"),
        (TerminateChild, "child"),
        (RestartChild, "child"),
        (DeleteChild, "child"),
        (GetChildSpec, "child"),
        (ResizePartitions, "partitions"),
    ],
)
@pytest.mark.parametrize("value", [None, 1.5, ["a"], {"id": "a"}])
def test_a_message_that_would_end_the_supervisor_cannot_be_made(
    message: Any, field: str, value: object
) -> None:
    with pytest.raises(BadSpec, match=f"{field} is "):
        message(value)


@pytest.mark.anyio
async def test_two_children_of_one_name_are_refused_before_anything_starts(system: ActorSystem) -> None:
    specs = [ChildSpec("a", Plain, name="same"), ChildSpec("b", Plain, name="same")]
    with pytest.raises(StartFailed, match="child 'b': name is 'same'"):
        await system.start(Supervisor, specs)
    assert system.statistics().started == 0
