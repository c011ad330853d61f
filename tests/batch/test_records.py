"""Jobs as the database knows them: which one a command means, and what stands in the way of going on with it."""

from functools import partial
from pathlib import Path

import anyio.to_thread
import pytest
from msgspec import structs
from tests.integration.commands import prompt_line
from tests.storage.rows import item

from greenroom.actors import ActorRef
from greenroom.actors.batch import ChangedInput, Defaults, JobRequest, OpenJob, OtherJob, open_job, scan
from greenroom.actors.batch.input.reading import digest
from greenroom.actors.batch.records import (
    finished_positions,
    must_rewrite,
    results_after,
    state_change,
    tally,
)
from greenroom.actors.storage import GET_JOB, INSERT_ITEM, PAGE, Commit, Query, Write

pytestmark = pytest.mark.anyio
LINES = 10
DEFAULTS = Defaults(model="acme/fast", max_tokens=50, system="Be brief.")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "in.jsonl"
    path.write_text("".join(prompt_line(number) for number in range(1, LINES + 1)))
    return path


@pytest.fixture
def request_(source: Path) -> JobRequest:
    return JobRequest(path=source, source=str(source), out=source.with_name("out.jsonl"), defaults=DEFAULTS)


async def opened(store: ActorRef, request: JobRequest, new_id: str = "new") -> OpenJob:
    look = partial(scan, request.path, request.defaults, limit=request.limit)
    return await open_job(store, request, await anyio.to_thread.run_sync(look), new_id, 1_000)


async def answer(store: ActorRef, request: JobRequest, *positions: int, failed: tuple[int, ...] = ()) -> None:
    """Rows for so many lines of the job "first", in this order of completion."""
    text = await anyio.to_thread.run_sync(request.path.read_bytes)
    raw = text.splitlines()
    rows = tuple(
        item(
            "first",
            position,
            seq=seq,
            digest=digest(raw[position].strip()),
            ok=position not in failed,
            error_class="server" if position in failed else None,
        )
        for seq, position in enumerate(positions)
    )
    await store.call(Commit((Write(INSERT_ITEM, rows),)))


async def write(path: Path, text: str) -> None:
    await anyio.to_thread.run_sync(path.write_text, text)


async def test_the_same_command_means_the_same_job(store: ActorRef, request_: JobRequest) -> None:
    first = await opened(store, request_, "first")
    assert (first.id, first.resumed, first.finished, first.complete) == ("first", False, 0, False)
    await answer(store, request_, 3, 0, 7, failed=(7,))
    again = await opened(store, request_)
    assert (again.id, again.resumed, again.finished, again.failed) == ("first", True, 3, 1)


async def test_another_output_means_another_job_and_none_means_always_a_new_one(
    store: ActorRef, request_: JobRequest
) -> None:
    await opened(store, request_, "first")
    elsewhere = structs.replace(request_, out=request_.path.with_name("elsewhere.jsonl"))
    assert (await opened(store, elsewhere, "second")).id == "second"
    nowhere = structs.replace(request_, out=None)
    assert [(await opened(store, nowhere, name)).id for name in ("third", "fourth")] == ["third", "fourth"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": "acme/slow"}, "model was 'acme/fast', now 'acme/slow'"),
        ({"max_tokens": None}, "max tokens was 50, now None"),
        ({"system": "Be long."}, "system text was 'Be brief.', now 'Be long.'"),
    ],
)
async def test_other_settings_are_refused_by_name(
    store: ActorRef, request_: JobRequest, change: dict[str, object], said: str
) -> None:
    await opened(store, request_, "first")
    other = structs.replace(request_, defaults=structs.replace(DEFAULTS, **change))
    with pytest.raises(OtherJob) as refused:
        await opened(store, other)
    assert said in str(refused.value)
    assert "give the same options" in str(refused.value)


async def test_a_file_of_somebody_else_is_refused_and_no_job_is_made(
    store: ActorRef, request_: JobRequest
) -> None:
    assert request_.out is not None
    await write(request_.out, "mine\n")
    with pytest.raises(OtherJob, match="no job of this database wrote"):
        await opened(store, request_, "first")
    await write(request_.out, "")
    assert (await opened(store, request_, "second")).id == "second"


async def test_a_line_that_changed_since_it_was_answered_is_named(
    store: ActorRef, request_: JobRequest
) -> None:
    await opened(store, request_, "first")
    await answer(store, request_, 8, 4, 6)
    text = [prompt_line(number) for number in range(1, LINES + 1)]
    changed = [*text[:4], prompt_line(99), *text[5:]]
    await write(request_.path, "".join(changed))
    with pytest.raises(ChangedInput, match="line 5 has changed"):
        await opened(store, request_)
    await write(request_.path, "".join(text[:8]))
    with pytest.raises(ChangedInput, match="line 9 has changed"):
        await opened(store, request_)
    # What was not answered may change, and more may come.
    await write(request_.path, "".join([prompt_line(99), *text[1:], prompt_line(100)]))
    again = await opened(store, request_)
    assert (again.finished, again.scan.lines) == (3, LINES + 1)


async def test_what_lies_beyond_a_limit_does_not_count(store: ActorRef, request_: JobRequest) -> None:
    await opened(store, request_, "first")
    await answer(store, request_, 9, 8, 7, 0, 1, failed=(9, 1))
    limited = structs.replace(request_, limit=5)
    job = await opened(store, limited)
    assert (job.finished, job.failed, job.complete) == (2, 1, False)
    stands, next_seq = await tally(store, "first", job.scan.span)
    assert (stands.ok, stands.failed, stands.errors, stands.cost_pusd) == (1, 1, {"server": 1}, 14)
    assert next_seq == 5, "places are the whole job's"


async def test_failures_are_forgotten_within_the_limit_alone(store: ActorRef, request_: JobRequest) -> None:
    await opened(store, request_, "first")
    await answer(store, request_, 9, 8, 0, 1, failed=(9, 1))
    job = await opened(store, structs.replace(request_, limit=5, retry_failed=True))
    assert (job.retried, job.finished, job.failed) == (1, 1, 0)
    assert await must_rewrite(store, "first")
    assert (await tally(store, "first", LINES))[0].errors == {"server": 1}
    done = await finished_positions(store, "first", LINES)
    assert [position for position in range(LINES) if done[position]] == [0, 8, 9]


async def test_nothing_to_retry_leaves_the_output_alone(store: ActorRef, request_: JobRequest) -> None:
    await opened(store, request_, "first")
    await answer(store, request_, 0, 1)
    job = await opened(store, structs.replace(request_, retry_failed=True))
    assert (job.retried, job.finished) == (0, 2)
    assert not await must_rewrite(store, "first")


async def test_results_come_in_the_order_of_completion_page_by_page(
    store: ActorRef, request_: JobRequest
) -> None:
    await opened(store, request_, "first")
    count = PAGE + 3
    rows = tuple(item("first", count - 1 - seq, seq=seq, result=b"%d" % seq) for seq in range(count))
    await store.call(Commit((Write(INSERT_ITEM, rows),)))
    for skip in (0, 1, PAGE, count - 1, count):
        pages = [page async for page in results_after(store, "first", skip)]
        assert [row for page in pages for row in page] == [b"%d" % seq for seq in range(skip, count)]
    assert sum(await finished_positions(store, "first", count)) == count
    assert sum(await finished_positions(store, "first", 10)) == 10


async def test_where_a_job_stands_is_noted(store: ActorRef, request_: JobRequest) -> None:
    await opened(store, request_, "first")
    await store.call(Commit((state_change("first", "halted", 2_000),)))
    (row,) = await store.call(Query(GET_JOB, {"job_id": "first"}))
    assert row[:4] == ("first", 1_000, 2_000, "halted")
