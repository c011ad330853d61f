"""What Alembic runs for a migration: on the connection that `upgrade` hands over, in that connection's transaction."""

from alembic import context

from greenroom.actors.storage.migrations import VERSION_TABLE
from greenroom.actors.storage.tables import metadata

connection = context.config.attributes["connection"]
# The caller owns the transaction, so a kill half-way leaves the old tables whole.
context.configure(
    connection=connection,
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    # SQLite alters a table by making a new one.
    render_as_batch=connection.dialect.name == "sqlite",
)
context.run_migrations()
