"""`greenroom ask`, by processes that are really started against a server that really streams."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator

import pytest
from aiohttp import web
from tests.integration.commands import Greenroom
from tests.integration.evidence import exact_pusd, ledger
from tests.integration.upstream import Asked, Upstream, UpstreamThread, cut, refusal
from tests.rawserver import delta, story

WORDS = ("Grün ", "ist ", "die ", "Hoffnung.")


async def begin(asked: Asked, *events: bytes) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(asked.request)
    for event in events:
        await response.write(event)
    return response


async def answer(asked: Asked) -> web.StreamResponse:
    return await begin(asked, *story(*WORDS))


async def answer_half_and_wait(asked: Asked) -> web.StreamResponse:
    response = await begin(asked, delta(WORDS[0]))
    await asyncio.Event().wait()
    return response


async def answer_half_and_hang_up(asked: Asked) -> web.StreamResponse:
    response = await begin(asked, delta(WORDS[0]))
    cut(asked)
    return response


async def refuse(asked: Asked) -> web.StreamResponse:
    return refusal(401, "invalid_api_key")


@pytest.fixture
def upstream(greenroom: Greenroom) -> Iterator[Upstream]:
    with UpstreamThread(answer) as upstream:
        greenroom.configure(upstream.base_url)
        yield upstream


def test_the_answer_goes_to_standard_output_and_all_else_does_not(
    greenroom: Greenroom, upstream: Upstream
) -> None:
    done = greenroom.run("ask", "acme/fast", "hello", "--system", "Be short.", "--max-tokens", 50)
    assert (done.code, done.out) == (0, "".join(WORDS) + "\n"), done.err
    assert "acme/fast: 7 tokens in, 4 out, $0.000003" in done.err
    body = upstream.asked[0].body
    assert body["stream"] is True
    assert body["max_tokens"] == 50
    assert [(message["role"], message["content"]) for message in body["messages"]] == [
        ("system", "Be short."),
        ("user", "hello"),
    ]
    (row,) = ledger(greenroom.database)
    assert (row.cost_pusd, row.outcome) == (exact_pusd(7, 4), "ok")


def test_one_object_for_programs(greenroom: Greenroom, upstream: Upstream) -> None:
    done = greenroom.run("ask", "-", "hello", "--json")
    assert done.code == 0
    assert (done.json["text"], done.json["provider"]) == ("".join(WORDS), "acme")
    assert done.json["usage"]["output_tokens"] == 4
    assert done.json["cost_usd"] == "0.00000345"


def test_the_question_from_standard_input(greenroom: Greenroom, upstream: Upstream) -> None:
    question = greenroom.write("question.txt", "Why?\nBecause?\n")
    assert greenroom.run("ask", "acme/fast", stdin=question).code == 0
    assert upstream.asked[0].prompt == "Why?\nBecause?\n"


@pytest.mark.parametrize(
    ("data", "message"), [(b"", "standard input is empty"), (b"a\xffb", "not UTF-8: byte 1 is 0xff")]
)
def test_standard_input_that_is_no_question(
    greenroom: Greenroom, upstream: Upstream, data: bytes, message: str
) -> None:
    question = greenroom.folder / "question"
    question.write_bytes(data)
    done = greenroom.run("ask", "acme/fast", stdin=question)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert upstream.asked == []


@pytest.mark.parametrize(
    ("script", "out", "message"),
    [
        (answer_half_and_hang_up, WORDS[0] + "\n", "acme/fast: connection: the answer was cut short"),
        (refuse, "", "acme/fast: authentication 401"),
    ],
)
def test_an_answer_that_is_none_says_so_by_its_exit_code(
    greenroom: Greenroom,
    upstream: Upstream,
    script: Callable[[Asked], Awaitable[web.StreamResponse]],
    out: str,
    message: str,
) -> None:
    upstream.answer = script
    done = greenroom.run("ask", "acme/fast", "hello")
    assert (done.code, done.out) == (1, out)
    assert message in done.err
    assert "Traceback" not in done.err


def test_an_unknown_model_is_refused_before_anything_is_sent(
    greenroom: Greenroom, upstream: Upstream
) -> None:
    done = greenroom.run("ask", "openai/gpt-5.4-mini", "hello")
    assert done.code == 2
    assert "OPENAI_API_KEY" in done.err
    assert upstream.asked == []


def test_a_budget_without_room_is_refused_before_anything_is_sent(
    greenroom: Greenroom, upstream: Upstream
) -> None:
    done = greenroom.run("ask", "acme/fast", "hello", "--max-tokens", 50, "--budget", "0.00003")
    assert (done.code, done.out) == (3, ""), done.err
    assert "budget" in done.err
    assert upstream.asked == []
    assert greenroom.run("ask", "acme/fast", "hello", "--max-tokens", 50, "--budget", "0.01").code == 0
    wrong = greenroom.run("ask", "acme/fast", "hello", "--budget", "much")
    assert wrong.code == 2
    assert "--budget: " in wrong.err


def test_ctrl_c_in_mid_answer(greenroom: Greenroom, upstream: Upstream) -> None:
    """What came is printed and charged, the connection is closed, and nobody sees a traceback."""
    upstream.answer = answer_half_and_wait
    process = subprocess.Popen(
        [sys.executable, "-m", "greenroom.runtime.cli", "ask", "acme/fast", "hello"],
        cwd=greenroom.folder,
        env=greenroom.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 100).decode() == WORDS[0]
        process.send_signal(signal.SIGINT)
        rest, err = process.communicate(timeout=20)
    assert (process.returncode, rest) == (130, b"\n"), err
    assert b"Traceback" not in err
    (row,) = ledger(greenroom.database)
    assert (row.outcome, row.estimated) == ("cancelled", 1)
    assert row.cost_pusd < exact_pusd(1000, 100)


def test_a_reader_that_has_enough_is_no_error(greenroom: Greenroom, upstream: Upstream) -> None:
    async def answer_at_length(asked: Asked) -> web.StreamResponse:
        return await begin(asked, *story(*(["word " * 1000] * 200)))

    upstream.answer = answer_at_length
    process = subprocess.Popen(
        [sys.executable, "-m", "greenroom.runtime.cli", "ask", "acme/fast", "hello"],
        cwd=greenroom.folder,
        env=greenroom.env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert os.read(process.stdout.fileno(), 5) == b"word "
        process.stdout.close()
        err = process.stderr.read()
        code = process.wait(timeout=20)
    assert (code, b"Traceback" in err, b"Error" in err) == (0, False, False), err
