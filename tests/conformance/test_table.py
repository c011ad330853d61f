"""The conformance table is complete: every number has its test, every row that OTP was asked about its expected outcome."""

import re
from collections.abc import Iterable
from pathlib import Path

from tests.conformance.oracle.outcomes import OTP, OURS

import greenroom.actors.kernel

FOLDER = Path(__file__).parent


def numbers(**groups: Iterable[int]) -> list[str]:
    """The numbers of the table, group by group."""
    return [f"{group}{number:02}" for group, members in groups.items() for number in members]


ALL = numbers(S=range(1, 13), G=range(1, 48), V=range(1, 56), D=range(1, 11), P=range(1, 15))
ASKED_OF_OTP = numbers(
    S=[1, 2, 3, 5, 6, 7, 8, 9, 10, 11],
    G=[3, 4, 9, 10, 11, 12, 13, 14, 15, 16, 17, 25, 39, 40, 41, 42],
    V=[12, 13, 17, 18, 23, 24, 38, 43, 47, 51, 53],
)
"""The rows marked (o): their outcome was seen on a real OTP."""
IN_ANOTHER_WAY = numbers(S=[3], G=[30, 31, 34, 44, 46], V=[7, 8, 10, 11, 14, 29, 48], P=[11, 13])
"""Those that mean nothing here to the letter; each is tested for what stands in its place."""


def bodies() -> dict[str, str]:
    """The source of each test by its name."""
    sources = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("test_*.py"))
    parts = re.split(r"^(?:async )?def (test_\w+)", sources, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_table_has_138_numbers_and_each_has_a_test() -> None:
    assert len(ALL) == 138
    tested = {number for name in bodies() for number in re.findall(r"_([SGVDP]\d\d)(?=_)", name)}
    assert sorted(tested) == sorted(ALL)


def test_every_row_asked_of_otp_has_an_outcome() -> None:
    assert set(ASKED_OF_OTP) <= {case.split(".")[0] for case in OTP}


def test_every_outcome_is_expected_by_the_test_of_its_number() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.glob("test_*.py"))
    for case in OURS:
        assert f'"{case}"' in sources, f"no test expects {case}"
        number = case.split(".")[0]
        assert any("expect(" in body for name, body in bodies().items() if f"_{number}_" in name), number


def test_the_kernels_docstring_tells_what_is_done_in_another_way() -> None:
    told = greenroom.actors.kernel.__doc__ or ""
    listed = told.split("Where the conformance table is met in another way", 1)[1]
    assert set(re.findall(r"\b[SGVDP]\d\d\b", listed)) == set(IN_ANOTHER_WAY)
    assert {case.split(".")[0] for case in OTP if OTP[case] != OURS[case]} <= set(IN_ANOTHER_WAY)
