"""Removing what nobody has used for long: `Runtime.purge`."""

from typing import cast

from msgspec import Struct

from greenroom.actors import storage
from greenroom.actors.kernel import ActorRef
from greenroom.actors.storage import Commit, Query, Write

_DAY_MS = 86_400_000
_TIMEOUT_S = 3600.0


class Purged(Struct, frozen=True, kw_only=True):
    """What was removed, or would be."""

    sessions: int = 0
    jobs: int = 0


async def purge(
    store: ActorRef, now_ms: int, *, sessions_days: int | None, jobs_days: int | None, dry_run: bool
) -> Purged:
    """Remove what is older; see `Runtime.purge`."""
    sessions = 0 if sessions_days is None else {"until_ms": now_ms - sessions_days * _DAY_MS}
    jobs = 0 if jobs_days is None else {"until_ms": now_ms - jobs_days * _DAY_MS}
    found = Purged(
        sessions=0 if not sessions else await _count(store, Query(storage.IDLE_SESSIONS, sessions)),
        jobs=0 if not jobs else await _count(store, Query(storage.ENDED_JOBS, jobs)),
    )
    if not dry_run:
        writes = [Write(statement, (sessions,)) for statement in storage.PURGE_SESSIONS if sessions]
        writes += [Write(statement, (jobs,)) for statement in storage.PURGE_JOBS if jobs]
        await store.call(Commit(tuple(writes), ordered=True), timeout=_TIMEOUT_S)
    return found


async def _count(store: ActorRef, query: Query) -> int:
    ((count,),) = await store.call(query, timeout=_TIMEOUT_S)
    return cast("int", count)
