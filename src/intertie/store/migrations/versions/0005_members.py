"""Members: people, the keys that are theirs, and whose each request was. Regions of nodes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"

ID, NAME, WORD = sa.String(64), sa.String(200), sa.String(16)


def upgrade() -> None:
    op.create_table(
        "members",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("email", NAME, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("role", WORD, nullable=False),
        sa.Column("origin", WORD, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("removed_at", sa.Float),
        sa.PrimaryKeyConstraint("organisation", "email", name="pk_members"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_members_organisations"),
    )
    with op.batch_alter_table("api_keys") as table:
        table.add_column(sa.Column("member", NAME))
        table.create_foreign_key(
            "fk_api_keys_members", "members", ["organisation", "member"], ["organisation", "email"]
        )
    op.add_column("requests", sa.Column("member", NAME))
    op.add_column("nodes", sa.Column("region", NAME))
    op.add_column("enrolment_tokens", sa.Column("region", NAME))
