"""Limits, rules, options of routes, regions; what was planned for a request; a chained audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

ID, NAME, WORD = sa.String(64), sa.String(200), sa.String(16)
SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("upstreams", sa.Column("region", NAME))
    op.add_column("routes", sa.Column("options", sa.JSON(none_as_null=True)))
    op.add_column("projects", sa.Column("max_output", sa.Integer))
    op.add_column("audit", sa.Column("hash", sa.LargeBinary(32)))
    for column in (
        sa.Column("saved_micros", sa.BigInteger),
        sa.Column("plan", sa.Text),
        sa.Column("facts", sa.Text),
    ):
        op.add_column("requests", column)
    limits()
    alerts()
    rules()
    audit_checkpoints()


def limits() -> None:
    op.create_table(
        "limits",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("id", NAME, nullable=False),
        sa.Column("level", WORD, nullable=False),
        sa.Column("holder", NAME, nullable=False),
        sa.Column("measure", WORD, nullable=False),
        sa.Column("amount", sa.BigInteger, nullable=False),
        sa.Column("per", WORD),
        sa.Column("zone", ID, nullable=False),
        sa.Column("at_cap", WORD, nullable=False),
        sa.Column("thresholds", sa.JSON, nullable=False),
        sa.Column("wait", sa.Float, nullable=False),
        sa.Column("origin", WORD, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "id", name="pk_limits"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_limits_organisations"),
    )


def alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("webhook", sa.String(2000), nullable=False),
        sa.Column("sealed", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("organisation", name="pk_alerts"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_alerts_organisations"),
    )


def rules() -> None:
    op.create_table(
        "rules",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("position", sa.Integer, nullable=False),
        sa.Column("content", sa.JSON, nullable=False),
        sa.Column("origin", WORD, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "name", name="pk_rules"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_rules_organisations"),
    )


def audit_checkpoints() -> None:
    op.create_table(
        "audit_checkpoints",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("seq", SEQUENCE, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("signature", sa.LargeBinary(64), nullable=False),
        sa.PrimaryKeyConstraint("organisation", "seq", name="pk_audit_checkpoints"),
    )
