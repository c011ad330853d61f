"""Which providers are used, who answers, and with which models.

Decided once, in this order, and said (`Chosen.how`): providers of the configuration; else hosts whose key variable is
set; else local servers that answer; else the simulator.
"""

import asyncio
from collections.abc import Mapping
from urllib.parse import urlsplit

import aiohttp
from aiolimiter import AsyncLimiter
from msgspec import Struct, structs

from greenroom.actors.events import ProviderFailed
from greenroom.actors.local import list_local
from greenroom.actors.pool.connecting import is_local, make_connector, proxy_for, trusting
from greenroom.actors.pool.signing import AwsSigner
from greenroom.actors.providers.hosts import HOSTS, LOCAL_HOSTS, RUN_HERE, SIMULATOR
from greenroom.actors.providers.listing import ListedModel, Listing, decode_listing, listing_urls
from greenroom.actors.providers.wire import RejectedAnswer
from greenroom.actors.providers.wires import codec_for
from greenroom.actors.settings import LocalServing, ProviderSettings, Secret, Settings
from greenroom.runtime.config import CONFIG_FILE, ConfigError, check_url, key_variable, read_key

LISTINGS_PER_MIN = 30
LOCAL_TIMEOUT_S = 1.0
REMOTE_TIMEOUT_S = 10.0
_MAX_LISTING_BYTES = 32 * 1024 * 1024
_LOCAL_VARIABLES = {"ollama": "OLLAMA_HOST", "lmstudio": "LMSTUDIO_HOST"}
_EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - what a server binds to, not what we do


class Chosen(Struct, frozen=True, kw_only=True):
    """The providers in use, their keys, the model that is asked where none is named, and why these."""

    providers: dict[str, ProviderSettings]
    keys: dict[str, Secret]
    default_model: str | None
    how: str
    simulated: bool = False

    def how_asked(self, model: str | None) -> str:
        """`how`, unless `model` is one that is run here whatever is configured."""
        name = model or self.default_model or ""
        provider = name.partition("/")[0]
        if provider in RUN_HERE and provider not in self.providers:
            return f"{name} runs on this machine"
        return self.how


class Probe(Struct, frozen=True, kw_only=True):
    """What a host said when asked for its models.

    `models` is None where it did not tell; `problem` says why, and is None where all is well. `status` is the HTTP
    status where anybody answered, `date` the answer's own clock; `asked` is false where its key could not be read.
    `listed` is what the host said of its models besides their names.
    """

    models: tuple[str, ...] | None = None
    problem: str | None = None
    status: int | None = None
    date: str | None = None
    asked: bool = True
    listed: tuple[ListedModel, ...] = ()

    @property
    def refuses_key(self) -> bool:
        return self.status in {401, 403}


class Surveyed(Struct, frozen=True, kw_only=True):
    """A provider that could be used, and whether it can: `by` says what makes it one."""

    name: str
    host: ProviderSettings
    by: str
    probe: Probe


async def choose_providers(settings: Settings, environ: Mapping[str, str]) -> Chosen:
    """Decide which providers are used, asking local servers whether they answer where nothing else is configured.

    Raises:
        ConfigError: a configured provider lacks its key, or a local server refuses it.
    """
    if settings.providers:
        return await asyncio.to_thread(_configured, settings, environ)
    by_key = hosts_by_key(environ)
    if by_key:
        variables = ", ".join(str(host.api_key_env) for host in by_key.values())
        return await _chosen(settings, by_key, environ, f"{', '.join(by_key)}, by {variables}")
    if settings.discover_local:
        local = {
            name: host for name, (host, probe) in (await discover_local(environ)).items() if probe.models
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


async def survey(settings: Settings, environ: Mapping[str, str]) -> list[Surveyed]:
    """Ask everybody who would be used, all at once: those of the configuration, or else hosts with a key and local
    servers, whether these answer or not. A key that cannot be read is its provider's problem, and raises nothing.

    Raises:
        ConfigError: a variable that says where a server is holds no address.
    """
    hosts = {name: (host, CONFIG_FILE) for name, host in settings.providers.items()}
    if not hosts:
        hosts = {name: (host, str(host.api_key_env)) for name, host in hosts_by_key(environ).items()}
        if settings.discover_local:
            hosts |= {name: (host, "local server") for name, host in local_hosts(environ).items()}
    probes = await asyncio.gather(*(_survey(name, host, environ) for name, (host, _) in hosts.items()))
    return [
        Surveyed(name=name, host=_free_if_local(host), by=by, probe=found)
        for (name, (host, by)), found in zip(hosts.items(), probes, strict=True)
    ]


async def _survey(name: str, host: ProviderSettings, environ: Mapping[str, str]) -> Probe:
    if host.serve is not None:
        return await _look_here(host.serve)
    try:
        key = await asyncio.to_thread(read_key, name, host, environ)
    except ConfigError as error:
        return Probe(problem=str(error), asked=False)
    return await probe(host, key)


async def _look_here(serving: LocalServing) -> Probe:
    """The models that are run here when they are asked; nothing is started."""
    listed, problems = await asyncio.to_thread(list_local, serving)
    return Probe(
        models=tuple(model.id for model in listed), listed=listed, problem="; ".join(problems) or None
    )


def hosts_by_key(environ: Mapping[str, str]) -> dict[str, ProviderSettings]:
    """The known hosts whose key variable is set.

    Raises:
        ConfigError: a `*_BASE_URL` variable holds no address.
    """
    return {
        name: _with_base_url(name, structs.replace(host, api_key_env=variable), environ)
        for name, host in HOSTS.items()
        if (variable := key_variable(host, environ))
        and environ.get(variable)
        and (host.base_url_env is None or environ.get(host.base_url_env))
    }


async def discover_local(environ: Mapping[str, str]) -> dict[str, tuple[ProviderSettings, Probe]]:
    """Ask all local servers at once whether they answer; within a second.

    Raises:
        ConfigError: `OLLAMA_HOST` or `LMSTUDIO_HOST` holds no address.
    """
    hosts = local_hosts(environ)
    probes = await asyncio.gather(*(probe(host, None) for host in hosts.values()))
    return {name: (host, found) for (name, host), found in zip(hosts.items(), probes, strict=True)}


def local_hosts(environ: Mapping[str, str]) -> dict[str, ProviderSettings]:
    """The servers that people run on their own machines, where they would listen. Raises as `discover_local`."""
    return {name: _local_host(name, host, environ) for name, host in LOCAL_HOSTS.items()}


async def probe(host: ProviderSettings, key: Secret | None, timeout_s: float | None = None) -> Probe:
    """Ask a host for its models. Raises nothing: what went wrong is the answer.

    Args:
        host: whom.
        key: its key, where it takes one.
        timeout_s: for everything; None: a second on this machine, ten elsewhere.
    """
    if timeout_s is None:
        timeout_s = LOCAL_TIMEOUT_S if is_local(host.base_url) else REMOTE_TIMEOUT_S
    first, *others = listing_urls(host)
    found = await _probe(host, first, key, timeout_s)
    if found.problem is None:
        for more in await asyncio.gather(*(_probe(host, url, key, timeout_s) for url in others)):
            found = structs.replace(
                found,
                models=(*(found.models or ()), *(more.models or ())),
                listed=(*found.listed, *more.listed),
            )
    return found


async def _probe(host: ProviderSettings, url: str, key: Secret | None, timeout_s: float) -> Probe:
    headers = {"Accept": "application/json", **codec_for("", host).session_headers(key)}
    try:
        if host.sign == "aws":
            headers |= await AwsSigner(url).headers("GET", url, b"")
        trusted = None if host.ca_file is None else await asyncio.to_thread(trusting, host.ca_file)
        async with (
            aiohttp.ClientSession(
                connector=make_connector(host, trusted),
                timeout=aiohttp.ClientTimeout(total=timeout_s),
                headers=headers,
                proxy=proxy_for(host),
            ) as session,
            session.get(url, allow_redirects=False) as response,
        ):
            body = await response.content.read(_MAX_LISTING_BYTES)
            while len(body) < _MAX_LISTING_BYTES and (
                more := await response.content.read(_MAX_LISTING_BYTES)
            ):
                body += more
            date = response.headers.get("Date")
            # Long lists take longer to read than the loop may be held.
            return await asyncio.to_thread(_read, response.status, date, body, host, url)
    except ProviderFailed as failure:
        return Probe(problem=failure.error.message)
    except TimeoutError:
        return Probe(problem=f"no answer from {url} within {timeout_s:g} s")
    except aiohttp.ClientConnectorError as error:
        return Probe(problem=f"nobody answers at {host.base_url}: {error.os_error.strerror or error}")
    except (aiohttp.ClientError, OSError, ValueError) as error:
        return Probe(problem=f"{url}: {error or type(error).__name__}")


def _read(status: int, date: str | None, body: bytes, host: ProviderSettings, url: str) -> Probe:
    if status == 403 and host.wire == "bedrock-converse":
        # Who may ask a model may not, for that, list them.
        problem = f"{host.base_url} does not list its models to this key; whether it answers shows when asked"
        return Probe(status=404, date=date, problem=problem)
    if status in {401, 403}:
        mend = (
            f": mend {host.api_key_env or host.api_key_file}" if host.api_key_env or host.api_key_file else ""
        )
        return Probe(status=status, date=date, problem=f"{host.base_url} refuses the key ({status}){mend}")
    if status != 200:
        return Probe(status=status, date=date, problem=f"{url} answers {status}, no list of models")
    try:
        listed = decode_listing(body)
    except RejectedAnswer:
        return Probe(status=status, date=date, problem=f"{url} answers, but with no list of models")
    return Probe(status=status, date=date, models=tuple(model.id for model in listed), listed=listed)


class Lister:
    """Asks providers in use for their models, each at a pace that suits a listing, however often a program wants it anew.

    One event loop's, where it is first used.

    Args:
        chosen: the providers and their keys.
    """

    def __init__(self, chosen: Chosen) -> None:
        self._chosen = chosen
        self._paces: dict[str, AsyncLimiter] = {}

    async def __call__(self, provider: str) -> Listing:
        """What it says of its models, as the catalogue wants it. Raises nothing."""
        host = self._chosen.providers[provider]
        if host.serve is not None:
            return listing_of(await _look_here(host.serve))
        pace = self._paces.get(provider)
        if pace is None:
            pace = self._paces[provider] = AsyncLimiter(LISTINGS_PER_MIN, 60.0)
        await pace.acquire()
        return listing_of(await probe(host, self._chosen.keys.get(provider)))


def listing_of(found: Probe) -> Listing:
    """What a host said, as the catalogue wants it."""
    if found.models is not None:
        return Listing(models=found.listed)
    answers = found.status is not None and found.status < 500 and not found.refuses_key
    # Who answers otherwise keeps no list, as some hosts do not; its models can be named all the same.
    return Listing() if answers else Listing(unreachable=found.problem)


def _configured(settings: Settings, environ: Mapping[str, str]) -> Chosen:
    keys = {name: key for name, host in settings.providers.items() if (key := read_key(name, host, environ))}
    providers = {name: _free_if_local(host) for name, host in settings.providers.items()}
    defaults = (f"{name}/{host.default_model}" for name, host in providers.items() if host.default_model)
    return Chosen(
        providers=providers,
        keys=keys,
        default_model=settings.default_model or next(defaults, None),
        how=f"{', '.join(providers)}, by {CONFIG_FILE}",
    )


def _free_if_local(host: ProviderSettings) -> ProviderSettings:
    """A server on this machine costs nothing, unless its prices are given: it may stand in for one that does."""
    priced = host.prices or host.price_provider
    return structs.replace(host, free=True) if is_local(host.base_url) and not priced else host


async def _chosen(
    settings: Settings, providers: dict[str, ProviderSettings], environ: Mapping[str, str], how: str
) -> Chosen:
    keys = {name: key for name, host in providers.items() if (key := read_key(name, host, environ))}
    default_model = settings.default_model
    for name, host in providers.items():
        if default_model is None and is_local(host.base_url):
            found = await probe(host, keys.get(name))
            if found.refuses_key:
                raise ConfigError(str(found.problem))
            default_model = f"{name}/{found.models[0]}" if found.models else None
        elif default_model is None and host.default_model:
            default_model = f"{name}/{host.default_model}"
    return Chosen(providers=providers, keys=keys, default_model=default_model, how=how)


def _with_base_url(name: str, host: ProviderSettings, environ: Mapping[str, str]) -> ProviderSettings:
    """The host, at another address where its variable says so (`OPENAI_BASE_URL`, as the vendor's own client)."""
    variable = host.base_url_env or f"{name.upper()}_BASE_URL"
    base_url = environ.get(variable)
    if not base_url:
        return host
    check_url(base_url, variable)
    if host.wire == "anthropic-messages" and urlsplit(base_url).path in {"", "/"}:
        base_url = f"{base_url.rstrip('/')}/v1"  # Anthropic's own client leaves it out of its variable
    elif host.base_url_env and urlsplit(base_url).path in {"", "/"}:
        base_url = base_url.rstrip("/") + urlsplit(host.base_url).path
    local = is_local(base_url)
    return structs.replace(
        host,
        base_url=base_url,
        free=host.free or local,
        max_tokens_field="max_tokens" if local else host.max_tokens_field,
        default_model=None if local else host.default_model,
    )


def _local_host(name: str, host: ProviderSettings, environ: Mapping[str, str]) -> ProviderSettings:
    """The host where its variable says it listens: a URL, `address:port` or an address alone, as Ollama takes it."""
    variable = _LOCAL_VARIABLES.get(name, "")
    given = environ.get(variable, "").strip()
    if not given:
        return host
    url = given if "://" in given else f"http://{given}"
    check_url(url, variable)
    parts, own = urlsplit(url), urlsplit(host.base_url)
    address = _EVERYWHERE.get(parts.hostname or "", parts.hostname or "")
    port = parts.port or (own.port if "://" not in given else {"http": 80, "https": 443}[parts.scheme])
    where = f"[{address}]" if ":" in address else address
    return structs.replace(
        host, base_url=f"{parts.scheme}://{where}:{port}{parts.path.rstrip('/') or own.path}"
    )
