"""`greenroom sessions`: what people and programs see of the conversations that are kept."""

import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from tests.integration.commands import Greenroom

from greenroom.actors.settings import Settings, StorageSettings
from greenroom.runtime import Runtime
from greenroom.runtime.testing import ScriptedProvider


async def _talk(directory: Path) -> None:
    async with (
        ScriptedProvider("Hello Ada.", "You are Ada.", "Still Ada.") as provider,
        Runtime(provider.settings(directory), environ={}) as rt,
    ):
        session = await rt.session("user-42", system="Be brief.")
        await session.say("My name is Ada.")
        await session.checkpoint("named")
        await session.say("Who am I?")
        await session.say("And now?")
        await rt.session("silent")


@pytest.fixture
def talked(greenroom: Greenroom, tmp_path: Path) -> Greenroom:
    """A database in which something was said."""
    asyncio.run(_talk(tmp_path))
    greenroom.write("greenroom.toml", f'[storage]\nurl = "sqlite:///{tmp_path / "greenroom.db"}"\n')
    return greenroom


def test_lists_them(talked: Greenroom) -> None:
    table = talked.run("sessions", "list")
    assert table.code == 0, table.err
    assert "user-42" in table.out
    assert "silent" in table.out
    lines = [json.loads(line) for line in talked.run("sessions", "list", "--json").out.splitlines()]
    assert [(line["name"], line["turns"]) for line in lines] == [("silent", 0), ("user-42", 3)]


def test_shows_what_was_said(talked: Greenroom) -> None:
    done = talked.run("sessions", "show", "user-42")
    assert done.code == 0, done.err
    told = [line for line in done.out.splitlines() if line.startswith(("system", "user", "assistant"))]
    assert told == [
        "system: Be brief.",
        "user: My name is Ada.",
        "assistant: Hello Ada.",
        "user: Who am I?",
        "assistant: You are Ada.",
        "user: And now?",
        "assistant: Still Ada.",
    ]
    assert "<- named" in done.out
    assert "And now?" not in talked.run("sessions", "show", "user-42", "--at", "2").out
    assert "Who am I?" not in talked.run("sessions", "show", "user-42", "--at", "named").out


def test_what_is_exported_can_be_imported(talked: Greenroom) -> None:
    document = talked.run("sessions", "export", "user-42")
    talked.write("user-42.json", document.out)
    done = talked.run("sessions", "import", "user-42.json", "--name", "copy")
    assert (done.code, done.err) == (0, "session copy has 3 turns\n")
    copy = json.loads(talked.run("sessions", "export", "copy").out)
    before = json.loads(document.out)
    assert [turn["messages"] for turn in copy["turns"]] == [turn["messages"] for turn in before["turns"]]
    assert copy["checkpoints"] == before["checkpoints"] == {"named": 1}
    again = talked.run("sessions", "import", "user-42.json")
    assert again.code == 2
    assert "there is a session 'user-42' already" in again.err


def test_branches(talked: Greenroom) -> None:
    assert talked.run("sessions", "branch", "user-42", "other", "--at", "named").code == 0
    assert len(json.loads(talked.run("sessions", "export", "other").out)["turns"]) == 1


def test_deletes_when_told_so(talked: Greenroom) -> None:
    asked = talked.run("sessions", "delete", "user-42")
    assert asked.code == 1
    assert "for good?" in asked.err
    assert talked.run("sessions", "delete", "user-42", "--yes").code == 0
    gone = talked.run("sessions", "show", "user-42")
    assert gone.code == 2
    assert "there is no session 'user-42'" in gone.err


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("show", "nobody"), "there is no session 'nobody'; greenroom sessions list shows"),
        (("show", "user-42", "--at", "nowhere"), "no checkpoint 'nowhere'; there are: named"),
        (("show", "user-42", "--at", "99"), "has no turn 99"),
        (("delete", "nobody", "--yes"), "there is no session 'nobody'"),
        (("import", "missing.json"), "missing.json: No such file or directory"),
        (("import", "greenroom.toml"), "is no exported session"),
        (("branch", "user-42", "silent"), "there is a session 'silent' already"),
        (("branch", "user-42", " x"), "a session's name is"),
    ],
)
def test_says_what_is_wrong(talked: Greenroom, command: tuple[str, ...], said: str) -> None:
    done = talked.run("sessions", *command)
    assert done.code == 2
    assert said in done.err


def test_there_are_none_before_the_first(greenroom: Greenroom) -> None:
    done = greenroom.run("sessions", "list")
    assert (done.code, done.out) == (0, "")
    assert "no sessions yet" in done.err
    assert not greenroom.database.exists()


def test_reading_goes_on_while_another_process_talks(talked: Greenroom, tmp_path: Path) -> None:
    async def beside() -> str:
        url = f"sqlite:///{tmp_path / 'greenroom.db'}"
        async with Runtime(Settings(storage=StorageSettings(url=url), discover_local=False), environ={}):
            return (await asyncio.to_thread(talked.run, "sessions", "list")).out

    assert "user-42" in asyncio.run(beside())


def test_what_cannot_be_read_is_told_without_a_traceback(talked: Greenroom, tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "greenroom.db")) as database, database:
        database.execute("UPDATE sessions SET settings = '{\"future\": 1}' WHERE id = 'silent'")
    for command in (("list",), ("show", "silent")):
        done = talked.run("sessions", *command)
        assert (done.code, "Traceback" in done.err) == (2, False), done.err
        assert "session 'silent' are of another version" in " ".join(done.err.split())
    huge = talked.run("sessions", "show", "user-42", "--at", "9" * 30)
    assert (huge.code, "Traceback" in huge.err) == (2, False), huge.err
    assert "has no turn 999" in huge.err
