"""The ledger's structs as rows of the database: what a save writes, and what a new ledger finds and writes first."""

from collections.abc import Collection, Sequence
from typing import cast

from msgspec import Struct

from greenroom.actors import storage
from greenroom.actors.events import HoldsReclaimed
from greenroom.actors.kernel import ActorRef
from greenroom.actors.ledger.balances import Entry, Key, Purse
from greenroom.actors.ledger.messages import Hold, Settle
from greenroom.actors.ledger.outbox import Outbox
from greenroom.actors.storage import Commit, Query, Write

_TIMEOUT_S = 60.0


def writes(
    holds: Sequence[Entry], settled: Sequence[Entry], slices: Sequence[Purse], runtime_id: int
) -> tuple[Write, ...]:
    """What one save writes: holds, settlements, and slices at the size they are changing to."""
    sizes = [(purse, purse.slice.pending_pusd) for purse in slices]
    settles = [entry.settle for entry in settled if entry.settle is not None]
    return (
        Write(storage.HOLD, tuple([_held_row(entry.hold, runtime_id) for entry in holds])),
        Write(storage.SETTLE, tuple([_settled_row(settle, runtime_id) for settle in settles])),
        Write(
            storage.OPEN_SLICE, tuple([_slice_row(purse, size, runtime_id) for purse, size in sizes if size])
        ),
        Write(
            storage.CLOSE_SLICE, tuple([{"slice_id": purse.slice.id} for purse, size in sizes if not size])
        ),
    )


def give_up_slices(runtime_id: int) -> Commit:
    """Forget all slices of a runtime, after everything that was written before."""
    return Commit((Write(storage.CLOSE_SLICES, ({"me": runtime_id},)),), ordered=True)


def spent_before(key: Key, without: Collection[int]) -> Query:
    """Ask what the rows say of a balance; tickets in `without` are counted from memory."""
    return Query(
        *storage.charged(where=key.column, since_ms=key.since_ms, until_ms=key.until_ms, without=without)
    )


class TakenOver(Struct, frozen=True):
    """What a new ledger found: what dead runtimes are charged now, and what its own runtime has settled so far."""

    reclaimed: HoldsReclaimed
    settled_pusd: int


async def take_over(store: ActorRef, outbox: Outbox, runtime_id: int, now_ms: int) -> TakenOver:
    """Charge what dead runtimes left in flight; bring all that this runtime holds and has settled to the disk.

    An earlier ledger of this runtime may have granted on slices, and may have died before it was told what is on disk.
    After this, what its slices stood for has its rows, and what is read from the rows overlaps with no settlement that
    is still to come.

    Raises:
        StorageFailed: the database cannot be read or written.
    """
    ((count, held_pusd),) = await store.call(Query(*storage.orphans(runtime_id)), timeout=_TIMEOUT_S)
    ((slices_pusd,),) = await store.call(Query(*storage.orphaned_slices(runtime_id)), timeout=_TIMEOUT_S)
    charges = (storage.reclaim(runtime_id, now_ms), *storage.charge_slices(runtime_id, now_ms))
    await store.call(Commit(charges), timeout=_TIMEOUT_S)
    known = outbox.offer()
    everything = (
        Write(storage.HOLD, tuple([_held_row(hold, runtime_id) for hold in known.holds])),
        Write(storage.SETTLE, tuple([_settled_row(settle, runtime_id) for settle in known.settlements])),
        Write(storage.CLOSE_SLICES, ({"me": runtime_id},)),
    )
    await store.call(Commit(everything, ordered=True), timeout=_TIMEOUT_S)
    outbox.acknowledge([settle.hold.ticket for settle in known.settlements])
    ((settled_pusd,),) = await store.call(Query(*storage.settled_by(runtime_id)), timeout=_TIMEOUT_S)
    reclaimed = HoldsReclaimed(
        count=cast("int", count), cost_pusd=cast("int", held_pusd) + cast("int", slices_pusd)
    )
    return TakenOver(reclaimed, cast("int", settled_pusd))


def _held_row(hold: Hold, runtime_id: int) -> dict[str, object]:
    """A row of `HOLD`."""
    account = hold.account
    return {
        "id": hold.ticket,
        "runtime_id": runtime_id,
        "call_id": hold.call_id,
        "number": hold.number,
        "held_pusd": hold.bound_pusd,
        "provider": hold.provider,
        "model": hold.model,
        "job_id": account.job_id,
        "session_id": account.session_id,
        "key_id": account.key_id,
        "tag": account.tag,
        "started_at_ms": hold.started_at_ms,
    }


def _settled_row(settle: Settle, runtime_id: int) -> dict[str, object]:
    """A row of `SETTLE`. Filled in place: merging two dicts costs as much again."""
    usage = settle.usage
    row = _held_row(settle.hold, runtime_id)
    row["outcome"] = settle.outcome
    row["estimated"] = settle.estimated
    row["cost_pusd"] = settle.cost_pusd
    row["input_tokens"] = usage.input_tokens
    row["cached_tokens"] = usage.cached_tokens
    row["cache_write_5m_tokens"] = usage.cache_write_5m_tokens
    row["cache_write_1h_tokens"] = usage.cache_write_1h_tokens
    row["output_tokens"] = usage.output_tokens
    row["reasoning_tokens"] = usage.reasoning_tokens
    row["audio_input_tokens"] = usage.audio_input_tokens
    row["audio_output_tokens"] = usage.audio_output_tokens
    row["request_id"] = settle.request_id
    row["settled_at_ms"] = settle.settled_at_ms
    return row


def _slice_row(purse: Purse, reserved_pusd: int, runtime_id: int) -> dict[str, object]:
    """A row of `OPEN_SLICE`."""
    account = purse.account
    return {
        "id": purse.slice.id,
        "runtime_id": runtime_id,
        "reserved_pusd": reserved_pusd,
        "job_id": account.job_id,
        "session_id": account.session_id,
        "key_id": account.key_id,
        "tag": account.tag,
        "opened_at_ms": purse.at_ms,
    }
