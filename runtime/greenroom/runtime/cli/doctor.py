"""`greenroom doctor`: what is configured, reachable and missing, and the fix for each."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from greenroom.runtime.checkup import Check, check_up
from greenroom.runtime.cli.output import EXIT_FAILED_ITEMS, EXIT_OK, note, plain, print_json, tables
from greenroom.runtime.config import environment

_STYLES = {"ok": "green", "warning": "yellow", "failed": "red"}


def doctor(
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")] = False,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. [default: greenroom.toml, if there is one]")
    ] = None,
) -> None:
    r"""Check configuration, keys, providers, database, disk and clock; say what is wrong and what would mend it.

    Changes nothing, and sends nothing but a request for each provider's list of models. Keys are never shown.

    \b
    Examples:
      greenroom doctor
      greenroom doctor --config staging.toml
      greenroom doctor --json | jq '.checks[] | select(.status != "ok")'

    Exit codes: 0 nothing failed (there may be warnings), 1 something did.
    """
    checks = asyncio.run(check_up(config, environment()))
    failed = sum(check.status == "failed" for check in checks)
    if as_json:
        print_json({"ok": not failed, "checks": checks})
    else:
        _tell(checks)
    raise typer.Exit(EXIT_FAILED_ITEMS if failed else EXIT_OK)


def _tell(checks: list[Check]) -> None:
    table = Table(show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for check in checks:
        text = plain(check.detail) + (f"\n→ {plain(check.fix)}" if check.fix else "")
        table.add_row(Text(check.status, _STYLES[check.status]), plain(check.name), text)
    tables.print(table)
    wrong = [check for check in checks if check.status != "ok"]
    note(f"{len(wrong)} of {len(checks)} need a look" if wrong else "all is well")
