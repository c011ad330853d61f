"""`greenroom models`: who is reachable, which models they have, and what these cost."""

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct, structs
from rich.table import Table

from greenroom.actors.catalog import Unpriced, find_route
from greenroom.actors.prices import FREE, PriceTable
from greenroom.actors.providers.hosts import HOSTS
from greenroom.actors.providers.listing import ListedModel
from greenroom.runtime.cli.output import EXIT_OK, EXIT_USAGE, fail, note, plain, print_json, tables
from greenroom.runtime.config import ConfigError, environment, load_settings
from greenroom.runtime.discovery import Surveyed, survey

_TABLE_ROWS = 200


class Model(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model as its host lists it; dollars per million tokens, and null where nobody says what it costs.

    `context_window` is what the price table says, or else the host; the rest is left out where the host is silent.
    """

    model: str
    input_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    retires: str | None = None


class Provider(Struct, frozen=True, kw_only=True):
    """What `--json` prints of each provider. `problem` is null where it listed its models."""

    provider: str
    base_url: str
    by: str
    reachable: bool
    problem: str | None
    models: tuple[Model, ...]


def models(
    match: Annotated[
        str | None, typer.Argument(help="Only models whose name holds this text.", show_default=False)
    ] = None,
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a provider, on standard output.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. [default: greenroom.toml, if there is one]")
    ] = None,
) -> None:
    r"""List the models that can be asked now, with prices; and who cannot be reached, and why.

    Asked are the providers of greenroom.toml; without one, the hosts whose key variable is set, and the servers that
    people run on their own machines (Ollama, LM Studio, llama.cpp, vLLM).

    \b
    Examples:
      greenroom models
      greenroom models mini
      OLLAMA_HOST=gpu-box:11434 greenroom models
      greenroom models --json | jq -r '.provider + "/" + .models[].model'

    A model without a price cannot be asked unless greenroom.toml says what it costs; servers on this machine are free.

    Exit codes: 0 somebody answered, 2 nobody did.
    """
    try:
        found = asyncio.run(survey(load_settings(config), environment()))
    except ConfigError as error:
        fail(str(error))
    prices = PriceTable.load()
    listed = [_provider(surveyed, match or "", prices) for surveyed in found]
    if as_json:
        for provider in listed:
            print_json(provider)
    else:
        _tell(listed, bool(match))
    raise typer.Exit(EXIT_OK if any(provider.reachable for provider in listed) else EXIT_USAGE)


def _provider(surveyed: Surveyed, match: str, prices: PriceTable) -> Provider:
    found = {model.id: model for model in surveyed.probe.listed if match.casefold() in model.id.casefold()}
    return Provider(
        provider=surveyed.name,
        base_url=surveyed.host.base_url,
        by=surveyed.by,
        reachable=surveyed.probe.problem is None,
        problem=surveyed.probe.problem,
        models=tuple(_model(found[name], surveyed, prices) for name in sorted(found)),
    )


def _model(listed: ListedModel, surveyed: Surveyed, prices: PriceTable) -> Model:
    provider, host = surveyed.name, surveyed.host
    known = Model(
        model=listed.id,
        context_window=listed.context_tokens,
        max_output_tokens=listed.max_output_tokens,
        retires=listed.retires,
    )
    try:
        price = find_route(f"{provider}/{listed.id}", {provider: host}, prices).price
    except Unpriced:
        return known
    window = None if price is FREE else prices.context_window(host.price_provider or provider, listed.id)
    return structs.replace(
        known,
        input_usd_per_mtok=_usd_per_mtok(price.base.input),
        output_usd_per_mtok=_usd_per_mtok(price.base.output),
        context_window=window or listed.context_tokens,
    )


def _usd_per_mtok(rate: int) -> Decimal:
    """A rate of `Price`, 1e-18 dollars a token, as dollars per million tokens."""
    return Decimal(f"{Decimal(rate).scaleb(-12).normalize():f}")


def _tell(listed: list[Provider], is_narrowed: bool) -> None:  # noqa: FBT001 - one caller, one fact
    rows = [(provider, model) for provider in listed for model in provider.models]
    if rows:
        table = Table("model")
        for heading in ("$ per million in", "out", "context"):
            table.add_column(heading, justify="right", no_wrap=True)
        for provider, model in rows[:_TABLE_ROWS]:
            table.add_row(plain(f"{provider.provider}/{model.model}"), *_cells(model))
        tables.print(table)
        if len(rows) > _TABLE_ROWS:
            note(f"and {len(rows) - _TABLE_ROWS} more: narrow them down, such as with: greenroom models mini")
    elif any(provider.reachable for provider in listed):
        note("no model's name holds that text" if is_narrowed else "nobody has a model loaded")
    for provider in listed:
        if provider.problem is not None and provider.by != "local server":
            note(f"{provider.provider}: {provider.problem}")
    if silent := [provider for provider in listed if provider.problem and provider.by == "local server"]:
        note("no local server at " + ", ".join(f"{p.base_url} ({p.provider})" for p in silent))
    if not any(provider.reachable for provider in listed):
        keys = ", ".join(str(host.api_key_env) for host in list(HOSTS.values())[:4])
        note(f"nobody can be asked: set a key ({keys}, ...), start a local server, or see greenroom init")


def _cells(model: Model) -> tuple[str, str, str]:
    if model.input_usd_per_mtok is None:
        return "no price", "", ""
    if not model.input_usd_per_mtok and not model.output_usd_per_mtok:
        return "free", "free", ""
    context = f"{model.context_window:,}" if model.context_window else ""
    return f"{model.input_usd_per_mtok:f}", f"{model.output_usd_per_mtok:f}", context
