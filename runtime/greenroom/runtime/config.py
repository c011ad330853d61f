"""From `greenroom.toml` and the environment to settings and keys."""

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, cast, get_args, get_origin
from urllib.parse import urlsplit

import msgspec
from msgspec import Struct, structs

from greenroom.actors.providers.hosts import HOSTS, LOCAL_HOSTS, RUN_HERE
from greenroom.actors.settings import ProviderSettings, Secret, Settings

if TYPE_CHECKING:
    from greenroom.actors.catalog import Alias

CONFIG_FILE = "greenroom.toml"
DATABASE_FILE = "greenroom.db"
_MAX_KEY_BYTES = 16 * 1024


class ConfigError(Exception):
    """The configuration or the environment is not usable; the message says what is wrong, where, and the mend."""


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
        settings = msgspec.convert(data, Settings)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {error}") from None
    for name, host in settings.providers.items():
        check_url(host.base_url, f"{where}: providers.{name}.base_url")
        if name in HOSTS and host.base_url_env and host.base_url == HOSTS[name].base_url:
            raise ConfigError(f"{where}: providers.{name} needs its own base_url, like {host.base_url}")
        if host.proxy is not None:
            check_url(host.proxy, f"{where}: providers.{name}.proxy", "a password goes in HTTPS_PROXY")
        if host.ca_file is not None:
            _check_certificates(host.ca_file, f"{where}: providers.{name}")
    if settings.prices.url is not None:
        check_url(settings.prices.url, f"{where}: prices.url")
    aliases_of(settings, where)
    return settings


def aliases_of(settings: Settings, where: str) -> "dict[str, Alias]":
    """The configured aliases with the models that they come to; `where` names the configuration in errors.

    Raises:
        ConfigError: one of them leads back to itself, names no model, or has a name that it cannot have.
    """
    if not settings.aliases:
        return {}
    from greenroom.actors.catalog.aliases import WrongAlias, flattened

    try:
        return flattened(settings.aliases)
    except WrongAlias as error:
        raise ConfigError(f"{where}: {error}") from None


def _check_certificates(ca_file: str, where: str) -> None:
    from greenroom.actors.pool.connecting import CertificatesUnusable, trusting

    try:
        trusting(ca_file)
    except CertificatesUnusable as error:
        raise ConfigError(f"{where}.{error}") from None


def read_key(name: str, host: ProviderSettings, environ: Mapping[str, str]) -> Secret | None:
    """The key of a provider, from its file or its variable; None where it takes none. Blocks.

    Raises:
        ConfigError: it is missing, empty, cannot be read, or is nothing that an HTTP header can hold. Never shows it.
    """
    if host.sign is not None:
        return None
    if host.api_key_file is not None:
        where = f"api_key_file {host.api_key_file}"
        try:
            with Path(host.api_key_file).expanduser().open("rb") as file:
                value = file.read(_MAX_KEY_BYTES).decode().strip()
        except (OSError, UnicodeDecodeError, RuntimeError) as error:
            raise ConfigError(f"provider {name}: {where} cannot be read: {error}") from None
        if not value:
            raise ConfigError(f"provider {name}: {where} is empty; write the key into it")
    elif (variable := key_variable(host, environ)) is not None:
        where = variable
        value = environ.get(variable, "").strip()
        if not value:
            raise ConfigError(f"provider {name} needs a key: set {where}, or api_key_file in its table")
    else:
        return None
    if not value.isascii() or not value.isprintable():
        raise ConfigError(f"provider {name}: {where} holds characters that no HTTP header can")
    return Secret(value)


def key_variable(host: ProviderSettings, environ: Mapping[str, str]) -> str | None:
    """The variable that a host's key stands in: the first of its two that is set, or its own where none is."""
    if host.api_key_env and not environ.get(host.api_key_env) and environ.get(host.api_key_env_else or ""):
        return host.api_key_env_else
    return host.api_key_env


def check_url(url: str, where: str, secrets: str = "keys go in api_key_env") -> None:
    """Look at the address of a server; `where` names its place in errors, `secrets` where those belong.

    Raises:
        ConfigError: it is none, or holds what does not belong in it: a password in it would be shown wherever it is.
    """
    try:
        parts = urlsplit(url)
        usable = parts.scheme in {"http", "https"} and parts.hostname and (parts.port or 1)
    except ValueError:
        usable, parts = None, urlsplit("")
    if not usable or not url.isascii() or not url.isprintable() or " " in url:
        raise ConfigError(f"{where} is {url!r}; it must be like http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigError(f"{where}: only scheme, host, port and path belong in it; {secrets}")


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


def prices_folder() -> Path:
    """Where published prices are kept that were fetched (`greenroom models --refresh-prices`)."""
    return cache_folder() / "prices"


def environment() -> Mapping[str, str]:
    """The process's environment."""
    return os.environ


def _over_known_row(name: str, table: object) -> object:
    if not isinstance(table, dict):
        return table
    row = HOSTS.get(name) or LOCAL_HOSTS.get(name)
    if row is None and "base_url" not in table:  # one that has an address is somebody's own server
        row = RUN_HERE.get(name)
    if row is None:
        return cast("dict[str, object]", table)
    return _merged(msgspec.to_builtins(row), cast("dict[str, object]", table))


def _merged(row: dict[str, object], table: dict[str, object]) -> dict[str, object]:
    """The row with what the table says otherwise, at any depth: `limits` may name one of them."""
    merged = dict(row)
    for key, value in table.items():
        known = row.get(key)
        if isinstance(known, dict) and isinstance(value, dict):
            merged[key] = _merged(cast("dict[str, object]", known), cast("dict[str, object]", value))
        else:
            merged[key] = value
    return merged


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
