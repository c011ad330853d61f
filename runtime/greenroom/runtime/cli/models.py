"""`greenroom models`: who is reachable, which models they have, what these cost and can do, and which of them suits."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from msgspec import Struct

from greenroom.actors.catalog import Choose, ModelCard, NothingEligible, RejectedModel, Requirements, Strategy
from greenroom.actors.catalog.cards import cards_of
from greenroom.actors.catalog.limits import Candidate, limits
from greenroom.actors.catalog.records import NOTHING_MEASURED
from greenroom.actors.catalog.selection import choose
from greenroom.actors.prices import PricesNotRefreshed, PriceTable, refresh_prices
from greenroom.runtime.cli.modellist import Provider, model_of, show_choice, show_models
from greenroom.runtime.cli.output import EXIT_OK, EXIT_USAGE, fail, note, print_json
from greenroom.runtime.config import ConfigError, environment, load_settings, prices_folder
from greenroom.runtime.discovery import Surveyed, listing_of, survey


class _Known(Struct, frozen=True):
    """A provider that was asked, and all models that are known of it."""

    surveyed: Surveyed
    cards: tuple[ModelCard, ...]


def models(
    match: Annotated[
        str | None, typer.Argument(help="Only models whose name holds this text.", show_default=False)
    ] = None,
    *,
    provider: Annotated[
        list[str] | None, typer.Option(help="Only of this provider; may be given several times.")
    ] = None,
    vision: Annotated[bool, typer.Option("--vision", help="Only models known to take images.")] = False,
    tools: Annotated[bool, typer.Option("--tools", help="Only models known to call functions.")] = False,
    json_schema: Annotated[
        bool, typer.Option("--json-schema", help="Only models known to hold their answers to a schema.")
    ] = False,
    reasoning: Annotated[bool, typer.Option("--reasoning", help="Only models known to think first.")] = False,
    context: Annotated[
        int | None, typer.Option(min=1, help="Only models with a context window of so many tokens.")
    ] = None,
    max_input_usd: Annotated[
        float | None,
        typer.Option(min=0, help="Only models of at most so many dollars per million tokens in."),
    ] = None,
    max_output_usd: Annotated[
        float | None,
        typer.Option(min=0, help="Only models of at most so many dollars per million tokens out."),
    ] = None,
    free: Annotated[bool, typer.Option("--free", help="Only models that cost nothing.")] = False,
    choose_by: Annotated[
        Strategy | None,
        typer.Option(
            "--choose", help="Choose one of them as AUTO would, and explain it.", show_default=False
        ),
    ] = None,
    refresh: Annotated[
        bool,
        typer.Option(
            "--refresh-prices", help="Fetch the published prices first, for this and all later commands."
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a provider, or the choice, on standard output.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. [default: greenroom.toml, if there is one]")
    ] = None,
) -> None:
    r"""List the models that can be asked now, with prices and what they can do; and who cannot be reached, and why.

    Asked are the providers of greenroom.toml; without one, the hosts whose key variable is set, and the servers that
    people run on their own machines (Ollama, LM Studio, llama.cpp, vLLM).

    \b
    Examples:
      greenroom models
      greenroom models mini
      greenroom models --vision --max-output-usd 5
      greenroom models --tools --choose cheapest
      OLLAMA_HOST=gpu-box:11434 greenroom models
      greenroom models --json | jq -r '.provider + "/" + .models[].model'

    A model without a price cannot be asked unless greenroom.toml says what it costs; servers on this machine are free.
    Options narrow the list down to what is known: a model of which nobody says whether it takes images is left out by
    --vision. What is known and not listed goes into greenroom.toml, [providers.NAME.models."MODEL"].

    Exit codes: 0 somebody answered, 2 nobody did, or no model can be chosen.
    """
    try:
        needs = Requirements(
            context_tokens=context,
            vision=vision,
            tools=tools,
            json_schema=json_schema,
            reasoning=reasoning,
            max_input_usd_per_mtok=max_input_usd,
            max_output_usd_per_mtok=max_output_usd,
            free_only=free,
        )
        settings = load_settings(config)
        if refresh:
            asyncio.run(_refresh(settings.prices.url))
        found = asyncio.run(survey(settings, environment()))
    except (ConfigError, ValueError) as error:
        fail(str(error))
    if provider:
        found = _only(found, provider)
    known = _known(found, (match or "").casefold())
    if choose_by is not None:
        _choose(known, Choose(requirements=needs, strategy=choose_by), as_json=as_json)
        return
    shown = [_provider(one, needs) for one in known]
    if as_json:
        for one in shown:
            print_json(one)
    else:
        show_models(shown, is_narrowed=bool(match) or needs != Requirements())
    raise typer.Exit(EXIT_OK if any(one.reachable for one in shown) else EXIT_USAGE)


async def _refresh(url: str | None) -> None:
    try:
        count = await refresh_prices(prices_folder(), url)
        note(f"fetched the prices of {count:,} models")
    except PricesNotRefreshed as error:
        note(f"prices are not refreshed, those in use stay: {error}")


def _only(found: list[Surveyed], names: Sequence[str]) -> list[Surveyed]:
    there = [surveyed.name for surveyed in found]
    for name in names:
        if name not in there:
            fail(
                f"--provider {name}: there is no such provider in use; there are: {', '.join(there) or 'none'}"
            )
    return [surveyed for surveyed in found if surveyed.name in names]


def _known(found: Sequence[Surveyed], match: str) -> list[_Known]:
    prices, now = PriceTable.load(prices_folder()), datetime.now(UTC)
    known: list[_Known] = []
    for one in found:
        cards = cards_of(one.name, one.host, listing_of(one.probe), prices, now)
        named = sorted(
            (card for card in cards if match in card.model.casefold()), key=lambda card: card.model
        )
        known.append(_Known(one, tuple(named)))
    return known


def _provider(known: _Known, needs: Requirements) -> Provider:
    surveyed = known.surveyed
    return Provider(
        provider=surveyed.name,
        base_url=surveyed.host.base_url,
        by=surveyed.by,
        reachable=surveyed.probe.problem is None,
        problem=surveyed.probe.problem,
        models=tuple(model_of(card) for card in known.cards if _meets(card, needs)),
    )


def _meets(card: ModelCard, needs: Requirements) -> bool:
    """Whether a model meets what was asked for. All are shown where nothing was, also those that cannot be asked."""
    if needs == Requirements():
        return True
    candidate = Candidate(card, NOTHING_MEASURED)
    checks = limits(Choose(requirements=needs), datetime.now(UTC).date())
    return not any(check(candidate) for _, check in checks)


def _choose(known: Sequence[_Known], asked: Choose, *, as_json: bool) -> None:
    candidates = [Candidate(card, NOTHING_MEASURED) for one in known for card in one.cards]
    unreachable = tuple(
        RejectedModel(one.surveyed.name, problem)
        for one in known
        if (problem := listing_of(one.surveyed.probe).unreachable) is not None
    )
    try:
        choice = choose(candidates, asked, datetime.now(UTC).date(), unreachable)
    except NothingEligible as refusal:
        fail(str(refusal))
    if as_json:
        print_json(choice)
    else:
        show_choice(choice)
