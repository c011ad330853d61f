"""From the name of a local model to the files that hold it, before anything is started."""

import json
import re
import stat
import sys
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast

from msgspec import Struct

from greenroom.actors.events import ErrorKind, ProviderError, ProviderFailed
from greenroom.actors.local.gguf import NotGguf, read_gguf
from greenroom.actors.providers.listing import ListedModel
from greenroom.actors.settings import LocalServing

_HUB = "hf:"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_NEEDED = {"gguf": ("xllamacpp", "local"), "transformers": ("transformers", "transformers")}
"""Which package runs a kind of model, and which extra of greenroom's installs it."""
_MAX_CONFIG_BYTES = 1024 * 1024
_DEFAULT_CONTEXT_TOKENS = 8192
"""Memory for it is taken when the model is loaded: a window of 128 000 tokens would not fit most machines."""


class Source(Struct, frozen=True):
    """Where a model lies, and what runs it. `context_tokens` is what it was made for, where it says so."""

    kind: Literal["gguf", "transformers"]
    where: str
    context_tokens: int | None = None
    embeds: bool = False


def find_source(model: str, serving: LocalServing) -> Source:
    """The files of a model: a GGUF file, a folder of transformers' or `hf:ORG/NAME`. Blocks.

    Raises:
        ProviderFailed: `not_found`: there is nothing there, or nothing that is a model; `unsupported_capability`:
            the package that would run it is not installed. The message says the remedy.
    """
    source = look_up(model, serving)
    package, extra = _NEEDED[source.kind]
    if find_spec(package) is None:
        raise failed(
            "unsupported_capability",
            f"{model} needs {package}, which {sys.executable} does not have: pip install 'greenroom[{extra}]'",
        )
    return source


def look_up(model: str, serving: LocalServing) -> Source:
    """As `find_source`, whether or not what would run it is installed."""
    name = serving.models.get(model, model)
    if name.startswith(_HUB):
        where = name.removeprefix(_HUB)
        if not _HUB_NAME.fullmatch(where):
            raise failed("not_found", f"{name} names no model of the Hugging Face hub: write hf:ORG/NAME")
        return Source("transformers", where)
    path = Path(name).expanduser().absolute()
    try:
        return _folder(path) if path.is_dir() else _file(path, model, serving)
    except NotGguf as error:
        raise failed("not_found", f"{path} is not a GGUF file: {error}") from None
    except OSError as error:
        raise failed("not_found", f"{path} cannot be read: {error.strerror}") from None


def _file(path: Path, model: str, serving: LocalServing) -> Source:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        near = [] if model in serving.models else get_close_matches(model, serving.models, n=1)
        hint = f"; did you mean local/{near[0]}?" if near else ""
        raise failed("not_found", f"there is no model file {path}{hint}") from None
    if not stat.S_ISREG(mode):
        raise NotGguf("it is no regular file")
    head = read_gguf(path)
    return Source("gguf", str(path), head.context_tokens, head.embeds)


def _folder(path: Path) -> Source:
    config = path / "config.json"
    if not config.is_file():
        raise failed(
            "not_found",
            f"{path} is a folder without config.json: name a GGUF file, or a folder that transformers saved",
        )
    with config.open("rb") as file:
        text = file.read(_MAX_CONFIG_BYTES)
    try:
        said: object = json.loads(text)
    except ValueError as error:
        raise failed("not_found", f"{config} is not JSON: {error}") from None
    window = (
        cast("dict[str, object]", said).get("max_position_embeddings") if isinstance(said, dict) else None
    )
    return Source("transformers", str(path), window if isinstance(window, int) else None)


def list_local(serving: LocalServing) -> tuple[tuple[ListedModel, ...], list[str]]:
    """The models that have a name of their own, with the window that they are served with, and what is wrong with
    others. Blocks.
    """
    listed: list[ListedModel] = []
    problems: list[str] = []
    for name in serving.models:
        try:
            source = find_source(name, serving)
        except ProviderFailed as failure:
            problems.append(f"local/{name}: {failure.error.message}")
        else:
            listed.append(ListedModel(name, context_tokens=served_context_tokens(source, serving)))
    return tuple(listed), problems


def served_context_tokens(source: Source, serving: LocalServing) -> int:
    """The context window that a request to this model has: what is configured, within what the model was made for."""
    most = source.context_tokens or _DEFAULT_CONTEXT_TOKENS
    return min(most, serving.context_tokens or _DEFAULT_CONTEXT_TOKENS)


def failed(kind: ErrorKind, message: str) -> ProviderFailed:
    return ProviderFailed(ProviderError(kind=kind, message=message))
