"""Other people's servers, run for a test: what they take and say was decided by nobody of this project."""

import importlib.util
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NODE = ROOT / "node_modules" / ".bin"
STEADY = shutil.which("steady") or shutil.which("steady", path=NODE)
needs_steady = pytest.mark.skipif(STEADY is None, reason="the judge is not installed: npm install @stdy/cli")
AIMOCK = shutil.which("llmock") or shutil.which("llmock", path=NODE)
needs_aimock = pytest.mark.skipif(
    AIMOCK is None, reason="aimock is not installed: npm install @copilotkit/aimock"
)
PORTS = 5
"""How often a port is picked for a server that cannot pick its own: somebody else may be quicker."""
_LLAMA = ("xllamacpp", "gguf", "numpy")
_MISSING = [name for name in _LLAMA if importlib.util.find_spec(name) is None]
needs_llama = pytest.mark.skipif(bool(_MISSING), reason=f"llama.cpp's server needs {', '.join(_MISSING)}")


@contextmanager
def steady(specification: Path) -> Generator[str]:
    """The URL of Steady, which holds what it is sent against a specification."""
    assert STEADY is not None
    for _ in range(PORTS):
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        command = [STEADY, "--host", "127.0.0.1", "-p", str(port), "-q", str(specification)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, env=_environment()) as process:
            assert process.stdout is not None
            try:
                if any(b"Ready to accept requests" in line for line in process.stdout):
                    yield f"http://127.0.0.1:{port}"
                    return
            finally:
                # A kill would end the script that npm puts before it, and leave the judge behind.
                process.terminate()
    raise AssertionError("Steady did not start")


@contextmanager
def aimock(fixtures: Path, log: Path) -> Generator[str]:
    """The URL of aimock, which answers out of `fixtures` and writes what else it says to `log`."""
    assert AIMOCK is not None
    command = [AIMOCK, "--port", "0", "--fixtures", str(fixtures), "--journal-max", "0"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=_environment()) as process,
    ):
        assert process.stdout is not None
        try:
            said = next((line.decode() for line in process.stdout if b"listening on" in line), "")
            if not said:
                pytest.skip(f"aimock does not start: {log.read_text()[:500]}")  # it wants Node 20.15
            yield said.split()[-1]
        finally:
            process.terminate()


def _environment() -> dict[str, str]:
    """Ours, but for what makes some word their output otherwise on a CI service."""
    return {name: value for name, value in os.environ.items() if name != "CI"}


@contextmanager
def llama(folder: Path, key: str) -> Generator[str]:
    """The URL of llama.cpp's server, which takes that key and has one model, whatever name it is asked by."""
    script = Path(__file__).parent / "integration" / "llama_server.py"
    log = folder / "llama.log"
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, str(script), str(folder), key, "0"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            said = process.stdout.readline().decode()
            assert said.startswith("ready"), log.read_text()
            yield said.split()[1]
        finally:
            process.kill()
