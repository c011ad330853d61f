"""Other people's servers, run for a test: what they take and say was decided by nobody of this project."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NODE = ROOT / "node_modules" / ".bin"
AIMOCK = shutil.which("llmock") or shutil.which("llmock", path=NODE)
needs_aimock = pytest.mark.skipif(
    AIMOCK is None, reason="aimock is not installed: npm install @copilotkit/aimock"
)
_LLAMA = ("xllamacpp", "gguf", "numpy")
_MISSING = [name for name in _LLAMA if importlib.util.find_spec(name) is None]
needs_llama = pytest.mark.skipif(bool(_MISSING), reason=f"llama.cpp's server needs {', '.join(_MISSING)}")


@contextmanager
def aimock(fixtures: Path, log: Path) -> Generator[str]:
    """The URL of aimock, which answers out of `fixtures` and writes what else it says to `log`."""
    assert AIMOCK is not None
    # On a CI service it might word its output otherwise.
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    command = [AIMOCK, "--port", "0", "--fixtures", str(fixtures), "--journal-max", "0"]
    with (
        log.open("wb") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment) as process,
    ):
        assert process.stdout is not None
        try:
            said = next((line.decode() for line in process.stdout if b"listening on" in line), "")
            if not said:
                pytest.skip(f"aimock does not start: {log.read_text()[:500]}")  # it wants Node 20.15
            yield said.split()[-1]
        finally:
            process.terminate()


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
