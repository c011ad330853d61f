"""A newer price table is fetched when asked to, and whatever goes wrong leaves the one that is in use."""

from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from tests.prices.host import TABLE, Host

from greenroom.actors.events import Usage
from greenroom.actors.prices import PricesNotRefreshed, PriceTable, refresh_prices
from greenroom.actors.prices.refresh import refreshed_s_ago


async def loaded(folder: Path) -> PriceTable:
    return await anyio.to_thread.run_sync(PriceTable.load, folder)


async def files(folder: Path) -> list[Path]:
    return await anyio.to_thread.run_sync(lambda: list(folder.iterdir()))


def millions(table: PriceTable, model: str, *, batch: bool = False) -> int | None:
    price = table.price("acme", model, {}, batch=batch)
    return None if price is None else price.cost_pusd(Usage(10**6)) // 10**12


async def test_a_fetched_table_is_kept_and_used(host: Host, tmp_path: Path) -> None:
    folder = tmp_path / "not" / "there"
    assert (await loaded(folder)).price("acme", "m", {}) is None
    assert await anyio.to_thread.run_sync(refreshed_s_ago, folder) is None
    assert await refresh_prices(folder, host.url) == 2
    table = await loaded(folder)
    assert (millions(table, "m"), millions(table, "n"), millions(table, "n", batch=True)) == (3, 5, 1)
    assert [file.suffix for file in await files(folder)] == [".json"]
    assert await anyio.to_thread.run_sync(refreshed_s_ago, folder) is not None


def test_nothing_is_fetched_by_loading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fetched(*args: object) -> None:
        raise AssertionError("somebody asked for a table")

    monkeypatch.setattr("httpx2.get", fetched)
    monkeypatch.setattr("aiohttp.ClientSession.get", fetched)
    assert PriceTable.load(tmp_path).price("openai", "gpt-5", {}) is not None
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("status", "body", "why"),
    [
        (404, b"", "answers 404"),
        (500, b"<html>", "answers 500"),
        (200, b"<html>moved</html>", "no price table"),
        (200, b"", "no price table"),
        (200, b"[]", "prices no model"),
        (200, b"{}", "no list of providers"),
        (200, b"[1]", "no price table"),
        (200, TABLE[:-1], "no price table"),
        (200, TABLE.replace(b'"input_mtok": 3', b'"input_mtok": "dear"'), "no price table"),
        (200, b"[" * 100_000, "no price table"),
        (200, TABLE.replace(b'"input_mtok": 3', b'"input_mtok": -3'), "input_mtok is -3"),
        (200, TABLE.replace(b'"input_mtok": 3', b'"input_mtok": NaN'), "no price table"),
        (200, TABLE.replace(b'"input_mtok": 3', b'"input_mtok": 1e400'), "no price table"),
        (200, TABLE.replace(b'"input_mtok": 3', b'"input_mtok": 1e12'), "input_mtok is"),
        (200, TABLE.replace(b'"price": 5', b'"price": -5'), "input_mtok is -5"),
        (200, TABLE.replace(b'{"input_mtok": 1}}]', b'{"output_mtok": -1}}]'), "output_mtok is -1"),
        (200, TABLE.replace(b'"equals": "m"', b'"regex": "("'), "no price table"),
    ],
    ids=range(17),
)
async def test_what_is_no_table_leaves_the_one_that_was_there(
    host: Host, tmp_path: Path, status: int, body: bytes, why: str
) -> None:
    await refresh_prices(tmp_path, host.url)
    host.status, host.body = status, body
    with pytest.raises(PricesNotRefreshed, match=why) as failed:
        await refresh_prices(tmp_path, host.url)
    assert len(str(failed.value)) < 500
    assert millions(await loaded(tmp_path), "m") == 3
    assert len(await files(tmp_path)) == 1


async def test_a_table_larger_than_any_is_not_read_to_its_end(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("greenroom.actors.prices.refresh._MAX_TABLE_BYTES", 100)
    with pytest.raises(PricesNotRefreshed, match="more than 100 bytes"):
        await refresh_prices(tmp_path, host.url)


async def test_nobody_who_answers_is_said(host: Host, tmp_path: Path) -> None:
    url = host.url
    await host.server.close()
    with pytest.raises(PricesNotRefreshed, match="Cannot connect"):
        await refresh_prices(tmp_path, url)
    with pytest.raises(PricesNotRefreshed, match="ftp"):
        await refresh_prices(tmp_path, "ftp://127.0.0.1/data.json")


async def test_a_folder_that_cannot_be_written_is_said(host: Host, tmp_path: Path) -> None:
    file = tmp_path / "file"
    await anyio.Path(file).write_text("")
    with pytest.raises(PricesNotRefreshed, match="cannot be kept"):
        await refresh_prices(file, host.url)


async def test_a_kept_table_that_was_cut_is_passed_over(host: Host, tmp_path: Path) -> None:
    await refresh_prices(tmp_path, host.url)
    (kept,) = await files(tmp_path)
    await anyio.Path(kept).write_bytes(TABLE[:-20])
    table = await loaded(tmp_path)
    assert table.price("acme", "m", {}) is None
    assert table.price("openai", "gpt-5", {}) is not None
