"""How commands speak: what others wrote is shown as it is, and steers neither Rich nor the terminal."""

from decimal import Decimal

import pytest
import typer
from rich.table import Table

from greenroom.runtime.cli.output import duration, fail, money, note, plain, print_json, tables

NASTY = "[red]x[/red] [/] :smile: \\[b] [link=http://x]y"


def test_a_note_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    note(NASTY)
    out, err = capsys.readouterr()
    assert (out, err) == ("", f"{NASTY}\n")


def test_an_error_ends_with_a_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        fail(NASTY, 3)
    out, err = capsys.readouterr()
    assert (out, err, ended.value.exit_code) == ("", f"error: {NASTY}\n", 3)


def test_long_lines_are_not_broken(capsys: pytest.CaptureFixture[str]) -> None:
    note("x" * 500)
    assert capsys.readouterr().err == "x" * 500 + "\n"


def test_a_table_shows_names_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("model", title=NASTY)
    table.add_row("[bold]m[/bold] :zap:")
    tables.print(table)
    out = capsys.readouterr().out
    assert NASTY in " ".join(out.split())
    assert "[bold]m[/bold] :zap:" in out


def test_a_servers_message_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    note("no\x1b[2J\x1b]0;title\x07 \x9b1m\r\x08 yes\n\tand")
    err = capsys.readouterr().err
    assert err == "no\ufffd[2J\ufffd]0;title\ufffd \ufffd1m\ufffd\ufffd yes\n\tand\n".expandtabs(8)
    assert plain("Grüße 你好 \U0001f44b\u200d") == "Grüße 你好 \U0001f44b\u200d"


def test_json_is_one_line_of_utf_8(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": "ü\n", "cost_usd": Decimal("0.10")})
    assert capsys.readouterr().out == '{"a":"ü\\n","cost_usd":"0.10"}\n'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (10, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("usd", "text"),
    [("0", "$0"), ("0E-12", "$0"), ("12.345", "$12.35"), ("1", "$1.00"), ("0.0123", "$0.0123")],
)
def test_money(usd: str, text: str) -> None:
    assert money(Decimal(usd)) == text
