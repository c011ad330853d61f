"""Acknowledged means durable: a real process, really killed while it writes, and opened again without repair."""

import itertools
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from tests.storage.rows import Outcomes, Task, on_disk

from greenroom.actors.storage import TICKET_BITS, Database, reclaim

ROOT = str(Path(__file__).parents[2])

_WRITES_UNTIL_KILLED = """
import itertools, os, sys, threading
sys.path.insert(0, sys.argv[2])
from greenroom.actors.storage import HOLD, SETTLE, TICKET_BITS, Database, Write
from tests.storage.rows import Task, hold, settle

database = Database(sys.argv[1], app_version="1")
database.open()
me = database.runtime_id
done = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)

class Told(Task):
    what: bytes = b""

room = threading.Semaphore(300)

def tell(group, failures):
    # To the parent, from the writer's thread, when an acknowledgement would be sent.
    os.write(1, b"failed\\n" if failures else b"".join(job.what for job in group))
    room.release(len(group))

database.attach(tell)
for number in itertools.count(1):
    ticket = me << TICKET_BITS | number
    line = b"%d\\n" % ticket
    room.acquire()
    database.submit(Told((Write(HOLD, (hold(ticket, runtime_id=me),)),), what=b"held %d\\n" % ticket))
    if number % 3:
        room.acquire()
        database.submit(
            Told(
                (Write(SETTLE, (settle(ticket, runtime_id=me),)),),
                then=lambda line=line: os.write(done, line),
                what=b"settled %d\\n" % ticket,
            )
        )
"""


def kill_after(path: Path, done: Path, acknowledgements: int) -> tuple[set[int], set[int]]:
    """Run the writing process, kill it once it has told so much; what it told is returned."""
    command = [sys.executable, "-c", _WRITES_UNTIL_KILLED, f"sqlite:///{path}", ROOT, str(done)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        told = list(itertools.islice(process.stdout, acknowledgements))
        process.send_signal(signal.SIGKILL)
        told += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    words = [line.split() for line in told if line.endswith(b"\n")]
    assert len(words) >= acknowledgements
    assert not any(word == [b"failed"] for word in words)
    return (
        {int(word[1]) for word in words if word[0] == b"held"},
        {int(word[1]) for word in words if word[0] == b"settled"},
    )


@pytest.mark.parametrize("acknowledgements", [1, 500, 3000, 7001])
def test_what_was_acknowledged_survives_a_kill(path: Path, tmp_path: Path, acknowledgements: int) -> None:
    done = tmp_path / "done"
    held, settled = kill_after(path, done, acknowledgements)
    database = Database(f"sqlite:///{path}", app_version="1")
    database.open()
    assert database.runtime_id == 2
    rows = {int(str(ticket)): state for ticket, state in on_disk(path, "SELECT id, state FROM attempts")}
    assert held <= set(rows)
    assert {ticket for ticket in settled if rows.get(ticket) != "settled"} == set()
    done.touch()
    appended = {int(line) for line in done.read_bytes().splitlines()}
    assert {ticket for ticket in appended if rows.get(ticket) != "settled"} == set()
    assert on_disk(path, "PRAGMA integrity_check") == [("ok",)]
    assert on_disk(path, "SELECT ended_at_ms FROM runtimes WHERE id = 1") == [(None,)]

    outcomes = Outcomes(database)
    database.submit(Task((reclaim(2, 99),)))
    assert outcomes.of(1) == [None]
    database.close()
    states = on_disk(path, "SELECT DISTINCT state FROM attempts")
    assert states == [("settled",)]
    charged = on_disk(path, "SELECT id, cost_pusd, estimated FROM attempts WHERE outcome = 'interrupted'")
    assert charged == [(ticket, 1000, 1) for ticket in sorted(rows) if rows[ticket] == "held"]


def test_tickets_of_successive_runtimes_never_meet(path: Path, tmp_path: Path) -> None:
    seen: set[int] = set()
    for runtime_id in (1, 2, 3):
        held, _ = kill_after(path, tmp_path / "done", 50)
        assert {ticket >> TICKET_BITS for ticket in held} == {runtime_id}
        assert not held & seen
        seen |= held
    assert seen <= {row[0] for row in on_disk(path, "SELECT id FROM attempts")}
