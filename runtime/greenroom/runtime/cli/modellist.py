"""What `greenroom models` shows: models and the choice among them, for people and for programs."""

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal

from msgspec import Struct
from rich.table import Table

from greenroom.actors.catalog import Choice, ModelCard
from greenroom.actors.providers.hosts import HOSTS
from greenroom.runtime.cli.output import note, plain, tables

_TABLE_ROWS = 200
_RUNNERS_UP = 10
_REASONS = 10
_SHOWN = {
    "vision": "vision",
    "tools": "tools",
    "json_schema": "schema",
    "reasoning": "reasoning",
    "embeddings": "embeds",
}
"""Capabilities that the table has room for, and their words there."""


class Model(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A model that a host lists or the configuration names; dollars per million tokens, null where nobody says.

    `capabilities` are those that are known, either way; the rest is left out where nobody says it.
    """

    model: str
    input_usd_per_mtok: Decimal | None = None
    output_usd_per_mtok: Decimal | None = None
    context_window: int | None = None
    max_output_tokens: int | None = None
    retires: str | None = None
    capabilities: dict[str, bool] = {}


class Provider(Struct, frozen=True, kw_only=True):
    """What `--json` prints of each provider. `problem` is null where it listed its models."""

    provider: str
    base_url: str
    by: str
    reachable: bool
    problem: str | None
    models: tuple[Model, ...]


def model_of(card: ModelCard) -> Model:
    """What is shown of a model."""
    can = {name: getattr(card.capabilities, name) for name in card.capabilities.__struct_fields__}
    return Model(
        model=card.model,
        input_usd_per_mtok=card.input_usd_per_mtok,
        output_usd_per_mtok=card.output_usd_per_mtok,
        context_window=card.context_tokens,
        max_output_tokens=card.max_output_tokens,
        retires=None if card.retires is None else card.retires.isoformat(),
        capabilities={name: known for name, known in can.items() if known is not None},
    )


def show_models(listed: Sequence[Provider], *, is_narrowed: bool) -> None:
    """The table of models, and beside it who has none and why."""
    rows = [(provider, model) for provider in listed for model in provider.models]
    if rows:
        _show_table(rows)
    elif any(provider.reachable for provider in listed):
        note("no model is known to be so" if is_narrowed else "nobody has a model loaded")
    for provider in listed:
        if provider.problem is not None and provider.by != "local server":
            note(f"{provider.provider}: {provider.problem}")
    if silent := [provider for provider in listed if provider.problem and provider.by == "local server"]:
        note("no local server at " + ", ".join(f"{p.base_url} ({p.provider})" for p in silent))
    if not any(provider.reachable for provider in listed):
        keys = ", ".join(str(host.api_key_env) for host in list(HOSTS.values())[:4])
        note(f"nobody can be asked: set a key ({keys}, ...), start a local server, or see greenroom init")


def _show_table(rows: Sequence[tuple[Provider, Model]]) -> None:
    table = Table("model")
    for heading in ("$ per million in", "out", "context"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("can")
    table.add_column("retires", no_wrap=True)
    for provider, model in rows[:_TABLE_ROWS]:
        name = plain(f"{provider.provider}/{model.model}")
        table.add_row(name, *_cells(model), _can(model), model.retires or "")
    tables.print(table)
    if len(rows) > _TABLE_ROWS:
        note(f"and {len(rows) - _TABLE_ROWS} more: narrow them down, such as with: greenroom models mini")


def _cells(model: Model) -> tuple[str, str, str]:
    context = f"{model.context_window:,}" if model.context_window else ""
    if model.input_usd_per_mtok is None:
        return "no price", "", context
    if not model.input_usd_per_mtok and not model.output_usd_per_mtok:
        return "free", "free", context
    return f"{model.input_usd_per_mtok:f}", f"{model.output_usd_per_mtok:f}", context


def _can(model: Model) -> str:
    """What it is known to do; what it is known not to do has a minus, and of the rest nothing is known."""
    known = model.capabilities
    said = [("" if known[name] else "-") + word for name, word in _SHOWN.items() if name in known]
    return " ".join(said)


def show_choice(choice: Choice) -> None:
    """The explanation of a choice."""
    note(choice.reason)
    table = Table("model", "why")
    for scored in (choice.winner, *choice.runners_up[:_RUNNERS_UP]):
        table.add_row(plain(scored.model), plain(scored.why))
    tables.print(table)
    if len(choice.runners_up) > _RUNNERS_UP:
        note(f"and {len(choice.runners_up) - _RUNNERS_UP} more that would do")
    for why, count in Counter(one.why for one in choice.rejected).most_common(_REASONS):
        note(f"rejected: {why} ({count} model{'s' if count > 1 else ''})")
    for one in choice.unreachable:
        note(f"{one.model}: {one.why}")
