"""`greenroom chat`: what a talk does with each line, and the command itself at a terminal of its own."""

import asyncio
import fcntl
import os
import select
import signal
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web
from tests.blocking import runtime
from tests.cli.test_ask import WORDS, answer, answer_half_and_wait
from tests.integration.commands import Greenroom
from tests.integration.evidence import ledger
from tests.integration.upstream import Asked, UpstreamThread

from greenroom.actors.settings import PriceSettings
from greenroom.runtime.cli.chat import Talk
from greenroom.runtime.testing import Fails, Received, Says

PRICES = {"*": PriceSettings(input="1", output="2")}
WAIT_S = 40.0
_ON_A_TERMINAL = "import fcntl, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); from greenroom.runtime.cli import main; main()"


def lines(*typed: str | type[BaseException]) -> Callable[[str], str]:
    """Somebody who types these lines, or keys, and then Ctrl-D."""
    left = iter(typed)

    def read(_prompt: str) -> str:
        line = next(left, EOFError)
        if isinstance(line, str):
            return line
        raise line

    return read


def said(asked: Received) -> list[tuple[str, object]]:
    messages = msgspec.convert(asked.body["messages"], list[dict[str, object]])
    return [(str(message["role"]), message["content"]) for message in messages]


class TestTalk:
    def test_remembers_until_it_is_told_to_forget(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with runtime(tmp_path, "Hi.", "Ada.", "Who?") as (rt, provider):
            talk = Talk(rt, None, system="Be brief.")
            talk.run(lines("I am Ada.", "", "   ", "Who am I?", "/clear", "Who am I?"))
        assert [said(asked) for asked in provider.received] == [
            [("system", "Be brief."), ("user", "I am Ada.")],
            [
                ("system", "Be brief."),
                ("user", "I am Ada."),
                ("assistant", "Hi."),
                ("user", "Who am I?"),
            ],
            [("system", "Be brief."), ("user", "Who am I?")],
        ]
        printed = capsys.readouterr()
        assert printed.out == "Hi.\nAda.\nWho?\n\n"
        assert "tokens in" in printed.err

    def test_a_session_is_gone_on_with(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with runtime(tmp_path, "Hi.", "Ada.", "Who?") as (rt, provider):
            session = rt.call(rt.runtime.session, "holiday", system="Be brief.")
            Talk(rt, None, session=session).run(lines("I am Ada."))
            talk = Talk(rt, None, session=rt.call(rt.runtime.session, "holiday"))
            talk.run(lines("Who am I?", "/model scripted/two", "/clear", "Who am I?"))
            assert rt.call(session.status).totals.turns == 3
        assert [said(asked) for asked in provider.received] == [
            [("system", "Be brief."), ("user", "I am Ada.")],
            [
                ("system", "Be brief."),
                ("user", "I am Ada."),
                ("assistant", "Hi."),
                ("user", "Who am I?"),
            ],
            [("system", "Be brief."), ("user", "Who am I?")],
        ]
        assert provider.received[2].body["model"] == "two"
        assert "Ada." in capsys.readouterr().out

    def test_commands(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        answer = Says("Hi.", prompt_tokens=10, completion_tokens=5)
        with runtime(tmp_path, then=answer, prices=PRICES) as (rt, provider):
            talk = Talk(rt, "scripted/one", cap_pusd=10**12)
            talk.run(
                lines(
                    "a",
                    "/model scripted/two",
                    "b",
                    "/model",
                    "/cost",
                    "/help",
                    "/modle x",
                    "//b",
                    "c \\",
                    "d",
                    "/quit",
                    "e",
                )
            )
        assert [asked.model for asked in provider.received] == ["one", "two", "two", "two"]
        assert [asked.prompt for asked in provider.received] == ["a", "b", "/b", "c \nd"]
        told = capsys.readouterr().err
        assert told.count("scripted/two is asked") == 2
        assert "$0.00004000 of $1.00 so far" in told
        assert "/clear        forget what was said" in told
        assert "there is no /modle" in told

    def test_a_failure_is_told_and_not_remembered(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with runtime(tmp_path, Fails(401), Fails(404), "Hi.") as (rt, provider):
            Talk(rt, "scripted/any").run(lines("lost", "lost", "found"))
        told = capsys.readouterr().err
        assert "error: scripted/any: authentication 401" in told
        assert "error: scripted/any: not_found 404" in told
        assert said(provider.received[2]) == [("user", "found")]

    def test_the_budget_is_of_all_answers(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        answer = Says("Hi.", prompt_tokens=10, completion_tokens=100)
        with runtime(tmp_path, then=answer, prices=PRICES) as (rt, provider):
            Talk(rt, None, options={"max_tokens": 100}, cap_pusd=800 * 10**6).run(
                lines("a", "b", "c", "d", "e")
            )
        assert 2 <= len(provider.received) <= 3
        assert "error: " in capsys.readouterr().err

    def test_ctrl_c_stops_the_answer_and_not_the_talk(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        async def interrupting(received: Received) -> str:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            await asyncio.Event().wait()
            return ""

        with runtime(tmp_path, interrupting, "Hi.") as (rt, provider):
            Talk(rt, None).run(lines("lost", KeyboardInterrupt, "found"))
        told = capsys.readouterr().err
        assert "stopped, and not remembered" in told
        assert "Ctrl-D leaves" in told
        assert said(provider.received[1]) == [("user", "found")]

    def test_what_a_model_says_cannot_steer_the_terminal(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with runtime(tmp_path, "a\x1b[2Jb") as (rt, _provider):
            Talk(rt, None).run(lines("x"))
        assert "\x1b" not in capsys.readouterr().out


class Terminal:
    """A pseudo-terminal with the command on it."""

    def __init__(self, greenroom: Greenroom, *args: str) -> None:
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, b"\x18\0\xc8\0\0\0\0\0")
        self.process = subprocess.Popen(
            [sys.executable, "-c", _ON_A_TERMINAL, *args],
            cwd=greenroom.folder,
            env=greenroom.env | {"TERM": "dumb"},
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
        )
        os.close(slave)
        self._seen = b""

    def type(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, text: str) -> None:
        """Wait until it shows this, after what was waited for before."""
        ends_s = time.monotonic() + WAIT_S
        while text.encode() not in self._seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, ends_s - time.monotonic()))
            assert ready, f"waited {WAIT_S} s for {text!r}, and saw {self._seen!r}"
            self._seen += os.read(self._master, 1 << 16)
        self._seen = self._seen.partition(text.encode())[2]

    def wait(self) -> int:
        try:
            return self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self.process.wait()
            os.close(self._master)


@pytest.fixture
def upstream(greenroom: Greenroom) -> Iterator[None]:
    async def first_whole_then_half(asked: Asked) -> web.StreamResponse:
        return await (answer if "hello" in str(asked.body["messages"][-1]) else answer_half_and_wait)(asked)

    with UpstreamThread(first_whole_then_half) as upstream:
        greenroom.configure(upstream.base_url)
        yield


def test_at_a_terminal(greenroom: Greenroom, upstream: None) -> None:
    terminal = Terminal(greenroom, "chat", "acme/fast", "--system", "Be short.", "--budget", "1")
    try:
        terminal.until("> ")
        terminal.type("hello\n")
        terminal.until("".join(WORDS))
        terminal.until("[7 tokens in, 4 out, $0.000003")
        terminal.until("> ")
        terminal.type("and then?\n")
        terminal.until(WORDS[0].strip())
        terminal.type("\x03")
        terminal.until("stopped, and not remembered")
        terminal.until("> ")
        terminal.type("\x03")
        terminal.until("Ctrl-D leaves")
        terminal.until("> ")
        terminal.type("/cost\n")
        terminal.until("of $1.00 so far")
        terminal.until("> ")
        terminal.type("\x04")
    finally:
        code = terminal.wait()
    assert code == 0
    assert [(row.outcome, row.estimated) for row in ledger(greenroom.database)] == [
        ("ok", False),
        ("cancelled", True),
    ]


def test_in_a_pipe_it_says_what_to_use(greenroom: Greenroom) -> None:
    done = greenroom.run("chat")
    assert done.code == 2
    assert "in a pipe, use greenroom ask" in done.err


def test_a_budget_that_is_none(greenroom: Greenroom) -> None:
    terminal = Terminal(greenroom, "chat", "--budget", "much")
    try:
        terminal.until("--budget: 'much' is no sum of dollars")
    finally:
        assert terminal.wait() == 2
