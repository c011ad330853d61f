"""Bad input: each is told with what is wrong, where, and what would be right; nothing is sent and nothing is lost."""

import asyncio
import os
import signal
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from aiohttp import web
from tests.integration.commands import Done, Greenroom, Running, SimulatorProcess, results
from tests.integration.evidence import query
from tests.integration.upstream import Asked, UpstreamThread, good

NOBODY = 65_534


def refused(done: Done, *said: str) -> None:
    """Exit code 2, one error, no traceback, all of `said` in it, and nothing on standard output."""
    assert done.code == 2, done.err
    assert done.err.count("error: ") == 1, done.err
    assert "Traceback" not in done.err
    assert done.out == ""
    for words in said:
        assert words in done.err


class TestLines:
    @pytest.mark.parametrize(
        ("line", "said"),
        [
            ("{oops", "line 3: not a JSON object"),
            ("[1, 2]", "line 3: Expected `object`"),
            ('"hello"', "line 3: Expected `object`"),
            ('{"prompt": 7}', "line 3: Expected `str"),
            ("{}", 'line 3: needs one of "prompt", "messages" or "body"'),
            ('{"messages": []}', "line 3: has no messages"),
            ('{"messages": [{"role": "robot", "content": "x"}]}', "line 3: "),
            ('{"prompt": "x", "temperature": 1}', 'line 3: temperature belong in "body"'),
            ('{"url": "/v1/embeddings", "body": {"messages": []}}', "line 3: url is '/v1/embeddings'"),
            (
                '{"body": {"messages": [{"role": "user", "content": "x"}], "stream": true}}',
                "body.stream is true",
            ),
            ('{"custom_id": "q-1", "prompt": "again"}', "line 3: custom_id 'q-1' stands on line 1 already"),
        ],
    )
    def test_a_malformed_line_is_named_and_nothing_is_sent(
        self, greenroom: Greenroom, simulator: SimulatorProcess, line: str, said: str
    ) -> None:
        good = '{"custom_id": "q-1", "prompt": "one"}\n{"custom_id": "q-2", "prompt": "two"}\n'
        greenroom.write("in.jsonl", f"{good}{line}\n")
        done = greenroom.run("run", "in.jsonl")
        refused(
            done, "in.jsonl, line 3", said, "1 of 3 lines cannot be asked; nothing was sent", "--skip-invalid"
        )
        assert simulator.journal == []
        assert not (greenroom.folder / "in.results.jsonl").exists()

    def test_bytes_that_are_no_utf_8(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        (greenroom.folder / "in.jsonl").write_bytes(b'{"prompt": "caf\xe9"}\n')
        refused(greenroom.run("run", "in.jsonl"), "line 1")
        assert simulator.journal == []

    def test_many_bad_lines_are_counted_and_the_first_named(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.write("in.jsonl", "oops\n" * 500)
        done = greenroom.run("run", "in.jsonl")
        refused(done, "500 of 500 lines cannot be asked", "line 1:", "line 10:")
        assert "line 11:" not in done.err

    def test_skip_invalid_goes_on_without_them(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.write("in.jsonl", '{"prompt": "one"}\noops\n\n{"prompt": "four"}\n{"prompt": 5}\n')
        done = greenroom.run("run", "in.jsonl", "--skip-invalid", "--json")
        assert done.code == 0, done.err
        assert "passing over 2 lines that cannot be asked; the first: line 2" in done.err
        assert (done.json["lines"], done.json["ok"]) == (2, 2)
        assert set(results(greenroom.folder / "in.results.jsonl")) == {"line-1", "line-4"}
        assert len(simulator.journal) == 2


class TestFiles:
    @pytest.mark.parametrize("text", ["", "\n\n  \n"])
    def test_a_file_without_prompts(
        self, greenroom: Greenroom, simulator: SimulatorProcess, text: str
    ) -> None:
        path = greenroom.write("in.jsonl", text)
        refused(greenroom.run("run", "in.jsonl"), f"{path} holds no prompts", '{"prompt": "Hello"}')

    def test_a_missing_file(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        refused(greenroom.run("run", "nowhere.jsonl"), "nowhere.jsonl: there is no such file")

    @pytest.mark.parametrize("path", [".", "/", "../work"])
    def test_a_directory(self, greenroom: Greenroom, simulator: SimulatorProcess, path: str) -> None:
        refused(greenroom.run("run", path), f"{path}: is a directory, not a file")

    def test_a_file_that_cannot_be_read(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        """Whoever runs the tests: reading a process's memory from its start is an I/O error."""
        refused(greenroom.run("run", "/proc/self/mem", "--out", "out.jsonl"), "/mem cannot be read: ")

    def test_the_input_as_output(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        path = greenroom.prompts(2)
        before = path.read_bytes()
        refused(greenroom.run("run", "in.jsonl", "--out", "./in.jsonl"), "is the input itself", "--out")
        assert path.read_bytes() == before

    @pytest.mark.parametrize(
        ("out", "said"),
        [
            ("missing/out.jsonl", "missing: there is no such directory"),
            (".", "is a directory: give a file with --out"),
            ("in.jsonl/out.jsonl", "in.jsonl: there is no such directory"),
            ("/proc/out.jsonl", "/proc/out.jsonl cannot be written"),
            ("/dev/full/out.jsonl", "/dev/full: there is no such directory"),
            ("/dev/full", "/dev/full is no ordinary file: give a file with --out"),
            ("pipe", "pipe is no ordinary file: give a file with --out"),
        ],
    )
    def test_an_output_that_cannot_be_written_is_refused_before_anything_is_sent(
        self, greenroom: Greenroom, simulator: SimulatorProcess, out: str, said: str
    ) -> None:
        greenroom.prompts(2)
        os.mkfifo(greenroom.folder / "pipe")
        refused(greenroom.run("run", "in.jsonl", "--out", out), said, "--out")
        assert simulator.journal == []

    def test_standard_input_needs_an_output(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        refused(greenroom.run("run", "-", stdin=greenroom.prompts(2)), "--out FILE")


@pytest.fixture
def open_to_all() -> Iterator[Greenroom]:
    """A place that another user can reach, since no permission stops root."""
    with tempfile.TemporaryDirectory() as folder, Greenroom(Path(folder)) as greenroom:
        if os.getuid() == 0:
            for path in (Path(folder), *Path(folder).rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        yield greenroom


def _others_may_import() -> bool:
    """Whether a user other than root can read the installed packages: not where they lie below a private folder."""
    return all(folder.stat().st_mode & 0o001 for folder in Path(typer.__file__).resolve().parents)


@pytest.mark.skipif(
    not _others_may_import(), reason="the environment lies in a folder that only its owner may enter"
)
class TestPermissions:
    uid = NOBODY if os.getuid() == 0 else None

    def test_an_input_that_may_not_be_read(self, open_to_all: Greenroom) -> None:
        path = open_to_all.prompts(2)
        path.chmod(0)
        done = open_to_all.run("run", "in.jsonl", uid=self.uid)
        refused(done, f"{path} cannot be read: Permission denied")

    def test_an_output_folder_that_may_not_be_written(self, open_to_all: Greenroom) -> None:
        open_to_all.prompts(2).chmod(0o644)
        open_to_all.folder.chmod(0o555)
        done = open_to_all.run("run", "in.jsonl", uid=self.uid)
        refused(done, "in.results.jsonl cannot be written: Permission denied", "--out")

    def test_a_data_directory_that_may_not_be_written(self, open_to_all: Greenroom) -> None:
        open_to_all.prompts(2).chmod(0o644)
        open_to_all.data.chmod(0o555)
        done = open_to_all.run("run", "in.jsonl", uid=self.uid)
        refused(done, str(open_to_all.database.parent), "storage.url")
        assert not (open_to_all.folder / "in.results.jsonl").exists()

    def test_the_database_is_the_users_own(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(2)
        assert greenroom.run("run", "in.jsonl").code == 0
        assert stat.S_IMODE(greenroom.database.stat().st_mode) == 0o600


class TestModels:
    def test_an_unknown_provider_names_those_there_are(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(2)
        with (greenroom.folder / "greenroom.toml").open("a") as file:
            file.write('[providers.other]\nbase_url = "http://127.0.0.1:9/v1"\n')
        done = greenroom.run("run", "in.jsonl", "--model", "nobody/gpt-9")
        refused(done, "no provider for model 'nobody/gpt-9'", "provider/model", "acme, other")
        assert simulator.journal == []

    def test_a_provider_without_its_key_names_the_variable(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(2)
        done = greenroom.run("run", "in.jsonl", "--model", "openai/gpt-5.4-mini")
        refused(done, "openai/gpt-5.4-mini needs a key: set OPENAI_API_KEY")

    def test_an_unpriced_model_is_refused_before_anything_is_sent(self, greenroom: Greenroom) -> None:
        greenroom.prompts(2)
        done = greenroom.run(
            "run", "in.jsonl", "--model", "openai/gpt-5.4-minj", env={"OPENAI_API_KEY": "sk-1"}
        )
        refused(
            done,
            "no price is known for openai/gpt-5.4-minj",
            "did you mean gpt-5.4-mini",
            '[providers.openai.prices."gpt-5.4-minj"]',
        )

    def test_an_unpriced_model_of_one_line_is_refused_too(self, greenroom: Greenroom) -> None:
        body = '"messages": [{"role": "user", "content": "x"}]'
        greenroom.write(
            "in.jsonl",
            f'{{"body": {{"model": "gpt-5.4-mini", {body}}}}}\n{{"body": {{"model": "gpt-nope", {body}}}}}\n',
        )
        done = greenroom.run("run", "in.jsonl", env={"OPENAI_API_KEY": "sk-1"})
        refused(done, "no price is known for openai/gpt-nope")

    def test_a_model_that_the_server_does_not_have_halts_the_job(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(20)
        done = greenroom.run("run", "in.jsonl", "--model", "acme/nope", "--concurrency", 2)
        assert done.code == 2
        assert "halted: acme/nope: not_found 404" in done.err
        assert "the same command goes on" in done.err
        assert len(simulator.journal) <= 4


class TestConfiguration:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("defualt_model = 'x'", "unknown key defualt_model; did you mean default_model?"),
            (
                "[providers.acme]\nbase_ulr = 'http://x'",
                "unknown key providers.acme.base_ulr; did you mean base_url?",
            ),
            ("[retries]\nattempts = 0", "Expected `int` >= 1 - at `$.retries.attempts`"),
            ("[retries]\nattempts = 'six'", "$.retries.attempts"),
            ("[storage]\nurll = 'x'", "unknown key storage.urll; did you mean url?"),
            ("[providers.acme]", "base_url"),
            ("providers = [", "not TOML"),
        ],
    )
    def test_a_wrong_key_or_value_is_named_with_its_place(
        self, greenroom: Greenroom, text: str, said: str
    ) -> None:
        greenroom.prompts(2)
        greenroom.write("greenroom.toml", text + "\n")
        refused(greenroom.run("run", "in.jsonl"), "greenroom.toml", said)
        refused(greenroom.run("costs"), "greenroom.toml", said)

    def test_a_configuration_file_that_is_not_there(self, greenroom: Greenroom) -> None:
        greenroom.prompts(2)
        refused(greenroom.run("run", "in.jsonl", "--config", "mine.toml"), "mine.toml: there is no such file")

    def test_a_key_variable_that_is_not_set(self, greenroom: Greenroom) -> None:
        greenroom.prompts(2)
        greenroom.configure("https://acme.example/v1", more='api_key_env = "ACME_KEY"')
        refused(greenroom.run("run", "in.jsonl"), "provider acme needs a key: set ACME_KEY")

    def test_a_key_that_no_header_can_hold(self, greenroom: Greenroom) -> None:
        greenroom.prompts(2)
        greenroom.configure("https://acme.example/v1", more='api_key_env = "ACME_KEY"')
        done = greenroom.run("run", "in.jsonl", env={"ACME_KEY": "schlüssel"})
        refused(done, "ACME_KEY holds characters that no HTTP header can")
        assert "schlüssel" not in done.err

    @pytest.mark.parametrize(
        "options",
        [("--concurrency", "0"), ("--limit", "0"), ("--max-tokens", "-1"), ("--nonsense",), ("--limit", "x")],
    )
    def test_a_wrong_option_is_a_usage_error(self, greenroom: Greenroom, options: tuple[str, ...]) -> None:
        greenroom.prompts(2)
        done = greenroom.run("run", "in.jsonl", *options)
        assert done.code == 2
        assert options[0] in done.err
        assert "Traceback" not in done.err


class TestDatabase:
    def test_owned_by_a_running_process_that_is_named(self, greenroom: Greenroom) -> None:
        async def never(asked: Asked) -> web.StreamResponse:
            await asyncio.Event().wait()
            return good()

        thread = UpstreamThread(never)
        with thread as upstream:
            greenroom.configure(upstream.base_url)
            greenroom.prompts(2)
            first = greenroom.start("run", "in.jsonl", "--out", "first.jsonl")
            thread.wait_asked(2)
            self.is_refused_until_it_is_gone(greenroom, first)

    def is_refused_until_it_is_gone(self, greenroom: Greenroom, first: Running) -> None:
        second = greenroom.run("run", "in.jsonl", "--out", "second.jsonl")
        refused(second, f"owned by process {first.pid} on host", "storage.url")
        assert not (greenroom.folder / "second.jsonl").exists()
        # Reading beside it is no conflict.
        assert greenroom.run("costs").code == 0
        first.send(signal.SIGKILL)
        assert first.wait().code == -signal.SIGKILL
        # A lock that a dead process left behind owns nothing.
        greenroom.configure(greenroom.simulate().base_url)
        assert greenroom.run("run", "in.jsonl", "--out", "third.jsonl").code == 0

    @pytest.mark.parametrize(
        "content",
        [b"this is no database at all, it only stands there\n" * 100, b"SQLite format 3\0" + b"\xff" * 5000],
    )
    def test_corrupted_is_refused_and_left_as_it_is(
        self, greenroom: Greenroom, simulator: SimulatorProcess, content: bytes
    ) -> None:
        greenroom.prompts(2)
        greenroom.database.parent.mkdir()
        greenroom.database.write_bytes(content)
        refused(greenroom.run("run", "in.jsonl"), str(greenroom.database))
        assert greenroom.database.read_bytes() == content
        refused(greenroom.run("costs"), str(greenroom.database))
        assert simulator.journal == []

    def test_damaged_in_its_middle_is_told_and_not_made_worse(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(200)
        assert greenroom.run("run", "in.jsonl").code == 0
        whole = greenroom.database.read_bytes()
        greenroom.database.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
        done = greenroom.run("run", "in.jsonl", "--out", "other.jsonl")
        assert done.code == 2
        assert "Traceback" not in done.err
        assert str(greenroom.database) in done.err

    def test_of_another_application(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        import sqlite3

        greenroom.prompts(2)
        greenroom.database.parent.mkdir()
        with sqlite3.connect(greenroom.database) as connection:
            connection.execute("CREATE TABLE jobs (mine TEXT)")
        connection.close()
        refused(greenroom.run("run", "in.jsonl"), str(greenroom.database))
        assert query(greenroom.database, "SELECT name FROM sqlite_master") == [("jobs",)]

    def test_a_directory(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(2)
        greenroom.database.mkdir(parents=True)
        refused(greenroom.run("run", "in.jsonl"), str(greenroom.database), "storage.url")

    @pytest.mark.parametrize("url", ["nonsense", "mysql://x/y", "sqlite:///"])
    def test_a_url_that_is_none(self, greenroom: Greenroom, url: str) -> None:
        greenroom.prompts(2)
        greenroom.write("greenroom.toml", f'[storage]\nurl = "{url}"\n')
        done = greenroom.run("run", "in.jsonl")
        assert done.code == 2
        assert "Traceback" not in done.err
        assert "error: " in done.err
