"""`greenroom models`: who is reachable and who is not, and why; with the prices that a job would reckon with."""

import json
import socket
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


def test_a_wrong_configuration_is_refused(greenroom: Greenroom) -> None:
    greenroom.write("greenroom.toml", "zebra = 1\n")
    done = greenroom.run("models")
    assert (done.code, done.out) == (2, "")
    assert "unknown key zebra" in done.err
