"""Removing what nobody has used for long: `Runtime.purge`."""

from typing import cast

from msgspec import Struct, structs

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
    found, writes = Purged(), list[Write]()
    if sessions_days is not None:
        old = {"until_ms": now_ms - sessions_days * _DAY_MS}
        found = structs.replace(found, sessions=await _count(store, Query(storage.IDLE_SESSIONS, old)))
        writes += [Write(statement, (old,)) for statement in storage.PURGE_SESSIONS]
    if jobs_days is not None:
        old = {"until_ms": now_ms - jobs_days * _DAY_MS}
        found = structs.replace(found, jobs=await _count(store, Query(storage.ENDED_JOBS, old)))
        writes += [Write(statement, (old,)) for statement in storage.PURGE_JOBS]
    if writes and not dry_run:
        await store.call(Commit(tuple(writes), ordered=True), timeout=_TIMEOUT_S)
    return found


async def _count(store: ActorRef, query: Query) -> int:
    ((count,),) = await store.call(query, timeout=_TIMEOUT_S)
    return cast("int", count)
