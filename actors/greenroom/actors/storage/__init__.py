"""greenroom's database: tables, migrations, and the one writer.

What needs SQLAlchemy is imported when it is first asked for, since that takes too long for an event loop: make the
`Database` in a thread, and everything is there.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from greenroom.actors.storage.errors import CallbackFailed as CallbackFailed
from greenroom.actors.storage.errors import DatabaseCorrupt as DatabaseCorrupt
from greenroom.actors.storage.errors import DatabaseMissing as DatabaseMissing
from greenroom.actors.storage.errors import DatabaseNewer as DatabaseNewer
from greenroom.actors.storage.errors import DatabaseOlder as DatabaseOlder
from greenroom.actors.storage.errors import DatabaseOwned as DatabaseOwned
from greenroom.actors.storage.errors import DatabaseUnusable as DatabaseUnusable
from greenroom.actors.storage.errors import StorageClosed as StorageClosed
from greenroom.actors.storage.errors import StorageFailed as StorageFailed
from greenroom.actors.storage.errors import WriteRejected as WriteRejected
from greenroom.actors.storage.messages import Commit as Commit
from greenroom.actors.storage.messages import DatabaseStatistics as DatabaseStatistics
from greenroom.actors.storage.messages import GetStorageStatistics as GetStorageStatistics
from greenroom.actors.storage.messages import Introduce as Introduce
from greenroom.actors.storage.messages import Query as Query
from greenroom.actors.storage.messages import Resend as Resend
from greenroom.actors.storage.messages import Save as Save
from greenroom.actors.storage.messages import Saved as Saved
from greenroom.actors.storage.shapes import MAX_ROWS as MAX_ROWS
from greenroom.actors.storage.shapes import PAGE as PAGE
from greenroom.actors.storage.shapes import TICKET_BITS as TICKET_BITS
from greenroom.actors.storage.shapes import Failures as Failures
from greenroom.actors.storage.shapes import Job as Job
from greenroom.actors.storage.shapes import Parameters as Parameters
from greenroom.actors.storage.shapes import Rows as Rows
from greenroom.actors.storage.shapes import Write as Write
from greenroom.actors.storage.shapes import WriterStatistics as WriterStatistics
from greenroom.actors.storage.store import Store as Store

if TYPE_CHECKING:
    from greenroom.actors.storage.binding import Statement as Statement
    from greenroom.actors.storage.binding import Upsert as Upsert
    from greenroom.actors.storage.database import Database as Database
    from greenroom.actors.storage.job_statements import BEGIN_REWRITE as BEGIN_REWRITE
    from greenroom.actors.storage.job_statements import END_REWRITE as END_REWRITE
    from greenroom.actors.storage.job_statements import ENDED_JOBS as ENDED_JOBS
    from greenroom.actors.storage.job_statements import ERROR_CLASSES as ERROR_CLASSES
    from greenroom.actors.storage.job_statements import FAILED_ITEMS as FAILED_ITEMS
    from greenroom.actors.storage.job_statements import FINISHED_ITEMS as FINISHED_ITEMS
    from greenroom.actors.storage.job_statements import FORGET_FAILED_ITEMS as FORGET_FAILED_ITEMS
    from greenroom.actors.storage.job_statements import GET_JOB as GET_JOB
    from greenroom.actors.storage.job_statements import INSERT_ITEM as INSERT_ITEM
    from greenroom.actors.storage.job_statements import INSERT_JOB as INSERT_JOB
    from greenroom.actors.storage.job_statements import ITEM_AT as ITEM_AT
    from greenroom.actors.storage.job_statements import ITEM_RESULTS as ITEM_RESULTS
    from greenroom.actors.storage.job_statements import JOB_BY_OUT as JOB_BY_OUT
    from greenroom.actors.storage.job_statements import JOB_TOTALS as JOB_TOTALS
    from greenroom.actors.storage.job_statements import JOBS as JOBS
    from greenroom.actors.storage.job_statements import MUST_REWRITE as MUST_REWRITE
    from greenroom.actors.storage.job_statements import NTH_RESULT as NTH_RESULT
    from greenroom.actors.storage.job_statements import PREFIX_BYTES as PREFIX_BYTES
    from greenroom.actors.storage.job_statements import PURGE_JOBS as PURGE_JOBS
    from greenroom.actors.storage.job_statements import RESULTS_AFTER as RESULTS_AFTER
    from greenroom.actors.storage.job_statements import UPDATE_JOB_INPUT as UPDATE_JOB_INPUT
    from greenroom.actors.storage.job_statements import UPDATE_JOB_STATE as UPDATE_JOB_STATE
    from greenroom.actors.storage.reader import ReadOnly as ReadOnly
    from greenroom.actors.storage.reader import open_read_only as open_read_only
    from greenroom.actors.storage.session_statements import CHECKPOINTS as CHECKPOINTS
    from greenroom.actors.storage.session_statements import DELETE_SESSION as DELETE_SESSION
    from greenroom.actors.storage.session_statements import IDLE_SESSIONS as IDLE_SESSIONS
    from greenroom.actors.storage.session_statements import INSERT_TURN as INSERT_TURN
    from greenroom.actors.storage.session_statements import PURGE_SESSIONS as PURGE_SESSIONS
    from greenroom.actors.storage.session_statements import PUT_CHECKPOINT as PUT_CHECKPOINT
    from greenroom.actors.storage.session_statements import PUT_SESSION as PUT_SESSION
    from greenroom.actors.storage.session_statements import SESSION_SETTINGS as SESSION_SETTINGS
    from greenroom.actors.storage.session_statements import SESSION_TOTALS as SESSION_TOTALS
    from greenroom.actors.storage.session_statements import SESSIONS as SESSIONS
    from greenroom.actors.storage.session_statements import TOUCH_SESSION as TOUCH_SESSION
    from greenroom.actors.storage.session_statements import TURN_AT as TURN_AT
    from greenroom.actors.storage.session_statements import TURNS_BACKWARDS as TURNS_BACKWARDS
    from greenroom.actors.storage.session_statements import TURNS_PAGE as TURNS_PAGE
    from greenroom.actors.storage.statements import CLOSE_SLICE as CLOSE_SLICE
    from greenroom.actors.storage.statements import CLOSE_SLICES as CLOSE_SLICES
    from greenroom.actors.storage.statements import HOLD as HOLD
    from greenroom.actors.storage.statements import OPEN_SLICE as OPEN_SLICE
    from greenroom.actors.storage.statements import SETTLE as SETTLE
    from greenroom.actors.storage.statements import UNCONFIRMED as UNCONFIRMED
    from greenroom.actors.storage.statements import Dimension as Dimension
    from greenroom.actors.storage.statements import SpendRow as SpendRow
    from greenroom.actors.storage.statements import charge_slices as charge_slices
    from greenroom.actors.storage.statements import charged as charged
    from greenroom.actors.storage.statements import orphaned_by as orphaned_by
    from greenroom.actors.storage.statements import orphaned_slices as orphaned_slices
    from greenroom.actors.storage.statements import orphans as orphans
    from greenroom.actors.storage.statements import reclaim as reclaim
    from greenroom.actors.storage.statements import set_aside as set_aside
    from greenroom.actors.storage.statements import settled_by as settled_by
    from greenroom.actors.storage.statements import spend as spend
    from greenroom.actors.storage.tables import attempts as attempts
    from greenroom.actors.storage.tables import items as items
    from greenroom.actors.storage.tables import jobs as jobs
    from greenroom.actors.storage.tables import metadata as metadata
    from greenroom.actors.storage.tables import runtimes as runtimes
    from greenroom.actors.storage.tables import slices as slices

_HOMES = {
    "BEGIN_REWRITE": "job_statements",
    "CHECKPOINTS": "session_statements",
    "CLOSE_SLICE": "statements",
    "CLOSE_SLICES": "statements",
    "DELETE_SESSION": "session_statements",
    "Database": "database",
    "Dimension": "statements",
    "ENDED_JOBS": "job_statements",
    "END_REWRITE": "job_statements",
    "ERROR_CLASSES": "job_statements",
    "FAILED_ITEMS": "job_statements",
    "FINISHED_ITEMS": "job_statements",
    "FORGET_FAILED_ITEMS": "job_statements",
    "GET_JOB": "job_statements",
    "HOLD": "statements",
    "IDLE_SESSIONS": "session_statements",
    "INSERT_ITEM": "job_statements",
    "INSERT_JOB": "job_statements",
    "INSERT_TURN": "session_statements",
    "ITEM_AT": "job_statements",
    "ITEM_RESULTS": "job_statements",
    "JOBS": "job_statements",
    "JOB_BY_OUT": "job_statements",
    "JOB_TOTALS": "job_statements",
    "MUST_REWRITE": "job_statements",
    "NTH_RESULT": "job_statements",
    "OPEN_SLICE": "statements",
    "PREFIX_BYTES": "job_statements",
    "PURGE_JOBS": "job_statements",
    "PURGE_SESSIONS": "session_statements",
    "PUT_CHECKPOINT": "session_statements",
    "PUT_SESSION": "session_statements",
    "RESULTS_AFTER": "job_statements",
    "ReadOnly": "reader",
    "SESSIONS": "session_statements",
    "SESSION_SETTINGS": "session_statements",
    "SESSION_TOTALS": "session_statements",
    "SETTLE": "statements",
    "SpendRow": "statements",
    "Statement": "binding",
    "TOUCH_SESSION": "session_statements",
    "TURNS_BACKWARDS": "session_statements",
    "TURNS_PAGE": "session_statements",
    "TURN_AT": "session_statements",
    "UNCONFIRMED": "statements",
    "UPDATE_JOB_INPUT": "job_statements",
    "UPDATE_JOB_STATE": "job_statements",
    "Upsert": "binding",
    "attempts": "tables",
    "charge_slices": "statements",
    "charged": "statements",
    "items": "tables",
    "jobs": "tables",
    "metadata": "tables",
    "open_read_only": "reader",
    "orphaned_by": "statements",
    "orphaned_slices": "statements",
    "orphans": "statements",
    "reclaim": "statements",
    "runtimes": "tables",
    "set_aside": "statements",
    "settled_by": "statements",
    "slices": "tables",
    "spend": "statements",
}


def __getattr__(name: str) -> object:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{home}"), name)
    globals()[name] = value
    return value
