"""Two runtimes on one PostgreSQL that talk in one session at once: one wins, the other is told, nothing is lost or doubled."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
import pytest
from tests.storage.test_postgres import server, url

from greenroom.actors.session import SessionConflict
from greenroom.actors.settings import StorageSettings
from greenroom.runtime import Runtime, Session
from greenroom.runtime.testing import Received, ScriptedProvider

__all__ = ("server", "url")  # fixtures

pytestmark = pytest.mark.anyio


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with ScriptedProvider(then=lambda asked: f"re {asked.prompt}") as provider:
        yield provider


@pytest.fixture
async def sessions(provider: ScriptedProvider, tmp_path: Path, url: str) -> AsyncIterator[list[Session]]:
    """One session, as each of two runtimes has it."""
    settings = msgspec.structs.replace(provider.settings(tmp_path), storage=StorageSettings(url=url))
    async with AsyncExitStack() as stack:
        runtimes = [await stack.enter_async_context(Runtime(settings, environ={})) for _ in range(2)]
        yield [await rt.session("user-42") for rt in runtimes]


async def test_one_wins_and_the_other_is_told(sessions: list[Session], provider: ScriptedProvider) -> None:
    both = asyncio.Barrier(2)

    async def together(asked: Received) -> str:
        await both.wait()
        return f"re {asked.prompt}"

    provider.say(together, together)
    told = await asyncio.gather(sessions[0].say("left"), sessions[1].say("right"), return_exceptions=True)
    assert [type(one) for one in told].count(SessionConflict) == 1
    winner = "right" if isinstance(told[0], SessionConflict) else "left"
    for session in sessions:
        assert [message.content for message in await session.history()] == [winner, f"re {winner}"]


async def test_who_is_told_says_it_again_and_nothing_is_lost_or_doubled(sessions: list[Session]) -> None:
    async def talk(session: Session, name: str) -> int:
        conflicts = 0
        for number in range(15):
            while True:
                try:
                    await session.say(f"{name}{number}")
                    break
                except SessionConflict:
                    conflicts += 1
        return conflicts

    conflicts = await asyncio.gather(talk(sessions[0], "left"), talk(sessions[1], "right"))
    assert sum(conflicts) > 0
    for session in sessions:
        history = [str(message.content) for message in await session.history()]
        assert [*history[1::2]] == [f"re {question}" for question in history[::2]]
        for name in ("left", "right"):
            mine = [question for question in history[::2] if question.startswith(name)]
            assert mine == [f"{name}{number}" for number in range(15)]
        assert len(history) == 60
