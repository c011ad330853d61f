"""`greenroom sessions`: the conversations that are kept."""

import asyncio
import sys
from collections.abc import Callable, Generator
from decimal import Decimal
from pathlib import Path
from typing import Annotated, cast

import msgspec
import typer
from msgspec import Struct
from rich.table import Table

from greenroom.actors import storage
from greenroom.actors.prices import usd
from greenroom.actors.providers import Message
from greenroom.actors.session import SessionRefused, no_checkpoint
from greenroom.actors.session.records import read_chain, read_checkpoints, read_settings, settings_of
from greenroom.actors.storage import Query, ReadOnly, Rows
from greenroom.runtime.cli.database import Config, reading, with_runtime
from greenroom.runtime.cli.output import fail, help_of, moment, money, note, plain, print_json, tables
from greenroom.runtime.runtime import Runtime
from greenroom.runtime.session import ExportedSession, document_of

_TEXT_CHARS = 2_000
Name = Annotated[str, typer.Argument(help="The session's name.", show_default=False)]
At = Annotated[
    str | None,
    typer.Option(help="A checkpoint's name, or the number of a turn. [default: where the session is]"),
]

app = typer.Typer(
    help="List, read, copy and delete the conversations that are kept.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


class Listed(Struct, frozen=True, kw_only=True):
    """What `--json` prints of each session. Times are in ISO's form, UTC."""

    name: str
    model: str | None
    turns: int
    tokens: int
    cost_usd: Decimal
    created_at: str
    last_said_at: str


def list_(
    *,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a session, on standard output.")
    ] = False,
    config: Config = None,
) -> None:
    r"""List all sessions; also while another process speaks in them.

    \b
    Examples:
      greenroom sessions list
      greenroom sessions list --json | jq -r 'select(.cost_usd != "0") | .name'
    """
    found = _listed(config)
    if as_json:
        for one in found:
            print_json(one)
    elif found:
        table = Table("session", "model")
        for heading in ("turns", "tokens", "cost", "last said"):
            table.add_column(heading, justify="right", no_wrap=True)
        for one in found:
            figures = (f"{one.turns:,}", f"{one.tokens:,}", money(one.cost_usd), one.last_said_at)
            table.add_row(plain(one.name), plain(one.model or "-"), *figures)
        tables.print(table)
    else:
        note("there are no sessions yet: greenroom chat --session NAME begins one")


def show(
    name: Name,
    *,
    at: At = None,
    as_json: Annotated[bool, typer.Option("--json", help="The same as greenroom sessions export.")] = False,
    config: Config = None,
) -> None:
    r"""Show what was said in a session, oldest first, with the number of each turn and what it cost.

    \b
    Examples:
      greenroom sessions show user-42
      greenroom sessions show user-42 --at before-the-offer
    """
    document = _read(name, at, config)
    if as_json:
        print_json(document)
        return
    settings = document.settings
    note(f"model {settings.model or 'default'}, window {settings.window.strategy}")
    if settings.system is not None:
        tables.print(f"system: {plain(settings.system)}")
    names = {seq: place for place, seq in document.checkpoints.items()}
    for turn in document.turns:
        cost = f", {money(turn.cost_usd)}" if turn.cost_usd else ""
        place = f" <- {names[turn.seq]}" if turn.seq in names else ""
        tables.print(f"\n{turn.seq}  {moment(turn.created_at_ms)}  {turn.model or ''}{cost}{plain(place)}")
        for message in turn.messages:
            tables.print(f"{message.role}: {_text(message)}")


def export(name: Name, *, at: At = None, config: Config = None) -> None:
    r"""Print a session as one JSON document, which greenroom sessions import takes, here or elsewhere.

    \b
    Examples:
      greenroom sessions export user-42 > user-42.json
      greenroom sessions export user-42 --at 12 | greenroom sessions import - --name tried-again
    """
    print_json(_read(name, at, config))


def import_(
    path: Annotated[str, typer.Argument(help="The document; - is standard input.", show_default=False)],
    *,
    name: Annotated[str | None, typer.Option(help="Another name than the document's.")] = None,
    config: Config = None,
) -> None:
    """Make a session of a document that was exported: all of it, or nothing."""
    try:
        data = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
        document = msgspec.json.decode(data, type=ExportedSession)
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    except msgspec.DecodeError as error:
        fail(f"{path} is no exported session: {error}")

    async def importing(rt: Runtime) -> str:
        return (await rt.import_session(document, name=name)).name

    note(f"session {with_runtime(config, importing)} has {len(document.turns)} turns")


def branch(
    name: Name, new: Annotated[str, typer.Argument()], *, at: At = None, config: Config = None
) -> None:
    """Make a session that shares what was said in another one, and nothing that is said later in either."""
    document = _read(name, at, config)

    async def branching(rt: Runtime) -> None:
        await rt.import_session(document, name=new)

    with_runtime(config, branching)
    note(f"session {new} has {len(document.turns)} turns of {name}")


def delete(
    names: Annotated[list[str], typer.Argument(help="The sessions' names.", show_default=False)],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: Config = None,
) -> None:
    """Delete sessions with all that was said in them. What they spent stays in the ledger."""
    known = {one.name for one in _listed(config)}
    for name in names:
        if name not in known:
            fail(f"there is no session {name!r}")
    if not yes:
        typer.confirm(f"Delete {len(names)} session{'s' * (len(names) != 1)} for good?", abort=True, err=True)

    async def deleting(rt: Runtime) -> None:
        for name in names:
            await (await rt.session(name)).delete()

    with_runtime(config, deleting)
    note(f"{len(names)} deleted")


_COMMANDS: dict[str, Callable[..., None]] = {
    "list": list_,
    "show": show,
    "export": export,
    "import": import_,
    "branch": branch,
    "delete": delete,
}
for _name, _command in _COMMANDS.items():
    app.command(_name, help=help_of(_command))(_command)


class _Reader:
    """A database that is open for reading, as `records` asks it."""

    def __init__(self, database: ReadOnly) -> None:
        self._database = database

    async def call(self, message: Query, *, timeout: float | None = None) -> Rows:  # noqa: ASYNC109 - as the store's
        return self._database.read(message.statement, message.parameters)


def _listed(config: Path | None) -> list[Listed]:
    """All sessions, by name; also where there is no database yet."""
    with reading(config) as database:
        return [] if database is None else list(_all(database))


def _all(database: ReadOnly) -> Generator[Listed]:
    after = ""
    while True:
        rows = database.read(storage.SESSIONS, {"after_id": after})
        for row in rows:
            name, created, said, settings, turns, tokens, cost = cast(
                "tuple[str, int, int, str, int, int, int]", row
            )
            after = name
            yield Listed(
                name=name,
                model=settings_of(name, settings).model,
                turns=turns,
                tokens=tokens,
                cost_usd=usd(cost),
                created_at=moment(created),
                last_said_at=moment(said),
            )
        if len(rows) < storage.TURNS_PAGE:
            return


def _read(name: str, at: str | None, config: Path | None) -> ExportedSession:
    """A session as a document, up to a place."""
    document: ExportedSession | None = None
    with reading(config) as database:
        if database is not None:
            try:
                document = asyncio.run(_document(_Reader(database), name, at))
            except SessionRefused as refusal:
                fail(str(refusal))
    if document is None:
        fail(f"there is no session {name!r}; greenroom sessions list shows those there are")
    return document


async def _document(reader: _Reader, name: str, at: str | None) -> ExportedSession | None:
    settings = await read_settings(reader, name)
    if settings is None:
        return None
    checkpoints = await read_checkpoints(reader, name)
    head: int | None = None
    if at is not None:
        if at not in checkpoints and not at.isdecimal():
            raise no_checkpoint(name, at, checkpoints)
        head = checkpoints[at] if at in checkpoints else int(at)
        if head is None:
            return document_of(name, settings, (), checkpoints)
    chain = await read_chain(reader, name, head_seq=head, most_bytes=None)
    if head is not None and not chain.entries:
        raise SessionRefused(f"session {name!r} has no turn {head}")
    return document_of(name, settings, chain.entries, checkpoints)


def _text(message: Message) -> str:
    """What a message says, in a line or a few."""
    content = message.content
    if isinstance(content, tuple):
        content = " ".join(getattr(part, "text", "(an image)") for part in content)
    calls = "".join(
        f"\n  calls {tool.function.name}({tool.function.arguments})" for tool in message.tool_calls or ()
    )
    said = (content or message.refusal or "") + calls
    cut = f"... ({len(said) - _TEXT_CHARS} characters more)" if len(said) > _TEXT_CHARS else ""
    return plain(said[:_TEXT_CHARS]) + cut
