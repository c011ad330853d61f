"""`greenroom chat`: a conversation at a terminal, its answers as they come."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import suppress
from decimal import Decimal
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated

import anyio.to_thread
import typer

from greenroom.actors.events import ProviderFailed, RefusalDelta, TextDelta
from greenroom.actors.flow import Closed, Reply
from greenroom.actors.kernel import Refused
from greenroom.actors.prices import pico_usd, usd
from greenroom.actors.providers import Message
from greenroom.actors.providers.hosts import SIMULATOR
from greenroom.actors.settings import Settings
from greenroom.actors.storage import DatabaseUnusable
from greenroom.runtime.cli.output import EXIT_OK, fail, money, note, plain
from greenroom.runtime.config import ConfigError, environment, load_settings
from greenroom.runtime.discovery import Chosen, choose_providers
from greenroom.runtime.options import OptionInvalid, Options
from greenroom.runtime.session import Session, SessionOptions
from greenroom.runtime.sync import SyncEventStream, SyncRuntime
from greenroom.runtime.telemetry import log_to

_HELP = """\
/model NAME   ask another model from now on, as provider/model; without a name: which one is asked
/clear        forget what was said
/cost         what was charged so far
/help         this
/quit         leave, as Ctrl-D does
Ctrl-C stops an answer; it is not remembered then. A line that ends in \\ goes on in the next; // begins one with /."""


def chat(
    model: Annotated[
        str, typer.Argument(help="provider/model; - is the default model.", show_default=False)
    ] = "-",
    *,
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Bound of each answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="As the provider takes it.")] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="USD", help="The most that all answers together may cost.")
    ] = None,
    session: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Keep the conversation under this name, or go on with it."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. [default: greenroom.toml, if there is one]")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every failed attempt and restart.")
    ] = False,
) -> None:
    r"""Talk with a model; what was said is remembered until you leave, or for good with --session.

    \b
    /model NAME, /clear, /cost, /help and /quit are commands.
    Ctrl-C stops an answer, Ctrl-D leaves.

    \b
    Examples:
      greenroom chat openai/gpt-5.4-mini --system "Answer in one sentence." --budget 0.50
      greenroom chat --session holiday

    What it cost is kept (greenroom costs). In a pipe, use greenroom ask.

    Exit codes: 0 left, 2 usage or configuration.
    """
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        fail("greenroom chat is for terminals; in a pipe, use greenroom ask")
    log_to(sys.stderr, level="info" if verbose else "critical")
    options: Options = {"max_tokens": max_tokens, "temperature": temperature}
    try:
        cap_pusd = None if budget is None else pico_usd(budget)
    except ValueError as error:
        fail(f"--budget: {error}")
    named = None if model == "-" else model
    try:
        settings, chosen = asyncio.run(_chosen(config))
        simulated = (named.removeprefix(f"{SIMULATOR}/"),) if chosen.simulated and named else ()
        note(chosen.how)
        with SyncRuntime(settings, chosen=chosen, simulate_models=simulated) as rt:
            kept = None if session is None else _opened(rt, session, named, system)
            talk = Talk(
                rt,
                named or chosen.default_model,
                system=system,
                options=options,
                cap_pusd=cap_pusd,
                session=kept,
            )
            talk.run(_line_editor())
    except (ConfigError, DatabaseUnusable, Refused, ValueError) as error:
        fail(str(error))
    raise typer.Exit(EXIT_OK)


def _opened(rt: SyncRuntime, name: str, model: str | None, system: str | None) -> Session:
    """The session of that name, and how far it is. What is not said stays as it was."""
    options: SessionOptions = {}
    if model is not None:
        options["model"] = model
    if system is not None:
        options["system"] = system
    session = rt.call(rt.runtime.session, name, **options)
    status = rt.call(session.status)
    turns = status.totals.turns
    note(f"session {name}: {turns} turn{'s' * (turns != 1)}, {money(status.totals.cost_usd)} so far")
    return session


class Talk:
    """A conversation: what was said, whom it is said to, and what it cost.

    Args:
        rt: who asks.
        model: whom; None: nobody yet.
        system: a system message.
        options: of every question.
        cap_pusd: the most that all answers may cost together, in pico-dollars.
        session: keeps what is said; None: it is remembered here, until the end.
    """

    def __init__(
        self,
        rt: SyncRuntime,
        model: str | None,
        *,
        system: str | None = None,
        options: Options | None = None,
        cap_pusd: int | None = None,
        session: Session | None = None,
    ) -> None:
        self._rt = rt
        self._session = session
        self._model = model
        self._beginning = () if system is None else (Message("system", system),)
        self._said: tuple[Message, ...] = self._beginning
        self._options: Options = options or {}
        self._cap_pusd = cap_pusd

    def run(self, read_line: Callable[[str], str]) -> None:
        """Talk until there is nothing more to read.

        Raises:
            Closed: the runtime has failed or was left.
        """
        note(f"{self._model or 'no model yet: /model NAME'}; /help tells what there is, Ctrl-D leaves")
        while True:
            try:
                line = _whole_line(read_line)
            except KeyboardInterrupt:
                sys.stdout.write("\n")
                note("Ctrl-D leaves")
                continue
            except EOFError:
                sys.stdout.write("\n")
                return
            if line.startswith("/") and not line.startswith("//"):
                command, _, rest = line[1:].partition(" ")
                if command in {"quit", "exit"}:
                    return
                self._command(command, rest.strip())
            elif line.strip():
                self._say(line[1:] if line.startswith("//") else line)

    def _command(self, command: str, rest: str) -> None:
        match command:
            case "model":
                self._model = rest or self._model
                if rest and self._session is not None:
                    self._rt.call(self._session.transfer, rest)
                note(f"{self._model or 'no model yet'} is asked")
            case "clear":
                self._said = self._beginning
                if self._session is not None:
                    self._rt.call(self._session.clear)
                note("forgotten")
            case "cost":
                cap = "" if self._cap_pusd is None else f" of {money(usd(self._cap_pusd))}"
                note(f"{money(usd(self._spent_pusd()))}{cap} so far")
            case "help":
                note(_HELP)
            case _:
                note(f"there is no /{command}; /help tells what there is, and // begins a line with /")

    def _say(self, text: str) -> None:
        newest = Message("user", text)
        asked = (newest,) if self._session is not None else (*self._said, newest)
        try:
            reply = self._answer(asked)
        except KeyboardInterrupt:
            note("stopped, and not remembered; what had come is charged, as an estimate")
            return
        except Closed:
            raise
        except (ProviderFailed, Refused, OptionInvalid) as error:
            note(f"error: {error}")
            return
        if self._session is None:
            self._said = (*asked, *reply.new_messages)
        note(
            f"[{reply.usage.total_input_tokens} tokens in, {reply.usage.total_output_tokens} out, "
            f"{money(reply.cost_usd)}]"
            + ("" if reply.finish_reason == "stop" else f" ended by {reply.finish_reason}")
        )

    def _answer(self, asked: tuple[Message, ...]) -> Reply:
        options = self._options.copy()
        options["budget_usd"] = self._left_usd()
        last = "\n"
        try:
            with self._stream(asked, options) as events:
                for event in events:
                    if isinstance(event, TextDelta | RefusalDelta) and event.text:
                        last = event.text[-1]
                        sys.stdout.write(plain(event.text))
                        sys.stdout.flush()
                return events.reply
        finally:
            if last != "\n":
                sys.stdout.write("\n")
                sys.stdout.flush()

    def _stream(self, asked: tuple[Message, ...], options: Options) -> SyncEventStream:
        if self._session is None:
            return self._rt.stream(self._model, asked, **options)
        return self._rt.iterate(self._session.stream(asked, **options))

    def _left_usd(self) -> Decimal | None:
        return None if self._cap_pusd is None else usd(max(0, self._cap_pusd - self._spent_pusd()))

    def _spent_pusd(self) -> int:
        """What was charged or may yet be: this process talks with nobody else."""
        spend = self._rt.call(self._rt.runtime.spend)
        return spend.settled_pusd + spend.held_pusd


def _whole_line(read_line: Callable[[str], str]) -> str:
    lines = [read_line("> ")]
    while lines[-1].endswith("\\"):
        lines[-1] = lines[-1][:-1]
        lines.append(read_line(". "))
    return "\n".join(lines)


def _line_editor() -> Callable[[str], str]:
    """Reads a line from the terminal, with history and arrow keys where Python has readline."""
    with suppress(ImportError):
        import_module("readline")  # `input` uses it once it is there
    return input


async def _chosen(config: Path | None) -> tuple[Settings, Chosen]:
    settings = await anyio.to_thread.run_sync(partial(load_settings, config))
    return settings, await choose_providers(settings, environment())
