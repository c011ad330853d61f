"""The `greenroom` command."""

from typing import Annotated

import typer

from greenroom.runtime.cli.ask import ask
from greenroom.runtime.cli.batches import app as batches
from greenroom.runtime.cli.chat import chat
from greenroom.runtime.cli.costs import costs
from greenroom.runtime.cli.doctor import doctor
from greenroom.runtime.cli.init import init
from greenroom.runtime.cli.models import models
from greenroom.runtime.cli.output import help_of
from greenroom.runtime.cli.purge import purge
from greenroom.runtime.cli.run import run
from greenroom.runtime.cli.sessions import app as sessions
from greenroom.runtime.cli.simulate import simulate

app = typer.Typer(
    name="greenroom",
    help=(
        "Supervised actors that orchestrate calls to language models.\n\n"
        "Start with: greenroom run examples/support_tickets.jsonl"
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    # Plain help: markup would eat what stands in brackets, and break the lines of examples.
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (run, ask, chat, costs, simulate, models, init, doctor, purge):
    app.command(help=help_of(_command))(_command)

app.add_typer(batches, name="batches")
app.add_typer(sessions, name="sessions")


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
