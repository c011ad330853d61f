"""Which provider is used and why: keys, `greenroom.toml`, a server on this machine, the simulator. And wrong keys."""

import socket
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests import peers
from tests.integration.commands import Greenroom, Tail, results
from tests.integration.evidence import ledger, query

CANARY = "sk-canary-0123456789abcdef"


def everything_written(greenroom: Greenroom, *said: str) -> bytes:
    """All that the commands left behind: what they said, the database, outputs, logs."""
    files = [
        path
        for path in greenroom.folder.parent.rglob("*")
        if path.is_file() and path.name != "greenroom.toml"
    ]
    return b"".join(path.read_bytes() for path in files) + "".join(said).encode()


class TestNothingConfigured:
    def test_answers_are_simulated_and_it_says_so(self, greenroom: Greenroom) -> None:
        greenroom.prompts(3)
        done = greenroom.run("run", "in.jsonl", "--json")
        assert done.code == 0, done.err
        assert "no provider configured: answers are simulated" in done.err
        assert set(results(greenroom.folder / "in.results.jsonl")) == {"q-1", "q-2", "q-3"}
        # Priced, so that a rehearsal shows what it would cost.
        assert {(row.provider, row.model) for row in ledger(greenroom.database)} == {("sim", "fast")}
        assert all(row.cost_pusd > 0 for row in ledger(greenroom.database))

    def test_an_empty_key_variable_is_none(self, greenroom: Greenroom) -> None:
        greenroom.prompts(1)
        done = greenroom.run("run", "in.jsonl", "--dry-run", env={"OPENAI_API_KEY": ""})
        assert "answers are simulated" in done.err

    def test_a_lines_own_model_is_simulated_under_its_name(self, greenroom: Greenroom) -> None:
        greenroom.write(
            "in.jsonl",
            '{"body": {"model": "gpt-5.4-mini", "messages": [{"role": "user", "content": "x"}]}}\n',
        )
        done = greenroom.run("run", "in.jsonl")
        assert done.code == 0, done.err
        assert (
            results(greenroom.folder / "in.results.jsonl")["line-1"]["response"]["body"]["model"]
            == "gpt-5.4-mini"
        )

    def test_a_killed_rehearsal_goes_on_with_a_new_simulator(self, greenroom: Greenroom) -> None:
        greenroom.prompts(40)
        running = greenroom.start("run", "in.jsonl", "--concurrency", 2)
        with Tail(greenroom.folder / "in.results.jsonl") as tail:
            tail.wait_lines(3)
        running.kill()
        done = greenroom.run("run", "in.jsonl", "--json")
        assert done.code == 0, done.err
        assert len(results(greenroom.folder / "in.results.jsonl")) == 40


class TestKeys:
    def test_a_key_chooses_its_host_and_says_why(self, greenroom: Greenroom) -> None:
        greenroom.prompts(3)
        done = greenroom.run("run", "in.jsonl", "--dry-run", "--json", env={"OPENAI_API_KEY": CANARY})
        assert done.code == 0, done.err
        assert "openai, by OPENAI_API_KEY" in done.err
        assert [model["model"] for model in done.json["models"]] == ["openai/gpt-5.4-mini"]
        assert CANARY.encode() not in everything_written(greenroom, done.out, done.err)

    def test_two_keys_choose_both(self, greenroom: Greenroom) -> None:
        greenroom.prompts(1)
        env = {"OPENAI_API_KEY": "a", "GROQ_API_KEY": "b"}
        done = greenroom.run("run", "in.jsonl", "--dry-run", env=env)
        assert "openai, groq, by OPENAI_API_KEY, GROQ_API_KEY" in done.err

    def test_the_simulator_in_openais_place_asks_its_own_model(self, greenroom: Greenroom) -> None:
        greenroom.prompts(3)
        simulator = greenroom.simulate("--api-key", CANARY)
        env = {"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": simulator.base_url}
        done = greenroom.run("run", "in.jsonl", "--json", env=env)
        assert done.code == 0, done.err
        assert done.json["ok"] == 3
        # On this machine nothing is charged.
        assert [row.cost_pusd for row in ledger(greenroom.database)] == [0, 0, 0]


class TestWrongKeys:
    @pytest.mark.parametrize("options", [(), ("--model", "openai/fast")])
    def test_nonsense_in_the_variable(self, greenroom: Greenroom, options: tuple[str, ...]) -> None:
        """Whether it shows when models are listed or when one is asked: the key is to blame, and the mend is named."""
        greenroom.prompts(30)
        simulator = greenroom.simulate("--api-key", "right")
        env = {"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": simulator.base_url}
        done = greenroom.run("run", "in.jsonl", *options, env=env)
        assert done.code == 2
        assert "401" in done.err
        assert "OPENAI_API_KEY" in done.err
        assert CANARY.encode() not in everything_written(greenroom, done.out, done.err)
        assert all(entry.status == 401 for entry in simulator.journal)

    def test_by_the_configuration_the_job_halts_at_once_and_goes_on_with_the_right_one(
        self, greenroom: Greenroom
    ) -> None:
        greenroom.prompts(30)
        simulator = greenroom.simulate("--api-key", "right")
        greenroom.configure(simulator.base_url, more='api_key_env = "ACME_KEY"')
        done = greenroom.run("run", "in.jsonl", "--concurrency", 2, env={"ACME_KEY": CANARY})
        assert done.code == 2
        assert "halted: acme/fast: authentication 401" in done.err
        assert "the same command goes on" in done.err
        # Nobody tries a refused key on every line, and a refusal costs nothing.
        assert len(simulator.journal) <= 4
        assert all(
            row.cost_pusd == 0 and row.outcome == "authentication" for row in ledger(greenroom.database)
        )
        assert query(greenroom.database, "SELECT COUNT(*) FROM items") == [(0,)]
        assert CANARY.encode() not in everything_written(greenroom, done.out, done.err)

        again = greenroom.run("run", "in.jsonl", env={"ACME_KEY": "right"})
        assert again.code == 0, again.err
        assert len(results(greenroom.folder / "in.results.jsonl")) == 30

    def test_a_key_from_a_file(self, greenroom: Greenroom) -> None:
        greenroom.prompts(2)
        simulator = greenroom.simulate("--api-key", "right")
        path = greenroom.write("key", "right\n")
        greenroom.configure(simulator.base_url, more=f'api_key_file = "{path}"')
        assert greenroom.run("run", "in.jsonl").code == 0


class TestConfigured:
    def test_the_file_wins_over_keys_and_says_so(self, greenroom: Greenroom) -> None:
        greenroom.prompts(2)
        simulator = greenroom.simulate()
        greenroom.configure(simulator.base_url)
        done = greenroom.run("run", "in.jsonl", env={"OPENAI_API_KEY": CANARY})
        assert done.code == 0, done.err
        assert "acme, by greenroom.toml" in done.err
        assert len(simulator.journal) == 2

    def test_a_file_elsewhere(self, greenroom: Greenroom) -> None:
        greenroom.prompts(2)
        simulator = greenroom.simulate()
        greenroom.configure(simulator.base_url)
        (greenroom.folder / "greenroom.toml").rename(greenroom.folder / "other.toml")
        done = greenroom.run("run", "in.jsonl", "--config", "other.toml")
        assert done.code == 0, done.err
        assert len(simulator.journal) == 2

    def test_the_database_goes_where_it_says(self, greenroom: Greenroom) -> None:
        greenroom.prompts(2)
        simulator = greenroom.simulate()
        elsewhere = greenroom.folder / "here.db"
        greenroom.configure(simulator.base_url, before=f'[storage]\nurl = "sqlite:///{elsewhere}"')
        assert greenroom.run("run", "in.jsonl").code == 0
        assert len(ledger(elsewhere)) == 2
        assert not greenroom.database.exists()

    def test_a_provider_that_is_not_there_halts_with_its_address(self, greenroom: Greenroom) -> None:
        greenroom.prompts(5)
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        greenroom.configure(
            f"http://127.0.0.1:{port}/v1", before="[retries]\nattempts = 2\nbackoff_base_s = 0.01"
        )
        done = greenroom.run("run", "in.jsonl")
        assert done.code == 2
        assert "halted: acme/fast: connection after 2 attempts" in done.err
        assert f"127.0.0.1:{port}" in done.err
        # Nothing was sent, so nothing is charged.
        assert {(row.outcome, row.cost_pusd) for row in ledger(greenroom.database)} == {("connection", 0)}


@pytest.fixture
def llama(tmp_path: Path) -> Iterator[str]:
    """The base URL of llama.cpp's server, which takes the key `right`."""
    with peers.llama(tmp_path, "right") as url:
        yield f"{url}/v1"


@peers.needs_llama
class TestLlamaCpp:
    """A real model behind a real server that nobody of this project wrote."""

    def test_nonsense_in_the_variable_is_its_401(self, greenroom: Greenroom, llama: str) -> None:
        greenroom.prompts(5)
        done = greenroom.run("run", "in.jsonl", env={"OPENAI_API_KEY": CANARY, "OPENAI_BASE_URL": llama})
        assert done.code == 2
        assert f"{llama} refuses the key (401): mend OPENAI_API_KEY" in done.err
        assert CANARY.encode() not in everything_written(greenroom, done.out, done.err)

    def test_nonsense_that_only_shows_at_the_first_question_is_its_401_too(
        self, greenroom: Greenroom, llama: str
    ) -> None:
        greenroom.prompts(5)
        greenroom.configure(llama, more='api_key_env = "ACME_KEY"')
        done = greenroom.run("run", "in.jsonl", env={"ACME_KEY": CANARY})
        assert done.code == 2
        assert "halted: acme/fast: authentication 401" in done.err
        assert query(greenroom.database, "SELECT COUNT(*) FROM items") == [(0,)]
        assert CANARY.encode() not in everything_written(greenroom, done.out, done.err)

    @pytest.mark.parametrize("options", [(), ("--stream",)], ids=["whole", "streamed"])
    def test_it_answers_200_lines_and_counts_as_we_do(
        self, greenroom: Greenroom, llama: str, options: tuple[str, ...]
    ) -> None:
        greenroom.prompts(200)
        env = {"OPENAI_API_KEY": "right", "OPENAI_BASE_URL": llama}
        # Its threads stay with idle connections for five seconds, so no more of those than it has slots.
        words = ("--max-tokens", 16, "--concurrency", 4, "--json", *options)
        done = greenroom.run("run", "in.jsonl", *words, env=env)
        assert done.code == 0, done.err
        assert (done.json["ok"], done.json["failed"]) == (200, 0)
        usages: list[dict[str, Any]] = []
        for line in results(greenroom.folder / "in.results.jsonl").values():
            body = line["response"]["body"]
            # Random weights may end at once: an empty text is an answer, a missing one is not.
            assert isinstance(body["choices"][0]["message"]["content"], str)
            usages.append(body["usage"])
            assert 0 < body["usage"]["completion_tokens"] <= 16
        rows = ledger(greenroom.database)
        assert {(row.model, row.cost_pusd) for row in rows} == {("tiny", 0)}
        # What the answers said, what the ledger kept, what the command told, and what the server itself counted.
        output = sum(usage["completion_tokens"] for usage in usages)
        prompt = sum(usage["prompt_tokens"] for usage in usages)
        cached = sum(usage.get("prompt_tokens_details", {}).get("cached_tokens", 0) for usage in usages)
        counted = metrics(llama, "right")
        assert output == done.json["output_tokens"] == sum(row.output_tokens for row in rows)
        assert output == counted["llamacpp:tokens_predicted_total"]
        assert prompt == done.json["input_tokens"]
        assert prompt - cached == counted["llamacpp:prompt_tokens_total"]


def metrics(base_url: str, key: str) -> dict[str, float]:
    """The server's own counters."""
    request = urllib.request.Request(  # noqa: S310 - our own server on the loopback
        f"{base_url.removesuffix('/v1')}/metrics", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=10.0) as answer:  # noqa: S310 - as above
        lines = answer.read().decode().splitlines()
    return {
        name: float(value) for name, value in (line.split() for line in lines if not line.startswith("#"))
    }
