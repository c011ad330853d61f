"""The options of `greenroom run`, by processes that are really started against a server that really listens."""

import json
import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from decimal import Decimal
from importlib.metadata import version

import pytest
from aiohttp import web
from tests.integration.commands import Greenroom, SimulatorProcess, prompt_line, results
from tests.integration.evidence import exact_pusd, ledger
from tests.integration.upstream import Asked, Upstream, UpstreamThread, good


class TestInputs:
    def test_standard_input(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        source = greenroom.prompts(5, name="elsewhere")
        done = greenroom.run("run", "-", "--out", "out.jsonl", "--json", stdin=source)
        assert done.code == 0, done.err
        assert done.json["ok"] == 5
        assert set(results(greenroom.folder / "out.jsonl")) == {f"q-{number}" for number in range(1, 6)}

    def test_standard_input_goes_on_too(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        assert greenroom.run("run", "-", "-o", "out.jsonl", stdin=greenroom.prompts(5)).code == 0
        again = greenroom.run("run", "-", "-o", "out.jsonl", "--json", stdin=greenroom.prompts(8))
        assert (again.code, again.json["ok"], again.json["resumed"]) == (0, 8, 5)
        assert len(simulator.journal) == 8

    def test_all_three_forms_of_a_line(self, greenroom: Greenroom, upstream: Upstream) -> None:
        messages = [{"role": "user", "content": "two"}]
        lines = [
            {"prompt": "one"},
            {"messages": messages},
            {
                "custom_id": "third",
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": {"model": "acme/smart", "messages": messages, "temperature": 0.5, "top_k": 3},
            },
        ]
        greenroom.write("in.jsonl", "\n".join(json.dumps(line) for line in lines))
        done = greenroom.run("run", "in.jsonl", "--concurrency", 1)
        assert done.code == 0, done.err
        assert set(results(greenroom.folder / "in.results.jsonl")) == {"line-1", "line-2", "third"}
        assert [asked.body for asked in upstream.asked] == [
            {"model": "fast", "messages": [{"role": "user", "content": "one"}]},
            {"model": "fast", "messages": messages},
            {"model": "smart", "messages": messages, "temperature": 0.5, "top_k": 3},
        ]

    def test_a_model_by_an_alias(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.configure(
            upstream.base_url, more='[aliases]\nquick = {models = ["acme/fast", "acme/smart"]}'
        )
        greenroom.prompts(1)
        planned = greenroom.run("run", "in.jsonl", "--model", "quick", "--dry-run", "--json")
        assert [one["model"] for one in planned.json["models"]] == ["acme/fast"], planned.err
        assert greenroom.run("run", "in.jsonl", "--model", "quick").code == 0
        assert [asked.body["model"] for asked in upstream.asked] == ["fast"]

    def test_a_model_chosen_line_by_line(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(2)
        planned = greenroom.run("run", "in.jsonl", "--model", "AUTO", "--dry-run", "--json")
        told = {"model": "AUTO", "lines": 2, "likely_usd": None, "at_most_usd": None}
        assert [one | told for one in planned.json["models"]] == planned.json["models"], planned.err
        assert "chosen line by line" in greenroom.run("run", "in.jsonl", "--model", "AUTO", "--dry-run").out
        done = greenroom.run("run", "in.jsonl", "--model", "auto", "--json", "--budget", "1")
        assert (done.code, done.json["ok"]) == (0, 2), done.err
        asked = {entry.model for entry in simulator.journal} - {None}  # None: the list was asked for
        assert asked <= {"fast", "smart", "echo", "chat", "classify"}
        assert asked

    def test_an_output_line_is_openais(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.prompts(1)
        assert greenroom.run("run", "in.jsonl").code == 0
        (line,) = results(greenroom.folder / "in.results.jsonl").values()
        assert set(line) == {"id", "custom_id", "response", "error"}
        assert line["id"].startswith("batch_req_")
        assert line["error"] is None
        assert line["response"]["status_code"] == 200
        assert line["response"]["request_id"] == "req-1"
        assert line["response"]["body"]["choices"][0]["message"]["content"] == "fine"

    def test_text_beyond_ascii_arrives_and_returns_as_it_is(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        text = 'Grüße 你好 👩‍👩‍👧 \u2028 \x7f \\ " end'
        greenroom.write("in.jsonl", json.dumps({"custom_id": text, "prompt": text}) + "\n")
        done = greenroom.run("run", "in.jsonl", "--model", "acme/echo")
        assert done.code == 0, done.err
        (line,) = results(greenroom.folder / "in.results.jsonl").values()
        assert line["custom_id"] == text
        assert text in line["response"]["body"]["choices"][0]["message"]["content"]

    def test_a_byte_order_mark_and_missing_last_newline(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        text = prompt_line(1).encode() + prompt_line(2).encode().rstrip()
        (greenroom.folder / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + text)
        assert greenroom.run("run", "in.jsonl").code == 0
        assert set(results(greenroom.folder / "in.results.jsonl")) == {"q-1", "q-2"}


class TestOptions:
    def test_limit_asks_the_first_so_many(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.prompts(10)
        done = greenroom.run("run", "in.jsonl", "--limit", 3, "--json")
        assert (done.code, done.json["lines"]) == (0, 3)
        assert set(results(greenroom.folder / "in.results.jsonl")) == {"q-1", "q-2", "q-3"}
        assert len(upstream.asked) == 3

    def test_system_goes_before_lines_that_have_none(self, greenroom: Greenroom, upstream: Upstream) -> None:
        own = {"messages": [{"role": "system", "content": "Mine."}, {"role": "user", "content": "two"}]}
        greenroom.write("in.jsonl", '{"prompt": "one"}\n' + json.dumps(own) + "\n")
        assert greenroom.run("run", "in.jsonl", "--system", "Be brief.", "-c", 1).code == 0
        assert [[m["content"] for m in asked.body["messages"]] for asked in upstream.asked] == [
            ["Be brief.", "one"],
            ["Mine.", "two"],
        ]

    def test_max_tokens_bounds_every_line(self, greenroom: Greenroom, upstream: Upstream) -> None:
        own = {"body": {"messages": [{"role": "user", "content": "x"}], "max_tokens": 900}}
        greenroom.write("in.jsonl", '{"prompt": "one"}\n' + json.dumps(own) + "\n")
        assert greenroom.run("run", "in.jsonl", "--max-tokens", 17).code == 0
        assert [asked.body["max_tokens"] for asked in upstream.asked] == [17, 17]
        # The hold reckons with the same bound.
        assert all(row.held_pusd >= exact_pusd(1, 17) for row in ledger(greenroom.database))

    def test_model_wins_over_the_lines_own(self, greenroom: Greenroom, upstream: Upstream) -> None:
        own = {"body": {"model": "acme/other", "messages": [{"role": "user", "content": "x"}]}}
        greenroom.write("in.jsonl", json.dumps(own) + "\n")
        assert greenroom.run("run", "in.jsonl", "--model", "acme/smart").code == 0
        assert [asked.body["model"] for asked in upstream.asked] == ["smart"]

    @pytest.mark.parametrize("concurrency", [1, 5])
    def test_as_many_as_concurrency_are_in_flight_and_never_more(
        self, greenroom: Greenroom, concurrency: int
    ) -> None:
        async def full_house(asked: Asked) -> web.StreamResponse:
            # Nobody is answered before the house is full, but for the last ones, who cannot fill it.
            if asked.number <= 40 - 40 % concurrency:
                await thread.upstream.wait_asked(-(-asked.number // concurrency) * concurrency)
            return good()

        thread = UpstreamThread(full_house)
        with thread as upstream:
            greenroom.configure(upstream.base_url)
            greenroom.prompts(40)
            assert greenroom.run("run", "in.jsonl", "--concurrency", concurrency).code == 0
            assert upstream.peak == concurrency

    def test_concurrency_is_bounded_by_the_providers(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.configure(upstream.base_url, more="limits = { concurrency = 2 }")
        greenroom.prompts(60)
        assert greenroom.run("run", "in.jsonl", "--concurrency", 20).code == 0
        assert upstream.peak <= 2

    def test_out_in_another_folder(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.prompts(2)
        (greenroom.folder / "sub").mkdir()
        assert greenroom.run("run", "in.jsonl", "--out", "sub/out.jsonl").code == 0
        assert len(results(greenroom.folder / "sub" / "out.jsonl")) == 2
        assert not (greenroom.folder / "in.results.jsonl").exists()


class TestDryRun:
    def test_sends_nothing_and_leaves_nothing(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(10)
        done = greenroom.run("run", "in.jsonl", "--dry-run")
        assert done.code == 0
        assert "What would be asked (nothing was sent)" in done.out
        assert "no bound: set --max-tokens" in done.out
        assert simulator.journal == []
        assert not greenroom.database.exists()
        assert not (greenroom.folder / "in.results.jsonl").exists()

    def test_in_json_with_a_bound_that_holds(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(10)
        done = greenroom.run("run", "in.jsonl", "--dry-run", "--json", "--max-tokens", 50)
        (model,) = done.json["models"]
        assert (done.json["lines"], done.json["skipped"]) == (10, 0)
        assert (model["model"], model["lines"]) == ("acme/fast", 10)
        assert model["input_tokens"] > 0
        assert Decimal(model["likely_usd"]) > 0
        at_most = Decimal(model["at_most_usd"])
        real = greenroom.run("run", "in.jsonl", "--json", "--max-tokens", 50)
        assert real.code == 0, real.err
        assert 0 < Decimal(real.json["cost_usd"]) <= at_most

    def test_refuses_what_the_job_would_refuse(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.write("in.jsonl", "oops\n")
        assert greenroom.run("run", "in.jsonl", "--dry-run").code == 2


class TestWhatItSays:
    def test_a_table_for_people(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.prompts(4)
        done = greenroom.run("run", "in.jsonl")
        assert "4 of 4 lines" in done.out
        cells = dict(re.findall(r"│ ([\w ]+?) +│ (.+?) +│", done.out))
        assert (cells["answered"], cells["failed"], cells["input tokens"], cells["output tokens"]) == (
            "4",
            "0",
            "28",
            "44",
        )
        assert cells["cost"].startswith("$0.0000")
        assert " s (" in cells["time"]
        assert "\x1b" not in done.out + done.err

    def test_one_object_for_programs(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.prompts(4)
        done = greenroom.run("run", "in.jsonl", "--json")
        assert done.out.count("\n") == 1
        told = done.json
        assert told.pop("seconds") >= 0
        assert len(told.pop("job_id")) == 12
        assert Decimal(told.pop("cost_usd")) * 10**12 == 4 * exact_pusd(7, 11)
        assert told == {
            "state": "done",
            "lines": 4,
            "ok": 4,
            "failed": 0,
            "resumed": 0,
            "input_tokens": 28,
            "output_tokens": 44,
            "out": str(greenroom.folder / "in.results.jsonl"),
            "errors": {},
            "because": None,
        }

    def test_a_live_view_on_a_terminal(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.prompts(4)
        seen, code = on_a_terminal(greenroom, "run", "in.jsonl")
        assert code == 0
        assert "done 4/4" in seen
        for word in ("failed", "in flight", "requests/s", "tokens/s", "cost", "projected", "time left"):
            assert word in seen

    @pytest.mark.parametrize(
        ("command", "words"),
        [
            ((), ("run", "costs", "simulate", "models", "init", "doctor", "Start with: greenroom run")),
            (("run",), ("--prompt", "--param", "--format", "--out", "Classify", "tickets.csv")),
            (("models",), ("match", "--json", "OLLAMA_HOST", "Exit codes: 0")),
            (("init",), ("--force", "staging.toml", "Exit codes: 0")),
            (("doctor",), ("--json", "--config", "Exit codes: 0")),
            (("run",), ("INPUT", "--model", "--out", "--concurrency", "--max-tokens", "--system", "--limit")),
            (("run",), ("--dry-run", "--json", "--skip-invalid", "--retry-failed", "Exit codes: 0", "130")),
            (("costs",), ("--by", "--job", "--json")),
            (("simulate",), ("--port", "--latency", "--api-key", "--journal")),
        ],
    )
    @pytest.mark.parametrize("flag", ["--help", "-h"])
    def test_help(
        self, greenroom: Greenroom, command: tuple[str, ...], words: tuple[str, ...], flag: str
    ) -> None:
        done = greenroom.run(*command, flag)
        assert done.code == 0
        for word in words:
            assert word in done.out

    def test_without_a_command_it_shows_its_help(self, greenroom: Greenroom) -> None:
        done = greenroom.run()
        assert "Usage" in done.out + done.err
        assert done.code in {0, 2}

    def test_version(self, greenroom: Greenroom) -> None:
        assert greenroom.run("--version").out == f"greenroom {version('greenroom')}\n"


def on_a_terminal(greenroom: Greenroom, *args: str) -> tuple[str, int]:
    """Run a command on a terminal of its own; return what stood on it, without its colours, and the exit code."""
    terminal, far_end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "greenroom.runtime.cli", *args],
        cwd=greenroom.folder,
        env=greenroom.env | {"TERM": "xterm", "COLUMNS": "160", "LINES": "40"},
        stdin=far_end,
        stdout=far_end,
        stderr=far_end,
    ) as process:
        os.close(far_end)
        seen = b""
        # When nobody has the far end open any more, reading is an error.
        with os.fdopen(terminal, "rb", buffering=0) as file, suppress(OSError):
            while data := file.read(1 << 16):
                seen += data
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", seen.decode()), process.returncode
