"""CSV, templates, options and standard output, by real processes: as safe against kills as JSON lines are."""

import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import pytest
from aiohttp import web
from tests.integration.commands import ROOT, Done, Greenroom, SimulatorProcess, Tail, prompt_line, results
from tests.integration.upstream import Asked, Upstream, UpstreamThread, good

TEMPLATE = 'Say {{ text }} for {{ fields["Asked by"] }}'


def write_csv(greenroom: Greenroom, count: int, name: str = "in.csv") -> Path:
    """Rows with commas, quotes and line breaks in them."""
    path = greenroom.folder / name
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "text", "Asked by"])
        writer.writerows([number, f'"{number}",\nreally', "Zoë"] for number in range(1, count + 1))
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file, strict=True))


@contextmanager
def unread(greenroom: Greenroom) -> Generator[tuple[subprocess.Popen[bytes], BinaryIO]]:
    """A job whose 300 lines are all asked, and its output: more than a pipe holds, and nothing of it read."""

    async def answer(asked: Asked) -> web.StreamResponse:
        return good("x" * 2000)

    thread = UpstreamThread(answer)
    with thread as upstream:
        greenroom.configure(upstream.base_url)
        greenroom.prompts(300)
        reading, writing = os.pipe()
        with (
            os.fdopen(reading, "rb") as output,
            subprocess.Popen(
                [sys.executable, "-m", "greenroom.runtime.cli", "run", "in.jsonl", "-o", "-"],
                cwd=greenroom.folder,
                env=greenroom.env,
                stdin=subprocess.DEVNULL,
                stdout=writing,
                stderr=subprocess.DEVNULL,
            ) as process,
        ):
            os.close(writing)
            thread.wait_asked(300)
            yield process, output


def refused(done: Done, *said: str) -> None:
    assert done.code == 2, done.err
    assert "Traceback" not in done.err
    for words in said:
        assert words in done.err


class TestCsv:
    def test_answers_stand_beside_their_rows(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        write_csv(greenroom, 5)
        done = greenroom.run("run", "in.csv", "--prompt", TEMPLATE, "--model", "acme/echo", "--json")
        assert done.code == 0, done.err
        # Excel knows UTF-8 by this mark; whoever gave it gets it back.
        assert (greenroom.folder / "in.results.csv").read_bytes().startswith(b"\xef\xbb\xbfid,text,Asked by,")
        rows = read_csv(greenroom.folder / "in.results.csv")
        assert sorted(int(row["id"]) for row in rows) == [1, 2, 3, 4, 5]
        for row in rows:
            assert row["answer"] == f'Say "{row["id"]}",\nreally for Zoë'
            assert int(row["line"]) == 2 * int(row["id"])
            assert (row["finish_reason"], row["model"], row["error"]) == ("stop", "acme/echo", "")
        assert sum(int(row["output_tokens"]) for row in rows) == done.json["output_tokens"]
        assert sum(float(row["cost_usd"]) for row in rows) == pytest.approx(float(done.json["cost_usd"]))

    def test_columns_of_well_known_names_need_no_prompt(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.write("in.csv", "custom_id,prompt\na,one\n,two\n")
        assert greenroom.run("run", "in.csv", "--model", "acme/echo", "-o", "out.jsonl").code == 0
        found = results(greenroom.folder / "out.jsonl")
        said = {
            key: line["response"]["body"]["choices"][0]["message"]["content"] for key, line in found.items()
        }
        assert said == {"a": "one", "line-3": "two"}

    def test_of_json_lines_too(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(3)
        assert greenroom.run("run", "in.jsonl", "-o", "out.CSV").code == 0
        assert {row["custom_id"] for row in read_csv(greenroom.folder / "out.CSV")} == {"q-1", "q-2", "q-3"}

    def test_on_standard_input(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        source = write_csv(greenroom, 3)
        done = greenroom.run(
            "run", "-", "--format", "csv", "--prompt", TEMPLATE, "-o", "out.csv", stdin=source
        )
        assert done.code == 0, done.err
        assert len(read_csv(greenroom.folder / "out.csv")) == 3

    def test_a_killed_job_goes_on_and_every_row_stands_once(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        write_csv(greenroom, 60)
        words = ("run", "in.csv", "--prompt", TEMPLATE, "--model", "acme/echo")
        out = greenroom.folder / "in.results.csv"
        for lines in (10, 40):
            running = greenroom.start(*words, "--concurrency", 2)
            with Tail(out) as tail:
                tail.wait_lines(lines)
            running.kill()
        # What a power cut may leave: a row cut within its quotes.
        with out.open("ab") as file:
            file.write(b'61,"half\n')
        done = greenroom.run(*words, "--json")
        assert done.code == 0, done.err
        assert done.json["ok"] == 60
        assert done.json["resumed"] > 0
        rows = read_csv(out)
        assert sorted(int(row["id"]) for row in rows) == list(range(1, 61))
        # Two kills, each with two lines in flight and two answers not yet on disk, at most.
        assert len(simulator.journal) <= 60 + 2 * (2 + 2)
        before = out.read_bytes()
        assert "complete" in greenroom.run(*words).err
        out.unlink()
        assert greenroom.run(*words).code == 0
        assert out.read_bytes() == before

    def test_failed_rows_say_why_and_are_asked_again(self, greenroom: Greenroom) -> None:
        broken = True

        async def answer(asked: Asked) -> web.StreamResponse:
            if broken and '"2"' in asked.prompt:
                return web.json_response({"error": {"message": "=no", "type": "x"}}, status=400)
            return good()

        with UpstreamThread(answer) as upstream:
            greenroom.configure(upstream.base_url)
            write_csv(greenroom, 3)
            words = ("run", "in.csv", "--prompt", TEMPLATE)
            assert greenroom.run(*words).code == 1
            errors = {row["id"]: row["error"] for row in read_csv(greenroom.folder / "in.results.csv")}
            assert errors == {"1": "", "2": "invalid_request: =no", "3": ""}
            broken = False
            assert greenroom.run(*words, "--retry-failed").code == 0
            rows = read_csv(greenroom.folder / "in.results.csv")
            assert sorted((row["id"], row["error"]) for row in rows) == [("1", ""), ("2", ""), ("3", "")]
            assert len(upstream.asked) == 4

    def test_an_edited_output_is_not_written_to(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        write_csv(greenroom, 3)
        words = ("run", "in.csv", "--prompt", TEMPLATE)
        assert greenroom.run(*words).code == 0
        out = greenroom.folder / "in.results.csv"
        out.write_bytes(out.read_bytes().replace(b"id,", b"ID,", 1))
        before = out.read_bytes()
        refused(greenroom.run(*words), "is not what the job wrote")
        assert out.read_bytes() == before


def test_the_readmes_example(greenroom: Greenroom) -> None:
    """As it stands there, simulated."""
    (words,) = re.findall(
        r"^    greenroom (run examples/reviews\.csv .*)$", (ROOT / "README.md").read_text(), re.MULTILINE
    )
    (greenroom.folder / "examples").symlink_to(ROOT / "examples")
    done = greenroom.run(*shlex.split(words))
    assert done.code == 0, done.err
    rows = read_csv(greenroom.folder / "answers.csv")
    assert {row["id"] for row in rows} == {f"r-{number:02}" for number in range(1, 11)}
    assert all(row["answer"] for row in rows)


class TestBadCsv:
    @pytest.mark.parametrize(
        ("text", "said"),
        [
            ("", "line 1: is empty; the first row of a CSV file names its columns"),
            ("a,a\n1,2\n", "line 1: columns 1 and 2 are both called 'a'"),
            ("a,text\n", "holds no rows below its column names"),
            (
                "a;text\n1;2\n",
                "the input has no field 'text'; did you mean fields[\"a;text\"]? Are the columns separated by",
            ),
            ("a,txt\n1,2\n", "--prompt, line 1, column 8: the input has no field 'text'; did you mean txt?"),
            ("a,text\n1\n", "in.csv, line 2: has 1 fields, the header 2: a, text"),
            ('a,text\n"1\n\n",2,3\n', "in.csv, line 2: has 3 fields, the header 2"),
            ('a,text\n1,2\n3,5" disk\n', "in.csv, line 3: field 2 holds a quote"),
            ('a,text\n1,"2\n3,4\n', "line 2: field 2 opens a quote that is never closed; all 2 lines"),
            ("a,text\n1,caf\udce9\n", "in.csv, line 2: not UTF-8"),
        ],
    )
    def test_is_named_with_its_line_and_nothing_is_sent(
        self, greenroom: Greenroom, simulator: SimulatorProcess, text: str, said: str
    ) -> None:
        (greenroom.folder / "in.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
        refused(greenroom.run("run", "in.csv", "--prompt", "Say {{ text }}"), said)
        assert simulator.journal == []
        assert not (greenroom.folder / "in.results.csv").exists()

    def test_rows_separated_by_semicolons_are_guessed(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.write("in.csv", "a;b\n1;2\n")
        refused(
            greenroom.run("run", "in.csv"), "no column is called prompt", "separated by semicolons or tabs?"
        )

    def test_skip_invalid_goes_on_without_them(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.write("in.csv", 'id,text\n1,a\n2,5" disk\n3\n4,"b"\n,\n')
        done = greenroom.run("run", "in.csv", "--prompt", "{{ text }}", "--skip-invalid", "--json")
        assert done.code == 0, done.err
        assert "passing over 2 lines that cannot be asked; the first: line 3: field 2 holds" in done.err
        assert {row["id"] for row in read_csv(greenroom.folder / "in.results.csv")} == {"1", "4"}


class TestTemplates:
    def test_over_the_fields_of_json_lines(self, greenroom: Greenroom, upstream: Upstream) -> None:
        lines: list[dict[str, object]] = [
            {"text": "a", "n": 1, "tags": ["x"]},
            {"text": "b", "n": 2.5, "tags": [], "custom_id": "c"},
        ]
        greenroom.write("in.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
        words = ("--prompt", "{{ n }} {{ tags }}: {{ text }}", "--system", "You like {{ text }}.")
        done = greenroom.run("run", "in.jsonl", *words, "-c", 1)
        assert done.code == 0, done.err
        assert [[message["content"] for message in asked.body["messages"]] for asked in upstream.asked] == [
            ["You like a.", '1 ["x"]: a'],
            ["You like b.", "2.5 []: b"],
        ]
        assert set(results(greenroom.folder / "in.results.jsonl")) == {"line-1", "c"}

    def test_a_systems_template_over_lines_with_prompts(
        self, greenroom: Greenroom, upstream: Upstream
    ) -> None:
        greenroom.write("in.jsonl", '{"prompt": "a", "lang": "French"}\n')
        assert greenroom.run("run", "in.jsonl", "--system", "Answer in {{ lang }}.").code == 0
        assert [m["content"] for m in upstream.asked[0].body["messages"]] == ["Answer in French.", "a"]

    @pytest.mark.parametrize(
        ("line", "template", "said"),
        [
            ('{"text": "a"}', " ", "--prompt is empty"),
            ('{"text": "a"}', "Say {{ text", "--prompt, line 1, column 8: unexpected end of template"),
            ('{"text": "a"}', "Say {{ txet }}", "line 1: it has no field 'txet'; did you mean text?"),
            ('{"messages": [], "text": "a"}', "{{ text }}", 'line 1: has "messages", a request of its own'),
            ('{"custom_id": 7, "text": "a"}', "{{ text }}", "line 1: custom_id is 7; it must be text"),
            ("[1]", "{{ text }}", "line 1: Expected `object`"),
        ],
    )
    def test_what_is_wrong_is_told_and_nothing_sent(
        self, greenroom: Greenroom, simulator: SimulatorProcess, line: str, template: str, said: str
    ) -> None:
        greenroom.write("in.jsonl", line + "\n")
        refused(greenroom.run("run", "in.jsonl", "--prompt", template), said)
        assert simulator.journal == []

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            (("--prompt", "Sing {{ text }}"), "prompt was 'Say {{ text }}', now 'Sing {{ text }}'"),
            (
                ("--prompt", "Say {{ text }}", "-p", "seed=2"),
                "options was '{\"seed\":1}', now '{\"seed\":2}'",
            ),
            (("--prompt", "Say {{ text }}"), "options was '{\"seed\":1}', now None"),
            (
                ("--prompt", "Say {{ text }}", "-p", "seed=1", "--system", "x"),
                "system text was None, now 'x'",
            ),
        ],
    )
    def test_a_resume_with_another_is_refused_and_loses_nothing(
        self, greenroom: Greenroom, simulator: SimulatorProcess, change: tuple[str, ...], said: str
    ) -> None:
        greenroom.write("in.csv", "text\na\nb\n")
        assert greenroom.run("run", "in.csv", "--prompt", "Say {{ text }}", "-p", "seed=1").code == 0
        before = (greenroom.folder / "in.results.csv").read_bytes()
        refused(greenroom.run("run", "in.csv", *change), "belongs to another job", said, "--out")
        assert (greenroom.folder / "in.results.csv").read_bytes() == before
        assert len(simulator.journal) == 2

    def test_a_resume_with_other_columns_is_refused(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.write("in.csv", "text,other\na,b\n")
        assert greenroom.run("run", "in.csv", "--prompt", "Say {{ text }}").code == 0
        greenroom.write("in.csv", "other,text\na,b\n")
        refused(
            greenroom.run("run", "in.csv", "--prompt", "Say {{ text }}"),
            "columns was ('text', 'other'), now ('other', 'text')",
        )


class TestParams:
    def test_reach_every_request(self, greenroom: Greenroom, upstream: Upstream) -> None:
        body = {"messages": [{"role": "user", "content": "x"}], "temperature": 1, "top_k": 1}
        greenroom.write("in.jsonl", '{"prompt": "a"}\n' + json.dumps({"body": body}) + "\n")
        words = ("-p", "temperature=0.5", "--param", "stop=END", "-p", "top_k=9")
        assert greenroom.run("run", "in.jsonl", *words).code == 0
        for asked in upstream.asked:
            options = {name: value for name, value in asked.body.items() if name not in {"messages", "model"}}
            assert options == {"temperature": 0.5, "stop": "END", "top_k": 9}

    def test_a_misspelt_one_is_refused_before_anything_is_read(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        refused(
            greenroom.run("run", "-", "-o", "out.jsonl", "-p", "temprature=0"),
            "unknown option temprature; did you mean temperature?",
        )


class TestStandardOutput:
    def test_results_on_it_and_all_else_beside_it(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(5)
        done = greenroom.run("run", "in.jsonl", "--out", "-")
        assert done.code == 0, done.err
        assert {json.loads(line)["custom_id"] for line in done.out.splitlines()} == {
            f"q-{number}" for number in range(1, 6)
        }
        assert "5 of 5 lines" in done.err
        again = greenroom.run("run", "in.jsonl", "--out", "-")
        assert (again.code, again.out) == (0, done.out)
        assert len(simulator.journal) == 5

    def test_another_model_is_another_job(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(2)
        assert greenroom.run("run", "in.jsonl", "-o", "-").code == 0
        assert greenroom.run("run", "in.jsonl", "-o", "-", "--model", "acme/echo").code == 0
        assert len(simulator.journal) == 4

    def test_a_killed_job_goes_on_and_tells_all_results(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        source = greenroom.prompts(40)
        running = greenroom.start("run", "-", "-o", "-", "--concurrency", 1, stdin=source)
        simulator.wait_requests(10)
        running.kill()
        done = greenroom.run("run", "-", "-o", "-", stdin=source)
        assert done.code == 0, done.err
        assert len({json.loads(line)["custom_id"] for line in done.out.splitlines()}) == 40
        assert len(simulator.journal) <= 41

    def test_a_reader_who_has_seen_enough_stops_the_job_and_it_goes_on_later(
        self, greenroom: Greenroom
    ) -> None:
        async def answer(asked: Asked) -> web.StreamResponse:
            return good()

        with UpstreamThread(answer) as upstream:
            greenroom.configure(upstream.base_url)
            greenroom.write("in.jsonl", "".join(prompt_line(number) for number in range(1, 3001)))
            words = ["run", "in.jsonl", "-o", "-", "--concurrency", "1"]
            with subprocess.Popen(
                [sys.executable, "-m", "greenroom.runtime.cli", *words],
                cwd=greenroom.folder,
                env=greenroom.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            ) as process:
                assert process.stdout is not None
                assert process.stderr is not None
                assert json.loads(process.stdout.readline())["custom_id"] == "q-1"
                process.stdout.close()
                err = process.stderr.read().decode()
            assert process.returncode == 130, err
            assert "the same command goes on" in err
            assert "Traceback" not in err
            asked = len(upstream.asked)
            assert asked < 3000
            done = greenroom.run("run", "in.jsonl", "-o", "-")
            assert done.code == 0, done.err
            assert len(done.out.splitlines()) == 3000
            assert len(upstream.asked) == 3000

    def test_a_reader_who_waits_holds_nobody_up(self, greenroom: Greenroom) -> None:
        """As a pager does: all is answered and stored long before it is read."""
        with unread(greenroom) as (process, output):
            lines = output.read().splitlines()
        assert process.returncode == 0
        assert len({json.loads(line)["custom_id"] for line in lines}) == 300

    def test_a_reader_who_never_reads_holds_up_no_interrupt(self, greenroom: Greenroom) -> None:
        with unread(greenroom) as (process, _):
            code = None
            while code is None:
                # As impatient people do. The first ones may still meet the job, the last one the waiting for it.
                process.send_signal(signal.SIGINT)
                with suppress(subprocess.TimeoutExpired):
                    code = process.wait(0.5)
        assert code == 130

    def test_a_disk_that_is_full_is_told(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(2)
        for _ in range(2):
            with Path("/dev/full").open("wb") as full:
                done = subprocess.run(
                    [sys.executable, "-m", "greenroom.runtime.cli", "run", "in.jsonl", "-o", "-"],
                    cwd=greenroom.folder,
                    env=greenroom.env,
                    stdout=full,
                    stderr=subprocess.PIPE,
                    check=False,
                )
            assert done.returncode != 0
            assert b"standard output cannot be written any more: No space left" in done.stderr
        assert len(greenroom.run("run", "in.jsonl", "-o", "-").out.splitlines()) == 2
        assert len(simulator.journal) == 2

    def test_closed_it_is_refused_and_no_other_file_is_written_in_its_place(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(2)
        done = subprocess.run(
            ["sh", "-c", f"{sys.executable} -m greenroom.runtime.cli run in.jsonl -o - >&-"],
            cwd=greenroom.folder,
            env=greenroom.env,
            stderr=subprocess.PIPE,
            check=False,
        )
        assert done.returncode == 2
        assert b"standard output is closed" in done.stderr
        assert simulator.journal == []

    def test_two_on_one_stream_are_refused(self, greenroom: Greenroom, simulator: SimulatorProcess) -> None:
        greenroom.prompts(1)
        done = greenroom.run("run", "in.jsonl", "-o", "-", "--json")
        refused(done, "--json and --out - both want standard output")
