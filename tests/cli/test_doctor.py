"""`greenroom doctor`: each thing that can be wrong is found, with its fix, and looking changes nothing."""

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.cli.test_models import CANARY, nobody
from tests.integration.commands import Done, Greenroom, SimulatorProcess


@pytest.fixture
def simulator(greenroom: Greenroom) -> SimulatorProcess:
    simulator = greenroom.simulate("--api-key", "right")
    greenroom.configure(simulator.base_url, more='api_key_env = "ACME_KEY"')
    return simulator


def checks(done: Done) -> dict[str, dict[str, Any]]:
    assert "Traceback" not in done.err
    return {check["name"]: check for check in done.json["checks"]}


def test_all_is_well(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    done = greenroom.run("doctor", "--json", env={"ACME_KEY": "right"})
    assert done.code == 0, done.out
    assert done.json["ok"] is True
    found = checks(done)
    assert {name for name, check in found.items() if check["status"] == "ok"} >= {
        "versions", "configuration", "database", "clock", "open files", "provider acme", "default model",
    }  # fmt: skip
    assert "acme/fast" in found["default model"]["detail"]
    assert "agrees with acme's" in found["clock"]["detail"]
    for_people = greenroom.run("doctor", env={"ACME_KEY": "right"})
    assert for_people.code == 0
    assert "provider acme" in for_people.out


@pytest.mark.parametrize(
    ("days", "status", "said"),
    [(-1, "warning", "ceases on"), (89, "warning", "ceases on"), (99, "ok", "acme/fast")],
)
def test_a_default_model_that_ceases_soon(
    greenroom: Greenroom, simulator: SimulatorProcess, days: int, status: str, said: str
) -> None:
    ends = datetime.now(UTC).date() + timedelta(days=days)
    greenroom.configure(simulator.base_url, more=f"[providers.acme.models.fast]\nretires = {ends}")
    check = checks(greenroom.run("doctor", "--json"))["default model"]
    assert check["status"] == status
    assert said in check["detail"]


@pytest.mark.parametrize(
    ("model", "said"), [("AUTO", "chosen for each call"), ("local/none.gguf", "local/none.gguf")]
)
def test_a_default_model_that_nobody_lists(
    greenroom: Greenroom, simulator: SimulatorProcess, model: str, said: str
) -> None:
    greenroom.configure(simulator.base_url, before=f'default_model = "{model}"')
    check = checks(greenroom.run("doctor", "--json"))["default model"]
    assert (check["status"], said in check["detail"]) == ("ok", True)


def test_looking_changes_nothing(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    greenroom.run("doctor", env={"ACME_KEY": "right"})
    assert not greenroom.database.exists()
    assert [path.name for path in greenroom.folder.iterdir()] == ["greenroom.toml"]
    assert [entry.model for entry in simulator.journal if entry.model] == []


def test_nothing_at_all_is_a_warning_that_says_what_to_do(greenroom: Greenroom) -> None:
    done = greenroom.run("doctor", "--json", env={"OLLAMA_HOST": nobody()})
    check = checks(done).get("providers")
    if check is None:
        pytest.skip("a local server answers on this machine")
    assert (done.code, check["status"]) == (0, "warning")
    assert "OPENAI_API_KEY" in check["fix"]


@pytest.mark.parametrize(
    ("key", "said", "fix"),
    [
        (CANARY, "refuses the key (401)", "put a valid key into ACME_KEY"),
        ("", "needs a key: set ACME_KEY", "set that variable"),
        (f"{CANARY}ü", "characters that no HTTP header can", "set that variable"),
    ],
)
def test_a_wrong_key(
    greenroom: Greenroom, simulator: SimulatorProcess, key: str, said: str, fix: str
) -> None:
    done = greenroom.run("doctor", "--json", env={"ACME_KEY": key})
    check = checks(done)["provider acme"]
    assert (done.code, check["status"], done.json["ok"]) == (1, "failed", False)
    assert said in check["detail"]
    assert fix in check["fix"]
    assert CANARY not in done.out + done.err


def test_a_server_that_is_not_there(greenroom: Greenroom) -> None:
    gone = nobody()
    greenroom.configure(gone)
    check = checks(greenroom.run("doctor", "--json"))["provider acme"]
    assert check["status"] == "failed"
    assert gone in check["detail"]
    assert "start that server" in check["fix"]


def test_a_wrong_address_below_a_right_one(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    greenroom.configure(f"{simulator.base_url}/v2", more='api_key_env = "ACME_KEY"')
    check = checks(greenroom.run("doctor", "--json", env={"ACME_KEY": "right"}))["provider acme"]
    assert check["status"] == "warning"
    assert "mend base_url" in check["fix"]


def test_a_wrong_configuration(greenroom: Greenroom) -> None:
    greenroom.write("greenroom.toml", "defualt_model = 'x'\n")
    done = greenroom.run("doctor", "--json")
    check = checks(done)["configuration"]
    assert (done.code, check["status"]) == (1, "failed")
    assert "did you mean default_model?" in check["detail"]


def test_a_key_file_that_others_can_read(greenroom: Greenroom, simulator: SimulatorProcess) -> None:
    path = greenroom.write("key", "right")
    path.chmod(0o644)
    greenroom.configure(simulator.base_url, more=f'api_key_file = "{path}"')
    check = checks(greenroom.run("doctor", "--json"))["configuration"]
    assert (check["status"], check["fix"]) == ("warning", f"chmod 600 {path}")
    path.chmod(0o600)
    assert checks(greenroom.run("doctor", "--json"))["configuration"]["status"] == "ok"


@pytest.mark.parametrize(
    ("model", "status", "said"),
    [
        ("acme/fats", "warning", "acme/fats is not among the models that acme lists"),
        ("nobody/fast", "ok", "nobody/fast"),
        ("openai/gpt-5.4-mini", "failed", "needs a key: set OPENAI_API_KEY"),
    ],
)
def test_the_default_model(
    greenroom: Greenroom, simulator: SimulatorProcess, model: str, status: str, said: str
) -> None:
    greenroom.configure(
        simulator.base_url, more='api_key_env = "ACME_KEY"', before=f'default_model = "{model}"'
    )
    check = checks(greenroom.run("doctor", "--json", env={"ACME_KEY": "right"}))["default model"]
    if model == "nobody/fast":
        # With a single provider, whatever names none is its model's name.
        assert check["status"] == "warning"
    else:
        assert check["status"] == status
        assert said in check["detail"]


class TestDatabase:
    def test_damaged(self, greenroom: Greenroom) -> None:
        greenroom.database.parent.mkdir()
        greenroom.database.write_bytes(b"this is no database at all\n" * 100)
        check = checks(greenroom.run("doctor", "--json"))["database"]
        assert check["status"] == "failed"
        assert str(greenroom.database) in check["detail"]
        assert "storage.url" in check["fix"]

    def test_another_applications(self, greenroom: Greenroom) -> None:
        greenroom.database.parent.mkdir()
        with sqlite3.connect(greenroom.database) as connection:
            connection.execute("CREATE TABLE jobs (mine TEXT)")
        connection.close()
        assert checks(greenroom.run("doctor", "--json"))["database"]["status"] == "failed"

    def test_a_url_that_is_none(self, greenroom: Greenroom) -> None:
        greenroom.write("greenroom.toml", '[storage]\nurl = "mysql://x/y"\n')
        check = checks(greenroom.run("doctor", "--json"))["database"]
        assert check["status"] == "failed"

    def test_a_folder_that_cannot_be_written(self, greenroom: Greenroom) -> None:
        greenroom.write("greenroom.toml", '[storage]\nurl = "sqlite:////proc/greenroom.db"\n')
        check = checks(greenroom.run("doctor", "--json"))["database"]
        assert (check["status"], "storage.url" in check["fix"]) == ("failed", True)

    def test_with_rows_in_it(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(2)
        assert greenroom.run("run", "in.jsonl", env={"ACME_KEY": "right"}).code == 0
        check = checks(greenroom.run("doctor", "--json", env={"ACME_KEY": "right"}))["database"]
        assert (check["status"], check["detail"]) == ("ok", f"{greenroom.database} can be read and written")
