"""The books: one row per request and one per attempt."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

ID, NAME, WORD, COUNT = sa.String(64), sa.String(200), sa.String(16), sa.BigInteger
SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "requests",
        sa.Column("seq", SEQUENCE, nullable=False),
        sa.Column("organisation", ID, nullable=False),
        sa.Column("request_id", ID, nullable=False),
        sa.Column("project", NAME, nullable=False),
        sa.Column("key_id", ID, nullable=False),
        sa.Column("key_name", NAME, nullable=False),
        sa.Column("route", NAME, nullable=False),
        sa.Column("operation", WORD, nullable=False),
        sa.Column("stream", sa.Boolean, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("error", sa.String(64), nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("duration_ms", COUNT, nullable=False),
        sa.Column("ttft_ms", COUNT),
        sa.Column("overhead_ms", sa.Float, nullable=False),
        sa.Column("cache", WORD, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False),
        *consumption(),
        sa.PrimaryKeyConstraint("seq", name="pk_requests"),
        sa.UniqueConstraint("organisation", "request_id", name="uq_requests_organisation_request_id"),
    )
    op.create_index("ix_requests_started_at", "requests", ["organisation", "started_at"])
    op.create_index("ix_requests_seq", "requests", ["organisation", "seq"])
    op.create_table(
        "attempts",
        sa.Column("seq", SEQUENCE, nullable=False),
        sa.Column("organisation", ID, nullable=False),
        sa.Column("request_id", ID, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("upstream", NAME, nullable=False),
        sa.Column("node", NAME, nullable=False),
        sa.Column("model", NAME, nullable=False),
        sa.Column("credential", ID, nullable=False),
        sa.Column("state", WORD, nullable=False),
        sa.Column("status", sa.Integer, nullable=False),
        sa.Column("error", sa.String(64), nullable=False),
        sa.Column("started_at", sa.Float, nullable=False),
        sa.Column("duration_ms", COUNT, nullable=False),
        sa.Column("ttft_ms", COUNT),
        *consumption(),
        sa.PrimaryKeyConstraint("seq", name="pk_attempts"),
        sa.UniqueConstraint("organisation", "request_id", "n", name="uq_attempts_organisation_request_id_n"),
    )
    op.create_index("ix_attempts_started_at", "attempts", ["organisation", "started_at"])


def consumption() -> tuple[sa.Column[Any], ...]:
    return (
        sa.Column("input_tokens", COUNT, nullable=False),
        sa.Column("output_tokens", COUNT, nullable=False),
        sa.Column("cached_tokens", COUNT, nullable=False),
        sa.Column("cache_write_tokens", COUNT, nullable=False),
        sa.Column("reasoning_tokens", COUNT, nullable=False),
        sa.Column("estimated", sa.Boolean, nullable=False),
        sa.Column("cost_micros", COUNT),
    )
