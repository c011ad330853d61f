"""The store actor: acknowledgements, exactly once, and what is left when it is killed."""

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sqlalchemy import Column, Integer, MetaData, Table, bindparam, func, insert, select, text
from tests.storage.rows import WAIT_S, Task, hold, holds, on_disk, tickets_on_disk

from greenroom.actors.kernel import Actor, ActorRef, ActorSystem, Call, Cast, StartFailed, handles
from greenroom.actors.storage import (
    CallbackFailed,
    Commit,
    Database,
    DatabaseOwned,
    GetStorageStatistics,
    Introduce,
    Query,
    Resend,
    Save,
    Saved,
    StorageClosed,
    StorageFailed,
    Store,
    Write,
    WriteRejected,
    attempts,
    book,
    writer,
)
from greenroom.supervisors import ChildSpec, Supervisor

SEEN = Table("seen", MetaData(), Column("sender", Integer), Column("tag", Integer))
INSERT_SEEN = insert(SEEN).values(sender=bindparam("sender"), tag=bindparam("tag"))
COUNT = select(func.count()).select_from(attempts)


class Put(Cast, frozen=True):
    """Cast these saves, in this order."""

    saves: tuple[Save, ...]


class Told(Call[list[Saved]], frozen=True):
    """What the store has said so far."""


class Sender(Actor):
    """Casts saves to the store and keeps what it hears; on `Resend` it casts again what is unacknowledged."""

    def __init__(self, store: ActorRef, heard: asyncio.Event) -> None:
        self._store = store
        self._heard = heard
        self.told: list[Saved] = []
        self.unacknowledged: dict[int, Save] = {}

    @handles
    def put(self, message: Put) -> None:
        for save in message.saves:
            self.unacknowledged[save.tag] = save
            self._store.cast(save)

    @handles
    def saved(self, message: Saved) -> None:
        self.told.append(message)
        for tag in message.tags:
            self.unacknowledged.pop(tag, None)
        self._heard.set()

    @handles
    def resend(self, message: Resend) -> None:
        for save in self.unacknowledged.values():
            self._store.cast(save)

    @handles
    def tell(self, message: Told) -> list[Saved]:
        return list(self.told)


class Stage:
    """A system with a store by name and one sender."""

    def __init__(self, system: ActorSystem, database: Database) -> None:
        self.system = system
        self.database = database
        self.heard = asyncio.Event()
        self.store = system.named("store")
        self.incarnation: ActorRef
        self.sender: ActorRef

    async def set_up(self) -> None:
        await self.start_store()
        self.sender = await self.system.start(Sender, self.store, self.heard)

    async def start_store(self) -> None:
        self.incarnation = await self.system.start(Store, self.database, name="store")

    async def kill_store(self) -> None:
        self.system.kill(self.incarnation)
        await self.system.wait_down(self.incarnation)

    def save(self, tag: int, *tickets: int, **options: object) -> Save:
        return Save((holds(*tickets),), self.sender, tag, **options)  # type: ignore[arg-type]  # fields of Save

    def put(self, *saves: Save) -> None:
        self.sender.cast(Put(saves))

    async def told(self, tags: int) -> list[Saved]:
        """What the sender was told, once it has heard of so many tags."""
        while True:
            self.heard.clear()
            told = await self.sender.call(Told())
            if sum(len(one.tags) for one in told) >= tags:
                return told
            await asyncio.wait_for(self.heard.wait(), WAIT_S)

    async def all_with_the_writer(self) -> None:
        """Until what the sender was told to cast has gone through the store's mailbox to the writer."""
        await self.sender.call(Told())
        await self.store.call(GetStorageStatistics())

    async def closed_gate(self) -> threading.Event:
        """Keep the writer busy until the event is set."""
        reached, gate = threading.Event(), threading.Event()

        def wait() -> None:
            reached.set()
            assert gate.wait(WAIT_S)

        self.database.submit(Task(then=wait))
        assert await asyncio.to_thread(reached.wait, WAIT_S)
        return gate


@pytest.fixture
async def stage(path: Path) -> AsyncIterator[Stage]:
    database = Database(f"sqlite:///{path}", app_version="1")
    async with ActorSystem() as system:
        stage = Stage(system, database)
        await stage.set_up()
        yield stage
    await asyncio.to_thread(database.close)


def read(path: Path) -> list[object]:
    return tickets_on_disk(path)


async def test_a_save_is_acknowledged_once_it_is_on_disk(stage: Stage, path: Path) -> None:
    stage.put(stage.save(1, 10, 11))
    assert await stage.told(1) == [Saved((1,))]
    assert await asyncio.to_thread(read, path) == [10, 11]


async def test_one_acknowledgement_per_sender_and_commit(stage: Stage) -> None:
    other_heard = asyncio.Event()
    other = await stage.system.start(Sender, stage.store, other_heard)
    gate = await stage.closed_gate()
    stage.put(*(stage.save(tag, tag) for tag in range(1, 301)))
    other.cast(Put(tuple(Save((holds(1000 + tag),), other, tag) for tag in range(1, 4))))
    await other.call(Told())
    await stage.all_with_the_writer()
    gate.set()
    assert await stage.told(300) == [Saved(tuple(range(1, 301)))]
    await asyncio.wait_for(other_heard.wait(), WAIT_S)
    assert await other.call(Told()) == [Saved((1, 2, 3))]


async def test_failed_tags_come_apart_from_those_on_disk(stage: Stage, path: Path) -> None:
    gate = await stage.closed_gate()
    bad = Write(holds().statement, (hold(2, provider=None),))
    stage.put(stage.save(1, 1), Save((bad,), stage.sender, 2), stage.save(3, 3))
    await stage.all_with_the_writer()
    gate.set()
    good, failed = await stage.told(3)
    assert good == Saved((1, 3))
    assert failed.tags == (2,)
    assert isinstance(failed.error, WriteRejected)
    assert await asyncio.to_thread(read, path) == [1, 3]


async def test_what_follows_a_commit_and_fails_is_told(stage: Stage, path: Path) -> None:
    def fail() -> None:
        raise OSError("no room for the line")

    stage.put(stage.save(1, 1, then=fail))
    (told,) = await stage.told(1)
    assert isinstance(told.error, CallbackFailed)
    assert await asyncio.to_thread(read, path) == [1]
    # The row is on disk, so the same tag is not applied again: it is acknowledged.
    stage.put(stage.save(1, 2))
    assert (await stage.told(2))[1:] == [Saved((1,))]
    assert await asyncio.to_thread(read, path) == [1]


async def test_a_tag_on_disk_is_acknowledged_again_and_not_applied_again(stage: Stage, path: Path) -> None:
    stage.put(stage.save(5, 5), stage.save(7, 7))
    await stage.told(2)
    # The tickets differ so that a second application would show.
    stage.put(stage.save(5, 50), stage.save(7, 70), stage.save(8, 8))
    assert sorted(tag for one in (await stage.told(5))[1:] for tag in one.tags) == [5, 7, 8]
    assert await asyncio.to_thread(read, path) == [5, 7, 8]


async def test_a_tag_still_waiting_is_not_applied_twice(stage: Stage, path: Path) -> None:
    gate = await stage.closed_gate()
    stage.put(stage.save(1, 1), stage.save(1, 100))
    await stage.all_with_the_writer()
    gate.set()
    assert await stage.told(2) == [Saved((1, 1))]
    assert await asyncio.to_thread(read, path) == [1]


async def test_a_tag_that_failed_is_applied_when_it_is_sent_again(stage: Stage, path: Path) -> None:
    bad = Write(holds().statement, (hold(1, provider=None),))
    stage.put(Save((bad,), stage.sender, 1), stage.save(2, 2))
    await stage.told(2)
    stage.put(stage.save(1, 1))
    assert (await stage.told(3))[-1] == Saved((1,))
    assert await asyncio.to_thread(read, path) == [1, 2]


async def test_a_copy_queued_behind_a_save_that_fails_is_no_success(stage: Stage, path: Path) -> None:
    gate = await stage.closed_gate()
    bad = Write(holds().statement, (hold(1, provider=None),))
    stage.put(Save((bad,), stage.sender, 1), stage.save(1, 1))
    await stage.all_with_the_writer()
    gate.set()
    told = await stage.told(2)
    assert all(one.error is not None for one in told)
    assert await asyncio.to_thread(read, path) == []


async def test_many_failed_tags_take_bounded_memory_and_are_never_falsely_acknowledged(
    stage: Stage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(book, "MAX_FAILED", 3)
    bad = Write(holds().statement, (hold(1, provider=None),))
    stage.put(*(Save((bad,), stage.sender, tag) for tag in range(1, 11)))
    await stage.told(10)
    stage.put(*(stage.save(tag, tag) for tag in range(1, 11)))
    await stage.told(20)
    assert await asyncio.to_thread(read, path) == list(range(1, 11))


async def test_too_much_waiting_fails_closed_and_heals(
    stage: Stage, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = await stage.closed_gate()
    monkeypatch.setattr(writer, "MAX_WAITING", 2)
    stage.put(*(stage.save(tag, tag) for tag in (1, 2, 3)))
    (refused,) = await stage.told(1)
    assert refused.tags == (3,)
    assert "the disk does not keep up" in str(refused.error)
    with pytest.raises(StorageFailed, match="does not keep up"):
        await stage.store.call(Commit((holds(4),)))
    gate.set()
    await stage.told(3)
    stage.put(stage.save(3, 3))
    await stage.told(4)
    assert await asyncio.to_thread(read, path) == [1, 2, 3]


async def test_commit_waits_until_it_is_on_disk(stage: Stage, path: Path) -> None:
    await stage.store.call(Commit((holds(1), holds(2))))
    assert await asyncio.to_thread(read, path) == [1, 2]
    with pytest.raises(WriteRejected):
        await stage.store.call(Commit((Write(holds().statement, (hold(3, model=None),)),)))


async def test_an_empty_commit_is_a_barrier(stage: Stage) -> None:
    ran: list[int] = []
    gate = await stage.closed_gate()
    stage.put(stage.save(1, 1, then=lambda: ran.append(1)))
    await stage.all_with_the_writer()
    barrier = asyncio.create_task(stage.store.call(Commit()))
    await asyncio.sleep(0)
    await stage.all_with_the_writer()
    assert not barrier.done()
    gate.set()
    await barrier
    assert ran == [1]
    assert await stage.store.call(Query(COUNT)) == [(1,)]


async def test_a_query_is_answered_by_the_reader_while_the_writer_is_busy(stage: Stage) -> None:
    await stage.store.call(Commit((holds(1, 2),)))
    gate = await stage.closed_gate()
    assert await stage.store.call(Query(COUNT)) == [(2,)]
    found = await stage.store.call(Query(text("SELECT id FROM attempts WHERE id > :after"), {"after": 1}))
    assert found == [(2,)]
    gate.set()
    with pytest.raises(StorageFailed, match="no such table"):
        await stage.store.call(Query(text("SELECT 1 FROM nowhere")))


async def test_statistics_tell_what_was_committed(stage: Stage) -> None:
    await stage.store.call(Commit((holds(1, 2),)))
    figures = (await stage.store.call(GetStorageStatistics())).writer
    assert figures is not None
    assert (figures.commits, figures.jobs, figures.rows, figures.failures, figures.waiting) == (1, 1, 2, 0, 0)


async def test_what_the_writer_had_is_acknowledged_though_the_store_is_dead(stage: Stage, path: Path) -> None:
    gate = await stage.closed_gate()
    stage.put(stage.save(1, 1))
    await stage.all_with_the_writer()
    await stage.kill_store()
    gate.set()
    assert await stage.told(1) == [Saved((1,))]
    assert await asyncio.to_thread(read, path) == [1]


async def test_what_was_lost_with_a_store_is_sent_again(stage: Stage, path: Path) -> None:
    stage.put(stage.save(1, 1))
    await stage.told(1)
    await stage.kill_store()
    stage.put(stage.save(2, 2), stage.save(3, 3))
    await stage.sender.call(Told())
    await stage.start_store()
    await stage.told(3)
    assert await asyncio.to_thread(read, path) == [1, 2, 3]
    assert stage.database.runtime_id == 1


async def test_an_introduced_sender_is_asked_even_if_its_first_save_was_lost(
    stage: Stage, path: Path
) -> None:
    await stage.store.call(Introduce(stage.sender))
    await stage.kill_store()
    stage.put(stage.save(1, 1))
    await stage.sender.call(Told())
    await stage.start_store()
    await stage.told(1)
    assert await asyncio.to_thread(read, path) == [1]


async def test_a_commit_by_name_waits_out_a_restart(stage: Stage, path: Path) -> None:
    await stage.kill_store()
    waiting = asyncio.create_task(stage.store.call(Commit((holds(1),)), timeout=WAIT_S))
    await asyncio.sleep(0)
    await stage.start_store()
    await waiting
    assert await asyncio.to_thread(read, path) == [1]


async def test_a_store_killed_over_and_over_loses_nothing_and_applies_nothing_twice(path: Path) -> None:
    """Rows go to a table without a key, so that a save applied twice would show as two rows."""
    senders, saves, kills = 8, 400, 25
    half = saves // kills // 2
    database = Database(f"sqlite:///{path}", app_version="1")
    async with ActorSystem() as system:
        spec = ChildSpec("store", Store, args=(database,), name="store")
        await system.start(Supervisor, [spec], intensity=kills + 1, period=60.0)
        store = system.named("store")
        await store.call(Commit((Write(text("CREATE TABLE seen (sender INTEGER, tag INTEGER)"), ({},)),)))
        cast: list[tuple[ActorRef, asyncio.Event]] = []
        for _ in range(senders):
            heard = asyncio.Event()
            cast.append((await system.start(Sender, store, heard), heard))
            await store.call(Introduce(cast[-1][0]))

        def put(first: int) -> None:
            for number, (ref, _) in enumerate(cast):
                rows = [{"sender": number, "tag": tag} for tag in range(first, first + half)]
                ref.cast(
                    Put(tuple(Save((Write(INSERT_SEEN, (row,)),), ref, int(row["tag"])) for row in rows))
                )

        for kill in range(kills):
            await store.call(GetStorageStatistics(), timeout=WAIT_S)
            put(1 + kill * 2 * half)
            for _ in range(kill % 5):
                await asyncio.sleep(0)
            # By now some are with the writer, some in the store's mailbox, and some will find nobody of that name.
            living = system.whereis("store")
            assert living is not None
            system.kill(living)
            put(1 + (kill * 2 + 1) * half)
        for ref, heard in cast:
            while True:
                heard.clear()
                told = await ref.call(Told())
                if sum(len(one.tags) for one in told) >= saves:
                    break
                await asyncio.wait_for(heard.wait(), WAIT_S)
            assert all(one.error is None for one in told)
    await asyncio.to_thread(database.close)
    rows = await asyncio.to_thread(on_disk, path, "SELECT sender, tag FROM seen ORDER BY sender, tag")
    assert rows == [(number, tag) for number in range(senders) for tag in range(1, saves + 1)]


class Busy(Actor):
    """A sender whose mailbox has room for two messages."""

    capacity = 2

    def __init__(self, told: list[int], gate: asyncio.Event, done: asyncio.Event) -> None:
        self._told = told
        self._done = done
        self._gate = gate

    @handles
    async def saved(self, message: Saved) -> None:
        await self._gate.wait()
        self._told += message.tags
        if len(self._told) == 20:
            self._done.set()


async def test_an_acknowledgement_waits_for_room_and_keeps_its_place(stage: Stage) -> None:
    told: list[int] = []
    gate, done = asyncio.Event(), asyncio.Event()
    busy = await stage.system.start(Busy, told, gate, done)
    for tag in range(1, 21):
        stage.store.cast(Save((holds(tag),), busy, tag))
        await stage.store.call(Commit())
    gate.set()
    await asyncio.wait_for(done.wait(), WAIT_S)
    assert told == list(range(1, 21))


async def test_dead_senders_are_forgotten(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(book, "PRUNE_FROM", 4)
    living = [await stage.system.start(Sender, stage.store, asyncio.Event()) for _ in range(3)]
    ledger = book.Book()
    for ref in living:
        ledger.introduce(ref)
    for _ in range(50):
        short = await stage.system.start(Sender, stage.store, asyncio.Event())
        ledger.introduce(short)
        await stage.system.stop(short)
    assert len(ledger) <= 2 * 4
    assert all(ref in ledger for ref in living)


async def test_a_store_does_not_start_on_a_database_that_another_owns(stage: Stage, path: Path) -> None:
    second = Database(f"sqlite:///{path}", app_version="1")
    with pytest.raises(StartFailed) as failure:
        await stage.system.start(Store, second)
    assert isinstance(failure.value.__cause__, DatabaseOwned)


async def test_after_closing_saves_fail_and_the_store_lives_on(stage: Stage) -> None:
    await asyncio.to_thread(stage.database.close)
    stage.put(stage.save(1, 1))
    (told,) = await stage.told(1)
    assert isinstance(told.error, StorageClosed)
    with pytest.raises(StorageClosed):
        await stage.store.call(Commit())
    with pytest.raises(StorageClosed):
        await stage.store.call(Query(COUNT))
    assert stage.incarnation.alive
