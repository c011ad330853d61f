"""How commands speak: people get text on standard error and tables on standard output, programs get JSON."""

import inspect
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import NoReturn, cast

import msgspec
import typer
from rich.console import Console
from rich.text import Text

EXIT_OK = 0
EXIT_FAILED_ITEMS = 1
EXIT_USAGE = 2
EXIT_REFUSED = 3
EXIT_INTERRUPTED = 130

# Neither markup nor emoji: file names, models and providers' messages are full of brackets and colons.
notes = Console(stderr=True, highlight=False, soft_wrap=True, markup=False, emoji=False)
tables = Console(highlight=False, markup=False, emoji=False)
if not tables.is_terminal:
    # A pipe has no width to fit; eighty columns would break names and figures.
    tables = Console(highlight=False, markup=False, emoji=False, width=140)

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def fail(message: str, code: int = EXIT_USAGE) -> NoReturn:
    """Say what is wrong, on standard error, and end with `code`."""
    notes.print(Text.assemble(("error:", "red"), " ", plain(message)))
    raise typer.Exit(code)


def note(message: str) -> None:
    """Say something by the way, on standard error."""
    notes.print(plain(message))


def print_json(value: object) -> None:
    """One JSON object on a line of its own, on standard output. Sums of money are text, without an exponent."""
    sys.stdout.write(msgspec.json.encode(_in_full(value)).decode() + "\n")
    sys.stdout.flush()


def _in_full(value: object) -> object:
    """The value with every decimal written out."""
    plain_value: object = msgspec.to_builtins(value, builtin_types=(Decimal,))
    if isinstance(plain_value, Decimal):
        return f"{plain_value:f}"
    if isinstance(plain_value, dict):
        return {key: _in_full(inner) for key, inner in cast("dict[str, object]", plain_value).items()}
    if isinstance(plain_value, list):
        return [_in_full(inner) for inner in cast("list[object]", plain_value)]
    return plain_value


def help_of(command: Callable[..., None]) -> str:
    """A command's docstring as its help. Click keeps the line breaks of paragraphs under a backspace character, which
    raw docstrings spell out.
    """
    return inspect.cleandoc(command.__doc__ or "").replace(r"\b", "\b")


def money(cost_usd: Decimal) -> str:
    """Dollars for people: cents where there are some, else as many digits as say something."""
    if cost_usd == 0:
        return "$0"
    digits = 2 if cost_usd >= 1 else 4 if cost_usd >= Decimal("0.01") else 3 - cost_usd.adjusted()
    return f"${cost_usd.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"


def duration(seconds: float) -> str:
    """A span of time for people: `0.4 s`, `12 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def moment(at_ms: int) -> str:
    """Unix milliseconds in ISO's form, UTC, to the second."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def end_output() -> None:
    """Whoever read standard output has enough. What Python would still flush at the end has nowhere to go."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def plain(text: str) -> str:
    """Text that cannot steer the terminal, whoever wrote it: a server's error message may hold escape sequences."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)
