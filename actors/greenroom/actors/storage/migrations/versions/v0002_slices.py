"""Slices of budgets, and indexes by which a budget's spend is found again."""

import sqlalchemy as sa
from alembic import op

revision = "v0002"
down_revision = "v0001"

_SCOPES = ("session_id", "key_id", "tag")


def upgrade() -> None:
    op.create_table(
        "slices",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=False,
            nullable=False,
        ),
        sa.Column("runtime_id", sa.Integer, nullable=False),
        sa.Column("reserved_pusd", sa.BigInteger, nullable=False),
        sa.Column("job_id", sa.Text),
        sa.Column("session_id", sa.Text),
        sa.Column("key_id", sa.Text),
        sa.Column("tag", sa.Text),
        sa.Column("opened_at_ms", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_slices"),
    )
    for name in _SCOPES:
        some = sa.text(f"{name} IS NOT NULL")
        op.create_index(f"ix_attempts_{name}", "attempts", [name], sqlite_where=some, postgresql_where=some)


def downgrade() -> None:
    for name in _SCOPES:
        op.drop_index(f"ix_attempts_{name}", "attempts")
    op.drop_table("slices")
