"""Real signals to a real process: all stop in order, and nothing is left."""

import json
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAM = Path(__file__).with_name("leaving.py")
NOTHING = {"callers": ["ActorExited"], "tasks": 0, "timers": 0, "names": 0, "alive": 0}


@contextmanager
def program(how: str) -> Generator["subprocess.Popen[str]"]:
    """The program, its actors running."""
    with subprocess.Popen(
        [sys.executable, str(PROGRAM), how], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert said(process) == "ready"
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]") -> Any:
    """What it says next."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it ended without a word"
    return json.loads(line)


def rest(process: "subprocess.Popen[str]") -> list[Any]:
    """What it says until it ends."""
    assert process.stdout is not None
    return [json.loads(line) for line in process.stdout]


@pytest.mark.parametrize(
    ("number", "ended"), [(signal.SIGTERM, "SystemExit 143"), (signal.SIGINT, "KeyboardInterrupt")]
)
def test_a_signal_stops_all_in_order_and_leaves_nothing(number: int, ended: str) -> None:
    with program("impatient") as process:
        process.send_signal(number)
        # who is at work never comes to its request to stop, and is killed when its time is up
        assert rest(process) == ["terminate idle", "terminate b", "terminate a", NOTHING, ended]
        assert process.wait() == 0


def test_a_second_sigterm_changes_nothing() -> None:
    with program("impatient") as process:
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert rest(process)[-2:] == [NOTHING, "SystemExit 143"]


def test_a_second_interrupt_does_not_wait_for_who_hangs() -> None:
    with program("hanging") as process:
        process.send_signal(signal.SIGINT)
        assert said(process) == "terminate idle"
        process.send_signal(signal.SIGINT)
        assert rest(process)[-1] == "KeyboardInterrupt"
