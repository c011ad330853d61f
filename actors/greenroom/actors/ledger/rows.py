"""The ledger's structs as rows of the database."""

from collections.abc import Sequence

from greenroom.actors.ledger.balances import Entry, Purse
from greenroom.actors.ledger.messages import Adopt, Hold, Settle
from greenroom.actors.storage import CLOSE_SLICE, CLOSE_SLICES, HOLD, OPEN_SLICE, SETTLE, Write


def writes(
    holds: Sequence[Entry], settled: Sequence[Entry], slices: Sequence[Purse], runtime_id: int
) -> tuple[Write, ...]:
    """What one save writes: holds, settlements, and slices at the size they are changing to."""
    sizes = [(purse, purse.slice.pending_pusd) for purse in slices]
    settles = [entry.settle for entry in settled if entry.settle is not None]
    return (
        Write(HOLD, tuple([_held_row(entry.hold, runtime_id) for entry in holds])),
        Write(SETTLE, tuple([_settled_row(settle, runtime_id) for settle in settles])),
        Write(OPEN_SLICE, tuple([_slice_row(purse, size, runtime_id) for purse, size in sizes if size])),
        Write(CLOSE_SLICE, tuple([{"slice_id": purse.slice.id} for purse, size in sizes if not size])),
    )


def everything(known: Adopt, runtime_id: int) -> tuple[Write, ...]:
    """What a new ledger writes: all that is known to be held and settled, and no slice any more."""
    return (
        Write(HOLD, tuple([_held_row(hold, runtime_id) for hold in known.holds])),
        Write(SETTLE, tuple([_settled_row(settle, runtime_id) for settle in known.settlements])),
        Write(CLOSE_SLICES, ({"me": runtime_id},)),
    )


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
    """A row of `SETTLE`. Written out whole: merging two dicts costs as much again as making one."""
    hold, usage = settle.hold, settle.usage
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
        "outcome": settle.outcome,
        "estimated": settle.estimated,
        "cost_pusd": settle.cost_pusd,
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
        "audio_input_tokens": usage.audio_input_tokens,
        "audio_output_tokens": usage.audio_output_tokens,
        "request_id": settle.request_id,
        "settled_at_ms": settle.settled_at_ms,
    }


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
