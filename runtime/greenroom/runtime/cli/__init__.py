"""The `greenroom` command."""

from typing import Annotated

import typer

from greenroom.runtime.cli.ask import ask
from greenroom.runtime.cli.costs import costs
from greenroom.runtime.cli.doctor import doctor
from greenroom.runtime.cli.init import init
from greenroom.runtime.cli.models import models
from greenroom.runtime.cli.run import run
from greenroom.runtime.cli.simulate import simulate

app = typer.Typer(
    name="greenroom",
    help=(
        "Supervised actors that orchestrate calls to language models.\n\n"
        "Start with: greenroom run examples/support_tickets.jsonl"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(run)
app.command()(ask)
app.command()(costs)
app.command()(simulate)
app.command()(models)
app.command()(init)
app.command()(doctor)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - Typer hands a flag's value by position
    if wanted:
        from importlib.metadata import version

        typer.echo(f"greenroom {version('greenroom')}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Take the options that stand before a command."""


def main() -> None:
    """The entry point of the `greenroom` command."""
    app()
