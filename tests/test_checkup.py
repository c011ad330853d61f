"""What the doctor sees of the machine: clock, disk, open files, and a host that lists nothing."""

import resource
import shutil
from pathlib import Path
from typing import NamedTuple

import pytest
from tests.test_discovery import LISTING, answer, serving

from greenroom.runtime.checkup import Check, check_up


class Usage(NamedTuple):
    """The shape of what shutil gives."""

    total: int
    used: int
    free: int


async def look(tmp_path: Path, base_url: str, *, limits: str = "") -> dict[str, Check]:
    config = tmp_path / "mine.toml"
    config.write_text(
        f'[storage]\nurl = "sqlite:///{tmp_path}/greenroom.db"\n'
        f'[providers.acme]\nbase_url = "{base_url}"\ndefault_model = "a"\n{limits}\n'
    )
    return {check.name: check for check in await check_up(config, {})}


@pytest.mark.parametrize(
    ("date", "status", "said"),
    [
        ("Date: Mon, 23 Nov 2020 12:00:00 GMT", "warning", "s ahead of acme's"),
        ("Date: Mon, 23 Nov 2099 12:00:00 GMT", "warning", "s behind acme's"),
        ("Date: yesterday", "ok", "no server to compare it with"),
        ("Date: ", "ok", "no server to compare it with"),
    ],
)
async def test_a_clock_that_is_wrong(tmp_path: Path, date: str, status: str, said: str) -> None:
    async with serving(answer(LISTING, "200 OK", date)) as url:
        check = (await look(tmp_path, url))["clock"]
    assert (check.status, said in check.detail) == (status, True)
    assert (check.fix is not None) == (status == "warning")


@pytest.mark.parametrize(("free", "status"), [(50 << 20, "failed"), (500 << 20, "warning"), (50 << 30, "ok")])
async def test_a_disk_that_is_full_or_nearly_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str
) -> None:
    def disk_usage(folder: Path) -> Usage:
        return Usage(1 << 40, 0, free)

    monkeypatch.setattr(shutil, "disk_usage", disk_usage)
    async with serving(answer(LISTING)) as url:
        check = (await look(tmp_path, url))["disk"]
    assert check.status == status
    assert f"{free / (1 << 30):.1f} GiB free at {tmp_path}" in check.detail


@pytest.mark.parametrize(("soft", "status"), [(200, "warning"), (400, "ok"), (resource.RLIM_INFINITY, "ok")])
async def test_too_few_open_files_for_what_the_limits_allow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, soft: int, status: str
) -> None:
    def getrlimit(which: int) -> tuple[int, int]:
        return soft, soft

    monkeypatch.setattr(resource, "getrlimit", getrlimit)
    async with serving(answer(LISTING)) as url:
        check = (await look(tmp_path, url, limits="limits = { concurrency = 300 }"))["open files"]
    assert check.status == status
    if status == "warning":
        assert "ulimit -n" in str(check.fix)


@pytest.mark.parametrize(
    ("status_line", "body", "status", "said"),
    [
        ("404 Not Found", b"", "warning", "answers 404, no list of models"),
        ("200 OK", b'{"data":[]}', "warning", "0 models"),
        ("200 OK", LISTING, "ok", "2 models"),
    ],
)
async def test_a_host_that_lists_nothing_may_answer_all_the_same(
    tmp_path: Path, status_line: str, body: bytes, status: str, said: str
) -> None:
    async with serving(answer(body, status_line)) as url:
        check = (await look(tmp_path, url))["provider acme"]
    assert (check.status, said in check.detail) == (status, True)
