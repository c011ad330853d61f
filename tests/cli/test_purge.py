"""`greenroom purge`: what is old goes, what is not stays, and what it spent is still counted."""

import sqlite3
from contextlib import closing

import pytest
from tests.integration.commands import Greenroom

DAY_MS = 86_400_000


@pytest.fixture
def used(greenroom: Greenroom) -> Greenroom:
    """A database with a job that is done, and two sessions."""
    simulator = greenroom.simulate()
    greenroom.configure(simulator.base_url)
    greenroom.prompts(3)
    assert greenroom.run("run", "in.jsonl").code == 0
    for name in ("old", "new"):
        greenroom.write(f"{name}.json", f'{{"name": "{name}", "settings": {{}}, "turns": [{TURN}]}}')
        assert greenroom.run("sessions", "import", f"{name}.json").code == 0
    return greenroom


TURN = '{"messages": [{"role": "user", "content": "hello"}], "created_at_ms": 1, "seq": 1}'


def age(greenroom: Greenroom, table: str, days: int, where: str = "TRUE") -> None:
    with closing(sqlite3.connect(greenroom.database)) as connection, connection:
        connection.execute(
            f"UPDATE {table} SET updated_at_ms = updated_at_ms - ? WHERE {where}",  # noqa: S608 - constants of this test
            (days * DAY_MS,),
        )


def rows(greenroom: Greenroom, table: str) -> int:
    with closing(sqlite3.connect(greenroom.database)) as connection:
        (count,) = connection.execute(f"SELECT count(*) FROM {table}").fetchone()  # noqa: S608 - as above
        return int(count)


def test_what_is_old_goes_and_the_rest_stays(used: Greenroom) -> None:
    age(used, "sessions", 10, "id = 'old'")
    age(used, "jobs", 10)
    would = used.run("purge", "--sessions", 9, "--jobs", 11, "--dry-run")
    assert (would.code, would.err) == (0, "1 sessions and 0 jobs would go\n")
    assert (rows(used, "sessions"), rows(used, "turns"), rows(used, "jobs")) == (2, 2, 1)
    asked = used.run("purge", "--sessions", 9, "--jobs", 9)
    assert asked.code == 1
    assert "Remove 1 sessions and 1 jobs for good?" in asked.err
    done = used.run("purge", "--sessions", 9, "--jobs", 9, "--json")
    assert done.json == {"sessions": 1, "jobs": 1}
    assert [rows(used, table) for table in ("sessions", "turns", "jobs", "items")] == [1, 1, 0, 0]
    assert rows(used, "attempts") == 3
    assert used.run("sessions", "show", "new").code == 0


def test_how_old_may_stand_in_the_configuration(used: Greenroom) -> None:
    age(used, "sessions", 10)
    toml = (used.folder / "greenroom.toml").read_text()
    used.write("greenroom.toml", f"{toml}\n[retention]\nsessions_days = 9\n")
    assert used.run("purge", "--json").json == {"sessions": 2, "jobs": 0}
    assert (rows(used, "sessions"), rows(used, "jobs")) == (0, 1)


def test_a_job_that_can_be_gone_on_with_is_kept(used: Greenroom) -> None:
    with closing(sqlite3.connect(used.database)) as connection, connection:
        connection.execute("UPDATE jobs SET state = 'running'")
    age(used, "jobs", 100)
    assert used.run("purge", "--jobs", 9, "--json").json == {"sessions": 0, "jobs": 0}


def test_without_an_age_it_says_how_to_give_one(greenroom: Greenroom) -> None:
    done = greenroom.run("purge")
    assert done.code == 2
    assert "--sessions DAYS" in done.err
