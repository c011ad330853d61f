"""What packages export by need is there, is what it says, and costs nothing until it is asked for."""

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

import greenroom.actors.storage
import greenroom.runtime

HEAVY = (
    "aiohttp",
    "alembic",
    "genai_prices",
    "jinja2",
    "opentelemetry",
    "rich",
    "sqlalchemy",
    "structlog",
    "typer",
)
FOR_LATER = tuple(name for name in HEAVY if name != "aiohttp")
"""What a running runtime imports in a thread, or when it is first needed."""


def told_to_type_checkers(package: ModuleType) -> dict[str, str]:
    """The names that are imported where only type checkers look, and their homes."""
    path = package.__file__
    assert path is not None
    (block,) = [node for node in ast.parse(Path(path).read_text()).body if isinstance(node, ast.If)]
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


HOMES = [
    (package, name, home)
    for package in (greenroom.runtime, greenroom.actors.storage)
    for name, home in told_to_type_checkers(package).items()
]


def test_type_checkers_and_programs_see_the_same_names() -> None:
    assert sorted(told_to_type_checkers(greenroom.runtime)) == dir(greenroom.runtime)


@pytest.mark.parametrize(("package", "name", "home"), HOMES)
def test_a_name_is_what_its_home_calls_so(package: ModuleType, name: str, home: str) -> None:
    assert getattr(package, name) is getattr(import_module(home), name)


@pytest.mark.parametrize("package", [greenroom.runtime, greenroom.actors.storage])
def test_what_is_not_there_is_an_attribute_error(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=rf"module '{package.__name__}' has no attribute 'Zebra'"):
        getattr(package, "Zebra")  # noqa: B009 - what type checkers would refuse


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [("import greenroom.runtime", HEAVY), ("from greenroom.runtime import Runtime", FOR_LATER)],
)
def test_importing_brings_nothing_heavy_along(statement: str, unwanted: tuple[str, ...]) -> None:
    code = f"import sys; {statement}; print([name for name in {unwanted} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
