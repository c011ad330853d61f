"""greenroom's database: tables, migrations, and the one writer.

Importing this imports SQLAlchemy, which takes too long for an event loop: import it in a thread, or before the loop
starts.
"""

from greenroom.actors.storage.binding import Parameters, Statement, Upsert, Write
from greenroom.actors.storage.database import Database
from greenroom.actors.storage.errors import (
    CallbackFailed,
    DatabaseCorrupt,
    DatabaseMissing,
    DatabaseNewer,
    DatabaseOlder,
    DatabaseOwned,
    DatabaseUnusable,
    StorageClosed,
    StorageFailed,
    WriteRejected,
)
from greenroom.actors.storage.messages import (
    Commit,
    DatabaseStatistics,
    GetStorageStatistics,
    Introduce,
    Query,
    Resend,
    Save,
    Saved,
)
from greenroom.actors.storage.reader import MAX_ROWS, ReadOnly, Rows, open_read_only
from greenroom.actors.storage.statements import (
    FINISHED_ITEMS,
    GET_JOB,
    HOLD,
    INSERT_ITEM,
    INSERT_JOB,
    ITEM_RESULTS,
    JOB_TOTALS,
    PAGE,
    SETTLE,
    UPDATE_JOB,
    Dimension,
    SpendRow,
    orphaned_by,
    orphans,
    reclaim,
    spend,
)
from greenroom.actors.storage.store import Store
from greenroom.actors.storage.tables import TICKET_BITS, attempts, items, jobs, metadata, runtimes
from greenroom.actors.storage.writer import Failures, Job, WriterStatistics

__all__ = (
    "FINISHED_ITEMS",
    "GET_JOB",
    "HOLD",
    "INSERT_ITEM",
    "INSERT_JOB",
    "ITEM_RESULTS",
    "JOB_TOTALS",
    "MAX_ROWS",
    "PAGE",
    "SETTLE",
    "TICKET_BITS",
    "UPDATE_JOB",
    "CallbackFailed",
    "Commit",
    "Database",
    "DatabaseCorrupt",
    "DatabaseMissing",
    "DatabaseNewer",
    "DatabaseOlder",
    "DatabaseOwned",
    "DatabaseStatistics",
    "DatabaseUnusable",
    "Dimension",
    "Failures",
    "GetStorageStatistics",
    "Introduce",
    "Job",
    "Parameters",
    "Query",
    "ReadOnly",
    "Resend",
    "Rows",
    "Save",
    "Saved",
    "SpendRow",
    "Statement",
    "StorageClosed",
    "StorageFailed",
    "Store",
    "Upsert",
    "Write",
    "WriteRejected",
    "WriterStatistics",
    "attempts",
    "items",
    "jobs",
    "metadata",
    "open_read_only",
    "orphaned_by",
    "orphans",
    "reclaim",
    "runtimes",
    "spend",
)
