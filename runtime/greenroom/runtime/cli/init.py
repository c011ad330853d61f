"""`greenroom init`: a commented `greenroom.toml`, with what was found on this machine filled in."""

import asyncio
import json
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct, structs

from greenroom.actors.providers.hosts import HOSTS, LOCAL_HOSTS
from greenroom.actors.settings import Settings
from greenroom.runtime.cli.output import fail, note
from greenroom.runtime.config import CONFIG_FILE, ConfigError, environment
from greenroom.runtime.discovery import Surveyed, survey

_WIDTH = 100
_EXAMPLES = {"storage.url": '"sqlite:////var/lib/greenroom/greenroom.db"'}
_OWN_SERVER = """\
# Any server that speaks OpenAI's chat completions, by a name of your own:
# [providers.mine]
# base_url = "http://gpu-box:8000/v1"
# api_key_env = "MINE_API_KEY"       # or api_key_file = "~/.mine-key"; keys never stand in this file
# [providers.mine.prices."my-model"] # dollars per million tokens; or free = true above
# input = "0.10"
# output = "0.40"
# [providers.mine.models."my-model"] # what its list does not tell, for the choice among models
# vision = true
# context_tokens = 32768

# Names of your own for models; of several, each takes over when the one before it fails.
# [aliases]
# quick = "mine/my-model"
# sure = { models = ["quick", "openai/gpt-6.1-sol"] }
"""


def init(
    path: Annotated[Path, typer.Argument(help="The file to write.")] = Path(CONFIG_FILE),
    *,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    r"""Write a commented greenroom.toml: providers that are found here, and every setting with its default.

    Found are hosts whose key variable is set (the key itself is never written) and servers on this machine that answer.

    \b
    Examples:
      greenroom init
      greenroom init staging.toml && greenroom doctor --config staging.toml
      greenroom init --force

    Exit codes: 0 written, 2 not: it is there already, or cannot be.
    """
    try:
        found = [
            surveyed for surveyed in asyncio.run(survey(Settings(), environment())) if _is_usable(surveyed)
        ]
    except ConfigError as error:
        fail(str(error))
    text = configuration(found)
    try:
        with path.open("w" if force else "x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        fail(f"{path} is there already: --force writes over it, another name leaves it")
    except OSError as error:
        fail(f"{path} cannot be written: {error.strerror}")
    names = ", ".join(surveyed.name for surveyed in found)
    note(f"wrote {path}" + (f", with {names}" if names else "; no key is set and no local server answers"))
    note(
        "greenroom doctor checks it"
        if path == Path(CONFIG_FILE)
        else f"greenroom doctor --config {path} checks it"
    )


def configuration(found: list[Surveyed]) -> str:
    """The text of a configuration that uses these providers, with every setting and its default in comments."""
    return "\n".join(
        [
            f"# {CONFIG_FILE}: every key is optional. What is commented out is the default, or an example.",
            "# Unknown keys are refused, with the nearest known one.",
            "",
            *_top(found),
            *_providers(found),
            _OWN_SERVER,
            *_sections(),
        ]
    )


def _is_usable(surveyed: Surveyed) -> bool:
    """With a key it is meant, whether it answers now or not; a local server has to."""
    return surveyed.by != "local server" or bool(surveyed.probe.models)


def _top(found: list[Surveyed]) -> Iterator[str]:
    yield "# The model that is asked where neither a line nor --model names one; AUTO chooses one for each call."
    model = next((model for surveyed in found if (model := _model(surveyed))), None)
    yield f"default_model = {json.dumps(model)}" if model else '# default_model = "openai/gpt-5.4-mini"'
    yield ""
    yield "# Whether servers on this machine are asked if they answer, where no provider is named below."
    yield "# discover_local = true"
    yield ""


def _model(surveyed: Surveyed) -> str | None:
    model = surveyed.host.default_model or next(iter(surveyed.probe.models or ()), None)
    return f"{surveyed.name}/{model}" if model else None


def _providers(found: list[Surveyed]) -> Iterator[str]:
    yield "# Providers. Where any is named here, only these are used. Of known ones say only what differs, such as"
    yield "# `limits = { concurrency = 100, requests_per_min = 500, tokens_per_min = 200000 }`."
    yield ""
    for surveyed in found:
        host = surveyed.host
        row = HOSTS.get(surveyed.name) or LOCAL_HOSTS.get(surveyed.name)
        answer = surveyed.probe.problem or f"{len(surveyed.probe.models or ())} models at {host.base_url}"
        yield from _comment(f"{surveyed.by}: {answer}")
        yield f"[providers.{surveyed.name}]"
        if row is not None and row.base_url != host.base_url:
            yield f"base_url = {json.dumps(host.base_url)}"
            yield f"max_tokens_field = {json.dumps(host.max_tokens_field)}"
        yield ""
    names = {surveyed.name for surveyed in found}
    for name, host in HOSTS.items():
        if name not in names:
            yield f"# [providers.{name}]  # takes {host.api_key_env}"
            if host.base_url_env is not None:
                yield f"# base_url = {json.dumps(host.base_url.replace('RESOURCE', 'acme'))}"
    for name, host in LOCAL_HOSTS.items():
        if name not in names:
            yield f"# [providers.{name}]  # at {host.base_url}"
    yield ""


def _sections() -> Iterator[str]:
    """Every table of the settings with its defaults, from the settings themselves."""
    for field in structs.fields(Settings):
        default = field.default
        if not isinstance(default, Struct):
            continue
        yield from _comment((type(default).__doc__ or "").strip())
        yield f"# [{field.name}]"
        for key in structs.fields(default):
            value = getattr(default, key.name)
            example = _EXAMPLES.get(f"{field.name}.{key.name}")
            if isinstance(value, bool | int | float | str):
                yield f"# {key.name} = {json.dumps(value)}"
            elif example is not None:
                yield f"# {key.name} = {example}"
            elif value is None:
                yield f"#   {key.name}: not set"
        yield ""


def _comment(text: str) -> Iterator[str]:
    paragraphs = " ".join(text.replace("\n\n", "\0").split()).split("\0")
    for paragraph in paragraphs:
        yield from (f"# {line}" for line in textwrap.wrap(paragraph.strip(), _WIDTH))
