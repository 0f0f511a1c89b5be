"""Nodes: enrolled machines, their public keys, tokens and device codes, and the audit log."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

ID, NAME, WORD = sa.String(64), sa.String(200), sa.String(16)
SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    label_targets()
    nodes()
    node_keys()
    enrolment_tokens()
    enrolments()
    device_codes()
    audit()


def label_targets() -> None:
    """A target names an upstream, or a label that nodes carry."""
    with op.batch_alter_table("targets") as table:
        table.add_column(sa.Column("node_label", NAME))
        table.alter_column("upstream", existing_type=ID, nullable=True)


def nodes() -> None:
    op.create_table(
        "nodes",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("trust", WORD, nullable=False),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("drained", sa.Boolean, nullable=False),
        sa.Column("slots", sa.Integer),
        sa.Column("epoch", sa.BigInteger, nullable=False),
        sa.Column("instance", ID, nullable=False),
        sa.Column("fingerprint", ID, nullable=False),
        sa.Column("ephemeral", sa.Boolean, nullable=False),
        sa.Column("inventory", sa.JSON, nullable=False),
        sa.Column("version", ID, nullable=False),
        sa.Column("platform", NAME, nullable=False),
        sa.Column("enrolled_at", sa.Float, nullable=False),
        sa.Column("enrolled_by", NAME, nullable=False),
        sa.Column("last_seen_at", sa.Float),
        sa.Column("last_address", ID, nullable=False),
        sa.Column("revoked_at", sa.Float),
        sa.PrimaryKeyConstraint("organisation", "id", name="pk_nodes"),
        sa.ForeignKeyConstraint(
            ["organisation", "id"], ["upstreams.organisation", "upstreams.id"], name="fk_nodes_upstreams"
        ),
        sa.UniqueConstraint("organisation", "name", name="uq_nodes_organisation_name"),
    )


def node_keys() -> None:
    op.create_table(
        "node_keys",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("node", ID, nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("retires_at", sa.Float),
        sa.PrimaryKeyConstraint("organisation", "id", name="pk_node_keys"),
        sa.ForeignKeyConstraint(
            ["organisation", "node"], ["nodes.organisation", "nodes.id"], name="fk_node_keys_nodes", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_node_keys_node", "node_keys", ["organisation", "node"])


def enrolment_tokens() -> None:
    op.create_table(
        "enrolment_tokens",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("id", ID, nullable=False),
        sa.Column("kind", WORD, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("node", ID),
        sa.Column("labels", sa.JSON, nullable=False),
        sa.Column("trust", WORD, nullable=False),
        sa.Column("approved", sa.Boolean, nullable=False),
        sa.Column("ephemeral", sa.Boolean, nullable=False),
        sa.Column("uses", sa.Integer, nullable=False),
        sa.Column("uses_left", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("created_by", NAME, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("revoked_at", sa.Float),
        sa.PrimaryKeyConstraint("organisation", "id", name="pk_enrolment_tokens"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_enrolment_tokens_organisations"),
    )
    op.create_index("ux_enrolment_tokens_id", "enrolment_tokens", ["id"], unique=True)


def enrolments() -> None:
    op.create_table(
        "enrolments",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("token", ID, nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("node", ID, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.PrimaryKeyConstraint("organisation", "token", "public_key", name="pk_enrolments"),
        sa.ForeignKeyConstraint(
            ["organisation", "token"],
            ["enrolment_tokens.organisation", "enrolment_tokens.id"],
            name="fk_enrolments_enrolment_tokens",
            ondelete="CASCADE",
        ),
    )


def device_codes() -> None:
    op.create_table(
        "device_codes",
        sa.Column("organisation", ID, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.Column("user_code", WORD, nullable=False),
        sa.Column("public_key", sa.LargeBinary(32), nullable=False),
        sa.Column("name", NAME, nullable=False),
        sa.Column("inventory", sa.JSON, nullable=False),
        sa.Column("fingerprint", ID, nullable=False),
        sa.Column("address", ID, nullable=False),
        sa.Column("created_at", sa.Float, nullable=False),
        sa.Column("expires_at", sa.Float, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("node", ID),
        sa.PrimaryKeyConstraint("organisation", "hash", name="pk_device_codes"),
        sa.ForeignKeyConstraint(["organisation"], ["organisations.id"], name="fk_device_codes_organisations"),
        sa.UniqueConstraint("user_code", name="uq_device_codes_user_code"),
    )


def audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", SEQUENCE, nullable=False),
        sa.Column("organisation", ID, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("actor", NAME, nullable=False),
        sa.Column("action", NAME, nullable=False),
        sa.Column("subject", NAME, nullable=False),
        sa.Column("address", ID, nullable=False),
        sa.Column("detail", sa.JSON, nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_audit"),
    )
    op.create_index("ix_audit_seq", "audit", ["organisation", "seq"])
