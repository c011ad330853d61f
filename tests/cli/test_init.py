"""`greenroom init`: what it writes is a configuration that works, and nothing that was there is lost."""

import re
import tomllib

import pytest
from msgspec import Struct, structs
from tests.cli.test_models import CANARY, nobody
from tests.integration.commands import Greenroom, results

from greenroom.actors.settings import Settings
from greenroom.runtime.cli.init import configuration
from greenroom.runtime.config import load_settings, settings_from

NOBODY_LOCAL = {"OLLAMA_HOST": nobody(), "LMSTUDIO_HOST": nobody()}


def test_what_it_writes_uses_what_it_found(greenroom: Greenroom) -> None:
    simulator = greenroom.simulate("--api-key", "right")
    env = {"OPENAI_API_KEY": "right", "OPENAI_BASE_URL": simulator.base_url}
    done = greenroom.run("init", env=env)
    assert done.code == 0, done.err
    assert "wrote greenroom.toml, with openai" in done.err
    settings = load_settings(greenroom.folder / "greenroom.toml")
    assert settings.providers["openai"].base_url == simulator.base_url
    assert settings.default_model is not None
    greenroom.prompts(2)
    # Without the variable that said where it is: the file says it now.
    run = greenroom.run("run", "in.jsonl", env={"OPENAI_API_KEY": "right"})
    assert run.code == 0, run.err
    assert len(results(greenroom.folder / "in.results.jsonl")) == 2
    assert greenroom.run("doctor", env={"OPENAI_API_KEY": "right"}).code == 0


def test_a_local_server_that_answers_is_written_where_it_is(greenroom: Greenroom) -> None:
    simulator = greenroom.simulate()
    assert greenroom.run("init", env={"OLLAMA_HOST": simulator.base_url}).code == 0
    settings = load_settings(greenroom.folder / "greenroom.toml")
    assert settings.providers["ollama"].base_url == simulator.base_url
    assert str(settings.default_model).startswith("ollama/")


def test_keys_are_never_written(greenroom: Greenroom) -> None:
    done = greenroom.run("init", env={"GROQ_API_KEY": CANARY, "OPENAI_API_KEY": CANARY, **NOBODY_LOCAL})
    assert done.code == 0, done.err
    text = (greenroom.folder / "greenroom.toml").read_text()
    assert CANARY not in text + done.out + done.err
    assert {"[providers.groq]", "[providers.openai]"} <= set(text.splitlines())


def test_a_file_that_is_there_is_left_alone_unless_forced(greenroom: Greenroom) -> None:
    path = greenroom.write("greenroom.toml", "# mine\n")
    done = greenroom.run("init", env=NOBODY_LOCAL)
    assert done.code == 2
    assert "is there already" in done.err
    assert "--force" in done.err
    assert path.read_text() == "# mine\n"
    assert greenroom.run("init", "--force", env=NOBODY_LOCAL).code == 0
    assert load_settings(path)


def test_another_name(greenroom: Greenroom) -> None:
    assert greenroom.run("init", "staging.toml", env=NOBODY_LOCAL).code == 0
    assert greenroom.run("doctor", "--config", "staging.toml").code == 0


@pytest.mark.parametrize("path", ["missing/greenroom.toml", "/proc/greenroom.toml"])
def test_a_place_that_cannot_be_written(greenroom: Greenroom, path: str) -> None:
    done = greenroom.run("init", path, env=NOBODY_LOCAL)
    assert done.code == 2
    assert f"{path} cannot be written" in done.err
    assert "Traceback" not in done.err


def test_a_comment_taken_away_leaves_the_default_or_an_example() -> None:
    """Whatever is commented out is a line that could stand there, and means what stands there without it."""
    text = configuration([])
    assert tomllib.loads(text) == {}
    uncommented = re.sub(r"^# (?=\[|[a-z_]+ = )", "", text, flags=re.MULTILINE)
    data = tomllib.loads(uncommented)
    settings = settings_from(data, "greenroom.toml")
    assert set(data) >= {
        field.name for field in structs.fields(Settings) if isinstance(field.default, Struct)
    }
    assert "mine" in settings.providers
    for field in structs.fields(Settings):
        if isinstance(field.default, Struct) and field.name != "storage":
            assert getattr(settings, field.name) == field.default
