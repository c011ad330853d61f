"""The first tables: runtimes, attempts, jobs, items."""

import sqlalchemy as sa
from alembic import op

revision = "v0001"
down_revision = None

_HELD = sa.text("state = 'held'")
_OF_A_JOB = sa.text("job_id IS NOT NULL")


def _tokens(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False, server_default=sa.text("0"))


def upgrade() -> None:
    op.create_table(
        "runtimes",
        sa.Column("id", sa.Integer, autoincrement=True, nullable=False),
        sa.Column("uuid", sa.Text, nullable=False),
        sa.Column("started_at_ms", sa.BigInteger, nullable=False),
        sa.Column("ended_at_ms", sa.BigInteger),
        sa.Column("host", sa.Text, nullable=False),
        sa.Column("version", sa.Text, nullable=False),
        sa.Column("pid", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_runtimes"),
        sa.UniqueConstraint("uuid", name="uq_runtimes_uuid"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "attempts",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("runtime_id", sa.Integer, nullable=False),
        sa.Column("call_id", sa.BigInteger, nullable=False),
        sa.Column("number", sa.SmallInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'held'")),
        sa.Column("outcome", sa.Text),
        sa.Column("estimated", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("held_pusd", sa.BigInteger, nullable=False),
        sa.Column("cost_pusd", sa.BigInteger, nullable=False, server_default=sa.text("0")),
        sa.Column("provider", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.Column("session_id", sa.Text),
        sa.Column("key_id", sa.Text),
        sa.Column("tag", sa.Text),
        _tokens("input_tokens"),
        _tokens("cached_tokens"),
        _tokens("cache_write_5m_tokens"),
        _tokens("cache_write_1h_tokens"),
        _tokens("output_tokens"),
        _tokens("reasoning_tokens"),
        _tokens("audio_input_tokens"),
        _tokens("audio_output_tokens"),
        sa.Column("request_id", sa.Text),
        sa.Column("started_at_ms", sa.BigInteger, nullable=False),
        sa.Column("settled_at_ms", sa.BigInteger),
        sa.PrimaryKeyConstraint("id", name="pk_attempts"),
    )
    op.create_index(
        "ix_attempts_held", "attempts", ["runtime_id"], sqlite_where=_HELD, postgresql_where=_HELD
    )
    op.create_index(
        "ix_attempts_job_id", "attempts", ["job_id"], sqlite_where=_OF_A_JOB, postgresql_where=_OF_A_JOB
    )
    op.create_index("ix_attempts_started_at_ms", "attempts", ["started_at_ms"])
    op.create_table(
        "jobs",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("created_at_ms", sa.BigInteger, nullable=False),
        sa.Column("updated_at_ms", sa.BigInteger, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("out", sa.Text),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("lines", sa.Integer, nullable=False),
        sa.Column("settings", sa.Text, nullable=False),
        sa.Column("rewrite", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.PrimaryKeyConstraint("id", name="pk_jobs"),
        sa.UniqueConstraint("out", name="uq_jobs_out"),
    )
    op.create_table(
        "items",
        sa.Column("job_id", sa.Text, nullable=False),
        sa.Column("position", sa.Integer, autoincrement=False, nullable=False),
        sa.Column("seq", sa.Integer, nullable=False),
        sa.Column("custom_id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary, nullable=False),
        sa.Column("ok", sa.Boolean, nullable=False),
        sa.Column("error_class", sa.Text),
        sa.Column("result", sa.LargeBinary, nullable=False),
        sa.Column("cost_pusd", sa.BigInteger, nullable=False),
        sa.Column("input_tokens", sa.Integer, nullable=False),
        sa.Column("output_tokens", sa.Integer, nullable=False),
        sa.Column("finished_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("job_id", "position", name="pk_items"),
        sa.UniqueConstraint("job_id", "seq", name="uq_items_job_id_seq"),
    )


def downgrade() -> None:
    for table in ("items", "jobs", "attempts", "runtimes"):
        op.drop_table(table)
