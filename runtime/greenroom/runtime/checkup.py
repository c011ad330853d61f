"""What `greenroom doctor` looks at: is everything there that a job needs, and if not, what would mend it?

Nothing is changed by looking: no database is made, no lock taken, and the only request sent is `GET /models`.
"""

import asyncio
import os
import platform
import resource
import shutil
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from msgspec import Struct

from greenroom.actors.catalog import UnknownModel, Unpriced, find_route, is_auto
from greenroom.actors.catalog.cards import retirement
from greenroom.actors.prices import PriceTable
from greenroom.actors.providers.hosts import HOSTS
from greenroom.actors.settings import Settings
from greenroom.actors.storage import DatabaseMissing, DatabaseOlder, StorageFailed, open_read_only
from greenroom.actors.storage.engine import file_of, parse
from greenroom.runtime.config import (
    CONFIG_FILE,
    ConfigError,
    aliases_of,
    database_url,
    load_settings,
    prices_folder,
)
from greenroom.runtime.discovery import Surveyed, survey

_LITTLE_DISK_BYTES = 1 << 30
_NO_DISK_BYTES = 100 << 20
_CLOCK_SKEW_S = 60.0
_SPARE_FILES = 64
_SOON = timedelta(days=90)

Status = Literal["ok", "warning", "failed"]


class Check(Struct, frozen=True, kw_only=True):
    """One thing that was looked at. `fix` is what would mend it, where it is not `ok`."""

    name: str
    status: Status
    detail: str
    fix: str | None = None


async def check_up(config: Path | None, environ: Mapping[str, str]) -> list[Check]:
    """Look at everything. Raises nothing: what is wrong is a check that failed.

    Args:
        config: as `--config`.
        environ: where keys are looked up.
    """
    checks = [await asyncio.to_thread(_versions)]
    try:
        settings = await asyncio.to_thread(load_settings, config)
    except ConfigError as error:
        fix = "mend that line; greenroom init --force writes a fresh file"
        return [*checks, Check(name="configuration", status="failed", detail=str(error), fix=fix)]
    checks.append(await asyncio.to_thread(_configuration, config, settings))
    checks.extend(await asyncio.to_thread(_storage, settings))
    try:
        found = await survey(settings, environ)
    except ConfigError as error:
        fix = "mend or unset the variable"
        return [*checks, Check(name="providers", status="failed", detail=str(error), fix=fix)]
    checks.append(_clock(found))
    checks.append(_open_files(settings, found))
    checks.extend(await asyncio.to_thread(_providers, settings, found))
    return checks


def _versions() -> Check:
    from aiohttp import http_parser

    detail = (
        f"greenroom {version('greenroom')}, Python {platform.python_version()}, aiohttp {version('aiohttp')}, "
        f"{platform.system()} {platform.machine()}"
    )
    if http_parser.HttpResponseParser is http_parser.HttpResponseParserPy:
        return Check(
            name="versions",
            status="warning",
            detail=f"{detail}; aiohttp lacks its C parser, so every call costs three times as much",
            fix="pip install --force-reinstall --only-binary aiohttp aiohttp",
        )
    return Check(name="versions", status="ok", detail=detail)


def _configuration(config: Path | None, settings: Settings) -> Check:
    path = config or Path(CONFIG_FILE)
    if not path.exists():
        return Check(name="configuration", status="ok", detail=f"no {path}: defaults, and what is found")
    names = ", ".join(settings.providers) or "no provider"
    for name, host in settings.providers.items():
        if host.api_key_file is not None and _is_open_to_others(Path(host.api_key_file).expanduser()):
            return Check(
                name="configuration",
                status="warning",
                detail=f"{host.api_key_file}, the key of {name}, can be read by others on this machine",
                fix=f"chmod 600 {host.api_key_file}",
            )
    return Check(name="configuration", status="ok", detail=f"{path}: {names}")


def _is_open_to_others(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & 0o077)
    except OSError:
        return False


def _storage(settings: Settings) -> list[Check]:
    elsewhere = "point storage.url in greenroom.toml elsewhere"
    try:
        url = database_url(settings)
        path = file_of(parse(url))
        database = _database(url, path, elsewhere)
    except StorageFailed as error:
        return [Check(name="database", status="failed", detail=str(error), fix=elsewhere)]
    return [database] if path is None else [database, _disk(path)]


def _database(url: str, path: Path | None, elsewhere: str) -> Check:
    def told(status: Status, detail: str, fix: str | None = None) -> Check:
        return Check(name="database", status=status, detail=detail, fix=fix)

    if path is not None and (refusal := _unwritable(path)):
        return told("failed", refusal, f"make it yours, or {elsewhere}")
    try:
        with open_read_only(url):
            return told("ok", f"{path} can be read and written" if path else "PostgreSQL answers")
    except DatabaseMissing:
        return told("ok", f"{path or 'PostgreSQL'}: nothing there yet; the first job makes it")
    except DatabaseOlder:
        return told(
            "ok", f"{path or 'PostgreSQL'} is of an older greenroom; the next job brings it up to date"
        )
    except StorageFailed as error:
        return told("failed", str(error), f"move it away, or {elsewhere}")


def _unwritable(path: Path) -> str | None:
    """Why a database cannot be written here; None where it can."""
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        return f"{path} may not be read and written"
    folder = _nearest(path.parent)
    try:
        # A file without a name, gone at once: permissions alone do not tell of a read-only or full file system.
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return f"{folder} cannot be written: {error.strerror}"


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest one above it that is there."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return folder


def _disk(path: Path) -> Check:
    folder = _nearest(path.parent)
    free = shutil.disk_usage(folder).free
    detail = f"{free / (1 << 30):.1f} GiB free at {folder}"
    fix = "free some, or point storage.url elsewhere; every answer is kept there"
    if free < _NO_DISK_BYTES:
        return Check(name="disk", status="failed", detail=detail, fix=fix)
    if free < _LITTLE_DISK_BYTES:
        return Check(name="disk", status="warning", detail=detail, fix=fix)
    return Check(name="disk", status="ok", detail=detail)


def _clock(found: list[Surveyed]) -> Check:
    """Compare with the servers' own clocks: days of budgets and dates of Retry-After depend on ours."""
    now = datetime.now(UTC)
    for surveyed in found:
        try:
            theirs = parsedate_to_datetime(surveyed.probe.date or "")
            skew_s = (now - theirs).total_seconds()
        except (TypeError, ValueError):
            continue
        if abs(skew_s) > _CLOCK_SKEW_S:
            return Check(
                name="clock",
                status="warning",
                detail=f"{abs(skew_s):.0f} s {'ahead of' if skew_s > 0 else 'behind'} {surveyed.name}'s",
                fix="synchronise it (timedatectl set-ntp true): budgets by day and Retry-After dates go by it",
            )
        return Check(name="clock", status="ok", detail=f"agrees with {surveyed.name}'s")
    return Check(name="clock", status="ok", detail=f"{now:%Y-%m-%d %H:%M} UTC; no server to compare it with")


def _open_files(settings: Settings, found: list[Surveyed]) -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = sum(surveyed.host.limits.most_in_flight for surveyed in found if surveyed.probe.problem is None)
    if soft != resource.RLIM_INFINITY and soft < needed + _SPARE_FILES:
        return Check(
            name="open files",
            status="warning",
            detail=f"{soft} may be open at once; the providers' limits allow {needed} connections",
            fix=f"ulimit -n {needed + 1024}, or lower limits.concurrency",
        )
    return Check(name="open files", status="ok", detail=f"{soft} may be open at once")


def _providers(settings: Settings, found: list[Surveyed]) -> list[Check]:
    checks = [_provider(surveyed) for surveyed in found if surveyed.by != "local server"]
    checks += [_provider(s) for s in found if s.by == "local server" and s.probe.problem is None]
    if not checks:
        keys = ", ".join(str(host.api_key_env) for host in list(HOSTS.values())[:3])
        return [
            Check(
                name="providers",
                status="warning",
                detail="no key is set and no local server answers: answers would be simulated",
                fix=f"set a key ({keys}, ...), start a local server such as Ollama, or name a provider in {CONFIG_FILE} (greenroom init)",
            )
        ]
    return [*checks, _default_model(settings, found)]


def _provider(surveyed: Surveyed) -> Check:
    name, host, probe = f"provider {surveyed.name}", surveyed.host, surveyed.probe
    if probe.problem is None:
        count = len(probe.models or ())
        detail = f"{host.base_url}, by {surveyed.by}: {count} models"
        if host.serve is not None:
            return Check(
                name=name, status="ok", detail=f"runs here: {count} models have a name, others by path"
            )
        if not count:
            return Check(name=name, status="warning", detail=detail, fix="load a model there")
        return Check(name=name, status="ok", detail=detail)
    if host.serve is not None:
        fix = f"mend it under [providers.{surveyed.name}.serve] in {CONFIG_FILE}"
        return Check(name=name, status="failed", detail=probe.problem, fix=fix)
    if probe.refuses_key:
        where = host.api_key_file or host.api_key_env
        fix = f"put a valid key into {where}" if where else "give its table an api_key_env or api_key_file"
        return Check(name=name, status="failed", detail=probe.problem, fix=fix)
    if probe.status is not None:
        fix = "if questions fail too, mend base_url: it ends where /chat/completions begins"
        return Check(name=name, status="warning", detail=probe.problem, fix=fix)
    if not probe.asked:
        fix = "set that variable where greenroom runs, or mend that file"
    else:
        fix = f"start that server, look at the network, or mend base_url in {CONFIG_FILE}"
    return Check(name=name, status="failed", detail=probe.problem, fix=fix)


def _default_model(settings: Settings, found: list[Surveyed]) -> Check:
    by_name = {surveyed.name: surveyed for surveyed in found}
    hosts = {name: surveyed.host for name, surveyed in by_name.items()}
    own = (f"{name}/{host.default_model}" for name, host in hosts.items() if host.default_model)
    listed = (f"{s.name}/{s.probe.models[0]}" for s in found if s.probe.models)
    model = settings.default_model or next(own, None) or next(listed, None)
    if model is None:
        return Check(
            name="default model",
            status="warning",
            detail="none: every line, or --model, has to name one",
            fix='write default_model = "provider/model" in greenroom.toml',
        )
    if is_auto(model):
        return Check(name="default model", status="ok", detail=f"{model}: chosen for each call")
    try:
        aliases = aliases_of(settings, CONFIG_FILE)
        route = find_route(model, hosts, PriceTable.load(prices_folder()), aliases=aliases)
    except (UnknownModel, Unpriced) as error:
        fix = "mend default_model in greenroom.toml"
        return Check(name="default model", status="failed", detail=str(error), fix=fix)
    surveyed = by_name.get(route.provider)
    there = surveyed.probe.models if surveyed is not None else None
    if there and route.model not in there:
        near = get_close_matches(route.model, there, n=3)
        return Check(
            name="default model",
            status="warning",
            detail=f"{model} is not among the models that {route.provider} lists",
            fix=f"did you mean {' or '.join(near)}?" if near else "see greenroom models",
        )
    told = surveyed.probe.listed if surveyed is not None else ()
    said = next((one.retires for one in told if one.id == route.model), None)
    retires = retirement(route.provider, route.model, route.settings, said)
    if retires is not None and retires - datetime.now(UTC).date() < _SOON:
        return Check(
            name="default model",
            status="warning",
            detail=f"{model} ceases on {retires}",
            fix="name another one in greenroom.toml, default_model; greenroom models lists them",
        )
    return Check(name="default model", status="ok", detail=model)
