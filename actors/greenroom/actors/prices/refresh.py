"""A newer price table than the one that came with the package: fetched when asked to, and kept in a file.

genai-prices publishes its table as JSON, at the address that its own updater asks. A table is kept under the version of
the package that read it, so that after an upgrade the package's own is in use until the next refresh.
"""

import json
import time
from contextlib import suppress
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, cast

import anyio.to_thread

from greenroom.actors.log import Log

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot
    from genai_prices.types import ModelInfo

TABLE_URL = (
    "https://raw.githubusercontent.com/pydantic/genai-prices/refs/heads/main/prices/new_data/v2/data.json"
)
DAY_S = 86_400.0
_MAX_TABLE_BYTES = 64 * 1024 * 1024
"""Eighty times what the table is today."""
_MAX_RATE_USD = 10**6
_TIMEOUT_S = 30.0

_log = Log(__name__)


class PricesNotRefreshed(Exception):
    """No newer price table could be had; the one that was in use stays so. The message says why."""


async def refresh_prices(folder: Path, url: str | None = None, *, timeout_s: float = _TIMEOUT_S) -> int:
    """Fetch the price table and keep it in `folder`, for `PriceTable.load` to find. Returns how many models it prices.

    Reading it takes a tenth of a second, in a thread.

    Raises:
        PricesNotRefreshed: nobody answered with a price table, or it cannot be written.

    Cancelling leaves the table that was there, or the new one whole.
    """
    url = url or TABLE_URL
    body = await _fetched(url, timeout_s)
    try:
        models = await anyio.to_thread.run_sync(_keep, body, folder)
    except OSError as error:
        raise PricesNotRefreshed(f"the price table cannot be kept in {folder}: {error}") from error
    except Exception as error:  # whatever its reader meets in what is no table
        why = str(error).partition("\n")[0]
        raise PricesNotRefreshed(f"{url} gave no price table: {type(error).__name__}: {why[:200]}") from error
    return models


def refreshed_s_ago(folder: Path) -> float | None:
    """How old the kept table is, in seconds; None where there is none. Blocks."""
    try:
        return max(0.0, time.time() - _file(folder).stat().st_mtime)
    except OSError:
        return None


def read_table(folder: Path) -> "DataSnapshot | None":
    """The kept table, or None where there is none that can be read. Blocks."""
    file = _file(folder)
    try:
        with file.open("rb") as opened:
            return _parsed(opened.read(_MAX_TABLE_BYTES))
    except FileNotFoundError:
        return None
    except Exception as error:
        _log.warning(
            "refreshed prices cannot be read, the package's own are used", file=str(file), why=repr(error)
        )
        return None


async def _fetched(url: str, timeout_s: float) -> bytes:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=timeout_s)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            if response.status != 200:
                raise PricesNotRefreshed(f"{url} answers {response.status}, no price table")
            body = bytearray()
            async for chunk in response.content.iter_chunked(2**16):
                body += chunk
                if len(body) > _MAX_TABLE_BYTES:
                    raise PricesNotRefreshed(
                        f"{url} gives more than {_MAX_TABLE_BYTES} bytes, no price table"
                    )
    except TimeoutError as error:
        raise PricesNotRefreshed(f"no price table from {url} within {timeout_s:g} s") from error
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise PricesNotRefreshed(f"{url}: {error or type(error).__name__}") from error
    return bytes(body)


def _keep(body: bytes, folder: Path) -> int:
    table = _parsed(body)
    folder.mkdir(parents=True, exist_ok=True)
    with NamedTemporaryFile(dir=folder, delete=False) as file:
        try:
            file.write(body)
            file.close()
            Path(file.name).replace(_file(folder))
        except BaseException:
            with suppress(OSError):
                Path(file.name).unlink()
            raise
    return sum(len(provider.models) for provider in table.providers)


def _parsed(body: bytes) -> "DataSnapshot":
    from genai_prices.data_snapshot import DataSnapshot

    # What the package's own updater reads its answer with; there is no public way to read a kept one.
    from genai_prices.types import _providers_from_raw  # pyright: ignore[reportPrivateUsage]

    raw: object = json.loads(body)
    if not isinstance(raw, list):
        raise TypeError("the table is no list of providers")
    # One by one, so that other threads come between: each conversion holds the interpreter until it is done.
    providers = [found for one in cast("list[object]", raw) for found in _providers_from_raw([one])]
    if not any(provider.models for provider in providers):
        raise ValueError("the table prices no model")
    for provider in providers:
        for model in provider.models:
            _check(model)
    return DataSnapshot(providers, from_auto_update=True)


def _check(model: "ModelInfo") -> None:
    """Whatever a lookup will meet is met here: a wrong pattern, a rate that is none, or below nothing."""
    model.is_match("")
    standard = [model.prices] if not isinstance(model.prices, list) else [c.prices for c in model.prices]
    for prices in (*standard, *(variant.prices for variant in model.price_variants or ())):
        for name, value in prices.__dict__.items():
            rates = [value] if not hasattr(value, "tiers") else [value.base, *(t.price for t in value.tiers)]
            for rate in rates:
                if isinstance(rate, Decimal) and not (rate.is_finite() and 0 <= rate <= _MAX_RATE_USD):
                    raise ValueError(f"{model.id}: {name} is {rate}")


def _file(folder: Path) -> Path:
    return folder / f"genai-prices-{version('genai-prices')}.json"
