"""`greenroom models`: who is reachable and who is not, and why; with the prices that a job would reckon with."""

import json
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.integration.commands import Done, Greenroom, SimulatorProcess

CANARY = "sk-canary-0123456789abcdef"


@pytest.fixture
def simulator(greenroom: Greenroom) -> SimulatorProcess:
    return greenroom.simulate("--api-key", "right")


def nobody() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"


def providers(done: Done) -> dict[str, dict[str, Any]]:
    return {told["provider"]: told for told in map(json.loads, done.out.splitlines())}


def test_models_with_their_prices(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    greenroom.configure(simulator.base_url, more='api_key_env = "ACME_KEY"')
    done = greenroom.run("models", "--json", env={"ACME_KEY": "right"})
    assert done.code == 0, done.err
    acme = providers(done)["acme"]
    assert (acme["reachable"], acme["problem"], acme["by"]) == (True, None, "greenroom.toml")
    fast = {"model": "fast", "input_usd_per_mtok": "0.15", "output_usd_per_mtok": "0.6"}
    assert fast in acme["models"]
    for_people = greenroom.run("models", "FAS", env={"ACME_KEY": "right"})
    assert "acme/fast" in for_people.out
    assert "0.15" in for_people.out
    assert "acme/echo" not in for_people.out


def test_free_and_unpriced_models_are_told_apart(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    greenroom.write(
        "greenroom.toml",
        f'[providers.acme]\nbase_url = "{simulator.base_url}"\napi_key_env = "ACME_KEY"\n'
        f'[providers.dear]\nbase_url = "{simulator.base_url}"\napi_key_env = "ACME_KEY"\n'
        f'[providers.dear.prices.fast]\ninput = "1"\noutput = "2"\n',
    )
    told = providers(greenroom.run("models", "--json", env={"ACME_KEY": "right"}))
    of = {name: {model["model"]: model for model in told[name]["models"]} for name in told}
    assert of["acme"]["echo"] == {"model": "echo", "input_usd_per_mtok": "0", "output_usd_per_mtok": "0"}
    assert of["dear"]["fast"]["output_usd_per_mtok"] == "2"
    assert of["dear"]["echo"] == {"model": "echo"}
    out = greenroom.run("models", env={"ACME_KEY": "right"}).out
    assert "free" in out
    assert "no price" in out


def test_who_cannot_be_reached_says_why(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    gone = nobody()
    greenroom.write(
        "greenroom.toml",
        f'[providers.wrong]\nbase_url = "{simulator.base_url}"\napi_key_env = "ACME_KEY"\n'
        f'[providers.keyless]\nbase_url = "{simulator.base_url}"\napi_key_env = "NO_KEY"\n'
        f'[providers.gone]\nbase_url = "{gone}"\n',
    )
    done = greenroom.run("models", "--json", env={"ACME_KEY": CANARY})
    assert done.code == 2
    problems = {name: told["problem"] for name, told in providers(done).items()}
    assert problems["wrong"] == f"{simulator.base_url} refuses the key (401): mend ACME_KEY"
    assert "needs a key: set NO_KEY" in problems["keyless"]
    assert f"nobody answers at {gone}" in problems["gone"]
    for_people = greenroom.run("models", env={"ACME_KEY": CANARY})
    assert for_people.code == 2
    for problem in problems.values():
        assert problem in for_people.err
    assert "nobody can be asked: set a key (OPENAI_API_KEY" in for_people.err
    assert CANARY not in done.out + done.err + for_people.out + for_people.err


def test_without_a_configuration_keys_and_local_servers_are_asked(
    greenroom: Greenroom, simulator: SimulatorProcess
) -> None:
    local = greenroom.simulate()
    env = {"OPENAI_API_KEY": "right", "OPENAI_BASE_URL": simulator.base_url, "OLLAMA_HOST": local.base_url}
    told = providers(greenroom.run("models", "--json", env=env))
    assert (told["openai"]["by"], told["openai"]["reachable"]) == ("OPENAI_API_KEY", True)
    assert (told["ollama"]["by"], told["ollama"]["reachable"]) == ("local server", True)


CAPABLE = """
[providers.acme]
base_url = "{url}"
api_key_env = "ACME_KEY"
[providers.acme.prices."*"]
input = "0.15"
output = "0.60"
[providers.acme.prices.smart]
input = "2.50"
output = "10"
[providers.acme.models.smart]
vision = true
tools = true
context_tokens = 400000
quality = 90
retires = 2099-01-02
[providers.acme.models.fast]
vision = false
tools = true
context_tokens = 128000
"""


def test_models_are_narrowed_down_to_what_is_known(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    greenroom.write("greenroom.toml", CAPABLE.format(url=simulator.base_url))

    def named(*options: str) -> list[str]:
        done = greenroom.run("models", "--json", *options, env={"ACME_KEY": "right"})
        assert done.code == 0, done.err
        return [model["model"] for model in providers(done)["acme"]["models"]]

    everything = named()
    assert {"fast", "smart", "echo"} <= set(everything)
    assert named("--tools") == ["fast", "smart"]
    assert named("--vision") == ["smart"]
    assert named("--tools", "--context", "128001") == ["smart"]
    assert named("--max-input-usd", "1", "--tools") == ["fast"]
    assert named("--max-output-usd", "0.59") == []
    assert named("--free") == []
    assert named("--provider", "acme", "SMA") == ["smart"]
    told = providers(greenroom.run("models", "--json", "smart", env={"ACME_KEY": "right"}))["acme"]["models"]
    assert told == [
        {
            "model": "smart",
            "input_usd_per_mtok": "2.5",
            "output_usd_per_mtok": "10",
            "context_window": 400_000,
            "retires": "2099-01-02",
            "capabilities": {"vision": True, "tools": True},
        }
    ]
    out = greenroom.run("models", "--tools", env={"ACME_KEY": "right"}).out
    assert "vision tools" in out
    assert "-vision tools" in out
    assert "2099-01-02" in out


def test_a_choice_is_explained(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    greenroom.write("greenroom.toml", CAPABLE.format(url=simulator.base_url))
    done = greenroom.run("models", "--choose", "best", "--tools", "--json", env={"ACME_KEY": "right"})
    assert done.code == 0, done.err
    choice = json.loads(done.out)
    assert (choice["model"], choice["strategy"]) == ("acme/smart", "best")
    assert [one["model"] for one in choice["runners_up"]] == ["acme/fast"]
    assert {"model": "acme/echo", "why": "tools: not known whether it can"} in choice["rejected"]
    for_people = greenroom.run("models", "--choose", "cheapest", "--tools", env={"ACME_KEY": "right"})
    assert for_people.code == 0
    assert "acme/fast is cheapest: $0.00045" in for_people.err
    assert "rejected: tools: not known whether it can" in for_people.err
    assert for_people.out.index("acme/fast") < for_people.out.index("acme/smart")


def test_where_nothing_can_be_chosen_it_says_what_would_help(
    greenroom: Greenroom, simulator: SimulatorProcess
) -> None:
    greenroom.write("greenroom.toml", CAPABLE.format(url=simulator.base_url))
    done = greenroom.run(
        "models", "--choose", "best", "--vision", "--max-input-usd", "1", env={"ACME_KEY": "right"}
    )
    assert (done.code, done.out) == (2, "")
    assert "no model meets the requirements" in done.err
    assert "without max_input_usd_per_mtok: acme/smart" in done.err
    away = greenroom.run("models", "--choose", "best", env={"ACME_KEY": "wrong"})
    assert away.code == 2
    assert f"acme: {simulator.base_url} refuses the key (401)" in away.err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--provider", "nobody"), "--provider nobody: there is no such provider in use; there are: acme"),
        (("--choose", "dearest"), "dearest"),
        (("--context", "0"), "--context"),
        (("--max-input-usd", "-1"), "--max-input-usd"),
        (("--max-input-usd", "inf"), "max_input_usd_per_mtok: inf is no sum of dollars"),
    ],
)
def test_wrong_options_are_refused(
    greenroom: Greenroom, simulator: SimulatorProcess, options: tuple[str, ...], said: str
) -> None:
    greenroom.configure(simulator.base_url, more='api_key_env = "ACME_KEY"')
    done = greenroom.run("models", *options, env={"ACME_KEY": "right"})
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_wrong_configuration_is_refused(greenroom: Greenroom) -> None:
    greenroom.write("greenroom.toml", "zebra = 1\n")
    done = greenroom.run("models")
    assert (done.code, done.out) == (2, "")
    assert "unknown key zebra" in done.err


TABLE = [
    {
        "id": "acme",
        "name": "Acme",
        "api_pattern": "",
        "models": [
            {"id": "fast", "match": {"equals": "fast"}, "prices": {"input_mtok": 3, "output_mtok": 4}}
        ],
    }
]


@contextmanager
def serving(folder: Path) -> Generator[str]:
    """A web server over a folder."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its base's name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_prices_are_fetched_when_asked_for_and_used_from_then_on(
    greenroom: Greenroom, simulator: SimulatorProcess, tmp_path: Path
) -> None:
    models = partial(greenroom.run, "models", env={"ACME_KEY": "right"})
    table = tmp_path / "data.json"
    table.write_text(json.dumps(TABLE))
    with serving(tmp_path) as base_url:
        greenroom.write(
            "greenroom.toml",
            f'[prices]\nurl = "{base_url}/data.json"\n'
            f'[providers.acme]\nbase_url = "{simulator.base_url}"\napi_key_env = "ACME_KEY"\n'
            # A server on this machine is free unless something of it has a price.
            f'[providers.acme.prices.smart]\ninput = "1"\noutput = "2"\n',
        )
        first = models("fast", "--json")
        assert "input_usd_per_mtok" not in providers(first)["acme"]["models"][0]
        fetched = models("fast", "--json", "--refresh-prices")
        assert "fetched the prices of 1 models" in fetched.err
        assert float(providers(fetched)["acme"]["models"][0]["input_usd_per_mtok"]) == 3
        table.write_text("gone")
        again = models("fast", "--json", "--refresh-prices")
    assert "those in use stay" in again.err
    assert float(providers(again)["acme"]["models"][0]["input_usd_per_mtok"]) == 3
    assert float(providers(models("fast", "--json"))["acme"]["models"][0]["output_usd_per_mtok"]) == 4
