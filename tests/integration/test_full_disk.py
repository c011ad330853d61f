"""A full disk during a job, a real one: what is stored stays, the command says what is full, and goes on when it is not."""

import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.integration.commands import Done, Greenroom, SimulatorProcess, results
from tests.integration.evidence import check_charges, stored_ids

from greenroom.actors.batch.results import ResultFile

LINES = 400
Disk = Callable[[Path, str], None]


@pytest.fixture
def disk() -> Iterator[Disk]:
    """Mounts a file system of its own, of so many bytes, on a folder; again, makes it larger."""
    mounted: list[Path] = []

    def mount(folder: Path, size: str) -> None:
        options = f"remount,size={size}" if folder in mounted else f"size={size}"
        folder.mkdir(exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
        if folder not in mounted:
            mounted.append(folder)

    yield mount
    for folder in mounted:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def simulator(greenroom: Greenroom) -> SimulatorProcess:
    simulator = greenroom.simulate("--seed", 5)
    greenroom.configure(simulator.base_url)
    greenroom.prompts(LINES)
    return simulator


def run(greenroom: Greenroom) -> Done:
    return greenroom.run("run", "in.jsonl", "--out", "out/answers.jsonl", "--max-tokens", 200)


def check_told(done: Done, *said: str) -> None:
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    for words in (*said, "the same command goes on"):
        assert words in done.err


def check_gone_on(greenroom: Greenroom, simulator: SimulatorProcess, stored: set[str], before: int) -> None:
    """The job came to its end, and asked for nothing that was stored."""
    assert set(results(greenroom.folder / "out/answers.jsonl")) == {f"q-{n}" for n in range(1, LINES + 1)}
    assert stored_ids(greenroom.database) == {f"q-{n}" for n in range(1, LINES + 1)}
    asked = Counter(entry.prompt_sha256 for entry in simulator.journal[before:])
    assert len(asked) == asked.total() == LINES - len(stored)
    check_charges(greenroom.database, simulator.journal)


def test_where_the_results_go(greenroom: Greenroom, simulator: SimulatorProcess, disk: Disk) -> None:
    out = greenroom.folder / "out"
    disk(out, "32k")
    check_told(run(greenroom), "results cannot be written to", "though they are stored", "No space left")
    stored, before = stored_ids(greenroom.database), len(simulator.journal)
    assert 0 < len(stored) < LINES
    written = (out / "answers.jsonl").read_bytes()
    assert 0 < written.count(b"\n") < len(stored)

    disk(out, "16m")
    again = run(greenroom)
    assert again.code == 0, again.err
    assert (out / "answers.jsonl").read_bytes().startswith(written[: written.rindex(b"\n") + 1])
    check_gone_on(greenroom, simulator, stored, before)


def test_where_the_database_is(greenroom: Greenroom, simulator: SimulatorProcess, disk: Disk) -> None:
    (greenroom.folder / "out").mkdir()
    disk(greenroom.database.parent, "512k")
    check_told(run(greenroom), "the disk is full")
    disk(greenroom.database.parent, "32m")
    stored, before = stored_ids(greenroom.database), len(simulator.journal)
    assert 0 < len(stored) < LINES
    # The output never holds what the database does not.
    assert set(results(greenroom.folder / "out/answers.jsonl")) <= stored

    again = run(greenroom)
    assert again.code == 0, again.err
    check_gone_on(greenroom, simulator, stored, before)


def test_nothing_stands_behind_a_record_that_was_torn(tmp_path: Path, disk: Disk) -> None:
    """Space is made while results still come: they belong behind those that are missing, which the next run appends."""
    folder = tmp_path / "disk"
    disk(folder, "8k")
    path = folder / "out.jsonl"
    output = ResultFile(path)
    output.open()
    output.append([b"first"])
    with pytest.raises(OSError, match="No space left"):
        output.append([b"x" * 10_000])
    disk(folder, "1m")
    torn = path.read_bytes()
    with pytest.raises(OSError, match="No space left"):
        output.append([b"late"])
    assert path.read_bytes() == torn
    output.close()
    assert output.whole_records() == (1, 6)
    output.open()
    output.append([b"second"])
    output.close()
    assert path.read_bytes() == b"first\nsecond\n"
