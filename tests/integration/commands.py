"""The `greenroom` command as people run it: a process of its own, in a folder of its own, without keys."""

import atexit
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import msgspec

from greenroom.runtime.simulator import JournalEntry

ROOT = Path(__file__).parents[2]
WAIT_S = 40.0


class Done(msgspec.Struct, frozen=True):
    """What a finished process left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""
        return msgspec.json.decode(self.out, type=dict[str, Any])


class Zygote:
    """The process that starts the others (see `zygote.py`)."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("zygote.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env=_bare_environment(),
        )
        self._codes: dict[int, int] = {}
        assert self._hear() == {"ready": True}

    def begin(self, request: Mapping[str, object]) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        while True:
            told = self._hear()
            if "code" not in told:
                return told["pid"]
            self._codes[told["pid"]] = told["code"]

    def wait(self, pid: int) -> int:
        while pid not in self._codes:
            told = self._hear()
            self._codes[told["pid"]] = told["code"]
        return self._codes.pop(pid)

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()

    def _hear(self) -> dict[str, int]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the zygote has died"
        return dict(json.loads(line))


@functools.cache
def zygote() -> Zygote:
    """One for the whole run of the tests."""
    started = Zygote()
    atexit.register(started.close)
    return started


class Running:
    """A process that runs. Its output goes to files, so that no pipe ever fills."""

    def __init__(self, pid: int, out: Path, err: Path, process: "subprocess.Popen[bytes] | None") -> None:
        self.pid = pid
        self._out = out
        self._err = err
        self._process = process
        self._code: int | None = None

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def wait(self) -> Done:
        if self._code is None:
            self._code = self._process.wait(WAIT_S) if self._process else zygote().wait(self.pid)
        return Done(self._code, self._out.read_text(), self._err.read_text())

    def kill(self) -> Done:
        """`kill -9`, and wait until it is gone. Harmless when it is."""
        if self._code is None:
            with contextlib.suppress(ProcessLookupError):
                self.send(signal.SIGKILL)
        return self.wait()

    def until_it_says(self, text: str) -> None:
        """Wait until `text` stands in its standard error."""
        with Tail(self._err) as tail:
            tail.wait_for(text)


class Tail:
    """Follows a file that another process writes, woken by the kernel whenever it grows."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._follower = subprocess.Popen(
            ["tail", "-c", "+1", "-F", "-s", "0.02", str(path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._follower:
            self._follower.kill()

    def wait_for(self, text: str) -> None:
        self._wait(lambda seen: text.encode() in seen, f"{self._path} to say {text!r}")

    def wait_lines(self, count: int) -> None:
        self._wait(lambda seen: seen.count(b"\n") >= count, f"{count} lines in {self._path}")

    def _wait(self, enough: Callable[[bytes], bool], what: str) -> None:
        assert self._follower.stdout is not None
        watchdog = threading.Timer(WAIT_S, self._follower.kill)
        watchdog.start()
        seen = b""
        try:
            while not enough(seen):
                data = os.read(self._follower.stdout.fileno(), 1 << 20)
                assert data, f"waited {WAIT_S} s for {what}"
                seen += data
        finally:
            watchdog.cancel()
            watchdog.join()


class SimulatorProcess:
    """`greenroom simulate` in a process of its own."""

    def __init__(self, running: Running, base_url: str, journal: Path) -> None:
        self.running = running
        self.base_url = base_url
        self.journal_path = journal

    @property
    def journal(self) -> list[JournalEntry]:
        """Every request whose line is whole: the server goes on writing while this reads."""
        decode = msgspec.json.Decoder(JournalEntry).decode
        whole, _, _ = self.journal_path.read_bytes().rpartition(b"\n")
        return [decode(line) for line in whole.splitlines()]

    def wait_requests(self, count: int) -> None:
        """Wait until so many requests stand in the journal."""
        with Tail(self.journal_path) as tail:
            tail.wait_lines(count)


class Greenroom:
    """The command in a folder of its own: nothing configured, no keys, an own data directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self.data = folder / "data"
        self._logs = folder / "logs"
        for made in (self.folder, self.data, self._logs):
            made.mkdir()
        self.env = _bare_environment() | {"HOME": str(folder), "XDG_DATA_HOME": str(self.data)}
        self._started: list[Running] = []

    @property
    def database(self) -> Path:
        return self.data / "greenroom" / "greenroom.db"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for running in self._started:
            running.kill()

    def run(
        self,
        *args: object,
        stdin: Path | None = None,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
    ) -> Done:
        """Run a command to its end."""
        return self.start(*args, stdin=stdin, env=env, uid=uid).wait()

    def start(
        self,
        *args: object,
        stdin: Path | None = None,
        env: Mapping[str, str] | None = None,
        uid: int | None = None,
        fresh: bool = False,
    ) -> Running:
        """Start a command.

        Args:
            *args: its arguments.
            stdin: the file on its standard input.
            env: variables on top of the usual few.
            uid: as whom; None: as whoever runs the tests.
            fresh: in a fresh interpreter, not a forked one.
        """
        number = len(self._started)
        out, err = self._logs / f"{number}.out", self._logs / f"{number}.err"
        words = [str(arg) for arg in args]
        source = str(stdin or "/dev/null")
        process = None
        if fresh:
            command = [sys.executable, "-m", "greenroom.runtime.cli", *words]
            with out.open("wb") as stdout, err.open("wb") as stderr, Path(source).open("rb") as opened:
                process = subprocess.Popen(
                    command,
                    cwd=self.folder,
                    env=self.env | dict(env or {}),
                    stdin=opened,
                    stdout=stdout,
                    stderr=stderr,
                )
            pid = process.pid
        else:
            pid = zygote().begin(
                {
                    "args": words,
                    "cwd": str(self.folder),
                    "env": self.env | dict(env or {}),
                    "stdin": source,
                    "stdout": str(out),
                    "stderr": str(err),
                    "uid": uid,
                }
            )
        running = Running(pid, out, err, process)
        self._started.append(running)
        return running

    def simulate(self, *options: object) -> SimulatorProcess:
        """Start a simulator, and wait until it listens."""
        number = len(self._started)
        journal = self._logs / f"{number}.journal"
        running = self.start("simulate", "--port", 0, "--json", "--journal", journal, *options)
        with Tail(self._logs / f"{number}.out") as tail:
            tail.wait_for("\n")
        ready = msgspec.json.decode((self._logs / f"{number}.out").read_bytes(), type=dict[str, Any])
        return SimulatorProcess(running, str(ready["openai_base_url"]), journal)

    def configure(self, base_url: str, *, name: str = "acme", more: str = "", before: str = "") -> None:
        """Write a `greenroom.toml` with one provider, whose model `fast` has a price."""
        (self.folder / "greenroom.toml").write_text(
            f"{before}\n"
            f"[providers.{name}]\n"
            f'base_url = "{base_url}"\n'
            f'default_model = "fast"\n'
            f"{more}\n"
            f'[providers.{name}.prices."*"]\n'
            f'input = "0.15"\noutput = "0.60"\n'
        )

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def prompts(self, count: int, name: str = "in.jsonl", first: int = 1) -> Path:
        """Write a file of so many different prompts, with ids `q-1`, `q-2`..."""
        return self.write(name, "".join(prompt_line(number) for number in range(first, first + count)))


def _bare_environment() -> dict[str, str]:
    """Nothing of the tester's own but what finding programs and modules takes: no keys, no proxies, no terminal."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return kept | {"COLUMNS": "200"}


def prompt(number: int) -> str:
    return f"Say something about the number {number}."


def prompt_line(number: int) -> str:
    return json.dumps({"custom_id": f"q-{number}", "prompt": prompt(number)}) + "\n"


def results(path: Path) -> dict[str, dict[str, Any]]:
    """The lines of an output file by id, each of which must be whole and stand once."""
    text = path.read_bytes()
    assert text.endswith(b"\n") or not text
    lines = [msgspec.json.decode(line, type=dict[str, Any]) for line in text.splitlines()]
    found = {str(line["custom_id"]): line for line in lines}
    assert len(found) == len(lines), "an id stands twice in the output"
    return found


def bodies(path: Path, *, volatile: Sequence[str] = ("id", "created")) -> dict[str, dict[str, Any]]:
    """The answers of an output file by id, without what differs between two servings of the same answer."""
    return {
        custom_id: {name: value for name, value in line["response"]["body"].items() if name not in volatile}
        for custom_id, line in results(path).items()
    }
