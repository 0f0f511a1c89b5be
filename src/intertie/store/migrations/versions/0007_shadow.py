"""Shadow targets of routes, and books that keep copies apart."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ID, NAME = sa.String(64), sa.String(200)


def upgrade() -> None:
    op.add_column("requests", sa.Column("shadow_of", ID))
    op.add_column("attempts", sa.Column("shadow_of", ID))
    op.create_table(
        "shadows",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("route", NAME, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("upstream", ID, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "route", "position", name="pk_shadows"),
        sa.ForeignKeyConstraint(
            ["organisation", "route"],
            ["routes.organisation", "routes.model"],
            name="fk_shadows_routes",
            ondelete="CASCADE",
        ),
        sa.ForeignKeyConstraint(
            ["organisation", "upstream"], ["upstreams.organisation", "upstreams.id"], name="fk_shadows_upstreams"
        ),
    )
    op.create_index("ix_shadows_upstream", "shadows", ["organisation", "upstream"])
