"""Who has saved what, and telling them: the part of the store that outlives its actor.

Everything here runs on the event loop. The book belongs to the `Database`, so a restarted store finds in it which
saves the writer has had already.
"""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from greenroom.actors.kernel import ActorRef, Overloaded, ReplyTo
from greenroom.actors.storage.errors import CallbackFailed, StorageFailed
from greenroom.actors.storage.messages import Commit, Resend, Save, Saved
from greenroom.actors.storage.shapes import Failures, Job, Write

MAX_FAILED = 10_000
"""Tags of failed saves remembered per sender. Beyond that all its tags so far count as failed: applied again if sent
again, which is harmless for rows that bear it, where a false acknowledgement would not be."""

PRUNE_FROM = 1_024
"""Senders known before the dead among them are looked for and forgotten."""


class _Seen(Struct, gc=False):
    """What is known of one sender: its highest tag, and which tags up to it are not on disk nor on their way."""

    highest: int = -1
    failed: set[int] = set()
    doubtful: int = -1

    def is_done(self, tag: int) -> bool:
        return self.doubtful < tag <= self.highest and tag not in self.failed

    def skip_to(self, tag: int) -> None:
        # What was passed over died in an old store's mailbox, and will be sent again.
        if tag - self.highest + len(self.failed) > MAX_FAILED:
            self.doubtful = tag - 1
            self.failed.clear()
        else:
            self.failed.update(range(self.highest + 1, tag))
        self.highest = tag

    def fail(self, tag: int) -> None:
        if len(self.failed) >= MAX_FAILED:
            self.doubtful = self.highest
            self.failed.clear()
        self.failed.add(tag)


class _Again(Struct, frozen=True, gc=False):
    """A save that the writer has had already: it waits in the queue behind the first, and is acknowledged after it."""

    sender: ActorRef
    tag: int
    writes: tuple[Write, ...] = ()
    then: None = None
    ordered: bool = False


class _Awaited(Struct, frozen=True):
    """A commit and who waits for it."""

    writes: tuple[Write, ...]
    ordered: bool
    reply_to: ReplyTo[None]
    then: None = None


class Book:
    """Remembers every sender's saves and delivers acknowledgements."""

    def __init__(self) -> None:
        self._seen: dict[ActorRef, _Seen] = {}
        self._prune_at = PRUNE_FROM
        self._backlog: dict[ActorRef, list[Saved | Resend]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._seen)

    def __contains__(self, sender: ActorRef) -> bool:
        return sender in self._seen

    def introduce(self, sender: ActorRef) -> None:
        """Remember a sender that has saved nothing yet."""
        if sender not in self._seen:
            self._enter(sender)

    def admit(self, save: Save) -> Job:
        """What to give to the writer for a save: itself, or a marker if the writer has had it already."""
        seen = self._seen.get(save.sender)
        if seen is None:
            seen = self._enter(save.sender)
        if save.tag > seen.highest:
            seen.skip_to(save.tag)
        elif seen.is_done(save.tag):
            return _Again(save.sender, save.tag)
        else:
            seen.failed.discard(save.tag)
        return save

    def admit_commit(self, commit: Commit, reply_to: ReplyTo[None]) -> Job:
        """What to give to the writer for a commit."""
        return _Awaited(commit.writes, commit.ordered, reply_to)

    def refuse(self, save: Save, error: StorageFailed) -> None:
        """The writer did not take a save that was admitted."""
        self.settle((save,), {0: error})

    def settle(self, group: Sequence[Job], failures: Failures) -> None:
        """A group is through: tell everybody in it what became of theirs."""
        saved: dict[ActorRef, list[int]] = {}
        failed: dict[tuple[ActorRef, StorageFailed], list[int]] = {}
        for index, job in enumerate(group):
            error = failures.get(index) if failures else None
            if isinstance(job, _Awaited):
                _answer(job.reply_to, error)
            elif isinstance(job, Save) and error is None:
                tags = saved.get(job.sender)
                if tags is None:
                    saved[job.sender] = [job.tag]
                else:
                    tags.append(job.tag)
            elif isinstance(job, Save | _Again):
                if (error := self._note(job, error)) is None:
                    saved.setdefault(job.sender, []).append(job.tag)
                else:
                    failed.setdefault((job.sender, error), []).append(job.tag)
        for sender, tags in saved.items():
            self._tell(sender, Saved(tuple(tags)))
        for (sender, error), tags in failed.items():
            self._tell(sender, Saved(tuple(tags), error))

    def ask_again(self) -> None:
        """Tell every living sender that a new store has taken over."""
        self._prune()
        for sender in list(self._seen):
            self._tell(sender, Resend())

    def _note(self, job: Save | _Again, error: StorageFailed | None) -> StorageFailed | None:
        seen = self._seen.get(job.sender)
        if seen is None:
            return error
        if error is not None and isinstance(job, Save):
            if not isinstance(error, CallbackFailed):
                seen.fail(job.tag)
        elif isinstance(job, _Again) and not seen.is_done(job.tag):
            # The first of the two failed, after this one was queued behind it.
            return error or StorageFailed("an earlier copy of this save failed; send it again")
        return error

    def _enter(self, sender: ActorRef) -> _Seen:
        if len(self._seen) >= self._prune_at:
            self._prune()
            self._prune_at = max(PRUNE_FROM, 2 * len(self._seen))
        seen = self._seen[sender] = _Seen()
        return seen

    def _prune(self) -> None:
        self._seen = {sender: seen for sender, seen in self._seen.items() if sender.alive}

    def _tell(self, sender: ActorRef, message: Saved | Resend) -> None:
        if not sender.alive:
            return
        if sender in self._backlog:
            self._backlog[sender].append(message)
            return
        try:
            sender.cast_from_loop(message)
        except Overloaded:
            # An acknowledgement may not be lost: it waits for room, and those after it wait behind it.
            self._backlog[sender] = [message]
            task = asyncio.get_running_loop().create_task(self._send_backlog(sender))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _send_backlog(self, sender: ActorRef) -> None:
        try:
            while self._backlog[sender]:
                message = self._backlog[sender].pop(0)
                await sender.send(message)
        finally:
            del self._backlog[sender]


def _answer(reply_to: ReplyTo[None], error: StorageFailed | None) -> None:
    if error is None:
        reply_to.reply(None)
    else:
        reply_to.refuse(error)
