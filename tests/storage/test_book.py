"""Who has saved what: tags that come again, late, or in another order."""

import pytest

from greenroom.actors import Actor, ActorSystem
from greenroom.actors.storage import Save, StorageFailed
from greenroom.actors.storage.book import Book

pytestmark = pytest.mark.anyio


class Sender(Actor):
    pass


async def admitted(tags: list[int], failing: frozenset[int] = frozenset()) -> list[bool]:
    """For each tag, whether the writer was given the save itself."""
    async with ActorSystem() as system:
        book, sender = Book(), await system.start(Sender)
        found: list[bool] = []
        for tag in tags:
            save = Save((), sender, tag)
            job = book.admit(save)
            found.append(job is save)
            if tag in failing:
                book.refuse(save, StorageFailed("no"))
        return found


async def test_a_tag_that_was_passed_over_is_applied_when_it_comes() -> None:
    assert await admitted([1, 3, 2]) == [True, True, True]


async def test_a_tag_is_applied_once() -> None:
    assert await admitted([1, 2, 1, 2, 3]) == [True, True, False, False, True]
    assert await admitted([1, 3, 2, 2, 3, 1]) == [True, True, True, False, False, False]


async def test_a_tag_that_failed_is_applied_again() -> None:
    assert await admitted([1, 2, 2], failing=frozenset({2})) == [True, True, True]
