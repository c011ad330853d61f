"""The examples and the README's Python, run as they stand: without a key, against the simulator."""

import ast
import asyncio
import os
import re
import runpy
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast

import pytest

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
SAYS = {
    "ask": r"\w+.* \d+ 0\.0+\d+\n$",
    "batch": r"^\d+ answered, 0 failed, 0\.\d+ dollars",
    "blocking": r"\w+\n.*\w+\n$",
    "session": r"^0 messages so far\n\w+",
    "similar": r"^0\.\d{3} a fast brown fox\n0\.\d{3} the annual tax report\n$",
    "stream": r"\w.*\n\d+ tokens, 0\.0+\d+ dollars",
    "structured": r"^.+ (happy|neutral|angry) (True|False)\n$",
    "supervised": r"^100 1\n(.*\n)*it crashed: .*ZeroDivisionError(.*\n)*0\n$",
    "tools": r"^get_weather\(.*\) -> .*\nget_time\(.*\) -> noon in .*\n\w+",
    "vision": r"\w+",
}
BLOCKS = re.findall(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A folder of its own, no key in the environment, and no looking for local servers."""
    for name in os.environ:
        if name.endswith(("_KEY", "_TOKEN", "_URL", "_HOST", "_BEDROCK")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "greenroom.toml").write_text("discover_local = false\n")


def test_every_example_is_tried() -> None:
    assert [path.stem for path in EXAMPLES] == list(SAYS)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_without_a_key(
    path: Path, nothing_configured: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert re.search(SAYS[path.stem], capsys.readouterr().out)


def test_the_readmes_first_program_is_an_example_of_ten_lines() -> None:
    """So it is what runs above, and what mypy and pyright look at."""
    embedded = next(block for block in BLOCKS if "Runtime" in block)
    assert embedded == (ROOT / "examples" / "ask.py").read_text()
    assert len([line for line in embedded.splitlines() if line]) <= 10


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_the_readmes_python_compiles(block: str) -> None:
    compile(block, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("name", ["test_capitals", "main"])
def test_the_readmes_test_and_its_actor_run(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    block = next(block for block in BLOCKS if f"async def {name}()" in block and "asyncio.run" not in block)
    names: dict[str, object] = {}
    exec(compile(block, "README.md", "exec"), names)  # noqa: S102 - our own words

    asyncio.run(_done(cast("Callable[[], Awaitable[None]]", names[name])))
    assert capsys.readouterr().out.endswith("12\n" if name == "main" else "")


async def _done(function: Callable[[], Awaitable[None]]) -> None:
    await function()
