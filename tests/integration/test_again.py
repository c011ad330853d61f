"""The same command again: what it does with a job that is complete, failed in parts, tampered with or another's."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from aiohttp import web
from tests.integration.commands import Greenroom, SimulatorProcess, bodies, prompt_line, results
from tests.integration.evidence import ledger, query
from tests.integration.upstream import Asked, Upstream, UpstreamThread, good, refusal

LINES = 12
IDS = {f"q-{number}" for number in range(1, LINES + 1)}


@pytest.fixture
def complete(greenroom: Greenroom, simulator: SimulatorProcess) -> Path:
    """The output of a job that is complete."""
    greenroom.prompts(LINES)
    done = greenroom.run("run", "in.jsonl")
    assert done.code == 0, done.err
    return greenroom.folder / "in.results.jsonl"


class TestComplete:
    def test_says_so_and_asks_nothing(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path
    ) -> None:
        before, output = len(simulator.journal), complete.read_bytes()
        again = greenroom.run("run", "in.jsonl")
        assert again.code == 0
        assert f"complete: all {LINES} lines have their results in {complete}" in again.err
        assert len(simulator.journal) == before == LINES
        assert complete.read_bytes() == output

    def test_says_so_in_json(self, greenroom: Greenroom, complete: Path) -> None:
        told = greenroom.run("run", "in.jsonl", "--json").json
        assert {name: told[name] for name in ("state", "lines", "ok", "failed", "out")} == {
            "state": "done",
            "lines": LINES,
            "ok": LINES,
            "failed": 0,
            "out": str(complete),
        }

    def test_from_another_folder_it_is_the_same_job(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path
    ) -> None:
        (greenroom.folder / "sub").mkdir()
        config = greenroom.folder / "greenroom.toml"
        again = greenroom.run("run", "sub/../in.jsonl", "--config", config)
        assert again.code == 0
        assert "complete" in again.err
        assert len(simulator.journal) == LINES

    def test_a_deleted_output_is_written_anew_from_the_database(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path
    ) -> None:
        output = complete.read_bytes()
        complete.unlink()
        again = greenroom.run("run", "in.jsonl")
        assert again.code == 0
        assert complete.read_bytes() == output
        assert len(simulator.journal) == LINES

    @pytest.mark.parametrize("left", [0, 1, 700])
    def test_an_output_that_was_cut_is_mended(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path, left: int
    ) -> None:
        output = complete.read_bytes()
        complete.write_bytes(output[:left])
        again = greenroom.run("run", "in.jsonl")
        assert again.code == 0
        assert complete.read_bytes() == output
        assert len(simulator.journal) == LINES

    def test_an_edited_output_is_refused_and_left_alone(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path
    ) -> None:
        edited = complete.read_bytes() + b'{"note": "mine"}\n'
        complete.write_bytes(edited)
        again = greenroom.run("run", "in.jsonl")
        assert again.code == 2
        assert f"{complete} is not what the job wrote" in again.err
        assert "move it away and run again" in again.err
        assert complete.read_bytes() == edited
        assert len(simulator.journal) == LINES

    def test_the_remedy_of_an_edited_output_works(self, greenroom: Greenroom, complete: Path) -> None:
        output = complete.read_bytes()
        complete.write_bytes(output.replace(b"q-1", b"q-one", 1))
        assert greenroom.run("run", "in.jsonl").code == 2
        complete.rename(complete.with_name("mine.jsonl"))
        assert greenroom.run("run", "in.jsonl").code == 0
        assert complete.read_bytes() == output


class TestInputThatHasChanged:
    def test_an_answered_line_that_changed_is_refused_with_its_number(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path
    ) -> None:
        output = complete.read_bytes()
        lines = (greenroom.folder / "in.jsonl").read_text().splitlines(keepends=True)
        lines[6] = json.dumps({"custom_id": "q-7", "prompt": "Something else."}) + "\n"
        greenroom.write("in.jsonl", "".join(lines))
        again = greenroom.run("run", "in.jsonl")
        assert again.code == 2
        assert "in.jsonl, line 7 has changed since it was answered" in again.err
        assert "--out" in again.err
        assert complete.read_bytes() == output
        assert len(simulator.journal) == LINES

    def test_an_answered_line_that_is_gone_is_refused(self, greenroom: Greenroom, complete: Path) -> None:
        greenroom.prompts(LINES - 2)
        again = greenroom.run("run", "in.jsonl")
        assert again.code == 2
        assert f"line {LINES - 1} has changed" in again.err

    def test_appended_lines_are_asked_and_no_others(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path
    ) -> None:
        before = complete.read_bytes()
        greenroom.prompts(LINES + 5)
        again = greenroom.run("run", "in.jsonl", "--json")
        assert again.code == 0, again.err
        assert (again.json["ok"], again.json["resumed"]) == (LINES + 5, LINES)
        assert len(simulator.journal) == LINES + 5
        assert complete.read_bytes().startswith(before)
        assert set(results(complete)) == {f"q-{number}" for number in range(1, LINES + 6)}

    def test_white_space_at_the_ends_of_lines_is_no_change(
        self, greenroom: Greenroom, complete: Path
    ) -> None:
        text = (greenroom.folder / "in.jsonl").read_text()
        greenroom.write("in.jsonl", text.replace("\n", " \r\n"))
        assert greenroom.run("run", "in.jsonl").code == 0


class TestOtherJobs:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            (("--model", "acme/smart"), "model was 'acme/fast', now 'acme/smart'"),
            (("--system", "Be brief."), "system text was None, now 'Be brief.'"),
            (("--max-tokens", "9"), "max tokens was None, now 9"),
        ],
    )
    def test_other_settings_with_the_same_output_are_refused(
        self,
        greenroom: Greenroom,
        simulator: SimulatorProcess,
        complete: Path,
        options: tuple[str, ...],
        said: str,
    ) -> None:
        output = complete.read_bytes()
        again = greenroom.run("run", "in.jsonl", *options)
        assert again.code == 2
        assert f"{complete} belongs to another job ({said})" in again.err
        assert "--out" in again.err
        assert complete.read_bytes() == output
        assert len(simulator.journal) == LINES

    def test_another_input_with_the_same_output_is_refused(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path
    ) -> None:
        greenroom.prompts(2, name="other.jsonl")
        other = greenroom.run("run", "other.jsonl", "--out", complete)
        assert other.code == 2
        assert "belongs to another job" in other.err
        assert "other.jsonl" in other.err
        assert len(simulator.journal) == LINES

    def test_a_file_that_no_job_wrote_is_refused_and_left_alone(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(2)
        mine = greenroom.write("mine.jsonl", "precious\n")
        done = greenroom.run("run", "in.jsonl", "--out", mine)
        assert done.code == 2
        assert f"{mine} holds something that no job of this database wrote" in done.err
        assert mine.read_text() == "precious\n"
        assert simulator.journal == []

    def test_another_output_is_another_job(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path
    ) -> None:
        done = greenroom.run("run", "in.jsonl", "--out", "second.jsonl")
        assert done.code == 0
        assert len(simulator.journal) == 2 * LINES
        assert bodies(greenroom.folder / "second.jsonl") == bodies(complete)


class TestLimits:
    def test_going_on_beyond_a_limit_asks_only_the_rest(
        self, greenroom: Greenroom, simulator: SimulatorProcess
    ) -> None:
        greenroom.prompts(LINES)
        assert greenroom.run("run", "in.jsonl", "--limit", 5).code == 0
        assert len(simulator.journal) == 5
        assert set(results(greenroom.folder / "in.results.jsonl")) == {f"q-{n}" for n in range(1, 6)}
        assert greenroom.run("run", "in.jsonl").code == 0
        assert len(simulator.journal) == LINES
        assert set(results(greenroom.folder / "in.results.jsonl")) == IDS

    def test_a_limit_below_what_is_answered_finds_the_job_complete(
        self, greenroom: Greenroom, simulator: SimulatorProcess, complete: Path
    ) -> None:
        again = greenroom.run("run", "in.jsonl", "--limit", 3)
        assert again.code == 0
        assert "complete" in again.err
        assert len(simulator.journal) == LINES


class Choosy:
    """A provider that refuses some prompts for good until it is told to answer."""

    def __init__(self, refused: set[int]) -> None:
        self.refused = {f"Say something about the number {number}." for number in refused}

    async def __call__(self, asked: Asked) -> web.StreamResponse:
        return refusal(400) if asked.prompt in self.refused else good()


class TestFailures:
    @pytest.fixture
    def choosy(self) -> Choosy:
        return Choosy({3, 8})

    @pytest.fixture
    def upstream(self, greenroom: Greenroom, choosy: Choosy) -> Iterator[Upstream]:
        with UpstreamThread(choosy) as upstream:
            greenroom.configure(upstream.base_url)
            greenroom.prompts(LINES)
            yield upstream

    def test_exit_1_and_how_to_retry(self, greenroom: Greenroom, upstream: Upstream) -> None:
        done = greenroom.run("run", "in.jsonl", "--json")
        assert done.code == 1
        assert "2 lines failed; ask them again with --retry-failed" in done.err
        told = done.json
        assert (told["ok"], told["failed"], told["errors"]) == (LINES - 2, 2, {"invalid_request": 2})
        output = results(greenroom.folder / "in.results.jsonl")
        assert set(output) == IDS
        assert {custom_id for custom_id, line in output.items() if line["response"] is None} == {"q-3", "q-8"}
        assert output["q-3"]["error"]["code"] == "invalid_request"
        assert "no: 400" in output["q-3"]["error"]["message"]

    def test_the_table_names_the_classes(self, greenroom: Greenroom, upstream: Upstream) -> None:
        assert "2 (2 invalid_request)" in greenroom.run("run", "in.jsonl").out

    def test_again_without_retry_it_asks_nothing_and_still_exits_1(
        self, greenroom: Greenroom, upstream: Upstream
    ) -> None:
        greenroom.run("run", "in.jsonl")
        again = greenroom.run("run", "in.jsonl")
        assert again.code == 1
        assert "--retry-failed" in again.err
        assert len(upstream.asked) == LINES

    def test_retry_failed_asks_only_those_and_every_id_stands_once(
        self, greenroom: Greenroom, upstream: Upstream, choosy: Choosy
    ) -> None:
        greenroom.run("run", "in.jsonl")
        choosy.refused.clear()
        again = greenroom.run("run", "in.jsonl", "--retry-failed", "--json")
        assert again.code == 0, again.err
        assert (again.json["ok"], again.json["failed"]) == (LINES, 0)
        assert sorted(asked.prompt for asked in upstream.asked[LINES:]) == [
            "Say something about the number 3.",
            "Say something about the number 8.",
        ]
        output = results(greenroom.folder / "in.results.jsonl")
        assert set(output) == IDS
        assert all(line["error"] is None for line in output.values())
        assert greenroom.run("run", "in.jsonl").code == 0

    def test_what_fails_again_counts_once(
        self, greenroom: Greenroom, upstream: Upstream, choosy: Choosy
    ) -> None:
        greenroom.run("run", "in.jsonl")
        choosy.refused.pop()
        again = greenroom.run("run", "in.jsonl", "--retry-failed", "--json")
        assert again.code == 1
        assert (again.json["ok"], again.json["failed"]) == (LINES - 1, 1)
        assert set(results(greenroom.folder / "in.results.jsonl")) == IDS
        assert len(upstream.asked) == LINES + 2

    def test_retry_failed_without_failures_is_complete(
        self, greenroom: Greenroom, upstream: Upstream, choosy: Choosy
    ) -> None:
        choosy.refused.clear()
        assert greenroom.run("run", "in.jsonl").code == 0
        again = greenroom.run("run", "in.jsonl", "--retry-failed")
        assert again.code == 0
        assert "complete" in again.err
        assert len(upstream.asked) == LINES

    def test_refusals_cost_nothing_and_have_their_rows(
        self, greenroom: Greenroom, upstream: Upstream
    ) -> None:
        greenroom.run("run", "in.jsonl")
        rows = ledger(greenroom.database)
        assert len(rows) == LINES
        refused = [row for row in rows if row.outcome == "invalid_request"]
        assert [(row.cost_pusd, row.estimated, row.number) for row in refused] == [(0, False, 1)] * 2

    def test_job_and_items_in_the_database_agree(self, greenroom: Greenroom, upstream: Upstream) -> None:
        greenroom.run("run", "in.jsonl")
        assert query(greenroom.database, "SELECT state, lines FROM jobs") == [("done", LINES)]
        assert query(greenroom.database, "SELECT COUNT(*), SUM(ok) FROM items") == [(LINES, LINES - 2)]


def test_a_job_that_stood_still_goes_on_where_it_was(
    greenroom: Greenroom, simulator: SimulatorProcess
) -> None:
    """Lines are answered in whatever order; what is missing is asked, also in the middle."""
    greenroom.prompts(LINES)
    assert greenroom.run("run", "in.jsonl", "--limit", 4).code == 0
    greenroom.write("in.jsonl", "".join(prompt_line(number) for number in range(1, LINES + 1)) + "\n\n")
    again = greenroom.run("run", "in.jsonl")
    assert again.code == 0
    assert "going on: 4 of 12 lines have their results" in again.err
    assert len({entry.prompt_sha256 for entry in simulator.journal}) == len(simulator.journal) == LINES
