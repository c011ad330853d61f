"""`greenroom ask`: one question, its answer as it comes. For people at a terminal, and for pipes."""

import asyncio
import sys
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio.to_thread
import typer
from msgspec import Struct

from greenroom.actors.events import FinishReason, ProviderFailed, RefusalDelta, TextDelta, Usage
from greenroom.actors.flow import Reply
from greenroom.actors.flow.event_stream import EventStream
from greenroom.actors.kernel import Refused
from greenroom.actors.ledger import BudgetExceeded
from greenroom.actors.prices import pico_usd
from greenroom.actors.providers import Message
from greenroom.actors.providers.hosts import SIMULATOR
from greenroom.actors.storage import DatabaseUnusable
from greenroom.runtime.cli.output import (
    EXIT_FAILED_ITEMS,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_REFUSED,
    end_output,
    fail,
    money,
    note,
    plain,
    print_json,
)
from greenroom.runtime.config import ConfigError, environment, load_settings
from greenroom.runtime.discovery import choose_providers
from greenroom.runtime.runtime import Runtime
from greenroom.runtime.telemetry import log_to

_MAX_PROMPT_BYTES = 64 * 1024 * 1024


class _Asking(Struct, frozen=True, kw_only=True):
    """The command's options, as given."""

    model: str
    prompt: str
    system: str | None
    max_tokens: int | None
    temperature: float | None
    seed: int | None
    timeout_s: float | None
    budget: str | None
    as_json: bool
    config: Path | None


class _Answer(Struct, frozen=True, kw_only=True):
    """What `--json` prints."""

    text: str
    model: str
    provider: str
    finish_reason: FinishReason
    usage: Usage
    cost_usd: Decimal
    attempts: int
    reasoning: str
    refusal: str | None
    request_id: str | None


def ask(
    model: Annotated[str, typer.Argument(help="provider/model; - is the default model.", show_default=False)],
    prompt: Annotated[
        str, typer.Argument(help="What to ask; - is standard input.", show_default=False)
    ] = "-",
    *,
    system: Annotated[str | None, typer.Option("--system", "-s", help="A system message.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Bound of the answer.")] = None,
    temperature: Annotated[float | None, typer.Option(help="As the provider takes it.")] = None,
    seed: Annotated[int | None, typer.Option(help="For providers that can repeat themselves.")] = None,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout", min=0.001, help="Seconds for everything, retries included.")
    ] = None,
    budget: Annotated[
        str | None, typer.Option(metavar="USD", help="The most that the answer may cost, retries included.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object at the end instead of the text as it comes.")
    ] = False,
    config: Annotated[
        Path | None, typer.Option(help="Configuration file. [default: greenroom.toml, if there is one]")
    ] = None,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Log every failed attempt and restart.")
    ] = False,
) -> None:
    r"""Ask a model one question, and print its answer as it comes.

    The text goes to standard output, all else to standard error. What it cost is kept (greenroom costs).

    \b
    Examples:
      greenroom ask openai/gpt-5.4-mini "Why is the sky blue?"
      git diff | greenroom ask - --system "Write a commit message for this change." | tee message.txt
      greenroom ask sim/fast "Anything" --json | jq .cost_usd

    Ctrl-C closes the connection: what had come by then is charged, as an estimate.

    Exit codes: 0 answered, 1 no answer or a broken one, 2 usage or configuration, 3 no room in a budget,
    130 interrupted.
    """
    log_to(sys.stderr, level="info" if verbose else "critical")
    asking = _Asking(
        model="" if model == "-" else model,
        prompt=_standard_input() if prompt == "-" else prompt,
        system=system,
        max_tokens=max_tokens,
        temperature=temperature,
        seed=seed,
        timeout_s=timeout_s,
        budget=budget,
        as_json=as_json,
        config=config,
    )
    if budget is not None:
        try:
            pico_usd(budget)
        except ValueError as error:
            fail(f"--budget: {error}")
    try:
        asyncio.run(_ask(asking))
    except ProviderFailed as failure:
        fail(str(failure), EXIT_FAILED_ITEMS)
    except BudgetExceeded as error:
        fail(str(error), EXIT_REFUSED)
    except (ConfigError, DatabaseUnusable, Refused) as error:
        fail(str(error))
    except BrokenPipeError:
        end_output()
    except KeyboardInterrupt:
        raise typer.Exit(EXIT_INTERRUPTED) from None
    raise typer.Exit(EXIT_OK)


def _standard_input() -> str:
    if sys.stdin.isatty():
        note("reading the question from standard input; Ctrl-D ends it")
    data = sys.stdin.buffer.read(_MAX_PROMPT_BYTES + 1)
    if len(data) > _MAX_PROMPT_BYTES:
        fail(f"standard input is larger than {_MAX_PROMPT_BYTES} bytes, which no model takes")
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        fail(f"standard input is not UTF-8: byte {error.start} is 0x{data[error.start]:02x}")
    if not text.strip():
        fail("there is nothing to ask: standard input is empty")
    return text


async def _ask(asking: _Asking) -> None:
    settings = await anyio.to_thread.run_sync(partial(load_settings, asking.config))
    chosen = await choose_providers(settings, environment())
    note(chosen.how_asked(asking.model))
    simulated = (asking.model.removeprefix(f"{SIMULATOR}/"),) if chosen.simulated and asking.model else ()
    messages = [Message("user", asking.prompt)]
    if asking.system is not None:
        messages.insert(0, Message("system", asking.system))
    async with (
        Runtime(settings, chosen=chosen, simulate_models=simulated) as runtime,
        runtime.stream(
            asking.model or None,
            messages,
            max_tokens=asking.max_tokens,
            temperature=asking.temperature,
            seed=asking.seed,
            timeout_s=asking.timeout_s,
            budget_usd=asking.budget,
        ) as events,
    ):
        if asking.as_json:
            print_json(_answer(await events.finish()))
            return
        await _print(events)
        reply = events.reply
        note(
            f"{reply.provider}/{reply.model}: {reply.usage.total_input_tokens} tokens in, "
            f"{reply.usage.total_output_tokens} out, {money(reply.cost_usd)}"
            + ("" if reply.finish_reason == "stop" else f", ended by {reply.finish_reason}")
        )


async def _print(events: EventStream) -> None:
    """The text as it comes. Written in a thread: a pipe that nobody reads must not hold up the clock of the call."""
    terminal = sys.stdout.isatty()
    last = "\n"
    try:
        async for event in events:
            if isinstance(event, TextDelta | RefusalDelta) and event.text:
                text = plain(event.text) if terminal else event.text
                last = text[-1]
                await anyio.to_thread.run_sync(_write, text, abandon_on_cancel=True)
    finally:
        if last != "\n":
            _write("\n")


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


def _answer(reply: Reply) -> _Answer:
    return _Answer(
        text=reply.text,
        model=reply.model,
        provider=reply.provider,
        finish_reason=reply.finish_reason,
        usage=reply.usage,
        cost_usd=reply.cost_usd,
        attempts=reply.attempts,
        reasoning=reply.reasoning,
        refusal=reply.refusal,
        request_id=reply.request_id,
    )
