"""From `greenroom.toml` and the environment to settings, keys and the providers in use.

Which providers there are is decided once, in this order, and said (`Chosen.how`): those of the configuration; else
hosts whose key variable is set; else local servers that answer; else the simulator.
"""

import asyncio
import ipaddress
import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import cast, get_args, get_origin
from urllib.parse import urlsplit

import aiohttp
import msgspec
from msgspec import Struct, structs

from greenroom.actors.providers.hosts import HOSTS, LOCAL_HOSTS, SIMULATOR
from greenroom.actors.settings import ProviderSettings, Secret, Settings

CONFIG_FILE = "greenroom.toml"
DATABASE_FILE = "greenroom.db"
_PROBE_TIMEOUT_S = 1.0


class ConfigError(Exception):
    """The configuration or the environment is not usable; the message says what is wrong, where, and the mend."""


class Chosen(Struct, frozen=True, kw_only=True):
    """The providers in use, their keys, the model that is asked where none is named, and why these."""

    providers: dict[str, ProviderSettings]
    keys: dict[str, Secret]
    default_model: str | None
    how: str
    simulated: bool = False


def load_settings(path: Path | None = None) -> Settings:
    """The settings of `path`, or of `greenroom.toml` in the working directory, or the defaults where there is none.

    A `[providers.NAME]` of a known host need only say what differs from its row.

    Raises:
        ConfigError: the file cannot be read, is no TOML, or holds an unknown key or a wrong value.
    """
    if path is None and not Path(CONFIG_FILE).exists():
        return Settings()
    path = path or Path(CONFIG_FILE)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path}: there is no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None
    return settings_from(data, str(path))


def settings_from(data: Mapping[str, object], where: str) -> Settings:
    """Settings from the configuration's tables; `where` names them in errors.

    Raises:
        ConfigError: naming the unknown key with its nearest known one, or the wrong value with its place.
    """
    providers = data.get("providers")
    if isinstance(providers, dict):
        given = cast("dict[str, object]", providers)
        data = {**data, "providers": {name: _over_known_row(name, table) for name, table in given.items()}}
    _refuse_unknown_keys(data, Settings, "", where)
    try:
        return msgspec.convert(data, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None


async def choose_providers(settings: Settings, environ: Mapping[str, str]) -> Chosen:
    """Decide which providers are used, asking local servers whether they answer where nothing else is configured.

    Raises:
        ConfigError: a configured provider lacks its key.
    """
    if settings.providers:
        return _configured(settings, environ)
    by_key = {
        name: _with_base_url(name, host, environ)
        for name, host in HOSTS.items()
        if host.api_key_env and environ.get(host.api_key_env)
    }
    if by_key:
        variables = ", ".join(str(host.api_key_env) for host in by_key.values())
        return await _chosen(settings, by_key, environ, f"{', '.join(by_key)}, by {variables}")
    local = {
        name: host
        for (name, host), models in zip(
            LOCAL_HOSTS.items(),
            await asyncio.gather(*(list_models(host, None) for host in LOCAL_HOSTS.values())),
            strict=True,
        )
        if models
    }
    if local:
        where = ", ".join(f"{name} at {host.base_url}" for name, host in local.items())
        return await _chosen(settings, local, environ, f"a local server that answers: {where}")
    return Chosen(
        providers={},
        keys={},
        default_model=settings.default_model or f"{SIMULATOR}/fast",
        how="no provider configured: answers are simulated",
        simulated=True,
    )


def database_url(settings: Settings) -> str:
    """The configured database, or `greenroom.db` in the user's data directory."""
    if settings.storage.url is not None:
        return settings.storage.url
    import platformdirs

    return f"sqlite:///{Path(platformdirs.user_data_dir('greenroom', appauthor=False)) / DATABASE_FILE}"


def cache_folder() -> Path:
    """The user's folder for what can be made again at any time."""
    import platformdirs

    return Path(platformdirs.user_cache_dir("greenroom", appauthor=False))


async def list_models(host: ProviderSettings, key: Secret | None) -> list[str]:
    """The ids that a host lists at `/models`; none where nobody answers within a second.

    Raises:
        ConfigError: it refuses the key.
    """
    headers = {"Authorization": f"Bearer {key.reveal()}"} if key else {}
    timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout, headers=headers) as session,
            session.get(f"{host.base_url.rstrip('/')}/models") as response,
        ):
            if key and response.status in {401, 403}:
                where = host.api_key_env or host.api_key_file
                raise ConfigError(f"{host.base_url} refuses the key ({response.status}): mend {where}")
            return [model.id for model in msgspec.json.decode(await response.read(), type=_Listing).data]
    except (aiohttp.ClientError, OSError, TimeoutError, msgspec.DecodeError):
        return []


class _Listed(Struct):
    id: str


class _Listing(Struct):
    data: list[_Listed]


def _configured(settings: Settings, environ: Mapping[str, str]) -> Chosen:
    keys = {name: key for name, host in settings.providers.items() if (key := _key(name, host, environ))}
    providers = {
        name: structs.replace(host, free=True) if is_local(host.base_url) and not host.prices else host
        for name, host in settings.providers.items()
    }
    defaults = (f"{name}/{host.default_model}" for name, host in providers.items() if host.default_model)
    return Chosen(
        providers=providers,
        keys=keys,
        default_model=settings.default_model or next(defaults, None),
        how=f"{', '.join(providers)}, by {CONFIG_FILE}",
    )


async def _chosen(
    settings: Settings, providers: dict[str, ProviderSettings], environ: Mapping[str, str], how: str
) -> Chosen:
    keys = {name: key for name, host in providers.items() if (key := _key(name, host, environ))}
    default_model = settings.default_model
    for name, host in providers.items():
        if default_model is None and is_local(host.base_url):
            models = await list_models(host, keys.get(name))
            default_model = f"{name}/{models[0]}" if models else None
        elif default_model is None and host.default_model:
            default_model = f"{name}/{host.default_model}"
    return Chosen(providers=providers, keys=keys, default_model=default_model, how=how)


def _with_base_url(name: str, host: ProviderSettings, environ: Mapping[str, str]) -> ProviderSettings:
    """The host, at another address where its variable says so (`OPENAI_BASE_URL`, as the vendor's own client)."""
    base_url = environ.get(f"{name.upper()}_BASE_URL")
    if not base_url:
        return host
    local = is_local(base_url)
    return structs.replace(
        host,
        base_url=base_url,
        free=host.free or local,
        max_tokens_field="max_tokens" if local else host.max_tokens_field,
        default_model=None if local else host.default_model,
    )


def is_local(base_url: str) -> bool:
    """Whether a URL leads to this machine; models there cost nothing."""
    host = urlsplit(base_url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _key(name: str, host: ProviderSettings, environ: Mapping[str, str]) -> Secret | None:
    if host.api_key_file is not None:
        try:
            return Secret(Path(host.api_key_file).expanduser().read_text(encoding="utf-8").strip())
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"provider {name}: api_key_file {host.api_key_file}: {error}") from None
    if host.api_key_env is None:
        return None
    value = environ.get(host.api_key_env, "").strip()
    if not value:
        raise ConfigError(
            f"provider {name} needs a key: set {host.api_key_env}, or api_key_file in its table"
        )
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"provider {name}: {host.api_key_env} holds characters that no HTTP header can")
    return Secret(value)


def environment() -> Mapping[str, str]:
    """The process's environment."""
    return os.environ


def _over_known_row(name: str, table: object) -> object:
    row = HOSTS.get(name) or LOCAL_HOSTS.get(name)
    if row is None or not isinstance(table, dict):
        return table
    known: dict[str, object] = msgspec.to_builtins(row)
    return known | cast("dict[str, object]", table)


def _refuse_unknown_keys(value: object, expected: object, path: str, where: str) -> None:
    """Walk tables and Structs together, so that the error names the whole path and the nearest key."""
    if not isinstance(value, dict):
        return
    table = cast("dict[str, object]", value)
    if isinstance(expected, type) and issubclass(expected, Struct):
        types: dict[str, object] = {field.name: field.type for field in structs.fields(expected)}
        for key, inner in table.items():
            if key not in types:
                near = get_close_matches(key, types, n=1)
                hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(types)}"
                raise ConfigError(f"{where}: unknown key {path}{key}; {hint}")
            _refuse_unknown_keys(inner, types[key], f"{path}{key}.", where)
    elif get_origin(expected) is dict:
        for key, inner in table.items():
            _refuse_unknown_keys(inner, get_args(expected)[1], f"{path}{key}.", where)
