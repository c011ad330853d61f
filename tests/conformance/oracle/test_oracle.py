"""A real Erlang/OTP plays the cases, and must say what the table says. `make oracle` runs this alone."""

import shutil
import subprocess
from pathlib import Path

import pytest
from tests.conformance.oracle.outcomes import FOLDER, OTP

pytestmark = pytest.mark.skipif(
    shutil.which("erlc") is None or shutil.which("erl") is None,
    reason="Erlang is not installed (Debian: apt-get install erlang-base)",
)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What Erlang/OTP does, by case."""
    built: Path = tmp_path_factory.mktemp("oracle")
    sources = sorted(map(str, FOLDER.glob("*.erl")))
    subprocess.run(["erlc", "-Werror", "-o", str(built), *sources], check=True, timeout=50)
    quiet = ["-noshell", "-kernel", "logger_level", "none"]
    ran = subprocess.run(
        ["erl", *quiet, "-pa", str(built), "-eval", "oracle:main(), halt()."],
        check=True,
        capture_output=True,
        text=True,
        timeout=50,
    )
    rows = [line.split("\t") for line in ran.stdout.splitlines() if not line.startswith("#")]
    return {case: words for case, words in rows}  # noqa: C416  # each row is a list; dict() would take no checked pair


def test_erlang_plays_every_case_of_the_table(seen: dict[str, str]) -> None:
    assert sorted(seen) == sorted(OTP)


@pytest.mark.parametrize("case", OTP)
def test_erlang_does_what_the_table_says(seen: dict[str, str], case: str) -> None:
    assert seen[case] == OTP[case]
