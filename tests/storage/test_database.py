"""Opening, owning and closing a database."""

import os
import sqlite3
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from tests.storage.rows import WAIT_S, Outcomes, Task, holds, on_disk, tickets_on_disk

from greenroom.actors.storage import (
    Database,
    DatabaseCorrupt,
    DatabaseMissing,
    DatabaseNewer,
    DatabaseOwned,
    DatabaseUnusable,
    StorageClosed,
    StorageFailed,
    open_read_only,
)


def opened(path: Path, **options: int) -> Database:
    database = Database(f"sqlite:///{path}", app_version="1.2.3")
    database.open()
    return database


def test_opening_makes_folder_and_file_for_this_user_only(database: Database, path: Path) -> None:
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    outcomes = Outcomes(database)
    database.submit(Task((holds(1),)))
    assert outcomes.of(1) == [None]
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


def test_each_opening_is_a_runtime_and_closing_notes_its_end(path: Path) -> None:
    times = iter(range(1000, 9000, 1000))
    uuids: list[str] = []
    for number in (1, 2):
        database = Database(f"sqlite:///{path}", app_version="1.2.3", now_ms=lambda: next(times))
        database.open()
        assert database.runtime_id == number
        uuids.append(database.runtime_uuid)
        database.close()
    rows = on_disk(path, "SELECT uuid, started_at_ms, ended_at_ms, version, pid FROM runtimes ORDER BY id")
    assert rows == [
        (uuids[0], 1000, 2000, "1.2.3", os.getpid()),
        (uuids[1], 3000, 4000, "1.2.3", os.getpid()),
    ]
    assert uuids[0] != uuids[1]


def test_runtime_ids_are_never_given_twice(path: Path) -> None:
    opened(path).close()
    opened(path).close()
    with sqlite3.connect(path) as other:
        other.execute("DELETE FROM runtimes")
    other.close()
    database = opened(path)
    assert database.runtime_id == 3
    database.close()


def test_open_twice_is_open_once_and_close_twice_is_harmless(path: Path) -> None:
    database = opened(path)
    identity = database.runtime_id
    database.open()
    assert database.runtime_id == identity
    assert database.statistics().state == "open"
    database.close()
    database.close()
    assert database.statistics().state == "closed"
    with pytest.raises(StorageClosed):
        database.open()


def test_before_opening_and_after_closing_nothing_is_taken(path: Path) -> None:
    database = Database(f"sqlite:///{path}", app_version="1")

    def refuses() -> None:
        with pytest.raises(StorageClosed):
            database.submit(Task((holds(1),)))
        with pytest.raises(StorageClosed):
            _ = database.runtime_id

    refuses()
    database.open()
    database.close()
    refuses()


def test_closing_writes_the_log_back_into_the_file(path: Path) -> None:
    database = opened(path)
    outcomes = Outcomes(database)
    database.submit(Task((holds(1, 2, 3),)))
    assert outcomes.of(1) == [None]
    with open_read_only(f"sqlite:///{path}"):
        database.close()
        log = path.with_name(path.name + "-wal")
        assert log.stat().st_size == 0
    assert tickets_on_disk(path) == [1, 2, 3]
    assert not path.with_name(path.name + ".owner").exists()


def test_closing_gives_up_on_a_disk_that_hangs_and_keeps_the_lock(path: Path) -> None:
    database = opened(path)
    hang, hung = threading.Event(), threading.Event()

    def wait() -> None:
        hung.set()
        assert hang.wait(WAIT_S)

    database.submit(Task(then=wait))
    assert hung.wait(WAIT_S)
    with pytest.raises(StorageFailed, match=r"did not take everything within 0\.01 s"):
        database.close(0.01)
    with pytest.raises(DatabaseOwned):
        opened(path)
    hang.set()


_HOLD_OPEN = """
import sys
from greenroom.actors.storage import Database
database = Database(sys.argv[1], app_version="1.2.3")
database.open()
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_second_process_is_refused_by_name_and_a_killed_owner_leaves_no_trace(path: Path) -> None:
    command = [sys.executable, "-c", _HOLD_OPEN, f"sqlite:///{path}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        with pytest.raises(DatabaseOwned) as refusal:
            opened(path)
        owner.kill()
    said = str(refusal.value)
    assert f"database {path} is owned by process {owner.pid} on host {os.uname().nodename} since 20" in said
    assert said.endswith("stop it, or point storage.url elsewhere")
    database = opened(path)
    assert database.runtime_id == 2
    database.close()


def test_two_names_of_one_file_are_one_database(database: Database, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with pytest.raises(DatabaseOwned, match=f"process {os.getpid()} "):
        opened(link)


def test_a_lock_without_a_name_still_refuses(database: Database, path: Path) -> None:
    path.with_name(path.name + ".owner").write_text("{")
    with pytest.raises(DatabaseOwned, match="owned by another process"):
        opened(path)


@pytest.mark.parametrize(
    "content", [b"no database at all, just some text\n" * 100, b"SQLite format 3\x00" + b"\xff" * 5000]
)
def test_a_file_that_is_no_database_is_refused_and_left_alone(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(DatabaseCorrupt, match=r"restore it from a copy, or point storage\.url elsewhere"):
        opened(path)
    assert path.read_bytes() == content
    with pytest.raises(DatabaseCorrupt), open_read_only(f"sqlite:///{path}"):
        pass


def test_pages_damaged_in_the_middle_fail_the_saves_that_need_them(path: Path) -> None:
    database = opened(path)
    outcomes = Outcomes(database)
    database.submit(Task((holds(*range(5000)),)))
    assert outcomes.of(1) == [None]
    database.close()
    with path.open("r+b") as file:
        file.seek(4096 * 2)
        file.write(b"\xa5" * (path.stat().st_size - 4096 * 2))
    database = Database(f"sqlite:///{path}", app_version="1")
    with pytest.raises(DatabaseCorrupt, match="damaged"):
        database.open()


def test_another_applications_database_is_refused(path: Path) -> None:
    path.parent.mkdir()
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE photos (id INTEGER)")
    other.close()
    with pytest.raises(DatabaseCorrupt, match=r"another application's tables \(photos\)"):
        opened(path)
    assert on_disk(path, "SELECT name FROM sqlite_master") == [("photos",)]


def test_a_newer_database_is_refused_and_left_alone(path: Path) -> None:
    opened(path).close()
    with sqlite3.connect(path) as other:
        other.execute("UPDATE greenroom_version SET version_num = 'v9999'")
    other.close()
    with pytest.raises(DatabaseNewer, match="at revision v9999, written by a newer greenroom"):
        opened(path)
    with pytest.raises(DatabaseNewer), open_read_only(f"sqlite:///{path}"):
        pass
    assert on_disk(path, "SELECT count(*) FROM runtimes") == [(1,)]


def test_after_a_refusal_nothing_is_held(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"x" * 8192)
    with pytest.raises(DatabaseCorrupt):
        opened(path)
    path.unlink()
    opened(path).close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DatabaseUnusable, match=r"greenroom\.db cannot be written: Not a directory"):
        opened(tmp_path / "file" / "data" / "greenroom.db")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DatabaseUnusable, match="cannot be written: Permission denied"):
        opened(tmp_path / "greenroom.db")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("greenroom.db", "is not a database URL"),
        ("", "is not a database URL"),
        ("sqlite://", "must name a file"),
        ("sqlite:///:memory:", "must name a file"),
        ("sqlite:///x.db?mode=ro", "must name a file and nothing else"),
        ("sqlite+aiosqlite:///x.db", "write sqlite:///FILE"),
        ("mysql://u:hunter2@h/d", "mysql is not supported"),
        ("postgresql://u:hunter2@h/d", "postgresql is not supported"),
    ],
)
def test_a_url_that_is_no_good_is_refused_without_its_password(url: str, said: str) -> None:
    with pytest.raises(DatabaseUnusable) as refusal:
        Database(url, app_version="1")
    assert said in str(refusal.value)
    assert "hunter2" not in str(refusal.value)


def test_home_is_expanded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Database("sqlite:///~/greenroom.db", app_version="1").path == tmp_path / "greenroom.db"


def test_reading_what_is_not_there_makes_nothing(path: Path) -> None:
    with pytest.raises(DatabaseMissing, match=f"no database at {path}"), open_read_only(f"sqlite:///{path}"):
        pass
    assert not path.parent.exists()


_FULL_DISK = """
import resource, signal, sys, threading
from greenroom.actors.storage import Database, INSERT_ITEM, StorageFailed, Write
sys.path.insert(0, sys.argv[2])
from tests.storage.rows import Outcomes, Task, item, items

database = Database(sys.argv[1], app_version="1")
database.open()
outcomes = Outcomes(database)
resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, resource.RLIM_INFINITY))
stored, error = [], None
for position in range(1000):
    database.submit(Task((items(item("j", position, result=b"x" * 50_000)),)))
    (error,) = outcomes.of(1)
    if error is not None:
        break
    stored.append(position)
assert type(error) is StorageFailed, error
print(len(stored))
print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
database.submit(Task((items(item("j", 5000)),)))
assert outcomes.of(1) == [None]
database.close()
"""


def test_a_full_disk_fails_what_does_not_fit_and_room_heals_it(path: Path) -> None:
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", _FULL_DISK, f"sqlite:///{path}", root],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    stored, said = done.stdout.splitlines()
    assert 1 <= int(stored) < 1000
    assert str(path) in said
    assert "disk" in said
    positions = [row[0] for row in on_disk(path, "SELECT position FROM items ORDER BY position")]
    assert positions == [*range(int(stored)), 5000]
