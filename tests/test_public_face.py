"""What `greenroom.runtime` exports is there, is what it says, and costs nothing until it is asked for."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import greenroom.runtime

HEAVY = ("aiohttp", "alembic", "genai_prices", "jinja2", "rich", "sqlalchemy", "structlog", "typer")


def told_to_type_checkers() -> dict[str, str]:
    """The names that are imported where only type checkers look, and their homes."""
    path = greenroom.runtime.__file__
    assert path is not None
    (block,) = [node for node in ast.parse(Path(path).read_text()).body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


def test_type_checkers_and_programs_see_the_same_names() -> None:
    assert sorted(told_to_type_checkers()) == dir(greenroom.runtime)


@pytest.mark.parametrize("name", dir(greenroom.runtime))
def test_a_name_is_what_its_home_calls_so(name: str) -> None:
    home = told_to_type_checkers()[name]
    assert getattr(greenroom.runtime, name) is getattr(import_module(home), name)


def test_what_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"module 'greenroom\.runtime' has no attribute 'Zebra'"):
        getattr(greenroom.runtime, "Zebra")  # noqa: B009 - what type checkers would refuse


def test_importing_it_brings_nothing_heavy_along() -> None:
    code = f"import sys, greenroom.runtime; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
